//! `.status` as one pure function of what was observed and applied.
//!
//! Nothing is reported that was not seen: `observedGeneration` is the smallest generation that every writer has
//! applied, `configHash` is what the StatefulSet carries, and while nothing valid is known (a fresh operator, a
//! server that does not answer) what stood there before stays.

mod coming;
pub mod reasons;
mod snapshots;
mod volumes;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use self::coming::Coming;
pub use self::snapshots::SnapshotsFact;
use super::object::meta;
use super::percona::DatabaseFact;
use super::pod::PodSeen;
use super::{AdapterState, ObservedAdapter, ValidatedServer};
use crate::build::CONFIG_HASH_ANNOTATION;
use crate::crd::annotations::PAUSED;

/// Longest condition message: a tenth of what the schema allows, enough for any cause.
const MESSAGE_MAX: usize = 3000;

/// Longest summary of the last change, in characters.
const SUMMARY_MAX: usize = 256;

/// What ConfigHasher last found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigFact {
    /// ConfigMap and Secrets are in place and hashed for this generation.
    Valid {
        /// `metadata.generation`.
        generation: i64,
    },
    /// A Secret is missing or lacks a key: the last hash holds.
    SecretMissing {
        /// `metadata.generation`.
        generation: i64,
        /// Which, and what to do.
        text: String,
    },
    /// The ConfigMap or a managed Secret cannot be written, or belongs to somebody else.
    Failed {
        /// Condition reason.
        reason: &'static str,
        /// What happened.
        text: String,
    },
}

impl ConfigFact {
    fn generation(&self) -> Option<i64> {
        match self {
            Self::Valid { generation } | Self::SecretMissing { generation, .. } => Some(*generation),
            Self::Failed { .. } => None,
        }
    }
}

/// What AdapterPoller last found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PollFact {
    /// A full, valid answer.
    Answered,
    /// No answer, or none of the server's.
    Unreachable(String),
    /// The server or its Secrets refuse us.
    Refused(String),
    /// We are logged in, but the answer is not a list of adapters.
    BadAnswer(String),
    /// `replicas` is 0: nothing is polled.
    Stopped,
}

/// What PortReconciler last did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortsFact {
    /// Generation that the StatefulSet carries; None when the last run did not get so far.
    pub applied: Option<i64>,
    /// A port change is held back.
    pub deferred: bool,
    /// What stands in the way, in words.
    pub problem: Option<String>,
}

/// Which claims PortReconciler cannot let grow, or sees wait for a StorageClass, and why; and which it leaves as somebody
/// else wished.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumesFact {
    /// By claim: why.
    pub refused: BTreeMap<&'static str, String>,
    /// StorageClasses that claims without a volume wait for and that are not there, in words.
    pub classless: Vec<String>,
    /// By claim that asks for more than the spec does and is not ours to take back: the name of who asked.
    pub left: BTreeMap<&'static str, String>,
}

/// What ServiceReconciler last did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicesFact {
    /// Generation that all Services and NetworkPolicies carry; None when the last run did not get so far.
    pub applied: Option<i64>,
    /// Failures and foreign objects, in words.
    pub problems: Vec<String>,
    /// Objects (`Kind name`) that are being deleted and whose successors wait.
    pub waiting: Vec<String>,
}

/// The last change to an object of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastChange {
    /// When, RFC 3339.
    pub time: String,
    /// Trace of the reconcile that made it.
    pub trace_id: Option<String>,
    /// In words.
    pub summary: String,
}

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

