//! How tokens are kept, renewed and given up.

use super::*;

const LIFE: Duration = Duration::from_mins(15);

#[tokio::test]
async fn a_poll_with_a_good_token_is_one_request_and_touches_no_secret() {
    let mut bed = Bed::logged_in().await;
    let (reads, writes) = (bed.vault.reads(), bed.vault.writes());
    for _ in 0..5 {
        let poll = bed.poll().await.expect("a poll");
        assert!(!poll.provisioned && !poll.refreshed);
    }
    assert_eq!(bed.events(), [LIST; 5]);
    assert_eq!((bed.vault.reads(), bed.vault.writes()), (reads, writes));
}

#[tokio::test]
async fn a_restarted_operator_goes_on_with_the_stored_token() {
    let mut bed = Bed::logged_in().await;
    bed.restart();
    for _ in 0..2 {
        bed.poll().await.expect("a poll");
    }
    assert_eq!(bed.events(), [LIST, LIST]);
    assert_eq!(bed.vault.reads(), 2, "one a process");
}

#[tokio::test]
async fn a_token_is_refreshed_after_two_thirds_of_its_life() {
    let mut bed = Bed::logged_in().await;
    bed.poll_after(LIFE / 5 * 3).await.expect("a poll");
    assert_eq!(bed.events(), [LIST]);
    // The login was at most some seconds after the bed's start.
    let later = LIFE / 3 * 2 + Duration::from_mins(1);
    let poll = bed.poll_after(later).await.expect("a poll");
    assert!(poll.refreshed && !poll.provisioned);
    assert_eq!(bed.events(), [REFRESH, LIST, STORE_TOKENS]);
    bed.poll_after(later).await.expect("a poll");
    assert_eq!(bed.events(), [LIST], "the life of the new token has begun");
    assert_eq!(bed.vault.stored().expect("a Secret").refresh_token, Some(Sensitive::new("canary-refresh-3")));
}

#[tokio::test]
async fn a_token_of_unknown_life_is_used_until_it_is_refused() {
    let mut bed = Bed::logged_in().await;
    bed.restart();
    bed.poll_after(LIFE * 100).await.expect("a poll");
    assert_eq!(bed.events(), [LIST]);
    bed.server.revoke(true, false);
    bed.poll_after(LIFE * 100).await.expect("a poll");
    assert_eq!(bed.events(), [LIST, REFRESH, LIST, STORE_TOKENS]);
}

#[tokio::test]
async fn any_lifetime_that_a_server_may_tell_is_survived() {
    for expires_in in [i64::MIN, -1, 0, 1, i64::MAX] {
        let mut bed = Bed::new().await;
        bed.server.lock().expires_in = serde_json::json!(expires_in);
        for minutes in [1, 2] {
            bed.poll_after(Duration::from_mins(minutes)).await.expect("a poll");
        }
    }
}

#[tokio::test]
async fn a_refused_refresh_leads_to_a_login() {
    let mut bed = Bed::logged_in().await;
    bed.server.revoke(false, true);
    bed.poll_after(LIFE).await.expect("a poll");
    assert_eq!(bed.events(), [REFRESH, LOGIN, LIST, STORE_TOKENS]);
}

#[tokio::test]
async fn a_failing_refresh_does_not_cost_the_observation_while_the_token_lives() {
    let mut bed = Bed::logged_in().await;
    bed.server.fail("/auth/refresh", Fault::Status(500));
    assert!(!bed.poll_after(LIFE / 4 * 3).await.expect("a poll").refreshed);
    assert_eq!(bed.events(), [REFRESH, LIST]);
    let error = bed.poll_after(LIFE * 2).await.expect_err("the token is over");
    assert_eq!(error.category(), "bad-answer");
    assert_eq!(bed.events(), [REFRESH]);
    bed.server.heal();
    bed.poll_after(LIFE * 2).await.expect("a poll");
    assert_eq!(bed.events(), [REFRESH, LIST, STORE_TOKENS]);
}

