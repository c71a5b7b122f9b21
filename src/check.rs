//! `dittofs-operator check`: what the operator would change, and which server it would restart, without changing
//! anything.
//!
//! Owns the reading and the printing; what would happen is decided by [`crate::reconcile::preview`]. Sends nothing but
//! GET requests; Secrets are read for the hash alone and nothing of them is printed. Made for the hour before an
//! upgrade, or before another operator is replaced by this one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;

use crate::actors::vault::secret_bytes;
use crate::build::{APP, APP_LABEL, hashed_text, render};
use crate::cluster::{ClassReader, Cluster, ConnectError, ConnectOptions, Kind, KubeError, connect};
use crate::reconcile::claims::wishes;
use crate::reconcile::preview::{Live, Preview, preview};
use crate::reconcile::stateful_set::HashInput;
use crate::reconcile::storage_class::{Class, ClassSeen, awaited, claims_wait, database_waits, of_database};
use crate::reconcile::{
    Keys, SecretKey, ServerKey, ValidatedServer, config_hash, disowned, generation_for_hash, meta, owned_by,
    secrets_used, validate,
};

/// Form of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// One line for each change.
    Table,
    /// All of it.
    Json,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// No connection to a cluster can be configured.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Something cannot be read.
    #[error("{0}; `dittofs-operator rbac` prints the rights that are needed")]
    Read(#[from] KubeError),
}

/// The report about all servers that were looked at.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// One for each DittoServer, by namespace and name.
    pub servers: Vec<Preview>,
}

impl Report {
    /// Whether nothing would be changed anywhere.
    pub fn is_quiet(&self) -> bool {
        self.servers.iter().all(Preview::is_quiet)
    }

    /// The report in the form that was asked for, with a newline at its end.
    pub fn print(&self, output: Output) -> String {
        match output {
            Output::Json => format!("{}\n", serde_json::to_string_pretty(self).unwrap_or_default()),
            Output::Table => self.table(),
        }
    }

    fn table(&self) -> String {
        let mut rows = vec![["NAMESPACE", "NAME", "RESTART", "ACTION", "OBJECT", "WHAT"].map(str::to_owned)];
        for server in &self.servers {
            let row = |action: &str, object: String, what: String| {
                let restart = if server.restart { "yes" } else { "no" };
                [server.namespace.clone(), server.name.clone(), restart.to_owned(), action.to_owned(), object, what]
            };
            if let Some(problem) = &server.invalid {
                rows.push(row("blocked", "-".to_owned(), problem.clone()));
            }
            for why in &server.because {
                rows.push(row("restart", "Pod".to_owned(), why.clone()));
            }
            for change in &server.changes {
                let object = format!("{}/{}", change.kind, change.name);
                if change.what.is_empty() {
                    rows.push(row(change.action.as_str(), object, "-".to_owned()));
                } else {
                    for what in &change.what {
                        rows.push(row(change.action.as_str(), object.clone(), what.clone()));
                    }
                }
            }
            for warning in &server.warnings {
                rows.push(row("warning", "-".to_owned(), warning.clone()));
            }
            if server.invalid.is_none() && server.changes.is_empty() && server.warnings.is_empty() {
                rows.push(row("none", "-".to_owned(), "-".to_owned()));
            }
        }
        let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
        let widths = [0, 1, 2, 3, 4].map(width);
        let mut text = String::new();
        for row in &rows {
            for (cell, width) in row.iter().zip(widths) {
                let _ = write!(text, "{cell:width$}  ");
            }
            let _ = writeln!(text, "{}", row[5]);
        }
        let restarts = self.servers.iter().filter(|server| server.restart).count();
        let quiet = self.servers.iter().filter(|server| server.is_quiet()).count();
        let _ =
            writeln!(text, "{} servers: {quiet} would not be changed, {restarts} would restart", self.servers.len());
        text
    }
}

/// Looks at every DittoServer of `namespace`, or of all namespaces.
///
/// # Errors
/// [`CheckError`] when no cluster can be reached or something must not be read.
pub async fn check(namespace: Option<&str>) -> Result<Report, CheckError> {
    let (client, server) = connect(&ConnectOptions::default()).await?;
    let cluster = Cluster::new(client).at(&server);
    let classes = ClassReader::new(cluster.clone());
    let mut report = Report::default();
    let mut servers = cluster.list(Kind::DittoServer, namespace, None).await?;
    servers.sort_by(|a, b| (meta(a, "namespace"), meta(a, "name")).cmp(&(meta(b, "namespace"), meta(b, "name"))));
    for object in servers {
        let key = ServerKey::new(meta(&object, "namespace"), meta(&object, "name"));
        let checked = validate(&object).map_err(|invalid| invalid.to_string());
        let live = match &checked {
            Ok(server) if !server.deleting => read(&cluster, &classes, server).await?,
            _ => Live::default(),
        };
        report.servers.push(preview(&key, checked.as_ref().map_err(String::as_str), &live));
    }
    Ok(report)
}

