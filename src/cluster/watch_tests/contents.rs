//! What a watch asks for, and what it tells of the answers.

use super::*;

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
        let stream = watch(server.client(), scope(Kind::Service), WatchPolicy::default(), seed, Metrics::default());
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
    let stream = watch(server.client(), scope(Kind::Service), no_resync(), 7, Metrics::default());
    tokio::time::sleep(HOUR).await;
    assert_eq!(server.asked().len(), 0);
    drop(stream);
}
