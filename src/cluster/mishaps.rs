//! Why a StatefulSet has no pod: what its controller says in Events when the API server refuses to create one.
//!
//! Owns: when Events are listed. Touches: a LIST of the warnings about StatefulSets in one namespace (RBAC: list), and
//! that only when somebody asks because a pod is missing. Guarantees: one LIST a namespace in [`PERIOD`], whatever is
//! asked meanwhile and by however many servers; one page; nothing else of an Event is kept. A watch would make the API
//! server read every Event of the cluster for us.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::sync::Mutex as Turn;
use tokio::time::Instant;

use super::error::root_cause;

/// From the start of a LIST of one namespace to the start of the next: a little more than is promised of any kind.
const PERIOD: Duration = Duration::from_secs(31);
/// Longest time that a LIST takes.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most Events that are read at once.
const PAGE: u32 = 500;
/// Which Events are asked for.
const FIELDS: &str = "regarding.kind=StatefulSet,reason=FailedCreate,type=Warning";

/// One thing that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mishap {
    /// Uid of the StatefulSet.
    pub uid: String,
    /// What its controller says.
    pub note: String,
    /// When it said so last.
    pub at: Timestamp,
}

/// What was read of a namespace, and when the next LIST may start.
#[derive(Clone, Debug)]
pub struct Mishaps {
    /// Newest first.
    pub found: Arc<[Mishap]>,
    /// How long what is here stands for the newest.
    pub fresh_for: Duration,
}

#[derive(Default)]
struct Known {
    listed: Option<Instant>,
    found: Arc<[Mishap]>,
}

/// Reads Events. A clone is the same reader.
#[derive(Clone)]
pub struct MishapReader {
    client: Client,
    namespaces: Arc<Mutex<HashMap<String, Arc<Turn<Known>>>>>,
}

impl MishapReader {
    /// Over a client that has deadlines.
    pub fn new(client: Client) -> Self {
        Self { client, namespaces: Arc::default() }
    }

    /// What went wrong with the StatefulSets of a namespace lately. What cannot be read is what was known before.
    pub async fn of(&self, namespace: &str) -> Mishaps {
        let turn = {
            let mut all = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(namespace.to_owned()).or_default().clone()
        };
        let mut known = turn.lock().await;
        if known.listed.is_none_or(|at| at.elapsed() >= PERIOD) {
            known.listed = Some(Instant::now());
            match tokio::time::timeout(PATIENCE, self.list(namespace)).await {
                Ok(Ok(found)) => known.found = found.into(),
                Ok(Err(error)) => {
                    tracing::debug!(namespace, error = root_cause(&error), "the events of StatefulSets cannot be read");
                }
                Err(_) => tracing::debug!(namespace, "the events of StatefulSets were not read in time"),
            }
        }
        let age = known.listed.map_or(PERIOD, |at| at.elapsed());
        Mishaps { found: known.found.clone(), fresh_for: PERIOD.saturating_sub(age) }
    }

    async fn list(&self, namespace: &str) -> Result<Vec<Mishap>, kube::Error> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let events = api.list(&ListParams::default().fields(FIELDS).limit(PAGE)).await?;
        let mut found: Vec<Mishap> = events.items.into_iter().filter_map(mishap).collect();
        found.sort_by_key(|mishap| Reverse(mishap.at));
        Ok(found)
    }
}

fn mishap(event: Event) -> Option<Mishap> {
    let regarding = event.regarding?;
    // The server's own word for it; a field selector is a wish.
    if regarding.kind.as_deref() != Some("StatefulSet") || event.reason.as_deref() != Some("FailedCreate") {
        return None;
    }
    let times = [
        event.series.map(|series| series.last_observed_time.0),
        event.deprecated_last_timestamp.map(|time| time.0),
        event.event_time.map(|time| time.0),
        event.metadata.creation_timestamp.map(|time| time.0),
    ];
    Some(Mishap { uid: regarding.uid?, note: event.note?, at: times.into_iter().flatten().max()? })
}

#[cfg(test)]
mod tests {
    use super::super::scripted::{Reply, Server};
    use super::*;
    use serde_json::{Value, json};

    fn event(uid: &str, note: &str, last: &str) -> Value {
        json!({
            "metadata": {"name": note, "namespace": "ns", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "regarding": {"kind": "StatefulSet", "name": "files", "uid": uid}, "reason": "FailedCreate",
            "note": note, "type": "Warning", "eventTime": null, "deprecatedLastTimestamp": last,
        })
    }

    fn answer(items: &[Value]) -> Reply {
        Reply::Json(200, json!({"kind": "EventList", "apiVersion": "events.k8s.io/v1", "metadata": {}, "items": items}))
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_comes_first_and_what_is_about_something_else_not_at_all() {
        let mut other = event("u", "of a Job", "2026-01-01T00:09:00Z");
        other["regarding"]["kind"] = json!("Job");
        let items = [event("u", "old", "2026-01-01T00:01:00Z"), other, event("u", "new", "2026-01-01T00:05:00Z")];
        let server = Server::new(move |_, _| answer(&items));
        let found = MishapReader::new(server.client()).of("ns").await.found;
        assert_eq!(found.iter().map(|mishap| mishap.note.as_str()).collect::<Vec<_>>(), ["new", "old"]);
        let asked = &server.asked()[0];
        assert_eq!(asked.path, "/apis/events.k8s.io/v1/namespaces/ns/events");
        assert!(asked.query.contains("fieldSelector=regarding.kind%3DStatefulSet"), "{}", asked.query);
        assert!(asked.query.contains("limit=500"), "{}", asked.query);
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_is_listed_once_in_its_time_however_many_ask() {
        let server = Server::new(|_, before| {
            if before == 1 {
                Reply::status(403, "Forbidden")
            } else {
                answer(&[event("u", "n", "2026-01-01T00:01:00Z")])
            }
        });
        let reader = MishapReader::new(server.client());
        let all = (0..50).map(|_| {
            let reader = reader.clone();
            async move { reader.of("ns").await.found.len() }
        });
        assert!(futures::future::join_all(all).await.into_iter().all(|found| found == 1));
        assert_eq!(server.asked().len(), 1);
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(reader.of("ns").await.fresh_for, Duration::from_secs(1));
        assert_eq!(server.asked().len(), 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(reader.of("ns").await.found.len(), 1, "what cannot be read is what was known");
        assert_eq!(server.asked().len(), 2);
        reader.of("other").await;
        assert_eq!(server.asked().len(), 3, "another namespace is another scope");
    }
}
