//! Which Services a server should have: the pure half of the ServiceReconciler.
//!
//! Static Services (`-headless`, `-api`, `-file`, `-metrics`) and adapter Services are decided apart: the adapter
//! path sees only what carries the adapter label *and* a controller reference to the server.

use std::sync::Arc;

use serde_json::Value;

use super::object::{is_being_deleted, meta, owned_by};
use super::{AdapterState, ObservedAdapter, ValidatedServer, adapter_label};
use crate::build::{
    ADAPTER_SERVICE_LABEL, ADAPTER_TYPE_LABEL, AdapterPort, TargetPorts, adapter_service, api_service, file_service,
    headless_service, metrics_service,
};

/// One Service that should be there.
#[derive(Clone, Debug, PartialEq)]
pub struct Ensure {
    /// Its name.
    pub name: String,
    /// How it should be.
    pub desired: Value,
    /// The adapter that it is for; None for a static one.
    pub adapter: Option<String>,
}

/// One Service of ours that should not be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remove {
    /// Its name.
    pub name: String,
    /// The uid that was seen: another object of the same name is not meant.
    pub uid: String,
    /// The adapter that it was for; None for a static one.
    pub adapter: Option<String>,
    /// Why, in words.
    pub why: &'static str,
}

/// What the Services of one server should become.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServicePlan {
    /// To be there, static ones first.
    pub ensure: Vec<Ensure>,
    /// To go.
    pub remove: Vec<Remove>,
}

/// Decides. `adopted` says that another operator made the server: its `-file` Service, a new address, is made only when
/// the CR asks for it. `live` is every Service with a controller reference to the server, and whatever else is known under one
/// of its names; `adapters` is None before the first valid answer: then no adapter Service is touched.
pub fn plan_services(
    server: &ValidatedServer,
    adapters: Option<&[ObservedAdapter]>,
    live: &[Arc<Value>],
    adopted: bool,
) -> ServicePlan {
    let mut plan = ServicePlan::default();
    if server.deleting {
        return plan;
    }
    statics(server, adapters, live, adopted, &mut plan);
    if let Some(adapters) = adapters {
        adapter_services(server, adapters, live, &mut plan);
    }
    plan
}

fn find<'a>(live: &'a [Arc<Value>], name: &str) -> Option<&'a Value> {
    live.iter().map(AsRef::as_ref).find(|service| meta(service, "name") == name)
}

fn to_value(service: k8s_openapi::api::core::v1::Service) -> Value {
    serde_json::to_value(service).unwrap_or_default()
}

fn statics(
    server: &ValidatedServer,
    adapters: Option<&[ObservedAdapter]>,
    live: &[Arc<Value>],
    adopted: bool,
    plan: &mut ServicePlan,
) {
    let names = server.names();
    let mut ensure =
        |name: String, service| plan.ensure.push(Ensure { name, desired: to_value(service), adapter: None });
    ensure(names.headless_service(), headless_service(server));
    ensure(names.api_service(), api_service(server));
    let present = find(live, &names.file_service());
    let is_there = present.is_some_and(|service| owned_by(service, &server.uid));
    if server.file_service_enabled && (!adopted || server.file_service_asked || is_there) {
        let targets = TargetPorts {
            nfs: target_port("nfs", server.ports.nfs, adapters, present),
            smb: target_port("smb", server.ports.smb, adapters, present),
        };
        if let Some(service) = file_service(server, targets) {
            ensure(names.file_service(), service);
        }
    }
    if let Some(service) = metrics_service(server) {
        ensure(names.metrics_service(), service);
    }
    let switched_off = [
        (server.file_service_enabled, names.file_service(), "fileService.enabled is false"),
        (server.metrics.is_some(), names.metrics_service(), "metrics.enabled is false"),
    ];
    for (_, name, why) in switched_off.into_iter().filter(|(on, ..)| !on) {
        if let Some(service) = find(live, &name)
            && owned_by(service, &server.uid)
            && !is_being_deleted(service)
        {
            plan.remove.push(Remove { name, uid: meta(service, "uid").to_owned(), adapter: None, why });
        }
    }
}

