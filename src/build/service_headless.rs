//! Service `<cr>-headless`, which gives the pod its name in DNS.

use k8s_openapi::api::core::v1::Service;

use super::common::API_PORT_NAME;
use super::service::{service, to_name};
use crate::reconcile::{ServiceType, ValidatedServer};

/// The governing Service of the StatefulSet.
///
/// It publishes the pod before it is ready: whoever asks for the pod by its name wants that very pod, an unready one
/// above all. `<cr>-api`, which the operator and clients use, does not.
pub fn headless_service(server: &ValidatedServer) -> Service {
    let ports = vec![to_name(API_PORT_NAME, server.api_port, API_PORT_NAME)];
    let mut service = service(server, server.names().headless_service(), ServiceType::ClusterIp, ports);
    if let Some(spec) = &mut service.spec {
        spec.cluster_ip = Some("None".to_owned());
        spec.publish_not_ready_addresses = Some(true);
    }
    service
}
