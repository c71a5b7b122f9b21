//! What the cluster has of what a change needs, in the namespace of the request and by a deadline.
//!
//! Reads only. A Secret is read once, however many fields name it, and nothing but the names of its keys is kept. What is
//! not answered in time, or may not be read, is unknown. What belongs to another namespace cannot be asked for: its name is
//! nowhere in a need.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::cluster::{ClassReader, Cluster, Kind, KubeError};
use crate::reconcile::admission::{Found, Need, Owned, claims_wait_for, keys_of};
use crate::reconcile::storage_class::{Class, ClassSeen};

/// How old the word that there is no default StorageClass may be to count: they are listed rarely.
const FRESH: std::time::Duration = std::time::Duration::from_secs(3);

/// Looks for what a change needs.
#[derive(Clone)]
pub(super) struct Looker {
    pub(super) cluster: Cluster,
    pub(super) classes: ClassReader,
}

impl Looker {
    /// What was found for each need, in their order.
    pub(super) async fn look(&self, namespace: &str, needs: &[Need], deadline: Instant) -> Vec<Found> {
        let names: BTreeSet<&str> = needs.iter().filter_map(secret_of).collect();
        let secrets = join_all(names.into_iter().map(|name| async move {
            let read = self.get(Kind::Secret, namespace, name, deadline).await;
            let found = match read {
                Ok(secret) => Found::Secret(secret.as_ref().map(keys_of)),
                Err(()) => Found::Unknown,
            };
            (name, found)
        }));
        let others = join_all(needs.iter().map(|need| self.other(namespace, need, deadline)));
        let (secrets, others) = futures::future::join(secrets, others).await;
        let secrets: BTreeMap<&str, Found> = secrets.into_iter().collect();
        let of = |need: &Need| secret_of(need).and_then(|name| secrets.get(name).cloned());
        needs.iter().zip(others).map(|(need, other)| of(need).unwrap_or(other)).collect()
    }

    async fn other(&self, namespace: &str, need: &Need, deadline: Instant) -> Found {
        match need {
            // Read with the others of its name.
            Need::Secret { .. } | Need::Generated { .. } => Found::Unknown,
            Need::VolumeClass { class, claims } => self.volumes(namespace, class, claims, deadline).await,
            Need::DatabaseClass(class) => Found::Class { seen: self.class(class, deadline).await, waits: true },
            Need::Database { name } => self.object(Kind::PerconaPgCluster, namespace, name, deadline).await,
            Need::Name { kind, name } => self.object(kind_of(*kind), namespace, name, deadline).await,
        }
    }

    async fn object(&self, kind: Kind, namespace: &str, name: &str, deadline: Instant) -> Found {
        match timeout_at(deadline, self.cluster.get(kind, namespace, name)).await {
            Ok(Ok(object)) => Found::Object(object),
            Ok(Err(error)) if error.is_unserved() => Found::Unserved,
            Ok(Err(KubeError::InvalidName { .. })) => Found::Object(None),
            Ok(Err(_)) | Err(_) => Found::Unknown,
        }
    }

    async fn class(&self, class: &Class, deadline: Instant) -> ClassSeen {
        match timeout_at(deadline, self.classes.look(class)).await {
            // It may have come since the last list.
            Ok(looked) if looked.seen == ClassSeen::Missing && looked.age > FRESH => ClassSeen::Unknown,
            Ok(looked) => looked.seen,
            Err(_) => ClassSeen::Unknown,
        }
    }

    /// A class that is missing matters to claims that have no volume yet.
    async fn volumes(&self, namespace: &str, class: &Class, names: &[String], deadline: Instant) -> Found {
        let seen = self.class(class, deadline).await;
        if seen != ClassSeen::Missing {
            return Found::Class { seen, waits: true };
        }
        let mut claims = BTreeMap::new();
        for name in names {
            match self.get(Kind::Claim, namespace, name, deadline).await {
                Ok(Some(claim)) => drop(claims.insert(name.clone(), claim)),
                Ok(None) => {}
                Err(()) => return Found::Unknown,
            }
        }
        Found::Class { seen, waits: claims_wait_for(class, names, &claims) }
    }

    /// The object; an error when nobody said in time whether there is one. A name that no object can have names none.
    async fn get(&self, kind: Kind, namespace: &str, name: &str, deadline: Instant) -> Result<Option<Value>, ()> {
        match timeout_at(deadline, self.cluster.get(kind, namespace, name)).await {
            Ok(Err(KubeError::InvalidName { .. })) => Ok(None),
            Ok(read) => read.map_err(drop),
            Err(_) => Err(()),
        }
    }
}

fn secret_of(need: &Need) -> Option<&str> {
    match need {
        Need::Secret { name, .. } | Need::Generated { name, .. } => Some(name),
        _ => None,
    }
}

fn kind_of(kind: Owned) -> Kind {
    match kind {
        Owned::StatefulSet => Kind::StatefulSet,
        Owned::ConfigMap => Kind::ConfigMap,
        Owned::Service => Kind::Service,
        Owned::NetworkPolicy => Kind::NetworkPolicy,
        Owned::ServiceMonitor => Kind::ServiceMonitor,
    }
}
