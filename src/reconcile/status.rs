//! `.status` as one pure function of what was observed and applied.
//!
//! Nothing is reported that was not seen: `observedGeneration` is the smallest generation that every writer has
//! applied, `configHash` is what the StatefulSet carries, and while nothing valid is known (a fresh operator, a
//! server that does not answer) what stood there before stays.

mod adapters;
mod coming;
mod conditions;
mod facts;
mod ready;
pub mod reasons;
mod snapshots;
mod volumes;

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use self::adapters::{adapters, served};
use self::coming::Coming;
use self::conditions::{
    authenticated_condition, available_condition, config_condition, database_condition, discovered_condition,
    paused_condition, ports_condition, progressing_condition, warnings_condition,
};
pub use self::facts::{ConfigFact, LastChange, PollFact, PortsFact, ServicesFact, VolumesFact};
use self::ready::ready_condition;
pub use self::snapshots::SnapshotsFact;
use super::percona::DatabaseFact;
use super::pod::PodSeen;
use super::{ObservedAdapter, ValidatedServer};
use crate::build::CONFIG_HASH_ANNOTATION;

/// Longest condition message: a tenth of what the schema allows, enough for any cause.
const MESSAGE_MAX: usize = 3000;

/// Longest summary of the last change, in characters.
const SUMMARY_MAX: usize = 256;

/// Everything that status is made of.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// `metadata.name` of the CR.
    pub name: &'a str,
    /// `metadata.generation` of the CR as read.
    pub generation: i64,
    /// Whether the CR is being deleted.
    pub deleting: bool,
    /// What its deletion waits for, in words.
    pub deletion: Option<&'a str>,
    /// While it is paused: what is not written for that, in words.
    pub paused: Option<&'a [String]>,
    /// The checked server, or what is wrong with it.
    pub server: Result<&'a ValidatedServer, &'a str>,
    /// ConfigHasher.
    pub config: Option<&'a ConfigFact>,
    /// ConfigHasher: the database of Percona's operator.
    pub database: Option<&'a DatabaseFact>,
    /// ConfigHasher: whether the server has no cluster of Percona's operator any more that would go with it.
    pub without_database: bool,
    /// AdapterPoller.
    pub poll: Option<&'a PollFact>,
    /// Adapters of the last valid answer.
    pub adapters: Option<&'a [ObservedAdapter]>,
    /// PortReconciler.
    pub ports: Option<&'a PortsFact>,
    /// PortReconciler, of the claims.
    pub volumes: Option<&'a VolumesFact>,
    /// The claims of this server as last seen; None before the first complete list.
    pub claims: Option<&'a [Arc<Value>]>,
    /// ServiceReconciler.
    pub services: Option<&'a ServicesFact>,
    /// AdapterPoller.
    pub snapshots: Option<&'a SnapshotsFact>,
    /// The StatefulSet as last seen.
    pub stateful_set: Option<&'a Value>,
    /// The pod of that StatefulSet as last seen.
    pub pod: PodSeen<'a>,
    /// The Services of this server as last seen.
    pub live_services: &'a [Arc<Value>],
    /// Doubtful settings, in words.
    pub warnings: &'a [String],
    /// The last change since the operator's start.
    pub change: Option<&'a LastChange>,
    /// `.status` as read.
    pub previous: Option<&'a Value>,
    /// Now, RFC 3339 in seconds, for transitions and for how long a pod has been so.
    pub now: &'a str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Truth {
    Yes,
    No,
    Unknown,
}

impl Truth {
    fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "True",
            Self::No => "False",
            Self::Unknown => "Unknown",
        }
    }
}

struct Condition {
    kind: &'static str,
    truth: Truth,
    reason: String,
    message: String,
}

fn condition(kind: &'static str, truth: Truth, reason: &str, message: impl Into<String>) -> Condition {
    Condition { kind, truth, reason: reason.to_owned(), message: message.into() }
}

/// The whole `.status` that the CR should have.
pub fn derive(seen: Observed<'_>) -> Value {
    let number = |field: &str| seen.stateful_set.and_then(|set| set.get("status")?.get(field)?.as_i64()).unwrap_or(0);
    let replicas = number("replicas");
    // What an unreadable spec asks for is not known; what the StatefulSet was told last still is.
    let wanted = seen.server.map_or_else(
        |_| seen.stateful_set.and_then(|set| set.pointer("/spec/replicas")?.as_i64()).unwrap_or(1),
        |server| i64::from(server.replicas),
    );
    let coming = Coming::of(&seen, wanted);
    // The StatefulSet's controller counts a little later than the pod tells.
    let ready = coming.at_most(number("readyReplicas"));
    let available = ready.min(number("availableReplicas"));
    let mut told = Map::new();
    adapters(&seen, &mut told);

    let mut conditions = vec![
        available_condition(wanted, available),
        config_condition(&seen),
        progressing_condition(&seen, &coming, wanted, replicas),
        authenticated_condition(&seen),
        discovered_condition(&seen),
        ports_condition(&seen),
        warnings_condition(&seen),
        volumes::condition(&seen),
    ];
    conditions.extend(seen.paused.map(paused_condition));
    conditions.extend(database_condition(&seen));
    conditions.extend(snapshots::snapshots_condition(&seen));
    let served = served(&told);
    let ready_condition = ready_condition(&seen, &conditions, &coming, wanted, ready, &served);
    conditions.insert(0, ready_condition);

    let mut status = Map::new();
    status.insert("replicas".into(), json!(replicas));
    status.insert("readyReplicas".into(), json!(ready));
    status.insert("availableReplicas".into(), json!(available));
    status.insert("phase".into(), json!(phase(&seen, &coming, wanted, replicas, ready)));
    if let Some(generation) = observed_generation(&seen) {
        status.insert("observedGeneration".into(), json!(generation));
    }
    let hash = seen
        .stateful_set
        .and_then(|set| set.pointer("/spec/template/metadata/annotations")?.get(CONFIG_HASH_ANNOTATION)?.as_str());
    if let Some(hash) = hash {
        status.insert("configHash".into(), json!(hash));
    }
    // Once switched off it stands there until ConfigHasher has seen to what becomes of the cluster.
    if !seen.server.is_ok_and(|server| server.percona.is_none()) || !seen.without_database {
        let known = seen.database.map(|database| json!(database.cluster));
        let before = || seen.previous.and_then(|previous| previous.get("perconaClusterName")).cloned();
        status.extend(known.or_else(before).map(|name| ("perconaClusterName".to_owned(), name)));
    }
    status.append(&mut told);
    volumes::sizes(&seen, &mut status);
    if let Some(change) = seen.change {
        let trace = change.trace_id.as_deref().unwrap_or_default();
        let summary = bounded(&change.summary, SUMMARY_MAX);
        status.insert("lastChange".into(), json!({"time": change.time, "traceID": trace, "summary": summary}));
    } else if let Some(before) = seen.previous.and_then(|previous| previous.get("lastChange")) {
        status.insert("lastChange".into(), before.clone());
    }
    let conditions: Vec<Value> = conditions.into_iter().map(|made| stamp(&made, &seen)).collect();
    status.insert("conditions".into(), Value::Array(conditions));
    Value::Object(status)
}

