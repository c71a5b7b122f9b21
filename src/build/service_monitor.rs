//! ServiceMonitor `<cr>-metrics`, by which the Prometheus operator finds the metrics endpoint.
//!
//! Source: the object table of the CRD reference; the API of the Prometheus operator (monitoring.coreos.com/v1).

use serde_json::{Value, json};

use super::common::{METRICS_PORT_NAME, METRICS_SERVICE_LABEL, owned, selector};
use crate::reconcile::ValidatedServer;

/// The ServiceMonitor of the `-metrics` Service; `None` when none is asked for, or metrics are off. Labels of the spec
/// cannot override ours.
pub fn service_monitor(server: &ValidatedServer) -> Option<Value> {
    let metrics = server.metrics.as_ref().filter(|_| server.service_monitor.enabled)?;
    let mut metadata = owned(server, server.names().service_monitor());
    let ours = metadata.labels.take().unwrap_or_default();
    metadata.labels = Some(server.service_monitor.labels.clone().into_iter().chain(ours).collect());
    let mut labels = selector(server);
    labels.insert(METRICS_SERVICE_LABEL.to_owned(), "true".to_owned());
    let mut endpoint = json!({"port": METRICS_PORT_NAME, "path": metrics.path});
    if let Some(interval) = &server.service_monitor.interval {
        endpoint["interval"] = json!(interval);
    }
    if let Some(token) = &metrics.bearer_token {
        endpoint["authorization"] = json!({"type": "Bearer", "credentials": {"name": token.name, "key": token.key}});
    }
    Some(json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": metadata,
        "spec": {"selector": {"matchLabels": labels}, "endpoints": [endpoint]},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::metrics_service;
    use crate::fixtures::{directory, everything};

    #[test]
    fn it_selects_the_metrics_service_and_ours_win_over_the_users_labels() {
        let server = everything("files");
        let monitor = service_monitor(&server).unwrap();
        let service = metrics_service(&server).unwrap();
        let wanted = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
        let labels = service.metadata.labels.unwrap();
        assert!(wanted.iter().all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str()), "{wanted:?}");
        assert_eq!(wanted.len(), 3);
        let endpoint = &monitor["spec"]["endpoints"][0];
        assert_eq!(endpoint["port"].as_str(), service.spec.unwrap().ports.unwrap()[0].name.as_deref());
        assert_eq!((&endpoint["path"], &endpoint["interval"]), (&json!("/telemetry"), &json!("19s")));
        let labels = &monitor["metadata"]["labels"];
        assert_eq!((&labels["release"], &labels["app"]), (&json!("prom"), &json!("dittofs-server")));
    }

    #[test]
    fn what_the_endpoint_asks_for_is_named_by_secret_and_key() {
        let endpoint = |server: &ValidatedServer| service_monitor(server).unwrap()["spec"]["endpoints"][0].clone();
        assert_eq!(endpoint(&everything("files")).get("authorization"), None, "nothing is asked for");
        let mut server = directory("files");
        let named = json!({"type": "Bearer", "credentials": {"name": "scrape", "key": "scrape-token"}});
        assert_eq!(endpoint(&server)["authorization"], named);
        server.service_monitor.interval = None;
        let fields: Vec<String> = endpoint(&server).as_object().unwrap().keys().cloned().collect();
        assert_eq!(fields, ["authorization", "path", "port"]);
    }

    #[test]
    fn there_is_none_unless_it_is_asked_for_and_there_is_something_to_scrape() {
        let mut server = everything("files");
        server.service_monitor.enabled = false;
        assert_eq!(service_monitor(&server), None);
        server.service_monitor.enabled = true;
        server.metrics = None;
        assert_eq!(service_monitor(&server), None);
    }
}
