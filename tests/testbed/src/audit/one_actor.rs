//! The other half of S1: each kind of object has one actor that writes it, and no write is without its span.
//!
//! The audit log does not know actors, the spans do. Pure: requests and spans in, what is wrong out.

use super::entry::Entry;
use crate::otlp::ReceivedSpan;
use std::collections::BTreeMap;

/// An object that was written: method, resource with its subresource, name.
type Write = (String, String, String);

/// What is wrong with the operator's requests `entries` and the spans of the same time, a line each.
///
/// Every write but those of Events and Leases has one span, which is below the work of the one actor that writes such
/// objects. Wants a run in which no span was dropped.
pub fn one_actor(entries: &[Entry], spans: &[ReceivedSpan]) -> Vec<String> {
    let by_id: BTreeMap<&str, &ReceivedSpan> = spans.iter().map(|span| (span.span_id.as_str(), span)).collect();
    let mut wrong = Vec::new();
    let mut told: BTreeMap<Write, usize> = BTreeMap::new();
    for span in spans.iter().filter(|span| span.kind == "client") {
        let Some(write) = written(span) else { continue };
        let (actor, owner) = (actor_of(span, &by_id), owner(&write.1, &write.2));
        if actor != Some(owner) {
            let actor = actor.unwrap_or("nobody that is known");
            wrong.push(format!("{} {} {} by {actor}, not by {owner}", write.0, write.1, write.2));
        }
        *told.entry(write).or_default() += 1;
    }
    let mut sent: BTreeMap<Write, usize> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.is_write() && !is_apart(&entry.object.resource)) {
        *sent.entry(asked(entry)).or_default() += 1;
    }
    for write in sent.keys().chain(told.keys().filter(|write| !sent.contains_key(*write))) {
        let [sent, told] = [&sent, &told].map(|counts| counts.get(write).copied().unwrap_or_default());
        if sent != told {
            wrong.push(format!("{} {} {}: {sent} requests, {told} spans", write.0, write.1, write.2));
        }
    }
    wrong
}

/// Events and Leases are written by what is no actor.
fn is_apart(resource: &str) -> bool {
    matches!(resource, "events" | "leases")
}

/// Who writes such objects, as the operator's documentation says.
fn owner(resource: &str, name: &str) -> &'static str {
    match resource {
        "dittoservers" => "supervisor",
        "dittoservers/status" => "status-reporter",
        "statefulsets" | "persistentvolumeclaims" => "port-reconciler",
        "services" | "networkpolicies" | "servicemonitors" => "service-reconciler",
        "secrets" if name.ends_with("-operator-credentials") => "adapter-poller",
        "secrets" | "configmaps" | "perconapgclusters" => "config-hasher",
        _ => "nobody",
    }
}

/// The actor in whose work a span is: of the nearest ancestor that says.
fn actor_of<'a>(span: &'a ReceivedSpan, by_id: &BTreeMap<&str, &'a ReceivedSpan>) -> Option<&'a str> {
    let mut at = Some(span);
    while let Some(span) = at {
        if let Some(actor) = span.attributes.get("dittofs.actor") {
            return actor.as_str();
        }
        if matches!(span.name.as_str(), "set finalizer" | "release finalizer") {
            return Some("supervisor");
        }
        at = span.parent.as_ref().and_then(|parent| by_id.get(parent.as_str()).copied());
    }
    None
}

fn written(span: &ReceivedSpan) -> Option<Write> {
    let mut words = span.name.split(' ');
    let (Some("kube"), Some(method), Some(resource)) = (words.next(), words.next(), words.next()) else { return None };
    let name = span.attributes.get("dittofs.object")?.as_str()?.rsplit('/').next()?;
    let read = method == "GET" || is_apart(resource);
    (!read).then(|| (method.to_owned(), resource.to_owned(), name.to_owned()))
}

fn asked(entry: &Entry) -> Write {
    let method = match entry.verb.as_str() {
        "create" => "POST",
        "update" => "PUT",
        "patch" => "PATCH",
        _ => "DELETE",
    };
    let object = &entry.object;
    let slash = if object.subresource.is_empty() { "" } else { "/" };
    (method.to_owned(), format!("{}{slash}{}", object.resource, object.subresource), object.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::ObjectRef;
    use serde_json::{Value, json};

    fn span(id: &str, parent: Option<&str>, name: &str, attribute: (&str, &str)) -> ReceivedSpan {
        ReceivedSpan {
            request: 0,
            trace_id: "t".to_owned(),
            span_id: id.to_owned(),
            parent: parent.map(str::to_owned),
            name: name.to_owned(),
            kind: if parent.is_some() { "client" } else { "internal" }.to_owned(),
            start_ns: 0,
            end_ns: 1,
            attributes: [(attribute.0.to_owned(), json!(attribute.1))].into_iter().collect::<BTreeMap<String, Value>>(),
            events: Vec::new(),
            links: Vec::new(),
            error: None,
            resource: BTreeMap::new(),
            scope: String::new(),
        }
    }

    fn entry(verb: &str, resource: &str, name: &str) -> Entry {
        let object = ObjectRef { resource: resource.to_owned(), name: name.to_owned(), ..ObjectRef::default() };
        Entry { verb: verb.to_owned(), object, ..Entry::default() }
    }

    fn run(actor: &str) -> Vec<ReceivedSpan> {
        vec![
            span("1", None, "reconcile services", ("dittofs.actor", actor)),
            span("2", Some("1"), "kube POST services", ("dittofs.object", "services/files-api")),
            span("3", Some("1"), "kube GET services", ("dittofs.object", "services/files-api")),
        ]
    }

    #[test]
    fn a_write_by_its_owner_with_a_span_of_its_own_is_right() {
        let entries = [entry("create", "services", "files-api"), entry("create", "events", "files.1")];
        assert_eq!(one_actor(&entries, &run("service-reconciler")), Vec::<String>::new());
    }

    #[test]
    fn another_actor_a_missing_span_and_a_missing_parent_are_found() {
        let entries = [entry("create", "services", "files-api")];
        let found = one_actor(&entries, &run("port-reconciler"));
        assert_eq!(found, ["POST services files-api by port-reconciler, not by service-reconciler"]);
        let found = one_actor(&entries, &[]);
        assert_eq!(found, ["POST services files-api: 1 requests, 0 spans"]);
        let found = one_actor(&entries, &run("service-reconciler")[1..]);
        assert_eq!(found, ["POST services files-api by nobody that is known, not by service-reconciler"]);
        let found = one_actor(&[], &run("service-reconciler"));
        assert_eq!(found, ["POST services files-api: 0 requests, 1 spans"]);
    }

    #[test]
    fn a_secret_has_the_owner_that_its_name_says() {
        assert_eq!(owner("secrets", "files-operator-credentials"), "adapter-poller");
        assert_eq!(owner("secrets", "files-jwt-secret"), "config-hasher");
    }
}
