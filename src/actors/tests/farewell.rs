//! ConfigHasher: how a server parts with its database, when it is deleted and when `spec.percona` is switched off.

use std::time::Duration;

use actix::prelude::*;
use serde_json::{Value, json};

use crate::actors::config_hasher::ConfigHasher;
use crate::actors::messages::{Cause, CauseKind, Cleaned, Cleanup, Fact, Peers, Role, Stop};
use crate::actors::testing::api::Fault;
use crate::actors::testing::{Bench, Probe, changed, key, pass, run};
use crate::cluster::Kind;
use crate::crd::FINALIZER;
use crate::reconcile::deletion::{Attempt, Duty};

const CLUSTER: &str = "files-postgres";
const GET: &str = "GET PerconaPGCluster";
const PUT: &str = "PUT PerconaPGCluster";

struct Setup {
    bench: Bench,
    cleaned: Probe<Cleaned>,
    address: Addr<ConfigHasher>,
}

fn start(percona: Value) -> Setup {
    let bench = Bench::new().and_server(|spec| spec["percona"] = percona);
    let peers = Peers { hashed: Probe::new().recipient(), observed: Vec::new(), status: bench.status.recipient() };
    let lifeline = bench.lifeline(Role::ConfigHasher);
    let address = ConfigHasher::new(key(), bench.deps.clone(), peers, lifeline).start();
    Setup { bench, cleaned: Probe::new(), address }
}

impl Setup {
    async fn poke(&self) {
        self.address.do_send(changed());
        pass(1.0).await;
    }

    async fn percona(&self, percona: Value) {
        self.bench.edit(|spec| spec["percona"] = percona);
        self.poke().await;
    }

