//! StatusReporter: when `.status` is written, and when not.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use serde_json::{Value, json};

use super::observed;
use crate::actors::messages::{Cause, CauseKind, Fact, Report, Role};
use crate::actors::status_reporter::StatusReporter;
use crate::actors::testing::api::Fault;
use crate::actors::testing::{Bench, changed, key, pass, run};
use crate::cluster::Kind;
use crate::reconcile::AdapterState::Running;
use crate::reconcile::status::{ConfigFact, PollFact, PortsFact, ServicesFact};

fn start(bench: &Bench) -> Addr<StatusReporter> {
    StatusReporter::new(key(), bench.deps.clone(), bench.lifeline(Role::StatusReporter)).start()
}

fn report(fact: Fact) -> Report {
    Report { fact, cause: Cause::here(CauseKind::Fact) }
}

fn unreachable(text: &str) -> Report {
    report(Fact::Poll(PollFact::Unreachable(text.to_owned())))
}

fn status(bench: &Bench) -> Value {
    bench.api.get(Kind::DittoServer, "files")["status"].clone()
}

fn condition(bench: &Bench, kind: &str) -> Value {
    let status = status(bench);
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

fn written_at(bench: &Bench) -> Vec<Duration> {
    bench.api.requests("PATCH DittoServer").iter().map(|asked| asked.at).collect()
}

#[test]
fn the_first_look_writes_and_the_facts_appear() {
    run(async {
        let bench = Bench::with_server();
        let address = start(&bench);
        address.do_send(changed());
        pass(2.0).await;
        assert_eq!(bench.api.writes(), ["PATCH DittoServer files"]);
        assert_eq!(condition(&bench, "Ready")["status"], "False");
        assert_eq!(status(&bench).get("observedGeneration"), None, "nothing is applied yet");
        let adapters = observed(&[("nfs", 12049, Running)]).adapters;
        for fact in [
            Fact::Config(ConfigFact::Valid { generation: 1 }),
            Fact::Poll(PollFact::Answered),
            Fact::Adapters(adapters),
            Fact::Ports(PortsFact { applied: Some(1), ..PortsFact::default() }),
            Fact::Services(ServicesFact { applied: Some(1), ..ServicesFact::default() }),
        ] {
            address.do_send(report(fact));
        }
        pass(2.0).await;
        assert_eq!(status(&bench)["observedGeneration"], 1);
        assert_eq!(condition(&bench, "Authenticated")["status"], "True");
        assert_eq!(bench.api.count("PATCH"), 3, "one at once, one for all that came within its second");
        assert_eq!(bench.api.asked().len(), 3, "and not a single read");
    });
}

#[test]
fn at_most_one_write_a_second_and_the_newest_facts_win() {
    run(async {
        let bench = Bench::with_server();
        let address = start(&bench);
        for i in 0..400 {
            address.do_send(unreachable(&format!("attempt {i}")));
            tokio::time::sleep(Duration::from_millis(25)).await;
            if i % 40 == 0 {
                bench.sync();
            }
        }
        pass(3.0).await;
        let at = written_at(&bench);
        assert!((9..=12).contains(&at.len()), "{} writes in 10 s", at.len());
        assert!(at.windows(2).all(|pair| pair[1].saturating_sub(pair[0]) >= Duration::from_secs(1)), "{at:?}");
        let message = condition(&bench, "Authenticated")["message"].to_string();
        assert!(message.contains("attempt 399"), "{message}");
    });
}

#[test]
fn its_own_write_is_not_repeated_while_the_cache_lags_nor_when_it_caught_up() {
    run(async {
        let bench = Bench::with_server();
        let address = start(&bench);
        address.do_send(unreachable("nobody there"));
        for _ in 0..10 {
            pass(1.5).await;
            address.do_send(changed());
            address.do_send(unreachable("nobody there"));
        }
        bench.sync();
        for _ in 0..5 {
            address.do_send(changed());
            pass(1.5).await;
        }
        assert_eq!(bench.api.count("PATCH"), 1);
    });
}

#[test]
fn a_status_that_somebody_overwrote_is_repaired_and_what_is_not_ours_stays() {
    run(async {
        let bench = Bench::with_server();
        let address = start(&bench);
        address.do_send(changed());
        pass(2.0).await;
        bench.api.change(Kind::DittoServer, "files", |server| {
            server["status"]["phase"] = json!("Imagined");
            server["status"]["newerThanUs"] = json!({"a": 1});
        });
        bench.sync();
        address.do_send(changed());
        pass(2.0).await;
        assert_eq!((&status(&bench)["phase"], &status(&bench)["newerThanUs"]["a"]), (&json!("Pending"), &json!(1)));
        assert_eq!(bench.api.count("PATCH"), 2);
    });
}

#[test]
fn a_server_that_is_gone_or_was_made_anew_is_no_failure() {
    run(async {
        let bench = Bench::with_server();
        let address = start(&bench);
        // The cache still has it.
        let old = bench.api.get(Kind::DittoServer, "files");
        bench.api.remove(Kind::DittoServer, "files");
        address.do_send(changed());
        pass(60.0).await;
        assert_eq!(bench.api.count("PATCH"), 1, "404: nothing is tried again");

        let mut other = old;
        other["metadata"]["uid"] = json!("another");
        bench.api.put(Kind::DittoServer, other);
        address.do_send(changed());
        pass(60.0).await;
        assert_eq!(bench.api.count("PATCH"), 2, "409: neither");
        assert!(status(&bench).is_null(), "and the other server's status is not ours to write yet");

        bench.sync();
        address.do_send(changed());
        pass(2.0).await;
        assert!(!status(&bench).is_null());
        bench.api.remove(Kind::DittoServer, "files");
        bench.sync();
        address.do_send(changed());
        pass(5.0).await;
        assert_eq!(bench.api.count("PATCH"), 3, "nothing is said of a server that is known to be gone");
    });
}

#[test]
fn a_write_that_fails_is_tried_again_with_what_is_known_then() {
    run(async {
        let bench = Bench::with_server();
        bench.api.fail(4, "PATCH DittoServer", Fault::Status(500, "InternalError"));
        let address = start(&bench);
        address.do_send(unreachable("first"));
        pass(0.01).await;
        address.do_send(unreachable("second"));
        pass(20.0).await;
        assert_eq!(bench.api.count("PATCH"), 5);
        assert!(condition(&bench, "Authenticated")["message"].to_string().contains("second"));
    });
}

#[test]
fn an_invalid_spec_is_reported_with_the_field() {
    run(async {
        let bench = Bench::with_server();
        bench.edit(|spec| spec["adapterDiscovery"]["pollingInterval"] = json!("soon"));
        start(&bench).do_send(changed());
        pass(2.0).await;
        let ready = condition(&bench, "Ready");
        assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("SpecInvalid")));
        assert!(ready["message"].to_string().contains("pollingInterval"), "{ready}");
    });
}

