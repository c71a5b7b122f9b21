//! ServiceReconciler: best effort, foreign objects, objects on their way out, conflicts.

use std::time::Duration;

use serde_json::json;

use super::observed;
use super::service_reconciler::{STATICS, at_rest, last_fact, start, writes_after};
use crate::actors::testing::api::Fault;
use crate::actors::testing::{Bench, changed, pass, run};
use crate::cluster::Kind;
use crate::reconcile::AdapterState::{Running, Stopped};

#[test]
fn one_service_that_cannot_be_made_stops_no_other_and_is_tried_again() {
    run(async {
        let bench = Bench::with_server();
        bench.api.fail(usize::MAX, "POST Service files-adapter-nfs", Fault::Status(500, "InternalError"));
        let address = start(&bench);
        address.do_send(observed(&[("nfs", 12049, Running), ("smb", 1445, Running)]));
        pass(10.0).await;
        assert!(bench.api.find(Kind::Service, "files-adapter-smb").is_some());
        let attempts = bench.api.count("POST Service files-adapter-nfs");
        assert!((3..10).contains(&attempts), "{attempts} attempts in 10 s");
        let fact = last_fact(&bench);
        assert_eq!((fact.applied, fact.problems.len()), (None, 1));
        assert!(fact.problems[0].contains("files-adapter-nfs") && fact.problems[0].contains("500"), "{fact:?}");
        assert!(bench.api.reasons().contains(&"AdapterServiceFailed".to_owned()));
        bench.api.heal();
        pass(31.0).await;
        assert!(bench.api.find(Kind::Service, "files-adapter-nfs").is_some());
        assert_eq!(last_fact(&bench).applied, Some(1));
        assert_eq!(bench.api.writes().iter().filter(|w| STATICS.contains(&w.as_str())).count(), 3, "made once");
    });
}

#[test]
fn one_service_that_cannot_be_deleted_stops_no_other() {
    run(async {
        let (bench, address) = at_rest().await;
        bench.api.fail(3, "DELETE Service files-adapter-nfs", Fault::Status(403, "Forbidden"));
        address.do_send(observed(&[("s3", 9000, Running)]));
        pass(0.1).await;
        assert!(bench.api.find(Kind::Service, "files-adapter-smb").is_none());
        assert!(bench.api.find(Kind::Service, "files-adapter-s3").is_some());
        assert!(last_fact(&bench).problems[0].contains("cannot be deleted"));
        pass(10.0).await;
        assert!(bench.api.find(Kind::Service, "files-adapter-nfs").is_none());
        assert_eq!(last_fact(&bench).applied, Some(1));
    });
}

#[test]
fn another_object_of_a_deleted_services_name_is_left_alone() {
    run(async {
        let (bench, address) = at_rest().await;
        // The cache still has the old one.
        bench.api.remove(Kind::Service, "files-adapter-smb");
        let other = bench.api.put(Kind::Service, json!({"metadata": {"name": "files-adapter-smb"}}));
        address.do_send(observed(&[("nfs", 12049, Running)]));
        pass(5.0).await;
        assert!(bench.api.requests("DELETE").iter().all(|asked| asked.body["preconditions"]["uid"].is_string()));
        assert_eq!(bench.api.get(Kind::Service, "files-adapter-smb"), other);
        // Once the cache shows whose it is, nothing is left to do.
        bench.sync();
        address.do_send(changed());
        pass(5.0).await;
        let deletes = bench.api.count("DELETE");
        address.do_send(changed());
        pass(60.0).await;
        assert_eq!(bench.api.count("DELETE"), deletes);
        assert_eq!(bench.api.get(Kind::Service, "files-adapter-smb"), other);
        assert_eq!(last_fact(&bench).applied, Some(1), "what is not ours is no failure");
        assert!(!bench.api.reasons().contains(&"AdapterServiceDeleted".to_owned()));
    });
}

#[test]
fn a_foreign_service_of_our_name_is_left_alone_said_and_looked_at_again() {
    run(async {
        let bench = Bench::with_server();
        let foreign = bench.api.put(Kind::Service, json!({"metadata": {"name": "files-adapter-nfs"}}));
        let address = start(&bench);
        address.do_send(observed(&[("nfs", 12049, Running), ("smb", 1445, Running)]));
        pass(10.0).await;
        assert_eq!(bench.api.get(Kind::Service, "files-adapter-nfs"), foreign);
        assert!(bench.api.find(Kind::Service, "files-adapter-smb").is_some(), "the next one is made");
        assert_eq!(bench.api.reasons().iter().filter(|reason| *reason == "NotOwned").count(), 1);
        assert!(last_fact(&bench).problems[0].contains("belongs to somebody else"));
        bench.api.remove(Kind::Service, "files-adapter-nfs");
        pass(31.0).await;
        assert!(bench.api.find(Kind::Service, "files-adapter-nfs").is_some());
        assert_eq!(last_fact(&bench).applied, Some(1));
    });
}

