//! PortReconciler: the sizes that the claims ask for, whose they are, and what stands in the way.

use std::collections::BTreeMap;

use actix::prelude::*;
use serde_json::{Value, json};

use super::port_reconciler::{at_rest, hashed, last_fact};
use crate::actors::messages::{Cause, CauseKind, Fact, Poke, Role};
use crate::actors::port_reconciler::PortReconciler;
use crate::actors::testing::api::Fault;
use crate::actors::testing::{Bench, changed, key, pass, run};
use crate::cluster::Kind;
use crate::reconcile::status::VolumesFact;

fn claim(name: &str, size: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"app": "dittofs-server", "instance": "files"}},
        "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": size}}},
        "status": {"phase": "Bound", "capacity": {"storage": size}},
    })
}

fn class(bench: &Bench, expands: bool) {
    let class = json!({"metadata": {"name": "fast"}, "allowVolumeExpansion": expands});
    if bench.api.find(Kind::StorageClass, "fast").is_some() {
        bench.api.change(Kind::StorageClass, "fast", |stored| *stored = with_meta(stored, class));
    } else {
        bench.api.put(Kind::StorageClass, class);
    }
}

fn with_meta(stored: &Value, mut class: Value) -> Value {
    class["metadata"] = stored["metadata"].clone();
    class
}

/// A server at rest with its two claims of 1Gi, which may grow.
async fn with_claims() -> (Bench, Addr<PortReconciler>) {
    let (bench, address) = at_rest().await;
    class(&bench, true);
    for name in ["metadata-files-0", "controlplane-files-0"] {
        bench.api.put(Kind::Claim, claim(name, "1Gi"));
    }
    bench.sync();
    address.do_send(poke(CauseKind::ObjectChanged));
    pass(1.0).await;
    (bench, address)
}

fn poke(cause: CauseKind) -> Poke {
    Poke(Cause::here(cause))
}

/// `kubectl apply` of another size, with what ConfigHasher then says. The hash stays, so that the StatefulSet does.
async fn wish(bench: &Bench, address: &Addr<PortReconciler>, size: &str) {
    bench.edit(|spec| spec["storage"]["metadataSize"] = json!(size));
    let generation = bench.api.get(Kind::DittoServer, "files")["metadata"]["generation"].as_i64().unwrap();
    address.do_send(changed());
    address.do_send(hashed(generation, "h1"));
    pass(1.0).await;
}

fn asks(bench: &Bench, name: &str) -> String {
    bench.api.get(Kind::Claim, name)["spec"]["resources"]["requests"]["storage"].as_str().unwrap().to_owned()
}

/// The newest fact about volumes.
fn refused(bench: &Bench) -> BTreeMap<&'static str, String> {
    let facts = bench.status.facts();
    let found = facts.into_iter().rev().find_map(|fact| match fact {
        Fact::Volumes(VolumesFact { refused, .. }) => Some(refused),
        _ => None,
    });
    found.expect("a fact about volumes")
}

fn resized(bench: &Bench, change: impl FnOnce(&mut Value)) {
    bench.api.change(Kind::Claim, "metadata-files-0", change);
    bench.sync();
}

#[test]
fn a_larger_size_is_asked_of_the_claim_and_nothing_else_is_written() {
    run(async {
        let (bench, address) = with_claims().await;
        let writes = bench.api.writes().len();
        assert_eq!(bench.api.count("GET PersistentVolumeClaim"), 0, "the cache answers while nothing differs");
        wish(&bench, &address, "2Gi").await;
        assert_eq!(bench.api.writes().split_off(writes), ["PATCH PersistentVolumeClaim metadata-files-0"]);
        let patch = bench.api.requests("PATCH PersistentVolumeClaim").pop().unwrap().body;
        assert_eq!(patch["spec"], json!({"resources": {"requests": {"storage": "2Gi"}}}));
        assert!(patch["metadata"]["uid"].is_string() && patch["metadata"]["resourceVersion"].is_string());
        assert_eq!(asks(&bench, "controlplane-files-0"), "1Gi");
        assert!(bench.api.reasons().contains(&"VolumeExpanding".to_owned()));
        assert!(refused(&bench).is_empty());
        assert_eq!(last_fact_of_ports(&bench), Some(2), "the generation is applied");
        assert!(bench.status.changes().iter().any(|words| words == "resized claim metadata-files-0: 1Gi to 2Gi"));

        // Nothing is asked twice while the driver works, and its end is told once.
        bench.sync();
        for _ in 0..5 {
            address.do_send(poke(CauseKind::ObjectChanged));
            pass(1.0).await;
        }
        assert_eq!(bench.api.count("PATCH PersistentVolumeClaim"), 1);
        resized(&bench, |claim| claim["status"]["capacity"]["storage"] = json!("2Gi"));
        for _ in 0..3 {
            address.do_send(poke(CauseKind::ObjectChanged));
            pass(1.0).await;
        }
        let told: Vec<String> = bench
            .api
            .events()
            .into_iter()
            .filter(|(reason, _)| reason == "VolumeExpanded")
            .map(|(_, note)| note)
            .collect();
        assert_eq!(told, ["Claim metadata-files-0 has grown from 1Gi to 2Gi"]);
        assert_eq!(bench.api.writes().len(), writes + 1);
    });
}

