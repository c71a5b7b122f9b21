//! Which NetworkPolicies a server should have: they follow the Services that are planned, and the Services that stand
//! while nothing is known about their adapters.
//!
//! A pod that one policy selects is closed to all that no policy lets in. Therefore a policy is never missing for a
//! Service that stands: before the first valid answer of the server, too, every adapter Service that is there gets the
//! policy for the ports that it has, and none is removed.

use std::sync::Arc;

use serde_json::Value;

use super::object::{is_being_deleted, meta, owned_by};
use super::services::{Ensure, Remove, ServicePlan, is_adapter_service};
use super::{AdapterState, ObservedAdapter, ValidatedServer, adapter_label};
use crate::build::{ADAPTER_POLICY_LABEL, ADAPTER_TYPE_LABEL, BASELINE_POLICY_LABEL, adapter_policy, baseline_policy};

/// What the policies are decided from, beside the server.
#[derive(Clone, Copy, Debug)]
pub struct Published<'a> {
    /// What the Services are about to become.
    pub services: &'a ServicePlan,
    /// The Services that are there.
    pub live_services: &'a [Arc<Value>],
    /// Adapters of the last valid answer; None before the first.
    pub adapters: Option<&'a [ObservedAdapter]>,
    /// The operator's own namespace.
    pub operator_namespace: Option<&'a str>,
}

/// Decides. `live` is every NetworkPolicy with a controller reference to the server. The baseline comes first: it has
/// the ports that most clients use.
pub fn plan_network_policies(server: &ValidatedServer, published: Published<'_>, live: &[Arc<Value>]) -> ServicePlan {
    let mut plan = ServicePlan::default();
    if server.deleting {
        return plan;
    }
    if !server.network_policy.enabled {
        let ours = live.iter().filter(|policy| is_policy(policy, &server.uid) && !is_being_deleted(policy));
        plan.remove = ours.map(|policy| remove(policy, "spec.networkPolicy.enabled is false")).collect();
        // The baseline, whose ports the adapters' policies let in for the most part, goes first.
        plan.remove.sort_by_key(|remove| remove.adapter.is_some());
        return plan;
    }
    let planned = &published.services.ensure;
    let statics: Vec<&Value> =
        planned.iter().filter(|ensure| ensure.adapter.is_none()).map(|ensure| &ensure.desired).collect();
    let baseline = baseline_policy(server, &statics, published.operator_namespace);
    plan.ensure.push(ensure(serde_json::to_value(baseline).unwrap_or_default(), None));
    for service in planned.iter().filter(|ensure| ensure.adapter.is_some()) {
        plan.ensure.push(ensure(to_value(server, &service.desired), service.adapter.clone()));
    }
    let decided = |name: &str| {
        planned.iter().any(|ensure| ensure.name == name)
            || published.services.remove.iter().any(|remove| remove.name == name)
    };
    let standing = published.live_services.iter().filter(|service| {
        is_adapter_service(service, &server.uid) && !is_being_deleted(service) && !decided(meta(service, "name"))
    });
    for service in standing {
        plan.ensure.push(ensure(to_value(server, service), Some(adapter_of(service).to_owned())));
    }
    if let Some(adapters) = published.adapters {
        stale(server, adapters, live, &mut plan);
    }
    plan
}

/// The adapters' policies whose adapter does not run.
fn stale(server: &ValidatedServer, adapters: &[ObservedAdapter], live: &[Arc<Value>], plan: &mut ServicePlan) {
    let names = server.names();
    for policy in live.iter().filter(|policy| is_adapter_policy(policy, &server.uid) && !is_being_deleted(policy)) {
        let name = meta(policy, "name");
        if plan.ensure.iter().any(|ensure| ensure.name == name) {
            continue;
        }
        let seen = adapters.iter().find(|adapter| {
            adapter_label(&adapter.adapter_type) == adapter_of(policy)
                || names.adapter_service(&adapter.adapter_type) == name
        });
        match seen.map(|adapter| adapter.state) {
            Some(AdapterState::Running | AdapterState::Passage) => {}
            Some(AdapterState::Stopped) => plan.remove.push(remove(policy, "the adapter is stopped")),
            None => plan.remove.push(remove(policy, "the server no longer lists the adapter")),
        }
    }
}

fn to_value(server: &ValidatedServer, service: &Value) -> Value {
    serde_json::to_value(adapter_policy(server, service)).unwrap_or_default()
}

fn ensure(desired: Value, adapter: Option<String>) -> Ensure {
    Ensure { name: meta(&desired, "name").to_owned(), desired, adapter, short: vec![] }
}

fn remove(policy: &Value, why: &'static str) -> Remove {
    let adapter = has_label(policy, ADAPTER_POLICY_LABEL).then(|| adapter_of(policy).to_owned());
    Remove { name: meta(policy, "name").to_owned(), uid: meta(policy, "uid").to_owned(), adapter, why }
}

fn adapter_of(object: &Value) -> &str {
    let label = object.pointer("/metadata/labels").and_then(|labels| labels.get(ADAPTER_TYPE_LABEL));
    label.and_then(Value::as_str).unwrap_or_default()
}

fn has_label(object: &Value, label: &str) -> bool {
    let labels = object.pointer("/metadata/labels");
    labels.and_then(|labels| labels.get(label)).and_then(Value::as_str) == Some("true")
}

/// Whether a policy is an adapter's: the label *and* our controller reference.
fn is_adapter_policy(policy: &Value, uid: &str) -> bool {
    has_label(policy, ADAPTER_POLICY_LABEL) && owned_by(policy, uid)
}

fn is_policy(policy: &Value, uid: &str) -> bool {
    is_adapter_policy(policy, uid) || (has_label(policy, BASELINE_POLICY_LABEL) && owned_by(policy, uid))
}

#[cfg(test)]
mod tests;