#[test]
fn a_service_on_its_way_out_is_waited_for_without_any_failure_and_its_successor_is_made() {
    run(async {
        let (bench, address) = at_rest().await;
        bench.api.change(Kind::Service, "files-adapter-smb", |service| {
            service["metadata"]["finalizers"] = json!(["cloud.example/cleanup"]);
        });
        bench.sync();
        address.do_send(observed(&[("nfs", 12049, Running), ("smb", 1445, Stopped)]));
        pass(1.0).await;
        bench.sync();
        let leaving = bench.api.get(Kind::Service, "files-adapter-smb");
        assert!(leaving["metadata"]["deletionTimestamp"].is_string());
        assert_eq!(last_fact(&bench).applied, Some(1), "a stopped adapter's Service may take its time");

        address.do_send(observed(&[("nfs", 12049, Running), ("smb", 1445, Running)]));
        pass(5.0).await;
        let fact = last_fact(&bench);
        assert_eq!(
            (fact.applied, fact.waiting, fact.problems),
            (None, vec!["Service files-adapter-smb".to_owned()], vec![])
        );
        assert_eq!(bench.api.get(Kind::Service, "files-adapter-smb"), leaving);
        assert!(!bench.api.reasons().contains(&"AdapterServiceFailed".to_owned()));

        bench.api.remove(Kind::Service, "files-adapter-smb");
        bench.sync();
        address.do_send(changed());
        pass(1.0).await;
        assert!(bench.api.get(Kind::Service, "files-adapter-smb")["metadata"]["deletionTimestamp"].is_null());
        assert_eq!(last_fact(&bench).waiting, Vec::<String>::new());
    });
}

#[test]
fn a_create_that_meets_an_object_on_its_way_out_waits_as_well() {
    run(async {
        let bench = Bench::with_server();
        let address = start(&bench);
        // Gone in the read, back in the create: it left between the two.
        let leaving = json!({"metadata": {"name": "files-adapter-nfs", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        bench.api.put(Kind::Service, leaving);
        bench.api.fail(1, "GET Service files-adapter-nfs", Fault::Status(404, "NotFound"));
        address.do_send(observed(&[("nfs", 12049, Running)]));
        pass(1.0).await;
        assert_eq!(last_fact(&bench).waiting, ["Service files-adapter-nfs"]);
        assert_eq!(bench.api.count("POST Service files-adapter-nfs"), 1, "and is not tried over and over");
    });
}

#[test]
fn a_conflict_is_overcome_with_the_other_change_kept_and_one_for_ever_is_bounded() {
    run(async {
        let (bench, address) = at_rest().await;
        let race =
            |service: &mut serde_json::Value| service["metadata"]["annotations"]["example.com/mine"] = json!("kept");
        bench.api.fail(1, "PUT Service files-adapter-nfs", Fault::Raced(Box::new(race)));
        address.do_send(observed(&[("nfs", 12050, Running), ("smb", 1445, Running)]));
        pass(5.0).await;
        let service = bench.api.get(Kind::Service, "files-adapter-nfs");
        assert_eq!(service["spec"]["ports"][0]["port"], 12050);
        assert_eq!(service["metadata"]["annotations"]["example.com/mine"], "kept");
        assert_eq!(bench.api.count("PUT Service files-adapter-nfs"), 2);

        bench.sync();
        bench.api.fail(usize::MAX, "PUT Service files-adapter-nfs", Fault::Status(409, "Conflict"));
        address.do_send(observed(&[("nfs", 12051, Running), ("smb", 1445, Running)]));
        pass(30.0).await;
        let at: Vec<Duration> =
            bench.api.requests("PUT Service files-adapter-nfs").iter().skip(2).map(|asked| asked.at).collect();
        assert!(at.len() >= 16 && at.len() <= 40 && at.len().is_multiple_of(4), "{} attempts", at.len());
        assert!(at[3].saturating_sub(at[0]) < Duration::from_millis(200), "four of them in one run");
        assert!(last_fact(&bench).problems[0].contains("409"));
    });
}

#[test]
fn a_write_that_the_api_server_puts_in_its_own_words_is_not_repeated() {
    run(async {
        let (bench, address) = at_rest().await;
        bench.api.on_write(Kind::Service, |service| service["spec"]["type"] = json!("ClusterIP"));
        let before = bench.api.writes().len();
        bench.edit(|spec| spec["adapterServices"] = json!({"type": "NodePort"}));
        for _ in 0..10 {
            address.do_send(changed());
            pass(5.0).await;
            bench.sync();
        }
        let mut writes = writes_after(&bench, before);
        writes.retain(|write| write.contains("adapter-nfs"));
        assert!(writes.len() <= 2, "{writes:?}");
    });
}
