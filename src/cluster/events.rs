//! Kubernetes Events about a `DittoServer`.
//!
//! Owns: how an event is worded for the API and how long it may take. Touches: `events.k8s.io` objects in the
//! namespace of the server (RBAC: create, patch). Guarantees: an event that cannot be written is a debug line and
//! nothing else; publishing takes 3 s at most once its turn has come within 10 s; repeats are one Event object that counts.
//!
//! Repeats are found by type, reason, action, the server and the related object, *not* by the note: an Event keeps its
//! first note, the API lets nobody change it, so the newest one and its trace are annotations. Two happenings whose
//! notes must both be seen differ in `action` or `related`. After [`REMEMBERED`] without a repeat the next one is an
//! Event of its own.
//!
//! kube's recorder forgets after 6 minutes, which makes many Events of a failure that is told each half hour; it sets
//! no annotation; and it keeps every whole Event for it, 10 kB a server when many come at once.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::error::{cut, is_namespace_leaving, root_cause};
use super::kind::Kind;
use super::leaving::Leaving;
use super::reason::Reason;
use crate::reconcile::ServerKey;

/// How long a repeated warning is counted on the Event that was written: longer than the longest silence about a
/// failure that goes on, and as long as the API server keeps an Event that nobody touches.
const REMEMBERED: Duration = Duration::from_hours(1);

/// The same for what is no warning: the note of each change is worth an Event.
const REMEMBERED_NORMAL: Duration = Duration::from_mins(6);

/// How many Events are remembered.
const REMEMBERED_MAX: usize = 4096;

/// Annotation: the trace in which it happened last.
pub const TRACE_ANNOTATION: &str = "dittofs.io/trace-id";

/// Annotation: the newest note, when it is not the first.
pub const NOTE_ANNOTATION: &str = "dittofs.io/note";

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

impl NoticeKind {
    /// As the API has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }

    fn remembered(self) -> Duration {
        match self {
            Self::Normal => REMEMBERED_NORMAL,
            Self::Warning => REMEMBERED,
        }
    }
}

/// One happening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Why.
    pub reason: Reason,
    /// What the operator was doing, in PascalCase (`CreateService`).
    pub action: &'static str,
    /// For people; cut at 1 kB. Never a secret.
    pub note: String,
    /// The object that it was done to, in the server's namespace.
    pub related: Option<(Kind, String)>,
    /// How often it happened since it was told last.
    pub times: u32,
    /// 32 hex digits: the trace in which it happened.
    pub trace: Option<String>,
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
    leaving: Leaving,
}

/// An Event that was written.
#[derive(Clone, Debug)]
struct Told {
    name: Box<str>,
    /// Hash of its note.
    note: u64,
    count: i32,
    /// No repeat any more from then on.
    until: Instant,
}

impl Events {
    /// As controller `dittofs-operator`; `instance` is the pod's name, or the host's; `leaving` says
    /// where no Event can be made.
    pub fn new(client: Client, instance: String, leaving: Leaving) -> Self {
        Self(Arc::new(Publisher {
            client,
            instance,
            turns: Semaphore::new(AT_ONCE),
            told: Mutex::default(),
            hashes: RandomState::new(),
            leaving,
        }))
    }

    /// Writes the event, or counts it up. A failure is logged at debug level and goes no further. Returns what became
    /// of it: `published`, `failed` or `dropped`.
    pub async fn publish(&self, about: &CrRef, notice: Notice) -> &'static str {
        let (namespace, name, reason) = (about.key.namespace.as_str(), about.key.name.as_str(), notice.reason.as_str());
        let Ok(_turn) = tokio::time::timeout(TURN, self.0.turns.acquire()).await else {
            tracing::debug!(namespace, name, reason, "event not published: too many wait");
            return "dropped";
        };
        // Boxed: hundreds may wait above, and each would have the room for the requests.
        match tokio::time::timeout(PATIENCE, Box::pin(self.0.tell(about, notice))).await {
            Ok(Ok(outcome)) => return outcome,
            Ok(Err(error)) => {
                tracing::debug!(namespace, name, reason, error = root_cause(&error), "event not published");
            }
            Err(_) => tracing::debug!(namespace, name, reason, "event not published in time"),
        }
        "failed"
    }
}

