//! Every Service that comes, changes and goes, against a list of Services that is kept as an API server keeps it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::object::{Decision, decide};
use super::*;
use crate::fixtures::{everything, server, service_settings};
use crate::reconcile::{ServiceSettings, ServiceType};

fn adapter(adapter_type: &str, port: u16, state: AdapterState) -> ObservedAdapter {
    ObservedAdapter { adapter_type: adapter_type.to_owned(), port, state }
}

fn running(adapters: &[(&str, u16)]) -> Vec<ObservedAdapter> {
    adapters.iter().map(|(name, port)| adapter(name, *port, AdapterState::Running)).collect()
}

/// One server and what is in its namespace.
struct Namespace {
    server: ValidatedServer,
    nfs: Option<NfsPorts>,
    live: Vec<Arc<Value>>,
    made: u32,
}

impl Namespace {
    fn new(server: ValidatedServer) -> Self {
        Self { server, nfs: None, live: vec![], made: 0 }
    }

    /// The static Services and those of `adapters`.
    fn with(adapters: &[(&str, u16)]) -> Self {
        let mut namespace = Self::new(server("files").build());
        namespace.reconcile(Some(&running(adapters)));
        namespace
    }

    fn plan(&self, adapters: Option<&[ObservedAdapter]>) -> ServicePlan {
        plan_services(&self.server, adapters, self.nfs, &self.live)
    }

