//! S3: what is not ours is not touched. Every write goes to an object with a controller reference to a DittoServer's
//! uid; deletes carry the uid; pods are never written; of a claim of our StatefulSet only the size that it asks for is, and
//! only to more than it has; of a DittoServer only status and finalizers are.

use super::{Broken, GROUP, Promise, View, place, report};
use crate::audit::entry::{Entry, Micros};
use crate::audit::history::{controller, key_of, version_of};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Kinds that the operator never writes.
const NEVER: [&str; 6] =
    ["pods", "persistentvolumes", "storageclasses", "namespaces", "nodes", "customresourcedefinitions"];
/// Finalizers that are nobody else's: ours, and those of the garbage collector, which takes them off by writes whose answers
/// the log does not have in full.
const NOT_OTHERS: [&str; 3] = ["dittofs.dittofs.com/finalizer", "orphan", "foregroundDeletion"];
/// Kinds that belong to nobody.
const FREE: [&str; 5] =
    ["events", "leases", "selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"];
/// Secrets that have no owner by design: they outlive the server.
const GENERATED: [&str; 3] = ["-jwt-secret", "-admin-bootstrap-credentials", "-admin-credentials"];

/// What is called `<server>` and one of these has no owner by design: it outlives the server.
const OUTLIVING: [(&str, &[&str]); 2] = [("secrets", &GENERATED), ("perconapgclusters", &["-postgres"])];

pub(super) fn check(view: &View<'_>, broken: &mut Vec<Broken>) {
    let servers = Servers::of(view);
    for entry in view.writes() {
        let object = &entry.object;
        let mut fail = |words: &str| {
            report(broken, Promise::S3, format!("{} of {}: {words}", entry.verb, place(object)), &[entry]);
        };
        if FREE.contains(&object.resource.as_str()) {
            continue;
        }
        if NEVER.contains(&object.resource.as_str()) {
            fail("never written");
            continue;
        }
        if object.resource == "persistentvolumeclaims" {
            claim(view, entry, &servers, fail);
            continue;
        }
        if entry.verb == "deletecollection" {
            fail("many objects at once, whosever they are");
            continue;
        }
        if object.resource == "dittoservers" {
            server(view, entry, fail);
            continue;
        }
        let before = view.history.before(entry).map(|state| state.object);
        // Of a request that is refused for its sender alone the log has no body to judge.
        let unread = matches!(entry.code, 401 | 403) && entry.request.is_null();
        if entry.verb == "delete" && !unread {
            let uid = entry.request["preconditions"]["uid"].as_str();
            match (uid, before) {
                (None, _) => fail("without the uid of what it means"),
                (Some(uid), Some(before)) if entry.succeeded() && before["metadata"]["uid"] != uid => {
                    fail("the uid is not that of the object");
                }
                _ => {}
            }
        }
        if !entry.succeeded() {
            continue;
        }
        let judged = if entry.verb == "create" { entry.result() } else { before.or_else(|| entry.result()) };
        let Some(judged) = judged else { continue };
        if is_paused(view, judged, entry) {
            fail("its DittoServer is paused");
        }
        if !servers.own(judged) && !servers.generated(entry, judged) {
            fail("no controller reference to a DittoServer that there was");
        }
    }
}

/// Whether the DittoServer of an object was paused when a write to it came, and had been for long enough to be seen.
fn is_paused(view: &View<'_>, object: &Value, entry: &Entry) -> bool {
    let at = |time| {
        view.server_of(object, time).is_some_and(|server| {
            let meta = &server["metadata"];
            meta["annotations"]["dittofs.io/paused"] == "true" && !meta["deletionTimestamp"].is_string()
        })
    };
    at(entry.received) && at(entry.received.plus(-2 * Micros::SECOND))
}

/// Of a DittoServer itself: its status, and its finalizers.
fn server(view: &View<'_>, entry: &Entry, mut fail: impl FnMut(&str)) {
    if entry.object.subresource == "status" || !entry.succeeded() {
        return;
    }
    if !matches!(entry.verb.as_str(), "update" | "patch") {
        fail("a DittoServer is made and deleted by its user");
        return;
    }
    let (Some(before), Some(after)) = (view.history.before(entry), entry.result()) else { return };
    let meta = |object: &Value, field: &str| object["metadata"][field].clone();
    let same = before.object["spec"] == after["spec"]
        && ["labels", "annotations", "ownerReferences"]
            .iter()
            .all(|field| meta(before.object, field) == meta(after, field));
    let others = |object: &Value| -> Vec<Value> {
        let listed = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        listed.into_iter().filter(|finalizer| !NOT_OTHERS.iter().any(|known| finalizer == known)).collect()
    };
    if others(before.object) != others(after) {
        fail("a finalizer of somebody else");
    }
    if !same {
        fail("more than status and finalizers of a DittoServer");
    }
}

