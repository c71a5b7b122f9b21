//! How the account comes to be, and comes back.

use super::*;

#[tokio::test]
async fn the_first_poll_makes_the_account_and_stores_its_password_before_that() {
    let mut bed = Bed::new().await;
    let poll = bed.poll().await.expect("a poll");
    assert_eq!(bed.events(), [ADMIN_LOGIN, STORE_PASSWORD, CREATE, LOGIN, LIST, STORE_TOKENS]);
    assert!(poll.provisioned && poll.refreshed && poll.vault_error.is_none());
    let types: Vec<_> = poll.adapters.iter().map(|adapter| adapter.adapter_type.as_str()).collect();
    assert_eq!(types, ["nfs", "smb"]);
    let stored = bed.vault.stored().expect("a Secret");
    assert_eq!(stored.username, "k8s-operator");
    assert_eq!(stored.password.expose(), "canary-password-0");
    assert_eq!(stored.access_token, Some(Sensitive::new("canary-access-k8s-operator-2")));
    assert_eq!(stored.refresh_token, Some(Sensitive::new("canary-refresh-2")));
    assert_eq!(stored.server_url, bed.server.base.as_str());
}

#[tokio::test]
async fn the_requests_are_those_that_were_recorded() {
    let mut bed = Bed::logged_in().await;
    bed.server.revoke(true, false);
    bed.poll().await.expect("a poll with a refresh");
    bed.server.revoke(true, true);
    bed.server.lock().users.insert("k8s-operator".to_owned(), "changed".to_owned());
    bed.poll().await.expect("a poll with a reset");
    let log = bed.server.lock().log.clone();
    for name in [
        "login-admin",
        "create-operator",
        "create-operator-again",
        "reset-operator-password",
        "login-operator",
        "refresh-operator",
        "list-adapters-operator",
    ] {
        let request = &server::exchange(name)["request"];
        let line = format!(
            "{} /team-a/files{}",
            request["method"].as_str().expect("a method"),
            request["path"].as_str().expect("a path")
        );
        let keys = |body: &serde_json::Value| -> HashSet<String> {
            body.as_object().map(|object| object.keys().cloned().collect()).unwrap_or_default()
        };
        let same = |seen: &&server::Seen| {
            seen.line == line
                && keys(&seen.body) == keys(&request["body"])
                && seen.body.get("username") == request["body"].get("username")
                && seen.headers.contains_key("authorization") == request.get("authorization").is_some()
        };
        let seen = log.iter().find(same).unwrap_or_else(|| panic!("{name} was not sent"));
        if !seen.body.is_null() {
            assert_eq!(seen.headers["content-type"], "application/json", "{name}");
        }
        assert_eq!(seen.headers["user-agent"], concat!("dittofs-operator/", env!("CARGO_PKG_VERSION")));
        for unasked in ["accept-encoding", "cookie", "referer"] {
            assert!(!seen.headers.contains_key(unasked), "{name}: {unasked}");
        }
    }
}

#[tokio::test]
async fn an_account_that_exists_gets_the_stored_password() {
    let mut bed = Bed::new().await;
    bed.server.lock().users.insert("k8s-operator".to_owned(), "of an operator before us".to_owned());
    let poll = bed.poll().await.expect("a poll");
    assert_eq!(bed.events(), [ADMIN_LOGIN, STORE_PASSWORD, CREATE, RESET, LOGIN, LIST, STORE_TOKENS]);
    assert!(poll.provisioned);
    assert_eq!(bed.server.lock().users["k8s-operator"], "canary-password-0");
}

#[tokio::test]
async fn a_password_changed_on_the_server_is_set_back_to_the_stored_one() {
    let mut bed = Bed::logged_in().await;
    bed.server.lock().users.insert("k8s-operator".to_owned(), "changed by hand".to_owned());
    bed.poll().await.expect("the tokens are still good");
    assert_eq!(bed.events(), [LIST]);
    bed.server.revoke(true, true);
    let poll = bed.poll().await.expect("a poll");
    assert_eq!(bed.events(), [LIST, REFRESH, LOGIN, ADMIN_LOGIN, CREATE, RESET, LOGIN, LIST, STORE_TOKENS]);
    assert!(poll.provisioned);
    assert_eq!(bed.server.lock().users["k8s-operator"], "canary-password-0");
}

