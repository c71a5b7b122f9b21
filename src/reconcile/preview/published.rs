//! What a server publishes, in the preview: Services, the NetworkPolicies that let them be reached, the ServiceMonitor.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::{Action, Live, Preview};
use crate::build::ADAPTER_TYPE_LABEL;
use crate::reconcile::stateful_set::was_taken_over;
use crate::reconcile::{
    AdapterState, ObservedAdapter, Published, ServicePlan, ValidatedServer, adapter_port_name, is_adapter_service,
    meta, no_service_monitors, owned_by, plan_network_policies, plan_service_monitor, plan_services,
};

/// The adapters that have a Service, as running: what the server itself would say is not asked here.
pub(super) fn served(server: &ValidatedServer, services: &[Arc<Value>]) -> Vec<ObservedAdapter> {
    let mut types = BTreeSet::new();
    services
        .iter()
        .filter(|service| is_adapter_service(service, &server.uid))
        .filter_map(|service| {
            let adapter_type = service.pointer("/metadata/labels")?.get(ADAPTER_TYPE_LABEL)?.as_str()?.to_owned();
            let name = adapter_port_name(&adapter_type);
            let ports = service.pointer("/spec/ports")?.as_array()?;
            let port = ports.iter().find(|port| port.get("name").and_then(Value::as_str) == Some(name.as_str()));
            let port = u16::try_from(port.or_else(|| ports.first())?.get("port")?.as_u64()?).ok()?;
            types.insert(adapter_type.clone()).then_some(ObservedAdapter {
                adapter_type,
                port,
                state: AdapterState::Running,
            })
        })
        .collect()
}

/// Adds what would happen to all that publishes the server.
pub(super) fn preview(server: &ValidatedServer, adapters: &[ObservedAdapter], live: &Live, seen: &mut Preview) {
    let adopted = was_taken_over(server, live.stateful_set.as_ref());
    let services = plan_services(server, Some(adapters), None, &live.services, adopted);
    let published = Published {
        services: &services,
        live_services: &live.services,
        // Of an adapter without a Service nobody knows whether it runs: its policy stays.
        adapters: None,
        operator_namespace: live.operator_namespace.as_deref(),
    };
    let policies = plan_network_policies(server, published, &live.network_policies);
    // What only bears the name is nobody's to delete.
    let of_server = |all: &Vec<Arc<Value>>| {
        all.iter().filter(|monitor| owned_by(monitor, &server.uid)).cloned().collect::<Vec<Arc<Value>>>()
    };
    let monitor = plan_service_monitor(server, live.service_monitors.as_ref().map(of_server).as_deref());
    let monitors = live.service_monitors.as_deref().unwrap_or_default();
    for (kind, plan, live) in [
        ("Service", &services, live.services.as_slice()),
        ("NetworkPolicy", &policies, &live.network_policies),
        ("ServiceMonitor", &monitor, monitors),
    ] {
        planned(server, kind, plan, live, seen);
    }
    let unserved = no_service_monitors(server, live.service_monitors.is_none());
    seen.warnings.extend(unserved.map(|warning| warning.to_string()));
}

fn planned(server: &ValidatedServer, kind: &'static str, plan: &ServicePlan, live: &[Arc<Value>], seen: &mut Preview) {
    for ensure in &plan.ensure {
        let present = live.iter().find(|object| meta(object, "name") == ensure.name).map(AsRef::as_ref);
        let before = seen.changes.len();
        seen.decided(kind, &ensure.name, present, &ensure.desired, &server.uid);
        if let Some(made) = seen.changes.get_mut(before).filter(|made| made.action == Action::Create) {
            made.what = what_comes(kind, &ensure.desired);
        }
        seen.warnings.extend(ensure.short.iter().map(|short| format!("{kind} {}: {short}", ensure.name)));
    }
    for remove in &plan.remove {
        seen.add(kind, &remove.name, Action::Delete, vec![remove.why.to_owned()]);
    }
}

/// What a new object means to those outside.
fn what_comes(kind: &str, desired: &Value) -> Vec<String> {
    match kind {
        "Service" => {
            let kind = desired.pointer("/spec/type").and_then(Value::as_str).unwrap_or("ClusterIP");
            vec![format!("type {kind}{}", if kind == "LoadBalancer" { ": a new address" } else { "" })]
        }
        "NetworkPolicy" => {
            let rules = desired.pointer("/spec/ingress").and_then(Value::as_array).into_iter().flatten();
            let rules = rules.map(|rule| {
                let from = if rule.get("from").is_some() { "some peers" } else { "anywhere" };
                format!("lets in {} from {from}; what no policy lets in is shut out", ports(rule).join(", "))
            });
            rules.collect()
        }
        _ => vec![],
    }
}

/// `port/protocol` of what a rule lets in.
fn ports(rule: &Value) -> Vec<String> {
    let ports = rule.get("ports").and_then(Value::as_array).into_iter().flatten();
    let text = |port: &Value| {
        let number = port.get("port").map(|number| number.as_str().map_or_else(|| number.to_string(), str::to_owned));
        let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
        format!("{}/{protocol}", number.unwrap_or_default())
    };
    ports.map(text).collect()
}
