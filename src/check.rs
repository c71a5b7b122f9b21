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
use serde_json::{Value, json};

use crate::build::{APP, APP_LABEL, render};
use crate::cluster::{ClassReader, Cluster, ConnectError, ConnectOptions, Kind, KubeError, connect};
use crate::crd::annotations::is_paused;
use crate::reconcile::claims::{class_name, wishes};
use crate::reconcile::deletion::has_finalizer;
use crate::reconcile::percona::Leaver;
use crate::reconcile::preview::{Live, LiveDatabase, Preview, preview};
use crate::reconcile::stateful_set::HashInput;
use crate::reconcile::storage_class::{Class, ClassSeen, awaited, claims_wait, database_waits, of_database};
use crate::reconcile::{
    ServerKey, ValidatedServer, disowned, hash_of, is_adapter_service, meta, owned_by, secrets_used, validate,
    values_of,
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
    #[error("{0}; `dittofs-operator rbac --check` prints the rights that are needed")]
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

/// Looks at every DittoServer of `namespace`, or of all namespaces, as an operator that runs in `operator_namespace`
/// would.
///
/// # Errors
/// [`CheckError`] when no cluster can be reached or something must not be read.
pub async fn check(namespace: Option<&str>, operator_namespace: Option<&str>) -> Result<Report, CheckError> {
    let (client, server) = connect(&ConnectOptions::default()).await?;
    let cluster = Cluster::new(client).at(&server);
    Ok(look(&cluster, &ClassReader::new(cluster.clone()), namespace, operator_namespace).await?)
}

/// The same on a cluster that is reached.
pub(crate) async fn look(
    cluster: &Cluster,
    classes: &ClassReader,
    namespace: Option<&str>,
    operator_namespace: Option<&str>,
) -> Result<Report, KubeError> {
    let mut report = Report::default();
    let mut servers = cluster.list(Kind::DittoServer, namespace, None).await?;
    servers.sort_by(|a, b| (meta(a, "namespace"), meta(a, "name")).cmp(&(meta(b, "namespace"), meta(b, "name"))));
    for object in servers {
        let key = ServerKey::new(meta(&object, "namespace"), meta(&object, "name"));
        let checked = validate(&object).map_err(|invalid| invalid.to_string());
        let live = match &checked {
            Ok(server) if !server.deleting => Live {
                lacks_finalizer: !has_finalizer(&object),
                paused: is_paused(&object),
                operator_namespace: operator_namespace.map(str::to_owned),
                ..read(cluster, classes, server, Some(Leaver::of(&object))).await?
            },
            _ => Live::default(),
        };
        report.servers.push(preview(&key, checked.as_ref().map_err(String::as_str), &live));
    }
    Ok(report)
}

/// Reads all that is there for one server, but for what stands in its own object; `leaver` as which it may part with a
/// database.
pub(crate) async fn read(
    cluster: &Cluster,
    classes: &ClassReader,
    server: &ValidatedServer,
    leaver: Option<Leaver>,
) -> Result<Live, KubeError> {
    let (namespace, names) = (server.key.namespace.as_str(), server.names());
    let mut live = Live {
        stateful_set: cluster.get(Kind::StatefulSet, namespace, &names.stateful_set()).await?,
        config_map: cluster.get(Kind::ConfigMap, namespace, &names.config_map()).await?,
        ..Live::default()
    };
    let statics = [names.headless_service(), names.api_service(), names.file_service(), names.metrics_service()];
    live.services = named(cluster, server, Kind::Service, statics.into()).await?;
    let mut policies = vec![names.baseline_policy()];
    // An adapter's policy has its Service's name.
    policies.extend(live.services.iter().filter(|it| is_adapter_service(it, &server.uid)).map(|it| name_of(it)));
    live.network_policies = named(cluster, server, Kind::NetworkPolicy, policies).await?;
    live.service_monitors = match named(cluster, server, Kind::ServiceMonitor, vec![names.service_monitor()]).await {
        Err(error) if error.is_not_found() => None,
        monitors => Some(monitors?),
    };
    live.leaver = leaver.filter(|leaver| server.percona.is_none() && leaver.had_cluster());
    if server.percona.is_some() || live.leaver.is_some() {
        let cluster = cluster.get(Kind::PerconaPgCluster, namespace, &names.percona_cluster()).await;
        live.database = match cluster {
            Err(error) if error.is_unserved() => LiveDatabase::Unserved,
            cluster => cluster?.map_or(LiveDatabase::Absent, |cluster| LiveDatabase::There(Box::new(cluster))),
        };
    }
    read_claims(cluster, server, &mut live).await?;
    read_secrets(cluster, server, &mut live).await?;
    live.classless = classless(classes, server, &live.claims).await;
    Ok(live)
}

/// The objects of a kind with our label and a controller reference to the server, and what else bears one of `names`.
async fn named(
    cluster: &Cluster,
    server: &ValidatedServer,
    kind: Kind,
    names: Vec<String>,
) -> Result<Vec<Arc<Value>>, KubeError> {
    let namespace = server.key.namespace.as_str();
    let selector = format!("{APP_LABEL}={APP}");
    let mut found = cluster.list(kind, Some(namespace), Some(&selector)).await?;
    found.retain(|object| owned_by(object, &server.uid));
    for name in names {
        if !found.iter().any(|object| meta(object, "name") == name) {
            found.extend(cluster.get(kind, namespace, &name).await?);
        }
    }
    Ok(found.into_iter().map(Arc::new).collect())
}

fn name_of(object: &Value) -> String {
    meta(object, "name").to_owned()
}

async fn read_claims(cluster: &Cluster, server: &ValidatedServer, live: &mut Live) -> Result<(), KubeError> {
    for wish in wishes(server) {
        let Some(claim) = cluster.get(Kind::Claim, &server.key.namespace, &wish.name).await? else { continue };
        if let Some(class) = class_name(&claim)
            && !live.classes.contains_key(class)
        {
            match cluster.get(Kind::StorageClass, "", class).await {
                Err(error) if error.is_forbidden() => {}
                answer => drop(live.classes.insert(class.to_owned(), answer?)),
            }
        }
        live.claims.push(claim);
    }
    Ok(())
}

/// What to say of the StorageClasses that the server's volumes, and its database's, wait for.
async fn classless(classes: &ClassReader, server: &ValidatedServer, claims: &[Value]) -> Vec<String> {
    let claim = |name: &str| claims.iter().find(|claim| meta(claim, "name") == name).cloned().map(Arc::new);
    let own = awaited(server, claim);
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
    told
}

async fn read_secrets(cluster: &Cluster, server: &ValidatedServer, live: &mut Live) -> Result<(), KubeError> {
    let (namespace, names) = (server.key.namespace.as_str(), server.names());
    // Whose it is, and no more of it.
    live.credentials = cluster
        .get(Kind::Secret, namespace, &names.credentials_secret())
        .await?
        .map(|secret| json!({"metadata": {"ownerReferences": secret["metadata"]["ownerReferences"]}}));
    let generated = [names.jwt_secret(), names.admin_secret()];
    let mut values = BTreeMap::new();
    for used in secrets_used(server) {
        let Some(secret) = cluster.get(Kind::Secret, namespace, &used.name).await? else {
            if generated.contains(&used.name) {
                live.secrets_to_make.push(used.name);
            } else {
                live.missing.push(used.lacking("it does not exist"));
            }
            continue;
        };
        if generated.contains(&used.name) && disowned(&secret, &server.uid).is_some() {
            live.secrets_to_free.push(used.name.clone());
        }
        match values_of(&secret, &used) {
            Ok(found) => values.extend(found),
            Err(why) => live.missing.push(used.lacking(&why)),
        }
    }
    live.hash = Some(if !live.missing.is_empty() {
        HashInput::Held
    } else if !live.secrets_to_make.is_empty() {
        HashInput::Pending
    } else {
        HashInput::Hash(hash_of(server, &render(server), &values))
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::preview::{Action, Change};

    #[test]
    fn the_table_has_a_line_for_each_thing_to_know() {
        let server = |name: &str| Preview { namespace: "shop".into(), name: name.into(), ..Preview::default() };
        let change = |name: &str, action, what: &[&str]| Change {
            kind: "Service",
            name: name.into(),
            action,
            what: what.iter().map(|&what| what.into()).collect(),
        };
        let busy = Preview {
            restart: true,
            because: vec!["spec.template.x: 1 → 2".into()],
            changes: vec![change("a", Action::Update, &["one", "two"]), change("b", Action::Delete, &[])],
            ..server("busy")
        };
        let warned = Preview { warnings: vec!["doubtful".into()], ..server("warned") };
        let invalid = Preview { invalid: Some("spec.x is 0".into()), ..server("invalid") };
        let waiting = Preview { changes: vec![change("c", Action::Blocked, &["theirs"])], ..server("waiting") };
        let report = Report { servers: vec![busy, server("calm"), warned, invalid, waiting] };
        let text = report.print(Output::Table);
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "NAMESPACE NAME RESTART ACTION OBJECT WHAT",
                "shop busy yes restart Pod spec.template.x: 1 → 2",
                "shop busy yes update Service/a one",
                "shop busy yes update Service/a two",
                "shop busy yes delete Service/b -",
                "shop calm no none - -",
                "shop warned no warning - doubtful",
                "shop invalid no blocked - spec.x is 0",
                "shop waiting no blocked Service/c theirs",
                "5 servers: 4 would not be changed, 1 would restart",
            ]
        );
        let column = |line: &str, word: &str| line.find(word).map(|at| line[..at].chars().count());
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(column(rows[0], "WHAT"), column(rows[8], "theirs"), "in columns");
        assert!(!report.is_quiet());
        let json: Value = serde_json::from_str(&report.print(Output::Json)).expect("JSON");
        assert_eq!(json["servers"][0]["restartBecause"][0], "spec.template.x: 1 → 2");
        assert_eq!(json["servers"][4]["changes"][0]["action"], "blocked");
    }
}
