//! Each kind of object that a reconcile would make, change, delete or leave alone, and what a restart is announced for.

use serde_json::json;

use super::*;
use crate::build::CONFIG_HASH_ANNOTATION;
use crate::fixtures::{directory, everything, mutual, percona_server, secured, server};
use crate::reconcile::claims::wishes;
use crate::reconcile::percona::{ClusterStep, Leaver, plan_cluster};
use crate::reconcile::stateful_set::{Input, Plan, plan};
use crate::reconcile::{
    AdapterState, Ensure, ObservedAdapter, Published, meta, plan_network_policies, plan_service_monitor, plan_services,
};

const OPERATORS: &str = "operators";

fn key() -> ServerKey {
    ServerKey::new("default", "files")
}

fn stored(kind: &str, desired: &Value, server: &ValidatedServer) -> Value {
    let mut desired = desired.clone();
    desired["kind"] = json!(kind);
    let Decision::Create(mut made) = decide(None, &desired, &server.uid) else { panic!("no creation") };
    made["metadata"]["uid"] = json!("u");
    made
}

fn all_stored(kind: &str, plan: Vec<Ensure>, server: &ValidatedServer) -> Vec<Arc<Value>> {
    plan.into_iter().map(|ensure| Arc::new(stored(kind, &ensure.desired, server))).collect()
}

fn claim(name: &str, size: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"app": "dittofs-server", "instance": "files"}},
        "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": size}}},
        "status": {"phase": "Bound", "capacity": {"storage": size}},
    })
}

/// All that our operator makes, at rest, with one adapter and a pod.
fn at_rest(server: &ValidatedServer) -> Live {
    let hash = HashInput::Hash("one".into());
    let Plan::Create(mut set) = plan(Input { server, hash: &hash, adapters: None, live: None, orphan: None }) else {
        panic!("no creation")
    };
    set["status"] = json!({"replicas": 1});
    let nfs = [ObservedAdapter { adapter_type: "nfs".into(), port: 12049, state: AdapterState::Running }];
    let plan = plan_services(server, Some(&nfs), None, &[], false);
    let published =
        Published { services: &plan, live_services: &[], adapters: Some(&nfs), operator_namespace: Some(OPERATORS) };
    let policies = plan_network_policies(server, published, &[]).ensure;
    let monitors = plan_service_monitor(server, Some(&[])).ensure;
    let database = server.percona.as_ref().map(|wanted| {
        let ClusterStep::Create(mut made) = plan_cluster(server, wanted, None) else { panic!("no creation") };
        made["status"] = json!({"state": "ready"});
        LiveDatabase::There(Box::new(made))
    });
    let yaml = render(server);
    Live {
        stateful_set: Some(*set),
        config_map: Some(stored("ConfigMap", &serde_json::to_value(config_map(server, &yaml)).unwrap(), server)),
        services: all_stored("Service", plan.ensure, server),
        network_policies: all_stored("NetworkPolicy", policies, server),
        service_monitors: Some(all_stored("ServiceMonitor", monitors, server)),
        database: database.unwrap_or_default(),
        claims: wishes(server).iter().map(|wish| claim(&wish.name, &wish.size)).collect(),
        classes: [("fast".to_owned(), Some(json!({"allowVolumeExpansion": true})))].into(),
        operator_namespace: Some(OPERATORS.to_owned()),
        credentials: Some(json!({"metadata": {"ownerReferences": [{"uid": server.uid, "controller": true}]}})),
        hash: Some(hash),
        ..Live::default()
    }
}

fn seen(server: &ValidatedServer, live: &Live) -> Preview {
    preview(&key(), Ok(server), live)
}

/// Kind, name and action of each change.
fn actions(seen: &Preview) -> Vec<(&'static str, &str, Action)> {
    seen.changes.iter().map(|change| (change.kind, change.name.as_str(), change.action)).collect()
}

