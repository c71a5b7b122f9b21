//! What all objects of a server share: labels, the selector, the owner reference and the names of our annotations.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::reconcile::ValidatedServer;

/// `apiVersion` of the owner.
pub const API_VERSION: &str = "dittofs.dittofs.com/v1alpha1";
/// `kind` of the owner.
pub const KIND: &str = "DittoServer";

/// Selector label, always [`APP`].
pub const APP_LABEL: &str = "app";
/// Value of [`APP_LABEL`].
pub const APP: &str = "dittofs-server";
/// Selector label with the name of the `DittoServer`.
pub const INSTANCE_LABEL: &str = "instance";
/// Label with the name of the program that manages an object; in metadata only, never in a selector.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY_LABEL`].
pub const MANAGED_BY: &str = "dittofs-operator";

/// Label of every adapter Service, `"true"`.
pub const ADAPTER_SERVICE_LABEL: &str = "dittofs.io/adapter-service";
/// Label of an adapter Service with the adapter's type.
pub const ADAPTER_TYPE_LABEL: &str = "dittofs.io/adapter-type";
/// Label of the metrics Service, `"true"`.
pub const METRICS_SERVICE_LABEL: &str = "dittofs.io/metrics-service";
/// Label of the NetworkPolicy for the ports of the static Services, `"true"`.
pub const BASELINE_POLICY_LABEL: &str = "dittofs.io/baseline-networkpolicy";
/// Label of every NetworkPolicy for the ports of an adapter's Service, `"true"`.
pub const ADAPTER_POLICY_LABEL: &str = "dittofs.io/adapter-networkpolicy";
/// Pod annotation with the config hash.
pub const CONFIG_HASH_ANNOTATION: &str = "dittofs.io/config-hash";
/// Annotation of a StatefulSet that another operator had made and this one took over, `"true"`.
pub const ADOPTED_ANNOTATION: &str = "dittofs.io/adopted";
/// Annotation of a StatefulSet whose new template is held back from the running pod.
pub const HELD_TEMPLATE_ANNOTATION: &str = "dittofs.io/held-template";

/// The only container of the pod that is ours.
pub const CONTAINER_NAME: &str = "dittofs";
/// Name of the REST API's port, in the container and in Services.
pub const API_PORT_NAME: &str = "api";
/// Name of the metrics port, in the container and in Services.
pub const METRICS_PORT_NAME: &str = "metrics";

/// The labels by which Services and the StatefulSet find the pod. Immutable in a StatefulSet, and those of the Go
/// operator, whose objects are taken over.
pub fn selector(server: &ValidatedServer) -> BTreeMap<String, String> {
    strings([(APP_LABEL, APP), (INSTANCE_LABEL, &server.key.name)])
}

/// The labels of every object, and of the pod: the selector and the recommended ones.
pub fn labels(server: &ValidatedServer) -> BTreeMap<String, String> {
    labels_of(&server.key.name)
}

/// The same for the server of that name.
pub fn labels_of(name: &str) -> BTreeMap<String, String> {
    strings([
        (APP_LABEL, APP),
        (INSTANCE_LABEL, name),
        ("app.kubernetes.io/name", APP),
        ("app.kubernetes.io/instance", name),
        (MANAGED_BY_LABEL, MANAGED_BY),
    ])
}

/// The controller reference to the `DittoServer`, through which the garbage collector takes what we made.
pub fn owner_reference(server: &ValidatedServer) -> OwnerReference {
    owner_reference_of(&server.key.name, &server.uid)
}

/// The same to the server of that name and `metadata.uid`.
pub fn owner_reference_of(name: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Metadata of an object that goes with its `DittoServer`.
pub(super) fn owned(server: &ValidatedServer, name: String) -> ObjectMeta {
    ObjectMeta { owner_references: Some(vec![owner_reference(server)]), ..outliving(server, name) }
}

/// Metadata of an object that stays when its `DittoServer` goes: the same, without an owner.
pub(super) fn outliving(server: &ValidatedServer, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(server.key.namespace.clone()),
        labels: Some(labels(server)),
        ..ObjectMeta::default()
    }
}

/// An owned map from borrowed pairs.
pub(super) fn strings<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::server;

    #[test]
    fn the_selector_holds_nothing_but_app_and_instance() {
        let server = server("files").namespace("tenant").build();
        assert_eq!(selector(&server), strings([("app", "dittofs-server"), ("instance", "files")]));
        let labels = labels(&server);
        assert!(selector(&server).iter().all(|(key, value)| labels.get(key) == Some(value)));
        assert_eq!(labels[MANAGED_BY_LABEL], "dittofs-operator");
    }

    #[test]
    fn the_owner_is_the_very_object_by_uid() {
        let owner = owner_reference(&server("files").uid("1-2-3").build());
        assert_eq!((owner.name.as_str(), owner.uid.as_str()), ("files", "1-2-3"));
        assert_eq!((owner.controller, owner.block_owner_deletion), (Some(true), Some(true)));
        assert_eq!((owner.api_version.as_str(), owner.kind.as_str()), ("dittofs.dittofs.com/v1alpha1", "DittoServer"));
    }
}