fn ready_condition(
    seen: &Observed<'_>,
    others: &[Condition],
    coming: &Coming,
    wanted: i64,
    ready: i64,
    served: &str,
) -> Condition {
    let mut missing: Vec<String> = Vec::new();
    if seen.deleting {
        let waits = seen.deletion.map(|text| format!("; {text}")).unwrap_or_default();
        missing.push(format!("the server is being deleted{waits}"));
    } else if let Err(problem) = seen.server {
        return condition("Ready", Truth::No, "SpecInvalid", problem);
    }
    if wanted == 0 {
        missing.push("spec.replicas is 0".into());
    }
    if ready < wanted {
        missing.extend(coming.trouble.as_ref().map(ToString::to_string));
        missing.push(format!("{ready} of {wanted} replicas ready"));
    }
    if observed_generation(seen) != Some(seen.generation) {
        missing.push(format!("generation {} is not applied yet", seen.generation));
    }
    for other in others {
        let must = match other.kind {
            "ConfigReady" | "DatabaseReady" | "Available" | "Authenticated" | "AdaptersDiscovered" => Truth::Yes,
            "Progressing" => Truth::No,
            // Unknown only until the claims were listed.
            "VolumesReady" if other.truth == Truth::No => Truth::Yes,
            _ => continue,
        };
        if other.truth != must {
            missing.push(format!("{} is {} ({})", other.kind, other.truth.as_str(), other.reason));
        }
    }
    // What was just observed may not have reached ServiceReconciler: the Services themselves tell.
    if let (Ok(server), Some(adapters)) = (seen.server, seen.adapters) {
        let names = server.names();
        for adapter in adapters.iter().filter(|adapter| adapter.state == AdapterState::Running) {
            let name = names.adapter_service(&adapter.adapter_type);
            if !seen.live_services.iter().any(|service| meta(service, "name") == name) {
                missing.push(format!("Service {name} is not there yet"));
            }
        }
    }
    if let Some(problem) = seen.ports.and_then(|ports| ports.problem.as_deref()) {
        missing.push(problem.to_owned());
    }
    if let Some(services) = seen.services {
        missing.extend(services.problems.iter().cloned());
        missing.extend(services.waiting.iter().map(|object| format!("{object} is being deleted")));
    }
    // Nothing speaks against it, but not everyone has spoken: a restarted operator reports what its predecessor saw.
    if missing.is_empty() && (seen.services.is_none() || seen.ports.is_none()) {
        return carried(seen, "Ready").filter(|before| before.truth == Truth::Yes).unwrap_or_else(|| {
            condition("Ready", Truth::No, "ConditionsNotMet", "the server's objects were not reconciled yet")
        });
    }
    if missing.is_empty() {
        condition("Ready", Truth::Yes, "AllConditionsMet", format!("The server runs as specified; {served}"))
    } else {
        // The phase and its reason are one answer.
        let failed = coming.failed().filter(|_| !seen.deleting && ready == 0);
        let reason = failed.map_or("ConditionsNotMet", |why| why.as_str());
        condition("Ready", Truth::No, reason, missing.join("; "))
    }
}

fn available_condition(wanted: i64, available: i64) -> Condition {
    if wanted == 0 {
        condition("Available", Truth::No, "Stopped", "spec.replicas is 0")
    } else if available >= wanted {
        condition(
            "Available",
            Truth::Yes,
            "MinimumReplicasAvailable",
            format!("{available} of {wanted} replicas available"),
        )
    } else {
        condition("Available", Truth::No, "NoReplicasAvailable", format!("{available} of {wanted} replicas available"))
    }
}

fn config_condition(seen: &Observed<'_>) -> Condition {
    match (seen.server, seen.config) {
        (Err(problem), _) => condition("ConfigReady", Truth::No, "SpecInvalid", problem),
        (_, None) => carried(seen, "ConfigReady").unwrap_or_else(|| {
            condition("ConfigReady", Truth::Unknown, "ConfigMissing", "The configuration was not rendered yet")
        }),
        (_, Some(ConfigFact::Valid { .. })) => {
            condition("ConfigReady", Truth::Yes, "ConfigValid", "ConfigMap and Secrets are in place")
        }
        (_, Some(ConfigFact::SecretMissing { text, .. })) => {
            condition("ConfigReady", Truth::No, "SecretMissing", text.clone())
        }
        (_, Some(ConfigFact::Failed { reason, text })) => condition("ConfigReady", Truth::No, reason, text.clone()),
    }
}

/// Only of a server whose database Percona's operator runs.
fn database_condition(seen: &Observed<'_>) -> Option<Condition> {
    const KIND: &str = "DatabaseReady";
    seen.server.ok()?.percona.as_ref()?;
    Some(match seen.database {
        None => carried_or_unknown(seen, KIND, "NotReconciledYet", "The database was not looked at yet"),
        Some(DatabaseFact { cluster, problem: None }) => {
            condition(KIND, Truth::Yes, "PerconaReady", format!("PerconaPGCluster {cluster} is ready"))
        }
        Some(DatabaseFact { problem: Some((reason, text)), .. }) => condition(KIND, Truth::No, reason, text.clone()),
    })
}

