//! What the poller does as the server's administrator: snapshot policies and the NFS adapter's further ports.

use dittofs_testbed::dittofs::{Caller, Mode, Record, Scope};
use serde_json::{Value, json};

use super::{ADMIN, Bed};
use crate::actors::messages::{CredentialsTouched, Fact, Resend, ServerReachable};
use crate::actors::testing::{eventually, run_in_real_time};
use crate::cluster::Kind;
use crate::reconcile::NfsPorts;
use crate::reconcile::status::SnapshotsFact;

impl Bed {
    /// A server with these shares and these policies, and a poller that has begun.
    pub(super) async fn with_policies(shares: &[&str], policies: Value) -> Self {
        let bed = Self::new().await;
        for share in shares {
            bed.server.add_share(share);
        }
        bed.edit(|spec| spec["snapshotPolicies"] = policies);
        bed
    }

    pub(super) fn snapshots(&self) -> Option<SnapshotsFact> {
        let mut facts = self.status.facts().into_iter().rev();
        facts.find_map(|fact| if let Fact::Snapshots(fact) = fact { Some(fact) } else { None })
    }

    pub(super) async fn wait_snapshots(&self, what: &str, right: impl Fn(&SnapshotsFact) -> bool) {
        eventually(what, || self.snapshots().is_some_and(|fact| right(&fact))).await;
    }

    /// Ended requests of a method whose path ends so.
    pub(super) fn asked(&self, method: &str, end: &str) -> usize {
        let matches = |request: &&Record| request.method == method && request.path.ends_with(end);
        self.server.requests().iter().filter(matches).count()
    }

    pub(super) fn logins(&self) -> usize {
        self.asked("POST", "/auth/login")
    }
}

fn applied(fact: &SnapshotsFact) -> bool {
    matches!(fact, SnapshotsFact::Asked { missing, refused, .. } if missing.is_empty() && refused.is_empty())
}

#[test]
fn policies_are_applied_once_and_again_only_where_they_differ() {
    run_in_real_time(async {
        let policies = json!([
            {"share": "/archive", "interval": "@daily", "keepLast": 7, "ttl": "720h", "namePrefix": "auto"},
            {"share": "home", "interval": "6h", "enabled": false},
        ]);
        let bed = Bed::with_policies(&["/archive", "/home"], policies).await;
        bed.wait_snapshots("they are applied", applied).await;
        assert_eq!(
            bed.server.snapshot_policy("/archive"),
            Some(json!({"interval": "@daily", "keep_last": 7, "ttl": "720h", "enabled": true, "name_prefix": "auto"}))
        );
        assert_eq!(bed.server.snapshot_policy("/home").expect("a policy")["enabled"], false);
        assert_eq!(bed.asked("PUT", "/snapshot-policy"), 2);
        let logins = bed.logins();
        bed.polls(3).await;
        assert_eq!((bed.asked("PUT", "/snapshot-policy"), bed.logins()), (2, logins), "nothing changed");

        // The server's pod starts anew: everything is looked at, and nothing written.
        bed.address.do_send(ServerReachable);
        eventually("another session", || bed.asked("GET", "/snapshot-policies") >= 2).await;
        bed.polls(2).await;
        assert_eq!(bed.asked("PUT", "/snapshot-policy"), 2);

        bed.edit(|spec| spec["snapshotPolicies"][1]["interval"] = json!("12h"));
        eventually("the new interval", || bed.server.snapshot_policy("/home").expect("one")["interval"] == "12h").await;
        bed.wait_snapshots("it is told", applied).await;
        assert_eq!(bed.asked("PUT", "/archive/snapshot-policy") + bed.asked("PUT", "%2Farchive/snapshot-policy"), 1);
    });
}

