//! ConfigMap `<cr>-config`, the file that the server starts with.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::common::owned;
use crate::reconcile::ValidatedServer;

/// Key of the ConfigMap, and the file's name where it is mounted.
pub const CONFIG_FILE: &str = "config.yaml";

/// The ConfigMap with `config_yaml`, the text that [`render`](super::render) gave and that was hashed.
pub fn config_map(server: &ValidatedServer, config_yaml: &str) -> ConfigMap {
    ConfigMap {
        metadata: owned(server, server.names().config_map()),
        data: Some(BTreeMap::from([(CONFIG_FILE.to_owned(), config_yaml.to_owned())])),
        ..ConfigMap::default()
    }
}
