//! Whether a server has a ServiceMonitor: when it is asked for, there is an endpoint to scrape, and the cluster has the
//! kind.

use std::sync::Arc;

use serde_json::Value;

use super::ValidatedServer;
use super::object::{is_being_deleted, meta};
use super::services::{Ensure, Remove, ServicePlan};
use crate::build::service_monitor;

/// Decides. `live` is every ServiceMonitor with a controller reference to the server; None while the API server does
/// not serve the kind, or nobody knows yet: then nothing is done.
pub fn plan_service_monitor(server: &ValidatedServer, live: Option<&[Arc<Value>]>) -> ServicePlan {
    let mut plan = ServicePlan::default();
    let Some(live) = live.filter(|_| !server.deleting) else { return plan };
    let name = server.names().service_monitor();
    if let Some(desired) = service_monitor(server) {
        plan.ensure.push(Ensure { name, desired, adapter: None, short: vec![] });
        return plan;
    }
    let why = if server.metrics.is_some() {
        "spec.metrics.serviceMonitor.enabled is false"
    } else {
        "spec.metrics.enabled is false"
    };
    let ours = live.iter().filter(|monitor| meta(monitor, "name") == name && !is_being_deleted(monitor));
    plan.remove = ours
        .map(|monitor| Remove { name: name.clone(), uid: meta(monitor, "uid").to_owned(), adapter: None, why })
        .collect();
    plan
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixtures::everything;

    #[test]
    fn it_is_made_when_the_kind_is_there_and_goes_when_it_is_no_longer_asked_for() {
        let mut server = everything("files");
        assert_eq!(plan_service_monitor(&server, None), ServicePlan::default());
        let plan = plan_service_monitor(&server, Some(&[]));
        assert_eq!((plan.ensure.len(), plan.ensure[0].name.as_str()), (1, "files-metrics"));
        let mut made = plan.ensure[0].desired.clone();
        made["metadata"]["uid"] = json!("u");
        let mut others = made.clone();
        others["metadata"]["name"] = json!("another");
        let live = [Arc::new(made.clone()), Arc::new(others)];
        server.service_monitor.enabled = false;
        let plan = plan_service_monitor(&server, Some(&live));
        assert_eq!((plan.ensure.len(), plan.remove.len(), plan.remove[0].uid.as_str()), (0, 1, "u"));
        assert_eq!(plan.remove[0].why, "spec.metrics.serviceMonitor.enabled is false");
        server.service_monitor.enabled = true;
        server.metrics = None;
        assert_eq!(plan_service_monitor(&server, Some(&live)).remove[0].why, "spec.metrics.enabled is false");
        assert_eq!(plan_service_monitor(&server, None), ServicePlan::default());
        server.deleting = true;
        assert_eq!(plan_service_monitor(&server, Some(&live)), ServicePlan::default());
    }
}
