//! CrWatcher: what it asks for, what it tells, and when. How a watch meets trouble is tried in `cluster/watch_tests`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::actors::messages::Role;
use crate::actors::testing::{Bench, Probe, ditto_server, pass, run};
use crate::cluster::scripted::{Asked, Reply, Server, event, list};

const S: Duration = Duration::from_secs(1);

/// What the API server has for one kind, by the plural in its path.
#[derive(Default)]
struct Script {
    items: Vec<Value>,
    /// How long its first list takes.
    delay: Option<Duration>,
    /// The events of its first watch, each a second after the one before.
    events: Vec<Value>,
}

/// A script of this name: there is no CRD of ServiceMonitors.
const NO_MONITORS: &str = "no servicemonitors";

type Scripts = Arc<Mutex<BTreeMap<String, Script>>>;

struct Setup {
    bench: Bench,
    server: Server,
    scripts: Scripts,
    seen: Probe<Seen>,
    watcher: Addr<CrWatcher>,
}

fn answer(scripts: &Scripts, asked: &Asked) -> Reply {
    let plural = asked.path.rsplit('/').next().unwrap_or_default();
    if asked.path == Kind::DittoServer.discovery_path() {
        return Reply::Json(200, json!({"resources": [{"name": "dittoservers"}]}));
    }
    let mut scripts = scripts.lock().expect("no panic");
    if asked.path == Kind::ServiceMonitor.discovery_path() {
        let missing = scripts.contains_key(NO_MONITORS);
        let found = Reply::Json(200, json!({"resources": [{"name": "servicemonitors"}]}));
        return if missing { Reply::Text(404, "404 page not found\n".to_owned()) } else { found };
    }
    let script = scripts.entry(plural.to_owned()).or_default();
    if asked.is_watch() {
        let mut events: Vec<_> = std::mem::take(&mut script.events).into_iter().map(|event| (S, event)).collect();
        let bookmark = json!({"kind": "X", "apiVersion": "v1", "metadata": {"resourceVersion": "900"}});
        events.push((50 * S, event("BOOKMARK", &bookmark)));
        return Reply::Events(events);
    }
    let reply = Reply::Json(200, list("100", &script.items));
    match script.delay.take() {
        Some(delay) => Reply::Late(delay, Box::new(reply)),
        None => reply,
    }
}

fn start(namespace: Option<&str>, scripts: Vec<(&str, Script)>) -> Setup {
    let bench = Bench::new();
    let scripts: Scripts =
        Arc::new(Mutex::new(scripts.into_iter().map(|(plural, script)| (plural.to_owned(), script)).collect()));
    let answering = scripts.clone();
    let server = Server::new(move |asked, _| answer(&answering, asked));
    let seen = Probe::new();
    let watching = Watching { namespace: namespace.map(str::to_owned), policy: WatchPolicy::default() };
    let lifeline = Lifeline::new(bench.ended.recipient(), None, Role::CrWatcher, 1);
    let watcher = CrWatcher::new(bench.deps.clone(), server.client(), watching, seen.recipient(), lifeline).start();
    Setup { bench, server, scripts, seen, watcher }
}

impl Setup {
    fn sightings(&self) -> Vec<Sighting> {
        self.seen.got().into_iter().map(|seen| seen.what).collect()
    }
    fn resyncs(&self) -> usize {
        self.sightings().iter().filter(|what| **what == Sighting::Resync).count()
    }
}

fn key(name: &str) -> ServerKey {
    ServerKey::new("team", name)
}

/// An object of that name, with a controller of this kind and name.
fn object(name: &str, version: u32, owner: Option<(&str, &str)>) -> Value {
    let owners = owner.map(|(kind, name)| json!([{"apiVersion": "x/v1", "kind": kind, "name": name, "uid": format!("uid-{name}"), "controller": true}]));
    json!({"metadata": {"namespace": "team", "name": name, "uid": format!("uid-of-{name}"),
           "resourceVersion": version.to_string(), "ownerReferences": owners}})
}

fn server(name: &str, version: u32) -> Value {
    let mut server = ditto_server(name);
    server["metadata"]["resourceVersion"] = json!(version.to_string());
    server
}

const OURS: Option<(&str, &str)> = Some(("DittoServer", "files"));

#[test]
fn nobody_is_told_that_all_is_listed_before_every_list_is_complete() {
    run(async {
        let servers = Script { items: vec![server("files", 1)], ..Script::default() };
        let late = Script { items: vec![object("s", 2, OURS)], delay: Some(8 * S), ..Script::default() };
        let setup = start(None, vec![("dittoservers", servers), ("services", late)]);
        pass(7.9).await;
        assert!(!setup.bench.deps.caches.are_synced());
        assert_eq!(setup.resyncs(), 0, "{:?}", setup.sightings());
        pass(0.2).await;
        assert!(setup.bench.deps.caches.are_synced());
        assert_eq!(setup.resyncs(), 1);
        assert_eq!(setup.sightings().last(), Some(&Sighting::Resync));
        assert!(setup.bench.deps.caches.services.get("team", "s").is_some());
    });
}

