//! Each trap of a watch on a scripted server, under a paused clock: what was asked, how often, and what came of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::scripted::{Asked, Reply, Server, event, failure, list};
use super::{Cache, Kind, WatchEvent, WatchPolicy, WatchScope, watch};

const HOUR: Duration = Duration::from_secs(3600);
const S: Duration = Duration::from_secs(1);

fn scope(kind: Kind) -> WatchScope {
    WatchScope { kind, namespace: None, label_selector: None, metadata_only: false }
}

/// A policy whose resync does not come into the way.
fn no_resync() -> WatchPolicy {
    WatchPolicy { resync: 100 * HOUR, ..WatchPolicy::default() }
}

fn object(name: &str, version: u32) -> Value {
    json!({"metadata": {"namespace": "ns", "name": name, "resourceVersion": version.to_string(), "uid": name}})
}

/// A watch that the server ends after the time that it was asked for, as the real one does.
fn quiet() -> Reply {
    let bookmark = json!({"metadata": {"resourceVersion": "900"}, "kind": "Service", "apiVersion": "v1"});
    Reply::Events(vec![(50 * S, event("BOOKMARK", &bookmark))])
}

/// Events with the time since the start at which each came.
async fn run(server: &Server, scope: WatchScope, policy: WatchPolicy, time: Duration) -> Vec<(Duration, WatchEvent)> {
    let start = Instant::now();
    let mut seen = Vec::new();
    let stream = watch(server.client(), scope, policy, 7);
    let mut stream = std::pin::pin!(stream);
    while let Ok(event) = tokio::time::timeout_at(start + time, stream.next()).await {
        seen.push((start.elapsed(), event.expect("a watch never ends")));
        assert!(seen.len() < 20_000, "a storm");
    }
    seen
}

fn troubles(seen: &[(Duration, WatchEvent)]) -> Vec<&'static str> {
    let category = |e: &WatchEvent| if let WatchEvent::Trouble { category, .. } = e { Some(*category) } else { None };
    seen.iter().filter_map(|(_, e)| category(e)).collect()
}

fn listed(seen: &[(Duration, WatchEvent)]) -> Vec<(Duration, usize)> {
    let count = |e: &WatchEvent| if let WatchEvent::Listed(o) = e { Some(o.len()) } else { None };
    seen.iter().filter_map(|(at, e)| count(e).map(|n| (*at, n))).collect()
}

fn gaps(asked: &[Asked]) -> Vec<Duration> {
    asked.windows(2).map(|w| w[1].at.saturating_sub(w[0].at)).collect()
}

fn assert_lists_are_30_s_apart(server: &Server) {
    let lists = server.lists();
    assert!(gaps(&lists).iter().all(|gap| *gap >= 30 * S), "{:?}", gaps(&lists));
}

#[tokio::test(start_paused = true)]
async fn a_quiet_hour_costs_one_list_and_a_watch_every_50_s() {
    let server =
        Server::new(|asked, _| if asked.is_list() { Reply::Json(200, list("5", &[object("a", 5)])) } else { quiet() });
    let seen = run(&server, scope(Kind::Service), no_resync(), HOUR).await;
    assert_eq!(listed(&seen), [(Duration::ZERO, 1)]);
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(server.lists().len(), 1);
    let watches = server.watches();
    assert!((70..=73).contains(&watches.len()), "{}", watches.len());
    assert!(watches.iter().all(|w| w.query.contains("timeoutSeconds=50") && w.query.contains("allowWatchBookmarks")));
    assert!(watches[1].query.contains("resourceVersion=900"), "goes on after the bookmark: {}", watches[1].query);
    assert_eq!(server.asked().len(), watches.len() + 1);
}

