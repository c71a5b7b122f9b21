//! What may be chosen of the Services: `spec.service`, `spec.fileService`, `spec.apiService`, `spec.adapterServices`.
//!
//! The same fields stand at each place. The more specific place is merged over the common one: a single value and a
//! list replace, of labels and annotations each key does. Only a common place has a default for `type`.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{defaults, service_rules};

/// A struct with the fields that each place has, and its own before them.
macro_rules! service_place {
    ($(#[$doc:meta])* $name:ident { $($(#[$own_meta:meta])* $own:ident: $own_type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
        #[serde(rename_all = "camelCase")]
        #[x_kube(validation = service_rules::two_families_need_dual_stack())]
        pub struct $name {
            $($(#[$own_meta])* pub $own: $own_type,)*
            /// Annotations of the Service; one that is taken out here is removed there.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(extend("maxProperties" = service_rules::MAP_MAX, "additionalProperties" = annotation_value()))]
            #[x_kube(
                validation = service_rules::annotation_keys(),
                validation = service_rules::annotations_not_ours(),
                validation = service_rules::annotations_size()
            )]
            pub annotations: Option<BTreeMap<String, String>>,
            /// Further labels of the Service; one that is taken out here is removed there.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(extend("maxProperties" = service_rules::MAP_MAX, "additionalProperties" = label_value()))]
            #[x_kube(validation = service_rules::labels(), validation = service_rules::labels_not_ours())]
            pub labels: Option<BTreeMap<String, String>>,
            /// Which load balancer serves a Service of type LoadBalancer. Kubernetes cannot change it while the Service
            /// is of that type.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(length(max = 317))]
            #[x_kube(validation = service_rules::load_balancer_class())]
            pub load_balancer_class: Option<String>,
            /// Networks from which the load balancer lets clients in, in CIDR form; anywhere when unset.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(length(max = 128), inner(length(max = 43)))]
            #[x_kube(validation = service_rules::source_ranges())]
            pub load_balancer_source_ranges: Option<Vec<String>>,
            /// Whether node ports and load balancers lead to pods on other nodes (Cluster) or keep the client's address
            /// (Local); left to Kubernetes when unset.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub external_traffic_policy: Option<ExternalTrafficPolicySpec>,
            /// One family of addresses or two; left to Kubernetes when unset.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub ip_family_policy: Option<IpFamilyPolicySpec>,
            /// Families of addresses, the first one first; left to Kubernetes when unset.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(length(max = 2))]
            #[x_kube(validation = service_rules::families_differ())]
            pub ip_families: Option<Vec<IpFamilySpec>>,
        }
    };
}

service_place! {
    /// What may be chosen of a Service.
    ServiceSpec {
        /// Type of the Service.
        #[serde(default, rename = "type")]
        service_type: ServiceTypeSpec,
    }
}

service_place! {
    /// The `-api` Service alone, merged over `service`.
    ApiServiceSpec {
        /// Type of the Service; that of `service` when unset.
        #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
        service_type: Option<ServiceTypeSpec>,
    }
}

service_place! {
    /// The Service with the conventional file ports, merged over `service`.
    FileServiceSpec {
        /// Whether there is a `-file` Service.
        #[serde(default = "defaults::yes")]
        enabled: bool,
        /// Type of the Service; that of `service` when unset.
        #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
        service_type: Option<ServiceTypeSpec>,
    }
}

service_place! {
    /// The Service of one adapter, merged over what all adapters have in common.
    PerAdapterSpec {
        /// Type of the Service; that of `adapterServices` when unset.
        #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
        service_type: Option<ServiceTypeSpec>,
    }
}

service_place! {
    /// What may be chosen of the Services of the adapters.
    AdapterServicesSpec {
        /// Type of the Services.
        #[serde(default, rename = "type")]
        service_type: ServiceTypeSpec,
        /// For one adapter, by its type (nfs, smb), merged over the rest. A static address, for one, cannot be shared.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(extend("maxProperties" = service_rules::PER_ADAPTER_MAX))]
        #[x_kube(validation = service_rules::adapter_types())]
        per_adapter: Option<BTreeMap<String, PerAdapterSpec>>,
    }
}

/// Type of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum ServiceTypeSpec {
    /// Inside the cluster only.
    ClusterIP,
    /// A port of every node.
    NodePort,
    #[default]
    /// An address of its own.
    LoadBalancer,
}

/// Where traffic from outside goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum ExternalTrafficPolicySpec {
    /// To the pod, wherever it runs.
    Cluster,
    /// To the pod when it runs on the node that was asked; the client's address is kept.
    Local,
}

/// One family of addresses or two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum IpFamilyPolicySpec {
    /// One.
    SingleStack,
    /// Two where the cluster has two.
    PreferDualStack,
    /// Two.
    RequireDualStack,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum IpFamilySpec {
    /// IPv4.
    IPv4,
    /// IPv6.
    IPv6,
}

fn label_value() -> Value {
    json!({"type": "string", "maxLength": 63})
}

fn annotation_value() -> Value {
    json!({"type": "string", "maxLength": service_rules::ANNOTATIONS_MAX})
}
