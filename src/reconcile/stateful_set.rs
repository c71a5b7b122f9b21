//! What to do with the StatefulSet: the pure half of the PortReconciler.
//!
//! Two promises are kept here. A file server is never restarted for a change of container ports alone: such a change
//! is written, but *held* back from the running pod by a partition until something that the server must see rolls
//! it. And whatever else changes the pod template while it is held, by us or by anyone (`kubectl rollout restart`),
//! lifts the hold: the annotation [`HELD_TEMPLATE`] holds the hash of the template without its adapter ports.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::claims::content_changed;
use super::diff::diff;
use super::merge::{last_applied, merge, with_last_applied};
use super::ports::{adapter_ports, has_container, move_adapter_ports_last, set_adapter_ports, without_adapter_ports};
use super::{AdapterState, ObservedAdapter, OnPortChange, ValidatedServer, owned_by};
use crate::build::{
    ADOPTED_ANNOTATION, AdapterPort, CONFIG_HASH_ANNOTATION, HELD_TEMPLATE_ANNOTATION as HELD_TEMPLATE, TemplateInput,
    fresh_server_adapters, stateful_set,
};
use crate::crd::annotations::RESTART_AT;

/// Value of [`HELD_TEMPLATE`] in the moment of a held creation, before the API server's defaults are known.
const HELD_UNSETTLED: &str = "unsettled";

/// The update strategy under which no pod is rolled; only somebody else sets it.
const ON_DELETE: &str = "OnDelete";

/// What ConfigHasher last said, seen from the generation that is to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashInput {
    /// The hash of exactly this generation.
    Hash(String),
    /// A Secret is missing or unreadable: nothing of the template may change, or the pod would come back broken.
    Held,
    /// Nothing was said about this generation yet.
    Pending,
}

/// Everything that the decision needs.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The server.
    pub server: &'a ValidatedServer,
    /// Its config hash.
    pub hash: &'a HashInput,
    /// Its adapters; None before the first valid answer of the server.
    pub adapters: Option<&'a [ObservedAdapter]>,
    /// The StatefulSet as read from the API server.
    pub live: Option<&'a Value>,
    /// The pod of the StatefulSet's name, asked for only when there is no StatefulSet.
    pub orphan: Option<&'a Value>,
}

/// Whether another operator made this StatefulSet: ours marks what it takes over, and knows what it made by what it
/// applied last. Nobody asked for a new address of such a server.
fn is_adopted(live: &Value) -> bool {
    let marked = live.pointer("/metadata/annotations").and_then(|all| all.get(ADOPTED_ANNOTATION)).is_some();
    marked || last_applied(live).is_none()
}

