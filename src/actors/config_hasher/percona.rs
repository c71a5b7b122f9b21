//! The part of ConfigHasher that keeps the PostgreSQL cluster of Percona's operator; what to do is decided in
//! [`crate::reconcile::percona`].
//!
//! Creates the cluster once and keeps its owner reference in step with the spec; nothing else of it is ever written. It
//! is read at each run, and runs follow each other while there is one: faster until it can be used. How a server parts
//! with it: `farewell`.
//!
//! It is polled by name and not watched, on purpose. A watch could not be narrowed to what is ours, since a cluster that
//! the Go operator made bears no label of ours: it would need the right to list and watch everybody's databases, where
//! `get` of one name does. The kind is absent from most clusters, in which each operator would ask for it for ever; a
//! poll is made only for a server that has Percona enabled. What is waited for, a database that comes up, takes minutes;
//! [`UNTIL_READY`] is the delay that a poll adds to it, and one GET in [`WHEN_READY`] a server is what it costs after.

use std::time::Duration;

use serde_json::{Value, json};
use tracing::{info, warn};

use super::Run;
use crate::build::owner_reference;
use crate::cluster::{CrRef, Kind, KubeError, Reason};
use crate::reconcile::percona::{ClusterStep, DatabaseFact, plan_cluster};
use crate::reconcile::storage_class::{ClassSeen, database_waits, of_database};
use crate::reconcile::{Percona, ValidatedServer};

/// Until the next look at a database that cannot be used: also how soon a CustomResourceDefinition that arrives is
/// noticed.
const UNTIL_READY: Duration = Duration::from_secs(3);
/// The same for one that can.
const WHEN_READY: Duration = Duration::from_secs(30);

/// When the database is looked at again.
pub(super) fn look_again(database: &DatabaseFact) -> Duration {
    if database.problem.is_some() { UNTIL_READY } else { WHEN_READY }
}

impl Run {
    /// Makes the cluster that is not there yet, and says whether it can be used.
    pub(super) async fn keep_database(
        &mut self,
        about: &CrRef,
        server: &ValidatedServer,
        wanted: &Percona,
    ) -> DatabaseFact {
        let name = server.names().percona_cluster();
        let fact = match self.write_cluster(server, wanted, &name).await {
            Ok(fact) => self.with_class(fact, wanted).await,
            Err(error) if error.is_unserved() => {
                let text = "the API server does not serve PerconaPGCluster (pgv2.percona.com/v2); install Percona's \
                            operator for PostgreSQL, 2.8 or newer";
                DatabaseFact::not_ready(name.clone(), "PerconaMissing", text.to_owned())
            }
            Err(error) => DatabaseFact::not_ready(name.clone(), "PerconaUnreadable", error.to_string()),
        };
        if let Some((reason, text)) = &fact.problem
            && let Some(again) = self.trouble.failed(reason)
        {
            warn!(
                namespace = self.key.namespace,
                name = self.key.name,
                why = text,
                "the database cannot be used{again}"
            );
            let reason = if *reason == "NotOwned" { Reason::NotOwned } else { Reason::PerconaNotReady };
            let related = Some((Kind::PerconaPgCluster, name));
            self.deps.event_again(about, reason, "KeepDatabase", text.clone(), related, again.times);
        }
        fact
    }

    /// Says of a database that does not come up when the StorageClass of its volumes is missing.
    async fn with_class(&self, mut fact: DatabaseFact, wanted: &Percona) -> DatabaseFact {
        if let (Some(("PerconaNotReady", text)), Some(class)) = (&mut fact.problem, of_database(wanted))
            && self.deps.classes.look(&class).await.seen == ClassSeen::Missing
        {
            *text = format!("{text}; {}", database_waits(&class));
        }
        fact
    }

    async fn write_cluster(
        &mut self,
        server: &ValidatedServer,
        wanted: &Percona,
        name: &str,
    ) -> Result<DatabaseFact, KubeError> {
        const KIND: Kind = Kind::PerconaPgCluster;
        let namespace = self.key.namespace.clone();
        let (cluster, deps) = (name.to_owned(), self.deps.clone());
        let live = deps.cluster.get(KIND, &namespace, name).await?;
        let stored: Value = match plan_cluster(server, wanted, live.as_ref()) {
            ClusterStep::Keep => live.unwrap_or_default(),
            ClusterStep::Create(mut object) => {
                if crate::fault::on("take-database") {
                    object["metadata"]["ownerReferences"] = json!([owner_reference(server)]);
                }
                let made = deps.cluster.create(KIND, &namespace, &object).await?;
                info!(namespace, name = self.key.name, cluster, "created the database's cluster");
                self.done.did("create", format!("created {KIND} {name}"));
                made
            }
            ClusterStep::SetOwner(_) if crate::fault::on("keep-tie") => live.unwrap_or_default(),
            ClusterStep::SetOwner(object) => {
                let written = deps.cluster.replace(KIND, &namespace, name, &object).await?;
                let how = if wanted.delete_with_server { "goes with the server" } else { "outlives the server" };
                self.follows_the_spec(name, how);
                written
            }
            ClusterStep::BeingDeleted => {
                let text = format!("{KIND} {name} is being deleted; it is made again when it is gone");
                return Ok(DatabaseFact::not_ready(cluster, "PerconaDeleted", text));
            }
            ClusterStep::NotOwned => {
                let text = format!("{KIND} {name} belongs to somebody else; rename or remove it");
                return Ok(DatabaseFact::not_ready(cluster, "NotOwned", text));
            }
        };
        Ok(DatabaseFact::of(cluster, &stored))
    }
}