fn change<'a>(seen: &'a Preview, name: &str) -> &'a Change {
    seen.changes.iter().find(|change| change.name == name).unwrap_or_else(|| panic!("nothing about {name}"))
}

fn edit<'a>(objects: &'a mut [Arc<Value>], name: &str) -> &'a mut Value {
    Arc::make_mut(objects.iter_mut().find(|object| meta(object, "name") == name).unwrap())
}

/// What is somebody else's, or on its way out.
fn not_for_us() -> [fn(&mut Value); 2] {
    [
        |object| object["metadata"]["ownerReferences"] = json!([{"uid": "another", "controller": true}]),
        |object| object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
    ]
}

fn warned(seen: &Preview, part: &str) -> bool {
    seen.warnings.iter().any(|warning| warning.contains(part))
}

#[test]
fn a_server_at_rest_would_not_be_changed() {
    for make in [everything, directory, secured, mutual, percona_server, |name: &str| server(name).build()] {
        let server = make("files");
        let seen = seen(&server, &at_rest(&server));
        assert_eq!(seen.changes, []);
        assert!(seen.is_quiet() && !seen.restart);
        assert!(!warned(&seen, "the pod is left as it is"), "{:?}", seen.warnings);
    }
}

#[test]
fn a_new_hash_restarts_and_says_why_and_a_stopped_server_is_not_restarted() {
    let server = server("files").build();
    let mut live = at_rest(&server);
    live.hash = Some(HashInput::Hash("two".into()));
    // It changes, too, and is no reason.
    live.stateful_set.as_mut().unwrap()["metadata"]["labels"]["app"] = json!("theirs");
    let told = seen(&server, &live);
    assert!(told.restart && !told.is_quiet());
    assert_eq!((told.because.len(), told.changes[0].what.len()), (1, 2), "{:?}", told.changes);
    assert!(told.because[0].contains(CONFIG_HASH_ANNOTATION), "{:?}", told.because);
    assert!(told.because[0].contains("its config, its Secrets or its spec changed"), "{:?}", told.because);
    live.stateful_set.as_mut().unwrap()["status"] = json!({"replicas": 0});
    let told = seen(&server, &live);
    assert!(!told.restart && told.because.is_empty(), "no pod runs");
    assert_eq!(actions(&told), [("StatefulSet", "files", Action::Update)]);
}

#[test]
fn a_stateful_set_is_made_taken_over_waited_for_and_left_to_others() {
    let server = server("files").build();
    let mut live = at_rest(&server);
    live.stateful_set = None;
    assert_eq!(actions(&seen(&server, &live)), [("StatefulSet", "files", Action::Create)]);
    live.hash = Some(HashInput::Held);
    let told = seen(&server, &live);
    assert_eq!(change(&told, "files").action, Action::Blocked);
    assert!(change(&told, "files").what[0].contains("it waits for a Secret"), "{:?}", told.changes);
    assert!(told.is_quiet());
    for blocked in not_for_us() {
        let mut live = at_rest(&server);
        blocked(live.stateful_set.as_mut().unwrap());
        let told = seen(&server, &live);
        assert_eq!(actions(&told), [("StatefulSet", "files", Action::Blocked)]);
    }
    let mut live = at_rest(&server);
    let templates = &mut live.stateful_set.as_mut().unwrap()["spec"]["volumeClaimTemplates"];
    templates.as_array_mut().unwrap().push(json!({"metadata": {"name": "content"},
        "spec": {"resources": {"requests": {"storage": "9Gi"}}}}));
    let told = seen(&server, &live);
    assert_eq!(change(&told, "files").action, Action::Blocked);
    assert!(change(&told, "files").what[0].contains("spec.storage.contentSize"), "{:?}", told.changes);

    // Of another operator: nothing of what the pod runs differs.
    let mut live = at_rest(&server);
    let metadata = live.stateful_set.as_mut().unwrap()["metadata"].as_object_mut().unwrap();
    metadata.remove("annotations");
    let told = seen(&server, &live);
    assert!(!told.restart, "{:?}", told.because);
    assert_eq!(change(&told, "files").action, Action::Update);
}