/// Whether this server, whose StatefulSet is `set`, was made by another operator. A set that is not the server's says
/// nothing.
pub fn was_taken_over(server: &ValidatedServer, set: Option<&Value>) -> bool {
    set.is_some_and(|set| owned_by(set, &server.uid) && is_adopted(set))
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// Nothing differs.
    Nothing {
        /// A port change is written but held back, or waits to be written.
        deferred: bool,
    },
    /// Nothing can be decided yet; the text says what is awaited.
    Wait(&'static str),
    /// There is none: create this.
    Create(Box<Value>),
    /// Replace it by this, at the resourceVersion that it was read at.
    Replace {
        /// The whole new object.
        object: Box<Value>,
        /// The difference in words.
        changes: Vec<String>,
        /// Whether adapter ports are part of it.
        ports_changed: bool,
        /// Whether the pod will be restarted by it.
        rolls: bool,
        /// Whether a port change is held back afterwards.
        deferred: bool,
    },
    /// An object of that name belongs to somebody else.
    NotOwned,
    /// The spec asks for another volume than it was made with, which cannot be: nothing is changed. In words.
    StorageChanged(String),
    /// It is being deleted; its successor is made when it is gone.
    BeingDeleted,
}

/// Decides.
pub fn plan(input: Input<'_>) -> Plan {
    if input.server.deleting {
        return Plan::Nothing { deferred: false };
    }
    match input.live {
        None => plan_create(input),
        Some(live) if !owned_by(live, &input.server.uid) => Plan::NotOwned,
        Some(live) if live.pointer("/metadata/deletionTimestamp").is_some() => Plan::BeingDeleted,
        Some(live) => match content_changed(input.server, live) {
            Some(why) => Plan::StorageChanged(why),
            None => plan_replace(input, live),
        },
    }
}

fn plan_create(input: Input<'_>) -> Plan {
    let hash = match input.hash {
        HashInput::Hash(hash) => hash,
        HashInput::Held => return Plan::Wait("a Secret that the server needs"),
        HashInput::Pending => return Plan::Wait("the config hash"),
    };
    let adapters = match input.adapters {
        Some(adapters) => running(adapters),
        None => fresh_server_adapters(),
    };
    // A pod that outlived its StatefulSet (`kubectl delete --cascade=orphan`) and is what we would start anyway is
    // taken over as it runs: without the hold its successor's new revision would restart it.
    let held = input.orphan.is_some_and(|pod| runs_what_we_want(pod, input.server, hash));
    let built = stateful_set(
        input.server,
        &TemplateInput { config_hash: hash, adapters: &adapters, partition: i32::from(held) },
    );
    let mut object = with_last_applied(&desired(input.server, hash));
    let full = serde_json::to_value(built).unwrap_or_default();
    object = merge(&object, None, &full);
    if held {
        object["metadata"]["annotations"][HELD_TEMPLATE] = json!(HELD_UNSETTLED);
    }
    Plan::Create(Box::new(object))
}

fn running(adapters: &[ObservedAdapter]) -> Vec<AdapterPort> {
    adapters
        .iter()
        .filter(|adapter| adapter.state == AdapterState::Running)
        .map(|adapter| AdapterPort { adapter_type: adapter.adapter_type.clone(), port: adapter.port })
        .collect()
}

/// What we want of an existing StatefulSet: without what is immutable (claim templates, selector, serviceName) and
/// without what is decided apart (adapter ports, partition).
fn desired(server: &ValidatedServer, hash: &str) -> Value {
    let built = stateful_set(server, &TemplateInput { config_hash: hash, adapters: &[], partition: 0 });
    let mut value = serde_json::to_value(built).unwrap_or_default();
    if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
        for field in ["volumeClaimTemplates", "selector", "serviceName", "podManagementPolicy", "updateStrategy"] {
            spec.remove(field);
        }
    }
    value
}

/// Whether an orphaned pod was started from what we would write now, adapter ports aside.
fn runs_what_we_want(pod: &Value, server: &ValidatedServer, hash: &str) -> bool {
    let has_controller = pod
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array)
        .is_some_and(|owners| owners.iter().any(|owner| owner.get("controller") == Some(&Value::Bool(true))));
    if has_controller || pod.pointer("/metadata/deletionTimestamp").is_some() {
        return false;
    }
    let wanted = desired(server, hash);
    let Some(template) = wanted.pointer("/spec/template") else { return false };
    let mut wanted = json!({"metadata": template.get("metadata"), "spec": template.get("spec")});
    // Admission adds tolerations to every pod (`not-ready`, `unreachable`): ours have to be among them, not alone.
    if let Some(spec) = wanted.get_mut("spec").and_then(Value::as_object_mut)
        && let Some(Value::Array(tolerations)) = spec.remove("tolerations")
    {
        let present = pod.pointer("/spec/tolerations").and_then(Value::as_array);
        if !tolerations.iter().all(|ours| present.is_some_and(|all| all.contains(ours))) {
            return false;
        }
    }
    merge(pod, None, &wanted) == *pod
}

