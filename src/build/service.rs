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

/// A Service with what the user chose of it. A field that its type does not permit is left out, and one that the user
/// left unset is left to Kubernetes and to others. No label of ours can be overridden.
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
    let ours = service.metadata.labels.get_or_insert_default();
    for (key, value) in &settings.labels {
        ours.entry(key.clone()).or_insert_with(|| value.clone());
    }
    if let Some(spec) = &mut service.spec {
        let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
        if settings.service_type == ServiceType::LoadBalancer {
            spec.load_balancer_class.clone_from(&settings.load_balancer_class);
            spec.load_balancer_source_ranges = some(&settings.load_balancer_source_ranges);
        }
        if settings.service_type != ServiceType::ClusterIp {
            spec.external_traffic_policy = settings.external_traffic_policy.map(str::to_owned);
        }
        spec.ip_family_policy = settings.ip_family_policy.map(str::to_owned);
        spec.ip_families = some(&settings.ip_families.iter().map(|&family| family.to_owned()).collect::<Vec<_>>());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{server, service_settings};

    #[test]
    fn a_field_is_rendered_where_the_type_permits_it_and_nowhere_else() {
        for (service_type, class, policy) in [
            (ServiceType::LoadBalancer, true, true),
            (ServiceType::NodePort, false, true),
            (ServiceType::ClusterIp, false, false),
        ] {
            let settings = ServiceSettings { service_type, ..service_settings("x") };
            let spec = with_settings(&server("files").build(), "s".into(), &settings, vec![]).spec.unwrap();
            assert_eq!(spec.load_balancer_class.is_some(), class, "{service_type:?}");
            assert_eq!(spec.load_balancer_source_ranges.is_some(), class, "{service_type:?}");
            assert_eq!(spec.external_traffic_policy.is_some(), policy, "{service_type:?}");
            assert_eq!(spec.ip_family_policy.as_deref(), Some("PreferDualStack"));
            assert_eq!(spec.ip_families.as_deref(), Some(&["IPv6".to_owned(), "IPv4".to_owned()][..]));
        }
        let unset = with_settings(&server("files").build(), "s".into(), &ServiceSettings::default(), vec![]);
        let spec = serde_json::to_value(unset.spec).unwrap();
        assert_eq!(spec.as_object().unwrap().keys().collect::<Vec<_>>(), ["ports", "selector", "type"]);
    }

    #[test]
    fn labels_of_ours_stay() {
        let labels = [("app", "theirs"), ("instance", "theirs"), ("team", "storage")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let settings = ServiceSettings { labels, ..ServiceSettings::default() };
        let made = with_settings(&server("files").build(), "s".into(), &settings, vec![]);
        let found = made.metadata.labels.unwrap();
        assert_eq!([&found["app"], &found["instance"], &found["team"]], ["dittofs-server", "files", "storage"]);
        assert!(!made.spec.unwrap().selector.unwrap().contains_key("team"));
    }
}
