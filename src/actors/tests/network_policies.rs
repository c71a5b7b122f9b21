//! ServiceReconciler: NetworkPolicies come before what they let in, go after it, and stand in nobody's way.

use actix::prelude::*;
use serde_json::json;

use super::observed;
use super::service_reconciler::{last_fact, start, writes_after};
use crate::actors::messages::{Cause, CauseKind, Poke};
use crate::actors::service_reconciler::ServiceReconciler;
use crate::actors::testing::api::Fault;
use crate::actors::testing::{Bench, changed, names, pass, run};
use crate::cluster::Kind;
use crate::reconcile::AdapterState::{Running, Stopped};

fn with_policies() -> Bench {
    Bench::new().and_server(|spec| spec["networkPolicy"] = json!({"enabled": true}))
}

/// A server that runs nfs and s3, its objects seen by the caches, and its reconciler at rest.
async fn at_rest() -> (Bench, Addr<ServiceReconciler>) {
    let bench = with_policies();
    let address = start(&bench);
    address.do_send(observed(&[("nfs", 12049, Running), ("s3", 9000, Running)]));
    pass(1.0).await;
    bench.sync();
    pass(1.0).await;
    (bench, address)
}

#[test]
fn a_policy_is_there_before_its_service_and_goes_after_it() {
    run(async {
        let (bench, address) = at_rest().await;
        assert_eq!(
            bench.api.writes(),
            [
                "POST NetworkPolicy files-baseline",
                "POST NetworkPolicy files-adapter-nfs",
                "POST NetworkPolicy files-adapter-s3",
                "POST Service files-headless",
                "POST Service files-api",
                "POST Service files-file",
                "POST Service files-adapter-nfs",
                "POST Service files-adapter-s3",
            ]
        );
        assert_eq!(last_fact(&bench).applied, Some(1));
        let (before, asked) = (bench.api.writes().len(), bench.api.asked().len());
        address.do_send(changed());
        pass(60.0).await;
        assert_eq!(bench.api.asked().len(), asked, "nothing differs, nothing is even read");

        let doomed = bench.api.get(Kind::NetworkPolicy, "files-adapter-s3")["metadata"]["uid"].clone();
        address.do_send(observed(&[("nfs", 12049, Running), ("s3", 9000, Stopped)]));
        pass(5.0).await;
        assert_eq!(
            writes_after(&bench, before),
            ["DELETE Service files-adapter-s3", "DELETE NetworkPolicy files-adapter-s3"]
        );
        assert_eq!(bench.api.requests("DELETE NetworkPolicy")[0].body["preconditions"]["uid"], doomed);
        bench.sync();
        let before = bench.api.writes().len();
        address.do_send(observed(&[("nfs", 12050, Running), ("s3", 9000, Stopped)]));
        pass(5.0).await;
        assert_eq!(
            writes_after(&bench, before),
            [
                "PUT NetworkPolicy files-baseline",
                "PUT NetworkPolicy files-adapter-nfs",
                "PUT Service files-file",
                "PUT Service files-adapter-nfs"
            ]
        );
        let mut told = bench.api.reasons();
        told.retain(|reason| reason.contains("NetworkPolicy"));
        assert_eq!(
            told,
            [
                "AdapterNetworkPolicyCreated",
                "AdapterNetworkPolicyCreated",
                "AdapterNetworkPolicyDeleted",
                "AdapterNetworkPolicyUpdated"
            ]
        );
    });
}

#[test]
fn a_server_from_before_there_were_policies_gets_them_before_its_first_answer() {
    run(async {
        let (bench, _) = at_rest().await;
        for name in ["files-baseline", "files-adapter-nfs", "files-adapter-s3"] {
            bench.api.remove(Kind::NetworkPolicy, name);
        }
        bench.sync();
        let before = bench.api.writes().len();
        start(&bench).do_send(changed());
        pass(5.0).await;
        assert_eq!(
            writes_after(&bench, before),
            [
                "POST NetworkPolicy files-baseline",
                "POST NetworkPolicy files-adapter-nfs",
                "POST NetworkPolicy files-adapter-s3"
            ]
        );
        let policy = bench.api.get(Kind::NetworkPolicy, "files-adapter-s3");
        assert_eq!(policy["spec"]["ingress"], json!([{"ports": [{"port": 9000, "protocol": "TCP"}]}]));
    });
}

