//! S3, of databases: a PerconaPGCluster goes with its DittoServer only when `spec.percona.deleteWithServer` says so. Nobody
//! deletes it but the garbage collector, by the owner reference: the operator ties none to a server that does not ask for
//! it, and lets no server go that does not ask for it while its cluster is tied. Where it tried to untie it and was refused,
//! the server goes all the same.

use super::{Broken, GROUP, Promise, View, place, report};
use crate::audit::entry::{Entry, Micros};
use serde_json::Value;

const PERCONA: &str = "pgv2.percona.com";
const CLUSTERS: &str = "perconapgclusters";
const FINALIZER: &str = "dittofs.dittofs.com/finalizer";

/// How long ago a wish may be that is still acted upon: the operator acts on what its watch has brought.
const SEEN: i64 = 2 * Micros::SECOND;

pub(super) fn check(view: &View<'_>, broken: &mut Vec<Broken>) {
    for entry in view.writes() {
        let object = &entry.object;
        let mut fail = |words: &str| {
            report(broken, Promise::S3, format!("{} of {}: {words}", entry.verb, place(object)), &[entry]);
        };
        if object.resource == CLUSTERS && matches!(entry.verb.as_str(), "delete" | "deletecollection") {
            fail("the operator deletes no database");
        }
        if !entry.succeeded() {
            continue;
        }
        if object.resource == CLUSTERS
            && let Some(after) = entry.result()
            && ties(view, entry, after)
        {
            fail("it goes with a server that does not ask for it");
        }
        if object.resource == "dittoservers" && object.subresource.is_empty() && releases(view, entry) {
            fail("the server goes, and takes a database along that is to stay");
        }
    }
}

fn asks(server: &Value) -> bool {
    server["spec"]["percona"]["deleteWithServer"] == true
}

fn is_tied(cluster: &Value, uid: &Value) -> bool {
    cluster["metadata"]["ownerReferences"].as_array().into_iter().flatten().any(|owner| owner["uid"] == *uid)
}

/// Whether a written cluster has one of the DittoServers for an owner that asks for no such thing, nor did just before.
fn ties(view: &View<'_>, entry: &Entry, cluster: &Value) -> bool {
    view.history.of_kind(GROUP, "dittoservers").filter(|(key, _)| key.2 == entry.object.namespace).any(|(key, _)| {
        let at = |time| view.history.at(key, time, None).map(|state| state.object);
        let (Some(now), before) = (at(entry.received), at(entry.received.plus(-SEEN))) else { return false };
        is_tied(cluster, &now["metadata"]["uid"]) && !asks(now) && !before.is_some_and(asks)
    })
}

/// Whether a write takes our finalizer off a server that does not ask for the end of a database that is tied to it.
fn releases(view: &View<'_>, entry: &Entry) -> bool {
    let held = |server: &Value| {
        let listed = server["metadata"]["finalizers"].as_array();
        listed.into_iter().flatten().any(|finalizer| finalizer == FINALIZER)
    };
    let Some(before) = view.history.before(entry).map(|state| state.object) else { return false };
    let released = held(before) && !entry.result().is_some_and(held);
    if !released || asks(before) {
        return false;
    }
    let name = format!("{}-postgres", entry.object.name);
    let key = (PERCONA.to_owned(), CLUSTERS.to_owned(), entry.object.namespace.clone(), name.clone());
    let tied = view.history.at(&key, entry.received, None).is_some_and(|state| {
        is_tied(state.object, &before["metadata"]["uid"]) && state.object["metadata"]["deletionTimestamp"].is_null()
    });
    let refused = || {
        view.writes().any(|write| {
            write.object.resource == CLUSTERS
                && write.object.name == name
                && write.object.namespace == entry.object.namespace
                && write.received < entry.received
                && write.received > entry.received.plus(-90 * Micros::SECOND)
                && !write.succeeded()
        })
    };
    tied && !refused()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Run, judged};
    use super::Promise::S3;
    use super::*;
    use serde_json::json;

    fn cluster(tied: bool, version: u64) -> Value {
        let owner = json!([{"apiVersion": "dittofs.dittofs.com/v1alpha1", "kind": "DittoServer", "name": "files",
                            "uid": "uid-files", "controller": true}]);
        json!({
            "metadata": {"name": "files-postgres", "namespace": "n", "uid": "uid-db", "labels": {"instance": "files"},
                "resourceVersion": version.to_string(), "ownerReferences": if tied { owner } else { json!([]) }},
        })
    }

    /// The server of a run in which its user says what becomes of the database, and when that was.
    fn wish(run: &mut Run, version: u64, asks: bool, at: i64) {
        run.user_server(|server| {
            server["spec"]["percona"] = json!({"enabled": true, "deleteWithServer": asks});
            server["metadata"]["finalizers"] = json!([FINALIZER]);
            server["metadata"]["resourceVersion"] = json!(version.to_string());
        })
        .at(at);
    }

    fn write(run: &mut Run, verb: &str, tied: bool, version: u64, at: i64) {
        run.ours(verb, CLUSTERS, "files-postgres").response(cluster(tied, version)).at(at);
        PERCONA.clone_into(&mut run.facts.entries.last_mut().unwrap().object.api_group);
    }

    #[test]
    fn a_database_is_tied_to_a_server_that_asks_for_it_and_never_deleted() {
        let tied = |asks: bool, at: i64| {
            let mut run = Run::new();
            wish(&mut run, 2, true, 1000);
            wish(&mut run, 3, asks, 10_000);
            write(&mut run, "create", true, 4, at);
            judged(&run).contains(&S3)
        };
        assert!(!tied(true, 20_000));
        assert!(!tied(false, 10_500), "not seen yet");
        assert!(tied(false, 20_000));
        let mut run = Run::new();
        wish(&mut run, 2, true, 1000);
        write(&mut run, "create", true, 4, 2000);
        assert!(!judged(&run).contains(&S3));
        run.ours("delete", CLUSTERS, "files-postgres")
            .request(json!({"preconditions": {"uid": "uid-db"}}))
            .response(json!({"kind": "Status"}))
            .at(3000);
        assert!(judged(&run).contains(&S3));
    }

    /// A run in which our finalizer goes, `untied` saying how the operator fared with the owner reference.
    fn released(asks: bool, untied: Option<u16>) -> bool {
        let mut run = Run::new();
        wish(&mut run, 2, true, 1000);
        write(&mut run, "create", true, 4, 2000);
        wish(&mut run, 5, asks, 10_000);
        if let Some(code) = untied {
            write(&mut run, "update", code != 200, 6, 20_000);
            run.facts.entries.last_mut().unwrap().code = code;
        }
        let mut server = run
            .facts
            .entries
            .iter()
            .rev()
            .find(|entry| entry.object.resource == "dittoservers")
            .unwrap()
            .response
            .clone();
        server["metadata"]["finalizers"] = json!([]);
        server["metadata"]["resourceVersion"] = json!("7");
        run.ours_server("patch", "").response(server).at(30_000);
        judged(&run).contains(&S3)
    }

    #[test]
    fn a_server_is_let_go_when_its_database_stays_or_is_to_go() {
        assert!(!released(true, None));
        assert!(released(false, None));
        assert!(!released(false, Some(200)));
        assert!(!released(false, Some(403)), "refused");
    }
}
