//! `.status.adapters`: which adapters run, and at which address clients find them.

use serde_json::{Map, Value, json};

use super::Observed;
use crate::reconcile::object::meta;
use crate::reconcile::{AdapterState, ObservedAdapter};

pub(super) fn active(adapters: Option<&[ObservedAdapter]>) -> impl Iterator<Item = &ObservedAdapter> {
    adapters.into_iter().flatten().filter(|adapter| adapter.state != AdapterState::Stopped)
}

pub(super) fn adapters(seen: &Observed<'_>, status: &mut Map<String, Value>) {
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
pub(super) fn served(told: &Map<String, Value>) -> String {
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
