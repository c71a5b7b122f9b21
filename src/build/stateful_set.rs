//! StatefulSet `<cr>`: the server's only pod and its claims.

use k8s_openapi::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
    StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::common::{owned, selector};
use super::pod_template::pod_template;
use super::prune::without_empty;
use super::quantity::canonical;
use crate::reconcile::ValidatedServer;

/// Claim with the file metadata.
pub const METADATA_CLAIM: &str = "metadata";
/// Claim with the block cache; only when it has a size.
pub const CONTENT_CLAIM: &str = "content";
/// Claim with the control-plane database.
pub const CONTROL_PLANE_CLAIM: &str = "controlplane";

/// One adapter's container port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdapterPort {
    /// Adapter type as the server names it (`nfs`, `smb`).
    pub adapter_type: String,
    /// TCP port on which it listens.
    pub port: u16,
}

/// What a server runs that nobody has configured yet: the first template declares these, so that the usual first
/// poll changes nothing.
pub const FRESH_SERVER_ADAPTERS: [(&str, u16); 2] = [("nfs", 12049), ("smb", 1445)];

/// [`FRESH_SERVER_ADAPTERS`] as input of a template.
pub fn fresh_server_adapters() -> Vec<AdapterPort> {
    FRESH_SERVER_ADAPTERS
        .iter()
        .map(|&(adapter_type, port)| AdapterPort { adapter_type: adapter_type.to_owned(), port })
        .collect()
}

/// What the pod template holds that is not in the `DittoServer`.
#[derive(Clone, Copy, Debug)]
pub struct TemplateInput<'a> {
    /// Hex SHA-256 over what the server reads.
    pub config_hash: &'a str,
    /// The active adapters, in any order.
    pub adapters: &'a [AdapterPort],
    /// `spec.updateStrategy.rollingUpdate.partition`: 0, or the number of replicas to hold a change back.
    pub partition: i32,
}

/// The StatefulSet of `server`.
pub fn stateful_set(server: &ValidatedServer, template: &TemplateInput<'_>) -> StatefulSet {
    without_empty(StatefulSet {
        metadata: owned(server, server.names().stateful_set()),
        spec: Some(StatefulSetSpec {
            replicas: Some(server.replicas),
            service_name: Some(server.names().headless_service()),
            selector: LabelSelector { match_labels: Some(selector(server)), ..LabelSelector::default() },
            // With OrderedReady, a first template that cannot start blocks the template that repairs it.
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateStatefulSetStrategy {
                    partition: Some(template.partition),
                    ..RollingUpdateStatefulSetStrategy::default()
                }),
            }),
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some("Retain".to_owned()),
                when_scaled: Some("Retain".to_owned()),
            }),
            template: pod_template(server, template),
            volume_claim_templates: Some(claims(server)),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    })
}

fn claims(server: &ValidatedServer) -> Vec<PersistentVolumeClaim> {
    let storage = &server.storage;
    let mut sized = vec![(METADATA_CLAIM, &storage.metadata)];
    sized.extend(storage.content.as_ref().map(|size| (CONTENT_CLAIM, size)));
    sized.push((CONTROL_PLANE_CLAIM, &storage.control_plane));
    sized
        .into_iter()
        .map(|(name, size)| PersistentVolumeClaim {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            spec: Some(PersistentVolumeClaimSpec {
                access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
                storage_class_name: storage.class.clone(),
                resources: Some(VolumeResourceRequirements {
                    requests: Some([("storage".to_owned(), Quantity(canonical(size)))].into()),
                    ..VolumeResourceRequirements::default()
                }),
                ..PersistentVolumeClaimSpec::default()
            }),
            ..PersistentVolumeClaim::default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{everything, server};

    fn spec(server: &ValidatedServer, partition: i32) -> StatefulSetSpec {
        stateful_set(server, &TemplateInput { config_hash: "h", adapters: &[], partition }).spec.unwrap()
    }

    #[test]
    fn the_partition_is_the_one_given_and_changes_nothing_else() {
        let server = server("files").build();
        let partition = |spec: &StatefulSetSpec| {
            spec.update_strategy
                .clone()
                .and_then(|strategy| strategy.rolling_update)
                .and_then(|rolling| rolling.partition)
        };
        let (open, mut held) = (spec(&server, 0), spec(&server, 1));
        assert_eq!((partition(&open), partition(&held)), (Some(0), Some(1)));
        held.update_strategy.clone_from(&open.update_strategy);
        assert_eq!(open, held);
    }

    #[test]
    fn a_claim_without_a_size_does_not_exist_and_each_has_its_own() {
        let sizes = |server: &ValidatedServer| -> Vec<(String, String)> {
            claims(server)
                .into_iter()
                .map(|claim| {
                    let requests = claim.spec.unwrap().resources.unwrap().requests.unwrap();
                    (claim.metadata.name.unwrap(), requests["storage"].0.clone())
                })
                .collect()
        };
        let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|&(name, size)| (name.to_owned(), size.to_owned())).collect()
        };
        assert_eq!(sizes(&server("files").build()), owned(&[("metadata", "10Gi"), ("controlplane", "1Gi")]));
        assert_eq!(
            sizes(&everything("files")),
            owned(&[("metadata", "2Gi"), ("content", "3Ti"), ("controlplane", "5Gi")])
        );
    }

    #[test]
    fn an_empty_storage_class_is_a_choice_and_stays() {
        let server = server("files").with(|s| s.storage.class = Some(String::new())).build();
        for claim in spec(&server, 0).volume_claim_templates.unwrap() {
            assert_eq!(claim.spec.unwrap().storage_class_name.as_deref(), Some(""));
        }
    }

    #[test]
    fn replicas_follow_the_spec_to_zero() {
        assert_eq!(spec(&server("files").with(|s| s.replicas = 0).build(), 0).replicas, Some(0));
    }
}
