//! ServiceReconciler: which Services are made, changed and removed, and when.

use actix::prelude::*;
use serde_json::{Value, json};

use super::observed;
use crate::actors::messages::{Fact, Resend, Role};
use crate::actors::service_reconciler::ServiceReconciler;
use crate::actors::testing::{Bench, changed, key, names, pass, run};
use crate::cluster::Kind;
use crate::reconcile::AdapterState::{Passage, Running, Stopped};
use crate::reconcile::status::ServicesFact;

pub(super) const STATICS: [&str; 3] =
    ["POST Service files-headless", "POST Service files-api", "POST Service files-file"];

pub(super) fn start(bench: &Bench) -> Addr<ServiceReconciler> {
    let lifeline = bench.lifeline(Role::ServiceReconciler);
    ServiceReconciler::new(key(), bench.deps.clone(), bench.status.recipient(), lifeline).start()
}

pub(super) fn last_fact(bench: &Bench) -> ServicesFact {
    match bench.status.facts().pop() {
        Some(Fact::Services(fact)) => fact,
        other => panic!("no services fact: {other:?}"),
    }
}

/// A bench with the Services of a server that runs nfs and smb, seen by the caches, and its reconciler at rest.
pub(super) async fn at_rest() -> (Bench, Addr<ServiceReconciler>) {
    let bench = Bench::with_server();
    let address = start(&bench);
    address.do_send(observed(&[("nfs", 12049, Running), ("smb", 1445, Running)]));
    pass(1.0).await;
    bench.sync();
    pass(1.0).await;
    (bench, address)
}

/// The writes after the first `n`.
pub(super) fn writes_after(bench: &Bench, n: usize) -> Vec<String> {
    bench.api.writes().split_off(n)
}

fn uid(service: &Value) -> &Value {
    &service["metadata"]["uid"]
}

#[test]
fn before_the_first_observation_the_static_services_are_made_and_no_adapter_service_is_touched() {
    run(async {
        let (bench, _) = at_rest().await;
        // Another life of the operator: what stands there is known, the adapters are not.
        let address = start(&bench);
        let before = bench.api.asked().len();
        address.do_send(changed());
        pass(60.0).await;
        assert_eq!(bench.api.asked().len(), before, "nothing is touched, nothing is even read");

        let fresh = Bench::with_server();
        start(&fresh).do_send(changed());
        pass(60.0).await;
        assert_eq!(fresh.api.writes(), STATICS);
        assert_eq!(last_fact(&fresh), ServicesFact { applied: Some(1), ..ServicesFact::default() });
    });
}

#[test]
fn each_running_adapter_gets_its_service_and_an_event_and_the_others_do_not() {
    run(async {
        let bench = Bench::with_server();
        let address = start(&bench);
        address.do_send(observed(&[("nfs", 12049, Running), ("s3", 9000, Passage), ("smb", 1445, Stopped)]));
        pass(5.0).await;
        assert_eq!(writes_after(&bench, 3), ["POST Service files-adapter-nfs"]);
        let service = bench.api.get(Kind::Service, "files-adapter-nfs");
        assert_eq!(service["spec"]["ports"].as_array().map(Vec::len), Some(1));
        assert_eq!(
            (&service["spec"]["ports"][0]["port"], &service["spec"]["type"]),
            (&json!(12049), &json!("LoadBalancer"))
        );
        assert_eq!(service["metadata"]["ownerReferences"][0]["uid"], "uid-files");
        let events = bench.api.events();
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(events[0].0, "AdapterServiceCreated");
        assert!(events[0].1.contains("files-adapter-nfs") && events[0].1.contains("12049"), "{}", events[0].1);
    });
}

#[test]
fn nothing_changed_nothing_asked_nothing_reported() {
    run(async {
        let (bench, address) = at_rest().await;
        let (asked, reports) = (bench.api.asked().len(), bench.status.count());
        for _ in 0..10 {
            address.do_send(changed());
            address.do_send(observed(&[("nfs", 12049, Running), ("smb", 1445, Running)]));
            pass(1.0).await;
        }
        assert_eq!((bench.api.asked().len(), bench.status.count()), (asked, reports));
        address.do_send(Resend);
        pass(1.0).await;
        assert_eq!(bench.status.count(), reports + 1, "unless somebody asks");
    });
}

#[test]
fn the_service_of_an_adapter_that_stops_or_vanishes_is_deleted_by_its_uid() {
    for gone in [observed(&[("nfs", 12049, Running), ("smb", 1445, Stopped)]), observed(&[("nfs", 12049, Running)])] {
        run(async move {
            let (bench, address) = at_rest().await;
            let before = bench.api.writes().len();
            let doomed = uid(&bench.api.get(Kind::Service, "files-adapter-smb")).clone();
            address.do_send(gone);
            pass(5.0).await;
            let mut writes = writes_after(&bench, before);
            writes.retain(|write| write.contains("-adapter-"));
            assert_eq!(writes, ["DELETE Service files-adapter-smb"]);
            assert_eq!(bench.api.requests("DELETE")[0].body["preconditions"]["uid"], doomed);
            assert_eq!(bench.api.reasons().last().map(String::as_str), Some("AdapterServiceDeleted"));
        });
    }
}