#[tokio::test(start_paused = true)]
async fn a_410_inside_the_stream_relists_at_most_every_30_s() {
    let server = Server::new(|asked, _| {
        if asked.is_list() {
            Reply::Json(200, list("5", &[]))
        } else {
            Reply::Events(vec![(Duration::ZERO, event("ERROR", &failure(410, "Expired")))])
        }
    });
    let seen = run(&server, scope(Kind::Service), no_resync(), HOUR).await;
    assert_lists_are_30_s_apart(&server);
    let lists = server.lists().len();
    assert!((100..=121).contains(&lists), "it goes on trying: {lists}");
    assert!(server.asked().len() <= 2 * lists + 1);
    assert!(troubles(&seen).iter().all(|c| *c == "expired"));
}

#[tokio::test(start_paused = true)]
async fn a_410_as_http_status_leads_to_a_relist() {
    let server = Server::new(|asked, _| {
        if asked.is_list() {
            Reply::Json(200, list("5", &[object("a", 5)]))
        } else if asked.at < 60 * S {
            Reply::status(410, "Expired")
        } else {
            quiet()
        }
    });
    let seen = run(&server, scope(Kind::Service), no_resync(), HOUR).await;
    assert_lists_are_30_s_apart(&server);
    assert_eq!(server.lists().len(), 3, "at 0, 30 and 60 s");
    assert!(server.watches().len() < 80);
    assert_eq!(troubles(&seen), ["expired", "expired"]);
    assert_eq!(seen.last().map(|(_, e)| e.clone()), Some(WatchEvent::Recovered));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_never_answered_is_retried() {
    let server = Server::new(|asked, before| match (before, asked.is_list()) {
        (0, true) => Reply::Hang,
        (1, true) => Reply::HalfThenHang("{\"items\": ["),
        (_, true) => Reply::Json(200, list("5", &[])),
        _ => quiet(),
    });
    let seen = run(&server, scope(Kind::Service), no_resync(), 300 * S).await;
    assert_eq!(troubles(&seen), ["timeout", "timeout"]);
    assert_eq!(seen[0].0, 10 * S, "the deadline of a request");
    assert_eq!(seen[1].0, 40 * S, "the deadline holds for the body too");
    assert_eq!(listed(&seen), [(60 * S, 0)]);
    assert_lists_are_30_s_apart(&server);
}

#[tokio::test(start_paused = true)]
async fn a_half_open_watch_is_reopened_within_its_timeout() {
    let server = Server::new(|asked, before| match (before, asked.is_list()) {
        (_, true) => Reply::Json(200, list("5", &[])),
        (1, _) => Reply::EventsThenSilence(vec![(3 * S, event("ADDED", &object("a", 6)))]),
        _ => Reply::Events(vec![(S, event("MODIFIED", &object("a", 7))), (49 * S, event("MODIFIED", &object("a", 8)))]),
    });
    let seen = run(&server, scope(Kind::Service), no_resync(), 62 * S).await;
    let watches = server.watches();
    assert_eq!(watches[1].at, 58 * S, "55 s after its last sign of life");
    assert!(watches[1].query.contains("resourceVersion=6"), "{}", watches[1].query);
    assert_eq!(
        seen.last().map(|(at, e)| (*at, e.clone())).map(|(at, e)| (at, format!("{e:?}"))),
        Some((59 * S, "Applied(a)".into()))
    );
    assert_eq!(server.lists().len(), 1, "nothing was lost, nothing is listed again");
}

#[tokio::test(start_paused = true)]
async fn a_watch_whose_head_never_comes_is_asked_again() {
    let server = Server::new(|asked, before| match (before, asked.is_list()) {
        (_, true) => Reply::Json(200, list("5", &[])),
        (1, _) => Reply::Hang,
        _ => quiet(),
    });
    let seen = run(&server, scope(Kind::Service), no_resync(), 20 * S).await;
    assert_eq!(troubles(&seen), ["timeout"]);
    assert_eq!(server.watches().len(), 2);
    assert_eq!(seen.last().map(|(_, e)| e.clone()), Some(WatchEvent::Recovered), "an opened watch is a sign of health");
}

#[tokio::test(start_paused = true)]
async fn a_watch_answered_401_is_not_a_storm() {
    let server = Server::new(|asked, _| {
        if asked.is_list() { Reply::Json(200, list("5", &[])) } else { Reply::status(401, "Unauthorized") }
    });
    let seen = run(&server, scope(Kind::Service), no_resync(), HOUR).await;
    let watches = server.watches();
    assert!((110..=260).contains(&watches.len()), "capped at 30 s with jitter: {}", watches.len());
    assert!(gaps(&watches).iter().all(|gap| *gap <= 30 * S), "it never gives up");
    assert_eq!(server.lists().len(), 1, "a list would not help");
    assert!(troubles(&seen).iter().all(|c| *c == "unauthorized"));
}

#[tokio::test(start_paused = true)]
async fn a_list_answered_403_is_asked_every_30_s_and_no_more() {
    let server = Server::new(|_, _| Reply::status(403, "Forbidden"));
    let seen = run(&server, scope(Kind::Secret), no_resync(), HOUR).await;
    assert_lists_are_30_s_apart(&server);
    assert!((60..=121).contains(&server.lists().len()), "{}", server.lists().len());
    assert_eq!(server.watches().len(), 0);
    assert!(!format!("{seen:?}").contains("scripted"), "of a Secret's watch the server's message is not kept");
}

#[tokio::test(start_paused = true)]
async fn a_rotated_token_is_picked_up_without_a_list() {
    let server = Server::new(|asked, _| {
        if asked.is_list() {
            Reply::Json(200, list("5", &[]))
        } else if (60 * S..65 * S).contains(&asked.at) || asked.at < S {
            Reply::status(401, "Unauthorized")
        } else {
            quiet()
        }
    });
    let seen = run(&server, scope(Kind::Service), no_resync(), 600 * S).await;
    assert_eq!(server.lists().len(), 1);
    let last_trouble = seen.iter().rposition(|(_, e)| matches!(e, WatchEvent::Trouble { .. }));
    assert!(last_trouble < seen.iter().rposition(|(_, e)| *e == WatchEvent::Recovered), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_each_watch_at_once_is_asked_ever_more_slowly() {
    let server =
        Server::new(|asked, _| if asked.is_list() { Reply::Json(200, list("5", &[])) } else { Reply::Events(vec![]) });
    run(&server, scope(Kind::Service), no_resync(), HOUR).await;
    let watches = server.watches();
    assert!((110..=260).contains(&watches.len()), "{}", watches.len());
    assert!(gaps(&watches)[0] <= S, "the first repeat is quick");
    assert_eq!(server.lists().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_single_short_watch_delays_the_next_by_a_quarter_of_a_second_at_most() {
    let server = Server::new(|asked, before| match (before, asked.is_list()) {
        (_, true) => Reply::Json(200, list("5", &[])),
        (2, _) => Reply::Events(vec![]),
        _ => quiet(),
    });
    run(&server, scope(Kind::Service), no_resync(), 200 * S).await;
    let gaps = gaps(&server.watches());
    assert_eq!(gaps[0], 50 * S);
    assert!(gaps[1] <= Duration::from_millis(250), "{gaps:?}");
    assert_eq!(gaps[2], 50 * S);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_restarts_is_found_again_soon() {
    // Nobody listens for 8 s: no list has reached anybody, so that the next need not wait 30 s.
    let server = Server::new(|asked, _| {
        if asked.at < 8 * S {
            Reply::Refused
        } else if asked.is_list() {
            Reply::Json(200, list("5", &[]))
        } else {
            quiet()
        }
    });
    let seen = run(&server, scope(Kind::Service), no_resync(), 60 * S).await;
    let (at, _) = listed(&seen)[0];
    assert!(at < 17 * S, "{at:?}");
    assert!(troubles(&seen).iter().all(|c| *c == "unreachable"));
    assert!(server.lists().len() < 10, "{}", server.lists().len());
}

#[tokio::test(start_paused = true)]
async fn a_failed_list_that_reached_the_server_counts() {
    let server = Server::new(|asked, before| match (before, asked.is_list()) {
        (0, true) => Reply::status(503, "ServiceUnavailable"),
        (_, true) => Reply::Json(200, list("5", &[])),
        _ => quiet(),
    });
    let seen = run(&server, scope(Kind::Service), no_resync(), 60 * S).await;
    assert_eq!(troubles(&seen), ["server-error"]);
    assert_eq!(listed(&seen), [(30 * S, 0)]);
}

#[tokio::test(start_paused = true)]
async fn the_delays_start_again_only_after_a_stretch_of_health() {
    // Refused for a minute, fine for one watch of 20 s, refused again: the delay is still long. After a quiet half
    // hour it is short again.
    let refused = |at: Duration| (5 * S..65 * S).contains(&at) || (110 * S..111 * S).contains(&at) || at >= HOUR;
    let server = Server::new(move |asked, _| {
        if refused(asked.at) {
            Reply::status(500, "InternalError")
        } else if asked.is_list() {
            Reply::Json(200, list("5", &[]))
        } else if asked.at < 5 * S {
            Reply::Events(vec![(6 * S, event("ADDED", &object("a", 6)))])
        } else {
            quiet()
        }
    });
    let seen = run(&server, scope(Kind::Service), no_resync(), HOUR + 120 * S).await;
    let times: Vec<Duration> =
        seen.iter().filter(|(_, e)| matches!(e, WatchEvent::Trouble { .. })).map(|(at, _)| *at).collect();
    let late = times.iter().position(|at| *at >= HOUR).expect("trouble at the end");
    assert!(times[late + 1] - times[late] <= Duration::from_millis(260), "{times:?}");
    let early: Vec<_> = times[..late].windows(2).map(|w| w[1] - w[0]).collect();
    assert!(early.iter().any(|gap| *gap > 10 * S), "{early:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_seen_of_a_list_that_is_not_complete() {
    let server = Server::new(|asked, before| match (before, asked.is_list()) {
        (0, true) => Reply::Json(200, list("5", &[object("a", 1), object("b", 2)])),
        (1, _) => Reply::Events(vec![(40 * S, event("ERROR", &failure(410, "Expired")))]),
        // The re-list: a first page without `b`, and then no second one.
        (2, true) => {
            let mut page = list("9", &[object("a", 1)]);
            page["metadata"]["continue"] = json!("more");
            Reply::Json(200, page)
        }
        (3, true) => Reply::status(500, "InternalError"),
        (_, true) => Reply::Json(200, list("9", &[object("a", 1), object("b", 2)])),
        _ => quiet(),
    });
    let seen = run(&server, scope(Kind::Service), no_resync(), 300 * S).await;
    assert!(server.asked()[3].query.contains("continue=more"));
    assert_eq!(listed(&seen).iter().map(|(_, n)| *n).collect::<Vec<_>>(), [2, 2]);
    let cache = Cache::new();
    let changes: Vec<_> = seen.into_iter().flat_map(|(_, e)| cache.apply(e)).collect();
    assert_eq!(changes.len(), 2, "the first list, and nothing after it: {changes:?}");
    let starts: Vec<Asked> = server.lists().into_iter().filter(|l| !l.query.contains("continue")).collect();
    assert!(gaps(&starts).iter().all(|gap| *gap >= 30 * S));
}

#[tokio::test(start_paused = true)]
async fn a_broken_item_does_not_stop_the_others() {
    let broken = || json!({"metadata": {"namespace": "ns", "name": "bad", "resourceVersion": "3", "labels": 7, "generation": "x"}, "spec": 5});
    let server = Server::new(move |asked, before| match (before, asked.is_list()) {
        (0, _) => Reply::Json(200, json!({"resources": [{"name": "dittoservers"}]})),
        (_, true) => Reply::Json(200, list("5", &[object("a", 1), broken(), json!({"metadata": []}), json!("?")])),
        (2, _) => {
            Reply::EventsThenSilence(vec![(S, event("MODIFIED", &broken())), (S, event("MODIFIED", &object("b", 6)))])
        }
        _ => quiet(),
    });
    let seen = run(&server, scope(Kind::DittoServer), no_resync(), 30 * S).await;
    let cache = Cache::new();
    for (_, event) in seen.clone() {
        cache.apply(event);
    }
    let names: Vec<_> = cache.all().iter().map(|o| o["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["a", "b", "bad"]);
    assert_eq!(cache.get("ns", "bad").expect("kept as it came")["metadata"]["generation"], "x");
    assert_eq!(troubles(&seen), [""; 0]);
    assert_eq!((server.lists().len(), server.watches().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_read_leads_to_a_relist() {
    let server = Server::new(|asked, before| match (before, asked.is_list()) {
        (0, true) => Reply::Json(200, list("5", &[])),
        (_, true) => Reply::Json(200, list("6", &[object("a", 6)])),
        (1, _) => Reply::EventsThenSilence(vec![(S, json!({"type": "GARBLED"}))]),
        _ => quiet(),
    });
    let seen = run(&server, scope(Kind::Service), no_resync(), 60 * S).await;
    assert_eq!(troubles(&seen), ["malformed"]);
    assert_eq!(listed(&seen), [(Duration::ZERO, 0), (30 * S, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_missing_crd_is_waited_for_without_lists() {
    let arrival = 3601 * S;
    let server = Server::new(move |asked, _| {
        let there = asked.at >= arrival;
        if asked.path == "/apis/dittofs.dittofs.com/v1alpha1" {
            // The group can be there before the kind: another CRD of it is.
            let other = asked.at >= arrival - 60 * S;
            match (there, other) {
                (true, _) => {
                    Reply::Json(200, json!({"resources": [{"name": "dittoservers"}, {"name": "dittoservers/status"}]}))
                }
                (_, true) => Reply::Json(200, json!({"resources": [{"name": "others"}]})),
                _ => Reply::Text(404, "404 page not found\n".into()),
            }
        } else if !there {
            Reply::Unexpected
        } else if asked.is_list() {
            Reply::Json(200, list("5", &[object("a", 1)]))
        } else {
            quiet()
        }
    });
    let seen = run(&server, scope(Kind::DittoServer), no_resync(), HOUR + 60 * S).await;
    assert_eq!(troubles(&seen), ["crd-missing"], "said once");
    let (at, _) = listed(&seen)[0];
    assert!(at - arrival <= 2 * S, "{at:?}");
    assert_eq!(server.lists().len(), 1);
    assert_eq!(seen.last().map(|(_, e)| e.clone()), Some(WatchEvent::Recovered));
}

#[tokio::test(start_paused = true)]
async fn a_crd_that_is_removed_later_is_waited_for_without_lists() {
    let gone = |at: Duration| (40 * S..1800 * S).contains(&at);
    let server = Server::new(move |asked, _| {
        if asked.path == "/apis/dittofs.dittofs.com/v1alpha1" {
            let found = Reply::Json(200, json!({"resources": [{"name": "dittoservers"}]}));
            if gone(asked.at) { Reply::status(404, "NotFound") } else { found }
        } else if gone(asked.at) {
            Reply::Text(404, "404 page not found\n".into())
        } else if asked.is_list() {
            Reply::Json(200, list("5", &[object("a", 1)]))
        } else {
            Reply::Events(vec![(45 * S, event("ERROR", &failure(410, "Expired")))])
        }
    });
    let seen = run(&server, scope(Kind::DittoServer), no_resync(), 1830 * S).await;
    assert!(troubles(&seen).contains(&"crd-missing"));
    let back = listed(&seen)[1].0;
    assert!(back - 1800 * S <= 2 * S, "{back:?}");
    assert_eq!(server.lists().len(), 3, "one before, one that was told 404, one after");
    assert_lists_are_30_s_apart(&server);
}

#[tokio::test(start_paused = true)]
async fn a_full_relist_comes_every_ten_minutes_and_heals_a_lost_event() {
    let server = Server::new(|asked, before| match (before, asked.is_list()) {
        (0, true) => Reply::Json(200, list("5", &[object("a", 1)])),
        (_, true) => Reply::Json(200, list("6", &[object("a", 2)])),
        _ => quiet(),
    });
    let seen = run(&server, scope(Kind::Service), WatchPolicy::default(), HOUR).await;
    let lists = server.lists();
    assert!((6..=7).contains(&lists.len()), "{}", lists.len());
    assert!(gaps(&lists).iter().all(|gap| (540 * S..=660 * S).contains(gap)), "{:?}", gaps(&lists));
    assert_ne!(gaps(&lists)[0], gaps(&lists)[1], "with jitter");
    let cache = Cache::new();
    let changes: Vec<_> = seen.into_iter().map(|(_, e)| cache.apply(e).len()).collect();
    assert_eq!(changes[..3], [1, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn two_watches_with_different_seeds_do_not_relist_together() {
    let times = Arc::new(Mutex::new(Vec::new()));
    for seed in [1, 2] {
        let server = Server::new(|asked, _| if asked.is_list() { Reply::Json(200, list("5", &[])) } else { quiet() });
        let stream = watch(server.client(), scope(Kind::Service), WatchPolicy::default(), seed);
        let mut stream = std::pin::pin!(stream);
        let _ = tokio::time::timeout(700 * S, async { while stream.next().await.is_some() {} }).await;
        times.lock().expect("test").push(server.lists()[1].at);
    }
    let times = times.lock().expect("test");
    assert_ne!(times[0], times[1]);
}

#[tokio::test(start_paused = true)]
async fn the_scope_is_what_is_asked_for() {
    let server = Server::new(|asked, _| if asked.is_list() { Reply::Json(200, list("5", &[])) } else { quiet() });
    let scope = WatchScope {
        kind: Kind::Secret,
        namespace: Some("ns".into()),
        label_selector: Some("app=dittofs-server".into()),
        metadata_only: true,
    };
    run(&server, scope, no_resync(), S).await;
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    for request in asked {
        assert_eq!(request.path, "/api/v1/namespaces/ns/secrets");
        assert!(request.query.contains("labelSelector=app%3Ddittofs-server"), "{}", request.query);
        assert!(
            request.accept.contains("as=PartialObjectMetadata"),
            "no Secret's data is ever asked for: {}",
            request.accept
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_item_gets_the_kind_that_the_api_server_leaves_out() {
    let server =
        Server::new(|asked, _| if asked.is_list() { Reply::Json(200, list("5", &[object("a", 1)])) } else { quiet() });
    let seen = run(&server, scope(Kind::StatefulSet), no_resync(), S).await;
    let Some((_, WatchEvent::Listed(objects))) = seen.first() else { panic!("{seen:?}") };
    assert_eq!((&objects[0]["apiVersion"], &objects[0]["kind"]), (&json!("apps/v1"), &json!("StatefulSet")));
}

#[tokio::test(start_paused = true)]
async fn a_secrets_last_applied_manifest_is_not_kept() {
    let mut secret = object("a", 1);
    secret["metadata"]["annotations"] =
        json!({"kubectl.kubernetes.io/last-applied-configuration": "canary-4711", "mine": "kept"});
    let server =
        Server::new(
            move |asked, _| {
                if asked.is_list() { Reply::Json(200, list("5", std::slice::from_ref(&secret))) } else { quiet() }
            },
        );
    let scope = WatchScope { metadata_only: true, ..scope(Kind::Secret) };
    let seen = run(&server, scope, no_resync(), S).await;
    let Some((_, WatchEvent::Listed(objects))) = seen.first() else { panic!("{seen:?}") };
    assert!(!objects[0].to_string().contains("canary-4711"));
    assert_eq!(objects[0]["metadata"]["annotations"]["mine"], "kept");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_before_the_stream_is_polled() {
    let server = Server::new(|_, _| Reply::Unexpected);
    let stream = watch(server.client(), scope(Kind::Service), no_resync(), 7);
    tokio::time::sleep(HOUR).await;
    assert_eq!(server.asked().len(), 0);
    drop(stream);
}
