//! Service `<cr>-api`, the REST API.

use k8s_openapi::api::core::v1::Service;

use super::common::API_PORT_NAME;
use super::service::{to_name, with_settings};
use crate::reconcile::ValidatedServer;

/// The Service of the REST API, with `spec.service` and `spec.apiService`.
///
/// Only a ready pod is behind it, also for the operator: what answers while its stores are not open yet would be
/// taken for the server's word.
pub fn api_service(server: &ValidatedServer) -> Service {
    let ports = vec![to_name(API_PORT_NAME, server.api_port, API_PORT_NAME)];
    with_settings(server, server.names().api_service(), &server.api_service, ports)
}