#[tokio::test]
async fn a_password_changed_in_the_vault_reaches_the_server() {
    let mut bed = Bed::logged_in().await;
    bed.vault.edit(|stored| stored.password = Sensitive::new("canary-by-hand"));
    bed.session.forget();
    bed.server.revoke(true, true);
    bed.poll().await.expect("a poll");
    assert_eq!(bed.events(), [LIST, REFRESH, LOGIN, ADMIN_LOGIN, CREATE, RESET, LOGIN, LIST, STORE_TOKENS]);
    assert_eq!(bed.server.lock().users["k8s-operator"], "canary-by-hand");
    assert_eq!(bed.vault.stored().expect("a Secret").password.expose(), "canary-by-hand");
}

#[tokio::test]
async fn a_password_and_tokens_given_in_the_vault_are_used_as_they_are() {
    let mut bed = Bed::logged_in().await;
    bed.server.lock().users.insert("k8s-operator".to_owned(), "canary-by-hand".to_owned());
    bed.vault.edit(|stored| {
        stored.password = Sensitive::new("canary-by-hand");
        stored.access_token = None;
        stored.refresh_token = None;
    });
    bed.session.forget();
    let poll = bed.poll().await.expect("a poll");
    assert_eq!(bed.events(), [LOGIN, LIST, STORE_TOKENS]);
    assert!(!poll.provisioned && poll.refreshed);
}

#[tokio::test]
async fn a_secret_deleted_by_hand_gives_a_new_password() {
    let mut bed = Bed::logged_in().await;
    *bed.vault.stored.lock().expect("a lock") = None;
    bed.session.forget();
    bed.poll().await.expect("a poll");
    assert_eq!(bed.events(), [ADMIN_LOGIN, STORE_PASSWORD, CREATE, RESET, LOGIN, LIST, STORE_TOKENS]);
    assert_eq!(bed.server.lock().users["k8s-operator"], "canary-password-1");
}

#[tokio::test]
async fn a_deleted_account_is_made_again_once_its_token_has_ended() {
    let mut bed = Bed::logged_in().await;
    bed.server.lock().users.clear();
    bed.poll().await.expect("the token still works");
    assert_eq!(bed.events(), [LIST]);
    bed.server.revoke(true, true);
    let poll = bed.poll().await.expect("a poll");
    assert_eq!(bed.events(), [LIST, REFRESH, LOGIN, ADMIN_LOGIN, CREATE, LOGIN, LIST, STORE_TOKENS]);
    assert!(poll.provisioned);
    assert_eq!(bed.server.lock().users["k8s-operator"], "canary-password-0", "the stored password is the truth");
}

#[tokio::test]
async fn a_lost_database_is_provisioned_again_with_the_bootstrap_password() {
    let mut bed = Bed::logged_in().await;
    bed.server.lock().admin_password = "changed after the start".to_owned();
    bed.poll().await.expect("the token still works");
    {
        let mut state = bed.server.lock();
        state.users.clear();
        state.access.clear();
        state.refresh.clear();
        state.admin_password = "canary-admin-password".to_owned();
    }
    assert!(bed.poll().await.expect("a poll").provisioned);
    assert!(!bed.poll().await.expect("a poll").provisioned, "once");
}

#[tokio::test]
async fn a_crash_between_storing_the_password_and_making_the_account_heals() {
    let mut bed = Bed::new().await;
    bed.server.fail("POST /team-a/files/api/v1/users", Fault::Reset);
    assert_eq!(bed.poll().await.expect_err("a crash").category(), "unreachable");
    assert_eq!(bed.events(), [ADMIN_LOGIN, STORE_PASSWORD, CREATE]);
    bed.restart();
    bed.server.heal();
    bed.poll().await.expect("a poll");
    assert_eq!(bed.events(), [LOGIN, ADMIN_LOGIN, CREATE, LOGIN, LIST, STORE_TOKENS]);
    assert_eq!(bed.server.lock().users["k8s-operator"], "canary-password-0", "no second password was made");
}

#[tokio::test]
async fn a_crash_after_the_account_was_made_heals_without_the_administrator() {
    let mut bed = Bed::new().await;
    bed.server.fail("GET /team-a/files/api/v1/adapters", Fault::Reset);
    bed.poll().await.expect_err("a crash");
    *bed.vault.admin.lock().expect("a lock") = None;
    bed.restart();
    bed.server.heal();
    assert!(!bed.poll().await.expect("a poll").provisioned);
}

