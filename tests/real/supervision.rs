//! Panics, restarts, budgets and signals: what one actor suffers, no other notices, and the end is in order.

use std::time::{Duration, Instant};

use dittofs_testbed::audit::{Expect, Promise};
use dittofs_testbed::cluster::resources;
use dittofs_testbed::operator::{OperatorOptions, Signal};
use dittofs_testbed::proxy::{Action, Rule};
use http::Method;
use serde_json::{Value, json};

use crate::support::{Bed, SOON};

/// Every point of an actor of one server at which a test can make it panic, and whether its job panics there: then the
/// actor lives on and tries again.
const POINTS: [(&str, bool); 12] = [
    ("config-hasher.handler", false),
    ("config-hasher.job", true),
    ("adapter-poller.handler", false),
    ("adapter-poller.job", true),
    ("service-reconciler.handler", false),
    ("service-reconciler.observed", false),
    ("service-reconciler.job", true),
    ("port-reconciler.handler", false),
    ("port-reconciler.observed", false),
    ("port-reconciler.job", true),
    ("status-reporter.handler", false),
    ("status-reporter.job", true),
];

const NFS_AND_SMB: [(&str, u64); 2] = [("nfs", 12049), ("smb", 1445)];

fn with_faults(bed: &Bed, faults: &str) -> OperatorOptions {
    OperatorOptions { env: vec![("DITTOFS_FAULTS".to_owned(), faults.to_owned())], ..bed.options() }
}

/// The DittoServer whose actors panic at a point.
fn victim(point: &str) -> String {
    point.replace('.', "-")
}

/// The lines of the operator's log that hold all these words.
fn lines(bed: &Bed, words: &[&str]) -> Vec<String> {
    let mut lines = bed.world.operator().logs();
    lines.retain(|line| words.iter().all(|word| line.contains(word)));
    lines
}

fn versions(services: &[Value]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    services
        .iter()
        .map(|service| (text(&service["metadata"]["uid"]), text(&service["metadata"]["resourceVersion"])))
        .collect()
}

