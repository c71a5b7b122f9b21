//! The names of all objects that belong to a `DittoServer`, and how a long adapter type is made to fit.
//!
//! Source: the object table of the CRD reference. A name is computed in this file and nowhere else.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// Prefix of the container ports that follow the adapters; a port with another name is never touched by them.
pub const ADAPTER_PORT_PREFIX: &str = "adapter-";

/// Longest container port name (`IANA_SVC_NAME`).
const PORT_NAME_MAX: usize = 15;
/// Longest Service name (DNS-1035 label) and label value.
const LABEL_MAX: usize = 63;
/// Length of the hash at the end of a StatefulSet revision's name (`controller-revision-hash`).
const REVISION_HASH_LEN: usize = 10;
/// What stands between the server and the adapter in the name of an adapter's Service.
const ADAPTER_INFIX: &str = "-adapter-";
/// What a type is cut to at least: as much of it as a container port's name shows.
const TYPE_MIN: usize = PORT_NAME_MAX - ADAPTER_PORT_PREFIX.len();
/// What a server's name gets in that of its PostgreSQL cluster.
const PERCONA_SUFFIX: &str = "-postgres";
/// Longest of what Percona's operator appends to the cluster's name for a StatefulSet: the instance set's name and four
/// random characters. Everything else that it derives is shorter: `-replicas`, `-pgbouncer`, `-repo-host`, `-ha-config`.
const PERCONA_INSTANCE: &str = "-instance1-xxxx";
/// Hex digits of the hash that stands for what was cut off a server's name.
const NAME_HASH_LEN: usize = 8;

/// Names of the objects of one `DittoServer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    cr: String,
}

impl Names {
    /// Longest `DittoServer` name: 63 − a dash − the 10 characters of a hash, since pods carry the name of their
    /// revision (`<cr>-<hash>`) as a label. Every other name fits then, or is made to fit.
    pub const CR_NAME_MAX: usize = LABEL_MAX - 1 - REVISION_HASH_LEN;