    /// Does what the plan says; what was written, as `+name`, `~name`, `-name`. That the `-file` Service follows the
    /// adapters is left out: it has a test of its own.
    fn reconcile(&mut self, adapters: Option<&[ObservedAdapter]>) -> Vec<String> {
        let plan = self.plan(adapters);
        let mut wrote = Vec::new();
        for remove in plan.remove {
            let at = self.live.iter().position(|service| meta(service, "uid") == remove.uid).expect("the uid seen");
            assert_eq!(meta(&self.live[at], "name"), remove.name);
            self.live.remove(at);
            wrote.push(format!("-{}", remove.name));
        }
        for ensure in plan.ensure {
            let at = self.live.iter().position(|service| meta(service, "name") == ensure.name);
            match decide(at.map(|at| &*self.live[at]), &ensure.desired, &self.server.uid) {
                Decision::Create(mut service) => {
                    self.made += 1;
                    service["metadata"]["uid"] = json!(format!("uid-{}", self.made));
                    if service["spec"].get("clusterIP").is_none() {
                        service["spec"]["clusterIP"] = json!(format!("10.0.0.{}", self.made));
                    }
                    service["spec"]["ports"][0]["nodePort"] = json!(30000 + self.made);
                    service["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
                    self.live.push(Arc::new(service));
                    wrote.push(format!("+{}", ensure.name));
                }
                Decision::Replace(service, _) => {
                    self.live[at.unwrap()] = Arc::new(service);
                    if ensure.name != "files-file" {
                        wrote.push(format!("~{}", ensure.name));
                    }
                }
                Decision::Nothing | Decision::NotOwned | Decision::BeingDeleted => {}
            }
        }
        wrote
    }

    fn get(&self, name: &str) -> Option<&Value> {
        find(&self.live, name)
    }

    fn edit(&mut self, name: &str, change: impl FnOnce(&mut Value)) {
        let at = self.live.iter().position(|service| meta(service, "name") == name).expect("a Service");
        change(Arc::make_mut(&mut self.live[at]));
    }
}

const STATICS: [&str; 3] = ["files-headless", "files-api", "files-file"];

#[test]
fn before_the_first_poll_the_static_services_are_made_and_no_adapter_service_is_touched() {
    let mut namespace = Namespace::with(&[("nfs", 12049)]);
    namespace.live.retain(|service| meta(service, "name") == "files-adapter-nfs");
    assert_eq!(namespace.reconcile(None), STATICS.map(|name| format!("+{name}")));
    assert!(namespace.plan(None).ensure.iter().all(|ensure| ensure.adapter.is_none()));
    assert_eq!(namespace.plan(None).remove, []);
}

#[test]
fn one_service_is_created_for_each_running_adapter() {
    let mut namespace = Namespace::with(&[]);
    let seen = running(&[("nfs", 12049), ("smb", 1445)]);
    assert_eq!(namespace.reconcile(Some(&seen)), ["+files-adapter-nfs", "+files-adapter-smb"]);
    assert_eq!(namespace.reconcile(Some(&seen)), [""; 0], "and then nothing differs");
    let nfs = namespace.get("files-adapter-nfs").unwrap();
    assert_eq!(
        (&nfs["spec"]["ports"][0]["port"], &nfs["spec"]["ports"][0]["targetPort"]),
        (&json!(12049), &json!(12049))
    );
    assert_eq!(nfs["metadata"]["labels"][ADAPTER_TYPE_LABEL], "nfs");
    assert!(owned_by(nfs, &namespace.server.uid));
}

#[test]
fn a_service_goes_when_its_adapter_is_stopped_unlisted_or_all_are_gone() {
    for (seen, gone, why) in [
        (vec![adapter("nfs", 12049, AdapterState::Stopped)], 1, "the adapter is stopped"),
        (vec![adapter("s3", 0, AdapterState::Stopped)], 1, "the server no longer lists the adapter"),
        (vec![], 1, "the server no longer lists the adapter"),
        (running(&[("nfs", 12049)]), 0, ""),
    ] {
        let mut namespace = Namespace::with(&[("nfs", 12049)]);
        let plan = namespace.plan(Some(&seen));
        assert_eq!(plan.remove.iter().map(|remove| remove.why).collect::<Vec<_>>(), vec![why; gone]);
        assert!(plan.remove.iter().all(|remove| remove.adapter.as_deref() == Some("nfs")));
        namespace.reconcile(Some(&seen));
        assert_eq!(namespace.live.len(), 4 - gone);
    }
    let mut both = Namespace::with(&[("nfs", 12049), ("smb", 1445)]);
    assert_eq!(both.reconcile(Some(&[])), ["-files-adapter-nfs", "-files-adapter-smb"]);
}

#[test]
fn an_adapter_in_passage_keeps_its_service_as_it_is_and_gets_no_new_one() {
    let mut namespace = Namespace::with(&[("nfs", 12049)]);
    let seen = [adapter("nfs", 13049, AdapterState::Passage), adapter("smb", 1445, AdapterState::Passage)];
    let before = namespace.live.clone();
    assert_eq!(namespace.reconcile(Some(&seen)), [""; 0]);
    assert_eq!(namespace.live, before);
    namespace.server.adapter_services.annotations.insert("a".into(), "b".into());
    assert_eq!(namespace.reconcile(Some(&seen)), ["~files-adapter-nfs"], "what the user changes is followed");
    assert_eq!(namespace.get("files-adapter-nfs").unwrap()["spec"]["ports"][0]["port"], 12049);
}

#[test]
fn a_port_move_updates_in_place_and_keeps_uid_address_and_node_port() {
    let mut namespace = Namespace::with(&[("nfs", 12049)]);
    let before = namespace.get("files-adapter-nfs").unwrap().clone();
    let wrote = namespace.reconcile(Some(&running(&[("nfs", 13049)])));
    assert_eq!(wrote, ["~files-adapter-nfs"]);
    let after = namespace.get("files-adapter-nfs").unwrap();
    assert_eq!(
        (&after["spec"]["ports"][0]["port"], &after["spec"]["ports"][0]["targetPort"]),
        (&json!(13049), &json!(13049))
    );
    for path in ["/metadata/uid", "/spec/clusterIP", "/spec/ports/0/nodePort", "/status"] {
        assert!(after.pointer(path).is_some_and(|value| Some(value) == before.pointer(path)), "{path}");
    }
}

#[test]
fn type_and_annotations_follow_the_user_and_foreign_fields_survive() {
    let seen = running(&[("nfs", 12049)]);
    let mut namespace = Namespace::with(&[]);
    namespace.server.adapter_services.annotations = [("ours".into(), "1".into()), ("old".into(), "2".into())].into();
    namespace.reconcile(Some(&seen));
    namespace.edit("files-adapter-nfs", |service| {
        service["metadata"]["annotations"]["cloud"] = json!("theirs");
        service["metadata"]["labels"]["cloud"] = json!("theirs");
        service["metadata"]["finalizers"] = json!(["service.kubernetes.io/load-balancer-cleanup"]);
        service["spec"]["loadBalancerClass"] = json!("c");
        service["spec"]["healthCheckNodePort"] = json!(31000);
    });
    let before = namespace.get("files-adapter-nfs").unwrap().clone();
    assert_eq!(namespace.reconcile(Some(&seen)), [""; 0]);
    namespace.server.adapter_services.annotations = [("ours".into(), "3".into())].into();
    namespace.server.adapter_services.service_type = ServiceType::NodePort;
    assert_eq!(namespace.reconcile(Some(&seen)), ["~files-adapter-nfs"]);
    let after = namespace.get("files-adapter-nfs").unwrap();
    let annotations = &after["metadata"]["annotations"];
    assert_eq!((&annotations["ours"], &annotations["cloud"]), (&json!("3"), &json!("theirs")));
    assert_eq!((annotations.get("old"), &after["spec"]["type"]), (None, &json!("NodePort")));
    assert_eq!(after["spec"].get("loadBalancerClass"), None, "refused on anything but a load balancer");
    for path in ["/metadata/finalizers", "/metadata/labels", "/spec/healthCheckNodePort"] {
        assert_eq!(after.pointer(path), before.pointer(path), "{path}");
    }
    namespace.server.adapter_services.annotations.clear();
    namespace.reconcile(Some(&seen));
    assert_eq!(namespace.get("files-adapter-nfs").unwrap()["metadata"]["annotations"].get("ours"), None);
}

#[test]
fn a_field_that_is_taken_out_goes_and_one_that_others_set_stays() {
    let seen = running(&[("nfs", 12049), ("smb", 1445)]);
    let mut namespace = Namespace::new(server("files").build());
    namespace.server.api_service = service_settings("api");
    namespace.server.file_service = service_settings("file");
    namespace.server.per_adapter.insert("nfs".into(), service_settings("nfs"));
    namespace.reconcile(Some(&seen));
    let with_fields = [("files-api", "api"), ("files-file", "file"), ("files-adapter-nfs", "nfs")];
    for (name, mark) in with_fields {
        let service = namespace.get(name).unwrap();
        assert_eq!(service["spec"]["loadBalancerClass"], format!("example.com/{mark}"));
        assert_eq!(service["metadata"]["labels"][format!("example.com/team-{mark}")], format!("{mark}-team"));
        assert_eq!(service["spec"]["loadBalancerSourceRanges"], json!(["192.0.2.0/24", "2001:db8::/32"]));
        assert_eq!(service["spec"]["externalTrafficPolicy"], "Local");
    }
    namespace.edit("files-adapter-smb", |service| {
        service["spec"]["loadBalancerSourceRanges"] = json!(["198.51.100.0/24"]);
        service["spec"]["externalTrafficPolicy"] = json!("Local");
        service["metadata"]["labels"]["theirs"] = json!("kept");
    });
    namespace.edit("files-api", |service| service["metadata"]["labels"]["theirs"] = json!("kept"));
    assert_eq!(namespace.reconcile(Some(&seen)), [""; 0], "what is left unset is left to others");

    namespace.server.api_service = ServiceSettings::default();
    namespace.server.file_service = ServiceSettings::default();
    namespace.server.per_adapter.clear();
    let wrote = namespace.reconcile(Some(&seen));
    assert_eq!(wrote, ["~files-api", "~files-adapter-nfs"]);
    for (name, mark) in with_fields {
        let service = namespace.get(name).unwrap();
        for field in ["loadBalancerSourceRanges", "externalTrafficPolicy"] {
            assert_eq!(service["spec"].get(field), None, "{name}");
        }
        assert_eq!(service["metadata"]["labels"].get(format!("example.com/team-{mark}")), None, "{name}");
        assert_eq!(service["metadata"]["annotations"].get(format!("example.com/note-{mark}")), None, "{name}");
    }
    assert_eq!(namespace.get("files-api").unwrap()["metadata"]["labels"]["theirs"], "kept");
    assert_eq!(namespace.get("files-adapter-smb").unwrap()["metadata"]["labels"]["theirs"], "kept");
}

#[test]
fn of_two_adapters_that_would_have_one_service_the_first_keeps_it_and_the_other_is_told() {
    let mut namespace = Namespace::with(&[]);
    let seen = running(&[("A", 7001), ("a-x559a", 7002), ("nfs", 12049)]);
    assert_eq!(namespace.reconcile(Some(&seen)), ["+files-adapter-a-x559a", "+files-adapter-nfs"]);
    assert_eq!(namespace.get("files-adapter-a-x559a").unwrap()["spec"]["ports"][0]["port"], 7001);
    assert_eq!(namespace.reconcile(Some(&seen)), [""; 0], "and no fight");
    let told: Vec<String> = namespace.plan(Some(&seen)).ensure.into_iter().flat_map(|ensure| ensure.short).collect();
    assert_eq!(told, ["adapter \"a-x559a\" would need a Service of the same name, and has none"]);
}

#[test]
fn the_adapter_path_never_touches_a_static_service_whatever_its_labels() {
    let mut namespace = Namespace::with(&[("nfs", 12049)]);
    for name in STATICS {
        namespace.edit(name, |service| service["metadata"]["labels"][ADAPTER_SERVICE_LABEL] = json!("true"));
    }
    assert_eq!(namespace.reconcile(Some(&[])), ["-files-adapter-nfs"]);
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let seen = running(&[("nfs", 12049)]);
    let ours = Namespace::with(&[("nfs", 12049)]);
    let foreign_owner = json!([{"uid": "another", "controller": true}]);
    for owners in [foreign_owner, json!([]), json!([{"uid": "uid-of-files"}])] {
        let mut namespace = Namespace::with(&[]);
        let mut decoy = ours.get("files-adapter-nfs").unwrap().clone();
        decoy["metadata"]["ownerReferences"] = owners;
        decoy["spec"]["ports"][0]["port"] = json!(1);
        namespace.live.push(Arc::new(decoy.clone()));
        assert_eq!(namespace.reconcile(Some(&[])), [""; 0], "its adapter does not run");
        assert_eq!(namespace.reconcile(Some(&seen)), [""; 0], "its adapter runs");
        assert_eq!(namespace.reconcile(Some(&[adapter("nfs", 5, AdapterState::Passage)])), [""; 0]);
        assert_eq!(namespace.get("files-adapter-nfs"), Some(&decoy));
        namespace.server.file_service_enabled = false;
        namespace.edit("files-file", |service| service["metadata"]["ownerReferences"] = json!([]));
        assert_eq!(namespace.reconcile(Some(&seen)), [""; 0], "a foreign -file Service stays when it is off");
    }
    let mut unlabelled = Namespace::with(&[("nfs", 12049)]);
    unlabelled.edit("files-adapter-nfs", |service| service["metadata"]["labels"] = json!({}));
    assert_eq!(unlabelled.reconcile(Some(&[])), [""; 0], "the label *and* the owner");
}

#[test]
fn a_service_that_is_being_deleted_is_not_deleted_again_and_its_successor_waits() {
    let mut namespace = Namespace::with(&[("nfs", 12049)]);
    namespace.server.file_service_enabled = false;
    for name in ["files-adapter-nfs", "files-file"] {
        namespace.edit(name, |service| service["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
    }
    assert_eq!(namespace.plan(Some(&[])).remove, []);
    assert_eq!(namespace.reconcile(Some(&running(&[("nfs", 13049)]))), [""; 0]);
    namespace.live.retain(|service| meta(service, "name") != "files-adapter-nfs");
    assert_eq!(namespace.reconcile(Some(&running(&[("nfs", 13049)]))), ["+files-adapter-nfs"]);
}

/// Where the ports of the `-file` Service lead: (nfs, smb).
fn targets(namespace: &Namespace) -> (u64, u64) {
    let ports = &namespace.get("files-file").unwrap()["spec"]["ports"];
    let number = |at: usize, field: &str| ports[at][field].as_u64().unwrap();
    assert_eq!((number(0, "port"), number(1, "port")), (2049, 445), "what clients use never moves");
    (number(0, "targetPort"), number(1, "targetPort"))
}

#[test]
fn the_file_service_leads_where_the_adapter_listens() {
    use AdapterState::{Passage, Running, Stopped};
    let fresh = |adapters: Option<&[ObservedAdapter]>| {
        let mut namespace = Namespace::new(server("files").build());
        namespace.reconcile(adapters);
        targets(&namespace)
    };
    assert_eq!(fresh(None), (2049, 445), "nothing known: the same number");
    assert_eq!(fresh(Some(&[])), (2049, 445), "no such adapter: the same number");
    assert_eq!(fresh(Some(&running(&[("nfs", 12049), ("smb", 1445)]))), (12049, 1445));
    assert_eq!(fresh(Some(&[adapter("nfs", 13049, Passage)])), (13049, 445), "nothing to keep yet");

    let table = [
        ("no poll succeeded: kept", None, (12049, 1445)),
        ("moved", Some(running(&[("nfs", 13049), ("smb", 1445)])), (13049, 1445)),
        ("on its way: kept", Some(vec![adapter("nfs", 13049, Passage), adapter("smb", 1445, Running)]), (12049, 1445)),
        (
            "stopped: where it will listen",
            Some(vec![adapter("nfs", 14049, Stopped), adapter("smb", 1445, Running)]),
            (14049, 1445),
        ),
        (
            "stopped without a port: the same number",
            Some(vec![adapter("nfs", 0, Stopped), adapter("smb", 1445, Running)]),
            (2049, 1445),
        ),
        ("deleted from the list: the same number", Some(running(&[("smb", 1445)])), (2049, 1445)),
    ];
    for (name, seen, expected) in table {
        let mut namespace = Namespace::with(&[("nfs", 12049), ("smb", 1445)]);
        namespace.reconcile(seen.as_deref());
        assert_eq!(targets(&namespace), expected, "{name}");
    }
}

#[test]
fn file_and_metrics_services_go_when_they_are_switched_off() {
    let mut namespace = Namespace::new(server("files").with(|s| s.metrics = everything("m").metrics).build());
    namespace.reconcile(None);
    assert!(namespace.get("files-metrics").is_some() && namespace.get("files-file").is_some());
    namespace.server.metrics = None;
    namespace.server.file_service_enabled = false;
    assert_eq!(namespace.reconcile(None), ["-files-file", "-files-metrics"], "also before the first poll");
    assert_eq!(namespace.reconcile(None), [""; 0]);
}

#[test]
fn nothing_is_planned_for_a_server_that_is_being_deleted() {
    let mut namespace = Namespace::with(&[("nfs", 12049)]);
    namespace.server.deleting = true;
    assert_eq!(namespace.plan(Some(&[])), ServicePlan::default());
}

#[test]
fn what_is_deleted_by_hand_comes_back() {
    let mut namespace = Namespace::with(&[("nfs", 12049)]);
    let names: Vec<String> = namespace.live.iter().map(|service| meta(service, "name").to_owned()).collect();
    for name in names {
        namespace.live.retain(|service| meta(service, "name") != name);
        assert_eq!(namespace.reconcile(Some(&running(&[("nfs", 12049)]))), [format!("+{name}")]);
    }
}

/// Name, protocol, port and target of each port of the NFS adapter's Service.
fn nfs_ports_of(namespace: &Namespace) -> Vec<String> {
    let ports = namespace.get("files-adapter-nfs").expect("the Service")["spec"]["ports"].as_array().unwrap().clone();
    let text = |port: &Value| {
        let name = port["name"].as_str().unwrap();
        format!("{name} {} {}→{}", port["protocol"].as_str().unwrap(), port["port"], port["targetPort"])
    };
    ports.iter().map(text).collect()
}

#[test]
fn the_nfs_service_has_the_further_ports_that_the_server_has_switched_on_and_no_others() {
    let mut namespace = Namespace::with(&[("nfs", 12049), ("smb", 1445)]);
    let seen = running(&[("nfs", 12049), ("smb", 1445)]);
    let own = "adapter-nfs TCP 12049→12049";
    let portmap = ["portmap TCP 111→10111", "portmap-udp UDP 111→10111"];
    let udp = "adapter-nfs-udp UDP 12049→12049";
    assert_eq!(nfs_ports_of(&namespace), [own], "nothing is known");
    for (portmapper, with_udp, ports) in [
        (None, false, vec![own]),
        (Some(10111), false, vec![own, portmap[0], portmap[1]]),
        (Some(10111), true, vec![own, portmap[0], portmap[1], udp]),
        (None, true, vec![own, udp]),
        (None, false, vec![own]),
    ] {
        namespace.nfs = Some(NfsPorts { portmapper, udp: with_udp });
        namespace.reconcile(Some(&seen));
        assert_eq!(nfs_ports_of(&namespace), ports);
        assert_eq!(namespace.reconcile(Some(&seen)), [""; 0], "and then nothing differs");
        assert_eq!(namespace.get("files-adapter-smb").unwrap()["spec"]["ports"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn settings_that_are_not_known_take_no_port_away_and_udp_follows_the_adapter() {
    let mut namespace = Namespace::with(&[("nfs", 12049)]);
    namespace.nfs = Some(NfsPorts { portmapper: Some(10111), udp: true });
    namespace.reconcile(Some(&running(&[("nfs", 12049)])));
    let before = nfs_ports_of(&namespace);
    assert_eq!(before.len(), 4);
    namespace.nfs = None;
    assert_eq!(namespace.reconcile(Some(&running(&[("nfs", 12049)]))), [""; 0]);
    // On its way, whatever the settings say by now.
    namespace.nfs = Some(NfsPorts::default());
    assert_eq!(namespace.reconcile(Some(&[adapter("nfs", 13049, AdapterState::Passage)])), [""; 0]);
    assert_eq!(nfs_ports_of(&namespace), before);
    namespace.nfs = None;
    namespace.reconcile(Some(&running(&[("nfs", 13049)])));
    let mut moved: Vec<String> = before.iter().map(|port| port.replace("12049", "13049")).collect();
    let mut now = nfs_ports_of(&namespace);
    moved.sort();
    now.sort();
    assert_eq!(now, moved);
}