#[tokio::test]
async fn no_account_is_made_whose_password_could_not_be_stored() {
    let mut bed = Bed::new().await;
    bed.vault.refuse_writes.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        assert_eq!(bed.poll().await.expect_err("no poll").category(), "vault");
        assert_eq!(bed.events(), [ADMIN_LOGIN]);
    }
    bed.vault.refuse_writes.store(false, Ordering::SeqCst);
    bed.poll().await.expect("a poll");
    assert_eq!(bed.server.lock().users["k8s-operator"], "canary-password-0");
}

#[tokio::test]
async fn a_password_too_short_or_too_long_by_hand_is_replaced_before_it_is_tried() {
    for by_hand in ["canary", &"canary".repeat(13)] {
        let mut bed = Bed::logged_in().await;
        bed.vault.edit(|stored| stored.password = Sensitive::new(by_hand));
        bed.session.forget();
        bed.server.revoke(true, true);
        bed.poll().await.expect("a poll");
        assert_eq!(
            bed.events(),
            [LIST, REFRESH, LOGIN, ADMIN_LOGIN, STORE_PASSWORD, CREATE, RESET, LOGIN, LIST, STORE_TOKENS]
        );
        assert_eq!(bed.server.lock().users["k8s-operator"], "canary-password-1");
    }
}

#[tokio::test]
async fn a_password_that_the_server_cannot_hash_is_replaced_once() {
    for account_exists in [false, true] {
        let mut bed = Bed::logged_in().await;
        bed.vault.edit(|stored| stored.password = Sensitive::new("canary-10!"));
        bed.session.forget();
        bed.server.revoke(true, true);
        bed.server.lock().password_min = 12;
        if !account_exists {
            bed.server.lock().users.clear();
        }
        bed.poll().await.expect("a poll");
        let mut events = vec![LIST, REFRESH, LOGIN, ADMIN_LOGIN, CREATE];
        events.extend(if account_exists { &[RESET, STORE_PASSWORD, RESET][..] } else { &[STORE_PASSWORD, CREATE] });
        events.extend([LOGIN, LIST, STORE_TOKENS]);
        assert_eq!(bed.events(), events);
        assert_eq!(bed.vault.stored().expect("a Secret").password.expose(), "canary-password-1");
    }
}

#[tokio::test]
async fn a_server_that_can_hash_nothing_costs_one_new_password_and_no_more() {
    let mut bed = Bed::new().await;
    bed.server.lock().password_min = 500;
    for _ in 0..5 {
        assert_eq!(bed.poll().await.expect_err("no poll").category(), "bad-answer");
    }
    assert_eq!(bed.vault.writes(), 2);
    bed.server.lock().password_min = 8;
    bed.poll().await.expect("a poll");
    assert_eq!(bed.server.lock().users["k8s-operator"], "canary-password-1");
}

#[tokio::test]
async fn another_failure_of_the_server_replaces_no_password() {
    let mut bed = Bed::new().await;
    bed.server.fail("POST /team-a/files/api/v1/users", Fault::Status(500));
    for _ in 0..3 {
        let error = bed.poll().await.expect_err("no poll");
        assert_eq!(error.to_string(), "creating the operator's account: the server answered 500 (it broke)");
    }
    assert_eq!(bed.vault.stored().expect("a Secret").password.expose(), "canary-password-0");
    assert_eq!(bed.vault.writes(), 1);
}

#[tokio::test]
async fn a_refused_administrator_is_told_apart() {
    let mut bed = Bed::new().await;
    bed.server.lock().admin_password = "changed on the server".to_owned();
    let mut texts = HashSet::new();
    for asked in [&[ADMIN_LOGIN, HEALTH][..], &[HEALTH]] {
        let error = bed.poll().await.expect_err("no poll");
        assert_eq!((error.category(), error.problem()), ("admin-unauthorized", super::super::super::Problem::Auth));
        assert_eq!(bed.events(), asked);
        texts.insert(error.to_string());
    }
    assert_eq!(texts.len(), 1, "the same failure has the same text: {texts:?}");
    assert_eq!(bed.vault.writes(), 0);
}

