//! PortReconciler: when the StatefulSet is made, changed and left alone.

use actix::prelude::*;
use serde_json::{Value, json};

use super::observed;
use crate::actors::messages::{Cause, CauseKind, ConfigHashed, Fact, Resend, Role, Stop, Wire};
use crate::actors::messages::{Peers, Report};
use crate::actors::port_reconciler::PortReconciler;
use crate::actors::testing::{Bench, Probe, changed, eventually, key, pass, run};
use crate::build::CONFIG_HASH_ANNOTATION;
use crate::cluster::Kind;
use crate::reconcile::AdapterState::{Passage, Running, Stopped};
use crate::reconcile::stateful_set::HashInput;
use crate::reconcile::status::{PortsFact, VolumesFact};

pub(super) fn start(bench: &Bench) -> Addr<PortReconciler> {
    let lifeline = bench.lifeline(Role::PortReconciler);
    PortReconciler::new(key(), bench.deps.clone(), bench.status.recipient(), lifeline).start()
}

pub(super) fn hashed(generation: i64, hash: &str) -> ConfigHashed {
    let hash = HashInput::Hash(hash.to_owned());
    ConfigHashed { generation, hash, cause: Cause::here(CauseKind::ConfigHashed) }
}

pub(super) fn last_fact(bench: &Bench) -> PortsFact {
    let facts = bench.status.facts();
    let found = facts.into_iter().rev().find_map(|fact| match fact {
        Fact::Ports(fact) => Some(fact),
        _ => None,
    });
    found.expect("a ports fact")
}

/// A bench with a StatefulSet that carries the hash `h1`, seen by the caches, and its reconciler at rest.
pub(super) async fn at_rest() -> (Bench, Addr<PortReconciler>) {
    let bench = Bench::with_server();
    let address = start(&bench);
    address.do_send(hashed(1, "h1"));
    eventually("the StatefulSet is there", || bench.api.find(Kind::StatefulSet, "files").is_some()).await;
    rolled_out(&bench);
    pass(1.0).await;
    (bench, address)
}

/// What the StatefulSet controller says when the pod runs the newest template.
fn rolled_out(bench: &Bench) {
    bench.api.change(Kind::StatefulSet, "files", |set| {
        let generation = set["metadata"]["generation"].clone();
        set["status"] = json!({"observedGeneration": generation, "replicas": 1, "readyReplicas": 1, "updatedReplicas": 1,
            "currentRevision": format!("r{generation}"), "updateRevision": format!("r{generation}")});
    });
    bench.sync();
}

pub(super) fn template_hash(set: &Value) -> &str {
    set["spec"]["template"]["metadata"]["annotations"][CONFIG_HASH_ANNOTATION].as_str().unwrap_or_default()
}

/// Names and numbers of the container ports.
fn ports(set: &Value) -> Vec<(String, u64)> {
    let ports = set["spec"]["template"]["spec"]["containers"][0]["ports"].as_array().cloned().unwrap_or_default();
    let port =
        |port: &Value| Some((port["name"].as_str().unwrap_or_default().to_owned(), port["containerPort"].as_u64()?));
    let mut ports: Vec<_> = ports.iter().filter_map(port).collect();
    ports.sort();
    ports
}

fn owned(list: &[(&str, u64)]) -> Vec<(String, u64)> {
    list.iter().map(|(name, port)| ((*name).to_owned(), *port)).collect()
}

#[test]
fn a_stateful_set_that_is_not_found_is_created_once_the_hash_is_there_and_not_before() {
    run(async {
        let bench = Bench::with_server();
        let address = start(&bench);
        address.do_send(changed());
        pass(60.0).await;
        assert!(bench.api.writes().is_empty(), "{:?}", bench.api.writes());
        assert!(last_fact(&bench).problem.is_some_and(|text| text.contains("the config hash")));

        address.do_send(hashed(1, "h1"));
        pass(60.0).await;
        assert_eq!(bench.api.writes(), ["POST StatefulSet files"]);
        let set = bench.api.get(Kind::StatefulSet, "files");
        assert_eq!((template_hash(&set), &set["spec"]["replicas"]), ("h1", &json!(1)));
        assert_eq!(ports(&set), owned(&[("adapter-nfs", 12049), ("adapter-smb", 1445), ("api", 8080)]));
        assert_eq!(last_fact(&bench), PortsFact { applied: Some(1), deferred: false, problem: None });
        assert_eq!(bench.api.reasons(), ["Created"]);
    });
}