    /// Longest name of a `DittoServer` with a database of Percona's operator: that makes a StatefulSet for each instance of
    /// the cluster, whose pods carry the name of its revision as a label, too.
    pub const PERCONA_CR_NAME_MAX: usize = Self::CR_NAME_MAX - PERCONA_SUFFIX.len() - PERCONA_INSTANCE.len();

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
    /// The Service of one adapter; a type that does not fit is cut and gets a hash. Where a server's name leaves no
    /// room even for that, it is cut, too, and gets a hash of its own.
    pub fn adapter_service(&self, adapter_type: &str) -> String {
        let room = LABEL_MAX.saturating_sub(self.cr.len() + ADAPTER_INFIX.len());
        if room >= TYPE_MIN || is_plain(adapter_type, room) {
            return format!("{}{ADAPTER_INFIX}{}", self.cr, fit(adapter_type, room));
        }
        let kept = LABEL_MAX - TYPE_MIN - ADAPTER_INFIX.len() - "-x".len() - NAME_HASH_LEN;
        let kept: String = self.cr.chars().take(kept).collect();
        let hash = hex(self.cr.as_bytes(), NAME_HASH_LEN / 2);
        format!("{}-x{hash}{ADAPTER_INFIX}{}", kept.trim_end_matches('-'), fit(adapter_type, TYPE_MIN))
    }
    /// The ServiceMonitor of the metrics endpoint.
    pub fn service_monitor(&self) -> String {
        format!("{}-metrics", self.cr)
    }
    /// The NetworkPolicy for the ports of the static Services.
    pub fn baseline_policy(&self) -> String {
        format!("{}-baseline", self.cr)
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
    /// The PostgreSQL cluster of Percona's operator.
    pub fn percona_cluster(&self) -> String {
        format!("{}{PERCONA_SUFFIX}", self.cr)
    }
    /// The Secret that Percona's operator makes for the user `dittofs` of that cluster.
    pub fn percona_secret(&self) -> String {
        format!("{}-pguser-dittofs", self.percona_cluster())
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
    if is_plain(text, room) {
        return text.to_owned();
    }
    let suffix = format!("x{}", hex(text.as_bytes(), 2));
    let kept: String = text
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        .take(room.saturating_sub(suffix.len() + 1))
        .collect();
    if kept.is_empty() { suffix } else { format!("{kept}-{suffix}") }
}

/// Whether `text` can stand in a name as it is.
fn is_plain(text: &str, room: usize) -> bool {
    text.len() <= room
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && text.bytes().any(|b| b.is_ascii_lowercase())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--")
}

/// The first `bytes` bytes of the SHA-256 of `text`, in hex.
fn hex(text: &[u8], bytes: usize) -> String {
    Sha256::digest(text).iter().take(bytes).fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
    fn every_name_of_the_longest_server_name_fits() {
        for length in 1..=Names::CR_NAME_MAX {
            let names = Names::new("a".repeat(length));
            for adapter in ["nfs", "objectstorage", "9P!", &"z".repeat(300)] {
                let service = names.adapter_service(adapter);
                let plain = service.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
                assert!(plain && service.len() <= LABEL_MAX && !service.contains("--"), "{service}");
            }
            let services =
                [names.headless_service(), names.api_service(), names.file_service(), names.metrics_service()];
            for name in services.into_iter().chain([names.pod(), names.stateful_set()]) {
                assert!(name.len() <= LABEL_MAX, "{name}");
            }
        }
        // What the limit is: the label controller-revision-hash of a pod, one longer and no pod can be made.
        assert_eq!(Names::CR_NAME_MAX, 52);
        assert_eq!(Names::CR_NAME_MAX + "-".len() + REVISION_HASH_LEN, LABEL_MAX);
    }

    #[test]
    fn every_name_that_perconas_operator_derives_fits() {
        let longest = Names::new("p".repeat(Names::PERCONA_CR_NAME_MAX));
        let cluster = longest.percona_cluster();
        assert_eq!((Names::PERCONA_CR_NAME_MAX, cluster.len()), (28, 37));
        // Services, and values of labels.
        for suffix in ["-primary", "-replicas", "-pgbouncer", "-pods", "-ha-config", "-ha-leader", "-repo-host-0"] {
            assert!(cluster.len() + suffix.len() <= LABEL_MAX, "{suffix}");
        }
        // StatefulSets, whose pods have the revision's name as a label.
        for set in ["-instance1-ab12", "-repo-host"] {
            assert!(cluster.len() + set.len() + "-".len() + REVISION_HASH_LEN <= LABEL_MAX, "{set}");
        }
        let label = format!("{cluster}-instance1-ab12-5979c86d57");
        assert_eq!(label.len(), LABEL_MAX, "one longer and no pod can be made");
        assert!(cluster.len() + "-backup-ab12".len() <= LABEL_MAX && longest.percona_secret().len() <= 253);
    }

    #[test]
    fn where_the_plain_name_fits_it_is_the_name() {
        for length in 1..=Names::CR_NAME_MAX {
            let cr = "b".repeat(length);
            for adapter in ["nfs", "smb", "webdav", "s3"] {
                let plain = format!("{cr}-adapter-{adapter}");
                let name = Names::new(&cr).adapter_service(adapter);
                assert_eq!(name == plain, plain.len() <= LABEL_MAX, "{name}");
            }
        }
    }

    #[test]
    fn names_up_to_47_characters_are_cut_as_they_always_were() {
        let names = Names::new("c".repeat(47));
        assert_eq!(names.adapter_service("objectstorage"), format!("{}-adapter-o-x721f", "c".repeat(47)));
        assert_eq!(Names::new("files").adapter_service("WebDAV v2"), "files-adapter-webdavv2-x7b2a");
    }

    #[test]
    fn long_servers_and_their_adapters_stay_apart() {
        let mut seen = BTreeSet::new();
        let servers = ["d", "e"].map(|last| format!("{}{last}", "d".repeat(51)));
        for server in &servers {
            for adapter in ["nfs", "smb", "objectstorage", "objectstorage2"] {
                assert!(seen.insert(Names::new(server).adapter_service(adapter)), "{server} {adapter}");
            }
        }
        let cut_at_a_dash = Names::new(format!("{}-{}", "f".repeat(36), "g".repeat(15)));
        assert!(cut_at_a_dash.adapter_service("nfs").starts_with(&format!("{}-x", "f".repeat(36))));
    }
}