#[test]
fn what_the_caches_have_of_stateful_set_and_pods_is_what_is_said() {
    run(async {
        let bench = Bench::with_server();
        let owner = json!([{"apiVersion": "dittofs.dittofs.com/v1alpha1", "kind": "DittoServer", "name": "files", "uid": "uid-files", "controller": true}]);
        let mut set = json!({"metadata": {"name": "files", "labels": {"app": "dittofs-server"}, "ownerReferences": owner},
            "spec": {}, "status": {"replicas": 1, "readyReplicas": 1, "availableReplicas": 1}});
        let uid = bench.api.put(Kind::StatefulSet, set.clone())["metadata"]["uid"].clone();
        let owner =
            json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "files", "uid": uid, "controller": true}]);
        let meta = json!({"name": "files-0", "labels": {"app": "dittofs-server"}, "ownerReferences": owner});
        let conditions = json!([{"type": "Ready", "status": "True"}]);
        bench.api.put(Kind::Pod, json!({"metadata": meta, "status": {"conditions": conditions}}));
        bench.sync();
        let address = start(&bench);
        address.do_send(report(Fact::Adapters(Arc::new(Vec::new()))));
        pass(2.0).await;
        assert_eq!((&status(&bench)["phase"], &status(&bench)["readyReplicas"]), (&json!("Running"), &json!(1)));
        // One of the same name that belongs to somebody else says nothing about the server.
        set["metadata"]["ownerReferences"][0]["uid"] = json!("another");
        bench.api.remove(Kind::StatefulSet, "files");
        bench.api.put(Kind::StatefulSet, set);
        bench.sync();
        address.do_send(changed());
        pass(2.0).await;
        assert_eq!(status(&bench)["readyReplicas"], 0);
    });
}

