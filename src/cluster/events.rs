//! Kubernetes Events about a `DittoServer`.
//!
//! Owns: how an event is worded for the API and how long it may take. Touches: `events.k8s.io` objects in the
//! namespace of the server (RBAC: create, patch). Guarantees: an event that cannot be written is a debug line and
//! nothing else; publishing takes 3 s at most once its turn has come within 10 s; repeats are one Event object that counts.
//!
//! Repeats are found by type, reason, action, the server and the related object, *not* by the note: an Event keeps its
//! first note, the API lets nobody change it. Two happenings whose notes must both be seen differ in `action` or
//! `related`. After [`REMEMBERED`] without a repeat the next one is an Event of its own.
//!
//! kube's recorder does the same and keeps every whole Event for it, 10 kB a server when many come at once.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::error::{cut, root_cause};
use super::kind::Kind;
use crate::reconcile::ServerKey;

/// How long a repeat is counted on the Event that was written.
const REMEMBERED: Duration = Duration::from_mins(6);

/// Longest time that publishing one event takes.
const PATIENCE: Duration = Duration::from_secs(3);

/// Longest time that an event waits for its turn.
const TURN: Duration = Duration::from_secs(10);

/// Events that are published at once.
const AT_ONCE: usize = 2;

/// The API's limit for a note, in bytes.
const NOTE_MAX: usize = 1024;

/// The server that an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CrRef {
    /// Namespace and name.
    pub key: ServerKey,
    /// `metadata.uid`.
    pub uid: String,
}

/// Whether somebody should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// Publishes events. A clone is the same publisher.
#[derive(Clone)]
pub struct Events(Arc<Publisher>);

struct Publisher {
    client: Client,
    instance: String,
    /// Events wait for each other, so that hundreds at once take no turn from the writes that they tell of.
    turns: Semaphore,
    /// What was told lately, by the hash of what makes a repeat.
    told: Mutex<HashMap<u64, Told>>,
    hashes: RandomState,
}

/// An Event that was written.
struct Told {
    name: Box<str>,
    count: i32,
    last: Instant,
}

impl Events {
    /// As controller `dittofs-operator`; `instance` is the pod's name, or the host's.
    pub fn new(client: Client, instance: String) -> Self {
        Self(Arc::new(Publisher {
            client,
            instance,
            turns: Semaphore::new(AT_ONCE),
            told: Mutex::default(),
            hashes: RandomState::new(),
        }))
    }

    /// Writes the event, or counts it up. A failure is logged at debug level and goes no further. Returns what became
    /// of it: `published`, `failed` or `dropped`.
    pub async fn publish(&self, about: &CrRef, notice: Notice) -> &'static str {
        let (namespace, name, reason) = (about.key.namespace.as_str(), about.key.name.as_str(), notice.reason);
        let Ok(_turn) = tokio::time::timeout(TURN, self.0.turns.acquire()).await else {
            tracing::debug!(namespace, name, reason, "event not published: too many wait");
            return "dropped";
        };
        // Boxed: hundreds may wait above, and each would have the room for the requests.
        match tokio::time::timeout(PATIENCE, Box::pin(self.0.tell(about, notice))).await {
            Ok(Ok(())) => return "published",
            Ok(Err(error)) => {
                tracing::debug!(namespace, name, reason, error = root_cause(&error), "event not published");
            }
            Err(_) => tracing::debug!(namespace, name, reason, "event not published in time"),
        }
        "failed"
    }
}

impl Publisher {
    async fn tell(&self, about: &CrRef, notice: Notice) -> Result<(), kube::Error> {
        let key = self.hashes.hash_one((notice.kind, notice.reason, notice.action, about, &notice.related));
        let api: Api<Event> = Api::namespaced(self.client.clone(), &about.key.namespace);
        if let Some((name, count)) = self.repeated(key) {
            // The reason does not change; whoever reads the audit log sees what was repeated.
            let series = json!({"count": count, "lastObservedTime": MicroTime(Timestamp::now())});
            let series = json!({"reason": notice.reason, "series": series});
            match api.patch(&name, &PatchParams::default(), &Patch::Merge(series)).await {
                // Somebody removed it.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
                Ok(_) => {
                    self.remember(key, name, count);
                    return Ok(());
                }
            }
        }
        let event = self.event(about, notice);
        api.create(&PostParams::default(), &event).await?;
        self.remember(key, event.metadata.name.unwrap_or_default().into(), 1);
        Ok(())
    }

    /// The Event that was written for this already, and how often it will have happened.
    fn repeated(&self, key: u64) -> Option<(Box<str>, i32)> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        told.retain(|_, told| now.duration_since(told.last) < REMEMBERED);
        told.get(&key).map(|told| (told.name.clone(), told.count.saturating_add(1)))
    }

    fn remember(&self, key: u64, name: Box<str>, count: i32) {
        let told = Told { name, count, last: Instant::now() };
        self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(key, told);
    }

    fn event(&self, about: &CrRef, notice: Notice) -> Event {
        let (now, key) = (Timestamp::now(), &about.key);
        let reference = |kind: Kind, name: &str| ObjectReference {
            api_version: Some(kind.api_version().to_owned()),
            kind: Some(kind.name().to_owned()),
            namespace: Some(key.namespace.clone()),
            name: Some(name.to_owned()),
            ..ObjectReference::default()
        };
        let kind = match notice.kind {
            NoticeKind::Normal => "Normal",
            NoticeKind::Warning => "Warning",
        };
        Event {
            metadata: ObjectMeta {
                namespace: Some(key.namespace.clone()),
                name: Some(format!("{}.{:x}", key.name, now.as_nanosecond())),
                ..ObjectMeta::default()
            },
            type_: Some(kind.to_owned()),
            reason: Some(notice.reason.to_owned()),
            action: Some(notice.action.to_owned()),
            note: Some(cut(&notice.note, NOTE_MAX)),
            event_time: Some(MicroTime(now)),
            regarding: Some(ObjectReference {
                uid: Some(about.uid.clone()),
                ..reference(Kind::DittoServer, &key.name)
            }),
            related: notice.related.map(|(kind, name)| reference(kind, &name)),
            reporting_controller: Some(super::FIELD_MANAGER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
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
    async fn a_repeat_is_a_new_event_when_the_first_is_gone_or_long_ago() {
        let server = Server::new(|request, _| match request.method {
            Method::PATCH => Reply::status(404, "NotFound"),
            _ => Reply::Json(201, json!({"metadata": {"name": "e", "namespace": "ns"}, "eventTime": null})),
        });
        let events = Events::new(server.client(), "pod-1".into());
        events.publish(&about(), notice("first", None)).await;
        events.publish(&about(), notice("again", None)).await;
        tokio::time::advance(REMEMBERED).await;
        events.publish(&about(), notice("much later", None)).await;
        let methods: Vec<_> = server.asked().iter().map(|a| a.method.clone()).collect();
        assert_eq!(methods, [Method::POST, Method::PATCH, Method::POST, Method::POST]);
        assert_eq!(events.0.told.lock().expect("no panic").len(), 1);
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