#[test]
fn adapters_that_were_observed_before_the_creation_are_what_the_first_template_declares() {
    run(async {
        let bench = Bench::with_server();
        let address = start(&bench);
        address.do_send(observed(&[("nfs", 2050, Running), ("smb", 1445, Stopped)]));
        address.do_send(hashed(1, "h1"));
        pass(5.0).await;
        assert_eq!(ports(&bench.api.get(Kind::StatefulSet, "files")), owned(&[("adapter-nfs", 2050), ("api", 8080)]));
    });
}

#[test]
fn no_change_no_request_once_the_cache_knows_it_and_no_write_before() {
    run(async {
        let bench = Bench::with_server();
        let address = start(&bench);
        address.do_send(hashed(1, "h1"));
        pass(1.0).await;
        address.do_send(changed());
        address.do_send(observed(&[("nfs", 12049, Running), ("smb", 1445, Running)]));
        pass(5.0).await;
        assert_eq!(bench.api.writes(), ["POST StatefulSet files"], "the cache lags: read, and not written");
        bench.sync();
        let before = bench.api.asked().len();
        // The StatefulSet is known now, and with it that nothing is wrong with its claims.
        let reports = bench.status.count() + 1;
        for _ in 0..10 {
            address.do_send(changed());
            address.do_send(observed(&[("nfs", 12049, Running), ("smb", 1445, Running)]));
            pass(1.0).await;
        }
        assert_eq!(bench.api.asked().len(), before, "not even read");
        assert_eq!(bench.status.count(), reports, "and nothing new to report");
    });
}

#[test]
fn a_hash_of_an_older_generation_is_not_applied_and_image_and_hash_come_in_one_write() {
    run(async {
        let (bench, address) = at_rest().await;
        bench.edit(|spec| spec["image"] = json!("dittofs:2"));
        let version = bench.api.get(Kind::StatefulSet, "files")["metadata"]["resourceVersion"].clone();
        address.do_send(changed());
        pass(5.0).await;
        address.do_send(hashed(1, "h1-again"));
        pass(5.0).await;
        assert_eq!(bench.api.count("PUT"), 0);
        assert_eq!(bench.api.get(Kind::StatefulSet, "files")["metadata"]["resourceVersion"], version);
        assert_eq!(last_fact(&bench).applied, Some(1), "generation 2 is not applied");

        address.do_send(hashed(2, "h2"));
        pass(5.0).await;
        assert_eq!(bench.api.count("PUT StatefulSet files"), 1);
        let set = bench.api.get(Kind::StatefulSet, "files");
        assert_eq!(template_hash(&set), "h2");
        assert_eq!(set["spec"]["template"]["spec"]["containers"][0]["image"], "dittofs:2");
        assert_eq!(last_fact(&bench).applied, Some(2));
    });
}

#[test]
fn a_held_hash_leaves_the_template_alone_and_still_follows_replicas() {
    run(async {
        let (bench, address) = at_rest().await;
        bench.edit(|spec| {
            spec["image"] = json!("dittofs:2");
            spec["replicas"] = json!(0);
        });
        let cause = Cause::here(CauseKind::ConfigHashed);
        address.do_send(ConfigHashed { generation: 2, hash: HashInput::Held, cause });
        pass(5.0).await;
        let set = bench.api.get(Kind::StatefulSet, "files");
        assert_eq!(set["spec"]["replicas"], 0);
        assert_eq!(template_hash(&set), "h1");
        assert_ne!(set["spec"]["template"]["spec"]["containers"][0]["image"], "dittofs:2");
        assert_eq!(last_fact(&bench).applied, None, "the generation is not applied while it is held");
    });
}

#[test]
fn an_adapter_that_stops_takes_its_port_along_keeps_the_others_and_is_held_back_from_the_pod() {
    run(async {
        let (bench, address) = at_rest().await;
        address.do_send(observed(&[("nfs", 12049, Running), ("smb", 1445, Stopped)]));
        pass(5.0).await;
        let set = bench.api.get(Kind::StatefulSet, "files");
        assert_eq!(ports(&set), owned(&[("adapter-nfs", 12049), ("api", 8080)]));
        assert_eq!(set["spec"]["updateStrategy"]["rollingUpdate"]["partition"], 1);
        assert!(last_fact(&bench).deferred);
        let (reason, note) = bench.api.events().pop().expect("an event");
        assert_eq!(reason, "ContainerPortsUpdated");
        assert!(note.contains("adapter-smb") && note.contains("held back"), "{note}");
        let writes = bench.api.count("PUT");

        // A passage keeps what stands there, and makes nothing new.
        bench.sync();
        address.do_send(observed(&[("nfs", 12050, Passage), ("smb", 1445, Passage)]));
        pass(5.0).await;
        assert_eq!(bench.api.count("PUT"), writes);

        // The next change that the server must see rolls both.
        bench.edit(|spec| spec["image"] = json!("dittofs:2"));
        address.do_send(hashed(2, "h2"));
        pass(5.0).await;
        let set = bench.api.get(Kind::StatefulSet, "files");
        assert_eq!(set["spec"]["updateStrategy"]["rollingUpdate"]["partition"], 0);
        assert_eq!((bench.api.count("PUT"), last_fact(&bench).deferred), (writes + 1, false));
    });
}

