//! Pure builders: one Kubernetes object to a file, made from a [`ValidatedServer`](crate::reconcile::ValidatedServer)
//! and the few facts named in a signature.
//!
//! What every builder guarantees: the same input gives the same object, byte for byte; nothing is emitted that the
//! API server would drop or rewrite (null, empty list, empty map, a quantity that is not canonical), because what is
//! built here is compared with what is stored and a difference is a write.

mod common;
mod config_map;
mod config_yaml;
mod files;
#[cfg(test)]
mod golden;
mod network_policy;
mod nfs_ports;
mod percona;
mod pod_template;
mod prune;
mod quantity;
mod rbac;
mod secret_admin;
mod secret_credentials;
mod secret_jwt;
mod security;
mod service;
mod service_adapter;
mod service_api;
mod service_file;
mod service_headless;
mod service_metrics;
mod service_monitor;
mod stateful_set;
mod tls;
mod webhook;

pub use common::{
    ADAPTER_POLICY_LABEL, ADAPTER_SERVICE_LABEL, ADAPTER_TYPE_LABEL, ADOPTED_ANNOTATION, API_PORT_NAME, API_VERSION,
    APP, APP_LABEL, BASELINE_POLICY_LABEL, CONFIG_HASH_ANNOTATION, CONTAINER_NAME, HELD_TEMPLATE_ANNOTATION,
    INSTANCE_LABEL, KIND, MANAGED_BY, MANAGED_BY_LABEL, METRICS_PORT_NAME, METRICS_SERVICE_LABEL, labels, labels_of,
    owner_reference, owner_reference_of, selector,
};
pub use config_map::{CONFIG_FILE, KRB5_CONF_FILE, config_map, hashed_text};
pub use config_yaml::render;
pub use network_policy::{adapter_policy, baseline_policy};
pub use nfs_ports::nfs_ports;
pub use percona::percona_cluster;
pub use pod_template::OWN_ENV;
pub use quantity::{canonical, thousandths};
pub use rbac::rbac_yaml;
pub use secret_admin::{ADMIN_PASSWORD_KEY, ADMIN_USERNAME_KEY, admin_secret};
pub use secret_credentials::{CredentialValues, credentials_keys, credentials_secret};
pub use secret_jwt::{JWT_SECRET_KEY, jwt_secret};
pub use service_adapter::adapter_service;
pub use service_api::api_service;
pub use service_file::{TargetPorts, file_service};
pub use service_headless::headless_service;
pub use service_metrics::metrics_service;
pub use service_monitor::service_monitor;
pub use stateful_set::{
    AdapterPort, CONTENT_CLAIM, CONTROL_PLANE_CLAIM, FRESH_SERVER_ADAPTERS, METADATA_CLAIM, TemplateInput,
    fresh_server_adapters, stateful_set,
};
pub use webhook::{WEBHOOK_PATH, WEBHOOK_PORT, webhook_yaml};
