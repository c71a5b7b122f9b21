//! Supervisor: the finalizer, and what a server's deletion waits for.

use super::*;

const THEIRS: &str = "example.com/theirs";

fn deleted(server: &mut Value) {
    server["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
}

#[test]
fn every_live_server_gets_our_finalizer_once_beside_those_of_others() {
    run(async {
        let setup = Setup::new(&["files"]).await;
        assert_eq!(setup.finalizers("files"), json!([FINALIZER]));
        assert_eq!(setup.finalizer_writes("files"), 1);
        let mut other = stopped("other");
        other["metadata"]["finalizers"] = json!([THEIRS]);
        setup.bench.api.put(Kind::DittoServer, other);
        // Somebody changes it in between, twice; then the API server is out of order.
        let race = || {
            Box::new(|server: &mut Value| {
                server["metadata"]["labels"] = json!({"a": server["metadata"]["resourceVersion"]});
            })
        };
        setup.bench.api.fail(2, "PATCH DittoServer other", Fault::Raced(race()));
        setup.bench.api.fail(2, "PATCH DittoServer other", Fault::Status(500, "InternalError"));
        setup.bench.sync();
        setup.see(Sighting::Server(key("other")));
        for _ in 0..5 {
            setup.rest().await;
        }
        assert_eq!(setup.finalizers("other"), json!([THEIRS, FINALIZER]));
        let written = setup.finalizer_writes("other");
        setup.see(Sighting::Resync);
        setup.rest().await;
        assert_eq!(setup.finalizer_writes("other"), written);

        // One that carries it already, one that is being deleted, and one whose spec is bad are left as they are.
        let mut known = stopped("known");
        known["metadata"]["finalizers"] = json!([FINALIZER, THEIRS]);
        let mut leaving = stopped("leaving");
        leaving["metadata"]["finalizers"] = json!([THEIRS]);
        deleted(&mut leaving);
        let mut broken = stopped("broken");
        broken["spec"]["replicas"] = json!("many");
        for server in [known, leaving, broken] {
            setup.bench.api.put(Kind::DittoServer, server);
        }
        setup.bench.sync();
        for name in ["known", "leaving", "broken"] {
            setup.see(Sighting::Server(key(name)));
        }
        setup.rest().await;
        assert_eq!(["known", "leaving", "broken"].map(|name| setup.finalizer_writes(name)), [0, 0, 0]);
    });
}

#[test]
fn who_takes_our_finalizer_off_again_and_again_meets_growing_pauses() {
    run(async {
        let setup = Setup::new(&["files"]).await;
        let mut waits = Vec::new();
        for _ in 0..5 {
            setup.change("files", |server| server["metadata"]["finalizers"] = json!([]));
            let start = Instant::now();
            let end = start + Duration::from_mins(3);
            while setup.finalizers("files") != json!([FINALIZER]) && Instant::now() < end {
                pass(0.25).await;
                setup.bench.sync();
            }
            waits.push(start.elapsed().as_secs());
            setup.see(Sighting::Server(key("files")));
            pass(0.1).await;
        }
        assert!(waits[4] >= 10 && waits[4] < 60, "{waits:?}");
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]), "{waits:?}");
    });
}

#[test]
fn a_server_without_a_pod_is_released_at_once_and_the_finalizers_of_others_stay() {
    run(async {
        let setup = Setup::new(&["files"]).await;
        setup.bench.api.fail(2, "PATCH DittoServer", Fault::Status(500, "InternalError"));
        setup.change("files", |server| {
            server["metadata"]["finalizers"] = json!([THEIRS, FINALIZER]);
            deleted(server);
        });
        setup.rest().await;
        assert_eq!(setup.finalizers("files"), json!([THEIRS]));
        assert_eq!(setup.told("Deleting").len(), 1);
        assert!(setup.told("CleanupTimeout").is_empty());
        assert_eq!(setup.bench.api.count("GET PerconaPGCluster"), 0, "it never had a database");
        let before = setup.asked();
        setup.see(Sighting::Server(key("files")));
        setup.rest().await;
        assert!(
            setup.asked_after(before).iter().all(|name| !name.starts_with("PATCH DittoServer")),
            "released is released"
        );
    });
}