fn plan_replace(input: Input<'_>, live: &Value) -> Plan {
    let mut next = match input.hash {
        HashInput::Pending => return Plan::Wait("the config hash"),
        HashInput::Held => {
            let mut next = live.clone();
            next["spec"]["replicas"] = json!(input.server.replicas);
            next
        }
        HashInput::Hash(hash) => {
            let mut wanted = desired(input.server, frozen_hash(input.server, live).unwrap_or(hash));
            if is_adopted(live) {
                wanted["metadata"]["annotations"][ADOPTED_ANNOTATION] = json!("true");
            }
            keep_restart(&mut wanted, live);
            let mut next = merge(live, last_applied(live).as_ref(), &with_last_applied(&wanted));
            if input.server.metrics.is_none() {
                super::ports::remove_port(&mut next["spec"]["template"], "metrics");
            }
            next
        }
    };
    let ports_before = adapter_ports(&live["spec"]["template"]);
    let ports_wanted = input.adapters.map_or_else(|| ports_before.clone(), |seen| wanted_ports(seen, &ports_before));
    let ports_differ = ports_wanted != ports_before && has_container(&next["spec"]["template"]);

    let hold = Hold::read(live);
    let base_before = template_hash(&live["spec"]["template"]);
    let base_after = template_hash(&next["spec"]["template"]);
    let base_changes = base_before != base_after;
    // A pod that is started while one of its Secrets is missing comes up broken: not even those who want their ports
    // at once want that.
    let policy = match (input.hash, input.server.rollout.on_port_change) {
        (HashInput::Held, OnPortChange::Immediate) => OnPortChange::WithNextRollout,
        (_, policy) => policy,
    };
    let verdict = hold.decide(base_changes, &base_before, ports_differ, policy);
    match verdict.ports {
        Ports::Write => set_adapter_ports(&mut next["spec"]["template"], &ports_wanted),
        Ports::Leave => {}
    }
    if base_changes {
        move_adapter_ports_last(&mut next["spec"]["template"]);
    }
    match verdict.partition {
        Partition::Leave => {}
        Partition::Hold => {
            set_partition(&mut next, 1);
            next["metadata"]["annotations"][HELD_TEMPLATE] = json!(base_after);
        }
        Partition::Lift => {
            set_partition(&mut next, 0);
            if let Some(annotations) = next.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
                annotations.remove(HELD_TEMPLATE);
            }
        }
    }
    if next == *live {
        return Plan::Nothing { deferred: verdict.deferred };
    }
    let changes = diff(live, &next);
    let template_changes = next["spec"]["template"] != live["spec"]["template"];
    Plan::Replace {
        changes,
        ports_changed: ports_differ && verdict.ports == Ports::Write,
        rolls: hold.pods > 0
            && (template_changes
                && verdict.partition != Partition::Hold
                && !(hold.protects() && verdict.partition == Partition::Leave)
                || verdict.partition == Partition::Lift && !hold.settled),
        deferred: verdict.deferred,
        object: Box::new(next),
    }
}

/// Sets the partition and nothing else of the update strategy. `OnDelete` has none, and is somebody's choice.
fn set_partition(object: &mut Value, partition: i64) {
    let strategy = &mut object["spec"]["updateStrategy"];
    if strategy.get("type").and_then(Value::as_str) != Some(ON_DELETE) {
        strategy["type"] = json!("RollingUpdate");
        strategy["rollingUpdate"]["partition"] = json!(partition);
    }
}

/// A stopped server's hash is frozen: what would change it now is applied with the change that starts it.
fn frozen_hash<'a>(server: &ValidatedServer, live: &'a Value) -> Option<&'a str> {
    if server.replicas > 0 {
        return None;
    }
    live.pointer("/spec/template/metadata/annotations")?.get(CONFIG_HASH_ANNOTATION)?.as_str()
}

/// A restart that was asked for once stays in the template: taking it out would be another restart.
fn keep_restart(wanted: &mut Value, live: &Value) {
    if let (None, Some(before)) = (restart_at(wanted), restart_at(live)) {
        wanted["spec"]["template"]["metadata"]["annotations"][RESTART_AT] = json!(before);
    }
}

/// What a StatefulSet's template carries as [`RESTART_AT`].
pub fn restart_at(set: &Value) -> Option<&str> {
    set.pointer("/spec/template/metadata/annotations")?.get(RESTART_AT)?.as_str()
}

/// The ports to declare: the running adapters', and what stands there for one in passage.
fn wanted_ports(adapters: &[ObservedAdapter], before: &[(String, Value)]) -> Vec<(String, Value)> {
    let mut wanted: Vec<(String, Value)> = Vec::with_capacity(adapters.len());
    for adapter in adapters {
        let name = super::adapter_port_name(&adapter.adapter_type);
        let present = before.iter().find(|(known, _)| *known == name);
        match (adapter.state, present) {
            (AdapterState::Running, Some((_, port))) if declares(port, adapter.port) => {
                wanted.push((name, port.clone()));
            }
            (AdapterState::Running, _) => {
                wanted.push((name.clone(), json!({"name": name, "containerPort": adapter.port, "protocol": "TCP"})));
            }
            (AdapterState::Passage, Some((_, port))) => wanted.push((name, port.clone())),
            (AdapterState::Passage, None) | (AdapterState::Stopped, _) => {}
        }
    }
    wanted.sort_by(|a, b| a.0.cmp(&b.0));
    wanted
}

/// Whether a declared port is this number over TCP, the protocol that Kubernetes assumes when none is said.
fn declares(port: &Value, number: u16) -> bool {
    port.get("containerPort") == Some(&json!(number)) && port.get("protocol").is_none_or(|protocol| protocol == "TCP")
}

