//! What the Services have in common; each Service itself is in its own file.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::common::{owned, selector};
use crate::reconcile::{ServiceSettings, ServiceType, ValidatedServer};

/// A Service of `service_type` in front of the server's pod.
pub(super) fn service(
    server: &ValidatedServer,
    name: String,
    service_type: ServiceType,
    ports: Vec<ServicePort>,
) -> Service {
    Service {
        metadata: owned(server, name),
        spec: Some(ServiceSpec {
            type_: Some(service_type.as_str().to_owned()),
            selector: Some(selector(server)),
            ports: Some(ports),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// A Service with the type and annotations that the user chose.
pub(super) fn with_settings(
    server: &ValidatedServer,
    name: String,
    settings: &ServiceSettings,
    ports: Vec<ServicePort>,
) -> Service {
    let mut service = service(server, name, settings.service_type, ports);
    if !settings.annotations.is_empty() {
        service.metadata.annotations = Some(settings.annotations.clone());
    }
    service
}

/// A TCP port that leads to the container port called `target`: it follows the pod through a roll that changes the
/// number.
pub(super) fn to_name(name: &str, port: u16, target: &str) -> ServicePort {
    service_port(name, port, IntOrString::String(target.to_owned()))
}

/// A TCP port that leads to the number `target`, whether the container declares it or not.
pub(super) fn to_number(name: &str, port: u16, target: u16) -> ServicePort {
    service_port(name, port, IntOrString::Int(target.into()))
}

fn service_port(name: &str, port: u16, target: IntOrString) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: port.into(),
        protocol: Some("TCP".to_owned()),
        target_port: Some(target),
        ..ServicePort::default()
    }
}