#[test]
fn what_was_taken_out_of_the_spec_stays_on_the_server_and_is_told_until_it_is_gone() {
    run_in_real_time(async {
        let bed = Bed::with_policies(&["/archive"], json!([{"share": "/archive", "interval": "1h"}])).await;
        bed.wait_snapshots("it is applied", applied).await;
        bed.edit(|spec| spec["snapshotPolicies"] = json!([]));
        let left = |fact: &SnapshotsFact| matches!(fact, SnapshotsFact::Asked { wanted: 0, others, .. } if others == &["/archive"]);
        bed.wait_snapshots("what is left", left).await;
        assert!(bed.server.snapshot_policy("/archive").is_some());
        assert_eq!(bed.asked("DELETE", "/snapshot-policy"), 0);
        bed.server.lose_database();
        bed.address.do_send(ServerReachable);
        bed.wait_snapshots("nothing is left", |fact| *fact == SnapshotsFact::Unwanted).await;
        let told = bed.status.count();
        bed.address.do_send(Resend);
        eventually("it is said again", || bed.status.count() > told).await;
        assert_eq!(bed.snapshots(), Some(SnapshotsFact::Unwanted));
    });
}

#[test]
fn a_share_that_is_not_there_is_awaited_without_a_session_and_its_policy_applied_when_it_comes() {
    run_in_real_time(async {
        let policies = json!([{"share": "/late", "interval": "1h"}, {"share": "/there", "interval": "1h"}]);
        let bed = Bed::with_policies(&["/there"], policies).await;
        let waits = |fact: &SnapshotsFact| matches!(fact, SnapshotsFact::Asked { missing, refused, .. } if missing == &["/late"] && refused.is_empty());
        bed.wait_snapshots("it waits", waits).await;
        assert!(bed.server.snapshot_policy("/there").is_some(), "one that waits holds no other up");
        let (logins, looked) = (bed.logins(), bed.asked("GET", "/health/ready"));
        bed.polls(3).await;
        assert_eq!(bed.logins(), logins, "nobody logs in to wait");
        assert!(bed.asked("GET", "/health/ready") > looked);
        bed.server.add_share("/late");
        bed.wait_snapshots("it is applied", applied).await;
        assert!(bed.server.snapshot_policy("/late").is_some());
        assert_eq!(bed.logins(), logins + 1);
        assert!(!bed.bench.api.reasons().contains(&"SnapshotPolicyFailed".to_owned()), "to wait is no failure");
    });
}

#[test]
fn a_policy_that_the_server_does_not_take_is_told_by_share_and_words() {
    run_in_real_time(async {
        let bed = Bed::new().await;
        bed.server.add_share("/a");
        bed.server.set_mode(Mode::Status(422), Scope::SnapshotPolicies);
        bed.edit(|spec| spec["snapshotPolicies"] = json!([{"share": "/a", "interval": "1h"}]));
        let failed = |fact: &SnapshotsFact| matches!(fact, SnapshotsFact::Failed { reason: "BadAnswer", .. });
        bed.wait_snapshots("the list fails", failed).await;
        assert!(bed.answered(), "polls are not touched by it");
        bed.server.heal();
        // A duration that the operator reads and this server does not.
        bed.edit(|spec| spec["snapshotPolicies"][0]["interval"] = json!("1500ms"));
        let refused = |fact: &SnapshotsFact| {
            matches!(fact, SnapshotsFact::Asked { refused, .. }
                if refused.len() == 1 && refused[0].contains("share /a") && refused[0].contains("invalid interval"))
        };
        bed.wait_snapshots("it is refused", refused).await;
        eventually("the event", || bed.bench.api.reasons().contains(&"SnapshotPolicyFailed".to_owned())).await;
        bed.edit(|spec| spec["snapshotPolicies"][0]["interval"] = json!("2h"));
        bed.wait_snapshots("it is taken", applied).await;
    });
}