#[test]
fn an_empty_list_removes_every_adapter_service_and_no_static_or_foreign_one() {
    run(async {
        let (bench, address) = at_rest().await;
        let mut foreign = bench.api.get(Kind::Service, "files-adapter-smb");
        foreign["metadata"]["name"] = json!("somebody-else");
        foreign["metadata"]["ownerReferences"] = json!([]);
        bench.api.put(Kind::Service, foreign);
        bench.sync();
        address.do_send(observed(&[]));
        pass(5.0).await;
        assert_eq!(
            names(&bench.api.all(Kind::Service)),
            ["files-api", "files-file", "files-headless", "somebody-else"]
        );
        assert_eq!(last_fact(&bench).applied, Some(1));
    });
}

#[test]
fn a_move_updates_in_place_and_a_passage_keeps_what_stands_there() {
    run(async {
        let (bench, address) = at_rest().await;
        bench.api.change(Kind::Service, "files-adapter-nfs", |service| {
            service["spec"]["clusterIP"] = json!("10.0.0.7");
            service["spec"]["ports"][0]["nodePort"] = json!(31000);
            service["metadata"]["annotations"]["cloud.example/address"] = json!("kept");
        });
        bench.sync();
        let (before, old) = (bench.api.writes().len(), bench.api.get(Kind::Service, "files-adapter-nfs"));
        address.do_send(observed(&[("nfs", 12050, Passage), ("smb", 1445, Running)]));
        pass(5.0).await;
        assert_eq!(bench.api.get(Kind::Service, "files-adapter-nfs"), old, "the port stands while clients drain");

        address.do_send(observed(&[("nfs", 12050, Running), ("smb", 1445, Running)]));
        pass(5.0).await;
        let new = bench.api.get(Kind::Service, "files-adapter-nfs");
        assert_eq!(new["spec"]["ports"][0]["port"], 12050);
        assert_eq!(uid(&new), uid(&old));
        assert_eq!(
            (&new["spec"]["clusterIP"], &new["spec"]["ports"][0]["nodePort"]),
            (&json!("10.0.0.7"), &json!(31000))
        );
        assert_eq!(new["metadata"]["annotations"]["cloud.example/address"], "kept");
        let writes = writes_after(&bench, before);
        assert_eq!(
            writes.iter().filter(|write| write.contains("adapter-nfs")).collect::<Vec<_>>(),
            ["PUT Service files-adapter-nfs"]
        );
        assert!(bench.api.reasons().contains(&"AdapterServiceUpdated".to_owned()));
    });
}

#[test]
fn a_type_and_annotations_follow_the_spec_and_an_annotation_taken_out_is_removed() {
    run(async {
        let (bench, address) = at_rest().await;
        bench.edit(|spec| spec["adapterServices"] = json!({"type": "NodePort", "annotations": {"a": "1", "b": "2"}}));
        address.do_send(changed());
        pass(5.0).await;
        let service = bench.api.get(Kind::Service, "files-adapter-nfs");
        assert_eq!(service["spec"]["type"], "NodePort");
        assert_eq!(
            (&service["metadata"]["annotations"]["a"], &service["metadata"]["annotations"]["b"]),
            (&json!("1"), &json!("2"))
        );
        bench.edit(|spec| spec["adapterServices"]["annotations"] = json!({"b": "2"}));
        address.do_send(changed());
        pass(5.0).await;
        let annotations = bench.api.get(Kind::Service, "files-adapter-nfs")["metadata"]["annotations"].clone();
        assert_eq!((annotations.get("a"), &annotations["b"]), (None, &json!("2")));
        assert_eq!(last_fact(&bench).applied, Some(3));
    });
}

#[test]
fn a_static_service_that_is_switched_off_goes_and_one_that_was_deleted_comes_back() {
    run(async {
        let (bench, address) = at_rest().await;
        bench.edit(|spec| spec["fileService"] = json!({"enabled": false}));
        address.do_send(changed());
        pass(5.0).await;
        assert!(bench.api.find(Kind::Service, "files-file").is_none());
        bench.api.remove(Kind::Service, "files-api");
        bench.sync();
        address.do_send(changed());
        pass(5.0).await;
        assert!(bench.api.find(Kind::Service, "files-api").is_some());
        let told = bench.api.reasons();
        let expected = ["AdapterServiceCreated", "AdapterServiceCreated", "DriftRepaired"];
        assert_eq!(told, expected, "static Services are no adapter's event; that one was deleted is one");
    });
}