    /// Deletes the server, which our finalizer holds.
    fn delete(&self, finalizers: &[&str]) {
        self.bench.api.change(Kind::DittoServer, "files", |server| {
            server["metadata"]["finalizers"] = json!(finalizers);
            server["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        });
        self.bench.sync();
    }

    fn ask(&self) {
        let uid = "uid-files".to_owned();
        let cause = Cause::here(CauseKind::ServerChanged);
        self.address.do_send(Cleanup { uid, answer: self.cleaned.recipient(), cause });
    }

    /// The last answer, of exactly so many.
    fn answer(&self, count: usize) -> Attempt {
        let got = self.cleaned.got();
        assert_eq!(got.len(), count, "{got:?}");
        let last = got.last().expect("an answer");
        assert_eq!((last.duty, last.uid.as_str()), (Duty::Database, "uid-files"));
        last.attempt.clone()
    }

    fn owners(&self) -> Value {
        self.bench.api.get(Kind::PerconaPgCluster, CLUSTER)["metadata"]["ownerReferences"].clone()
    }

    fn told(&self, reason: &str) -> Vec<String> {
        let events = self.bench.api.events();
        events.into_iter().filter(|(known, _)| known == reason).map(|(_, note)| note).collect()
    }

    /// What was told of the database, oldest first: whether there is one.
    fn databases(&self) -> Vec<bool> {
        let facts = self.bench.status.facts().into_iter();
        facts.filter_map(|fact| if let Fact::Database(fact) = fact { Some(fact.is_some()) } else { None }).collect()
    }
}

#[test]
fn a_database_that_is_switched_off_stays_and_that_is_told_once() {
    run(async {
        let setup = start(json!({"enabled": true}));
        setup.poke().await;
        assert_eq!(setup.bench.api.count("POST PerconaPGCluster"), 1);
        assert_eq!(setup.databases(), [true]);

        // Not while nobody can say what became of it.
        setup.bench.api.fail(2, GET, Fault::Status(500, "InternalError"));
        setup.percona(json!({"enabled": false})).await;
        assert_eq!(setup.databases(), [true, false], "it is tried again by itself");
        let told = setup.told("PerconaOrphaned");
        assert!(told.len() == 1 && told[0].contains("spec.percona is not enabled any more"), "{told:?}");
        let looked = setup.bench.api.count(GET);
        for _ in 0..5 {
            setup.poke().await;
        }
        pass(100.0).await;
        assert_eq!(setup.bench.api.count(GET), looked, "it is looked at no more");
        assert_eq!(setup.bench.api.count(PUT), 0);
        assert_eq!((setup.told("PerconaOrphaned").len(), setup.databases().len()), (1, 2));

        // Taken up again.
        setup.percona(json!({"enabled": true})).await;
        assert_eq!(setup.databases(), [true, false, true]);
        assert_eq!(setup.bench.api.count("POST PerconaPGCluster"), 1);
    });
}

#[test]
fn a_database_that_goes_with_its_server_stays_tied_to_it_when_it_is_switched_off() {
    run(async {
        let setup = start(json!({"enabled": true, "deleteWithServer": true}));
        setup.poke().await;
        assert_eq!(setup.owners()[0]["uid"], "uid-files");
        setup.percona(json!({"enabled": false, "deleteWithServer": true})).await;
        assert_eq!(setup.owners()[0]["uid"], "uid-files");
        assert_eq!(setup.databases(), [true], "status keeps its name");
        assert!(setup.told("PerconaOrphaned").is_empty());
        setup.percona(Value::Null).await;
        assert_eq!(setup.owners(), Value::Null, "nothing asks for its end any more");
        assert_eq!(setup.databases(), [true, false]);
        assert_eq!(setup.told("PerconaOrphaned").len(), 1);
    });
}

#[test]
fn another_life_of_the_operator_lets_go_of_what_status_names_and_asks_for_nothing_else() {
    run(async {
        let setup = start(Value::Null);
        setup.poke().await;
        assert_eq!(setup.bench.api.count(GET), 0, "it never had one");
        assert_eq!(setup.databases(), [] as [bool; 0]);
        let owner = json!([{"kind": "DittoServer", "uid": "uid-files", "controller": true}]);
        let metadata = json!({"name": CLUSTER, "labels": {"instance": "files"}, "ownerReferences": owner});
        setup.bench.api.put(Kind::PerconaPgCluster, json!({"metadata": metadata}));
        setup.bench.api.change(Kind::DittoServer, "files", |server| {
            server["status"] = json!({"perconaClusterName": CLUSTER});
            server["metadata"]["annotations"] = json!({"dittofs.io/paused": "true"});
        });
        setup.bench.sync();
        setup.poke().await;
        assert_eq!(setup.bench.api.count(GET), 0, "paused");
        setup.bench.api.change(Kind::DittoServer, "files", |server| {
            server["metadata"]["annotations"] = json!({});
        });
        setup.bench.sync();
        setup.poke().await;
        assert_eq!(setup.owners(), Value::Null);
        assert_eq!(setup.databases(), [false]);
    });
}

#[test]
fn a_deletion_is_answered_by_a_run_that_begins_after_it_was_asked_for() {
    run(async {
        let setup = start(json!({"enabled": true}));
        setup.bench.api.fail(1, "POST PerconaPGCluster", Fault::Late(Duration::from_secs(3)));
        setup.address.do_send(changed());
        pass(1.0).await;
        setup.delete(&[FINALIZER]);
        setup.ask();
        pass(1.0).await;
        assert_eq!(setup.cleaned.count(), 0, "the run before it may still make one");
        pass(3.0).await;
        assert_eq!(setup.answer(1), Attempt::Done);
        let told = setup.told("PerconaOrphaned");
        assert!(told.len() == 1 && told[0].contains("deleteWithServer is not set"), "{told:?}");
        assert!(
            told[0].contains("kubectl delete perconapgclusters.pgv2.percona.com files-postgres -n team"),
            "{told:?}"
        );
        // The next poke asks for nothing: the Supervisor does, while our finalizer is on.
        let looked = setup.bench.api.count(GET);
        setup.poke().await;
        assert_eq!(setup.bench.api.count(GET), looked);
    });
}

#[test]
fn one_that_is_to_go_is_claimed_and_told_unless_the_deletion_leaves_it_behind() {
    // (finalizers of the server, whether its ConfigMap still has its owner, whether the cluster goes)
    let ways =
        [(vec![FINALIZER], true, true), (vec![FINALIZER, "orphan"], true, false), (vec![FINALIZER], false, false)];
    // Each with a cluster that is not tied to the server yet, and with one that is.
    for ((finalizers, owned, goes), tied) in ways.into_iter().flat_map(|way| [(way.clone(), false), (way, true)]) {
        run(async move {
            let setup = start(json!({"enabled": true, "deleteWithServer": tied}));
            setup.poke().await;
            setup.bench.edit(|spec| spec["percona"]["deleteWithServer"] = json!(true));
            if !owned {
                setup.bench.api.change(Kind::ConfigMap, "files-config", |map| {
                    map["metadata"]["ownerReferences"] = json!([]);
                });
            }
            // Somebody is faster, twice.
            let race = || {
                Box::new(|cluster: &mut Value| {
                    cluster["status"] = json!({"seen": cluster["metadata"]["resourceVersion"]});
                })
            };
            setup.bench.api.fail(2, PUT, Fault::Raced(race()));
            setup.delete(&finalizers);
            setup.ask();
            pass(1.0).await;
            assert_eq!(setup.answer(1), Attempt::Done);
            assert_eq!(setup.owners()[0]["uid"] == "uid-files", goes, "{}", setup.owners());
            assert_eq!(setup.bench.api.count(PUT), if goes == tied { 0 } else { 3 });
            assert_eq!((setup.told("PerconaDeleted").len(), setup.told("PerconaOrphaned").len()), {
                if goes { (1, 0) } else { (0, 1) }
            });
            if !goes {
                assert!(setup.told("PerconaOrphaned")[0].contains("leaves behind"));
            }
        });
    }
}

#[test]
fn a_server_whose_spec_is_not_valid_lets_go_too() {
    run(async {
        let setup = start(json!({"enabled": true, "deleteWithServer": true}));
        setup.poke().await;
        setup.bench.edit(|spec| {
            spec["replicas"] = json!("many");
            spec["percona"]["deleteWithServer"] = json!(false);
        });
        setup.poke().await;
        assert_eq!(setup.owners()[0]["uid"], "uid-files", "nothing of it is changed while it lives");
        setup.delete(&[FINALIZER]);
        setup.ask();
        pass(1.0).await;
        assert_eq!(setup.answer(1), Attempt::Done);
        assert_eq!(setup.owners(), Value::Null);
    });
}

#[test]
fn each_attempt_is_answered_once_however_it_ends() {
    run(async {
        let setup = start(json!({"enabled": true}));
        setup.poke().await;
        setup.delete(&[FINALIZER]);
        setup.bench.api.fail(1, GET, Fault::Status(503, "ServiceUnavailable"));
        setup.ask();
        pass(20.0).await;
        let failed = setup.answer(1);
        assert!(matches!(&failed, Attempt::Failed(why) if why.contains("503")), "{failed:?}");
        assert_eq!(setup.told("PerconaOrphaned").len(), 0);

        // The CRD went meanwhile.
        setup.bench.api.fail(1, GET, Fault::Status(404, ""));
        setup.ask();
        pass(1.0).await;
        assert_eq!(setup.answer(2), Attempt::Done);

        // The actor ends in the middle of it.
        setup.bench.api.fail(1, GET, Fault::Hang);
        setup.ask();
        pass(1.0).await;
        assert_eq!(setup.cleaned.count(), 2);
        setup.address.do_send(Stop);
        pass(1.0).await;
        let cut = setup.answer(3);
        assert!(matches!(&cut, Attempt::Failed(why) if why.contains("before it was done")), "{cut:?}");
    });
}

#[test]
fn where_others_hold_the_server_it_parts_unasked_and_once() {
    run(async {
        let setup = start(json!({"enabled": true, "deleteWithServer": true}));
        setup.poke().await;
        setup.bench.edit(|spec| spec["percona"]["deleteWithServer"] = json!(false));
        setup.delete(&["example.com/theirs"]);
        for _ in 0..3 {
            setup.poke().await;
        }
        assert_eq!(setup.owners(), Value::Null);
        assert_eq!(setup.bench.api.count(PUT), 1);
        assert_eq!(setup.told("PerconaOrphaned").len(), 1);
    });
}