fn last_fact_of_ports(bench: &Bench) -> Option<i64> {
    let facts = bench.status.facts();
    facts.into_iter().rev().find_map(|fact| match fact {
        Fact::Ports(fact) => fact.applied,
        _ => None,
    })
}

#[test]
fn a_wish_that_is_taken_back_lowers_what_is_asked_for_and_never_below_what_is_there() {
    run(async {
        let (bench, address) = with_claims().await;
        wish(&bench, &address, "100Gi").await;
        bench.sync();
        wish(&bench, &address, "3Gi").await;
        assert_eq!(asks(&bench, "metadata-files-0"), "3Gi");
        bench.sync();
        wish(&bench, &address, "1Gi").await;
        assert_eq!(asks(&bench, "metadata-files-0"), "1025Mi", "the least that Kubernetes takes");
        bench.sync();
        // It grew all the same; less is not asked for.
        resized(&bench, |claim| claim["status"]["capacity"]["storage"] = json!("1025Mi"));
        let writes = bench.api.writes().len();
        address.do_send(poke(CauseKind::Resync));
        pass(5.0).await;
        assert_eq!(bench.api.writes().len(), writes);
    });
}

/// As somebody's `kubectl patch pvc`, under the name of its field manager.
fn asked_by(bench: &Bench, manager: &str, size: &str) {
    resized(bench, |claim| {
        claim["spec"]["resources"]["requests"]["storage"] = json!(size);
        claim["metadata"]["managedFields"] = json!([{"manager": manager, "operation": "Update",
            "fieldsV1": {"f:spec": {"f:resources": {"f:requests": {"f:storage": {}}}}}}]);
    });
}

/// Which claims are left to whom, as was told last.
fn left(bench: &Bench) -> BTreeMap<&'static str, String> {
    let facts = bench.status.facts();
    let found = facts.into_iter().rev().find_map(|fact| match fact {
        Fact::Volumes(VolumesFact { left, .. }) => Some(left),
        _ => None,
    });
    found.expect("a fact about volumes")
}

#[test]
fn what_somebody_asked_the_claim_for_by_hand_is_left_and_said_and_the_claim_is_read_once_for_it() {
    run(async {
        let (bench, address) = with_claims().await;
        asked_by(&bench, "kubectl-patch", "5Gi");
        for _ in 0..10 {
            address.do_send(poke(CauseKind::ObjectChanged));
            pass(1.0).await;
        }
        address.do_send(poke(CauseKind::Resync));
        pass(1.0).await;
        assert_eq!(bench.api.count("PATCH PersistentVolumeClaim"), 0);
        assert_eq!(bench.api.count("GET PersistentVolumeClaim"), 1, "that version was read");
        assert_eq!(left(&bench), [("metadata", "kubectl-patch".to_owned())].into());
        // Another size of theirs is looked at again; more than that is asked for, and is ours from then on.
        asked_by(&bench, "kubectl-edit", "6Gi");
        address.do_send(poke(CauseKind::ObjectChanged));
        pass(1.0).await;
        assert_eq!(left(&bench), [("metadata", "kubectl-edit".to_owned())].into());
        wish(&bench, &address, "8Gi").await;
        assert_eq!((asks(&bench, "metadata-files-0"), left(&bench)), ("8Gi".to_owned(), BTreeMap::new()));
        bench.sync();
        wish(&bench, &address, "2Gi").await;
        assert_eq!(asks(&bench, "metadata-files-0"), "2Gi", "a wish of our own is taken back");
    });
}

#[test]
fn whose_wish_it_is_a_new_operator_reads_in_the_claim() {
    for (manager, after) in [("dittofs-operator", "1025Mi"), ("manager", "5Gi")] {
        run(async move {
            let (bench, address) = at_rest().await;
            class(&bench, true);
            bench.api.put(Kind::Claim, claim("metadata-files-0", "1Gi"));
            asked_by(&bench, manager, "5Gi");
            address.do_send(poke(CauseKind::ObjectChanged));
            pass(1.0).await;
            assert_eq!(asks(&bench, "metadata-files-0"), after, "{manager}");
        });
    }
}