/// Of a claim: a patch of nothing but the size that it asks for, with the uid of the claim that is meant, to more than it
/// has, when it is one of a DittoServer's own StatefulSet.
fn claim(view: &View<'_>, entry: &Entry, servers: &Servers<'_>, mut fail: impl FnMut(&str)) {
    if entry.verb != "patch" {
        fail("a claim is made by its StatefulSet and deleted by its user");
        return;
    }
    let unread = matches!(entry.code, 401 | 403) && entry.request.is_null();
    if !unread && entry.request["metadata"]["uid"].as_str().is_none_or(str::is_empty) {
        fail("without the uid of what it means");
    }
    if !entry.succeeded() {
        return;
    }
    let object = &entry.object;
    let templates = |set: &Value| {
        let templates = set["spec"]["volumeClaimTemplates"].as_array().cloned().unwrap_or_default();
        let name = set["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        templates.into_iter().any(move |template| {
            template["metadata"]["name"].as_str().is_some_and(|claim| object.name == format!("{claim}-{name}-0"))
        })
    };
    let ours = view.history.of_kind("apps", "statefulsets").any(|(key, states)| {
        key.2 == object.namespace && states.iter().any(|state| servers.own(state.object) && templates(state.object))
    });
    if !ours {
        fail("not a claim of a StatefulSet that a DittoServer controls");
    }
    let (Some(before), Some(after)) = (view.history.before(entry).map(|state| state.object), entry.result()) else {
        return;
    };
    if before["metadata"]["uid"] != after["metadata"]["uid"] {
        fail("the uid is not that of the object");
    }
    let without_size = |claim: &Value| {
        let mut spec = claim["spec"].clone();
        spec["resources"]["requests"]["storage"] = Value::Null;
        let meta = |field: &str| claim["metadata"][field].clone();
        (spec, meta("labels"), meta("annotations"), meta("ownerReferences"), meta("finalizers"))
    };
    if without_size(before) != without_size(after) {
        fail("more than the size that it asks for");
    }
    let size = |value: &Value| value.as_str().and_then(bytes);
    let asks = size(&after["spec"]["resources"]["requests"]["storage"]);
    let has = size(&before["status"]["capacity"]["storage"]);
    if !matches!((asks, has), (Some(asks), Some(has)) if asks > has) {
        fail("it is not asked for more than it has");
    }
    let asked = size(&before["spec"]["resources"]["requests"]["storage"]);
    if asks < asked && !asked_by_us(view, entry, asked) {
        fail("what somebody else asked it for is taken back");
    }
}

/// Whether the newest write before `entry` that changed what the claim asks for, to this many bytes, was the operator's.
fn asked_by_us(view: &View<'_>, entry: &Entry, size: Option<u128>) -> bool {
    let asks = |claim: &Value| claim["spec"]["resources"]["requests"]["storage"].as_str().and_then(bytes);
    let Some(after) = entry.result().and_then(version_of) else { return true };
    let states = view.history.states(&key_of(entry));
    let before: Vec<_> = states.iter().filter(|state| state.version < after).collect();
    // The first of those that go on asking for it to the end.
    let since = before.iter().rev().take_while(|state| asks(state.object) == size).last();
    since.is_some_and(|state| state.written && state.entry.user == view.facts.user)
}

/// Bytes of a size as Kubernetes writes it.
fn bytes(text: &str) -> Option<u128> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match &text[end..] {
        "" => 1,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    text[..end].parse::<u128>().ok()?.checked_mul(unit)
}

/// The DittoServers that there were: uids by namespace, and names.
struct Servers<'a> {
    uids: BTreeSet<(&'a str, &'a str)>,
    names: BTreeMap<&'a str, BTreeSet<&'a str>>,
}

impl<'a> Servers<'a> {
    fn of(view: &'a View<'_>) -> Self {
        let mut servers = Self { uids: BTreeSet::new(), names: BTreeMap::new() };
        for (key, states) in view.history.of_kind(GROUP, "dittoservers") {
            servers.names.entry(&key.2).or_default().insert(&key.3);
            servers.uids.extend(states.iter().map(|state| (key.2.as_str(), state.uid())));
        }
        servers
    }

    fn own(&self, object: &Value) -> bool {
        let Some(owner) = controller(object) else { return false };
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        let group = owner["apiVersion"].as_str().unwrap_or_default().split('/').next().unwrap_or_default();
        owner["kind"] == "DittoServer"
            && group == GROUP
            && self.uids.contains(&(namespace, owner["uid"].as_str().unwrap_or_default()))
    }