#[test]
fn a_server_that_was_taken_over_is_announced_no_new_address_that_nobody_asked_for() {
    let mut server = server("files").build();
    let mut live = at_rest(&server);
    live.services.retain(|service| meta(service, "name") != "files-file");
    let told = seen(&server, &live);
    assert_eq!(change(&told, "files-file").what, ["type LoadBalancer: a new address"]);
    // Another operator's StatefulSet has no note of what was applied last.
    live.stateful_set.as_mut().unwrap()["metadata"].as_object_mut().unwrap().remove("annotations");
    assert!(seen(&server, &live).changes.iter().all(|change| change.name != "files-file"));
    // Nor when that is ours to say: it is marked.
    let hash = HashInput::Hash("one".into());
    let set = live.stateful_set.as_ref();
    let Plan::Replace { object, .. } =
        plan(Input { server: &server, hash: &hash, adapters: None, live: set, orphan: None })
    else {
        panic!("it is not taken over")
    };
    let before = live.stateful_set.replace(*object);
    let told = seen(&server, &live);
    let again = told.changes.iter().any(|change| change.kind == "StatefulSet" || change.name == "files-file");
    assert!(!again, "{:?}", told.changes);
    live.stateful_set = before;
    server.file_service_asked = true;
    assert_eq!(change(&seen(&server, &live), "files-file").action, Action::Create);
    // One that is not the server's says nothing about it.
    server.file_service_asked = false;
    live.stateful_set.as_mut().unwrap()["metadata"]["ownerReferences"][0]["uid"] = json!("another");
    assert_eq!(change(&seen(&server, &live), "files-file").action, Action::Create);
}

#[test]
fn services_come_change_go_and_are_left_to_others() {
    let mut server = server("files").build();
    let mut live = at_rest(&server);
    let nfs = edit(&mut live.services, "files-adapter-nfs");
    nfs["spec"]["ports"].as_array_mut().unwrap().push(json!({"name": "mdns", "port": 5353, "protocol": "UDP"}));
    let told = seen(&server, &live);
    assert_eq!(change(&told, "files-adapter-nfs").action, Action::Update);
    assert!(change(&told, "files-adapter-nfs").what.iter().any(|what| what.contains("mdns")));
    for blocked in not_for_us() {
        let mut live = at_rest(&server);
        blocked(edit(&mut live.services, "files-api"));
        let told = seen(&server, &live);
        assert_eq!(actions(&told), [("Service", "files-api", Action::Blocked)]);
        assert!(told.is_quiet());
    }
    let mut live = at_rest(&server);
    server.file_service_enabled = false;
    let told = seen(&server, &live);
    assert_eq!(change(&told, "files-file").action, Action::Delete);
    assert_eq!(change(&told, "files-file").what, ["fileService.enabled is false"]);
    live.services.retain(|service| meta(service, "name") != "files-headless");
    assert_eq!(change(&seen(&server, &live), "files-headless").what, ["type ClusterIP"]);
    // What a living Service cannot have is said.
    let mut live = at_rest(&server);
    edit(&mut live.services, "files-adapter-nfs")["spec"]["loadBalancerClass"] = json!("example.com/old");
    server.adapter_services.load_balancer_class = Some("example.com/new".into());
    assert!(warned(&seen(&server, &live), "Service files-adapter-nfs: "), "{:?}", seen(&server, &live));
}

