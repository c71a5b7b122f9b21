//! What the surroundings do to the operator: an API server that goes away, hangs or refuses, a kind that is not there
//! yet, tokens that rotate, servers that are broken. Each is reported, and the rest goes on.

use std::time::{Duration, Instant};

use dittofs_testbed::audit::Expect;
use dittofs_testbed::cluster::{Cluster, ClusterOptions, deploy, resources};
use dittofs_testbed::dittofs::{Mode, Scope};
use dittofs_testbed::proxy::{Action, Mode as Network, Rule};
use dittofs_testbed::world::condition;
use http::Method;
use serde_json::{Value, json};

use crate::support::{Bed, SOON};

const NFS_AND_SMB: [(&str, u64); 2] = [("nfs", 12049), ("smb", 1445)];
const NFS: [(&str, u64); 1] = [("nfs", 12049)];

/// Long enough for a watch to notice a half-open connection, and for a token to be read again.
const LONG: Duration = Duration::from_mins(2);

/// The same process that was started runs.
#[track_caller]
fn assert_never_restarted(bed: &Bed, pid: u32) {
    let operator = bed.world.operator();
    assert!(operator.is_running(), "{}", operator.log_tail(20));
    assert_eq!((operator.pid(), operator.starts().len()), (pid, 1));
}

async fn wait_log(bed: &Bed, words: &[&str], timeout: Duration) {
    bed.world
        .wait_until(&format!("{words:?} in the log"), timeout, async || {
            let logs = bed.world.operator().logs();
            let told = logs.iter().any(|line| words.iter().all(|word| line.contains(word)));
            if told { Ok(()) } else { Err(format!("{} lines", logs.len())) }
        })
        .await
        .expect("the log says so");
}

/// Waits until a server was polled so many times more.
async fn polled(bed: &Bed, name: &str, more: usize) {
    let server = bed.dittofs(name);
    let before = server.polls().len();
    server
        .wait_for(|log| log.iter().filter(|request| request.is_poll()).count() >= before + more, SOON)
        .await
        .expect("the server is polled");
}