#[test]
fn a_class_that_does_not_allow_it_is_told_once_and_looked_at_again_only_when_something_changes() {
    run(async {
        let (bench, address) = with_claims().await;
        class(&bench, false);
        wish(&bench, &address, "2Gi").await;
        let why = refused(&bench)["metadata"].clone();
        assert!(why.contains("StorageClass fast does not allow expansion"), "{why}");
        assert!(why.contains("set spec.storage.metadataSize back to 1Gi"), "{why}");
        let asked = bench.api.asked().len();
        for _ in 0..20 {
            address.do_send(poke(CauseKind::ObjectChanged));
            pass(10.0).await;
        }
        assert_eq!(bench.api.asked().len(), asked, "nobody is asked again");
        assert_eq!(bench.api.count("PATCH PersistentVolumeClaim"), 0);
        let events = bench.api.reasons().into_iter().filter(|reason| reason == "VolumeExpansionFailed").count();
        assert!((1..=3).contains(&events), "{events} events in 200 s");

        class(&bench, true);
        address.do_send(poke(CauseKind::Resync));
        pass(1.0).await;
        assert_eq!(asks(&bench, "metadata-files-0"), "2Gi");
        assert!(refused(&bench).is_empty());
    });
}

#[test]
fn an_operator_that_may_not_see_classes_leaves_the_word_to_the_api_server() {
    run(async {
        let (bench, address) = with_claims().await;
        bench.api.fail(usize::MAX, "GET StorageClass", Fault::Status(403, "Forbidden"));
        bench.api.fail(1, "PATCH PersistentVolumeClaim", Fault::Status(403, "Forbidden"));
        wish(&bench, &address, "2Gi").await;
        assert!(refused(&bench)["metadata"].contains("403 Forbidden"), "{:?}", refused(&bench));
        address.do_send(poke(CauseKind::ObjectChanged));
        pass(60.0).await;
        assert_eq!(bench.api.count("PATCH PersistentVolumeClaim"), 1, "not tried again for that");
        address.do_send(poke(CauseKind::Resync));
        pass(1.0).await;
        assert_eq!(asks(&bench, "metadata-files-0"), "2Gi");
    });
}

#[test]
fn a_claim_is_written_only_as_it_was_read_and_a_busy_api_server_is_asked_again() {
    run(async {
        let (bench, address) = with_claims().await;
        // Somebody lets it grow further just before: theirs stands.
        let raced = |claim: &mut Value| claim["spec"]["resources"]["requests"]["storage"] = json!("5Gi");
        bench.api.fail(1, "PATCH PersistentVolumeClaim", Fault::Raced(Box::new(raced)));
        wish(&bench, &address, "9Gi").await;
        assert_eq!(asks(&bench, "metadata-files-0"), "9Gi");
        assert_eq!(bench.api.count("PATCH PersistentVolumeClaim"), 2, "the first met another version");
        bench.sync();
        bench.api.fail(2, "PATCH PersistentVolumeClaim", Fault::Status(500, "InternalError"));
        wish(&bench, &address, "10Gi").await;
        pass(10.0).await;
        assert_eq!(asks(&bench, "metadata-files-0"), "10Gi", "tried again by itself");
    });
}

#[test]
fn claims_that_only_look_like_ours_are_left_alone() {
    run(async {
        let (bench, address) = with_claims().await;
        for name in ["backup-files-0", "metadata-files-1", "metadata-other-0", "content-files-0"] {
            bench.api.put(Kind::Claim, claim(name, "1Gi"));
        }
        bench.sync();
        wish(&bench, &address, "2Gi").await;
        assert_eq!(bench.api.count("PATCH PersistentVolumeClaim"), 1);
        assert_eq!(bench.api.count("PATCH PersistentVolumeClaim metadata-files-0"), 1);

        // One of the right name without our labels is in no cache.
        bench.api.change(Kind::Claim, "metadata-files-0", |claim| claim["metadata"]["labels"] = json!({}));
        bench.sync();
        wish(&bench, &address, "3Gi").await;
        assert_eq!(asks(&bench, "metadata-files-0"), "2Gi");
        assert!(refused(&bench)["metadata"].contains("labels"), "{:?}", refused(&bench));
    });
}