    /// A generated Secret, or a database: by its name and by its label.
    fn generated(&self, entry: &Entry, object: &Value) -> bool {
        let labels = object["metadata"]["labels"].as_object();
        let labelled =
            |name: &str| labels.into_iter().flatten().any(|(key, value)| key.ends_with("instance") && value == name);
        let suffixes = OUTLIVING.iter().filter(|(resource, _)| *resource == entry.object.resource);
        entry.verb != "delete"
            && self.names.get(entry.object.namespace.as_str()).is_some_and(|names| {
                let of = |suffix: &&str| {
                    entry.object.name.strip_suffix(suffix).is_some_and(|name| names.contains(name) && labelled(name))
                };
                suffixes.clone().flat_map(|(_, suffixes)| suffixes.iter()).any(of)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Run, judged};
    use super::Promise::S3;
    use serde_json::{Value, json};

    fn delete(options: Value, owner_uid: &str) -> Run {
        let mut run = Run::new();
        run.owned_service("files-adapter-nfs", 5).at(1000);
        let mut service = run.last_object();
        service["metadata"]["ownerReferences"][0]["uid"] = json!(owner_uid);
        run.facts.entries.last_mut().unwrap().response = service;
        run.facts.entries.last_mut().unwrap().user = "admin".to_owned();
        run.ours("delete", "services", "files-adapter-nfs")
            .at(2000)
            .request(options)
            .response(json!({"kind": "Status"}));
        run
    }

    #[test]
    fn deletes_carry_the_uid_of_an_object_of_ours() {
        let uid = json!({"preconditions": {"uid": "uid-files-adapter-nfs"}});
        assert!(!judged(&delete(uid.clone(), "uid-files")).contains(&S3));
        assert!(judged(&delete(json!({}), "uid-files")).contains(&S3), "no uid");
        assert!(judged(&delete(json!({"preconditions": {"uid": "another"}}), "uid-files")).contains(&S3), "wrong uid");
        assert!(judged(&delete(uid, "uid-of-another-owner")).contains(&S3), "not ours");
    }

    #[test]
    fn an_update_of_a_foreign_object_is_found_even_when_it_adopts_it() {
        let mut run = Run::new();
        run.owned_service("files-api", 5).at(1000);
        let ours = run.last_object();
        let mut foreign = ours.clone();
        foreign["metadata"].as_object_mut().unwrap().remove("ownerReferences");
        run.facts.entries.last_mut().unwrap().response = foreign.clone();
        run.facts.entries.last_mut().unwrap().user = "admin".to_owned();
        let mut adopted = ours;
        adopted["metadata"]["resourceVersion"] = json!("6");
        run.ours("update", "services", "files-api").at(2000).request(foreign).response(adopted);
        assert!(judged(&run).contains(&S3));
    }

    #[test]
    fn generated_secrets_need_name_and_label_and_no_owner() {
        let create = |name: &str, labels: Value| {
            let mut run = Run::new();
            let secret =
                json!({"metadata": {"name": name, "namespace": "n", "labels": labels, "resourceVersion": "9"}});
            run.ours("create", "secrets", name).at(1000).request(secret.clone()).response(secret);
            judged(&run).contains(&S3)
        };
        assert!(!create("files-jwt-secret", json!({"instance": "files"})));
        assert!(create("files-jwt-secret", json!({})));
        assert!(create("files-operator-credentials", json!({"instance": "files"})), "has an owner by design");
        assert!(create("nobody-jwt-secret", json!({"instance": "nobody"})));
    }

    /// A run in which the operator patches a claim of the StatefulSet of `files`; `change` makes of it what it did.
    fn resized(change: impl FnOnce(&mut Value, &mut Value)) -> Run {
        let mut run = Run::new();
        let templates = json!([{"metadata": {"name": "metadata"}}]);
        run.stateful_set("admin", 4, |set| set["spec"]["volumeClaimTemplates"] = templates).at(500);
        let claim = json!({
            "metadata": {"name": "metadata-files-0", "namespace": "n", "uid": "uid-claim", "resourceVersion": "5"},
            "spec": {"volumeName": "pv", "resources": {"requests": {"storage": "10Gi"}}},
            "status": {"phase": "Bound", "capacity": {"storage": "10Gi"}},
        });
        run.ours("create", "persistentvolumeclaims", "metadata-files-0").at(1000).response(claim.clone());
        run.facts.entries.last_mut().unwrap().user = "controller".to_owned();
        let (mut request, mut after) = (json!({"metadata": {"uid": "uid-claim"}}), claim);
        after["spec"]["resources"]["requests"]["storage"] = json!("20Gi");
        after["metadata"]["resourceVersion"] = json!("6");
        change(&mut request, &mut after);
        run.ours("patch", "persistentvolumeclaims", "metadata-files-0").at(2000).request(request).response(after);
        run
    }

    #[test]
    fn a_claim_of_ours_may_be_asked_to_grow_and_for_nothing_else() {
        assert!(!judged(&resized(|_, _| {})).contains(&S3));
        let size = |after: &mut Value, size: &str| after["spec"]["resources"]["requests"]["storage"] = json!(size);
        assert!(judged(&resized(|_, after| size(after, "10Gi"))).contains(&S3), "what it has");
        assert!(judged(&resized(|_, after| size(after, "9Gi"))).contains(&S3), "less than it has");
        assert!(judged(&resized(|request, _| *request = json!({}))).contains(&S3), "no uid");
        assert!(judged(&resized(|_, after| after["metadata"]["labels"] = json!({"a": "b"}))).contains(&S3), "a label");
        assert!(judged(&resized(|_, after| after["spec"]["volumeName"] = json!("other"))).contains(&S3), "more");
        let mut decoy = resized(|_, _| {});
        for entry in &mut decoy.facts.entries {
            if entry.object.resource == "persistentvolumeclaims" {
                entry.object.name = "backup-files-0".to_owned();
            }
        }
        assert!(judged(&decoy).contains(&S3), "not of a template");
        let mut foreign = resized(|_, _| {});
        for entry in &mut foreign.facts.entries {
            if entry.object.resource == "statefulsets" {
                entry.response["metadata"]["ownerReferences"] = json!([]);
            }
        }
        assert!(judged(&foreign).contains(&S3), "of a StatefulSet that is not ours");
    }

    #[test]
    fn only_what_the_operator_asked_a_claim_for_is_taken_back() {
        for (user, fine) in [(None, true), (Some("somebody"), false)] {
            let mut run = resized(|_, _| {});
            if let Some(user) = user {
                run.facts.entries.last_mut().unwrap().user = user.to_owned();
            }
            let mut claim = run.last_object();
            // What its driver says in between changes nothing of that.
            claim["metadata"]["resourceVersion"] = json!("7");
            claim["status"]["conditions"] = json!([{"type": "Resizing"}]);
            run.ours("patch", "persistentvolumeclaims", "metadata-files-0").at(3000).response(claim.clone());
            run.facts.entries.last_mut().unwrap().user = "driver".to_owned();
            claim["metadata"]["resourceVersion"] = json!("8");
            claim["spec"]["resources"]["requests"]["storage"] = json!("11Gi");
            let request = json!({"metadata": {"uid": "uid-claim"}});
            run.ours("patch", "persistentvolumeclaims", "metadata-files-0").at(4000).request(request).response(claim);
            assert_eq!(!judged(&run).contains(&S3), fine, "{user:?}");
        }
    }

    #[test]
    fn pods_claims_and_specs_are_never_written() {
        for (resource, verb) in
            [("pods", "delete"), ("persistentvolumeclaims", "delete"), ("services", "deletecollection")]
        {
            let mut run = Run::new();
            run.ours(verb, resource, "x").at(1000);
            assert!(judged(&run).contains(&S3), "{verb} {resource}");
        }
        let mut run = Run::new();
        let mut server = Run::server_object();
        server["metadata"]["resourceVersion"] = json!("9");
        server["metadata"]["finalizers"] = json!(["dittofs.dittofs.com/finalizer"]);
        run.ours_server("patch", "").at(1000).response(server.clone());
        assert!(!judged(&run).contains(&S3));
        server["metadata"]["finalizers"] = json!(["dittofs.dittofs.com/finalizer", "example.com/theirs"]);
        server["metadata"]["resourceVersion"] = json!("11");
        run.ours_server("patch", "").at(1500).response(server.clone());
        assert!(judged(&run).contains(&S3), "a finalizer that is not ours");
        run.drop_last();
        server["metadata"]["finalizers"] = json!(["dittofs.dittofs.com/finalizer"]);
        server["spec"]["image"] = json!("another");
        server["metadata"]["resourceVersion"] = json!("10");
        run.ours_server("patch", "").at(2000).response(server);
        assert!(judged(&run).contains(&S3));
    }

    #[test]
    fn nothing_of_a_paused_server_is_written() {
        for (annotation, since, deleting, fine) in [
            ("true", 4000, false, false),
            ("true", 9000, false, true),
            ("no", 4000, false, true),
            ("true", 4000, true, true),
        ] {
            let mut run = Run::new();
            run.owned_service("files-api", 5).at(1000);
            run.user_server(|server| {
                server["metadata"]["annotations"] = json!({"dittofs.io/paused": annotation});
                server["metadata"]["resourceVersion"] = json!("6");
                if deleting {
                    server["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                }
            })
            .at(since);
            let uid = json!({"preconditions": {"uid": "uid-files-api"}});
            run.ours("delete", "services", "files-api").at(10_000).request(uid);
            assert_eq!(!judged(&run).contains(&S3), fine, "{annotation} since {since}");
        }
    }
}
