//! The names of all objects that belong to a `DittoServer`, and how a long adapter type is made to fit.
//!
//! Source: the object table of the CRD reference. A name is computed in this file and nowhere else.

use sha2::{Digest, Sha256};

/// Prefix of the container ports that follow the adapters; a port with another name is never touched by them.
pub const ADAPTER_PORT_PREFIX: &str = "adapter-";

/// Longest container port name (`IANA_SVC_NAME`).
const PORT_NAME_MAX: usize = 15;
/// Longest Service name (DNS-1035 label) and label value.
const LABEL_MAX: usize = 63;

/// Names of the objects of one `DittoServer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    cr: String,
}

impl Names {
    /// Longest `DittoServer` name for which every object name fits:
    /// 63 (Service) − `-adapter-` − the 7 characters that an adapter type keeps at least.
    pub const CR_NAME_MAX: usize = LABEL_MAX - "-adapter-".len() - (PORT_NAME_MAX - ADAPTER_PORT_PREFIX.len());

    /// Names for the `DittoServer` called `cr`.
    pub fn new(cr: impl Into<String>) -> Self {
        Self { cr: cr.into() }
    }
    /// The StatefulSet, and the CR itself.
    pub fn stateful_set(&self) -> String {
        self.cr.clone()
    }
    /// The only pod of the StatefulSet.
    pub fn pod(&self) -> String {
        format!("{}-0", self.cr)
    }
    /// A claim of the only pod.
    pub fn claim(&self, claim: &str) -> String {
        format!("{claim}-{}", self.pod())
    }
    /// The ConfigMap that holds `config.yaml`.
    pub fn config_map(&self) -> String {
        format!("{}-config", self.cr)
    }
    /// The governing Service of the StatefulSet.
    pub fn headless_service(&self) -> String {
        format!("{}-headless", self.cr)
    }
    /// The Service of the REST API.
    pub fn api_service(&self) -> String {
        format!("{}-api", self.cr)
    }
    /// The Service with the ports that clients use by convention.
    pub fn file_service(&self) -> String {
        format!("{}-file", self.cr)
    }
    /// The Service of the metrics endpoint.
    pub fn metrics_service(&self) -> String {
        format!("{}-metrics", self.cr)
    }
    /// The Service of one adapter; a type that does not fit is cut and gets a hash.
    pub fn adapter_service(&self, adapter_type: &str) -> String {
        let room = LABEL_MAX.saturating_sub(self.cr.len() + "-adapter-".len());
        format!("{}-adapter-{}", self.cr, fit(adapter_type, room))
    }
    /// The Secret with the JWT signing key that the operator makes when the user gives none.
    pub fn jwt_secret(&self) -> String {
        format!("{}-jwt-secret", self.cr)
    }
    /// The Secret with the bootstrap admin account that the operator makes when the user gives none.
    pub fn admin_secret(&self) -> String {
        format!("{}-admin-bootstrap-credentials", self.cr)
    }
    /// The name that older releases of the Go operator gave to the admin Secret; adopted when it is there.
    pub fn legacy_admin_secret(&self) -> String {
        format!("{}-admin-credentials", self.cr)
    }
    /// The Secret with the operator's own account at the server's API.
    pub fn credentials_secret(&self) -> String {
        format!("{}-operator-credentials", self.cr)
    }
}

/// The container port name of an adapter: `adapter-<type>`, at most 15 characters.
pub fn adapter_port_name(adapter_type: &str) -> String {
    format!("{ADAPTER_PORT_PREFIX}{}", fit(adapter_type, PORT_NAME_MAX - ADAPTER_PORT_PREFIX.len()))
}

/// The label value for an adapter type: the type itself when it is a valid label value, else made to fit.
pub fn adapter_label(adapter_type: &str) -> String {
    fit(adapter_type, LABEL_MAX)
}

/// `text` when it is a DNS label of at most `room` characters; otherwise as much of it as fits, a dash and four
/// hex digits of its SHA-256, so that two types that are cut alike stay apart.
fn fit(text: &str, room: usize) -> String {
    let plain = text.len() <= room
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && text.bytes().any(|b| b.is_ascii_lowercase())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--");
    if plain {
        return text.to_owned();
    }
    let hash = Sha256::digest(text.as_bytes());
    let suffix = format!("x{:02x}{:02x}", hash[0], hash[1]);
    let kept: String = text
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        .take(room.saturating_sub(suffix.len() + 1))
        .collect();
    if kept.is_empty() { suffix } else { format!("{kept}-{suffix}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_types_keep_their_names() {
        let names = Names::new("files");
        assert_eq!(names.adapter_service("nfs"), "files-adapter-nfs");
        assert_eq!(adapter_port_name("nfs"), "adapter-nfs");
        assert_eq!(adapter_port_name("smb"), "adapter-smb");
    }

    #[test]
    fn types_that_do_not_fit_a_port_name_are_cut_with_a_hash() {
        for long in ["objectstorage", "objectstorage2", "WebDAV", "a--b", "12", "", "-x", "ünïcode", "a/b\u{0}c"] {
            let port = adapter_port_name(long);
            assert!(port.len() <= PORT_NAME_MAX, "{port}");
            assert!(port.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{port}");
            assert!(!port.contains("--") && !port.ends_with('-'), "{port}");
            assert!(adapter_label(long).len() <= LABEL_MAX);
        }
        assert_ne!(adapter_port_name("objectstorage"), adapter_port_name("objectstorage2"));
    }

    #[test]
    fn every_service_name_of_the_longest_server_name_fits() {
        let names = Names::new("a".repeat(Names::CR_NAME_MAX));
        for adapter in ["nfs", "objectstorage", &"z".repeat(300)] {
            assert!(names.adapter_service(adapter).len() <= LABEL_MAX);
        }
        assert!(names.headless_service().len() <= LABEL_MAX);
        assert!(names.stateful_set().len() <= 52);
    }
}