#[test]
fn network_policies_come_change_go_and_are_left_to_others() {
    const KIND: &str = "NetworkPolicy";
    let mut server = server("files").build();
    let mut live = at_rest(&server);
    live.network_policies.clear();
    let told = seen(&server, &live);
    assert_eq!(
        actions(&told),
        [(KIND, "files-baseline", Action::Create), (KIND, "files-adapter-nfs", Action::Create)],
        "a policy for each Service that stands"
    );
    let what = &change(&told, "files-adapter-nfs").what;
    assert_eq!(what, &["lets in 12049/TCP from anywhere; what no policy lets in is shut out"]);
    assert!(change(&told, "files-baseline").what[0].contains("api/TCP, 12049/TCP, 445/TCP"), "{:?}", told.changes);

    let mut live = at_rest(&server);
    edit(&mut live.network_policies, "files-baseline")["spec"]["ingress"] = json!([{}]);
    let told = seen(&server, &live);
    assert_eq!(actions(&told), [(KIND, "files-baseline", Action::Update)]);
    assert!(!told.restart && !told.is_quiet());
    for blocked in not_for_us() {
        let mut live = at_rest(&server);
        blocked(edit(&mut live.network_policies, "files-adapter-nfs"));
        assert_eq!(actions(&seen(&server, &live)), [(KIND, "files-adapter-nfs", Action::Blocked)]);
    }

    // Whether an adapter without a Service runs only the server knows.
    let mut orphaned = at_rest(&server);
    orphaned.services.retain(|service| meta(service, "name") != "files-adapter-nfs");
    assert_eq!(orphaned.services.len() + 1, at_rest(&server).services.len());
    let told = seen(&server, &orphaned);
    assert!(told.changes.iter().all(|change| change.action != Action::Delete), "{:?}", told.changes);

    let live = at_rest(&server);
    server.network_policy.enabled = false;
    let told = seen(&server, &live);
    assert_eq!(actions(&told), [(KIND, "files-baseline", Action::Delete), (KIND, "files-adapter-nfs", Action::Delete)]);
    assert_eq!(told.changes[0].what, ["spec.networkPolicy.enabled is false"]);
}

#[test]
fn with_peers_the_namespace_of_the_operator_is_let_in_or_the_lack_of_it_is_said() {
    let mut server = server("files").build();
    server.network_policy.from = everything("files").network_policy.from;
    let mut live = at_rest(&server);
    assert!(seen(&server, &live).is_quiet());
    live.operator_namespace = Some("elsewhere".to_owned());
    assert_eq!(actions(&seen(&server, &live)), [("NetworkPolicy", "files-baseline", Action::Update)]);
    assert!(!warned(&seen(&server, &live), "does not know its own namespace"));
    live.operator_namespace = None;
    assert!(warned(&seen(&server, &live), "does not know its own namespace"));
    live.network_policies.clear();
    let told = seen(&server, &live);
    assert!(change(&told, "files-adapter-nfs").what[0].contains("from some peers"), "{:?}", told.changes);
}

#[test]
fn a_service_monitor_comes_changes_goes_and_is_missed_without_its_kind() {
    const KIND: &str = "ServiceMonitor";
    const NAME: &str = "files-metrics";
    let mut server = everything("files");
    let mut live = at_rest(&server);
    live.service_monitors = Some(vec![]);
    assert_eq!(actions(&seen(&server, &live)), [(KIND, NAME, Action::Create)]);
    let mut live = at_rest(&server);
    edit(live.service_monitors.as_mut().unwrap(), NAME)["spec"]["endpoints"][0]["interval"] = json!("1s");
    let told = seen(&server, &live);
    assert_eq!(actions(&told), [(KIND, NAME, Action::Update)]);
    assert!(change(&told, NAME).what[0].contains("interval"), "{:?}", told.changes);
    for blocked in not_for_us() {
        let mut live = at_rest(&server);
        blocked(edit(live.service_monitors.as_mut().unwrap(), NAME));
        assert_eq!(actions(&seen(&server, &live)), [(KIND, NAME, Action::Blocked)]);
    }
    let mut live = at_rest(&server);
    live.service_monitors = None;
    let told = seen(&server, &live);
    assert!(told.is_quiet() && warned(&told, "install the Prometheus operator's CRDs"), "{:?}", told.warnings);
    server.service_monitor.enabled = false;
    assert!(!warned(&seen(&server, &live), "Prometheus"), "nobody asked for it");
    for blocked in not_for_us() {
        let mut live = at_rest(&everything("files"));
        blocked(edit(live.service_monitors.as_mut().unwrap(), NAME));
        assert_eq!(seen(&server, &live).changes, [], "not ours to delete, or going");
    }
    let told = seen(&server, &at_rest(&everything("files")));
    assert_eq!(actions(&told), [(KIND, NAME, Action::Delete)]);
    assert_eq!(told.changes[0].what, ["spec.metrics.serviceMonitor.enabled is false"]);
}

