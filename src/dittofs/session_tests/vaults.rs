//! What the vault is asked, told, and not believed.

use super::*;

#[tokio::test]
async fn tokens_that_could_not_be_stored_are_used_and_stored_later() {
    let mut bed = Bed::logged_in().await;
    bed.vault.refuse_writes.store(true, Ordering::SeqCst);
    bed.server.revoke(true, false);
    let poll = bed.poll().await.expect("a poll");
    assert!(poll.refreshed && matches!(poll.vault_error, Some(VaultError::Write { .. })));
    let poll = bed.poll().await.expect("a poll");
    assert!(!poll.refreshed && poll.vault_error.is_some(), "it was tried again");
    assert_eq!(bed.events(), [LIST, REFRESH, LIST, LIST]);
    bed.vault.refuse_writes.store(false, Ordering::SeqCst);
    assert!(bed.poll().await.expect("a poll").vault_error.is_none());
    bed.poll().await.expect("a poll");
    assert_eq!(bed.events(), [LIST, STORE_TOKENS, LIST]);
}

#[tokio::test]
async fn tokens_that_could_not_be_stored_survive_a_look_at_the_vault() {
    let mut bed = Bed::logged_in().await;
    bed.vault.refuse_writes.store(true, Ordering::SeqCst);
    bed.server.revoke(true, false);
    bed.poll().await.expect("a poll");
    bed.session.forget();
    bed.poll().await.expect("a poll");
    assert_eq!(bed.events(), [LIST, REFRESH, LIST, LIST]);
}

#[tokio::test]
async fn a_look_at_what_the_session_itself_stored_changes_nothing() {
    let mut bed = Bed::logged_in().await;
    let writes = bed.vault.writes();
    bed.session.forget();
    bed.poll().await.expect("a poll");
    assert_eq!(bed.events(), [LIST]);
    assert_eq!(bed.vault.writes(), writes);
    bed.poll_after(Duration::from_mins(15)).await.expect("a poll");
    assert_eq!(bed.events(), [REFRESH, LIST, STORE_TOKENS], "the life of the token is still known");
}

#[tokio::test]
async fn a_write_that_was_done_but_reported_failed_is_recognised() {
    let mut bed = Bed::logged_in().await;
    bed.server.revoke(true, false);
    bed.vault.lie.store(true, Ordering::SeqCst);
    assert!(bed.poll().await.expect("a poll").vault_error.is_some());
    bed.vault.lie.store(false, Ordering::SeqCst);
    bed.events();
    bed.session.forget();
    bed.poll().await.expect("a poll");
    assert_eq!(bed.events(), [LIST]);
    bed.poll_after(Duration::from_mins(15)).await.expect("a poll");
    assert_eq!(bed.events(), [REFRESH, LIST, STORE_TOKENS], "the life of the token is still known");
}

#[tokio::test]
async fn the_stored_url_and_user_name_are_written_and_never_used() {
    let trap = Server::start().await;
    let mut bed = Bed::logged_in().await;
    bed.vault.edit(|stored| {
        stored.server_url = trap.base.to_string();
        stored.username = "admin".to_owned();
        stored.password = Sensitive::new("canary-by-hand");
        stored.access_token = None;
        stored.refresh_token = None;
    });
    bed.restart();
    bed.poll().await.expect("a poll");
    assert!(trap.take_events().is_empty(), "the operator went where the Secret said");
    assert_eq!(bed.server.lock().admin_password, "canary-admin-password");
    assert_eq!(bed.events(), [LOGIN, ADMIN_LOGIN, CREATE, RESET, LOGIN, LIST, STORE_TOKENS]);
    let stored = bed.vault.stored().expect("a Secret");
    assert_eq!((stored.username.as_str(), stored.server_url.as_str()), ("k8s-operator", bed.server.base.as_str()));
}

#[tokio::test]
async fn a_server_that_moves_to_another_url_is_written_once() {
    let mut bed = Bed::logged_in().await;
    let port = bed.server.base.port().expect("a port");
    bed.server.base = Url::parse(&format!("http://localhost:{port}/team-a/files/")).expect("a URL");
    for _ in 0..2 {
        bed.poll().await.expect("a poll");
    }
    assert_eq!(bed.events(), [LIST, STORE_TOKENS, LIST]);
    let url = bed.vault.stored().expect("a Secret").server_url;
    assert_eq!(url, format!("http://localhost:{port}/team-a/files"));
}

#[tokio::test]
async fn a_vault_that_hangs_ends_with_the_poll() {
    let mut bed = Bed::with_timeout(Duration::from_millis(200)).await;
    bed.vault.hang.store(true, Ordering::SeqCst);
    let error = bed.poll().await.expect_err("no poll");
    assert_eq!(error.category(), "vault");
    assert!(error.to_string().contains("reading the credentials Secret"), "{error}");
}

#[tokio::test]
async fn a_vault_that_is_away_or_silent_ends_no_poll_that_has_a_token_and_is_read_later() {
    let mut bed = Bed::logged_in().await;
    bed.session.forget();
    let reads = bed.vault.reads();
    let vault = bed.vault.clone();
    for fault in [&vault.away, &vault.hang] {
        fault.store(true, Ordering::SeqCst);
        let poll = bed.poll().await.expect("a poll");
        assert!(poll.vault_error.is_none(), "there was nothing to store");
        fault.store(false, Ordering::SeqCst);
    }
    assert_eq!((bed.events(), bed.vault.reads()), ([LIST; 2].map(String::from).to_vec(), reads));
    bed.poll().await.expect("a poll");
    bed.poll().await.expect("a poll");
    assert_eq!(bed.vault.reads(), reads + 1);
}

#[tokio::test]
async fn what_somebody_stored_while_the_vault_was_away_is_not_written_over() {
    let mut bed = Bed::logged_in().await;
    bed.vault.edit(|stored| stored.password = Sensitive::new("canary-by-hand"));
    bed.session.forget();
    bed.vault.away.store(true, Ordering::SeqCst);
    bed.server.revoke(true, false);
    let writes = bed.vault.writes();
    let poll = bed.poll().await.expect("a poll");
    assert!(poll.refreshed && matches!(poll.vault_error, Some(VaultError::Away { .. })), "{:?}", poll.vault_error);
    assert_eq!(bed.vault.writes(), writes);
    bed.vault.away.store(false, Ordering::SeqCst);
    bed.poll().await.expect("a poll");
    assert_eq!(bed.vault.stored().expect("a Secret").password, Sensitive::new("canary-by-hand"));
}