#[tokio::test]
async fn a_refused_refresh_and_a_failing_login_do_not_ask_without_a_token() {
    let mut bed = Bed::logged_in().await;
    bed.server.revoke(false, true);
    bed.server.fail("/auth/login", Fault::Status(500));
    assert_eq!(bed.poll_after(LIFE / 4 * 3).await.expect_err("no login").category(), "bad-answer");
    assert_eq!(bed.events(), [REFRESH, LOGIN]);
}

#[tokio::test]
async fn a_refused_list_is_asked_once_more_with_a_new_token_and_then_reported() {
    let mut bed = Bed::logged_in().await;
    let writes = bed.vault.writes();
    bed.server.fail("/adapters", Fault::Status(401));
    assert_eq!(bed.poll().await.expect_err("no poll").category(), "unauthorized");
    assert_eq!(bed.events(), [LIST, REFRESH, LIST]);
    for _ in 0..3 {
        assert_eq!(bed.poll().await.expect_err("no poll").category(), "unauthorized");
        assert_eq!(bed.events(), [LOGIN, LIST]);
    }
    assert_eq!(bed.vault.writes(), writes, "tokens that are refused are not stored");
    bed.server.heal();
    bed.poll().await.expect("a poll");
    assert_eq!(bed.events(), [LOGIN, LIST, STORE_TOKENS]);
}

#[tokio::test]
async fn a_forbidden_list_is_asked_once_more_after_a_login_and_then_reported() {
    let mut bed = Bed::logged_in().await;
    let writes = bed.vault.writes();
    bed.server.fail("/adapters", Fault::Status(403));
    assert_eq!(bed.poll().await.expect_err("no poll").category(), "forbidden");
    assert_eq!(bed.events(), [LIST, LOGIN, LIST]);
    for _ in 0..3 {
        assert_eq!(bed.poll().await.expect_err("no poll").category(), "forbidden");
        assert_eq!(bed.events(), [LOGIN, LIST]);
    }
    assert_eq!(bed.vault.writes(), writes);
    bed.server.heal();
    assert!(!bed.poll().await.expect("the role is right again").provisioned);
}

#[tokio::test]
async fn the_worst_poll_makes_nine_requests() {
    let mut bed = Bed::logged_in().await;
    bed.vault.edit(|stored| stored.password = Sensitive::new("canary-10!"));
    bed.session.forget();
    bed.server.revoke(true, true);
    {
        let mut state = bed.server.lock();
        state.password_min = 12;
        state.users.insert("k8s-operator".to_owned(), "changed on the server".to_owned());
    }
    bed.poll().await.expect("a poll");
    let requests = bed.events().iter().filter(|event| !event.starts_with("store")).count();
    assert!(requests <= super::super::REQUESTS_MAX, "{requests}");
}

#[tokio::test]
async fn a_token_that_cannot_be_sent_is_not_used() {
    let mut bed = Bed::logged_in().await;
    bed.vault.edit(|stored| {
        stored.access_token = Some(Sensitive::new("canary\r\nX-Evil: 1"));
        stored.refresh_token = Some(Sensitive::new(""));
    });
    bed.session.forget();
    bed.poll().await.expect("a poll");
    assert_eq!(bed.events(), [LOGIN, LIST, STORE_TOKENS]);
}

#[tokio::test]
async fn a_poll_that_is_dropped_leaves_a_session_that_goes_on() {
    for hangs_on in ["/auth/login", "/users", "/adapters"] {
        let mut bed = Bed::new().await;
        bed.server.fail(hangs_on, Fault::Hang);
        let dropped = tokio::time::timeout(Duration::from_millis(300), bed.poll()).await;
        assert!(dropped.is_err(), "{hangs_on}");
        bed.server.heal();
        bed.poll().await.unwrap_or_else(|error| panic!("{hangs_on}: {error}"));
    }
}
