//! S2: no restart without need. The template that pods run changes only with an input; a change of adapter ports alone is
//! held back from a running pod, and the hold covers nothing else.

use super::{Broken, GROUP, Promise, View, adapter_ports, report};
use crate::audit::entry::Micros;
use crate::audit::history::{Key, State};
use serde_json::Value;

/// An input may have been read a little before it was told that it changed.
const SLACK: i64 = 500_000;

/// Annotation of a DittoServer, and then of its pod template, that asks for a restart.
const RESTART_AT: &str = "dittofs.io/restart-at";

pub(super) fn check(view: &View<'_>, broken: &mut Vec<Broken>) {
    if let (Some(most), Some(starts)) = (view.facts.expect.pod_starts, view.facts.pod_starts)
        && starts > most
    {
        report(broken, Promise::S2, format!("{starts} pods were started, {most} at most were needed"), &[]);
    }
    for (key, states) in view.history.of_kind("apps", "statefulsets") {
        stateful_set(view, key, states, broken);
    }
}

fn template(set: &Value) -> &Value {
    &set["spec"]["template"]
}

/// The template without the ports that follow the adapters.
pub(super) fn core(template: &Value) -> Value {
    let mut core = template.clone();
    let containers = core.pointer_mut("/spec/containers").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten() {
        if let Some(ports) = container["ports"].as_array_mut() {
            ports.retain(|port| !port["name"].as_str().unwrap_or_default().starts_with("adapter-"));
            if ports.is_empty() {
                container["ports"] = Value::Null;
            }
        } else {
            container["ports"] = Value::Null;
        }
    }
    core
}

fn held(set: &Value) -> bool {
    let partition = set["spec"]["updateStrategy"]["rollingUpdate"]["partition"].as_i64().unwrap_or_default();
    partition > 0 && partition >= set["spec"]["replicas"].as_i64().unwrap_or(1)
}

fn has_pods(set: &Value) -> bool {
    let some = |count: &Value| count.as_i64().unwrap_or_default() > 0;
    some(&set["status"]["replicas"]) && some(&set["spec"]["replicas"])
}

fn stateful_set(view: &View<'_>, key: &Key, states: &[State<'_>], broken: &mut Vec<Broken>) {
    // Inputs that changed after this time justify the next change.
    let mut since = states.first().map_or(Micros(0), |state| state.entry.received);
    // What the pods run while a hold keeps the newer template from them.
    let mut running: Option<&Value> = None;
    // The template as the operator left it.
    let mut left: Option<&Value> = None;
    // Made by another operator, or by hand: that one is taken over with its first change.
    let made_by_other =
        |state: &State<'_>| state.written && state.entry.verb == "create" && state.entry.user != view.facts.user;
    let mut theirs = states.first().is_some_and(made_by_other);
    for pair in states.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        if before.uid() != after.uid() {
            (since, running, left) = (after.entry.received, None, None);
            theirs = made_by_other(after);
            continue;
        }
        let ours = after.written && after.entry.user == view.facts.user && after.entry.object.subresource.is_empty();
        let (old, new) = (template(before.object), template(after.object));
        if ours {
            let mut fail = |words: &str| {
                let words = format!("StatefulSet {}/{}: {words}", key.2, key.3);
                report(broken, Promise::S2, words, &[after.entry]);
            };
            if core(old) != core(new) {
                let repaired = left.is_some_and(|left| core(left) != core(old));
                let input = input_changed(view, key, since, after.entry.received)
                    || restart_asked(view, key, old, new, after.entry.received);
                let taken_over = theirs && left.is_none();
                if !repaired && !input && !taken_over {
                    fail(&format!(
                        "the pod template changed and no input did ({})",
                        difference(&core(old), &core(new))
                    ));
                }
                since = after.entry.received;
            }
            let policy = view.server_of(after.object, after.entry.received);
            let policy = policy.and_then(|server| server["spec"]["rollout"]["onPortChange"].as_str());
            let run = running.unwrap_or(old);
            let same_core = core(run) == core(new);
            let ports_differ = adapter_ports(run) != adapter_ports(new);
            if has_pods(after.object) {
                if policy == Some("WithNextRollout") && same_core && adapter_ports(old) != adapter_ports(new) {
                    fail("a port change alone was written, against WithNextRollout");
                } else if !held(after.object) && same_core && ports_differ && policy != Some("Immediate") {
                    fail("a port change alone reaches the running pod");
                } else if held(after.object) && !same_core {
                    fail("a change that the server must see is held back with the ports");
                }
            }
            left = Some(new);
        }
        match (held(before.object), held(after.object)) {
            (false, true) => running = Some(old),
            (_, false) => running = None,
            _ => {}
        }
    }
}

