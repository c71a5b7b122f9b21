//! Which Services a server should have: the pure half of the ServiceReconciler.
//!
//! Static Services (`-headless`, `-api`, `-file`, `-metrics`) and adapter Services are decided apart: the adapter
//! path sees only what carries the adapter label *and* a controller reference to the server.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::nfs::{NFS_UDP, PORTMAP, PORTMAP_UDP};
use super::object::{is_being_deleted, meta, owned_by};
use super::{AdapterState, NfsPorts, ObservedAdapter, ValidatedServer, adapter_label, adapter_port_name};
use crate::build::{
    ADAPTER_SERVICE_LABEL, ADAPTER_TYPE_LABEL, AdapterPort, TargetPorts, adapter_service, api_service, file_service,
    headless_service, metrics_service, nfs_ports,
};

mod fit;

pub use fit::Refusal;

/// Most characters of an adapter's type that are shown.
const TYPE_SHOWN: usize = 40;

/// One Service that should be there.
#[derive(Clone, Debug, PartialEq)]
pub struct Ensure {
    /// Its name.
    pub name: String,
    /// How it should be.
    pub desired: Value,
    /// The adapter that it is for; None for a static one.
    pub adapter: Option<String>,
    /// What of the spec it cannot have, in words.
    pub short: Vec<String>,
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

/// Decides. `live` is every Service with a controller reference to the server, and whatever else is known under one
/// of its names; `adapters` is None before the first valid answer: then no adapter Service is touched. `nfs` is None
/// while the settings of the NFS adapter are not known: then its Service keeps the further ports that it has.
pub fn plan_services(
    server: &ValidatedServer,
    adapters: Option<&[ObservedAdapter]>,
    nfs: Option<NfsPorts>,
    live: &[Arc<Value>],
) -> ServicePlan {
    let mut plan = ServicePlan::default();
    if server.deleting {
        return plan;
    }
    statics(server, adapters, live, &mut plan);
    if let Some(adapters) = adapters {
        adapter_services(server, adapters, nfs, live, &mut plan);
    }
    for ensure in &mut plan.ensure {
        if let Some(service) = find(live, &ensure.name).filter(|service| owned_by(service, &server.uid)) {
            fit::fit(ensure, service);
        }
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
    plan: &mut ServicePlan,
) {
    let names = server.names();
    let mut ensure = |name: String, service| {
        plan.ensure.push(Ensure { name, desired: to_value(service), adapter: None, short: vec![] });
    };
    ensure(names.headless_service(), headless_service(server));
    ensure(names.api_service(), api_service(server));
    if server.file_service_enabled {
        let present = find(live, &names.file_service());
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
    nfs: Option<NfsPorts>,
    live: &[Arc<Value>],
    plan: &mut ServicePlan,
) {
    let names = server.names();
    let mut taken: BTreeMap<String, usize> =
        plan.ensure.iter().enumerate().map(|(at, ensure)| (ensure.name.clone(), at)).collect();
    for adapter in adapters {
        let name = names.adapter_service(&adapter.adapter_type);
        let present = find(live, &name).filter(|service| owned_by(service, &server.uid));
        let port = match adapter.state {
            AdapterState::Running => Some(adapter.port),
            // Nothing new is made for an adapter on its way, and what is there keeps its port.
            AdapterState::Passage => present.and_then(|service| published_port(service, &adapter.adapter_type)),
            AdapterState::Stopped => None,
        };
        let Some(port) = port else { continue };
        if let Some(first) = taken.get(&name).and_then(|at| plan.ensure.get_mut(*at)) {
            // Two types that are cut alike, or one that is called like a Service of ours: nobody's Service changes hands.
            let cut: String = adapter.adapter_type.chars().take(TYPE_SHOWN).collect();
            first.short.push(format!("adapter {cut:?} would need a Service of the same name, and has none"));
            continue;
        }
        let mut desired =
            to_value(adapter_service(server, &AdapterPort { adapter_type: adapter.adapter_type.clone(), port }));
        if adapter.adapter_type == "nfs" {
            // An adapter on its way keeps what it has, as it keeps its port.
            let known = nfs.filter(|_| adapter.state == AdapterState::Running);
            add_nfs_ports(&mut desired, known, present, port);
        }
        taken.insert(name.clone(), plan.ensure.len());
        plan.ensure.push(Ensure { name, desired, adapter: Some(adapter.adapter_type.clone()), short: vec![] });
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

/// The adapter's own port; the first one in a Service that names it differently.
fn published_port(service: &Value, adapter_type: &str) -> Option<u16> {
    let ports = service.pointer("/spec/ports")?.as_array()?;
    let name = adapter_port_name(adapter_type);
    let own = ports.iter().find(|port| port.get("name").and_then(Value::as_str) == Some(&name));
    u16::try_from(own.or_else(|| ports.first())?.get("port")?.as_u64()?).ok()
}

/// The further ports of the NFS adapter: as its settings say, or as they are while these are not known.
fn add_nfs_ports(desired: &mut Value, nfs: Option<NfsPorts>, present: Option<&Value>, port: u16) {
    let further = match nfs {
        Some(nfs) => serde_json::to_value(nfs_ports(port, nfs)).unwrap_or_default(),
        None => kept_nfs_ports(present, port),
    };
    if let (Some(ports), Value::Array(further)) = (desired.pointer_mut("/spec/ports"), further)
        && let Some(ports) = ports.as_array_mut()
    {
        ports.extend(further);
    }
}

/// What is there of the further ports. UDP follows the adapter's own port.
fn kept_nfs_ports(present: Option<&Value>, port: u16) -> Value {
    let there = present.and_then(|service| service.pointer("/spec/ports")?.as_array());
    let find =
        |wanted: &str| there.into_iter().flatten().find(|one| one.get("name").and_then(Value::as_str) == Some(wanted));
    let target = find(PORTMAP).or_else(|| find(PORTMAP_UDP)).and_then(|one| one.get("targetPort")?.as_u64());
    let portmapper = target.and_then(|target| u16::try_from(target).ok());
    let kept = NfsPorts { portmapper, udp: find(NFS_UDP).is_some() };
    serde_json::to_value(nfs_ports(port, kept)).unwrap_or_default()
}

/// Whether the adapter path may touch a Service: the label *and* our controller reference.
pub fn is_adapter_service(service: &Value, uid: &str) -> bool {
    let label = service.pointer("/metadata/labels").and_then(|labels| labels.get(ADAPTER_SERVICE_LABEL));
    label.and_then(Value::as_str) == Some("true") && owned_by(service, uid)
}

#[cfg(test)]
mod tests;