#[tokio::test]
async fn a_server_that_refuses_operator_and_administrator_is_asked_with_growing_pauses() {
    let mut bed = Bed::logged_in().await;
    bed.server.revoke(true, true);
    bed.server.lock().users.insert("k8s-operator".to_owned(), "changed on the server".to_owned());
    bed.server.lock().admin_password = "changed on the server".to_owned();
    let mut asked = Vec::new();
    for second in 0..1000 {
        bed.poll_after(Duration::from_secs(second) + Duration::from_millis(1)).await.expect_err("no poll");
        let events = bed.events();
        let logins = events.iter().filter(|event| event.starts_with("POST /auth/login")).count();
        assert!(logins == 0 || logins == 2, "{events:?}");
        if logins > 0 {
            asked.push(second);
        }
    }
    assert_eq!(asked, [0, 10, 30, 70, 150, 310, 610, 910]);
    bed.server.lock().admin_password = "canary-admin-password".to_owned();
    assert!(bed.poll_after(Duration::from_secs(1300)).await.expect("a poll").provisioned);
    assert_eq!(bed.poll_after(Duration::from_secs(1301)).await.expect("a poll").adapters.len(), 2);
}

#[tokio::test]
async fn a_refusal_ends_when_a_secret_holds_something_else_and_not_when_it_was_only_touched() {
    let refused = async || {
        let mut bed = Bed::logged_in().await;
        bed.server.revoke(true, true);
        bed.server.lock().users.insert("k8s-operator".to_owned(), "canary-of-old".to_owned());
        bed.server.lock().admin_password = "canary-new-admin".to_owned();
        bed.poll().await.expect_err("no poll");
        bed.server.take_events();
        bed
    };
    let mut bed = refused().await;
    bed.session.forget();
    bed.poll().await.expect_err("the Secrets are as they were");
    assert_eq!(bed.events(), [HEALTH]);

    *bed.vault.admin.lock().expect("a lock") =
        Some(AdminAccount { username: "admin".to_owned(), password: Sensitive::new("canary-new-admin") });
    bed.poll().await.expect_err("nobody said so");
    assert_eq!(bed.events(), [HEALTH]);
    bed.session.forget();
    assert!(bed.poll().await.expect("a poll").provisioned);

    let mut bed = refused().await;
    bed.vault.edit(|stored| stored.password = Sensitive::new("canary-of-old"));
    bed.session.forget();
    assert!(!bed.poll().await.expect("a poll").provisioned, "the operator's own password was put right");
    assert_eq!(bed.events(), [LIST, REFRESH, LOGIN, LIST, STORE_TOKENS], "with the tokens that stand there");
}

#[tokio::test]
async fn a_refusal_ends_with_the_server_that_refused() {
    for seen_by_kubernetes in [false, true] {
        let mut bed = Bed::new().await;
        bed.server.lock().admin_password = "changed on the server".to_owned();
        bed.poll().await.expect_err("no poll");
        bed.server.lock().admin_password = "canary-admin-password".to_owned();
        bed.poll().await.expect_err("nobody knows");
        if seen_by_kubernetes {
            bed.session.server_is_new(Instant::now());
        } else {
            bed.server.lock().started = "2026-11-22T00:00:00Z".to_owned();
        }
        bed.poll().await.expect("a poll");
    }
}

#[tokio::test]
async fn an_account_that_was_switched_off_is_not_set_up_again_and_again() {
    let mut bed = Bed::logged_in().await;
    bed.server.revoke(true, true);
    bed.server.lock().accounts_off = true;
    for asked in [&[LIST, REFRESH, LOGIN, ADMIN_LOGIN, CREATE, RESET, LOGIN, HEALTH][..], &[HEALTH], &[HEALTH]] {
        let error = bed.poll().await.expect_err("no poll");
        assert_eq!(error.category(), "unauthorized", "{error}");
        assert_eq!(bed.events(), asked);
    }
}

#[tokio::test]
async fn a_missing_administrator_secret_is_told_apart_and_costs_no_request() {
    let mut bed = Bed::new().await;
    let admin = bed.vault.admin.lock().expect("a lock").take();
    assert_eq!(bed.poll().await.expect_err("no poll").category(), "admin-secret-missing");
    assert!(bed.events().is_empty());
    *bed.vault.admin.lock().expect("a lock") = admin;
    bed.poll().await.expect("a poll");
}

#[tokio::test]
async fn an_administrator_with_the_operators_name_keeps_its_password() {
    let mut bed = Bed::new().await;
    bed.server.lock().users.insert("k8s-operator".to_owned(), "canary-of-the-admin".to_owned());
    *bed.vault.admin.lock().expect("a lock") =
        Some(AdminAccount { username: "k8s-operator".to_owned(), password: Sensitive::new("canary-of-the-admin") });
    let error = bed.poll().await.expect_err("no poll");
    assert!(error.to_string().contains("choose another spec.identity.admin.username"), "{error}");
    assert!(bed.events().is_empty());
}
