//! S9: status is true. `observedGeneration` is never ahead of what was applied, the hash is one that was applied, Ready is
//! said only of a server that is.

use super::{Broken, GROUP, Promise, View, report};
use crate::audit::entry::{Entry, Micros};
use crate::audit::history::State;
use serde_json::Value;

/// How far the operator's picture of the StatefulSet may lag behind.
const LAG: i64 = 2 * Micros::SECOND;

pub(super) fn check(view: &View<'_>, broken: &mut Vec<Broken>) {
    // Without the status that the StatefulSet's controller wrote nothing can be said about readiness.
    let sees_readiness = view
        .history
        .of_kind("apps", "statefulsets")
        .any(|(_, states)| states.iter().any(|state| state.object["status"]["readyReplicas"].is_i64()));
    let killed = view.facts.starts.len() > 1;
    for (key, states) in view.history.of_kind(GROUP, "dittoservers") {
        let set_key = ("apps".to_owned(), "statefulsets".to_owned(), key.2.clone(), key.3.clone());
        let sets = view.history.states(&set_key);
        for (at, state) in states.iter().enumerate() {
            let ours =
                state.written && state.entry.user == view.facts.user && state.entry.object.subresource == "status";
            if !ours {
                continue;
            }
            let server = state.object;
            let mut fail = |words: String| {
                let words = format!("DittoServer {}/{}: {words}", key.2, key.3);
                report(broken, Promise::S9, words, &[state.entry]);
            };
            let observed = server["status"]["observedGeneration"].as_i64().unwrap_or_default();
            let generation = server["metadata"]["generation"].as_i64().unwrap_or(i64::MAX);
            if observed > generation {
                fail(format!("observedGeneration {observed} while the generation is {generation}"));
            }
            let known = at.checked_sub(1).map(|before| &states[before].object["status"]["observedGeneration"]);
            let advanced = known.and_then(Value::as_i64).unwrap_or_default() < observed;
            if advanced && in_hash(server) && !applied(states, sets, observed, state.entry, killed) {
                fail(format!("observedGeneration {observed} before the StatefulSet was written for it"));
            }
            let hash = server["status"]["configHash"].as_str().unwrap_or_default();
            if !hash.is_empty() && !sets.is_empty() && !was_hash(sets, hash, state.entry.received) {
                fail("configHash is none that the StatefulSet had".to_owned());
            }
            if sees_readiness && says_ready(server) && !is_ready(sets, server, state.entry.received) {
                fail("Ready while the StatefulSet was not".to_owned());
            }
        }
    }
}

/// Whether a new generation means a new template: the hash has the generation in it.
fn in_hash(server: &Value) -> bool {
    let spec = &server["spec"];
    spec["rollout"]["onSpecChange"].as_str().unwrap_or("Always") == "Always"
        && spec["replicas"].as_i64() != Some(0)
        && !server["metadata"]["deletionTimestamp"].is_string()
}

/// Whether the StatefulSet was written, by an operator, between the spec's write and the status's. Of a write whose answer
/// a `killed` operator did not live to hear, only what comes later may tell: a read, or the controller's status of it.
fn applied(states: &[State<'_>], sets: &[State<'_>], generation: i64, told: &Entry, killed: bool) -> bool {
    let version = |set: &State<'_>| set.object["metadata"]["generation"].as_i64();
    let of = |state: &&State<'_>| state.object["metadata"]["generation"].as_i64() == Some(generation);
    // A generation whose write the log does not show cannot be judged.
    let Some(spec) = states.iter().find(of).filter(|state| state.written) else { return true };
    sets.iter().enumerate().any(|(at, set)| {
        let heard = set.written
            && set.entry.object.subresource.is_empty()
            && set.entry.user.starts_with("system:serviceaccount:");
        let unheard = || {
            let before = at.checked_sub(1).map(|before| version(&sets[before]));
            let is_spec_write = set.written && set.entry.object.subresource.is_empty();
            killed && !is_spec_write && before.is_none_or(|before| before < version(set))
        };
        (heard || unheard()) && set.entry.received >= spec.entry.received && set.entry.finished <= told.received
    })
}

