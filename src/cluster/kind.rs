//! The kinds of object that the operator reads or writes, and where the API serves them.
//!
//! Owns: group, version, kind and plural of each. Touches nothing. Guarantees: a path is made of checked names only,
//! so that no name that a user wrote (`secretRef.name`) can lead out of its namespace.

use std::fmt;

use kube::core::ApiResource;

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `dittofs.dittofs.com/v1alpha1 DittoServer`.
    DittoServer,
    /// `apps/v1 StatefulSet`.
    StatefulSet,
    /// `v1 Service`.
    Service,
    /// `v1 ConfigMap`.
    ConfigMap,
    /// `v1 Secret`.
    Secret,
    /// `v1 Pod`.
    Pod,
    /// `networking.k8s.io/v1 NetworkPolicy`.
    NetworkPolicy,
    /// `monitoring.coreos.com/v1 ServiceMonitor`.
    ServiceMonitor,
    /// `v1 PersistentVolumeClaim`.
    Claim,
    /// `storage.k8s.io/v1 StorageClass`, in no namespace.
    StorageClass,
    /// `pgv2.percona.com/v2 PerconaPGCluster`.
    PerconaPgCluster,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::DittoServer,
        Self::StatefulSet,
        Self::Service,
        Self::ConfigMap,
        Self::Secret,
        Self::Pod,
        Self::NetworkPolicy,
        Self::ServiceMonitor,
        Self::Claim,
        Self::StorageClass,
        Self::PerconaPgCluster,
    ];
    /// Those that are watched.
    pub const WATCHED: [Self; 9] = [
        Self::DittoServer,
        Self::StatefulSet,
        Self::Service,
        Self::ConfigMap,
        Self::Secret,
        Self::Pod,
        Self::NetworkPolicy,
        Self::ServiceMonitor,
        Self::Claim,
    ];
    /// Those of which objects are written.
    pub const WRITTEN: [Self; 9] = [
        Self::DittoServer,
        Self::StatefulSet,
        Self::Service,
        Self::ConfigMap,
        Self::Secret,
        Self::NetworkPolicy,
        Self::ServiceMonitor,
        Self::Claim,
        Self::PerconaPgCluster,
    ];

    /// API group; empty for the core group.
    pub fn group(self) -> &'static str {
        match self {
            Self::DittoServer => "dittofs.dittofs.com",
            Self::StatefulSet => "apps",
            Self::NetworkPolicy => "networking.k8s.io",
            Self::ServiceMonitor => "monitoring.coreos.com",
            Self::StorageClass => "storage.k8s.io",
            Self::PerconaPgCluster => "pgv2.percona.com",
            Self::Service | Self::ConfigMap | Self::Secret | Self::Pod | Self::Claim => "",
        }
    }

    /// Version within the group.
    pub fn version(self) -> &'static str {
        match self {
            Self::DittoServer => "v1alpha1",
            Self::PerconaPgCluster => "v2",
            _ => "v1",
        }
    }

    /// `apiVersion` as a manifest has it.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::DittoServer => "dittofs.dittofs.com/v1alpha1",
            Self::StatefulSet => "apps/v1",
            Self::NetworkPolicy => "networking.k8s.io/v1",
            Self::ServiceMonitor => "monitoring.coreos.com/v1",
            Self::StorageClass => "storage.k8s.io/v1",
            Self::PerconaPgCluster => "pgv2.percona.com/v2",
            Self::Service | Self::ConfigMap | Self::Secret | Self::Pod | Self::Claim => "v1",
        }
    }

    /// `kind` as a manifest has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::DittoServer => "DittoServer",
            Self::StatefulSet => "StatefulSet",
            Self::Service => "Service",
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
            Self::Pod => "Pod",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::ServiceMonitor => "ServiceMonitor",
            Self::Claim => "PersistentVolumeClaim",
            Self::StorageClass => "StorageClass",
            Self::PerconaPgCluster => "PerconaPGCluster",
        }
    }

    /// The resource in a path.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::DittoServer => "dittoservers",
            Self::StatefulSet => "statefulsets",
            Self::Service => "services",
            Self::ConfigMap => "configmaps",
            Self::Secret => "secrets",
            Self::Pod => "pods",
            Self::NetworkPolicy => "networkpolicies",
            Self::ServiceMonitor => "servicemonitors",
            Self::Claim => "persistentvolumeclaims",
            Self::StorageClass => "storageclasses",
            Self::PerconaPgCluster => "perconapgclusters",
        }
    }

    /// Whether a CustomResourceDefinition brings the kind, so that it can be absent.
    pub fn is_custom(self) -> bool {
        matches!(self, Self::DittoServer | Self::PerconaPgCluster) || self.is_optional()
    }

    /// Whether the operator does its work without the kind, too, and takes it up when its CRD arrives.
    pub fn is_optional(self) -> bool {
        self == Self::ServiceMonitor
    }

    /// Whether its objects are in no namespace.
    pub fn is_cluster_scoped(self) -> bool {
        self == Self::StorageClass
    }

    /// Path of the group and version, where discovery answers.
    pub fn discovery_path(self) -> String {
        let root = if self.group().is_empty() { "api" } else { "apis" };
        format!("/{root}/{}", self.api_version())
    }

    /// Path of the collection in `namespace`; `None` when that is no valid name. A kind of no namespace has one path.
    pub fn collection_path(self, namespace: &str) -> Option<String> {
        if self.is_cluster_scoped() {
            return Some(format!("{}/{}", self.discovery_path(), self.plural()));
        }
        is_object_name(namespace).then(|| format!("{}/namespaces/{namespace}/{}", self.discovery_path(), self.plural()))
    }

    /// Path of one object; `None` when one of the names is no valid name.
    pub fn object_path(self, namespace: &str, name: &str) -> Option<String> {
        let collection = self.collection_path(namespace)?;
        is_object_name(name).then(|| format!("{collection}/{name}"))
    }

    /// The path of one object with names in place of values, and what lies `below` it.
    pub fn url_template(self, below: &str) -> String {
        if self.is_cluster_scoped() {
            return format!("{}/{}/{{name}}{below}", self.discovery_path(), self.plural());
        }
        format!("{}/namespaces/{{namespace}}/{}/{{name}}{below}", self.discovery_path(), self.plural())
    }

    /// What kube's generic API wants to know about the kind.
    pub(super) fn api_resource(self) -> ApiResource {
        ApiResource {
            group: self.group().to_owned(),
            version: self.version().to_owned(),
            api_version: self.api_version().to_owned(),
            kind: self.name().to_owned(),
            plural: self.plural().to_owned(),
        }
    }
}