#[test]
fn each_list_that_follows_tells_a_resync_and_no_object_that_did_not_change() {
    run(async {
        let servers = Script { items: vec![server("files", 1)], ..Script::default() };
        let setup = start(None, vec![("dittoservers", servers)]);
        pass(5.0).await;
        let (before, resyncs) = (setup.sightings().len(), setup.resyncs());
        // A full re-list every ten minutes, give or take a tenth.
        pass(700.0).await;
        let news = setup.sightings().split_off(before);
        let own = news.iter().filter(|what| **what == Sighting::ServiceMonitors).count();
        assert!(news.iter().all(|what| matches!(what, Sighting::Resync | Sighting::ServiceMonitors)), "{news:?}");
        assert_eq!((setup.resyncs() - resyncs, own), (8, 1), "one for each kind");
        // What a lost event left behind is found by the next one.
        setup.scripts.lock().expect("no panic").entry("dittoservers".to_owned()).or_default().items =
            vec![server("lost", 7)];
        let before = setup.sightings().len();
        pass(700.0).await;
        let mut news = setup.sightings().split_off(before);
        news.retain(|what| !matches!(what, Sighting::Resync | Sighting::ServiceMonitors));
        assert_eq!(news, [Sighting::Server(key("lost")), Sighting::Server(key("files"))]);
    });
}

#[test]
fn an_event_is_told_by_the_server_that_it_concerns() {
    run(async {
        let added = |object: Value| event("ADDED", &object);
        let sets = Script {
            events: vec![
                added(object("a-set", 11, OURS)),
                event("DELETED", &object("a-set", 12, OURS)),
                added(object("foreign", 13, None)),
                added(object("theirs", 14, Some(("Other", "x")))),
            ],
            ..Script::default()
        };
        let services = Script {
            events: vec![
                added(object("a-service", 11, OURS)),
                added(object("b", 12, None)),
                added(object("c", 13, Some(("Other", "x")))),
            ],
            ..Script::default()
        };
        let maps = Script {
            events: vec![added(object("a-map", 11, OURS)), added(object("m", 12, None))],
            ..Script::default()
        };
        let policies = Script {
            events: vec![added(object("a-policy", 11, OURS)), added(object("p", 12, None))],
            ..Script::default()
        };
        let monitors = Script { events: vec![added(object("a-monitor", 11, OURS))], ..Script::default() };
        let secrets = Script {
            items: vec![object("known", 5, None)],
            events: vec![added(object("new", 11, None)), event("DELETED", &object("known", 12, None))],
            ..Script::default()
        };
        let setup = start(
            None,
            vec![
                ("statefulsets", sets),
                ("services", services),
                ("configmaps", maps),
                ("secrets", secrets),
                ("networkpolicies", policies),
                ("servicemonitors", monitors),
            ],
        );
        pass(10.0).await;
        let mut told = setup.sightings();
        told.retain(|what| *what != Sighting::Resync);
        let of = |wanted: fn(&Sighting) -> bool| told.iter().filter(|what| wanted(what)).cloned().collect::<Vec<_>>();
        assert_eq!(
            of(|what| matches!(what, Sighting::StatefulSet(_))),
            ["files", "files", "foreign", "theirs"].map(|name| Sighting::StatefulSet(key(name)))
        );
        assert_eq!(of(|what| matches!(what, Sighting::Service(_))), [Sighting::Service(key("files"))]);
        assert_eq!(of(|what| matches!(what, Sighting::ConfigMap(_))), [Sighting::ConfigMap(key("files"))]);
        assert_eq!(of(|what| matches!(what, Sighting::NetworkPolicy(_))), [Sighting::NetworkPolicy(key("files"))]);
        assert_eq!(of(|what| matches!(what, Sighting::ServiceMonitor(_))), [Sighting::ServiceMonitor(key("files"))]);
        assert_eq!(
            of(|what| matches!(what, Sighting::Secret(..))),
            ["new", "known"].map(|name| Sighting::Secret("team".to_owned(), name.to_owned()))
        );
        assert!(setup.bench.deps.caches.stateful_sets.get("team", "a-set").is_none(), "the caches follow");
    });
}

