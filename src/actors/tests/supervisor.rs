//! Supervisor: families, lives, the restart budget, who hears of what, and the end.
//!
//! Its watcher sees nothing: the tests fill the caches and say what was seen. The servers have no replicas, so that
//! nothing is polled, but where a test is about the poller.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::actors::heart::Standstill;
use crate::actors::testing::api::Fault;
use crate::actors::testing::{Bench, ditto_server, eventually, pass, run, silent_client};
use crate::cluster::{Kind, WatchPolicy};
use crate::crd::FINALIZER;
use crate::debug::Debug;

#[path = "supervisor_finalizer.rs"]
mod finalizer;

/// Panics whoever gets it.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
struct Sabotage;

macro_rules! panics_on_sabotage {
    ($($actor:ty),+) => {$(
        impl Handler<Sabotage> for $actor {
            type Result = ();
            fn handle(&mut self, _: Sabotage, _: &mut Self::Context) {
                panic!("sabotaged by a test");
            }
        }
    )+};
}
panics_on_sabotage!(ConfigHasher, AdapterPoller, ServiceReconciler, PortReconciler, StatusReporter, CrWatcher);

/// Panics one child: of that server, or the watcher.
#[derive(Message)]
#[rtype(result = "()")]
struct Hit(&'static str, Role);

impl Handler<Hit> for Supervisor {
    type Result = ();
    fn handle(&mut self, Hit(name, role): Hit, _: &mut Self::Context) {
        if role == Role::CrWatcher {
            self.watcher.as_ref().expect("a watcher").0.do_send(Sabotage);
            return;
        }
        let family = &self.families[&ServerKey::new("team", name)];
        match role {
            Role::ConfigHasher => family.hasher.0.do_send(Sabotage),
            Role::AdapterPoller => family.poller.0.do_send(Sabotage),
            Role::ServiceReconciler => family.services.0.do_send(Sabotage),
            Role::PortReconciler => family.ports.0.do_send(Sabotage),
            Role::StatusReporter => family.status.0.do_send(Sabotage),
            Role::CrWatcher => {}
        }
    }
}

/// The lives of a server's five children, None when it has no family; for no name that of the watcher.
#[derive(Message)]
#[rtype(result = "Option<Vec<u64>>")]
struct Lives(&'static str);

const ROLES: [Role; 5] =
    [Role::ConfigHasher, Role::AdapterPoller, Role::ServiceReconciler, Role::PortReconciler, Role::StatusReporter];

impl Handler<Lives> for Supervisor {
    type Result = Option<Vec<u64>>;
    fn handle(&mut self, Lives(name): Lives, _: &mut Self::Context) -> Self::Result {
        if name.is_empty() {
            return self.watcher.as_ref().map(|(_, life)| vec![*life]);
        }
        let family = self.families.get(&ServerKey::new("team", name))?;
        Some(ROLES.map(|role| family.life(role)).to_vec())
    }
}

struct Setup {
    bench: Bench,
    supervisor: Addr<Supervisor>,
    fatal: UnboundedReceiver<Fatal>,
    heart: Arc<Heart>,
}

impl Setup {
    /// A Supervisor that has seen servers of these names.
    async fn new(servers: &[&str]) -> Self {
        let bench = Bench::new();
        for name in servers {
            bench.api.put(Kind::DittoServer, stopped(name));
        }
        bench.sync();
        let (sender, fatal) = unbounded_channel();
        let heart = Heart::new(bench.deps.origin);
        let watching = Watching { namespace: None, policy: WatchPolicy::default() };
        let supervisor = Supervisor::new(bench.deps.clone(), silent_client(), watching, heart.clone(), sender).start();
        let setup = Self { bench, supervisor, fatal, heart };
        setup.see(Sighting::Resync);
        setup.rest().await;
        // What was made is seen as well, so that status says it.
        setup.see(Sighting::Resync);
        setup.rest().await;
        setup
    }

    fn see(&self, what: Sighting) {
        self.supervisor.do_send(Seen { what, cause: Cause::here(CauseKind::ServerChanged) });
    }

    /// Lets all that was started come to its end; the caches see what was written.
    async fn rest(&self) {
        for _ in 0..3 {
            pass(2.0).await;
            self.bench.sync();
        }
    }

    async fn lives(&self, name: &'static str) -> Option<Vec<u64>> {
        self.supervisor.send(Lives(name)).await.expect("the Supervisor lives")
    }

    /// The requests after the first `n`.
    fn asked_after(&self, n: usize) -> Vec<String> {
        self.bench.api.asked().into_iter().skip(n).map(|(name, _)| name).collect()
    }

    fn asked(&self) -> usize {
        self.bench.api.asked().len()
    }
}

fn stopped(name: &str) -> Value {
    let mut server = ditto_server(name);
    server["spec"]["replicas"] = json!(0);
    server
}

fn key(name: &str) -> ServerKey {
    ServerKey::new("team", name)
}

/// What a family writes at first.
fn first_writes(name: &str) -> Vec<String> {
    let mut all: Vec<String> = [
        "PATCH DittoServer {}",
        "POST ConfigMap {}-config",
        "POST Secret {}-admin-bootstrap-credentials",
        "POST Secret {}-jwt-secret",
        "POST Service {}-api",
        "POST Service {}-file",
        "POST Service {}-headless",
        "POST StatefulSet {}",
    ]
    .map(|text| text.replace("{}", name))
    .to_vec();
    all.sort();
    all
}

fn distinct(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup();
    names
}

#[test]
fn each_server_gets_a_family_and_loses_it_when_it_is_gone() {
    run(async {
        let setup = Setup::new(&["files"]).await;
        assert_eq!(distinct(setup.bench.api.writes()), first_writes("files"));
        let before = setup.asked();
        setup.bench.api.put(Kind::DittoServer, stopped("other"));
        setup.bench.sync();
        setup.see(Sighting::Server(key("other")));
        setup.rest().await;
        let mut written = distinct(setup.asked_after(before));
        written.retain(|name| !name.starts_with("GET "));
        assert_eq!(written, first_writes("other"));
        assert!(setup.asked_after(before).iter().all(|name| name.contains("other")), "the first one notices nothing");

        setup.bench.api.remove(Kind::DittoServer, "other");
        setup.bench.sync();
        setup.see(Sighting::Server(key("other")));
        let before = setup.asked();
        setup.rest().await;
        assert_eq!(setup.lives("other").await, None);
        assert!(setup.lives("files").await.is_some());
        for what in
            [Sighting::StatefulSet(key("other")), Sighting::Service(key("other")), Sighting::ConfigMap(key("other"))]
        {
            setup.see(what);
        }
        setup.rest().await;
        assert_eq!(setup.asked_after(before), Vec::<String>::new());
    });
}

#[test]
fn nothing_is_started_before_all_caches_are_filled() {
    run(async {
        let bench = Bench::new();
        bench.api.put(Kind::DittoServer, stopped("files"));
        let servers = bench.api.all(Kind::DittoServer);
        bench.deps.caches.servers.apply(crate::cluster::WatchEvent::Listed(servers));
        let (sender, _fatal) = unbounded_channel();
        let watching = Watching { namespace: None, policy: WatchPolicy::default() };
        let supervisor =
            Supervisor::new(bench.deps.clone(), silent_client(), watching, Heart::new(bench.deps.origin), sender)
                .start();
        let cause = Cause::here(CauseKind::Resync);
        for what in [Sighting::Server(key("files")), Sighting::Resync] {
            supervisor.do_send(Seen { what, cause: cause.clone() });
        }
        pass(5.0).await;
        assert!(bench.api.asked().is_empty());
        bench.sync();
        supervisor.do_send(Seen { what: Sighting::Resync, cause });
        pass(5.0).await;
        assert_eq!(distinct(bench.api.writes()), first_writes("files"));
    });
}

#[test]
fn another_uid_is_another_server_and_gets_another_family() {
    run(async {
        let setup = Setup::new(&["files"]).await;
        let before = setup.lives("files").await.expect("a family");
        setup.bench.api.remove(Kind::DittoServer, "files");
        let mut again = stopped("files");
        again["metadata"]["uid"] = json!("another");
        setup.bench.api.put(Kind::DittoServer, again);
        setup.bench.sync();
        setup.see(Sighting::Server(key("files")));
        setup.rest().await;
        let after = setup.lives("files").await.expect("a family");
        assert!(after.iter().all(|life| !before.contains(life)), "{before:?} {after:?}");
    });
}

#[test]
fn a_panicked_child_comes_back_wired_and_informed_and_no_sibling_is_started_anew() {
    for (role, index) in
        [(Role::ConfigHasher, 0), (Role::ServiceReconciler, 2), (Role::PortReconciler, 3), (Role::StatusReporter, 4)]
    {
        run(async move {
            let setup = Setup::new(&["files", "other"]).await;
            let (before, others) = (setup.lives("files").await.expect("a family"), setup.lives("other").await);
            let asked = setup.asked();
            setup.supervisor.do_send(Hit("files", role));
            setup.rest().await;
            let after = setup.lives("files").await.expect("a family");
            for i in 0..ROLES.len() {
                assert_eq!(before[i] != after[i], i == index, "{role:?}: {before:?} {after:?}");
            }
            assert_eq!(setup.lives("other").await, others);
            assert!(
                setup.asked_after(asked).iter().all(|name| !name.contains("other")),
                "the other server notices nothing"
            );
            let written: Vec<String> =
                setup.asked_after(asked).into_iter().filter(|name| !name.starts_with("GET ")).collect();
            assert_eq!(written, Vec::<String>::new(), "{role:?}: nothing is written anew");

            // Hash, ports, Services and facts find their way through the new one.
            setup.bench.api.change(Kind::DittoServer, "files", |server| {
                server["spec"]["replicas"] = json!(1);
                server["spec"]["image"] = json!("dittofs:2");
                server["spec"]["service"] = json!({"type": "NodePort"});
            });
            setup.bench.api.fail(usize::MAX, "GET Secret files-operator-credentials", Fault::Hang);
            setup.bench.sync();
            setup.see(Sighting::Server(key("files")));
            setup.rest().await;
            let set = setup.bench.api.get(Kind::StatefulSet, "files");
            assert_eq!(set["spec"]["template"]["spec"]["containers"][0]["image"], "dittofs:2", "{role:?}");
            assert_eq!(setup.bench.api.get(Kind::Service, "files-file")["spec"]["type"], "NodePort", "{role:?}");
            let status = setup.bench.api.get(Kind::DittoServer, "files")["status"].clone();
            assert_eq!(status["observedGeneration"], 2, "{role:?}");
        });
    }
}

#[test]
fn what_only_a_sibling_knows_is_sent_again_to_the_one_that_came_back() {
    run(async {
        let setup = Setup::new(&["files"]).await;
        setup.supervisor.do_send(Hit("files", Role::PortReconciler));
        setup.rest().await;
        // The StatefulSet goes: only a reconciler that knows the hash can make it again.
        setup.bench.api.remove(Kind::StatefulSet, "files");
        setup.bench.sync();
        setup.see(Sighting::StatefulSet(key("files")));
        setup.rest().await;
        assert!(setup.bench.api.find(Kind::StatefulSet, "files").is_some());
    });
}

#[test]
fn a_watcher_that_panicked_comes_back_and_the_families_stay() {
    run(async {
        let setup = Setup::new(&["files"]).await;
        let (watcher, family) = (setup.lives("").await, setup.lives("files").await);
        setup.supervisor.do_send(Hit("", Role::CrWatcher));
        pass(1.0).await;
        assert_ne!(setup.lives("").await, watcher);
        assert_eq!(setup.lives("files").await, family);
    });
}

#[test]
fn the_delays_before_a_new_life_grow() {
    run(async {
        let setup = Setup::new(&["files"]).await;
        let mut delays = Vec::new();
        for _ in 0..5 {
            let before = setup.lives("files").await.expect("a family")[4];
            let start = Instant::now();
            setup.supervisor.do_send(Hit("files", Role::StatusReporter));
            while setup.lives("files").await.expect("a family")[4] == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            delays.push(start.elapsed().as_secs_f64());
        }
        let mut plain = 0.2;
        for delay in &delays {
            assert!(*delay >= plain / 2.0 && *delay <= plain + 0.02, "{delays:?}");
            plain *= 2.0;
        }
    });
}

#[test]
fn the_sixth_end_within_a_minute_is_fatal_and_names_the_actor() {
    run(async {
        let mut setup = Setup::new(&["files"]).await;
        for n in 1..=6 {
            assert!(setup.fatal.try_recv().is_err(), "before end {n}");
            setup.supervisor.do_send(Hit("files", Role::ConfigHasher));
            pass(7.0).await;
        }
        assert_eq!(setup.fatal.try_recv().expect("fatal"), Fatal::BudgetSpent("config-hasher team/files".to_owned()));
    });
}

#[test]
fn ends_that_lie_a_minute_back_are_forgotten_and_each_child_has_its_own_budget() {
    run(async {
        let mut setup = Setup::new(&["files", "other"]).await;
        for _ in 0..20 {
            setup.supervisor.do_send(Hit("files", Role::ConfigHasher));
            pass(13.0).await;
        }
        for _ in 0..3 {
            for (name, role) in
                [("files", Role::PortReconciler), ("other", Role::PortReconciler), ("files", Role::StatusReporter)]
            {
                setup.supervisor.do_send(Hit(name, role));
            }
            pass(5.0).await;
        }
        assert!(setup.fatal.try_recv().is_err());
    });
}

#[test]
fn the_end_of_a_family_that_was_stopped_is_no_surprise() {
    run(async {
        let mut setup = Setup::new(&["files"]).await;
        let lives = setup.lives("files").await.expect("a family");
        setup.bench.api.remove(Kind::DittoServer, "files");
        setup.bench.sync();
        setup.see(Sighting::Server(key("files")));
        // Ends that come late, and one of a life that nobody knows.
        for _ in 0..10 {
            for (role, life) in ROLES.into_iter().zip(&lives) {
                setup.supervisor.do_send(ChildEnded { key: Some(key("files")), role, life: *life, panicked: true });
            }
        }
        setup.rest().await;
        assert_eq!(setup.lives("files").await, None);
        assert!(setup.fatal.try_recv().is_err());
        // Its successor has a budget of its own and is not touched by them.
        setup.bench.api.put(Kind::DittoServer, stopped("files"));
        setup.bench.sync();
        setup.see(Sighting::Server(key("files")));
        setup.rest().await;
        let successor = setup.lives("files").await;
        setup.supervisor.do_send(ChildEnded {
            key: Some(key("files")),
            role: ROLES[0],
            life: lives[0],
            panicked: true,
        });
        setup.rest().await;
        assert_eq!(setup.lives("files").await, successor);
    });
}

#[test]
fn a_change_of_status_alone_reaches_the_status_reporter_only() {
    run(async {
        let setup = Setup::new(&["files"]).await;
        let before = setup.asked();
        setup.bench.api.change(Kind::DittoServer, "files", |server| server["status"]["phase"] = json!("Imagined"));
        setup.bench.sync();
        setup.see(Sighting::Server(key("files")));
        setup.rest().await;
        assert_eq!(setup.asked_after(before), ["PATCH DittoServer files"]);
        // The hasher reads its Secrets on every run: it would have been seen.
        setup
            .bench
            .api
            .change(Kind::DittoServer, "files", |server| server["spec"]["logging"] = json!({"level": "DEBUG"}));
        setup.bench.sync();
        setup.see(Sighting::Server(key("files")));
        setup.rest().await;
        assert!(setup.asked_after(before).iter().any(|name| name == "GET Secret files-jwt-secret"));
    });
}

#[test]
fn a_secret_reaches_exactly_the_servers_that_name_it() {
    run(async {
        let setup = Setup::new(&["files", "other", "third"]).await;
        for name in ["files", "other"] {
            setup.bench.api.change(Kind::DittoServer, name, |server| {
                server["spec"]["identity"] = json!({"jwt": {"secretRef": {"name": "shared", "key": "k"}}});
            });
            setup.bench.sync();
            setup.see(Sighting::Server(key(name)));
        }
        setup.rest().await;
        let before = setup.asked();
        setup.see(Sighting::Secret("team".to_owned(), "unrelated".to_owned()));
        setup.see(Sighting::Secret("elsewhere".to_owned(), "shared".to_owned()));
        setup.rest().await;
        assert_eq!(setup.asked_after(before), Vec::<String>::new());

        let readers = |from: usize| {
            let mut names = setup.asked_after(from);
            names.retain(|name| name.ends_with("-admin-bootstrap-credentials"));
            distinct(names)
        };
        setup.see(Sighting::Secret("team".to_owned(), "shared".to_owned()));
        setup.rest().await;
        assert_eq!(
            readers(before),
            ["files", "other"].map(|name| format!("GET Secret {name}-admin-bootstrap-credentials"))
        );

        // A server that names it no longer hears no more of it.
        setup.bench.api.change(Kind::DittoServer, "other", |server| server["spec"]["identity"] = json!({}));
        setup.bench.sync();
        setup.see(Sighting::Server(key("other")));
        setup.rest().await;
        let before = setup.asked();
        setup.see(Sighting::Secret("team".to_owned(), "shared".to_owned()));
        setup.rest().await;
        assert_eq!(readers(before), ["GET Secret files-admin-bootstrap-credentials"]);
    });
}

#[test]
fn a_stateful_set_that_becomes_ready_has_the_server_polled_at_once_and_once_only() {
    run(async {
        let setup = Setup::new(&[]).await;
        let mut server = ditto_server("files");
        server["spec"]["adapterDiscovery"]["pollingInterval"] = json!("1h");
        setup.bench.api.put(Kind::DittoServer, server);
        // Each poll begins with this read, and none gets further.
        let poll = "GET Secret files-operator-credentials";
        setup.bench.api.fail(usize::MAX, poll, Fault::Status(403, "Forbidden"));
        setup.bench.sync();
        setup.see(Sighting::Server(key("files")));
        setup.rest().await;
        // Let the backoff grow: the next attempt of its own is minutes away.
        pass(1800.0).await;
        let before = setup.bench.api.count(poll);
        pass(100.0).await;
        assert_eq!(setup.bench.api.count(poll), before, "quiet");
        let ready = |replicas: i64| {
            setup
                .bench
                .api
                .change(Kind::StatefulSet, "files", |set| set["status"] = json!({"readyReplicas": replicas}));
            setup.bench.sync();
            setup.see(Sighting::StatefulSet(key("files")));
        };
        ready(0);
        pass(0.01).await;
        assert_eq!(setup.bench.api.count(poll), before);
        ready(1);
        pass(0.01).await;
        assert_eq!(setup.bench.api.count(poll), before + 1);
        ready(2);
        setup.see(Sighting::StatefulSet(key("files")));
        pass(0.01).await;
        assert_eq!(setup.bench.api.count(poll), before + 1, "it was ready already");
        ready(0);
        pass(0.01).await;
        ready(1);
        pass(0.01).await;
        assert_eq!(setup.bench.api.count(poll), before + 2, "it came back");
    });
}

#[test]
fn the_shutdown_waits_for_the_job_under_way_and_starts_nothing_new() {
    run(async {
        let setup = Setup::new(&["files"]).await;
        setup.bench.api.fail(1, "PUT StatefulSet", Fault::Late(Duration::from_secs(5)));
        setup.bench.api.change(Kind::DittoServer, "files", |server| server["spec"]["image"] = json!("dittofs:2"));
        setup.bench.sync();
        setup.see(Sighting::Server(key("files")));
        eventually("the write is under way", || setup.bench.api.count("PUT StatefulSet") == 1).await;
        pass(1.5).await;
        setup.supervisor.do_send(Shutdown);
        let before = setup.asked();
        pass(0.1).await;
        setup.bench.api.change(Kind::DittoServer, "files", |server| server["spec"]["image"] = json!("dittofs:3"));
        setup.bench.sync();
        setup.see(Sighting::Server(key("files")));
        assert!(!setup.bench.deps.gate.drained(Duration::from_secs(1)).await, "one is under way");
        assert!(setup.bench.deps.gate.drained(Duration::from_secs(10)).await);
        assert_eq!(setup.asked_after(before), Vec::<String>::new());
        assert_eq!(setup.lives("").await, None, "the watcher is stopped and not started anew");
        pass(60.0).await;
        assert_eq!(setup.asked_after(before), Vec::<String>::new(), "not later either");
    });
}

#[test]
fn a_resync_looks_at_everything_and_heals_what_a_lost_event_left_behind() {
    run(async {
        let setup = Setup::new(&["files"]).await;
        setup.bench.api.remove(Kind::Service, "files-api");
        setup.bench.api.remove(Kind::StatefulSet, "files");
        setup.bench.api.put(Kind::DittoServer, stopped("lost"));
        setup.bench.sync();
        setup.see(Sighting::Resync);
        setup.rest().await;
        assert!(setup.bench.api.find(Kind::Service, "files-api").is_some());
        assert!(setup.bench.api.find(Kind::StatefulSet, "files").is_some());
        assert!(setup.bench.api.find(Kind::StatefulSet, "lost").is_some());
        setup.bench.api.remove(Kind::DittoServer, "lost");
        setup.bench.sync();
        setup.see(Sighting::Resync);
        setup.rest().await;
        assert_eq!(setup.lives("lost").await, None);
    });
}

impl Setup {
    /// Changes a server as somebody else would, and has it seen.
    fn change(&self, name: &'static str, change: impl FnOnce(&mut Value)) {
        self.bench.api.change(Kind::DittoServer, name, change);
        self.bench.sync();
        self.see(Sighting::Server(key(name)));
    }

    fn finalizers(&self, name: &str) -> Value {
        self.bench.api.get(Kind::DittoServer, name)["metadata"]["finalizers"].clone()
    }

    /// Writes of the finalizers so far.
    fn finalizer_writes(&self, name: &str) -> usize {
        let patches = self.bench.api.requests(&format!("PATCH DittoServer {name}"));
        patches.iter().filter(|asked| asked.content_type == "application/json-patch+json").count()
    }

    /// Gives the server a pod, and an account that was made at some time.
    fn inhabited(&self, name: &'static str) {
        self.bench.api.change(Kind::StatefulSet, name, |set| set["status"] = json!({"replicas": 1}));
        let owner = json!([{"uid": format!("uid-{name}"), "controller": true}]);
        let secret = format!("{name}-operator-credentials");
        let metadata = json!({"name": secret, "ownerReferences": owner});
        self.bench.api.put(Kind::Secret, json!({"metadata": metadata, "data": {"password": "eA=="}}));
        self.bench.sync();
    }

    fn told(&self, reason: &str) -> Vec<String> {
        let events = self.bench.api.events();
        events.into_iter().filter(|(known, _)| known == reason).map(|(_, note)| note).collect()
    }
}

#[test]
fn nothing_of_a_paused_server_is_written_but_its_status_and_the_end_of_the_pause_brings_it_at_once() {
    run(async {
        let setup = Setup::new(&["files"]).await;
        let paused = |value: Value| {
            move |server: &mut Value| server["metadata"]["annotations"] = json!({"dittofs.io/paused": value})
        };
        setup.change("files", paused(json!("true")));
        setup.rest().await;
        let before = setup.asked();
        setup.change("files", |server| {
            server["spec"]["service"] = json!({"type": "NodePort"});
            server["spec"]["image"] = json!("dittofs:2");
            server["metadata"]["finalizers"] = json!([]);
        });
        setup.bench.api.remove(Kind::Service, "files-headless");
        setup.bench.sync();
        setup.see(Sighting::Service(key("files")));
        for _ in 0..20 {
            setup.rest().await;
        }
        let mut written = distinct(setup.asked_after(before));
        written.retain(|name| !name.starts_with("GET "));
        assert_eq!(written, ["PATCH DittoServer files"]);
        assert_eq!(setup.finalizers("files"), json!([]));
        let status = setup.bench.api.get(Kind::DittoServer, "files")["status"].clone();
        let conditions = status["conditions"].as_array().expect("conditions");
        let message = conditions.iter().find(|made| made["type"] == "Paused").expect("Paused")["message"].to_string();
        for part in [
            "replace Service files-api",
            "NodePort",
            "create Service files-headless",
            "replace StatefulSet files",
            "dittofs:2",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert_eq!(status["observedGeneration"], 1, "nothing of it is applied");
        assert!(setup.told("ReconcileFailed").is_empty());

        let start = Instant::now();
        setup.change("files", paused(json!("false")));
        eventually("it is done", || setup.bench.api.find(Kind::Service, "files-headless").is_some()).await;
        eventually("it is done", || setup.bench.api.get(Kind::Service, "files-file")["spec"]["type"] == "NodePort")
            .await;
        assert!(start.elapsed() < Duration::from_secs(2), "at once");
        setup.rest().await;
        assert_eq!(setup.finalizers("files"), json!([FINALIZER]));
        let status = setup.bench.api.get(Kind::DittoServer, "files")["status"].clone();
        assert_eq!(status["observedGeneration"], 2);
        assert!(!status["conditions"].to_string().contains("\"Paused\""), "{status}");
    });
}

#[test]
fn the_heart_beats_and_a_panic_of_the_supervisor_itself_is_fatal() {
    run(async {
        let mut setup = Setup::new(&[]).await;
        let before = setup.heart.last();
        pass(2.0).await;
        let beats = setup.heart.last().saturating_sub(before).as_millis();
        assert!((1500..=2500).contains(&beats), "{beats} ms");
        // A child that is not there: the handler panics.
        setup.supervisor.do_send(Hit("nobody", Role::PortReconciler));
        pass(1.0).await;
        assert_eq!(setup.fatal.try_recv().expect("fatal"), Fatal::SupervisorEnded);
    });
}

/// To a test's victim: take no message any more.
#[derive(Message)]
#[rtype(result = "()")]
struct Block;

impl Handler<Block> for AdapterPoller {
    type Result = ();
    fn handle(&mut self, _: Block, ctx: &mut Self::Context) {
        ctx.wait(actix::fut::wrap_future(std::future::pending()));
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct BlockPollerOf(&'static str);

impl Handler<BlockPollerOf> for Supervisor {
    type Result = ();
    fn handle(&mut self, BlockPollerOf(name): BlockPollerOf, _: &mut Self::Context) {
        if let Some(family) = self.families.get(&key(name)) {
            family.poller.0.do_send(Block);
        }
    }
}

#[test]
fn an_actor_that_takes_no_message_any_more_is_named_and_the_others_answer() {
    run(async {
        let setup = Setup::new(&["files", "other"]).await;
        for _ in 0..120 {
            pass(0.5).await;
            assert_eq!(setup.heart.standstill(), None);
        }
        setup.supervisor.send(BlockPollerOf("other")).await.expect("the Supervisor lives");
        eventually("the one that stopped is found", || setup.heart.standstill().is_some()).await;
        let stopped = setup.heart.standstill().expect("one has stopped");
        let expected = (Role::AdapterPoller, Some(key("other")), 0);
        assert!(
            matches!(&stopped, Standstill::Actor { role, server, others, .. } if (*role, server.clone(), *others) == expected),
            "{stopped}"
        );
        // The picture of the process has a place for it, and all others are in it.
        let debug =
            Debug { deps: setup.bench.deps.clone(), heart: setup.heart.clone(), supervisor: setup.supervisor.clone() };
        let picture = debug.state().await;
        let told = picture["standstill"].as_str().unwrap_or_default();
        assert!(told.starts_with("the actor adapter-poller of team/other has not answered for"), "{told}");
        assert_eq!(picture["servers"]["team/other"]["adapter-poller"], json!({"error": "no answer"}));
        assert_eq!(picture["servers"]["team/files"]["adapter-poller"]["slot"], "idle");
        for role in ["config-hasher", "service-reconciler", "port-reconciler", "status-reporter"] {
            assert_eq!(picture["servers"]["team/other"][role]["slot"], "idle", "{picture}");
        }
        // With its server it is gone for good.
        setup.bench.api.remove(Kind::DittoServer, "other");
        setup.bench.sync();
        setup.see(Sighting::Server(key("other")));
        setup.rest().await;
        assert_eq!(setup.heart.standstill(), None);
    });
}
