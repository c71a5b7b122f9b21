//! `spec.controlPlane`: the port and TLS of the REST API.

use super::{Field, Reader, lies_in};
use crate::crd::{defaults, rules};
use crate::reconcile::ApiTls;

/// The API's port and its TLS.
pub(super) fn control_plane(read: &mut Reader, spec: &Field<'_>) -> (u16, ApiTls) {
    let control_plane = read.object(spec, "controlPlane");
    let port = read.port(&control_plane.child("port"), defaults::API_PORT);
    let enabled = read.boolean(&control_plane.child("tls"), false);
    let mut secret = |field: &str| {
        let named =
            read.optional_text(&control_plane.child(field), "use the name of a Secret", |name| name.len() <= 253);
        named.filter(|name| !name.is_empty())
    };
    let tls = ApiTls {
        enabled,
        cert_secret: secret("certSecretName"),
        client_ca_secret: secret("clientCASecretName"),
        client_cert_secret: secret("clientCertSecretName"),
        ca_secret: secret("caSecretName"),
    };
    if tls.enabled && tls.cert_secret.is_none() {
        let path = control_plane.child("certSecretName").path;
        read.note(&path, "unset while spec.controlPlane.tls is true", rules::TLS_REMEDY);
    }
    (port, tls)
}

/// With TLS the content volume, at `path`, stays clear of the certificates.
pub(super) fn clear_of_cache(read: &mut Reader, tls: &ApiTls, path: &str) {
    if tls.native().is_some() && rules::TLS_PATHS.iter().any(|taken| lies_in(path, taken)) {
        let remedy = format!("{} ({})", rules::MOUNT_REMEDY, rules::TLS_PATHS.join(", "));
        read.note("spec.cache.path", format!("\"{path}\""), remedy);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::reconcile::{SpecInvalid, validate};

    fn tls(control_plane: &Value) -> Result<ApiTls, SpecInvalid> {
        let metadata = json!({"name": "files", "namespace": "storage", "uid": "0a1b"});
        let spec = json!({"storage": {"metadataSize": "1Gi"}, "controlPlane": control_plane});
        validate(&json!({"metadata": metadata, "spec": spec})).map(|server| server.api_tls)
    }

    #[test]
    fn each_name_arrives_where_it_belongs() {
        let read = tls(&json!({
            "tls": true, "certSecretName": "a", "clientCASecretName": "b", "clientCertSecretName": "c", "caSecretName": "d",
        }));
        let name = |name: &str| Some(name.to_owned());
        let wanted = ApiTls {
            enabled: true,
            cert_secret: name("a"),
            client_ca_secret: name("b"),
            client_cert_secret: name("c"),
            ca_secret: name("d"),
        };
        assert_eq!(read, Ok(wanted));
        assert_eq!(tls(&json!({"certSecretName": "", "caSecretName": null})), Ok(ApiTls::default()));
    }

    #[test]
    fn the_content_volume_stays_clear_of_the_certificates_where_there_are_any() {
        let problems = |path: &str, tls: bool| {
            let metadata = json!({"name": "files", "namespace": "storage", "uid": "0a1b"});
            let spec = json!({
                "storage": {"metadataSize": "1Gi"}, "cache": {"path": path},
                "controlPlane": {"tls": tls, "certSecretName": "a"},
            });
            let problems = validate(&json!({"metadata": metadata, "spec": spec})).err().map(|error| error.problems);
            problems.unwrap_or_default().into_iter().map(|problem| problem.field).collect::<Vec<_>>()
        };
        for path in ["/tls", "/tls/cache", "/tls-client-ca"] {
            assert_eq!(problems(path, true), ["spec.cache.path"], "{path}");
            assert_eq!(problems(path, false), Vec::<String>::new(), "{path}");
        }
        assert_eq!(problems("/tls-cache", true), Vec::<String>::new());
    }

    #[test]
    fn tls_without_a_certificate_is_refused_with_field_value_and_remedy() {
        for control_plane in [json!({"tls": true}), json!({"tls": true, "certSecretName": "", "caSecretName": "ca"})] {
            let problems = tls(&control_plane).expect_err("no certificate").problems;
            assert_eq!(problems.len(), 1);
            assert_eq!(problems[0].field, "spec.controlPlane.certSecretName");
            assert!(problems[0].to_string().contains("tls.crt and tls.key"), "{}", problems[0]);
        }
        assert_eq!(tls(&json!({"tls": "yes"})).expect_err("no boolean").problems[0].field, "spec.controlPlane.tls");
    }
}