/// A JSON merge patch that turns `previous` into `derived`, or None when nothing differs. Fields that are not ours
/// are left alone; one of ours that is no longer set is taken out.
pub fn patch(previous: Option<&Value>, derived: &Value) -> Option<Value> {
    let mut patch = derived.as_object().cloned().unwrap_or_default();
    let previous = previous.and_then(Value::as_object);
    let mut differs = false;
    let optional = ["observedGeneration", "configHash", "perconaClusterName", "adapters", "activeAdapters", "volumes"];
    for field in optional {
        if previous.is_some_and(|previous| previous.contains_key(field)) && !patch.contains_key(field) {
            patch.insert(field.to_owned(), Value::Null);
            differs = true;
        }
    }
    differs |= volumes::drop_gone(previous, &mut patch);
    differs |= patch
        .iter()
        .any(|(field, value)| !value.is_null() && previous.and_then(|previous| previous.get(field)) != Some(value));
    differs.then_some(Value::Object(patch))
}

/// Never ahead of what was applied: the smallest generation of the three writers, and never one step back from what
/// was reported, since what was applied stays applied.
fn observed_generation(seen: &Observed<'_>) -> Option<i64> {
    let previous = seen.previous.and_then(|status| status.get("observedGeneration")?.as_i64());
    let applied = [
        seen.config.and_then(ConfigFact::generation),
        seen.ports.and_then(|ports| ports.applied),
        seen.services.and_then(|services| services.applied),
    ];
    let all = applied.into_iter().collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().min());
    all.max(previous).map(|generation| generation.min(seen.generation))
}

fn phase(seen: &Observed<'_>, coming: &Coming, wanted: i64, replicas: i64, ready: i64) -> &'static str {
    if seen.deleting {
        "Deleting"
    } else if seen.server.is_ok() && wanted == 0 && replicas == 0 && !coming.there {
        "Stopped"
    } else if ready > 0 {
        "Running"
    } else if seen.server.is_err() || coming.failed().is_some() {
        "Failed"
    } else {
        "Pending"
    }
}

/// What stood there before: it stays while a restarted operator knows nothing newer.
fn carried(seen: &Observed<'_>, kind: &'static str) -> Option<Condition> {
    let before = previous_condition(seen.previous, kind)?;
    let text = |field: &str| before.get(field).and_then(Value::as_str);
    let truth = match text("status")? {
        "True" => Truth::Yes,
        "False" => Truth::No,
        _ => Truth::Unknown,
    };
    Some(condition(kind, truth, text("reason")?, text("message").unwrap_or_default()))
}

fn carried_or_unknown(seen: &Observed<'_>, kind: &'static str, reason: &str, message: &str) -> Condition {
    carried(seen, kind).unwrap_or_else(|| condition(kind, Truth::Unknown, reason, message))
}

fn previous_condition<'a>(previous: Option<&'a Value>, kind: &str) -> Option<&'a Value> {
    previous?
        .get("conditions")?
        .as_array()?
        .iter()
        .find(|condition| condition.get("type").and_then(Value::as_str) == Some(kind))
}

/// At most `most` characters of a text.
fn bounded(text: &str, most: usize) -> Cow<'_, str> {
    if text.chars().count() > most { text.chars().take(most).chain("…".chars()).collect() } else { text.into() }
}

/// The transition time moves only when the status of the condition does.
fn stamp(made: &Condition, seen: &Observed<'_>) -> Value {
    let before = previous_condition(seen.previous, made.kind);
    let same = before.and_then(|before| before.get("status")?.as_str()) == Some(made.truth.as_str());
    let since = before.filter(|_| same).and_then(|before| before.get("lastTransitionTime")).cloned();
    let message = bounded(&made.message, MESSAGE_MAX);
    // Never ahead of what was applied, so never that of a spec which is still on its way.
    json!({
        "type": made.kind,
        "status": made.truth.as_str(),
        "reason": made.reason,
        "message": message,
        "observedGeneration": observed_generation(seen).unwrap_or(0),
        "lastTransitionTime": since.unwrap_or_else(|| json!(seen.now)),
    })
}

#[cfg(test)]
mod tests;
