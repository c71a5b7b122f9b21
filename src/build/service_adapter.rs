//! Service `<cr>-adapter-<type>`, one for each adapter that runs.

use k8s_openapi::api::core::v1::Service;

use super::common::{ADAPTER_SERVICE_LABEL, ADAPTER_TYPE_LABEL, strings};
use super::service::{to_number, with_settings};
use super::stateful_set::AdapterPort;
use crate::reconcile::{ValidatedServer, adapter_label, adapter_port_name};

/// The Service of `adapter`, with `spec.adapterServices` and what it says of this adapter.
///
/// Its target is a number, not a name: the running pod may not declare the adapter's port yet, or never.
pub fn adapter_service(server: &ValidatedServer, adapter: &AdapterPort) -> Service {
    let ports = vec![to_number(&adapter_port_name(&adapter.adapter_type), adapter.port, adapter.port)];
    let name = server.names().adapter_service(&adapter.adapter_type);
    let mut service = with_settings(server, name, server.adapter_settings(&adapter.adapter_type), ports);
    service.metadata.labels.get_or_insert_default().extend(strings([
        (ADAPTER_SERVICE_LABEL, "true"),
        (ADAPTER_TYPE_LABEL, &adapter_label(&adapter.adapter_type)),
    ]));
    service
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::server;

    #[test]
    fn a_type_that_fits_no_label_still_makes_a_valid_service() {
        for adapter_type in ["WebDAV v2", &"z".repeat(300), "ünïcode", "9p"] {
            let adapter = AdapterPort { adapter_type: adapter_type.into(), port: 564 };
            let service = adapter_service(&server("files").build(), &adapter);
            let valid = |text: &str, max: usize| {
                !text.is_empty()
                    && text.len() <= max
                    && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            };
            assert!(valid(&service.metadata.labels.unwrap()[ADAPTER_TYPE_LABEL], 63));
            assert!(valid(&service.metadata.name.unwrap(), 63));
            assert!(valid(service.spec.unwrap().ports.unwrap()[0].name.as_deref().unwrap(), 15));
        }
    }
}