fn is_write(method: &Method, path: &str) -> bool {
    [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(method) && !path.contains("/events")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_goes_away_for_a_while_needs_no_restart_and_what_was_missed_is_followed() {
    let cluster = Cluster::start(ClusterOptions::default()).await.expect("a control plane");
    let mut bed = Bed::on(&cluster, "restart").await;
    let options = bed.options();
    bed.world.start_operator(options).await.expect("the operator starts");
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &NFS_AND_SMB).await;
    let pid = bed.world.operator().pid();
    cluster.stop_api_server().await.expect("the API server stops");
    bed.dittofs("files").stop_adapter("smb");
    // The stop is seen while nothing can be written.
    polled(&bed, "files", 3).await;
    assert_eq!(bed.world.operator().health("/healthz").await.expect("an answer").0, 200);
    cluster.start_api_server().await.expect("the API server starts again");
    bed.wait_adapter_services_within("files", &NFS, LONG).await;
    bed.wait_adapter_ports("files", &NFS).await;
    // Its watches live, too: a change of the server is seen.
    bed.world.apply_server("files", &json!({"adapterServices": {"type": "NodePort"}})).await.expect("accepted");
    bed.world
        .wait_until("the Service's type", LONG, async || {
            let services = bed.world.adapter_services("files").await.map_err(|error| error.to_string())?;
            let seen = services.iter().all(|service| service["spec"]["type"] == "NodePort");
            if seen { Ok(()) } else { Err("another type".to_owned()) }
        })
        .await
        .expect("the change of the server is followed");
    assert_never_restarted(&bed, pid);
    bed.finish_with(Expect::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_is_not_there_at_start_is_waited_for() {
    let cluster = Cluster::start(ClusterOptions::bare()).await.expect("a control plane");
    let mut bed = Bed::on(&cluster, "bare").await;
    let mut options = bed.options();
    options.namespace = None;
    bed.world.start_operator_unready(options).await.expect("the operator starts");
    wait_log(&bed, &["DittoServer", "trouble"], SOON).await;
    let operator = bed.world.operator();
    let pid = operator.pid();
    assert_eq!(operator.health("/readyz").await.expect("an answer").0, 503, "ready without a watch");
    assert_eq!(operator.health("/healthz").await.expect("an answer").0, 200);
    let crd = deploy("crd.yaml");
    cluster.kubectl_ok(&["apply", "--server-side", "-f", &crd.to_string_lossy()]).await.expect("the CRD is installed");
    operator.wait_ready().await.expect("it becomes ready once the kind is there");
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &NFS_AND_SMB).await;
    assert_never_restarted(&bed, pid);
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_good_no_more_is_read_again_from_its_file() {
    let mut bed = Bed::new("token").await;
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &NFS_AND_SMB).await;
    let pid = bed.world.operator().pid();
    // Another account of the same name: every token of the old one is refused from now on.
    let user = bed.world.operator().user();
    let account = user.rsplit(':').next().expect("a name").to_owned();
    let namespace = bed.world.namespace().clone();
    namespace.delete(resources::SERVICE_ACCOUNTS, &account).await.expect("deleted");
    let again = json!({"metadata": {"name": account}});
    namespace.create_object(resources::SERVICE_ACCOUNTS, &again).await.expect("made again");
    bed.world.operator_mut().rotate_token().await.expect("a new token");
    bed.dittofs("files").stop_adapter("smb");
    bed.wait_adapter_services_within("files", &NFS, LONG).await;
    bed.wait_adapter_ports("files", &NFS).await;
    assert_never_restarted(&bed, pid);
    bed.finish(1).await;
}

/// The CRD as an older release could have had it: no type, bound or rule in the spec.
fn lenient_crd() -> Value {
    let text = std::fs::read_to_string(deploy("crd.yaml")).expect("the CRD can be read");
    let mut crd: Value = serde_yaml_ng::from_str(&text).expect("the CRD is YAML");
    for version in crd["spec"]["versions"].as_array_mut().expect("versions") {
        let schema = &mut version["schema"]["openAPIV3Schema"];
        schema["properties"]["spec"] = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        schema.as_object_mut().expect("a schema").remove("x-kubernetes-validations");
    }
    crd
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_an_older_crd_admitted_are_reported_and_their_neighbours_are_served() {
    let cluster = Cluster::start(ClusterOptions::bare()).await.expect("a control plane");
    cluster.create(resources::CRDS, "", &lenient_crd()).await.expect("the older CRD");
    let mut bed = Bed::on(&cluster, "older").await;
    let namespace = bed.world.namespace().clone();
    let storage = json!({"metadataSize": "1Gi", "contentSize": "1Gi"});
    let broken = [
        ("unreadable", json!({"storage": storage, "adapterDiscovery": {"pollingInterval": "soon"}})),
        ("mistyped", json!({"storage": storage, "replicas": "many"})),
        ("clashing", json!({"storage": storage, "ports": {"nfs": 8080, "smb": 8080}})),
    ];
    // Of another shape altogether: the API server itself takes no status for it, as its rules cannot be evaluated.
    let hopeless = ("listed", json!({"storage": storage, "controlPlane": ["port", 8080]}));
    bed.world
        .wait_until("the kind", SOON, async || {
            let list = namespace.list(resources::SERVERS, "").await;
            list.map(drop).map_err(|error| error.to_string())
        })
        .await
        .expect("the kind is served");
    for (name, spec) in broken.iter().chain([&hopeless]) {
        let server = json!({"metadata": {"name": name}, "spec": spec});
        namespace.create_object(resources::SERVERS, &server).await.expect("the older CRD admits it");
    }
    let crd = deploy("crd.yaml");
    cluster
        .kubectl_ok(&["apply", "--server-side", "--force-conflicts", "-f", &crd.to_string_lossy()])
        .await
        .expect("the CRD of today");
    let options = bed.options();
    bed.world.start_operator(options).await.expect("the operator starts");
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &NFS_AND_SMB).await;
    for (name, _) in &broken {
        bed.world
            .wait_server(name, "to say that its spec is invalid", SOON, |server| {
                let ready = condition(server, "Ready").cloned().unwrap_or_default();
                if ready["status"] == "False" && ready["reason"] == "SpecInvalid" {
                    Ok(())
                } else {
                    Err(server["status"].to_string())
                }
            })
            .await
            .expect("it is reported");
    }
    bed.world
        .wait_until("an event about the server that can have no status", SOON, async || {
            let events = namespace.list(resources::EVENTS, "").await.map_err(|error| error.to_string())?;
            let told =
                |event: &&Value| event["reason"] == "ReconcileFailed" && event["involvedObject"]["name"] == hopeless.0;
            events.iter().find(told).map(drop).ok_or_else(|| format!("{} events", events.len()))
        })
        .await
        .expect("an event reports it");
    assert_eq!(bed.world.services("unreadable").await.expect("a list"), Vec::<Value>::new());
    // Repaired by its user, one of them is served; the others can be deleted.
    namespace
        .patch(resources::SERVERS, "unreadable", &json!({"spec": {"adapterDiscovery": {"pollingInterval": "1s"}}}))
        .await
        .expect("the repair is accepted");
    bed.world.wait_ready("unreadable").await.expect("it is served once it is valid");
    for (name, _) in broken[1..].iter().chain([&hopeless]) {
        namespace.delete(resources::SERVERS, name).await.expect("deleted");
        bed.wait_gone(resources::SERVERS, name).await;
    }
    bed.finish(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dittofs_api_that_hangs_costs_its_neighbours_nothing() {
    let bed = Bed::new("hung").await;
    bed.dittofs("hung").set_mode(Mode::Hang, Scope::All);
    let spec = json!({"adapterDiscovery": {"pollingInterval": "1s"}});
    bed.world.apply_server("hung", &spec).await.expect("the server is accepted");
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &NFS_AND_SMB).await;
    bed.dittofs("hung").wait_for(|log| !log.is_empty(), SOON).await.expect("the other is asked, and does not answer");
    let start = Instant::now();
    bed.dittofs("files").stop_adapter("smb");
    bed.wait_adapter_services("files", &NFS).await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(8), "as if it waited for the other's timeout of 10 s: {took:?}");
    bed.world
        .wait_server("hung", "to say that its API does not answer", SOON, |server| {
            let ready = condition(server, "Authenticated").cloned().unwrap_or_default();
            let known = ready["status"] != "True" && ready["reason"].is_string();
            if known { Ok(()) } else { Err(server["status"].to_string()) }
        })
        .await
        .expect("it is reported");
    assert_eq!(bed.world.adapter_services("hung").await.expect("a list"), Vec::<Value>::new());
    bed.dittofs("hung").heal();
    bed.dittofs("hung").restart();
    bed.world.wait_ready("hung").await.expect("it becomes ready when its API answers");
    bed.wait_adapter_services("hung", &NFS_AND_SMB).await;
    bed.finish(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_go_operators_finalizer_is_released_and_nobody_elses() {
    let bed = Bed::new("finalizer").await;
    let namespace = bed.world.namespace().clone();
    let server = json!({
        "metadata": {"name": "files", "finalizers": ["example.com/theirs", "dittofs.dittofs.com/finalizer"]},
        "spec": {"storage": {"metadataSize": "1Gi", "contentSize": "1Gi"},
                 "adapterDiscovery": {"pollingInterval": "1s"}},
    });
    namespace.create_object(resources::SERVERS, &server).await.expect("the server is accepted");
    bed.world.wait_ready("files").await.expect("it becomes ready");
    assert_eq!(
        bed.world.server("files").await.expect("it is there")["metadata"]["finalizers"],
        server["metadata"]["finalizers"],
        "kept while it lives"
    );
    namespace.delete(resources::SERVERS, "files").await.expect("deleted");
    bed.world
        .wait_server("files", "to lose one finalizer", SOON, |server| {
            let left = &server["metadata"]["finalizers"];
            if *left == json!(["example.com/theirs"]) { Ok(()) } else { Err(left.to_string()) }
        })
        .await
        .expect("it is released");
    namespace
        .patch(resources::SERVERS, "files", &json!({"metadata": {"finalizers": null}}))
        .await
        .expect("theirs is released by them");
    bed.wait_gone(resources::SERVERS, "files").await;
    bed.wait_gone(resources::STATEFUL_SETS, "files").await;
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_answers_nothing_for_twenty_seconds_is_waited_out() {
    let mut bed = Bed::idle("silence").await;
    let options = bed.options();
    let proxy = bed.world.start_operator_through_proxy(options).await.expect("the operator starts");
    bed.world.operator().wait_ready().await.expect("ready");
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &NFS_AND_SMB).await;
    let pid = bed.world.operator().pid();
    proxy.set_mode(Network::Hang);
    bed.dittofs("files").stop_adapter("smb");
    // The fault itself lasts for a time; nothing is waited for by it.
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(bed.world.operator().health("/healthz").await.expect("an answer").0, 200);
    assert_eq!(bed.world.adapter_services("files").await.expect("a list").len(), 2);
    proxy.set_mode(Network::Normal);
    bed.wait_adapter_services_within("files", &NFS, LONG).await;
    bed.wait_adapter_ports("files", &NFS).await;
    assert_never_restarted(&bed, pid);
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_writes_are_tried_again_until_they_pass() {
    let mut bed = Bed::idle("refusals").await;
    let options = bed.options();
    let proxy = bed.world.start_operator_through_proxy(options).await.expect("the operator starts");
    bed.world.operator().wait_ready().await.expect("ready");
    let refuse = |times: usize| {
        for (code, reason) in [(500, "InternalError"), (429, "TooManyRequests"), (409, "Conflict")] {
            proxy.rule(Rule::new(is_write, Action::status(code, reason, "refused by the test")).times(times));
        }
    };
    refuse(6);
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &NFS_AND_SMB).await;
    refuse(4);
    bed.dittofs("files").stop_adapter("smb");
    bed.wait_adapter_services("files", &NFS).await;
    bed.wait_adapter_ports("files", &NFS).await;
    let refused = proxy.seen().iter().filter(|seen| matches!(seen.status, Some(500 | 429 | 409))).count();
    assert!(refused >= 20, "{refused} refusals");
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_events_api_that_hangs_delays_no_service() {
    let mut bed = Bed::idle("notices").await;
    let options = bed.options();
    let proxy = bed.world.start_operator_through_proxy(options).await.expect("the operator starts");
    bed.world.operator().wait_ready().await.expect("ready");
    proxy.rule(Rule::new(|_, path| path.contains("/events"), Action::Hang));
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &NFS_AND_SMB).await;
    let start = Instant::now();
    bed.dittofs("files").stop_adapter("smb");
    bed.wait_adapter_services("files", &NFS).await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(8), "as if it waited for the deadline of an event, 10 s: {took:?}");
    assert!(proxy.seen().iter().any(|seen| seen.path.contains("/events")), "no event was sent");
    bed.finish(1).await;
}
