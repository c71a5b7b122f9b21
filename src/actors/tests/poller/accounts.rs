//! The operator's account at the server, through the real Vault over the scripted API server.

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use dittofs_testbed::dittofs::{Mode, Record, Role as Account, Scope};
use serde_json::json;
use tokio::time::sleep;

use super::{ADMIN, Bed, CREDENTIALS};
use crate::actors::messages::{CredentialsTouched, Fact, Role};
use crate::actors::testing::api::Fault;
use crate::actors::testing::{eventually, run_in_real_time};
use crate::actors::vault::secret_text;
use crate::cluster::Kind;

fn text(bed: &Bed, key: &str) -> String {
    secret_text(&bed.bench.api.get(Kind::Secret, CREDENTIALS), key).unwrap_or_default()
}

#[test]
fn the_account_is_made_once_and_its_secret_is_written_when_something_changed_only() {
    run_in_real_time(async {
        let bed = Bed::polling().await;
        let users = bed.server.users();
        let user = users.iter().find(|user| user.username == "k8s-operator").expect("the account");
        assert_eq!(user.role, Account::Operator);
        assert_eq!(text(&bed, "username"), "k8s-operator");
        assert_eq!(text(&bed, "password").len(), 32);
        let secret = bed.bench.api.get(Kind::Secret, CREDENTIALS);
        assert_eq!(secret["metadata"]["ownerReferences"][0]["uid"], "uid-files");
        assert_eq!(bed.bench.api.reasons(), ["AuthProvisioned"]);
        let stores = bed.stores();
        assert!(stores <= 2, "{stores}");
        bed.polls(2).await;
        // The watch brings its own write back.
        bed.address.do_send(CredentialsTouched);
        bed.polls(2).await;
        assert_eq!(bed.stores(), stores);
        let logins = bed.server.requests().iter().filter(|request| request.is_login()).count();
        assert_eq!(logins, 3, "the administrator for the account, the operator, the administrator for nfs");
    });
}

#[test]
fn a_token_near_its_end_is_refreshed_and_one_that_cannot_be_leads_to_a_login() {
    run_in_real_time(async {
        let bed = Bed::new().await;
        bed.server.set_token_lifetime(Duration::from_secs(3));
        bed.poke();
        eventually("the first observation", || bed.observations() == 1).await;
        eventually("the administrator's session", || bed.observed.last().is_some_and(|told| told.nfs.is_some())).await;
        let (first, stores) = (text(&bed, "access-token"), bed.stores());
        bed.server.clear_requests();
        eventually("new tokens are stored", || bed.stores() > stores).await;
        assert_ne!(text(&bed, "access-token"), first);
        assert!(!bed.server.requests().iter().any(Record::is_login), "by refresh");

        bed.server.set_mode(Mode::Unauthorized, Scope::Refresh);
        bed.server.clear_requests();
        eventually("a login", || bed.server.requests().iter().any(Record::is_login)).await;
        bed.polls(2).await;
        assert!(bed.answered());
        assert_eq!((bed.observations(), bed.bench.api.reasons()), (1, vec!["AuthProvisioned".to_owned()]));
    });
}

#[test]
fn tokens_that_are_good_no_more_are_renewed_within_the_poll() {
    run_in_real_time(async {
        let bed = Bed::polling().await;
        bed.server.revoke_tokens();
        bed.polls(2).await;
        assert!(bed.answered());
        let polls = bed.status.facts();
        assert!(polls.len() <= 2, "no failure in between: {polls:?}");
    });
}

#[test]
fn an_account_that_was_deleted_or_whose_password_was_changed_on_the_server_is_made_good() {
    run_in_real_time(async {
        let bed = Bed::polling().await;
        let password = text(&bed, "password");
        bed.server.delete_user("k8s-operator");
        bed.server.revoke_tokens();
        eventually("it is made again", || bed.server.users().iter().any(|user| user.username == "k8s-operator")).await;
        bed.polls(2).await;
        bed.server.set_password("k8s-operator", "changed-by-somebody");
        bed.server.revoke_tokens();
        bed.polls(3).await;
        assert!(bed.answered());
        assert_eq!(text(&bed, "password"), password, "the stored password is the truth");
        assert_eq!(bed.observations(), 1);
    });
}

#[test]
fn a_database_that_was_lost_gets_the_account_anew() {
    run_in_real_time(async {
        let bed = Bed::polling().await;
        bed.server.lose_database();
        bed.server.revoke_tokens();
        eventually("the account", || bed.server.users().iter().any(|user| user.username == "k8s-operator")).await;
        bed.polls(2).await;
        assert!(bed.answered());
    });
}