/// Where a port of the `-file` Service leads: to the adapter's port once the adapter was discovered, to what stands
/// there while nothing valid is known or the adapter is on its way, to the same number otherwise.
fn target_port(adapter: &str, same: u16, adapters: Option<&[ObservedAdapter]>, present: Option<&Value>) -> u16 {
    let kept = || {
        let ports = present?.pointer("/spec/ports")?.as_array()?;
        let port = ports.iter().find(|port| port.get("name").and_then(Value::as_str) == Some(adapter))?;
        u16::try_from(port.get("targetPort")?.as_u64()?).ok()
    };
    match adapters.map(|adapters| adapters.iter().find(|seen| seen.adapter_type == adapter)) {
        None => kept().unwrap_or(same),
        Some(Some(seen)) if seen.state == AdapterState::Passage => kept().unwrap_or(seen.port),
        Some(Some(seen)) if seen.port > 0 => seen.port,
        Some(_) => same,
    }
}

fn adapter_services(
    server: &ValidatedServer,
    adapters: &[ObservedAdapter],
    live: &[Arc<Value>],
    plan: &mut ServicePlan,
) {
    let names = server.names();
    for adapter in adapters {
        let name = names.adapter_service(&adapter.adapter_type);
        let present = find(live, &name).filter(|service| owned_by(service, &server.uid));
        let port = match adapter.state {
            AdapterState::Running => Some(adapter.port),
            // Nothing new is made for an adapter on its way, and what is there keeps its port.
            AdapterState::Passage => present.and_then(published_port),
            AdapterState::Stopped => None,
        };
        if let Some(port) = port {
            let desired =
                to_value(adapter_service(server, &AdapterPort { adapter_type: adapter.adapter_type.clone(), port }));
            plan.ensure.push(Ensure { name, desired, adapter: Some(adapter.adapter_type.clone()) });
        }
    }
    // A static Service stays one, whatever labels somebody puts on it.
    let statics = [names.headless_service(), names.api_service(), names.file_service(), names.metrics_service()];
    let candidates = live.iter().filter(|service| is_adapter_service(service, &server.uid));
    for service in candidates.filter(|service| !statics.iter().any(|name| name == meta(service, "name"))) {
        let label = service.pointer("/metadata/labels").and_then(|labels| labels.get(ADAPTER_TYPE_LABEL));
        let label = label.and_then(Value::as_str).unwrap_or_default();
        let seen = adapters.iter().find(|adapter| {
            adapter_label(&adapter.adapter_type) == label
                || names.adapter_service(&adapter.adapter_type) == meta(service, "name")
        });
        let why = match seen.map(|adapter| adapter.state) {
            Some(AdapterState::Running | AdapterState::Passage) => continue,
            Some(AdapterState::Stopped) => "the adapter is stopped",
            None => "the server no longer lists the adapter",
        };
        if !is_being_deleted(service) {
            plan.remove.push(Remove {
                name: meta(service, "name").to_owned(),
                uid: meta(service, "uid").to_owned(),
                adapter: Some(label.to_owned()),
                why,
            });
        }
    }
}

fn published_port(service: &Value) -> Option<u16> {
    u16::try_from(service.pointer("/spec/ports/0/port")?.as_u64()?).ok()
}

/// Whether the adapter path may touch a Service: the label *and* our controller reference.
pub fn is_adapter_service(service: &Value, uid: &str) -> bool {
    let label = service.pointer("/metadata/labels").and_then(|labels| labels.get(ADAPTER_SERVICE_LABEL));
    label.and_then(Value::as_str) == Some("true") && owned_by(service, uid)
}

#[cfg(test)]
mod tests;
