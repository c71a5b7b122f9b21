//! The operator's login through its life: whatever happens to passwords, accounts and the server's database, it comes
//! back by itself, and asks few times for it.

use base64::Engine as _;
use dittofs_testbed::cluster::resources;
use dittofs_testbed::dittofs::{Record, ServerHandle};
use dittofs_testbed::world::condition;
use serde_json::{Value, json};

use crate::look::LATER;
use crate::support::Bed;

const ACCOUNT: &str = "k8s-operator";

fn encoded(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn logins(dittofs: &ServerHandle) -> usize {
    dittofs.requests().iter().filter(|request| request.is_login()).count()
}

impl Bed {
    async fn patch_secret(&self, name: &str, data: Value) {
        self.world.namespace().patch(resources::SECRETS, name, &json!({"data": data})).await.expect("a change");
    }

    /// The stored password of the operator's account.
    async fn stored_password(&self) -> String {
        let secret = self.get(resources::SECRETS, "files-operator-credentials").await;
        secret["data"]["password"].as_str().unwrap_or_default().to_owned()
    }

    /// Breaks something, and waits until the operator has new tokens and polls with them; `most` logins may be tried.
    async fn recovers(&self, what: &str, most: usize, broken: impl AsyncFnOnce(&ServerHandle)) {
        let dittofs = self.dittofs("files");
        let before = logins(&dittofs);
        broken(&dittofs).await;
        let operator = |requests: &[Record]| requests.iter().filter(|request| request.is_login()).count() > before;
        dittofs.wait_for(operator, LATER).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        self.wait_polls("files", 3).await;
        self.wait_condition("files", "Authenticated", "True", "AuthenticationSucceeded").await;
        let tried = logins(&dittofs) - before;
        assert!(tried <= most, "{what}: {tried} logins");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_passwords_deleted_accounts_and_lost_databases_are_recovered_from_with_few_logins() {
    let bed = Bed::new("auth-life").await;
    bed.ready_server("files", &json!({})).await;
    bed.wait_polls("files", 2).await;

    let password = bed.stored_password().await;
    // Whenever the operator sets its account up anew it also looks what the server may have lost: one login more.
    bed.recovers("rotated on the server", 4, async |dittofs| {
        dittofs.set_password(ACCOUNT, "rotated-on-the-server");
        dittofs.revoke_tokens();
    })
    .await;
    assert_eq!(bed.stored_password().await, password, "the stored password is the truth");

    bed.recovers("rotated in the Secret", 4, async |_| {
        let data = json!({"password": encoded("rotated-in-the-secret"), "access-token": null, "refresh-token": null});
        bed.patch_secret("files-operator-credentials", data).await;
    })
    .await;
    assert_eq!(bed.stored_password().await, encoded("rotated-in-the-secret"));

    bed.recovers("rotated on both", 4, async |dittofs| {
        dittofs.set_password(ACCOUNT, "rotated-on-both");
        bed.patch_secret("files-operator-credentials", json!({"password": encoded("rotated-on-both")})).await;
        dittofs.revoke_tokens();
    })
    .await;
    assert_eq!(bed.stored_password().await, encoded("rotated-on-both"));

    let provisioned = |dittofs: &ServerHandle| dittofs.users().iter().any(|user| user.username == ACCOUNT);
    bed.recovers("account deleted", 4, async |dittofs| {
        dittofs.delete_user(ACCOUNT);
        dittofs.revoke_tokens();
    })
    .await;
    assert!(provisioned(&bed.dittofs("files")));

    bed.recovers("database lost", 5, async |dittofs| {
        dittofs.lose_database();
        dittofs.revoke_tokens();
        dittofs.restart();
    })
    .await;
    assert!(provisioned(&bed.dittofs("files")));

    // The administrator's password is changed on the server and in its Secret, which the pod reads, too: it rolls.
    let admin = "files-admin-bootstrap-credentials";
    bed.dittofs("files").set_password("admin", "another-administrator");
    bed.patch_secret(admin, json!({"password": encoded("another-administrator")})).await;
    bed.wait_starts(2).await;
    bed.world.wait_ready("files").await.expect("it is ready again");
    bed.recovers("administrator's password changed", 6, async |dittofs| {
        dittofs.delete_user(ACCOUNT);
        dittofs.revoke_tokens();
    })
    .await;
    bed.wait_event("AuthProvisioned", "provisioned").await;
    assert!(bed.events("AdminBootstrapUnauthorized").await.is_empty());
    assert!(bed.events("AdminCredentialUnauthorized").await.is_empty());
    bed.finish(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_administrator_is_told_and_not_hammered_and_taken_up_at_once_when_put_right() {
    let bed = Bed::new("auth-wrong-admin").await;
    let dittofs = bed.dittofs("files");
    dittofs.set_admin("admin", "the-password-that-holds");
    let secret = json!({"metadata": {"name": "own-admin"}, "data": {"password": encoded("a-wrong-password")}});
    bed.world.namespace().create_object(resources::SECRETS, &secret).await.expect("a Secret");
    let spec = json!({
        "adapterDiscovery": {"pollingInterval": "1s"},
        "identity": {"admin": {"passwordSecretRef": {"name": "own-admin", "key": "password"}}},
    });
    bed.world.apply_server("files", &spec).await.expect("the server is accepted");
    bed.wait_condition("files", "Authenticated", "False", "AuthenticationFailed").await;
    bed.wait_event("AdminBootstrapUnauthorized", "has to hold the password that the server knows").await;
    // Ten more polls, each of which could have tried a password; they ask everybody's health instead.
    let health = |requests: &[Record]| {
        requests.iter().filter(|request| request.path == "/health" && request.ended.is_some()).count()
    };
    let before = health(&dittofs.requests());
    dittofs.wait_for(|requests| health(requests) >= before + 10, LATER).await.expect("polls go on");
    let tried = logins(&dittofs);
    assert!((1..=3).contains(&tried), "{tried} logins");

    bed.patch_secret("own-admin", json!({"password": encoded("the-password-that-holds")})).await;
    bed.world.wait_ready("files").await.expect("it becomes ready");
    let server = bed.world.server("files").await.expect("the server");
    assert_eq!(condition(&server, "Authenticated").expect("a condition")["status"], "True");
    assert!(logins(&dittofs) <= tried + 5, "{} logins", logins(&dittofs));
    assert_eq!(bed.events("AdminBootstrapUnauthorized").await.len(), 1);
    // The pod reads the Secret, too.
    bed.finish(2).await;
}
