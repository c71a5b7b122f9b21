//! S6: bounded load: one LIST a kind and scope in 30 s, no write without a difference, a bounded number of writes, whole
//! Secrets read only one by one and only those that a server names, a status not more often than once a second.

use super::{Broken, GROUP, Promise, View, place, report};
use crate::audit::entry::{Entry, Micros};
use crate::audit::history::{key_of, version_of};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// One LIST in this time.
const LIST_PERIOD: i64 = 30 * Micros::SECOND;
/// One write of a status in this time, less what two requests may differ in their way to the API server.
const STATUS_PERIOD: i64 = Micros::SECOND - 150_000;

pub(super) fn check(view: &View<'_>, broken: &mut Vec<Broken>) {
    lists(view, broken);
    needless_writes(view, broken);
    counts(view, broken);
    secrets(view, broken);
}

/// A LIST from the start; a streaming list is one too.
fn is_list(entry: &Entry) -> bool {
    let continued = entry.uri.contains("continue=") && !entry.uri.contains("continue=&");
    match entry.verb.as_str() {
        "list" => entry.succeeded() && !continued,
        "watch" => entry.succeeded() && entry.uri.contains("sendInitialEvents=true"),
        _ => false,
    }
}

fn lists(view: &View<'_>, broken: &mut Vec<Broken>) {
    let mut scopes: BTreeMap<_, Vec<&Entry>> = BTreeMap::new();
    for entry in view.ours.iter().copied().filter(|entry| is_list(entry)) {
        let object = &entry.object;
        scopes.entry((&object.api_group, &object.resource, &object.namespace)).or_default().push(entry);
    }
    for ((_, resource, namespace), entries) in scopes {
        for pair in entries.windows(2) {
            let near = pair[1].received.0 - pair[0].received.0 < LIST_PERIOD;
            if near && view.life(pair[0].received) == view.life(pair[1].received) {
                let words = format!("two LISTs of {resource} in {namespace:?} within 30 s");
                report(broken, Promise::S6, words, pair);
            }
        }
    }
}

fn needless_writes(view: &View<'_>, broken: &mut Vec<Broken>) {
    // The first write that shows a version made it; a later one that ends with the same version changed nothing.
    let mut made: HashMap<_, &Entry> = HashMap::new();
    for entry in view.facts.entries.iter().filter(|entry| entry.is_write() && entry.succeeded()) {
        let Some(after) = entry.result().and_then(version_of) else { continue };
        // The write that takes the last finalizer ends the object, and shows the version that another has made.
        let meta = &entry.response["metadata"];
        let ends = meta["deletionTimestamp"].is_string() && meta["finalizers"].as_array().is_none_or(Vec::is_empty);
        if entry.verb == "delete" || ends {
            continue;
        }
        let first = *made.entry((key_of(entry), after)).or_insert(entry);
        let same = first.id != entry.id || version_of(&entry.request) == Some(after);
        if same && entry.user == view.facts.user && !entry.is_event() {
            report(broken, Promise::S6, format!("a write to {} changed nothing", place(&entry.object)), &[entry]);
        }
    }
}