/// A bench whose server has the status that a reporter with all facts wrote.
async fn reported() -> Bench {
    let bench = Bench::with_server();
    let address = start(&bench);
    for fact in all_is_well() {
        address.do_send(report(fact));
    }
    pass(3.0).await;
    bench.sync();
    bench
}

fn all_is_well() -> [Fact; 5] {
    [
        Fact::Config(ConfigFact::Valid { generation: 1 }),
        Fact::Poll(PollFact::Answered),
        Fact::Adapters(Arc::new(Vec::new())),
        Fact::Ports(PortsFact { applied: Some(1), ..PortsFact::default() }),
        Fact::Services(ServicesFact { applied: Some(1), ..ServicesFact::default() }),
    ]
}

#[test]
fn a_new_reporter_takes_nothing_back_before_its_siblings_have_spoken() {
    run(async {
        let bench = reported().await;
        let (before, writes) = (status(&bench), bench.api.count("PATCH"));
        let address = start(&bench);
        address.do_send(changed());
        pass(5.0).await;
        for fact in all_is_well() {
            address.do_send(report(fact));
            pass(1.0).await;
        }
        pass(60.0).await;
        assert_eq!((status(&bench), bench.api.count("PATCH")), (before, writes));
    });
}

#[test]
fn changes_within_a_second_are_told_together_and_the_next_replace_them() {
    run(async {
        let bench = Bench::with_server();
        let address = start(&bench);
        address.do_send(changed());
        pass(2.0).await;
        bench.sync();
        assert_eq!(status(&bench).get("lastChange"), None, "nothing was changed");
        address.do_send(report(Fact::Changed("deleted Service a".to_owned())));
        // Within the write's own second: with the write that follows it.
        address.do_send(report(Fact::Changed("updated StatefulSet b".to_owned())));
        pass(2.0).await;
        let summary = || status(&bench)["lastChange"]["summary"].clone();
        let first = summary().as_str().expect("told").to_owned();
        assert!(first.contains("updated StatefulSet b"), "{first}");
        assert!(status(&bench)["lastChange"]["time"].is_string());
        bench.sync();
        address.do_send(report(Fact::Changed("created Service c".to_owned())));
        pass(2.0).await;
        assert_eq!(summary(), "created Service c");

        // Another life of the operator keeps what is there, and writes nothing for it.
        bench.sync();
        let writes = bench.api.writes().len();
        let other = start(&bench);
        other.do_send(changed());
        pass(3.0).await;
        assert_eq!((summary(), bench.api.writes().len()), (json!("created Service c"), writes));
    });
}