#[test]
fn an_empty_list_of_adapters_removes_every_adapter_port_and_keeps_the_statics() {
    run(async {
        let (bench, address) = at_rest().await;
        address.do_send(observed(&[]));
        pass(5.0).await;
        assert_eq!(ports(&bench.api.get(Kind::StatefulSet, "files")), owned(&[("api", 8080)]));
    });
}

#[test]
fn a_stateful_set_of_somebody_else_is_left_alone_and_said_and_ours_comes_when_it_is_gone() {
    run(async {
        let bench = Bench::with_server();
        let foreign = json!({"metadata": {"name": "files"}, "spec": {"replicas": 9}});
        let before = bench.api.put(Kind::StatefulSet, foreign);
        let address = start(&bench);
        address.do_send(hashed(1, "h1"));
        pass(120.0).await;
        assert_eq!(bench.api.get(Kind::StatefulSet, "files"), before);
        assert!(bench.api.writes().is_empty());
        assert!(bench.api.reasons().iter().all(|reason| reason == "NotOwned"));
        assert!(last_fact(&bench).problem.is_some_and(|text| text.contains("belongs to somebody else")));
        bench.api.remove(Kind::StatefulSet, "files");
        pass(60.0).await;
        assert_eq!(bench.api.writes(), ["POST StatefulSet files"], "by the retry, without any event");
        assert_eq!(last_fact(&bench).problem, None);
    });
}

#[test]
fn one_that_is_being_deleted_is_waited_for_and_its_successor_is_made() {
    run(async {
        let (bench, address) = at_rest().await;
        bench.api.change(Kind::StatefulSet, "files", |set| {
            set["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        });
        bench.sync();
        address.do_send(changed());
        pass(20.0).await;
        assert_eq!(bench.api.writes(), ["POST StatefulSet files"]);
        assert!(last_fact(&bench).problem.is_some_and(|text| text.contains("is being deleted")));
        bench.api.remove(Kind::StatefulSet, "files");
        bench.sync();
        address.do_send(changed());
        pass(5.0).await;
        assert_eq!(bench.api.writes(), ["POST StatefulSet files"; 2]);
    });
}

#[test]
fn a_server_that_is_gone_or_invalid_or_being_deleted_is_not_acted_upon() {
    run(async {
        let (bench, address) = at_rest().await;
        let before = bench.api.writes();
        bench.edit(|spec| spec["adapterDiscovery"]["pollingInterval"] = json!("soon"));
        address.do_send(hashed(2, "h2"));
        pass(5.0).await;
        bench.edit(|spec| {
            spec["adapterDiscovery"]["pollingInterval"] = json!("1s");
            spec["image"] = json!("dittofs:2");
        });
        bench.api.change(Kind::DittoServer, "files", |server| {
            server["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        });
        bench.sync();
        address.do_send(hashed(3, "h3"));
        pass(5.0).await;
        bench.api.remove(Kind::DittoServer, "files");
        bench.sync();
        address.do_send(hashed(4, "h4"));
        pass(5.0).await;
        assert_eq!(bench.api.writes(), before);
    });
}

#[test]
fn whoever_is_new_is_told_the_last_fact_again_and_a_stopped_reconciler_does_nothing() {
    run(async {
        let (bench, address) = at_rest().await;
        let status: Probe<Report> = Probe::new();
        let (nobody, hashes) = (Vec::new(), Probe::new());
        address.do_send(Wire(Peers { hashed: hashes.recipient(), observed: nobody, status: status.recipient() }));
        address.do_send(Resend);
        pass(1.0).await;
        assert_eq!(status.facts(), [Fact::Ports(PortsFact { applied: Some(1), deferred: false, problem: None })]);
        // Once it has looked at the claims, of them too.
        address.do_send(changed());
        pass(1.0).await;
        address.do_send(Resend);
        pass(1.0).await;
        assert_eq!(status.facts().split_off(1)[1], Fact::Volumes(VolumesFact::default()));
        let writes = bench.api.writes();
        address.do_send(Stop);
        address.do_send(observed(&[]));
        pass(5.0).await;
        assert_eq!(bench.api.writes(), writes);
        assert_eq!(bench.ended.count(), 1, "its end is told");
    });
}