/// SHA-256 over the template without its adapter ports, independent of the order of keys.
fn template_hash(template: &Value) -> String {
    let canonical = without_adapter_ports(template).to_string();
    Sha256::digest(canonical.as_bytes()).iter().fold(String::new(), |mut text, byte| {
        use std::fmt::Write;
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Where a StatefulSet stands between its template and its pod.
#[derive(Debug)]
struct Hold<'a> {
    /// [`HELD_TEMPLATE`], when it is there.
    annotation: Option<&'a str>,
    /// `spec.updateStrategy.rollingUpdate.partition`.
    partition: i64,
    /// `spec.updateStrategy.type` is [`ON_DELETE`].
    on_delete: bool,
    /// Pods that exist, by a status that is of this generation.
    pods: i64,
    /// Every pod runs the newest revision, by a status that is of this generation.
    settled: bool,
    /// Stopped for good: no replica is wanted and none is there.
    stopped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ports {
    Write,
    Leave,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Partition {
    Leave,
    Hold,
    Lift,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Verdict {
    ports: Ports,
    partition: Partition,
    deferred: bool,
}

impl<'a> Hold<'a> {
    fn read(live: &'a Value) -> Self {
        let number = |path: &str| live.pointer(path).and_then(Value::as_i64);
        let text = |path: &str| live.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty());
        let pods = number("/status/replicas").unwrap_or(0);
        let current = number("/status/observedGeneration").is_some()
            && number("/status/observedGeneration") == number("/metadata/generation");
        let revision = text("/status/currentRevision");
        Self {
            annotation: live
                .pointer("/metadata/annotations")
                .and_then(|all| all.get(HELD_TEMPLATE))
                .and_then(Value::as_str),
            partition: number("/spec/updateStrategy/rollingUpdate/partition").unwrap_or(0),
            on_delete: text("/spec/updateStrategy/type") == Some(ON_DELETE),
            pods,
            settled: current
                && revision.is_some()
                && revision == text("/status/updateRevision")
                && number("/status/updatedReplicas").unwrap_or(0) == pods,
            stopped: current && pods == 0 && number("/spec/replicas") == Some(0),
        }
    }

    fn held(&self) -> bool {
        self.annotation.is_some() && self.partition > 0
    }

    /// Whether a change of the template leaves the running pod alone, by our hold or by somebody's own choice.
    fn protects(&self) -> bool {
        self.partition > 0 || self.on_delete
    }

    /// `base_changes`: our own change of the template goes beyond adapter ports. `base`: hash of the live template
    /// without them.
    fn decide(&self, base_changes: bool, base: &str, ports_differ: bool, policy: OnPortChange) -> Verdict {
        let held = self.held();
        let lift = Verdict { ports: Ports::Write, partition: Partition::Lift, deferred: false };
        let leave_partition = Verdict { ports: Ports::Write, partition: Partition::Leave, deferred: false };
        if base_changes || self.stopped {
            return if self.annotation.is_some() { lift } else { leave_partition };
        }
        if self.annotation == Some(HELD_UNSETTLED) && held {
            return Verdict { ports: Ports::Leave, partition: Partition::Hold, deferred: true };
        }
        // Somebody changed the template under the hold: their rollout takes the ports along.
        if held && self.annotation != Some(base) {
            return lift;
        }
        // Somebody opened the partition: what was held rolls, or has rolled. Ports that differ once more would start
        // the pod a second time; they are decided apart, once the hold is gone.
        if self.annotation.is_some() && !held {
            return Verdict { ports: Ports::Leave, partition: Partition::Lift, deferred: ports_differ };
        }
        if held && (policy == OnPortChange::Immediate || !ports_differ && self.settled) {
            return lift;
        }
        if !ports_differ {
            return Verdict { deferred: held, ..leave_partition };
        }
        match policy {
            OnPortChange::Immediate => leave_partition,
            OnPortChange::WithNextRollout => {
                Verdict { ports: Ports::Leave, partition: Partition::Leave, deferred: true }
            }
            OnPortChange::Deferred if held => Verdict { deferred: true, ..leave_partition },
            // A foreign partition or strategy is its owner's, and protects the pod; a hold of ours would later lift it.
            OnPortChange::Deferred if self.protects() => leave_partition,
            OnPortChange::Deferred if self.settled => {
                Verdict { ports: Ports::Write, partition: Partition::Hold, deferred: true }
            }
            // A rollout is under way: a hold now would bring the pod back at its old revision, without what is rolling.
            OnPortChange::Deferred => Verdict { ports: Ports::Leave, partition: Partition::Leave, deferred: true },
        }
    }
}

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod hold_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod template_tests;