/// A server with a database, and all that is there, with another hash than its pod has.
fn with_database(delete: bool) -> (ValidatedServer, Live) {
    let mut server = percona_server("files");
    server.percona.as_mut().unwrap().delete_with_server = delete;
    let mut live = at_rest(&server);
    live.hash = Some(HashInput::Hash("two".into()));
    (server, live)
}

#[test]
fn a_database_is_made_once_and_the_server_waits_for_it() {
    let (server, mut live) = with_database(false);
    let told = seen(&server, &live);
    assert!(told.restart, "with its database ready");
    assert_eq!(actions(&told), [("StatefulSet", "files", Action::Update)]);

    live.database = LiveDatabase::Absent;
    let told = seen(&server, &live);
    assert_eq!(actions(&told), [("PerconaPGCluster", "files-postgres", Action::Create)]);
    assert!(change(&told, "files-postgres").what[0].contains("3 instances of 20Gi"), "{:?}", told.changes);
    assert!(!told.restart, "it waits");
    assert!(warned(&told, "the server waits until it is ready") && warned(&told, "the pod is left as it is"));

    let (_, mut live) = with_database(false);
    let LiveDatabase::There(cluster) = &mut live.database else { panic!("no cluster") };
    cluster["status"]["state"] = json!("initializing");
    let told = seen(&server, &live);
    assert!(told.is_quiet() && !told.restart);
    assert!(warned(&told, "the state of PerconaPGCluster files-postgres is initializing"), "{:?}", told.warnings);

    live.database = LiveDatabase::Unserved;
    let told = seen(&server, &live);
    assert!(told.is_quiet() && !told.restart);
    assert!(warned(&told, "install Percona's operator"), "{:?}", told.warnings);
    live.stateful_set = None;
    assert_eq!(actions(&seen(&server, &live)), [("StatefulSet", "files", Action::Blocked)]);
}

#[test]
fn a_database_follows_the_spec_in_its_owner_alone_and_is_left_to_others() {
    for (before, after, how) in [(false, true, "it goes with the server"), (true, false, "it outlives the server")] {
        let (_, live) = with_database(before);
        let (server, _) = with_database(after);
        let told = seen(&server, &live);
        let change = change(&told, "files-postgres");
        assert_eq!((change.action, change.what[0].as_str()), (Action::Update, how));
        assert!(change.what.iter().any(|what| what.contains("ownerReferences")), "{:?}", change.what);
        assert!(told.restart, "what else would be done is not held up");
    }
    let (server, mut live) = with_database(true);
    let LiveDatabase::There(cluster) = &mut live.database else { panic!("no cluster") };
    cluster["spec"]["instances"][0]["replicas"] = json!(9);
    assert_eq!(actions(&seen(&server, &live)), [("StatefulSet", "files", Action::Update)], "never fought over");
    for blocked in not_for_us() {
        let (server, mut live) = with_database(true);
        let LiveDatabase::There(cluster) = &mut live.database else { panic!("no cluster") };
        blocked(cluster);
        let told = seen(&server, &live);
        assert_eq!(actions(&told), [("PerconaPGCluster", "files-postgres", Action::Blocked)]);
        assert!(!told.restart);
    }
}