fn progressing_condition(seen: &Observed<'_>, coming: &Coming, wanted: i64, replicas: i64) -> Condition {
    let Some(set) = seen.stateful_set else {
        let reason = if seen.server.is_ok() { "StatefulSetUpdating" } else { "ReconcileComplete" };
        let truth = if seen.server.is_ok() { Truth::Yes } else { Truth::No };
        return condition("Progressing", truth, reason, "There is no StatefulSet yet");
    };
    // Told by the StatefulSet alone: a port change that only waits to be written holds no rollout back, and under a
    // partition nothing rolls, also before the controller has seen the change that was just held.
    let held = set.pointer("/spec/updateStrategy/rollingUpdate/partition").and_then(Value::as_i64).unwrap_or(0) > 0;
    let text = |field: &str| set.get("status").and_then(|status| status.get(field)?.as_str());
    let stale = set.pointer("/status/observedGeneration") != set.pointer("/metadata/generation");
    if !held && (stale || text("currentRevision") != text("updateRevision")) {
        // Before its controller has seen the change it still names the revision before.
        let revision = text("updateRevision").filter(|_| !stale).unwrap_or("a new revision");
        let stands = coming.trouble.as_ref().map(|trouble| format!("; {}", trouble.detail)).unwrap_or_default();
        condition("Progressing", Truth::Yes, "StatefulSetUpdating", format!("Rolling to {revision}{stands}"))
    } else if replicas != wanted {
        condition("Progressing", Truth::Yes, "ScalingReplicas", format!("{replicas} of {wanted} replicas exist"))
    } else {
        condition("Progressing", Truth::No, "ReconcileComplete", "Nothing is rolling")
    }
}

fn authenticated_condition(seen: &Observed<'_>) -> Condition {
    const KIND: &str = "Authenticated";
    match seen.poll {
        None => carried_or_unknown(seen, KIND, "APIUnreachable", "The server was not polled yet"),
        Some(PollFact::Answered | PollFact::BadAnswer(_)) => {
            condition(KIND, Truth::Yes, "AuthenticationSucceeded", "Logged in to the server's API")
        }
        Some(PollFact::Unreachable(text)) => condition(KIND, Truth::No, "APIUnreachable", text.clone()),
        Some(PollFact::Refused(text)) => condition(KIND, Truth::No, "AuthenticationFailed", text.clone()),
        Some(PollFact::Stopped) => condition(KIND, Truth::Unknown, "Stopped", "A stopped server is not polled"),
    }
}