fn was_hash(sets: &[State<'_>], hash: &str, until: Micros) -> bool {
    sets.iter().any(|set| {
        set.entry.received <= until
            && set.object["spec"]["template"]["metadata"]["annotations"]["dittofs.io/config-hash"] == hash
    })
}

fn says_ready(server: &Value) -> bool {
    let conditions = server["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Whether a state of the StatefulSet that the operator could have before it had all its pods ready.
fn is_ready(sets: &[State<'_>], server: &Value, at: Micros) -> bool {
    let wanted = server["spec"]["replicas"].as_i64().unwrap_or(1);
    sets.iter().enumerate().any(|(index, set)| {
        let ends = sets.get(index + 1).map_or(i64::MAX, |next| next.entry.finished.0);
        let number = |value: &Value| value.as_i64().unwrap_or_default();
        set.entry.received <= at
            && ends >= at.0 - LAG
            && set.object["spec"]["replicas"].as_i64() == Some(wanted)
            && number(&set.object["status"]["readyReplicas"]) == wanted
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{OPERATOR, Run, judged};
    use super::Promise::S9;
    use serde_json::json;

    fn created() -> Run {
        let mut run = Run::new();
        run.stateful_set(OPERATOR, 10, |_| {}).at(1000);
        run
    }

    #[test]
    fn a_generation_is_observed_after_it_was_applied() {
        let mut run = created();
        run.status(11, json!({"observedGeneration": 1, "configHash": "one"})).at(2000);
        assert!(!judged(&run).contains(&S9));
        run.user_server(|server| {
            server["metadata"]["generation"] = json!(2);
            server["metadata"]["resourceVersion"] = json!("12");
        })
        .at(4000);
        run.status(13, json!({"observedGeneration": 2})).at(5000);
        assert!(judged(&run).contains(&S9), "nothing was applied");
        run.drop_last();
        run.stateful_set(OPERATOR, 14, |set| set["metadata"]["labels"] = json!({})).at(4500);
        run.status(15, json!({"observedGeneration": 2})).at(5000);
        assert!(!judged(&run).contains(&S9));
    }

    #[test]
    fn a_write_that_a_killed_operator_did_not_hear_of_is_known_from_a_read() {
        let mut run = created();
        run.user_server(|server| {
            server["metadata"]["generation"] = json!(2);
            server["metadata"]["resourceVersion"] = json!("12");
        })
        .at(4000);
        let read = |set: &mut serde_json::Value| set["metadata"]["generation"] = json!(2);
        run.stateful_set(OPERATOR, 14, read).at(4500);
        run.facts.entries.last_mut().unwrap().verb = "get".to_owned();
        run.status(15, json!({"observedGeneration": 2})).at(5000);
        assert!(judged(&run).contains(&S9), "the one operator knows what it wrote");
        run.facts.starts = vec![super::Micros(0), super::Micros(4_400_000)];
        assert!(!judged(&run).contains(&S9));
        // The controller may be the first to be seen with it.
        let seen = &mut run.facts.entries[3];
        assert_eq!(seen.verb, "get");
        (seen.verb, seen.user) =
            ("update".to_owned(), "system:serviceaccount:kube-system:statefulset-controller".to_owned());
        seen.object.subresource = "status".to_owned();
        assert!(!judged(&run).contains(&S9));
        run.facts.starts.pop();
        assert!(judged(&run).contains(&S9));
    }

    #[test]
    fn a_generation_that_is_not_there_is_found() {
        let mut run = created();
        run.status(11, json!({"observedGeneration": 2})).at(2000);
        assert!(judged(&run).contains(&S9));
    }

    #[test]
    fn a_hash_that_was_never_applied_is_found() {
        let mut run = created();
        run.status(11, json!({"observedGeneration": 1, "configHash": "two"})).at(2000);
        assert!(judged(&run).contains(&S9));
    }

    #[test]
    fn ready_is_said_only_of_a_server_that_is() {
        let ready = json!({"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True"}]});
        let mut run = created();
        run.status(11, ready.clone()).at(2000);
        assert!(!judged(&run).contains(&S9));

        let mut run = created();
        run.stateful_set("stand-in", 11, |set| set["status"]["readyReplicas"] = json!(0)).at(2000);
        run.status(12, ready.clone()).at(2500);
        assert!(!judged(&run).contains(&S9), "it cannot know yet");
        run.drop_last();
        run.status(12, ready).at(9000);
        assert!(judged(&run).contains(&S9));
    }
}