#[test]
fn an_account_that_cannot_be_removed_is_given_up_a_minute_after_the_first_attempt() {
    run(async {
        let setup = Setup::new(&["files"]).await;
        setup.inhabited("files");
        setup.bench.api.fail(usize::MAX, "GET Secret files-operator-credentials", Fault::Status(500, "InternalError"));
        setup.change("files", deleted);
        let start = Instant::now();
        while setup.bench.api.find(Kind::DittoServer, "files").is_some() {
            assert!(start.elapsed() < Duration::from_mins(2), "never");
            pass(0.5).await;
        }
        let took = start.elapsed().as_secs_f64();
        assert!((59.0..63.0).contains(&took), "{took}");
        let attempts = setup.bench.api.count("GET Secret files-operator-credentials");
        assert!((7..=12).contains(&attempts), "{attempts}");
        let told = setup.told("CleanupTimeout");
        assert!(told.len() == 1 && told[0].contains("the operator's account at the server"), "{told:?}");
    });
}

#[test]
fn a_poller_that_dies_while_it_cleans_up_is_asked_again_and_a_pod_that_goes_ends_the_waiting() {
    run(async {
        let setup = Setup::new(&["files"]).await;
        setup.inhabited("files");
        let read = "GET Secret files-operator-credentials";
        setup.bench.api.fail(usize::MAX, read, Fault::Hang);
        setup.change("files", deleted);
        eventually("it is asked", || setup.bench.api.count(read) == 1).await;
        setup.supervisor.do_send(Hit("files", Role::AdapterPoller));
        eventually("its successor is asked", || setup.bench.api.count(read) == 2).await;
        assert!(setup.bench.api.find(Kind::DittoServer, "files").is_some());
        setup.bench.api.change(Kind::StatefulSet, "files", |set| set["status"] = json!({"replicas": 0}));
        setup.bench.sync();
        setup.see(Sighting::StatefulSet(key("files")));
        eventually("it is released", || setup.bench.api.find(Kind::DittoServer, "files").is_none()).await;
        assert!(setup.told("CleanupTimeout").is_empty());
    });
}

/// A server with a cluster of Percona's operator, without a pod.
async fn with_database() -> Setup {
    let setup = Setup::new(&["files"]).await;
    setup.change("files", |server| server["spec"]["percona"] = json!({"enabled": true}));
    eventually("a cluster", || setup.bench.api.find(Kind::PerconaPgCluster, "files-postgres").is_some()).await;
    setup
}

#[test]
fn a_deletion_waits_until_the_database_is_seen_to_and_no_longer_than_for_anything_else() {
    run(async {
        let setup = with_database().await;
        setup.bench.api.fail(usize::MAX, "GET PerconaPGCluster", Fault::Status(500, "InternalError"));
        setup.change("files", deleted);
        let start = Instant::now();
        while setup.bench.api.find(Kind::DittoServer, "files").is_some() {
            assert!(start.elapsed() < Duration::from_mins(2), "never");
            pass(0.5).await;
        }
        let took = start.elapsed().as_secs_f64();
        assert!((59.0..63.0).contains(&took), "{took}");
        let told = setup.told("CleanupTimeout");
        assert!(told.len() == 1 && told[0].contains("owner reference of the PerconaPGCluster"), "{told:?}");
    });
}

#[test]
fn a_hasher_that_dies_while_it_parts_with_the_database_is_asked_again() {
    run(async {
        let setup = with_database().await;
        let read = "GET PerconaPGCluster";
        setup.bench.api.fail(usize::MAX, read, Fault::Hang);
        setup.rest().await;
        let before = setup.bench.api.count(read);
        setup.change("files", deleted);
        eventually("it is asked", || setup.bench.api.count(read) > before).await;
        let asked = setup.bench.api.count(read);
        setup.supervisor.do_send(Hit("files", Role::ConfigHasher));
        eventually("its successor is asked", || setup.bench.api.count(read) > asked).await;
        assert!(setup.bench.api.find(Kind::DittoServer, "files").is_some());
        setup.bench.api.heal();
        eventually("it is released", || setup.bench.api.find(Kind::DittoServer, "files").is_none()).await;
        assert_eq!(setup.told("PerconaOrphaned").len(), 1);
        assert!(setup.told("CleanupTimeout").is_empty());
    });
}

#[test]
fn an_account_that_was_never_made_is_not_asked_for() {
    run(async {
        let setup = Setup::new(&["files"]).await;
        setup.inhabited("files");
        setup.bench.api.remove(Kind::Secret, "files-operator-credentials");
        setup.change("files", deleted);
        eventually("it is released", || setup.bench.api.find(Kind::DittoServer, "files").is_none()).await;
        assert_eq!(setup.bench.api.count("GET Secret files-operator-credentials"), 1);
    });
}