fn counts(view: &View<'_>, broken: &mut Vec<Broken>) {
    let mut objects: BTreeMap<_, Vec<&Entry>> = BTreeMap::new();
    for entry in view.writes().filter(|entry| !entry.is_event() && entry.object.resource != "leases") {
        objects.entry(place(&entry.object)).or_default().push(entry);
    }
    let most = view.facts.expect.max_writes_per_object;
    for (place, entries) in &objects {
        if entries.len() > most {
            let words = format!("{} writes to {place}, more than {most}", entries.len());
            report(broken, Promise::S6, words, &entries[entries.len() - 3.min(entries.len())..]);
        }
        if entries[0].object.subresource == "status" {
            let done: Vec<&Entry> = entries.iter().copied().filter(|entry| entry.succeeded()).collect();
            for pair in done.windows(2) {
                let near = pair[1].received.0 - pair[0].received.0 < STATUS_PERIOD;
                // A successor of the same name is another object, and its writer another actor.
                let uid = |entry: &Entry| entry.result().map(|object| object["metadata"]["uid"].clone());
                if near && uid(pair[0]) == uid(pair[1]) && view.life(pair[0].received) == view.life(pair[1].received) {
                    report(broken, Promise::S6, format!("{place} written twice within a second"), pair);
                }
            }
        }
    }
    for (from, to) in &view.facts.expect.quiet {
        let (from, to) = (Micros::from(*from), Micros::from(*to));
        for entry in view.writes().filter(|entry| entry.object.resource != "leases") {
            if from <= entry.received && entry.received <= to {
                let words = format!("a write to {} while nothing changed", place(&entry.object));
                report(broken, Promise::S6, words, &[entry]);
            }
        }
    }
}

fn secrets(view: &View<'_>, broken: &mut Vec<Broken>) {
    let named = named_secrets(view);
    for entry in view.ours.iter().copied().filter(|entry| entry.object.resource == "secrets") {
        let kind = entry.response["kind"].as_str().unwrap_or_default();
        if entry.verb == "list" && kind == "SecretList" {
            report(broken, Promise::S6, "a LIST of whole Secrets".to_owned(), &[entry]);
        }
        if entry.verb == "get" && !named.contains(&entry.object.name) {
            let words = format!("Secret {} read, which no server names", entry.object.name);
            report(broken, Promise::S6, words, &[entry]);
        }
    }
}

/// Ends of the names of Secrets that are made for a server.
const MADE: [&str; 5] = [
    "jwt-secret",
    "admin-bootstrap-credentials",
    "admin-credentials",
    "operator-credentials",
    "postgres-pguser-dittofs",
];