impl Publisher {
    async fn tell(&self, about: &CrRef, notice: Notice) -> Result<&'static str, kube::Error> {
        let kind = notice.reason.kind();
        let key = self.hashes.hash_one((kind, notice.reason, notice.action, about, &notice.related));
        let note = self.hashes.hash_one(&notice.note);
        let times = i32::try_from(notice.times).unwrap_or(i32::MAX);
        let api: Api<Event> = Api::namespaced(self.client.clone(), &about.key.namespace);
        if let Some(told) = self.repeated(key) {
            let count = told.count.saturating_add(times);
            let newest = (told.note != note).then(|| cut(&notice.note, NOTE_MAX));
            // The reason does not change; whoever reads the audit log sees what was repeated.
            let repeat = json!({
                "reason": notice.reason.as_str(),
                "metadata": {"annotations": {TRACE_ANNOTATION: notice.trace, NOTE_ANNOTATION: newest}},
                "series": {"count": count, "lastObservedTime": MicroTime(Timestamp::now())},
            });
            match api.patch(&told.name, &PatchParams::default(), &Patch::Merge(repeat)).await {
                // Somebody removed it, or the API server did after its time.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
                Ok(_) => {
                    self.remember(key, Told { count, until: Instant::now() + kind.remembered(), ..told });
                    return Ok("published");
                }
            }
        }
        let reason = notice.reason.as_str();
        let event = self.event(about, notice);
        let namespace = &about.key.namespace;
        if !self.leaving.lets(namespace) {
            let name = &about.key.name;
            tracing::debug!(namespace, name, reason, "event not published: the namespace is being deleted");
            return Ok("dropped");
        }
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => self.leaving.answered(namespace, false),
            Err(error) => {
                if let kube::Error::Api(status) = &error {
                    self.leaving.answered(namespace, is_namespace_leaving(status));
                }
                return Err(error);
            }
        }
        let name = event.metadata.name.unwrap_or_default().into();
        self.remember(key, Told { name, note, count: times, until: Instant::now() + kind.remembered() });
        Ok("published")
    }

    /// The Event that was written for this already.
    fn repeated(&self, key: u64) -> Option<Told> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        told.retain(|_, told| now < told.until);
        told.get(&key).cloned()
    }

    fn remember(&self, key: u64, event: Told) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= REMEMBERED_MAX
            && !told.contains_key(&key)
            && let Some(oldest) = told.iter().min_by_key(|(_, event)| event.until).map(|(key, _)| *key)
        {
            told.remove(&oldest);
        }
        told.insert(key, event);
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
        let series = (notice.times > 1).then(|| EventSeries {
            count: i32::try_from(notice.times).unwrap_or(i32::MAX),
            last_observed_time: MicroTime(now),
        });
        let annotations = notice.trace.map(|trace| BTreeMap::from([(TRACE_ANNOTATION.to_owned(), trace)]));
        Event {
            metadata: ObjectMeta {
                namespace: Some(key.namespace.clone()),
                name: Some(format!("{}.{:x}", key.name, now.as_nanosecond())),
                annotations,
                ..ObjectMeta::default()
            },
            type_: Some(notice.reason.kind().as_str().to_owned()),
            reason: Some(notice.reason.as_str().to_owned()),
            action: Some(notice.action.to_owned()),
            note: Some(cut(&notice.note, NOTE_MAX)),
            event_time: Some(MicroTime(now)),
            series,
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
            reason: Reason::AdapterServiceFailed,
            action: "CreateService",
            note: note.to_owned(),
            related: related.map(|name| (Kind::Service, name.to_owned())),
            times: 1,
            trace: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn repeats_are_counted_on_one_event_and_another_object_gets_its_own() {
        let server = Server::new(|_, _| {
            Reply::Json(201, json!({"metadata": {"name": "e", "namespace": "ns"}, "eventTime": null}))
        });
        let events = Events::new(server.client(), "pod-1".into(), Leaving::default());
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
        let events = Events::new(server.client(), "pod-1".into(), Leaving::default());
        events.publish(&about(), notice("first", None)).await;
        events.publish(&about(), notice("again", None)).await;
        tokio::time::advance(REMEMBERED).await;
        events.publish(&about(), notice("much later", None)).await;
        let methods: Vec<_> = server.asked().iter().map(|a| a.method.clone()).collect();
        assert_eq!(methods, [Method::POST, Method::PATCH, Method::POST, Method::POST]);
        assert_eq!(events.0.told.lock().expect("no panic").len(), 1);
    }

    fn taking() -> Server {
        Server::new(|_, _| Reply::Json(201, json!({"metadata": {"name": "e", "namespace": "ns"}, "eventTime": null})))
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_of_a_day_is_one_event_that_counts_and_leads_to_its_newest_trace() {
        let server = taking();
        let events = Events::new(server.client(), "pod-1".into(), Leaving::default());
        let traced = |note: &str, trace: &str, times| Notice {
            times,
            trace: Some(trace.to_owned()),
            ..notice(note, Some("files-adapter-nfs"))
        };
        events.publish(&about(), traced("timeout", "t0", 1)).await;
        for round in 1..=48 {
            tokio::time::advance(Duration::from_mins(30)).await;
            events.publish(&about(), traced("refused", &format!("t{round}"), 60)).await;
        }
        let asked = server.asked();
        let posts = asked.iter().filter(|a| a.method == Method::POST).count();
        assert_eq!((posts, asked.len()), (1, 49));
        assert_eq!(asked[0].body["metadata"]["annotations"], json!({"dittofs.io/trace-id": "t0"}));
        assert!(asked[0].body.get("series").is_none());
        let newest = &asked[48].body;
        assert_eq!(newest["series"]["count"], 1 + 48 * 60);
        assert_eq!(
            newest["metadata"]["annotations"],
            json!({"dittofs.io/trace-id": "t48", "dittofs.io/note": "refused"})
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_repeat_without_a_trace_leaves_no_trace_of_another_and_the_first_note_is_not_said_twice() {
        let server = taking();
        let events = Events::new(server.client(), "pod-1".into(), Leaving::default());
        events.publish(&about(), Notice { trace: Some("t0".into()), ..notice("same", None) }).await;
        events.publish(&about(), notice("same", None)).await;
        assert_eq!(
            server.asked()[1].body["metadata"]["annotations"],
            json!({"dittofs.io/trace-id": null, "dittofs.io/note": null}),
        );
    }

    #[tokio::test(start_paused = true)]
    async fn changes_that_were_made_are_repeats_for_a_few_minutes_only() {
        let server = taking();
        let events = Events::new(server.client(), "pod-1".into(), Leaving::default());
        let made = |note| Notice { reason: Reason::AdapterServiceUpdated, ..notice(note, None) };
        events.publish(&about(), made("port 1")).await;
        events.publish(&about(), made("port 2")).await;
        tokio::time::advance(REMEMBERED_NORMAL).await;
        events.publish(&about(), made("port 3")).await;
        let methods: Vec<_> = server.asked().iter().map(|a| a.method.clone()).collect();
        assert_eq!(methods, [Method::POST, Method::PATCH, Method::POST]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_events_are_remembered() {
        let server = taking();
        let events = Events::new(server.client(), "pod-1".into(), Leaving::default());
        for number in 0..=REMEMBERED_MAX {
            let told = Told { name: "e".into(), note: 0, count: 1, until: Instant::now() + REMEMBERED };
            tokio::time::advance(Duration::from_millis(1)).await;
            events.0.remember(number as u64, told);
        }
        let told = events.0.told.lock().expect("no panic");
        assert_eq!(told.len(), REMEMBERED_MAX);
        assert!(!told.contains_key(&0) && told.contains_key(&1), "the oldest goes first");
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_note_is_cut_to_what_the_api_takes() {
        let server = Server::new(|_, _| Reply::Json(201, json!({"metadata": {"name": "e"}})));
        let events = Events::new(server.client(), "pod-1".into(), Leaving::default());
        events.publish(&about(), notice(&"ß".repeat(2000), None)).await;
        let note = server.asked()[0].body["note"].as_str().expect("a note").to_owned();
        assert!((1000..=1024).contains(&note.len()), "{}", note.len());
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_cannot_be_written_holds_nobody_up() {
        let server = Server::new(|_, _| Reply::Hang);
        let events = Events::new(server.client(), "pod-1".into(), Leaving::default());
        let start = Instant::now();
        events.publish(&about(), notice("x", None)).await;
        assert_eq!(start.elapsed(), PATIENCE);
        let server = Server::new(|_, _| Reply::status(403, "Forbidden"));
        let start = Instant::now();
        Events::new(server.client(), "pod-1".into(), Leaving::default()).publish(&about(), notice("x", None)).await;
        assert_eq!((start.elapsed(), server.asked().len()), (Duration::ZERO, 1));
    }
}
