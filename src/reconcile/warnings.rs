//! What is allowed but doubtful about a server: the condition `Warnings`.
//!
//! Admission says the same at the time of the change, as far as it can know; here what has been observed since counts
//! too. What has not been observed is no evidence: without an observation nothing is said about adapters.

use std::fmt;

use super::{AdapterState, ApiTls, Database, ObservedAdapter, ServiceType, ValidatedServer};

mod directory;

/// First port that a process without privileges can listen on.
const FIRST_UNPRIVILEGED: u16 = 1024;
/// Where the volume of the control plane's data is mounted.
const CONTROL_PLANE_VOLUME: &str = "/data/controlplane/";

/// One doubtful thing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// Path of the field, such as `spec.controlPlane.port`.
    pub field: String,
    /// What it is.
    pub value: String,
    /// What comes of it, and what to do about it.
    pub advice: String,
}

impl Warning {
    fn new(field: &str, value: &impl ToString, advice: &str) -> Self {
        Self { field: field.to_owned(), value: value.to_string(), advice: advice.to_owned() }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}: {}", self.field, self.value, self.advice)
    }
}

/// Everything doubtful about a server, in the order of the spec.
///
/// `observed` is the newest valid answer of the server, `None` while there has been none.
pub fn warnings(server: &ValidatedServer, observed: Option<&[ObservedAdapter]>) -> Vec<Warning> {
    let mut found = Vec::new();
    if let Database::Sqlite { path } = &server.database
        && !path.starts_with(CONTROL_PLANE_VOLUME)
    {
        found.push(Warning::new(
            "spec.database.sqlite.path",
            path,
            "the database is not on the volume at /data/controlplane and is lost with the pod; keep it there",
        ));
    }
    if let Some(backup) = server.percona.as_ref().and_then(|percona| percona.backup.as_ref())
        && (backup.bucket.is_empty() || backup.endpoint.is_empty() || backup.credentials.is_none())
    {
        found.push(Warning::new(
            "spec.percona.backup",
            &"enabled",
            "without all of bucket, endpoint and credentialsSecretRef no backup is made; set them",
        ));
    }
    directory::warn(server, &mut found);
    let listens = "the server runs without privileges and cannot listen there; use 1024 or more";
    if server.api_port < FIRST_UNPRIVILEGED {
        found.push(Warning::new("spec.controlPlane.port", &server.api_port, listens));
    }
    tls_warnings(&server.api_tls, &mut found);
    if let Some(adapters) = observed {
        adapter_warnings(server, adapters, &mut found);
    }
    let api_type = server.api_service.service_type;
    if api_type != ServiceType::ClusterIp && !server.api_tls.is_spoken() {
        found.push(Warning::new(
            server.api_type_field,
            &api_type.as_str(),
            "the API is reachable from outside the cluster and is not encrypted; use ClusterIP, or restrict who reaches it",
        ));
    }
    if let Some(metrics) = &server.metrics
        && metrics.port < FIRST_UNPRIVILEGED
    {
        found.push(Warning::new("spec.metrics.port", &metrics.port, listens));
    }
    for idle in &server.idle_service_fields {
        found.push(Warning::new(
            &format!("the type of {}", idle.place),
            &idle.service_type.as_str(),
            &format!(
                "what does nothing on such a Service is {}; take it out, or choose a type that it is for",
                idle.fields.join(", ")
            ),
        ));
    }
    found
}

/// Fields of `spec.controlPlane` that do nothing as they stand, and a server that lets the operator in no more.
fn tls_warnings(tls: &ApiTls, found: &mut Vec<Warning>) {
    let mut warn = |field: &str, value: &Option<String>, advice: &str| {
        found.push(Warning::new(&format!("spec.controlPlane.{field}"), &value.as_deref().unwrap_or_default(), advice));
    };
    if !tls.enabled {
        let off = "without spec.controlPlane.tls it has no effect; set tls to true, or take it out";
        if tls.cert_secret.is_some() {
            warn("certSecretName", &tls.cert_secret, off);
        }
        if tls.client_ca_secret.is_some() {
            warn("clientCASecretName", &tls.client_ca_secret, off);
        }
    }
    if tls.client_cert_secret.is_some() && !tls.is_spoken() {
        warn(
            "clientCertSecretName",
            &tls.client_cert_secret,
            "without spec.controlPlane.tls and caSecretName it has no effect; set one of them, or take it out",
        );
    }
    if tls.mutual().is_some() && tls.client_cert_secret.is_none() {
        warn(
            "clientCASecretName",
            &tls.client_ca_secret,
            "the server lets in only clients with a certificate, and the operator has none to show, so that it cannot \
             follow the adapters; name a Secret with tls.crt and tls.key in spec.controlPlane.clientCertSecretName",
        );
    }
}

