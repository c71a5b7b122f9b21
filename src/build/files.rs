//! Files that the server reads beside `config.yaml`: one key of a Secret each (a krb5.conf may be the ConfigMap's),
//! mounted alone in a directory of its own under the name that `config.yaml` says.
//!
//! What comes from a Secret is readable by the server's group alone (0440); the pod's `fsGroup` is that group.

use k8s_openapi::api::core::v1::{ConfigMapVolumeSource, KeyToPath, SecretVolumeSource, Volume, VolumeMount};

use super::config_map::KRB5_CONF_FILE;
use crate::reconcile::{SecretKey, ValidatedServer};

/// Mode of a file that comes from a Secret.
const SECRET_MODE: i32 = 0o440;

/// A file's volume, directory and name; the paths are those of the Go operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    volume: &'static str,
    directory: &'static str,
    file: &'static str,
    /// The whole path.
    pub(super) path: &'static str,
}

/// A place in a directory of its own.
macro_rules! place {
    ($volume:literal: $directory:literal / $file:literal) => {
        Place { volume: $volume, directory: $directory, file: $file, path: concat!($directory, "/", $file) }
    };
}

/// What a scraper of the metrics has to present.
pub(super) const METRICS_TOKEN: Place = place!("metrics-token": "/metrics-token" / "token");
/// CA certificates of the LDAP directory.
pub(super) const LDAP_CA: Place = place!("ldap-ca": "/ldap-ca" / "ca.crt");
/// The server's keytab.
pub(super) const KEYTAB: Place = place!("kerberos-keytab": "/kerberos" / "dittofs.keytab");
/// Configuration of Kerberos.
pub(super) const KRB5_CONF: Place = place!("kerberos-krb5": "/kerberos-krb5" / "krb5.conf");
/// Keytab of the machine account.
pub(super) const MACHINE_KEYTAB: Place = place!("kerberos-machine-keytab": "/kerberos-machine" / "machine.keytab");

/// Where a file's content is.
enum Source<'a> {
    Secret(&'a SecretKey),
    ConfigMap,
}

/// Every file of `server`, in the order of its volumes.
fn files(server: &ValidatedServer) -> Vec<(Place, Source<'_>)> {
    fn from(place: Place, secret: Option<&SecretKey>) -> Option<(Place, Source<'_>)> {
        secret.map(|secret| (place, Source::Secret(secret)))
    }
    let mut files = Vec::new();
    files.extend(from(METRICS_TOKEN, server.metrics.as_ref().and_then(|metrics| metrics.bearer_token.as_ref())));
    files.extend(from(LDAP_CA, server.ldap.as_ref().and_then(|ldap| ldap.ca_secret.as_ref())));
    if let Some(kerberos) = &server.kerberos {
        files.extend(from(KEYTAB, kerberos.keytab.as_ref()));
        files.extend(from(KRB5_CONF, kerberos.krb5_conf_secret.as_ref()));
        files.extend(kerberos.inline_krb5_conf().map(|_| (KRB5_CONF, Source::ConfigMap)));
        let account = kerberos.machine_account.as_ref();
        files.extend(from(MACHINE_KEYTAB, account.and_then(|account| account.keytab.as_ref())));
    }
    files
}

/// The volumes of the files.
pub(super) fn volumes(server: &ValidatedServer) -> impl Iterator<Item = Volume> {
    files(server).into_iter().map(|(place, source)| {
        let item = |key: &str| KeyToPath { key: key.to_owned(), path: place.file.to_owned(), mode: None };
        let volume = Volume { name: place.volume.to_owned(), ..Volume::default() };
        match source {
            Source::Secret(secret) => Volume {
                secret: Some(SecretVolumeSource {
                    secret_name: Some(secret.name.clone()),
                    default_mode: Some(SECRET_MODE),
                    items: Some(vec![item(&secret.key)]),
                    optional: None,
                }),
                ..volume
            },
            Source::ConfigMap => Volume {
                config_map: Some(ConfigMapVolumeSource {
                    name: server.names().config_map(),
                    items: Some(vec![item(KRB5_CONF_FILE)]),
                    ..ConfigMapVolumeSource::default()
                }),
                ..volume
            },
        }
    })
}

/// Where the files are mounted.
pub(super) fn mounts(server: &ValidatedServer) -> impl Iterator<Item = VolumeMount> {
    files(server).into_iter().map(|(place, _)| VolumeMount {
        name: place.volume.to_owned(),
        mount_path: place.directory.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::crd::rules::TAKEN_PATHS;
    use crate::fixtures::{directory, server};

    #[test]
    fn each_file_is_where_the_configuration_says_and_out_of_the_content_volumes_way() {
        for place in [METRICS_TOKEN, LDAP_CA, KEYTAB, KRB5_CONF, MACHINE_KEYTAB] {
            assert!(TAKEN_PATHS.contains(&place.directory), "{place:?}");
        }
    }

    #[test]
    fn each_volume_is_mounted_once_and_what_is_secret_is_not_for_everybody() {
        let server = directory("files");
        let volumes: Vec<Volume> = volumes(&server).collect();
        let mounts: Vec<VolumeMount> = mounts(&server).collect();
        assert_eq!(volumes.len(), 5);
        assert_eq!(
            volumes.iter().map(|volume| &volume.name).collect::<Vec<_>>(),
            mounts.iter().map(|mount| &mount.name).collect::<Vec<_>>()
        );
        assert_eq!(mounts.iter().map(|mount| &mount.mount_path).collect::<BTreeSet<_>>().len(), 5);
        assert!(mounts.iter().all(|mount| mount.read_only == Some(true)));
        for volume in volumes {
            let secret = volume.secret.unwrap();
            assert_eq!(secret.default_mode, Some(0o440), "{}", volume.name);
            assert_eq!(secret.items.unwrap().len(), 1, "{}: a key that nobody named is not mounted", volume.name);
        }
    }

    #[test]
    fn without_a_reference_there_is_no_volume() {
        assert_eq!(volumes(&server("files").build()).count() + mounts(&server("files").build()).count(), 0);
    }
}