#[test]
fn a_password_that_was_changed_in_the_secret_is_given_to_the_account() {
    run_in_real_time(async {
        let bed = Bed::polling().await;
        bed.bench.api.change(Kind::Secret, CREDENTIALS, |secret| {
            secret["data"]["password"] = json!(BASE64_STANDARD.encode("a-password-of-my-own"));
            secret["data"].as_object_mut().expect("data").remove("access-token");
            secret["data"].as_object_mut().expect("data").remove("refresh-token");
            secret["metadata"]["annotations"] = json!({"example.com/mine": "kept"});
        });
        bed.address.do_send(CredentialsTouched);
        eventually("tokens for it", || !text(&bed, "access-token").is_empty()).await;
        assert!(bed.answered());
        assert_eq!(text(&bed, "password"), "a-password-of-my-own");
        let secret = bed.bench.api.get(Kind::Secret, CREDENTIALS);
        assert_eq!(secret["metadata"]["annotations"]["example.com/mine"], "kept");
    });
}

#[test]
fn a_secret_that_was_deleted_comes_back() {
    run_in_real_time(async {
        let bed = Bed::polling().await;
        bed.bench.api.remove(Kind::Secret, CREDENTIALS);
        bed.address.do_send(CredentialsTouched);
        eventually("it is there", || bed.bench.api.find(Kind::Secret, CREDENTIALS).is_some()).await;
        bed.polls(2).await;
        assert!(bed.answered());
        assert!(!text(&bed, "password").is_empty() && !text(&bed, "access-token").is_empty());
    });
}

#[test]
fn an_administrators_password_that_is_wrong_is_reported_and_taken_up_at_once_when_it_is_put_right() {
    run_in_real_time(async {
        let bed = Bed::new().await;
        let good = bed.bench.api.get(Kind::Secret, ADMIN)["data"].clone();
        bed.bench.edit(|spec| spec["adapterDiscovery"]["pollingInterval"] = json!("1h"));
        bed.bench.api.change(Kind::Secret, ADMIN, |secret| secret["data"]["password"] = json!("d3Jvbmc="));
        bed.poke();
        eventually("it is reported", || bed.refused()).await;
        assert_eq!(bed.bench.api.reasons(), ["AdminBootstrapUnauthorized"]);
        assert_eq!(bed.stores(), 0, "nothing is stored for an account that cannot be made");
        bed.bench.api.change(Kind::Secret, ADMIN, |secret| secret["data"] = good.clone());
        bed.address.do_send(CredentialsTouched);
        eventually("the first observation", || bed.observations() == 1).await;
    });
}

#[test]
fn an_administrators_secret_that_is_missing_is_reported_by_name() {
    run_in_real_time(async {
        let bed = Bed::new().await;
        bed.bench.api.remove(Kind::Secret, ADMIN);
        bed.poke();
        eventually("it is reported", || bed.refused()).await;
        assert!(format!("{:?}", bed.fact()).contains(ADMIN), "{:?}", bed.fact());
        sleep(Duration::from_millis(500)).await;
        assert_eq!((bed.server.requests().len(), bed.observations()), (0, 0));
    });
}

#[test]
fn tokens_that_cannot_be_stored_are_used_all_the_same_and_stored_later() {
    run_in_real_time(async {
        let bed = Bed::polling().await;
        bed.bench.api.fail(usize::MAX, &format!("PUT Secret {CREDENTIALS}"), Fault::Status(403, "Forbidden"));
        bed.server.revoke_tokens();
        let old = text(&bed, "access-token");
        bed.polls(4).await;
        assert!(bed.answered());
        assert_eq!(text(&bed, "access-token"), old);
        bed.bench.api.heal();
        eventually("they are stored", || text(&bed, "access-token") != old).await;
        assert_eq!(bed.observations(), 1);
    });
}

#[test]
fn a_credentials_secret_of_somebody_else_is_left_alone_and_reported() {
    run_in_real_time(async {
        let bed = Bed::new().await;
        let foreign =
            bed.bench.api.put(Kind::Secret, json!({"metadata": {"name": CREDENTIALS}, "data": {"a": "Yg=="}}));
        bed.poke();
        eventually("it is reported", || bed.fact().is_some()).await;
        assert!(format!("{:?}", bed.fact()).contains(CREDENTIALS), "{:?}", bed.fact());
        sleep(Duration::from_secs(1)).await;
        assert_eq!(bed.bench.api.get(Kind::Secret, CREDENTIALS), foreign);
        assert_eq!(bed.observations(), 0);
    });
}

/// As somebody's `kubectl edit` of one key.
fn edited(bed: &Bed, key: &str, value: Option<&str>) {
    bed.bench.api.change(Kind::Secret, CREDENTIALS, |secret| {
        // What is taken out has no owner any more.
        let mut fields = json!({});
        if let Some(value) = value {
            secret["data"][key] = json!(BASE64_STANDARD.encode(value));
            fields = json!({"f:data": {(format!("f:{key}")): {}}});
        } else {
            secret["data"].as_object_mut().expect("data").remove(key);
        }
        secret["metadata"]["managedFields"] =
            json!([{"manager": "kubectl-edit", "operation": "Update", "fieldsV1": fields}]);
    });
    bed.address.do_send(CredentialsTouched);
}