#[test]
fn a_stateful_set_that_is_not_ours_or_a_server_that_goes_resizes_nothing() {
    run(async {
        let (bench, address) = with_claims().await;
        bench.api.change(Kind::StatefulSet, "files", |set| set["metadata"]["ownerReferences"] = json!([]));
        wish(&bench, &address, "2Gi").await;
        assert_eq!(bench.api.count("PATCH PersistentVolumeClaim"), 0);
    });
    run(async {
        let (bench, address) = with_claims().await;
        let gone = json!("2026-01-01T00:00:00Z");
        bench.api.change(Kind::DittoServer, "files", |server| server["metadata"]["deletionTimestamp"] = gone);
        wish(&bench, &address, "2Gi").await;
        assert_eq!(bench.api.count("PATCH PersistentVolumeClaim"), 0);
    });
}

#[test]
fn a_change_of_storage_that_an_older_crd_let_through_leaves_the_stateful_set_alone() {
    run(async {
        let (bench, address) = with_claims().await;
        let writes = bench.api.writes();
        bench.edit(|spec| spec["storage"]["contentSize"] = json!("1Gi"));
        address.do_send(hashed(2, "h2"));
        pass(5.0).await;
        assert_eq!(bench.api.writes(), writes);
        let problem = last_fact(&bench).problem.unwrap();
        assert!(problem.contains("spec.storage.contentSize was unset and is now 1Gi"), "{problem}");
        assert!(problem.contains("set the old value again"), "{problem}");
        bench.edit(|spec| spec["storage"]["contentSize"] = Value::Null);
        address.do_send(hashed(3, "h3"));
        pass(5.0).await;
        assert_eq!(last_fact(&bench).problem, None);
    });
}

/// What was last said of missing classes.
fn classless(bench: &Bench) -> Vec<String> {
    let facts = bench.status.facts();
    let found = facts.into_iter().rev().find_map(|fact| match fact {
        Fact::Volumes(VolumesFact { classless, .. }) => Some(classless),
        _ => None,
    });
    found.unwrap_or_default()
}

#[test]
fn a_missing_class_is_said_at_once_holds_nothing_back_and_is_found_when_it_arrives() {
    run(async {
        let bench = Bench::new().and_server(|spec| spec["storage"]["storageClassName"] = json!("fast"));
        let lifeline = bench.lifeline(Role::PortReconciler);
        let address = PortReconciler::new(key(), bench.deps.clone(), bench.status.recipient(), lifeline).start();
        address.do_send(poke(CauseKind::Start));
        pass(0.5).await;
        let told = classless(&bench);
        assert_eq!(told.len(), 1, "{told:?}");
        for part in [
            "spec.storage.storageClassName is \"fast\"",
            "metadata-files-0",
            "controlplane-files-0",
            "create the StorageClass",
        ] {
            assert!(told[0].contains(part), "{part}: {told:?}");
        }
        address.do_send(hashed(1, "h1"));
        pass(1.0).await;
        assert!(bench.api.find(Kind::StatefulSet, "files").is_some(), "it is made all the same");
        let events = || bench.api.reasons().into_iter().filter(|reason| reason == "StorageClassNotFound").count();
        assert_eq!(events(), 1);

        // Volumes made by hand bind claims of a class that is in nobody's list.
        for name in ["metadata-files-0", "controlplane-files-0"] {
            let mut claim = claim(name, "1Gi");
            claim["status"] = json!({"phase": if name.starts_with("metadata") { "Bound" } else { "Pending" }});
            bench.api.put(Kind::Claim, claim);
        }
        bench.sync();
        address.do_send(poke(CauseKind::ObjectChanged));
        pass(2.0).await;
        let told = classless(&bench);
        assert!(told.len() == 1 && !told[0].contains("metadata-files-0"), "{told:?}");

        class(&bench, true);
        pass(15.0).await;
        assert_eq!(classless(&bench), Vec::<String>::new(), "looked for again by itself");
        let asked = bench.api.asked().len();
        bench.api.change(Kind::Claim, "controlplane-files-0", |claim| claim["status"]["phase"] = json!("Bound"));
        bench.sync();
        for _ in 0..5 {
            address.do_send(poke(CauseKind::ObjectChanged));
            pass(60.0).await;
        }
        assert_eq!(bench.api.asked().len(), asked, "a server with its volumes asks nothing");
    });
}

#[test]
fn a_claim_without_our_labels_that_has_its_volume_waits_for_no_class() {
    run(async {
        let (bench, address) = at_rest().await;
        bench.edit(|spec| spec["storage"]["storageClassName"] = json!("gone"));
        for name in ["metadata-files-0", "controlplane-files-0"] {
            let mut bound = claim(name, "1Gi");
            bound["metadata"]["labels"] = json!({});
            bench.api.put(Kind::Claim, bound);
        }
        bench.sync();
        address.do_send(changed());
        pass(2.0).await;
        assert_eq!(classless(&bench), Vec::<String>::new());
        assert!(!bench.api.reasons().contains(&"StorageClassNotFound".to_owned()));
    });
}