#[test]
fn the_further_ports_of_nfs_are_told_and_a_reading_that_fails_tells_nothing() {
    run_in_real_time(async {
        let bed = Bed::new().await;
        bed.server.patch_nfs_settings(&json!({"portmapper_enabled": true}));
        bed.poke();
        let told = || bed.observed.last().and_then(|observed| observed.nfs);
        eventually("they are told", || told() == Some(NfsPorts { portmapper: Some(10111), udp: false })).await;
        for mode in [Mode::Status(500), Mode::Garbage, Mode::Null, Mode::UnknownShape, Mode::HalfBody] {
            bed.server.set_mode(mode.clone(), Scope::NfsSettings);
            bed.server.patch_nfs_settings(&json!({"portmapper_enabled": false}));
            let (count, asked) = (bed.observed.count(), bed.asked("GET", "/nfs/settings"));
            bed.address.do_send(ServerReachable);
            eventually("it is read", || bed.asked("GET", "/nfs/settings") > asked).await;
            bed.polls(2).await;
            assert_eq!((bed.observed.count(), told()), (count, Some(NfsPorts { portmapper: Some(10111), udp: false })));
            assert!(bed.answered(), "{mode:?}");
        }
        bed.server.heal();
        bed.address.do_send(ServerReachable);
        eventually("they are gone", || told() == Some(NfsPorts::default())).await;
    });
}

#[test]
fn an_administrator_who_is_refused_is_asked_rarely_and_at_once_when_his_secret_is_put_right() {
    run_in_real_time(async {
        let bed = Bed::new().await;
        // The account is there: the operator needs no administrator to poll.
        let good = bed.bench.api.get(Kind::Secret, ADMIN)["data"].clone();
        bed.poke();
        eventually("the first observation", || bed.observed.count() >= 1).await;
        eventually("the settings", || bed.asked("GET", "/nfs/settings") == 1).await;
        bed.bench.api.change(Kind::Secret, ADMIN, |secret| secret["data"]["password"] = json!("d3Jvbmc="));
        bed.server.add_share("/a");
        bed.edit(|spec| spec["snapshotPolicies"] = json!([{"share": "/a", "interval": "1h"}]));
        let refused = |fact: &SnapshotsFact| matches!(fact, SnapshotsFact::Failed { reason: "AdminRefused", .. });
        bed.wait_snapshots("it is refused", refused).await;
        eventually("the event", || bed.bench.api.reasons().last().is_some_and(|r| r == "AdminCredentialUnauthorized"))
            .await;
        let logins = bed.logins();
        // News and touched Secrets change nothing while the same administrator is refused.
        bed.edit(|spec| spec["snapshotPolicies"][0]["interval"] = json!("2h"));
        bed.address.do_send(CredentialsTouched);
        bed.polls(4).await;
        assert_eq!(bed.logins(), logins);
        assert!(bed.answered());
        bed.bench.api.change(Kind::Secret, ADMIN, |secret| secret["data"] = good.clone());
        bed.address.do_send(CredentialsTouched);
        bed.wait_snapshots("it is applied", applied).await;
        assert_eq!(bed.server.snapshot_policy("/a").expect("a policy")["interval"], "2h");
        assert_eq!(bed.logins(), logins + 1);
    });
}

#[test]
fn what_only_an_administrator_may_is_never_asked_as_the_operator() {
    run_in_real_time(async {
        let bed = Bed::with_policies(&["/a"], json!([{"share": "/a", "interval": "1h"}])).await;
        bed.wait_snapshots("it is applied", applied).await;
        bed.polls(1).await;
        let requests = bed.server.requests();
        assert!(requests.iter().all(|request| request.status != Some(403)), "{requests:?}");
        let admin_only = |path: &str| path.contains("snapshot") || path.ends_with("/settings");
        for request in requests.iter().filter(|request| admin_only(&request.path)) {
            assert_eq!(request.caller, Caller::Admin, "{request:?}");
        }
        let poll = bed.server.polls().pop().expect("a poll");
        assert_eq!(poll.caller, Caller::Operator, "the session's token was forgotten");
    });
}