#[test]
fn one_policy_that_cannot_be_written_stops_nothing_is_told_and_is_tried_again() {
    run(async {
        let bench = with_policies();
        bench.api.fail(usize::MAX, "POST NetworkPolicy files-adapter-nfs", Fault::Status(403, "Forbidden"));
        let address = start(&bench);
        address.do_send(observed(&[("nfs", 12049, Running), ("s3", 9000, Running)]));
        pass(10.0).await;
        assert_eq!(
            names(&bench.api.all(Kind::NetworkPolicy)),
            ["files-adapter-s3", "files-baseline"],
            "the others are made"
        );
        assert!(bench.api.find(Kind::Service, "files-adapter-nfs").is_some(), "and so is its Service");
        let fact = last_fact(&bench);
        assert_eq!((fact.applied, fact.problems.len()), (None, 1));
        assert!(fact.problems[0].starts_with("NetworkPolicy files-adapter-nfs: "), "{fact:?}");
        let told = |reason: &str| bench.api.reasons().iter().filter(|told| *told == reason).count();
        assert_eq!((told("NetworkPolicyFailed"), told("AdapterServiceFailed")), (1, 0));
        bench.api.heal();
        pass(31.0).await;
        assert!(bench.api.find(Kind::NetworkPolicy, "files-adapter-nfs").is_some());
        assert_eq!(last_fact(&bench).applied, Some(1));
    });
}

#[test]
fn switched_off_ours_go_and_a_foreign_one_of_our_name_is_left_alone_and_told() {
    run(async {
        let bench = with_policies();
        let foreign = bench.api.put(Kind::NetworkPolicy, json!({"metadata": {"name": "files-adapter-nfs"}}));
        let address = start(&bench);
        address.do_send(observed(&[("nfs", 12049, Running), ("s3", 9000, Running)]));
        pass(10.0).await;
        assert_eq!(bench.api.get(Kind::NetworkPolicy, "files-adapter-nfs"), foreign);
        assert!(bench.api.find(Kind::NetworkPolicy, "files-adapter-s3").is_some());
        assert!(bench.api.find(Kind::Service, "files-adapter-nfs").is_some());
        assert_eq!(bench.api.reasons().iter().filter(|reason| *reason == "NotOwned").count(), 1);
        assert_eq!(
            last_fact(&bench).problems,
            ["NetworkPolicy files-adapter-nfs belongs to somebody else; rename or remove it"]
        );
        bench.edit(|spec| spec["networkPolicy"]["enabled"] = json!(false));
        address.do_send(changed());
        pass(5.0).await;
        assert_eq!(bench.api.all(Kind::NetworkPolicy), [foreign]);
        assert_eq!(bench.api.count("DELETE Service"), 0);
        let fact = last_fact(&bench);
        assert_eq!((fact.applied, fact.problems), (Some(2), vec![]));
    });
}

#[test]
fn a_policy_that_somebody_edits_is_set_right_at_once_and_its_peers_follow_the_spec() {
    run(async {
        let (bench, address) = at_rest().await;
        bench.api.change(Kind::NetworkPolicy, "files-baseline", |policy| {
            policy["spec"]["ingress"].as_array_mut().expect("rules").push(json!({}));
            policy["metadata"]["annotations"]["theirs"] = json!("kept");
        });
        bench.sync();
        let before = bench.api.writes().len();
        address.do_send(Poke(Cause::here(CauseKind::ObjectChanged)));
        pass(1.0).await;
        assert_eq!(writes_after(&bench, before), ["PUT NetworkPolicy files-baseline"]);
        let policy = bench.api.get(Kind::NetworkPolicy, "files-baseline");
        assert_eq!(policy["spec"]["ingress"].as_array().map(Vec::len), Some(1));
        assert_eq!(policy["metadata"]["annotations"]["theirs"], "kept");

        bench.edit(|spec| spec["networkPolicy"]["from"] = json!([{"ipBlock": {"cidr": "10.0.0.0/8"}}]));
        address.do_send(changed());
        pass(5.0).await;
        let ingress = bench.api.get(Kind::NetworkPolicy, "files-baseline")["spec"]["ingress"].clone();
        assert_eq!(ingress[0]["from"], json!([{"ipBlock": {"cidr": "10.0.0.0/8"}}]));
        let own = json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "operators"}}}]);
        assert_eq!((&ingress[1]["from"], &ingress[1]["ports"]), (&own, &json!([{"port": "api", "protocol": "TCP"}])));
        let nfs = bench.api.get(Kind::NetworkPolicy, "files-adapter-nfs")["spec"]["ingress"].clone();
        assert_eq!(nfs[0]["from"], json!([{"ipBlock": {"cidr": "10.0.0.0/8"}}]));
        bench.edit(|spec| spec["networkPolicy"]["from"] = json!([]));
        address.do_send(changed());
        pass(5.0).await;
        for name in ["files-baseline", "files-adapter-nfs"] {
            let ingress = bench.api.get(Kind::NetworkPolicy, name)["spec"]["ingress"].clone();
            assert_eq!((ingress.as_array().map(Vec::len), ingress[0].get("from")), (Some(1), None), "{name}");
        }
    });
}