#[test]
fn a_kind_that_can_be_done_without_holds_nothing_up_and_is_told_when_it_is_missing() {
    run(async {
        let servers = Script { items: vec![server("files", 1)], ..Script::default() };
        let setup = start(None, vec![("dittoservers", servers), (NO_MONITORS, Script::default())]);
        pass(2.0).await;
        let caches = &setup.bench.deps.caches;
        assert!(caches.are_synced() && caches.service_monitors.is_absent() && !caches.service_monitors.is_synced());
        let told = |setup: &Setup| setup.sightings().iter().filter(|what| **what == Sighting::ServiceMonitors).count();
        assert_eq!(told(&setup), 1);
        let resyncs = setup.resyncs();
        pass(60.0).await;
        assert_eq!((told(&setup), setup.resyncs()), (1, resyncs), "said once");
        setup.scripts.lock().expect("no panic").remove(NO_MONITORS);
        pass(11.0).await;
        assert!(caches.service_monitors.is_synced() && !caches.service_monitors.is_absent());
        assert_eq!((told(&setup), setup.resyncs()), (2, resyncs), "nobody else is looked at anew");
    });
}

#[test]
fn of_a_pod_its_server_is_told_and_only_what_says_how_it_comes_up_is_kept() {
    run(async {
        let pod = |name: &str, owner| {
            let mut pod = object(name, 11, owner);
            pod["spec"] = json!({"containers": [{"name": "dittofs", "env": [{"name": "A", "value": "b"}]}]});
            pod["status"] = json!({"phase": "Running", "podIP": "192.0.2.1"});
            event("ADDED", &pod)
        };
        let pods = Script {
            events: vec![
                pod("files-0", Some(("StatefulSet", "files"))),
                pod("theirs-0", Some(("ReplicaSet", "theirs"))),
            ],
            ..Script::default()
        };
        let setup = start(None, vec![("pods", pods)]);
        pass(10.0).await;
        let mut told = setup.sightings();
        told.retain(|what| !matches!(what, Sighting::Resync | Sighting::ServiceMonitors));
        assert_eq!(told, [Sighting::Pod(key("files"))]);
        let kept = setup.bench.deps.caches.pods.get("team", "files-0").expect("kept");
        assert_eq!((&kept["status"]["phase"], kept.get("spec")), (&json!("Running"), None));
        assert!(kept["status"].get("podIP").is_none());
    });
}

#[test]
fn a_server_that_makes_no_sense_is_told_like_any_other() {
    run(async {
        let mut broken = server("broken", 2);
        broken["spec"] = json!("not even an object");
        let servers = Script { items: vec![broken, server("files", 3)], ..Script::default() };
        let setup = start(None, vec![("dittoservers", servers)]);
        pass(2.0).await;
        let told = setup.sightings();
        assert!(
            told.contains(&Sighting::Server(key("broken"))) && told.contains(&Sighting::Server(key("files"))),
            "{told:?}"
        );
        assert!(setup.bench.deps.spec(&key("broken")).is_some_and(|spec| spec.server.is_err()));
        assert!(setup.bench.deps.spec(&key("files")).is_some_and(|spec| spec.server.is_ok()));
    });
}

#[test]
fn owned_kinds_are_asked_for_by_label_and_secrets_by_their_metadata_only() {
    run(async {
        let setup = start(Some("team"), Vec::new());
        pass(2.0).await;
        let mut asked = setup.server.asked();
        let discovery = [Kind::DittoServer, Kind::ServiceMonitor].map(Kind::discovery_path);
        asked.retain(|request| !discovery.contains(&request.path));
        assert_eq!(asked.len(), 18, "a list and a watch for each of nine kinds");
        for request in asked {
            let plural = request.path.rsplit('/').next().unwrap_or_default().to_owned();
            assert!(request.path.contains("/namespaces/team/"), "{}", request.path);
            let labelled = request.query.contains("labelSelector=app%3Ddittofs-server");
            let owned = [
                "statefulsets",
                "services",
                "configmaps",
                "networkpolicies",
                "pods",
                "servicemonitors",
                "persistentvolumeclaims",
            ];
            assert_eq!(labelled, owned.contains(&plural.as_str()), "{plural}");
            let metadata_only = request.accept.contains("as=PartialObjectMetadata");
            assert_eq!(metadata_only, ["configmaps", "secrets"].contains(&plural.as_str()), "{plural}");
        }
    });
}

#[test]
fn a_stopped_watcher_asks_nothing_more_and_one_whose_watch_died_ends_to_be_started_anew() {
    run(async {
        let setup = start(None, Vec::new());
        pass(2.0).await;
        let asked = setup.server.asked().len();
        setup.watcher.do_send(Stop);
        pass(3600.0).await;
        assert_eq!(setup.server.asked().len(), asked);
        assert_eq!(setup.bench.ended.count(), 1);

        let setup = start(None, Vec::new());
        pass(2.0).await;
        let asked = setup.server.asked().len();
        setup.watcher.do_send(WatchDied);
        pass(3600.0).await;
        assert_eq!((setup.bench.ended.count(), setup.server.asked().len()), (1, asked));
    });
}
