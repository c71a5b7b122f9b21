//! Snapshot policies of the spec on the server: applied, awaited, left alone, and told.

use dittofs_testbed::dittofs::{Caller, Record};
use dittofs_testbed::world::condition;
use serde_json::{Value, json};

use crate::look::LATER;
use crate::support::Bed;

const APPLIED: &str = "SnapshotPoliciesApplied";

/// A spec with these policies, whose change restarts nothing.
fn spec(policies: &Value) -> Value {
    json!({"snapshotPolicies": policies, "rollout": {"onSpecChange": "WhenNeeded"}})
}

/// Requests for the policy of a share or for all of them, by method.
fn asked(requests: &[Record], method: &str) -> usize {
    requests.iter().filter(|one| one.method == method && one.path.contains("snapshot-polic")).count()
}

fn logins(requests: &[Record]) -> usize {
    requests.iter().filter(|request| request.is_login()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_follow_the_spec_wait_for_their_shares_and_are_never_deleted() {
    let bed = Bed::new("snapshot-policies").await;
    let dittofs = bed.dittofs("files");
    dittofs.add_share("/archive");
    let archive = json!({"share": "archive", "interval": "@daily", "keepLast": 7, "ttl": "720h", "namePrefix": "auto"});
    let late = json!({"share": "/late", "interval": "6h"});
    bed.ready_server("files", &spec(&json!([archive, late]))).await;
    bed.wait_condition("files", APPLIED, "False", "ShareNotFound").await;
    bed.wait_message("files", APPLIED, "False", "not exist yet: /late").await;
    assert_eq!(
        dittofs.snapshot_policy("/archive"),
        Some(json!({"interval": "@daily", "keep_last": 7, "ttl": "720h", "enabled": true, "name_prefix": "auto"}))
    );

    // To wait costs no login; the share that comes is seen by the next poll.
    let before = logins(&dittofs.requests());
    bed.wait_polls("files", 3).await;
    assert!(logins(&dittofs.requests()) <= before + 1, "the pod became ready meanwhile, at most");
    dittofs.add_share("/late");
    bed.wait_condition("files", APPLIED, "True", "PoliciesApplied").await;
    assert_eq!(dittofs.snapshot_policy("/late").expect("a policy")["interval"], "6h");

    // Only what differs is written, and nothing while nothing does.
    let puts = asked(&dittofs.requests(), "PUT");
    let mut changed = archive.clone();
    changed["keepLast"] = json!(14);
    bed.world.apply_server("files", &spec(&json!([changed, late]))).await.expect("a change");
    dittofs.wait_for(|requests| asked(requests, "PUT") > puts, LATER).await.expect("the change is written");
    bed.wait_condition("files", APPLIED, "True", "PoliciesApplied").await;
    assert_eq!(dittofs.snapshot_policy("/archive").expect("a policy")["keep_last"], 14);
    bed.wait_polls("files", 3).await;
    assert_eq!(asked(&dittofs.requests(), "PUT"), puts + 1);

    // What is taken out stays on the server, and status says so, also to an operator that has just started.
    bed.world.apply_server("files", &spec(&json!([changed]))).await.expect("a change");
    bed.wait_message("files", APPLIED, "True", "does not name, of /late").await;
    bed.world.apply_server("files", &spec(&json!([]))).await.expect("a change");
    bed.wait_condition("files", APPLIED, "True", "LeftOnServer").await;
    let lists = asked(&dittofs.requests(), "GET");
    bed.world.operator().restart().await.expect("another operator");
    bed.world.operator().wait_ready().await.expect("it starts");
    dittofs.wait_for(|requests| asked(requests, "GET") > lists, LATER).await.expect("it looks");
    bed.wait_message("files", APPLIED, "True", "of /archive, /late").await;
    assert!(dittofs.snapshot_policy("/archive").is_some() && dittofs.snapshot_policy("/late").is_some());
    assert_eq!(asked(&dittofs.requests(), "DELETE"), 0);

    // Gone with the database: there is nothing left to tell.
    dittofs.lose_database();
    dittofs.revoke_tokens();
    bed.world
        .wait_server("files", "to say nothing of policies", LATER, |server| match condition(server, APPLIED) {
            None => Ok(()),
            Some(found) => Err(found.to_string()),
        })
        .await
        .expect("the condition goes");
    let requests = dittofs.requests();
    let as_others = requests.iter().filter(|request| request.path.contains("snapshot-polic"));
    assert_eq!(as_others.filter(|request| request.caller != Caller::Admin).count(), 0);
    assert!(requests.iter().all(|request| request.status != Some(403)));
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_the_server_does_not_take_is_told_in_its_words_and_harms_nothing_else() {
    let bed = Bed::new("snapshot-refused").await;
    let dittofs = bed.dittofs("files");
    dittofs.add_share("/a");
    dittofs.add_share("/b");
    // The operator reads milliseconds, and this server does not.
    let policies = |first: &str| json!([{"share": "/a", "interval": first}, {"share": "/b", "interval": "1h"}]);
    bed.ready_server("files", &spec(&policies("1500ms"))).await;
    bed.wait_condition("files", APPLIED, "False", "PolicyRefused").await;
    bed.wait_message("files", APPLIED, "False", "share /a: writing a snapshot policy: the server answered 400").await;
    bed.wait_event("SnapshotPolicyFailed", "correct its entry in spec.snapshotPolicies").await;
    assert!(dittofs.snapshot_policy("/b").is_some());
    bed.world.wait_ready("files").await.expect("the server is ready all the same");
    bed.world.apply_server("files", &spec(&policies("2h"))).await.expect("a change");
    bed.wait_condition("files", APPLIED, "True", "PoliciesApplied").await;
    bed.finish(1).await;
}