/// Whether the DittoServer's spec, or a Secret of its namespace, was changed by someone else.
fn input_changed(view: &View<'_>, key: &Key, since: Micros, until: Micros) -> bool {
    view.foreign_writes().any(|entry| {
        let object = &entry.object;
        if object.namespace != key.2 || entry.finished < since.plus(-SLACK) || entry.received > until {
            return false;
        }
        match object.resource.as_str() {
            "secrets" => true,
            "dittoservers" if object.api_group == GROUP && object.name == key.3 && object.subresource.is_empty() => {
                let generation = |object: &Value| object["metadata"]["generation"].as_i64();
                // A server's creation comes before its StatefulSet's.
                match (view.history.before(entry), entry.result()) {
                    _ if entry.verb == "create" => false,
                    (Some(before), Some(after)) => generation(before.object) != generation(after),
                    _ => true,
                }
            }
            _ => false,
        }
    })
}

/// Whether the template differs in the restart that its DittoServer asks for, and in nothing else.
fn restart_asked(view: &View<'_>, key: &Key, old: &Value, new: &Value, at: Micros) -> bool {
    let asked = |template: &Value| template["metadata"]["annotations"][RESTART_AT].clone();
    let mut rest = new.clone();
    rest["metadata"]["annotations"][RESTART_AT] = asked(old);
    let mut before = old.clone();
    before["metadata"]["annotations"][RESTART_AT] = asked(old);
    let server = view.history.at(&View::server_key(&key.2, &key.3), at, None);
    asked(new).is_string()
        && core(&rest) == core(&before)
        && server.is_some_and(|server| server.object["metadata"]["annotations"][RESTART_AT] == asked(new))
}