#[test]
fn a_database_that_is_switched_off_is_let_go_of_and_never_deleted() {
    let (mut server, mut live) = with_database(true);
    server.percona = None;
    server.database = crate::reconcile::Database::Sqlite { path: "/data/controlplane/x.db".into() };
    live.stateful_set = at_rest(&server).stateful_set;
    live.config_map = at_rest(&server).config_map;
    live.hash = Some(HashInput::Hash("one".into()));
    assert_eq!(seen(&server, &live).changes, [], "nobody says that there was one");
    let leaver = |delete: bool| {
        let object = json!({
            "metadata": {"namespace": "default", "name": "files", "uid": server.uid},
            "spec": {"percona": {"enabled": false, "deleteWithServer": delete}},
            "status": {"perconaClusterName": "files-postgres"},
        });
        Some(Leaver::of(&object))
    };
    live.leaver = leaver(false);
    let told = seen(&server, &live);
    assert_eq!(actions(&told), [("PerconaPGCluster", "files-postgres", Action::Update)]);
    assert!(told.changes[0].what[0].contains("stays with its data"), "{:?}", told.changes);
    assert!(!told.restart && !warned(&told, "waits"));
    live.leaver = leaver(true);
    assert_eq!(seen(&server, &live).changes, [], "it is to go with the server, and does");
    let (_, orphan) = with_database(false);
    live.database = orphan.database;
    assert_eq!(actions(&seen(&server, &live)), [("PerconaPGCluster", "files-postgres", Action::Update)]);
    live.leaver = leaver(false);
    for nothing in [LiveDatabase::Unserved, LiveDatabase::Absent, live.database.clone()] {
        live.database = nothing;
        assert_eq!(seen(&server, &live).changes, []);
    }
}

#[test]
fn claims_that_would_grow_are_told_and_those_that_cannot_too() {
    const KIND: &str = "PersistentVolumeClaim";
    const NAME: &str = "metadata-files-0";
    let mut server = server("files").build();
    let live = at_rest(&server);
    server.storage.metadata = "20Gi".into();
    let told = seen(&server, &live);
    assert_eq!(actions(&told), [(KIND, NAME, Action::Update)]);
    assert_eq!(told.changes[0].what, ["it asks for 20Gi instead of 10Gi; it has 10Gi"]);
    assert!(!told.restart && !told.is_quiet());

    let refused = |class: Option<Value>| {
        let mut live = live.clone();
        live.classes.insert("fast".to_owned(), class);
        let told = seen(&server, &live);
        assert_eq!(actions(&told), [(KIND, NAME, Action::Blocked)]);
        told.changes[0].what[0].clone()
    };
    assert!(refused(Some(json!({}))).contains("does not allow expansion"));
    assert!(refused(None).contains("is not there"));
    let mut unread = live.clone();
    unread.classes.clear();
    assert_eq!(actions(&seen(&server, &unread)), [(KIND, NAME, Action::Update)], "the API server decides");
    let mut classless = live.clone();
    classless.claims[0]["spec"]["storageClassName"] = json!("");
    assert!(change(&seen(&server, &classless), NAME).what[0].contains("no StorageClass"));

    let mut failing = live.clone();
    failing.claims[0]["spec"]["resources"]["requests"]["storage"] = json!("20Gi");
    assert!(seen(&server, &failing).is_quiet() && seen(&server, &failing).changes.is_empty(), "under way");
    failing.claims[0]["status"]["conditions"] = json!([{"type": "ControllerResizeError", "status": "True"}]);
    assert_eq!(actions(&seen(&server, &failing)), [(KIND, NAME, Action::Blocked)]);

    // A wish that is taken back: ours is, somebody else's is left.
    let mut grown = live.clone();
    grown.classes.clear();
    grown.claims[0]["spec"] = json!({"storageClassName": "", "resources": {"requests": {"storage": "90Gi"}}});
    for (manager, expected) in [("dittofs-operator", vec![(KIND, NAME, Action::Update)]), ("kubectl", vec![])] {
        let fields = json!({"f:spec": {"f:resources": {"f:requests": {"f:storage": {}}}}});
        grown.claims[0]["metadata"]["managedFields"] = json!([{"manager": manager, "fieldsV1": fields}]);
        assert_eq!(actions(&seen(&server, &grown)), expected, "{manager}");
    }

    let mut foreign = live.clone();
    foreign.claims[0]["metadata"]["labels"] = json!({});
    assert!(change(&seen(&server, &foreign), NAME).what[0].contains("does not carry the labels"));
    foreign.stateful_set.as_mut().unwrap()["status"]["replicas"] = json!(0);
    assert_eq!(seen(&server, &foreign).changes, [], "without a pod it is in nobody's way");
    let mut theirs = live;
    theirs.stateful_set.as_mut().unwrap()["metadata"]["ownerReferences"][0]["uid"] = json!("another");
    assert_eq!(actions(&seen(&server, &theirs)), [("StatefulSet", "files", Action::Blocked)]);
}

