//! Kubernetes Events about a `DittoServer`.
//!
//! Owns: how an event is worded for the API and how long it may take. Touches: `events.k8s.io` objects in the
//! namespace of the server (RBAC: create, patch). Guarantees: an event that cannot be written is a debug line and
//! nothing else; publishing takes 3 s at most once its turn has come within 10 s; repeats are one Event object that counts.
//!
//! Repeats are found by type, reason, action, the server and the related object, *not* by the note: the recorder
//! repeats the first note for six minutes. Two happenings whose notes must both be seen differ in `action` or
//! `related`.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::Semaphore;

use super::error::{cut, root_cause};
use super::kind::Kind;
use crate::reconcile::ServerKey;

/// Longest time that publishing one event takes.
const PATIENCE: Duration = Duration::from_secs(3);

/// Longest time that an event waits for its turn.
const TURN: Duration = Duration::from_secs(10);

/// Events that are published at once.
const AT_ONCE: usize = 2;

/// The API's limit for a note, in bytes.
const NOTE_MAX: usize = 1024;

/// The server that an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrRef {
    /// Namespace and name.
    pub key: ServerKey,
    /// `metadata.uid`.
    pub uid: String,
}

/// Whether somebody should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// As it should be.
    Normal,
    /// Something is wrong.
    Warning,
}

/// One happening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Normal or Warning.
    pub kind: NoticeKind,
    /// Why, in PascalCase (`AdapterServiceCreated`); the names are those of the CRD reference.
    pub reason: &'static str,
    /// What the operator was doing, in PascalCase (`CreateService`).
    pub action: &'static str,
    /// For people; cut at 1 kB. Never a secret.
    pub note: String,
    /// The object that it was done to, in the server's namespace.
    pub related: Option<(Kind, String)>,
}

/// Publishes events.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
    /// Events wait for each other, so that hundreds at once take no turn from the writes that they tell of.
    turns: Arc<Semaphore>,
}

impl Events {
    /// As controller `dittofs-operator`; `instance` is the pod's name, or the host's.
    pub fn new(client: Client, instance: String) -> Self {
        let reporter = Reporter { controller: super::FIELD_MANAGER.to_owned(), instance: Some(instance) };
        Self { recorder: Recorder::new(client, reporter), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Writes the event, or counts it up. A failure is logged at debug level and goes no further.
    pub async fn publish(&self, about: &CrRef, notice: Notice) {
        let (reason, key) = (notice.reason, &about.key);
        let regarding = ObjectReference {
            api_version: Some(Kind::DittoServer.api_version().to_owned()),
            kind: Some(Kind::DittoServer.name().to_owned()),
            namespace: Some(key.namespace.clone()),
            name: Some(key.name.clone()),
            uid: Some(about.uid.clone()),
            ..ObjectReference::default()
        };
        let event = Event {
            type_: match notice.kind {
                NoticeKind::Normal => EventType::Normal,
                NoticeKind::Warning => EventType::Warning,
            },
            reason: reason.to_owned(),
            note: Some(cut(&notice.note, NOTE_MAX)),
            action: notice.action.to_owned(),
            secondary: notice.related.map(|(kind, name)| ObjectReference {
                api_version: Some(kind.api_version().to_owned()),
                kind: Some(kind.name().to_owned()),
                namespace: Some(key.namespace.clone()),
                name: Some(name),
                ..ObjectReference::default()
            }),
        };
        let (namespace, name) = (key.namespace.as_str(), key.name.as_str());
        let Ok(_turn) = tokio::time::timeout(TURN, self.turns.acquire()).await else {
            tracing::debug!(namespace, name, reason, "event not published: too many wait");
            return;
        };
        match tokio::time::timeout(PATIENCE, self.recorder.publish(&event, &regarding)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(namespace, name, reason, error = root_cause(&error), "event not published");
            }
            Err(_) => tracing::debug!(namespace, name, reason, "event not published in time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::{Reply, Server};
    use super::*;
    use http::Method;
    use serde_json::json;
    use tokio::time::Instant;

    fn about() -> CrRef {
        CrRef { key: ServerKey::new("ns", "files"), uid: "uid-1".into() }
    }

    fn notice(note: &str, related: Option<&str>) -> Notice {
        Notice {
            kind: NoticeKind::Warning,
            reason: "AdapterServiceFailed",
            action: "CreateService",
            note: note.to_owned(),
            related: related.map(|name| (Kind::Service, name.to_owned())),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn repeats_are_counted_on_one_event_and_another_object_gets_its_own() {
        let server = Server::new(|_, _| {
            Reply::Json(201, json!({"metadata": {"name": "e", "namespace": "ns"}, "eventTime": null}))
        });
        let events = Events::new(server.client(), "pod-1".into());
        events.publish(&about(), notice("first", Some("files-adapter-nfs"))).await;
        events.publish(&about(), notice("again", Some("files-adapter-nfs"))).await;
        events.publish(&about(), notice("first", Some("files-adapter-smb"))).await;
        let asked = server.asked();
        let methods: Vec<_> = asked.iter().map(|a| a.method.clone()).collect();
        assert_eq!(methods, [Method::POST, Method::PATCH, Method::POST]);
        assert!(asked.iter().all(|a| a.path.starts_with("/apis/events.k8s.io/v1/namespaces/ns/events")));
        let first = &asked[0].body;
        assert_eq!(first["regarding"]["uid"], "uid-1");
        assert_eq!(first["regarding"]["apiVersion"], "dittofs.dittofs.com/v1alpha1");
        assert_eq!(first["related"]["name"], "files-adapter-nfs");
        assert_eq!((&first["type"], &first["reason"]), (&json!("Warning"), &json!("AdapterServiceFailed")));
        assert_eq!(
            (&first["reportingController"], &first["reportingInstance"]),
            (&json!("dittofs-operator"), &json!("pod-1"))
        );
        assert_eq!(asked[1].body["series"]["count"], 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_note_is_cut_to_what_the_api_takes() {
        let server = Server::new(|_, _| Reply::Json(201, json!({"metadata": {"name": "e"}})));
        let events = Events::new(server.client(), "pod-1".into());
        events.publish(&about(), notice(&"ß".repeat(2000), None)).await;
        let note = server.asked()[0].body["note"].as_str().expect("a note").to_owned();
        assert!((1000..=1024).contains(&note.len()), "{}", note.len());
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_cannot_be_written_holds_nobody_up() {
        let server = Server::new(|_, _| Reply::Hang);
        let events = Events::new(server.client(), "pod-1".into());
        let start = Instant::now();
        events.publish(&about(), notice("x", None)).await;
        assert_eq!(start.elapsed(), PATIENCE);
        let server = Server::new(|_, _| Reply::status(403, "Forbidden"));
        let start = Instant::now();
        Events::new(server.client(), "pod-1".into()).publish(&about(), notice("x", None)).await;
        assert_eq!((start.elapsed(), server.asked().len()), (Duration::ZERO, 1));
    }
}