/// Names of the Secrets that the servers name in their specs, and of those that are made for them.
fn named_secrets(view: &View<'_>) -> BTreeSet<String> {
    fn strings(value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::String(text) => {
                into.insert(text.clone());
            }
            Value::Array(items) => items.iter().for_each(|item| strings(item, into)),
            Value::Object(fields) => fields.values().for_each(|field| strings(field, into)),
            _ => {}
        }
    }
    let mut named = BTreeSet::new();
    // A webhook looks for what a server would need before there is one.
    let others = view.facts.entries.iter().filter(|entry| entry.user != view.facts.user && entry.is_write());
    for entry in others.filter(|entry| entry.object.resource == "dittoservers") {
        strings(&entry.request["spec"], &mut named);
        let name = entry.request["metadata"]["name"].as_str().unwrap_or(&entry.object.name);
        if !name.is_empty() {
            named.extend(MADE.iter().map(|suffix| format!("{name}-{suffix}")));
        }
    }
    for (key, states) in view.history.of_kind(GROUP, "dittoservers") {
        named.extend(MADE.iter().map(|suffix| format!("{}-{suffix}", key.3)));
        for state in states {
            strings(&state.object["spec"], &mut named);
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Run, judged};
    use super::Promise::S6;
    use crate::audit::Micros;
    use serde_json::json;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn one_list_in_thirty_seconds_is_fine_and_two_are_not() {
        let lists = |second_at: i64| {
            let mut run = Run::new();
            run.ours("list", "services", "").at(1000).uri("/api/v1/services?limit=500");
            run.ours("list", "services", "").at(1500).uri("/api/v1/services?continue=abc");
            run.ours("list", "services", "").at(second_at).uri("/api/v1/services?limit=500");
            run
        };
        assert!(!judged(&lists(31_001)).contains(&S6));
        assert!(judged(&lists(30_000)).contains(&S6));
        let mut restarted = lists(2000);
        restarted.facts.starts = vec![Micros(0), Micros(1_800_000)];
        assert!(!judged(&restarted).contains(&S6));
    }

    #[test]
    fn a_write_that_changes_nothing_is_found() {
        let mut run = Run::new();
        run.owned_service("files-api", 5).at(1000);
        let service = run.last_object();
        let mut changed = service.clone();
        changed["metadata"]["resourceVersion"] = json!("6");
        run.ours("update", "services", "files-api").at(2000).request(service.clone()).response(changed.clone());
        assert!(!judged(&run).contains(&S6));
        run.ours("update", "services", "files-api").at(3000).request(changed.clone()).response(changed.clone());
        assert!(judged(&run).contains(&S6));
        run.drop_last();
        run.ours("patch", "services", "files-api").at(3000).request(json!({})).response(changed);
        assert!(judged(&run).contains(&S6));
    }

    #[test]
    fn the_write_that_ends_an_object_shows_a_version_that_it_did_not_make() {
        let mut run = Run::new();
        let last = json!({"metadata": {"name": "files", "namespace": "n", "uid": "uid-files", "resourceVersion": "7",
            "generation": 2, "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        run.user_server(|server| *server = last.clone()).at(1000);
        let mut held = last;
        held["metadata"]["finalizers"] = json!(["example.com/theirs"]);
        run.ours_server("patch", "status").at(1001).request(json!({})).response(held.clone());
        assert!(!judged(&run).contains(&S6));
        run.ours_server("patch", "status").at(3000).request(json!({})).response(held);
        assert!(judged(&run).contains(&S6));
    }

    #[test]
    fn writes_without_end_and_in_quiet_times_are_found() {
        let mut run = Run::new();
        for number in 0..5 {
            run.ours("update", "services", "files-api").at(1000 + number * 100).code(409);
        }
        assert!(!judged(&run).contains(&S6));
        run.facts.expect.max_writes_per_object = 4;
        assert!(judged(&run).contains(&S6));
        run.facts.expect.max_writes_per_object = 5;
        let second = |number| UNIX_EPOCH + Duration::from_secs(number);
        run.facts.expect.quiet = vec![(second(2), second(3))];
        assert!(!judged(&run).contains(&S6));
        run.facts.expect.quiet = vec![(second(1), second(3))];
        assert!(judged(&run).contains(&S6));
    }

    #[test]
    fn a_status_is_written_once_a_second() {
        let writes = |second_at: i64| {
            let mut run = Run::new();
            run.status(7, json!({"observedGeneration": 1})).at(1000);
            run.status(8, json!({"observedGeneration": 1, "phase": "Running"})).at(second_at);
            run
        };
        assert!(!judged(&writes(2000)).contains(&S6));
        assert!(judged(&writes(1500)).contains(&S6));
    }

    #[test]
    fn only_named_secrets_are_read_and_never_all() {
        let mut run = Run::new();
        run.ours("get", "secrets", "files-jwt-secret").at(1);
        run.ours("get", "secrets", "my-admin").at(2);
        run.ours("list", "secrets", "").at(3).response(json!({"kind": "PartialObjectMetadataList"}));
        assert!(!judged(&run).contains(&S6));
        run.ours("get", "secrets", "somebody-elses").at(4);
        assert!(judged(&run).contains(&S6));
        // A webhook is asked before there is a server, and there may never be one.
        let refused = json!({"metadata": {"name": "next"}, "spec": {"secretRef": {"name": "somebody-elses"}}});
        run.user_server(|_| {}).code(422).request(refused).response(json!({})).at(3);
        assert!(!judged(&run).contains(&S6));
        run.ours("get", "secrets", "next-jwt-secret").at(5);
        assert!(!judged(&run).contains(&S6));
        run.ours("get", "secrets", "another-jwt-secret").at(6);
        assert!(judged(&run).contains(&S6));
        run.drop_last();
        run.ours("list", "secrets", "").at(40_000).response(json!({"kind": "SecretList"}));
        assert!(judged(&run).contains(&S6));
    }
}
