//! Service `<cr>-metrics`, for scrapers inside the cluster.

use k8s_openapi::api::core::v1::Service;

use super::common::{METRICS_PORT_NAME, METRICS_SERVICE_LABEL, strings};
use super::service::{service, to_name};
use crate::reconcile::{ServiceType, ValidatedServer};

/// The Service of the metrics endpoint, with the annotations that scrapers look for; `None` when metrics are off.
pub fn metrics_service(server: &ValidatedServer) -> Option<Service> {
    let metrics = server.metrics.as_ref()?;
    let ports = vec![to_name(METRICS_PORT_NAME, metrics.port, METRICS_PORT_NAME)];
    let mut service = service(server, server.names().metrics_service(), ServiceType::ClusterIp, ports);
    service.metadata.labels.get_or_insert_default().insert(METRICS_SERVICE_LABEL.to_owned(), "true".to_owned());
    service.metadata.annotations = Some(strings([
        ("prometheus.io/scrape", "true"),
        ("prometheus.io/port", &metrics.port.to_string()),
        ("prometheus.io/path", &metrics.path),
    ]));
    Some(service)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{everything, server};

    #[test]
    fn there_is_none_while_metrics_are_off() {
        assert_eq!(metrics_service(&server("files").build()), None);
        assert!(metrics_service(&everything("files")).is_some());
    }
}