impl fmt::Display for Kind {
    /// `kind` as a manifest has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A DNS-1123 subdomain: what every name of these kinds must be.
fn is_object_name(name: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    bytes.len() <= 253
        && edge(bytes.first())
        && edge(bytes.last())
        && !name.contains("..")
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_there_once_and_what_is_watched_or_written_is_in_order() {
        let indices = |kinds: &[Kind]| kinds.iter().map(|kind| *kind as usize).collect::<Vec<_>>();
        assert_eq!(indices(&Kind::ALL), (0..Kind::ALL.len()).collect::<Vec<_>>());
        assert!(indices(&Kind::WATCHED).is_sorted() && indices(&Kind::WRITTEN).is_sorted());
    }

    #[test]
    fn paths_are_those_of_the_api() {
        let path = |kind: Kind| kind.object_path("ns", "a").expect("valid names");
        assert_eq!(path(Kind::DittoServer), "/apis/dittofs.dittofs.com/v1alpha1/namespaces/ns/dittoservers/a");
        assert_eq!(path(Kind::StatefulSet), "/apis/apps/v1/namespaces/ns/statefulsets/a");
        assert_eq!(path(Kind::Service), "/api/v1/namespaces/ns/services/a");
        assert_eq!(path(Kind::ConfigMap), "/api/v1/namespaces/ns/configmaps/a");
        assert_eq!(path(Kind::Secret), "/api/v1/namespaces/ns/secrets/a");
        assert_eq!(path(Kind::Pod), "/api/v1/namespaces/ns/pods/a");
        assert_eq!(path(Kind::NetworkPolicy), "/apis/networking.k8s.io/v1/namespaces/ns/networkpolicies/a");
        assert_eq!(path(Kind::ServiceMonitor), "/apis/monitoring.coreos.com/v1/namespaces/ns/servicemonitors/a");
        assert_eq!(path(Kind::Claim), "/api/v1/namespaces/ns/persistentvolumeclaims/a");
        assert_eq!(path(Kind::StorageClass), "/apis/storage.k8s.io/v1/storageclasses/a");
    }

    #[test]
    fn a_name_that_leads_out_of_its_namespace_has_no_path() {
        for bad in ["", "..", "../x", "a/b", "a/../../ns2/secrets/b", "a?x=1", "a#b", "a%2fb", "A", "-a", "a.", "a b"] {
            for kind in Kind::ALL {
                assert_eq!(kind.object_path("ns", bad), None, "{bad}");
                if !kind.is_cluster_scoped() {
                    assert_eq!(kind.object_path(bad, "a"), None, "{bad}");
                }
            }
        }
        assert!(Kind::Secret.object_path("ns", "my.secret-1").is_some());
    }

    #[test]
    fn kind_and_path_agree_with_what_kube_makes_of_them() {
        use kube::Resource as _;
        for kind in Kind::ALL {
            let namespace = (!kind.is_cluster_scoped()).then_some("ns");
            let url = kube::core::DynamicObject::url_path(&kind.api_resource(), namespace);
            assert_eq!(Some(url), kind.collection_path("ns"));
        }
    }
}