async fn read(cluster: &Cluster, classes: &ClassReader, server: &ValidatedServer) -> Result<Live, KubeError> {
    let (namespace, names) = (server.key.namespace.as_str(), server.names());
    let mut live = Live {
        stateful_set: cluster.get(Kind::StatefulSet, namespace, &names.stateful_set()).await?,
        config_map: cluster.get(Kind::ConfigMap, namespace, &names.config_map()).await?,
        ..Live::default()
    };
    let selector = format!("{APP_LABEL}={APP}");
    let labelled = cluster.list(Kind::Service, Some(namespace), Some(&selector)).await?;
    live.services = labelled.into_iter().filter(|service| owned_by(service, &server.uid)).map(Arc::new).collect();
    for name in [names.headless_service(), names.api_service(), names.file_service(), names.metrics_service()] {
        if !live.services.iter().any(|service| meta(service, "name") == name)
            && let Some(other) = cluster.get(Kind::Service, namespace, &name).await?
        {
            live.services.push(Arc::new(other));
        }
    }
    read_secrets(cluster, server, &mut live).await?;
    live.classless = classless(cluster, classes, server).await?;
    Ok(live)
}

/// What to say of the StorageClasses that the server's volumes, and its database's, wait for.
async fn classless(
    cluster: &Cluster,
    classes: &ClassReader,
    server: &ValidatedServer,
) -> Result<Vec<String>, KubeError> {
    let mut claims = BTreeMap::new();
    for wish in wishes(server) {
        if let Some(claim) = cluster.get(Kind::Claim, &server.key.namespace, &wish.name).await? {
            claims.insert(wish.name, Arc::new(claim));
        }
    }
    let own = awaited(server, |name| claims.get(name).cloned());
    let mut waiting: Vec<(Class, String)> =
        own.into_iter().map(|(class, names)| (class.clone(), claims_wait(server, &class, &names))).collect();
    let database = server.percona.as_ref().and_then(of_database);
    waiting.extend(database.map(|class| (class.clone(), database_waits(&class))));
    let mut told = Vec::new();
    for (class, why) in waiting {
        match classes.look(&class).await.seen {
            ClassSeen::There => {}
            ClassSeen::Missing => told.push(why),
            ClassSeen::Unknown => {
                let name = if let Class::Named(name) = &class { name } else { "that is the default" };
                told.push(format!("whether there is a StorageClass {name} cannot be read; see to it"));
            }
        }
    }
    told.dedup();
    Ok(told)
}

async fn read_secrets(cluster: &Cluster, server: &ValidatedServer, live: &mut Live) -> Result<(), KubeError> {
    let names = server.names();
    let generated = [names.jwt_secret(), names.admin_secret()];
    let mut values = BTreeMap::new();
    for used in secrets_used(server) {
        let Some(secret) = cluster.get(Kind::Secret, &server.key.namespace, &used.name).await? else {
            if generated.contains(&used.name) {
                live.secrets_to_make.push(used.name);
            } else {
                live.missing
                    .push(format!("Secret {} does not exist, needed for {} ({})", used.name, used.purpose, used.field));
            }
            continue;
        };
        if generated.contains(&used.name) && disowned(&secret, &server.uid).is_some() {
            live.secrets_to_free.push(used.name.clone());
        }
        let keys: Vec<(String, bool)> = match used.keys {
            Keys::All => secret["data"]
                .as_object()
                .into_iter()
                .flat_map(|data| data.keys().cloned())
                .map(|key| (key, false))
                .collect(),
            Keys::Named(wanted) => wanted.into_iter().map(|key| (key.key, key.required)).collect(),
        };
        for (key, required) in keys {
            match secret_bytes(&secret, &key) {
                Some(value) => {
                    values.insert(SecretKey { name: used.name.clone(), key }, value);
                }
                None if required => {
                    live.missing.push(format!(
                        "Secret {} has no key {key}, needed for {} ({})",
                        used.name, used.purpose, used.field
                    ));
                }
                None => {}
            }
        }
    }
    live.hash = Some(if !live.missing.is_empty() {
        HashInput::Held
    } else if !live.secrets_to_make.is_empty() {
        HashInput::Pending
    } else {
        // The same text as ConfigHasher's: an inline krb5.conf is part of it.
        let yaml = render(server);
        HashInput::Hash(config_hash(&hashed_text(server, &yaml), &values, generation_for_hash(server)))
    });
    Ok(())
}