#[test]
fn secrets_and_the_servers_own_object_are_told() {
    let mut server = server("files").build();
    let mut live = at_rest(&server);
    (live.lacks_finalizer, live.credentials) = (true, None);
    live.secrets_to_free = vec!["files-admin-bootstrap-credentials".into()];
    let told = seen(&server, &live);
    assert_eq!(
        actions(&told),
        [
            ("DittoServer", "files", Action::Update),
            ("Secret", "files-admin-bootstrap-credentials", Action::Update),
            ("Secret", "files-operator-credentials", Action::Create),
        ]
    );
    assert!(told.changes[0].what[0].contains("dittofs.dittofs.com/finalizer"));
    server.replicas = 0;
    let told = seen(&server, &live);
    assert!(told.changes.iter().all(|change| change.name != "files-operator-credentials"), "nobody is talked to");
    let mut live = at_rest(&server);
    live.credentials = Some(json!({"metadata": {}}));
    assert_eq!(change(&seen(&server, &live), "files-operator-credentials").action, Action::Blocked);
}

#[test]
fn what_is_missing_is_told_and_holds_and_an_invalid_spec_changes_nothing() {
    let server = server("files").build();
    let mut live = at_rest(&server);
    live.hash = Some(HashInput::Held);
    live.missing = vec!["Secret pg does not exist".into()];
    let told = seen(&server, &live);
    assert!(told.is_quiet() && !told.restart);
    assert!(warned(&told, "Secret pg does not exist") && warned(&told, "the pod is left as it is"));

    live.hash = Some(HashInput::Pending);
    live.secrets_to_make = vec!["files-jwt-secret".into()];
    let told = seen(&server, &live);
    assert!(told.restart, "a Secret that is made anew restarts the server");
    assert_eq!((change(&told, "files-jwt-secret").kind, change(&told, "files-jwt-secret").action), {
        ("Secret", Action::Create)
    });

    let told = preview(&key(), Err("spec.ports.nfs is 0"), &live);
    assert_eq!(told.invalid.as_deref(), Some("spec.ports.nfs is 0"));
    assert!(told.is_quiet() && told.changes.is_empty());
}

#[test]
fn a_paused_server_and_one_that_goes_are_told_as_such() {
    let mut server = server("files").build();
    let mut live = at_rest(&server);
    assert!(!warned(&seen(&server, &live), "dittofs.io/paused"));
    live.paused = true;
    assert!(warned(&seen(&server, &live), "dittofs.io/paused is \"true\""));
    live.config_map = None;
    assert_eq!(actions(&seen(&server, &live)), [("ConfigMap", "files-config", Action::Create)]);
    server.deleting = true;
    let told = seen(&server, &live);
    assert!(told.changes.is_empty() && warned(&told, "only its deletion goes on"));
}