/// No pause between two polls of a server was longer than this, since `since`.
fn longest_pause(bed: &Bed, name: &str, since: Instant) -> Duration {
    let polls = bed.dittofs(name).polls();
    let times: Vec<Instant> = polls.iter().map(|poll| poll.at).filter(|at| *at >= since).collect();
    let end = times.last().map_or(Instant::now(), |last| (*last).max(Instant::now()));
    let times = std::iter::once(since).chain(times).chain([end]);
    let times: Vec<Instant> = times.collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_anywhere_in_one_servers_actors_is_healed_and_its_neighbour_notices_nothing() {
    let mut bed = Bed::idle("panics").await;
    let faults: Vec<String> = POINTS.iter().map(|(point, _)| format!("panic:{point}@{}:2", victim(point))).collect();
    let options = with_faults(&bed, &faults.join(","));
    bed.world.start_operator(options).await.expect("the operator starts");
    bed.ready_server("quiet", &json!({})).await;
    bed.wait_adapter_services("quiet", &NFS_AND_SMB).await;
    let services = versions(&bed.world.services("quiet").await.expect("the Services"));
    let since = Instant::now();

    let spec = json!({"adapterDiscovery": {"pollingInterval": "1s"}});
    for (point, _) in POINTS {
        bed.world.apply_server(&victim(point), &spec).await.expect("the server is accepted");
    }
    for (point, in_job) in POINTS {
        let name = victim(point);
        bed.world.wait_ready(&name).await.expect("the server becomes ready");
        bed.wait_adapter_services(&name, &NFS_AND_SMB).await;
        // A second round: what was started anew follows the server, too.
        bed.dittofs(&name).stop_adapter("smb");
        let actor = point.split('.').next().unwrap_or_default();
        let words = if in_job { "panicked; it is tried again" } else { "it is started anew" };
        let told = lines(&bed, &[words, &name, actor]);
        assert!(!told.is_empty(), "{point}: nothing panicked");
    }
    for (point, _) in POINTS {
        bed.wait_adapter_services(&victim(point), &NFS_AND_SMB[..1]).await;
        bed.wait_adapter_ports(&victim(point), &NFS_AND_SMB[..1]).await;
    }

    assert_eq!(versions(&bed.world.services("quiet").await.expect("the Services")), services);
    // Backoff and respawn of the others take seconds; the neighbour's polls keep their pace of one a second.
    let pause = longest_pause(&bed, "quiet", since);
    assert!(pause < Duration::from_secs(3), "the neighbour was not polled for {pause:?}");
    assert!(lines(&bed, &["it is started anew", "quiet"]).is_empty());
    bed.finish(POINTS.len() + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_watch_starts_all_watches_anew_and_nothing_is_lost() {
    let mut bed = Bed::idle("watch-panic").await;
    let options = with_faults(&bed, "panic:cr-watcher.event:2");
    bed.world.start_operator(options).await.expect("the operator becomes ready all the same");
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &NFS_AND_SMB).await;
    assert!(!lines(&bed, &["it is started anew", "cr-watcher"]).is_empty(), "nothing panicked");
    // Watches that start anew have to list anew, whenever that is.
    bed.finish_with(Expect { pod_starts: Some(1), skip: vec![Promise::S6], ..Expect::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_that_panics_for_ever_ends_the_process_within_a_minute_and_the_log_says_why() {
    for (fault, actor) in [
        ("panic:config-hasher.handler@files:*", "config-hasher"),
        ("panic:cr-watcher.event:*", "cr-watcher"),
        ("panic:supervisor.handler:*", "Supervisor"),
    ] {
        let mut bed = Bed::idle("budget").await;
        let start = Instant::now();
        let options = with_faults(&bed, fault);
        // The watcher's panic keeps it from becoming ready: that it starts is all that is wanted.
        bed.world.start_operator_unready(options).await.expect("the operator starts");
        let spec = json!({"adapterDiscovery": {"pollingInterval": "1s"}});
        bed.world.apply_server("files", &spec).await.expect("the server is accepted");
        let exit = bed.world.operator().wait_exit(Duration::from_mins(1)).await.expect("it ends within a minute");
        assert_eq!(exit.code, Some(1), "{fault}: {}", bed.world.operator().log_tail(20));
        assert!(start.elapsed() < Duration::from_mins(1));
        let log = bed.world.operator().log_tail(5);
        assert!(log.contains(actor) && (log.contains("more often") || log.contains("ended")), "{fault}: {log}");
        bed.finish_with(Expect { skip: vec![Promise::S6], ..Expect::default() }).await;
    }
}

fn service_create(method: &Method, path: &str) -> bool {
    method == Method::POST && path.contains("/services")
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_waits_for_the_write_that_is_under_way() {
    let mut bed = Bed::idle("sigterm").await;
    let options = bed.options();
    let proxy = bed.world.start_operator_through_proxy(options).await.expect("the operator starts");
    bed.world.operator().wait_ready().await.expect("ready");
    proxy.rule(Rule::new(service_create, Action::Delay(Duration::from_secs(2))));
    let spec = json!({"adapterDiscovery": {"pollingInterval": "1s"}});
    bed.world.apply_server("files", &spec).await.expect("the server is accepted");
    bed.world
        .wait_until("a Service on its way", SOON, async || {
            let on_its_way = proxy.seen().iter().any(|seen| service_create(&seen.method, &seen.path));
            if on_its_way { Ok(()) } else { Err(format!("{} requests", proxy.seen().len())) }
        })
        .await
        .expect("a Service is written");
    let exit = bed.world.operator().sigterm(Duration::from_secs(20)).await.expect("it ends");
    assert_eq!(exit.code, Some(0));
    assert!(exit.took >= Duration::from_secs(1), "it did not wait for the write: {:?}", exit.took);
    let headless = bed.world.namespace().get(resources::SERVICES, "files-headless").await.expect("an answer");
    assert!(headless.is_some(), "the write that was under way");
    let after = bed.world.operator().logs().join("\n");
    assert!(after.contains("shut down") && !after.contains("did not finish"), "{after}");
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_ends_it_at_once() {
    let mut bed = Bed::idle("sigterm-twice").await;
    let options = bed.options();
    let proxy = bed.world.start_operator_through_proxy(options).await.expect("the operator starts");
    bed.world.operator().wait_ready().await.expect("ready");
    proxy.rule(Rule::new(service_create, Action::Delay(Duration::from_mins(1))));
    bed.world.apply_server("files", &json!({})).await.expect("the server is accepted");
    bed.world
        .wait_until("a Service on its way", SOON, async || {
            let on_its_way = proxy.seen().iter().any(|seen| service_create(&seen.method, &seen.path));
            if on_its_way { Ok(()) } else { Err(format!("{} requests", proxy.seen().len())) }
        })
        .await
        .expect("a Service is written");
    let operator = bed.world.operator();
    operator.signal(Signal::TERM).expect("it runs");
    bed.world
        .wait_until("the shutdown's start", SOON, async || {
            if lines(&bed, &["shutting down"]).is_empty() { Err("not told".to_owned()) } else { Ok(()) }
        })
        .await
        .expect("it begins to shut down");
    assert!(operator.is_running(), "it waits for the write");
    let exit = operator.sigterm(Duration::from_secs(3)).await.expect("it ends at once");
    assert_eq!(exit.code, Some(0));
    bed.finish(1).await;
}