fn discovered_condition(seen: &Observed<'_>) -> Condition {
    const KIND: &str = "AdaptersDiscovered";
    let kept = if seen.adapters.is_some() { "; the last known adapters are kept" } else { "" };
    match seen.poll {
        None => carried_or_unknown(seen, KIND, "NotPolledYet", "The server was not polled yet"),
        Some(PollFact::Answered) => {
            let count = active(seen.adapters).count();
            condition(KIND, Truth::Yes, "AdaptersListed", format!("{count} adapters run"))
        }
        Some(PollFact::Unreachable(text)) => condition(KIND, Truth::No, "APIUnreachable", format!("{text}{kept}")),
        Some(PollFact::Refused(text)) => condition(KIND, Truth::No, "AuthenticationFailed", format!("{text}{kept}")),
        Some(PollFact::BadAnswer(text)) => condition(KIND, Truth::No, "BadAnswer", format!("{text}{kept}")),
        Some(PollFact::Stopped) => condition(KIND, Truth::Unknown, "Stopped", "A stopped server is not polled"),
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

fn ports_condition(seen: &Observed<'_>) -> Condition {
    match seen.ports {
        Some(ports) if ports.deferred => condition(
            "PortsRolledOut",
            Truth::No,
            "Deferred",
            "The container ports of the running pod differ from its adapters until the next rollout; \
             nothing that clients use depends on them (kubectl rollout restart applies them now)",
        ),
        Some(_) => condition("PortsRolledOut", Truth::Yes, "RolledOut", "The pod declares its adapters' ports"),
        None => {
            carried_or_unknown(seen, "PortsRolledOut", "NotReconciledYet", "The StatefulSet was not reconciled yet")
        }
    }
}

fn warnings_condition(seen: &Observed<'_>) -> Condition {
    // Before the first poll the warnings about adapters are not known; those of the same spec stand.
    let same_spec =
        seen.previous.and_then(|status| status.get("observedGeneration")?.as_i64()) == Some(seen.generation);
    if seen.adapters.is_none()
        && same_spec
        && let Some(before) = carried(seen, "Warnings")
    {
        return before;
    }
    if seen.warnings.is_empty() {
        condition("Warnings", Truth::No, "NoWarnings", "Nothing doubtful in the spec")
    } else {
        condition("Warnings", Truth::Yes, "Doubtful", seen.warnings.join("; "))
    }
}

/// Only there while the server is paused.
fn paused_condition(held: &[String]) -> Condition {
    let waits =
        if held.is_empty() { "nothing waits to be done".to_owned() } else { format!("it would {}", held.join("; ")) };
    let message = format!("Nothing but this status is written while the annotation {PAUSED} is \"true\"; {waits}");
    condition("Paused", Truth::Yes, "PausedByAnnotation", message)
}

fn active(adapters: Option<&[ObservedAdapter]>) -> impl Iterator<Item = &ObservedAdapter> {
    adapters.into_iter().flatten().filter(|adapter| adapter.state != AdapterState::Stopped)
}

fn adapters(seen: &Observed<'_>, status: &mut Map<String, Value>) {
    let (Some(known), Ok(server)) = (seen.adapters, seen.server) else {
        for field in ["adapters", "activeAdapters"] {
            if let Some(before) = seen.previous.and_then(|previous| previous.get(field)) {
                status.insert(field.to_owned(), before.clone());
            }
        }
        return;
    };
    let names = server.names();
    let mut listed = Vec::new();
    let mut types = Vec::new();
    for adapter in active(Some(known)) {
        let name = names.adapter_service(&adapter.adapter_type);
        let Some(service) = seen.live_services.iter().find(|service| meta(service, "name") == name) else { continue };
        let port = service.pointer("/spec/ports/0/port").cloned().unwrap_or_else(|| json!(adapter.port));
        let mut entry = json!({"type": adapter.adapter_type, "port": port, "serviceName": name});
        if let Some(endpoint) = endpoint(service) {
            entry["endpoint"] = json!(endpoint);
        }
        listed.push(entry);
        types.push(adapter.adapter_type.as_str());
    }
    status.insert("adapters".into(), Value::Array(listed));
    status.insert("activeAdapters".into(), json!(types.join(", ")));
}

/// Where the adapters are served, for people.
fn served(told: &Map<String, Value>) -> String {
    let word = |adapter: &Value, field: &str| adapter[field].as_str().unwrap_or_default().to_owned();
    let each = told.get("adapters").and_then(Value::as_array).into_iter().flatten().map(|adapter| {
        let (kind, port) = (word(adapter, "type"), &adapter["port"]);
        match adapter["endpoint"].as_str() {
            Some(host) if host.contains(':') => format!("{kind} at [{host}]:{port}"),
            Some(host) => format!("{kind} at {host}:{port}"),
            None => format!("{kind} at Service {} port {port}", word(adapter, "serviceName")),
        }
    });
    let each: Vec<String> = each.collect();
    if each.is_empty() { "no adapter runs".to_owned() } else { format!("it serves {}", each.join(", ")) }
}

/// The address at which a load balancer serves: the first that it has, without a port. A Service that is none any more
/// may still show one for a moment.
fn endpoint(service: &Value) -> Option<&str> {
    if service.pointer("/spec/type").and_then(Value::as_str) != Some("LoadBalancer") {
        return None;
    }
    let ingress = service.pointer("/status/loadBalancer/ingress")?.as_array()?;
    ingress.iter().find_map(|entry| {
        let address = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        address("ip").or_else(|| address("hostname"))
    })
}

fn previous_condition<'a>(previous: Option<&'a Value>, kind: &str) -> Option<&'a Value> {
    previous?
        .get("conditions")?
        .as_array()?
        .iter()
        .find(|condition| condition.get("type").and_then(Value::as_str) == Some(kind))
}

/// The transition time moves only when the status of the condition does.
/// At most `most` characters of a text.
fn bounded(text: &str, most: usize) -> Cow<'_, str> {
    if text.chars().count() > most { text.chars().take(most).chain("…".chars()).collect() } else { text.into() }
}

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