fn repairs(bed: &Bed) -> Vec<String> {
    let events = bed.bench.api.events().into_iter();
    events.filter(|(reason, _)| reason == "DriftRepaired").map(|(_, note)| note).collect()
}

#[test]
fn a_credentials_secret_that_somebody_deletes_or_edits_is_set_right_and_told_by_the_names_of_its_keys() {
    run_in_real_time(async {
        let bed = Bed::polling().await;
        bed.server.revoke_tokens();
        bed.polls(2).await;
        assert_eq!(repairs(&bed), [""; 0], "new tokens set nothing back");
        let (url, token) = (text(&bed, "server-url"), text(&bed, "access-token"));

        bed.bench.api.remove(Kind::Secret, CREDENTIALS);
        bed.address.do_send(CredentialsTouched);
        eventually("it is made again", || bed.bench.api.find(Kind::Secret, CREDENTIALS).is_some()).await;
        eventually("it is told", || repairs(&bed).len() == 1).await;
        assert_eq!(repairs(&bed), ["Secret files-operator-credentials was deleted by somebody, and was made again"]);
        bed.polls(2).await;

        edited(&bed, "server-url", Some("http://elsewhere.example"));
        eventually("the URL is set back", || text(&bed, "server-url") == url).await;
        eventually("it is told", || repairs(&bed).len() == 2).await;
        assert_eq!(repairs(&bed)[1], "Secret files-operator-credentials: set back data.server-url (kubectl-edit)");
        edited(&bed, "access-token", None);
        eventually("a token is there again", || !text(&bed, "access-token").is_empty()).await;
        eventually("it is told", || repairs(&bed).len() == 3).await;
        assert!(repairs(&bed)[2].contains("data.access-token (somebody)"), "{:?}", repairs(&bed));
        assert_ne!(text(&bed, "access-token"), token);
        // A password of theirs counts: it is given to the account, and nothing is set back.
        edited(&bed, "password", Some("a-password-of-my-own"));
        bed.polls(3).await;
        assert_eq!((text(&bed, "password").as_str(), repairs(&bed).len()), ("a-password-of-my-own", 3));
        assert!(bed.answered());
    });
}

#[test]
fn who_deletes_the_credentials_again_and_again_is_met_more_slowly_and_the_server_is_watched_all_the_while() {
    run_in_real_time(async {
        let bed = Bed::polling().await;
        for repaired in 1..=3 {
            bed.bench.api.remove(Kind::Secret, CREDENTIALS);
            bed.address.do_send(CredentialsTouched);
            eventually("it is made again at once", || repairs(&bed).len() == repaired).await;
            bed.polls(1).await;
        }
        bed.bench.api.remove(Kind::Secret, CREDENTIALS);
        bed.address.do_send(CredentialsTouched);
        bed.polls(2).await;
        assert!(bed.bench.api.find(Kind::Secret, CREDENTIALS).is_none(), "it rests");
        assert!(bed.answered(), "{:?}", bed.fact());
        let fought = bed.status.facts().into_iter().rev().find_map(|fact| match fact {
            Fact::Fought(Role::AdapterPoller, fights) => Some(fights),
            _ => None,
        });
        let fought = fought.expect("a fact about a fight");
        assert!(fought.len() == 1 && fought[0].contains("Secret files-operator-credentials"), "{fought:?}");
        eventually("it is made again later", || bed.bench.api.find(Kind::Secret, CREDENTIALS).is_some()).await;
        bed.polls(2).await;
        assert!(bed.answered());
    });
}

#[test]
fn tokens_that_another_operator_had_stored_are_renewed_and_that_is_no_repair() {
    run_in_real_time(async {
        let bed = Bed::polling().await;
        // As after the way back and forth: the same values, under another name.
        bed.bench.api.change(Kind::Secret, CREDENTIALS, |secret| {
            let keys = json!({"f:access-token": {}, "f:refresh-token": {}, "f:password": {}, "f:server-url": {}});
            secret["metadata"]["managedFields"] =
                json!([{"manager": "manager", "operation": "Update", "fieldsV1": {"f:data": keys}}]);
        });
        bed.address.do_send(CredentialsTouched);
        bed.polls(2).await;
        let token = text(&bed, "access-token");
        bed.server.revoke_tokens();
        eventually("new tokens are stored", || text(&bed, "access-token") != token).await;
        bed.polls(1).await;
        assert_eq!(repairs(&bed), [""; 0]);
    });
}
