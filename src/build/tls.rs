//! TLS of the REST API in the pod: which files of which Secrets are where, and how the kubelet probes.
//!
//! Only the keys that the server reads are mounted: a change of another key of the same Secret needs no restart. The
//! operator's own certificate and its CA are no part of the pod.

use k8s_openapi::api::core::v1::{
    HTTPGetAction, KeyToPath, Probe, SecretVolumeSource, TCPSocketAction, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::common::API_PORT_NAME;
use crate::reconcile::{ApiTls, ValidatedServer};

/// The server's certificate.
pub(super) const CERT_FILE: &str = "/tls/tls.crt";
/// Its key.
pub(super) const KEY_FILE: &str = "/tls/tls.key";
/// The CA of the server's clients.
pub(super) const CLIENT_CA_FILE: &str = "/tls-client-ca/ca.crt";

/// Readable by the group of the pod alone.
const MODE: i32 = 0o440;

/// Volume, directory, Secret and keys of what the server reads.
fn files(server: &ValidatedServer) -> Vec<(&'static str, &'static str, &str, &'static [&'static str])> {
    let tls = &server.api_tls;
    let own = tls.native().map(|secret| ("tls", "/tls", secret, &[ApiTls::CERTIFICATE, ApiTls::KEY][..]));
    let clients = tls.mutual().map(|secret| ("tls-client-ca", "/tls-client-ca", secret, &[ApiTls::CA][..]));
    own.into_iter().chain(clients).collect()
}

/// The volumes, none without TLS.
pub(super) fn volumes(server: &ValidatedServer) -> impl Iterator<Item = Volume> {
    files(server).into_iter().map(|(name, _, secret, keys)| Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            items: Some(
                keys.iter()
                    .map(|key| KeyToPath { key: (*key).to_owned(), path: (*key).to_owned(), mode: None })
                    .collect(),
            ),
            default_mode: Some(MODE),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    })
}

/// Their mounts.
pub(super) fn mounts(server: &ValidatedServer) -> impl Iterator<Item = VolumeMount> {
    files(server).into_iter().map(|(name, directory, ..)| VolumeMount {
        name: name.to_owned(),
        mount_path: directory.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    })
}

/// A probe of `path` that is not timed yet: by HTTPS where the server speaks it, without a look at the certificate; by
/// TCP alone where it wants to see one of the kubelet, which has none.
pub(super) fn probe(server: &ValidatedServer, path: &str) -> Probe {
    let port = IntOrString::String(API_PORT_NAME.to_owned());
    if server.api_tls.mutual().is_some() {
        return Probe { tcp_socket: Some(TCPSocketAction { port, host: None }), ..Probe::default() };
    }
    let scheme = if server.api_tls.native().is_some() { "HTTPS" } else { "HTTP" };
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port,
            scheme: Some(scheme.to_owned()),
            ..HTTPGetAction::default()
        }),
        ..Probe::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{mutual, secured, server};

    #[test]
    fn the_files_of_the_config_are_those_that_are_mounted() {
        let paths = |server: &ValidatedServer| -> Vec<String> {
            let directories: Vec<_> = mounts(server).map(|mount| (mount.name, mount.mount_path)).collect();
            let of = |volume: Volume| {
                let (_, directory) =
                    directories.iter().find(|(name, _)| *name == volume.name).expect("a mount").clone();
                let items = volume.secret.expect("a Secret").items.expect("chosen keys");
                items.into_iter().map(move |item| format!("{directory}/{}", item.path)).collect::<Vec<_>>()
            };
            volumes(server).flat_map(of).collect()
        };
        assert_eq!(paths(&server("files").build()), Vec::<String>::new());
        assert_eq!(paths(&secured("files")), [CERT_FILE, KEY_FILE]);
        assert_eq!(paths(&mutual("files")), [CERT_FILE, KEY_FILE, CLIENT_CA_FILE]);
    }

    #[test]
    fn the_kubelet_asks_as_it_can() {
        let scheme = |server: &ValidatedServer| probe(server, "/health").http_get.and_then(|get| get.scheme);
        assert_eq!(scheme(&server("files").build()).as_deref(), Some("HTTP"));
        assert_eq!(scheme(&secured("files")).as_deref(), Some("HTTPS"));
        let probe = probe(&mutual("files"), "/health");
        assert!(probe.http_get.is_none() && probe.tcp_socket.is_some());
    }

    #[test]
    fn what_a_mesh_does_is_nothing_to_the_pod() {
        let meshed = server("files").with(|s| s.api_tls.ca_secret = Some("mesh-ca".into())).build();
        assert_eq!(volumes(&meshed).count(), 0);
        assert_eq!(probe(&meshed, "/health"), probe(&server("files").build(), "/health"));
    }
}
