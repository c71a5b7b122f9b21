//! How often the API server is asked, whatever it answers.

use super::*;

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
    // Errors for a minute, fine for one watch of 50 s, an error again: the delay is still long. After a quiet hour it
    // is short again.
    let refused = |at: Duration| (5 * S..65 * S).contains(&at) || (110 * S..130 * S).contains(&at) || at >= HOUR;
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
    assert!(times[late + 1] <= times[late] + Duration::from_millis(260), "{times:?}");
    let watches = server.watches();
    let again = watches.iter().position(|w| w.at >= 110 * S).expect("opened again");
    assert!(watches[again + 1].at >= watches[again].at + 10 * S, "{:?}", gaps(&watches));
}

#[tokio::test(start_paused = true)]
async fn a_missing_crd_is_waited_for_without_lists() {
    let arrival = 3601 * S;
    let server = Server::new(move |asked, _| {
        let there = asked.at >= arrival;
        if asked.path == "/apis/dittofs.dittofs.com/v1alpha1" {
            // The group can be there before the kind: another CRD of it is.
            let other = asked.at + 60 * S >= arrival;
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
    assert!(at <= arrival + 2 * S, "{at:?}");
    assert_eq!(server.lists().len(), 1);
    assert_eq!(seen.last().map(|(_, e)| e.clone()), Some(WatchEvent::Recovered));
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_can_be_done_without_is_looked_for_slowly_and_counts_as_known() {
    let arrival = 600 * S;
    let server = Server::new(move |asked, _| {
        let there = asked.at >= arrival;
        if asked.path == "/apis/monitoring.coreos.com/v1" {
            let found = Reply::Json(200, json!({"resources": [{"name": "servicemonitors"}]}));
            if there { found } else { Reply::Text(404, "404 page not found\n".into()) }
        } else if !there {
            Reply::Unexpected
        } else if asked.is_list() {
            Reply::Json(200, list("5", &[object("a", 1)]))
        } else {
            quiet()
        }
    });
    let seen = run(&server, scope(Kind::ServiceMonitor), no_resync(), 640 * S).await;
    assert_eq!(troubles(&seen), ["crd-missing"], "said once");
    assert!(listed(&seen)[0].0 <= arrival + 10 * S, "{:?}", listed(&seen));
    let looks = server.asked().iter().filter(|asked| asked.path == "/apis/monitoring.coreos.com/v1").count();
    assert!((60..=62).contains(&looks), "{looks} looks in ten minutes");
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
    assert!(back <= 1802 * S, "{back:?}");
    assert_eq!(server.lists().len(), 3, "one before, one that was told 404, one after");
    assert_lists_are_30_s_apart(&server);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_was_opened_before_the_trouble_is_no_recovery() {
    let server = Server::new(|asked, before| match (before, asked.is_list()) {
        (_, true) => Reply::Json(200, list("5", &[])),
        (1, _) => quiet(),
        _ => Reply::status(401, "Unauthorized"),
    });
    let seen = run(&server, scope(Kind::Service), no_resync(), 300 * S).await;
    assert!(troubles(&seen).len() > 5);
    assert!(!seen.iter().any(|(_, e)| *e == WatchEvent::Recovered), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_told_404_waits_for_the_crd_without_lists() {
    let gone = |at: Duration| (40 * S..1800 * S).contains(&at);
    let server = Server::new(move |asked, _| {
        if gone(asked.at) {
            Reply::Text(404, "404 page not found\n".into())
        } else if asked.path == "/apis/dittofs.dittofs.com/v1alpha1" {
            Reply::Json(200, json!({"resources": [{"name": "dittoservers"}]}))
        } else if asked.is_list() {
            Reply::Json(200, list("5", &[object("a", 1)]))
        } else {
            quiet()
        }
    });
    let seen = run(&server, scope(Kind::DittoServer), no_resync(), 1830 * S).await;
    assert_eq!(troubles(&seen), ["not-found", "crd-missing"]);
    assert!(listed(&seen)[1].0 <= 1802 * S, "{:?}", listed(&seen));
    assert_eq!(server.lists().len(), 2);
}
