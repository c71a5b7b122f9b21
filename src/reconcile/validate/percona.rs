//! `spec.percona`. What is not enabled is checked for its form and then left out.

use super::super::problem::{Field, Reader};
use super::super::{Names, Percona, PerconaBackup, parse_bytes};
use crate::crd::{defaults, rules};

/// The cluster that is to be made for the server called `name`.
pub(super) fn percona(read: &mut Reader, spec: &Field<'_>, name: &str) -> Option<Percona> {
    let percona = read.object(spec, "percona");
    let enabled = read.boolean(&percona.child("enabled"), false);
    let checked = Percona {
        delete_with_server: read.boolean(&percona.child("deleteWithServer"), false),
        replicas: read.integer(&percona.child("replicas"), defaults::PERCONA_REPLICAS.into(), 1, 5),
        storage_size: read.text(
            &percona.child("storageSize"),
            defaults::PERCONA_STORAGE_SIZE,
            rules::CACHE_SIZE_REMEDY,
            |text| parse_bytes(text).is_ok_and(|bytes| bytes > 0),
        ),
        storage_class: read
            .optional_text(&percona.child("storageClassName"), "use the name of a StorageClass", |_| true),
        database_name: given(read, &percona, "databaseName", defaults::PERCONA_DATABASE_NAME),
        backup: backup(read, &percona),
    };
    let max = Names::PERCONA_CR_NAME_MAX;
    if enabled && name.len() > max {
        let remedy = rules::PERCONA_NAME_REMEDY;
        read.note(
            "metadata.name",
            format!("\"{name}\" ({} characters) and spec.percona.enabled is true", name.len()),
            format!("{remedy}; at most {max} characters fit the names that Percona's operator makes of it"),
        );
    }
    enabled.then_some(checked)
}

fn backup(read: &mut Reader, percona: &Field<'_>) -> Option<PerconaBackup> {
    let backup = read.object(percona, "backup");
    let enabled = read.boolean(&backup.child("enabled"), false);
    let credentials = read.object(&backup, "credentialsSecretRef");
    let credentials = given(read, &credentials, "name", "");
    let checked = PerconaBackup {
        credentials: (!credentials.is_empty()).then_some(credentials),
        bucket: given(read, &backup, "bucket", ""),
        endpoint: given(read, &backup, "endpoint", ""),
        region: given(read, &backup, "region", defaults::PERCONA_BACKUP_REGION),
        full_schedule: given(read, &backup, "fullSchedule", defaults::PERCONA_FULL_SCHEDULE),
        incr_schedule: given(read, &backup, "incrSchedule", defaults::PERCONA_INCR_SCHEDULE),
        retention_days: read.integer(
            &backup.child("retentionDays"),
            defaults::PERCONA_RETENTION_DAYS.into(),
            1,
            i32::MAX.into(),
        ),
    };
    enabled.then_some(checked)
}

/// A text; an empty one is its default, as in the Go operator.
fn given(read: &mut Reader, parent: &Field<'_>, name: &str, default: &str) -> String {
    let text = read.text(&parent.child(name), default, "use a text, in quotes", |_| true);
    if text.is_empty() { default.to_owned() } else { text }
}
