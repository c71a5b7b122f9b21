//! PerconaPGCluster `<cr>-postgres`: the PostgreSQL cluster that Percona's operator makes for a server.
//!
//! Written by hand as JSON: the type is another project's, of which this is the part that we set. It is created once
//! and never compared with what is stored, `metadata.ownerReferences` aside.

use serde_json::{Map, Value, json};

use super::common::{labels, owner_reference};
use super::quantity::canonical;
use crate::reconcile::{Percona, PerconaBackup, ValidatedServer};

/// Version of Percona's operator whose behaviour the cluster asks for.
const CR_VERSION: &str = "2.8.0";
/// Major version of PostgreSQL.
const POSTGRES_VERSION: i64 = 16;
/// The only set of instances.
const INSTANCE_SET: &str = "instance1";
/// The user whose Secret the server is given.
const USER: &str = "dittofs";

/// The cluster of `server` as it is created.
pub fn percona_cluster(server: &ValidatedServer, percona: &Percona) -> Value {
    let names = server.names();
    let mut metadata = json!({
        "name": names.percona_cluster(),
        "namespace": server.key.namespace,
        "labels": labels(server),
    });
    if percona.delete_with_server {
        metadata["ownerReferences"] = json!([owner_reference(server)]);
    }
    let mut claim = json!({
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": canonical(&percona.storage_size)}},
    });
    if let Some(class) = &percona.storage_class {
        claim["storageClassName"] = json!(class);
    }
    json!({
        "apiVersion": "pgv2.percona.com/v2",
        "kind": "PerconaPGCluster",
        "metadata": metadata,
        "spec": {
            "crVersion": CR_VERSION,
            "postgresVersion": POSTGRES_VERSION,
            "instances": [{"name": INSTANCE_SET, "replicas": percona.replicas, "dataVolumeClaimSpec": claim}],
            "users": [{"name": USER, "databases": [percona.database_name]}],
            "backups": percona.backup.as_ref().map_or_else(|| json!({"enabled": false}), |it| backups(server, it)),
        },
    })
}

fn backups(server: &ValidatedServer, backup: &PerconaBackup) -> Value {
    let global: Map<String, Value> = [
        ("repo1-path", format!("/pgbackrest/{}/repo1", server.key.name)),
        ("repo1-s3-uri-style", "path".to_owned()),
        ("repo1-storage-verify-tls", "y".to_owned()),
        // Full backups older than this many days go, with what builds on them.
        ("repo1-retention-full", backup.retention_days.to_string()),
        ("repo1-retention-full-type", "time".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), json!(value)))
    .into_iter()
    .collect();
    let mut pgbackrest = json!({
        "global": global,
        "repos": [{
            "name": "repo1",
            "s3": {"bucket": backup.bucket, "endpoint": backup.endpoint, "region": backup.region},
            "schedules": {"full": backup.full_schedule, "incremental": backup.incr_schedule},
        }],
    });
    if let Some(secret) = &backup.credentials {
        pgbackrest["configuration"] = json!([{"secret": {"name": secret}}]);
    }
    json!({"enabled": true, "pgbackrest": pgbackrest})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::percona_server;

    fn built(change: impl FnOnce(&mut Percona)) -> Value {
        let server = percona_server("files");
        let mut percona = server.percona.clone().unwrap();
        change(&mut percona);
        percona_cluster(&server, &percona)
    }

    #[test]
    fn backups_are_off_unless_they_are_asked_for() {
        assert_eq!(built(|percona| percona.backup = None)["spec"]["backups"], json!({"enabled": false}));
        let backups = &built(|_| ())["spec"]["backups"];
        assert_eq!(backups["enabled"], true);
        let global = &backups["pgbackrest"]["global"];
        assert_eq!(global["repo1-path"], "/pgbackrest/files/repo1");
        assert_eq!(global["repo1-s3-uri-style"], "path");
        assert_eq!(global["repo1-storage-verify-tls"], "y");
        assert_eq!(
            (&global["repo1-retention-full"], &global["repo1-retention-full-type"]),
            (&json!("9"), &json!("time"))
        );
    }

    #[test]
    fn the_longest_name_of_a_server_leaves_room_for_the_instances() {
        use crate::reconcile::Names;
        let name = "p".repeat(Names::PERCONA_CR_NAME_MAX);
        let set = format!("{}-{INSTANCE_SET}-xxxx", Names::new(name).percona_cluster());
        assert_eq!(set.len(), Names::CR_NAME_MAX, "what any StatefulSet may be called");
    }

    #[test]
    fn the_server_owns_the_cluster_only_when_it_takes_it_along() {
        let of = |delete: bool| built(|percona| percona.delete_with_server = delete);
        assert_eq!(of(false)["metadata"].get("ownerReferences"), None);
        assert_eq!(of(true)["metadata"]["ownerReferences"][0]["controller"], true);
    }
}