/// A StatefulSet of the server that wants one pod, and `pod` as its pod.
fn with_pod(bench: &Bench, pod: Option<Value>) -> String {
    let owner =
        json!([{"apiVersion": "x/v1", "kind": "DittoServer", "name": "files", "uid": "uid-files", "controller": true}]);
    let set = bench.api.find(Kind::StatefulSet, "files").unwrap_or_else(|| {
        bench.api.put(
            Kind::StatefulSet,
            json!({
                "metadata": {"name": "files", "labels": {"app": "dittofs-server"}, "ownerReferences": owner},
                "spec": {"replicas": 1}, "status": {"replicas": 1},
            }),
        )
    });
    let uid = set["metadata"]["uid"].as_str().expect("a uid").to_owned();
    if bench.api.find(Kind::Pod, "files-0").is_some() {
        bench.api.remove(Kind::Pod, "files-0");
    }
    if let Some(mut pod) = pod {
        pod["metadata"]["name"] = json!("files-0");
        pod["metadata"]["labels"]["app"] = json!("dittofs-server");
        pod["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "files", "uid": uid, "controller": true}]);
        bench.api.put(Kind::Pod, pod);
    }
    bench.sync();
    uid
}

fn crashing() -> Value {
    json!({"status": {
        "phase": "Running", "conditions": [{"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [{"name": "dittofs", "ready": false, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}],
    }})
}

fn failures(bench: &Bench) -> Vec<String> {
    bench.api.events().into_iter().filter(|(reason, _)| reason == "ServerFailed").map(|(_, note)| note).collect()
}

#[test]
fn a_server_that_fails_is_told_once_and_again_only_for_another_reason() {
    run(async {
        let bench = Bench::with_server();
        with_pod(&bench, Some(crashing()));
        let address = start(&bench);
        for _ in 0..5 {
            address.do_send(changed());
            pass(2.0).await;
            bench.sync();
        }
        assert_eq!(
            (&status(&bench)["phase"], &condition(&bench, "Ready")["reason"]),
            (&json!("Failed"), &json!("CrashLoopBackOff"))
        );
        assert_eq!(failures(&bench).len(), 1, "{:?}", failures(&bench));
        assert!(failures(&bench)[0].starts_with("CrashLoopBackOff: container dittofs ends again and again: see what"));
        // A reporter that was started anew reads what its predecessor wrote.
        drop(address);
        let address = start(&bench);
        address.do_send(changed());
        pass(2.0).await;
        assert_eq!(failures(&bench).len(), 1);
        bench.edit(|spec| spec["ports"] = json!({"nfs": 0}));
        address.do_send(changed());
        pass(2.0).await;
        let told = failures(&bench);
        assert!(told.len() == 2 && told[1].starts_with("SpecInvalid: spec.ports.nfs is 0"), "{told:?}");
    });
}

#[test]
fn a_missing_pod_is_looked_into_after_a_while_and_then_each_half_minute() {
    run(async {
        let bench = Bench::with_server();
        let uid = with_pod(&bench, None);
        let quota =
            "create Pod files-0 in StatefulSet files failed error: pods \"files-0\" is forbidden: exceeded quota: q";
        bench.api.mishap("another", "of another StatefulSet", "2096-01-01T00:00:09Z");
        bench.api.mishap(&uid, quota, "2096-01-01T00:00:00Z");
        let lists = || bench.api.lists_of_events();
        let address = start(&bench);
        address.do_send(changed());
        pass(1.9).await;
        assert_eq!((&status(&bench)["phase"], lists()), (&json!("Pending"), 0), "one may be on its way");
        pass(2.0).await;
        assert_eq!((&status(&bench)["phase"], lists()), (&json!("Failed"), 1));
        assert_eq!(condition(&bench, "Ready")["reason"], "QuotaExceeded");
        for _ in 0..100 {
            pass(1.0).await;
            address.do_send(changed());
        }
        assert!((3..=5).contains(&lists()), "{} LISTs in 100 s", lists());
        assert_eq!(failures(&bench).len(), 1);
        let now = k8s_openapi::jiff::Timestamp::now().to_string();
        let scheduled = json!([{"type": "PodScheduled", "status": "True", "lastTransitionTime": now}]);
        with_pod(&bench, Some(json!({"status": {"conditions": scheduled}})));
        address.do_send(changed());
        pass(2.0).await;
        let before = lists();
        assert_eq!(status(&bench)["phase"], "Pending");
        pass(100.0).await;
        assert_eq!(lists(), before, "there is a pod");
    });
}

#[test]
fn an_event_about_a_pod_before_the_last_one_is_no_reason() {
    run(async {
        let bench = Bench::with_server();
        let uid = with_pod(&bench, Some(crashing()));
        bench.api.mishap(&uid, "create Pod files-0 failed error: exceeded quota: q", "2020-01-01T00:00:00Z");
        let address = start(&bench);
        address.do_send(changed());
        pass(2.0).await;
        with_pod(&bench, None);
        address.do_send(changed());
        pass(10.0).await;
        assert_eq!((&status(&bench)["phase"], bench.api.lists_of_events()), (&json!("Pending"), 1));
        bench.api.mishap(&uid, "create Pod files-0 failed error: exceeded quota: q", "2096-01-01T00:00:00Z");
        pass(32.0).await;
        assert_eq!(status(&bench)["phase"], "Failed");
    });
}