/// Where two values differ first, as a path; values stay out.
fn difference(old: &Value, new: &Value) -> String {
    fn walk(old: &Value, new: &Value, path: &str) -> Option<String> {
        match (old, new) {
            (Value::Object(a), Value::Object(b)) => {
                let keys = a.keys().chain(b.keys());
                keys.filter(|key| a.get(*key) != b.get(*key))
                    .find_map(|key| walk(&old[key.as_str()], &new[key.as_str()], &format!("{path}.{key}")))
            }
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                (0..a.len()).find_map(|at| walk(&old[at], &new[at], &format!("{path}[{at}]")))
            }
            _ if old != new => Some(path.to_owned()),
            _ => None,
        }
    }
    walk(old, new, "template").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{OPERATOR, Run, judged};
    use super::Promise::S2;
    use serde_json::{Value, json};

    fn created() -> Run {
        let mut run = Run::new();
        run.stateful_set(OPERATOR, 10, |_| {}).at(1000);
        run
    }

    fn hash(value: &'static str) -> impl FnOnce(&mut Value) {
        move |set| set["spec"]["template"]["metadata"]["annotations"]["dittofs.io/config-hash"] = json!(value)
    }

    fn move_nfs(set: &mut Value) {
        set["spec"]["template"]["spec"]["containers"][0]["ports"][1]["containerPort"] = json!(12050);
    }

    fn partition(set: &mut Value, value: i64) {
        set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(value);
    }

    #[test]
    fn more_pod_starts_than_stated_are_found() {
        let mut run = created();
        run.facts.expect.pod_starts = Some(1);
        run.facts.pod_starts = Some(1);
        assert!(!judged(&run).contains(&S2));
        run.facts.pod_starts = Some(2);
        assert!(judged(&run).contains(&S2));
    }

    #[test]
    fn what_another_operator_made_is_taken_over_with_one_change() {
        let mut run = Run::new();
        run.stateful_set("another", 10, |_| {}).at(1000);
        run.facts.entries.last_mut().unwrap().verb = "create".to_owned();
        run.stateful_set(OPERATOR, 11, hash("two")).at(5000);
        assert!(!judged(&run).contains(&S2));
        run.stateful_set(OPERATOR, 12, hash("three")).at(8000);
        assert!(judged(&run).contains(&S2), "once");
    }

    #[test]
    fn a_template_changes_with_an_input_only() {
        let mut run = created();
        run.stateful_set(OPERATOR, 11, hash("two")).at(5000);
        assert!(judged(&run).contains(&S2));

        let mut run = created();
        run.user_secret("my-admin").at(4000);
        run.stateful_set(OPERATOR, 11, hash("two")).at(5000);
        assert!(!judged(&run).contains(&S2));
        run.stateful_set(OPERATOR, 12, hash("three")).at(8000);
        assert!(judged(&run).contains(&S2), "one input, two changes");

        let mut run = created();
        run.user_server(|server| {
            server["metadata"]["generation"] = json!(2);
            server["metadata"]["resourceVersion"] = json!("20");
        })
        .at(4000);
        run.stateful_set(OPERATOR, 21, hash("two")).at(5000);
        assert!(!judged(&run).contains(&S2));

        let mut run = created();
        run.user_server(|server| {
            server["metadata"]["labels"] = json!({"a": "b"});
            server["metadata"]["resourceVersion"] = json!("20");
        })
        .at(4000);
        run.stateful_set(OPERATOR, 21, hash("two")).at(5000);
        assert!(judged(&run).contains(&S2), "a label of the server is no input");
    }

    #[test]
    fn a_restart_that_is_asked_for_is_an_input_for_itself_alone() {
        let run = |asked: Option<&'static str>, change: fn(&mut Value)| {
            let mut run = created();
            run.user_server(|server| {
                server["metadata"]["annotations"] = json!({"dittofs.io/restart-at": asked});
                server["metadata"]["resourceVersion"] = json!("20");
            })
            .at(4000);
            run.stateful_set(OPERATOR, 21, |set| {
                set["spec"]["template"]["metadata"]["annotations"]["dittofs.io/restart-at"] = json!("now");
                change(set);
            })
            .at(5000);
            judged(&run).contains(&S2)
        };
        assert!(!run(Some("now"), |_| {}));
        assert!(run(Some("later"), |_| {}), "another text");
        assert!(run(None, |_| {}), "nobody asked");
        assert!(run(Some("now"), |set| hash("two")(set)), "the hash with it");
    }

    #[test]
    fn what_others_did_to_the_template_may_be_repaired() {
        let mut run = created();
        run.stateful_set(OPERATOR, 11, |set| set["metadata"]["labels"] = json!({"x": "y"})).at(2000);
        run.stateful_set("admin", 12, hash("by hand")).at(3000);
        run.stateful_set(OPERATOR, 13, hash("one")).at(4000);
        assert!(!judged(&run).contains(&S2));
    }

    #[test]
    fn a_port_change_alone_is_held_back() {
        let mut run = created();
        run.stateful_set(OPERATOR, 11, |set| {
            move_nfs(set);
            partition(set, 1);
        })
        .at(5000);
        assert!(!judged(&run).contains(&S2));
        run.stateful_set(OPERATOR, 12, |set| partition(set, 0)).at(6000);
        assert!(judged(&run).contains(&S2), "the hold was lifted for nothing");

        let mut run = created();
        run.stateful_set(OPERATOR, 11, move_nfs).at(5000);
        assert!(judged(&run).contains(&S2), "not held");

        let mut run = created();
        run.stateful_set("stand-in", 11, |set| set["status"]["replicas"] = json!(0)).at(2000);
        run.stateful_set(OPERATOR, 12, move_nfs).at(5000);
        assert!(!judged(&run).contains(&S2), "no pod to protect");
    }

    #[test]
    fn policies_decide_about_port_changes() {
        for (policy, hold, fine) in [
            ("Immediate", 0, true),
            ("WithNextRollout", 1, false),
            ("WithNextRollout", 0, false),
            ("Deferred", 1, true),
        ] {
            let mut run = created();
            run.user_server(|server| {
                server["spec"]["rollout"] = json!({"onPortChange": policy});
                server["metadata"]["resourceVersion"] = json!("5");
            })
            .at(500);
            run.stateful_set(OPERATOR, 11, |set| {
                move_nfs(set);
                partition(set, hold);
            })
            .at(5000);
            assert_eq!(!judged(&run).contains(&S2), fine, "{policy} {hold}");
        }
    }

    #[test]
    fn a_held_change_goes_out_with_the_next_one_and_never_stays_behind_it() {
        let held = || {
            let mut run = created();
            run.stateful_set(OPERATOR, 11, |set| {
                move_nfs(set);
                partition(set, 1);
            })
            .at(5000);
            run.user_secret("my-admin").at(6000);
            run
        };
        let mut run = held();
        run.stateful_set(OPERATOR, 12, |set| {
            hash("two")(set);
            partition(set, 0);
        })
        .at(7000);
        assert!(!judged(&run).contains(&S2));
        let mut run = held();
        run.stateful_set(OPERATOR, 12, hash("two")).at(7000);
        assert!(judged(&run).contains(&S2), "swallowed by the hold");
        let mut run = held();
        run.stateful_set("admin", 12, |set| {
            set["spec"]["template"]["metadata"]["annotations"]["restartedAt"] = json!("now");
        })
        .at(7000);
        run.stateful_set(OPERATOR, 13, |set| partition(set, 0)).at(8000);
        assert!(!judged(&run).contains(&S2), "a rollout restart of the user");
    }
}