fn adapter_warnings(server: &ValidatedServer, adapters: &[ObservedAdapter], found: &mut Vec<Warning>) {
    // A stopped adapter is listed with the port that it starts on; one that is on a privileged port is warned of below.
    let known = |name: &str| {
        adapters.iter().any(|adapter| {
            adapter.adapter_type == name
                && (adapter.port >= FIRST_UNPRIVILEGED || adapter.state != AdapterState::Stopped)
        })
    };
    if server.file_service_enabled {
        for (name, port) in [("nfs", server.ports.nfs), ("smb", server.ports.smb)] {
            if port < FIRST_UNPRIVILEGED && !known(name) {
                found.push(Warning::new(
                    &format!("spec.ports.{name}"),
                    &port,
                    &format!(
                        "no {name} adapter has been found on another port, and the server, without privileges, cannot \
                         listen there; start the adapter on a port of 1024 or more, or use such a port here"
                    ),
                ));
            }
        }
    }
    for adapter in adapters.iter().filter(|adapter| adapter.state != AdapterState::Stopped) {
        if adapter.port < FIRST_UNPRIVILEGED {
            found.push(Warning::new(
                &format!("adapter {}", adapter.adapter_type),
                &format!("on port {}", adapter.port),
                "the server runs without privileges and cannot listen there; move the adapter to 1024 or more",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::reconcile::validate;

    fn server(extra: Value) -> ValidatedServer {
        let mut spec = json!({"storage": {"metadataSize": "1Gi"}, "service": {"type": "ClusterIP"}});
        if let (Some(spec), Value::Object(extra)) = (spec.as_object_mut(), extra) {
            spec.extend(extra);
        }
        validate(&json!({"metadata": {"name": "a", "namespace": "b", "uid": "c"}, "spec": spec})).unwrap()
    }

    fn adapter(adapter_type: &str, port: u16, state: AdapterState) -> ObservedAdapter {
        ObservedAdapter { adapter_type: adapter_type.to_owned(), port, state }
    }

    fn fields(server: &ValidatedServer, observed: Option<&[ObservedAdapter]>) -> Vec<String> {
        warnings(server, observed).into_iter().map(|warning| warning.field).collect()
    }

    #[test]
    fn the_default_file_port_of_smb_is_doubtful_only_until_the_adapter_is_found_elsewhere() {
        let server = server(json!({}));
        assert_eq!(fields(&server, None), Vec::<String>::new(), "nothing has been observed");
        assert_eq!(fields(&server, Some(&[])), ["spec.ports.smb"]);
        for state in [AdapterState::Running, AdapterState::Passage, AdapterState::Stopped] {
            assert_eq!(fields(&server, Some(&[adapter("smb", 1445, state)])), Vec::<String>::new());
        }
        assert_eq!(fields(&server, Some(&[adapter("nfs", 1445, AdapterState::Running)])), ["spec.ports.smb"]);
    }

    #[test]
    fn an_adapter_on_a_privileged_port_is_named_once() {
        let server = server(json!({}));
        assert_eq!(fields(&server, Some(&[adapter("smb", 445, AdapterState::Running)])), ["adapter smb"]);
        assert_eq!(fields(&server, Some(&[adapter("smb", 445, AdapterState::Stopped)])), ["spec.ports.smb"]);
        assert_eq!(
            fields(
                &server,
                Some(&[adapter("smb", 1445, AdapterState::Running), adapter("ftp", 21, AdapterState::Passage)])
            ),
            ["adapter ftp"]
        );
    }

    #[test]
    fn without_a_file_service_its_ports_do_not_matter() {
        assert_eq!(fields(&server(json!({"fileService": {"enabled": false}})), Some(&[])), Vec::<String>::new());
    }

    #[test]
    fn ports_of_the_container_itself_are_doubtful_below_1024_and_no_more_from_there() {
        let at = |port: u16| {
            fields(
                &server(json!({"controlPlane": {"port": port}, "metrics": {"enabled": true, "port": port + 1}})),
                None,
            )
        };
        assert_eq!(at(1022), ["spec.controlPlane.port", "spec.metrics.port"]);
        assert_eq!(at(1023), ["spec.controlPlane.port"]);
        assert_eq!(at(1024), Vec::<String>::new());
    }

    #[test]
    fn an_api_in_the_clear_is_doubtful_outside_the_cluster() {
        for (service_type, doubtful) in [("LoadBalancer", true), ("NodePort", true), ("ClusterIP", false)] {
            let server = server(json!({"service": {"type": service_type}}));
            assert_eq!(!warnings(&server, None).is_empty(), doubtful, "{service_type}");
        }
        for tls in [json!({"tls": true, "certSecretName": "c"}), json!({"caSecretName": "mesh"})] {
            let server = server(json!({"service": {"type": "LoadBalancer"}, "controlPlane": tls}));
            assert_eq!(fields(&server, None), Vec::<String>::new());
        }
    }

    #[test]
    fn names_of_tls_that_do_nothing_are_doubtful_each_by_itself() {
        for (control_plane, doubtful) in [
            (json!({"certSecretName": "c"}), vec!["spec.controlPlane.certSecretName"]),
            (json!({"clientCASecretName": "c"}), vec!["spec.controlPlane.clientCASecretName"]),
            (json!({"clientCertSecretName": "c"}), vec!["spec.controlPlane.clientCertSecretName"]),
            (json!({"clientCertSecretName": "c", "caSecretName": "d"}), vec![]),
            (json!({"tls": true, "certSecretName": "c", "clientCertSecretName": "d"}), vec![]),
            (
                json!({"tls": true, "certSecretName": "c", "clientCASecretName": "d"}),
                vec!["spec.controlPlane.clientCASecretName"],
            ),
            (
                json!({"tls": true, "certSecretName": "c", "clientCASecretName": "d", "clientCertSecretName": "e"}),
                vec![],
            ),
        ] {
            assert_eq!(fields(&server(json!({"controlPlane": control_plane})), None), doubtful, "{control_plane}");
        }
    }
}
