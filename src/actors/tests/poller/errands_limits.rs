//! Where an administrator's session ends or does not begin: a pause, a refusal in the middle, the operator's own name, what
//! is left when nothing is wanted any more, and what the server may take later.

use dittofs_testbed::dittofs::{Mode, Scope};
use serde_json::json;

use super::Bed;
use crate::actors::messages::ServerReachable;
use crate::actors::testing::{eventually, run_in_real_time};
use crate::cluster::Kind;
use crate::reconcile::status::SnapshotsFact;

fn applied(fact: &SnapshotsFact) -> bool {
    matches!(fact, SnapshotsFact::Asked { missing, refused, .. } if missing.is_empty() && refused.is_empty())
}

fn refused(fact: &SnapshotsFact) -> bool {
    matches!(fact, SnapshotsFact::Failed { reason: "AdminRefused", .. })
}

impl Bed {
    fn pause(&self, paused: &str) {
        self.bench.api.change(Kind::DittoServer, "files", |server| {
            server["metadata"]["annotations"] = json!({"dittofs.io/paused": paused});
        });
        self.bench.sync();
        self.poke();
    }
}

#[test]
fn a_paused_server_is_not_administered_and_nothing_is_said_to_have_failed() {
    run_in_real_time(async {
        let bed = Bed::polling().await;
        bed.server.add_share("/a");
        bed.pause("true");
        bed.polls(1).await;
        let (logins, looked) = (bed.logins(), bed.asked("GET", "/health/ready"));
        bed.edit(|spec| spec["snapshotPolicies"] = json!([{"share": "/a", "interval": "1h"}]));
        bed.polls(3).await;
        assert_eq!((bed.logins(), bed.asked("GET", "/health/ready")), (logins, looked), "nothing is begun");
        assert!(!bed.snapshots().is_some_and(|fact| matches!(fact, SnapshotsFact::Failed { .. })));
        bed.pause("false");
        bed.wait_snapshots("it is applied", applied).await;
    });
}

#[test]
fn an_administrator_who_is_refused_in_the_middle_is_asked_for_nothing_more() {
    run_in_real_time(async {
        let bed = Bed::polling().await;
        for share in ["/a", "/b", "/c"] {
            bed.server.add_share(share);
        }
        bed.server.set_mode(Mode::Forbidden, Scope::SnapshotPolicyWrites);
        let policy = |share: &str| json!({"share": share, "interval": "1h"});
        bed.edit(|spec| spec["snapshotPolicies"] = json!([policy("/a"), policy("/b"), policy("/c")]));
        bed.wait_snapshots("it is refused", refused).await;
        assert_eq!(bed.asked("PUT", "/snapshot-policy"), 1, "what follows would end the same");
    });
}

#[test]
fn an_administrator_of_the_operators_own_name_is_never_logged_in() {
    run_in_real_time(async {
        let bed = Bed::polling().await;
        bed.server.add_share("/a");
        let logins = bed.logins();
        bed.edit(|spec| {
            spec["identity"] = json!({"admin": {"username": "k8s-operator"}});
            spec["snapshotPolicies"] = json!([{"share": "/a", "interval": "1h"}]);
        });
        bed.wait_snapshots("it is told", |fact| matches!(fact, SnapshotsFact::Failed { .. })).await;
        assert_eq!(bed.logins(), logins);
        assert!(bed.server.snapshot_policy("/a").is_none());
    });
}

#[test]
fn where_nothing_is_wanted_and_nothing_is_left_nothing_is_asked() {
    run_in_real_time(async {
        let bed = Bed::with_policies(&["/a"], json!([{"share": "/a", "interval": "1h"}])).await;
        bed.wait_snapshots("it is applied", applied).await;
        bed.edit(|spec| spec["snapshotPolicies"] = json!([]));
        bed.server.lose_database();
        bed.address.do_send(ServerReachable);
        bed.wait_snapshots("nothing is left", |fact| *fact == SnapshotsFact::Unwanted).await;
        let (listed, read) = (bed.asked("GET", "/snapshot-policies"), bed.asked("GET", "/nfs/settings"));
        bed.address.do_send(ServerReachable);
        eventually("another session", || bed.asked("GET", "/nfs/settings") > read).await;
        bed.polls(1).await;
        assert_eq!(bed.asked("GET", "/snapshot-policies"), listed);
    });
}

#[test]
fn a_policy_that_was_not_taken_is_tried_again_when_the_shares_are_others() {
    run_in_real_time(async {
        // A duration that the operator reads and this server does not.
        let bed = Bed::with_policies(&["/a"], json!([{"share": "/a", "interval": "1500ms"}])).await;
        let not_taken =
            |fact: &SnapshotsFact| matches!(fact, SnapshotsFact::Asked { refused, .. } if refused.len() == 1);
        bed.wait_snapshots("it is not taken", not_taken).await;
        let (logins, written) = (bed.logins(), bed.asked("PUT", "/snapshot-policy"));
        bed.polls(2).await;
        assert_eq!((bed.logins(), bed.asked("PUT", "/snapshot-policy")), (logins, written), "not at every poll");
        bed.server.add_share("/b");
        eventually("another attempt", || bed.asked("PUT", "/snapshot-policy") > written).await;
        assert_eq!(bed.logins(), logins + 1);
    });
}
