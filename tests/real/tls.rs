//! TLS of the REST API: the default address, `https://NAME-api.NAMESPACE.svc…`, with the stand-in as the proxy behind
//! which all of them are. Names are checked, CAs are real, certificates change under a running operator.

use std::time::Instant;

use dittofs_testbed::certs::{Authority, Issued};
use dittofs_testbed::cluster::resources;
use dittofs_testbed::dittofs::{Mode, Scope};
use serde_json::{Value, json};

use crate::look::{LATER, container, hash};
use crate::support::Bed;

const BOTH: [(&str, u64); 2] = [("nfs", 12049), ("smb", 1445)];
/// The operator's own default.
const AT_SERVICES: &str = "http://{name}-api.{namespace}.svc.cluster.local:{port}";
const NFS: [(&str, u64); 1] = [("nfs", 12049)];

/// A bed whose operator asks each server at its Service's name, through the stand-in.
async fn at_services(test: &str) -> Bed {
    let mut bed = Bed::idle(test).await;
    let mut options = bed.options();
    AT_SERVICES.clone_into(&mut options.api_url_template);
    let proxy = format!("http://{}", bed.world.stand_in().address());
    options.env.extend(["HTTP_PROXY", "HTTPS_PROXY"].map(|name| (name.to_owned(), proxy.clone())));
    bed.world.start_operator(options).await.expect("the operator starts");
    bed
}

impl Bed {
    /// The host of a server's API.
    fn host(&self, name: &str) -> String {
        format!("{name}-api.{}.svc.cluster.local", self.world.namespace().name())
    }

    /// A certificate for a server's API.
    fn issue(&self, ca: &Authority, name: &str) -> Issued {
        ca.server(&[&self.host(name)])
    }

    /// Makes a certificate's Secret, or changes it, as cert-manager does.
    async fn certificate(&self, secret: &str, issued: &Issued, ca: &str) {
        let data = [("tls.crt", issued.certificate.as_str()), ("tls.key", &issued.key), ("ca.crt", ca)];
        self.data(secret, &data).await;
    }

    async fn data(&self, secret: &str, data: &[(&str, &str)]) {
        let namespace = self.world.namespace();
        if namespace.get(resources::SECRETS, secret).await.expect("an answer").is_none() {
            namespace.secret(secret, data).await.expect("a Secret");
            return;
        }
        let data: serde_json::Map<String, Value> =
            data.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        namespace.patch(resources::SECRETS, secret, &json!({"stringData": data})).await.expect("a changed Secret");
    }

    /// The operator is the process that was started first.
    fn assert_one_operator(&self) {
        assert_eq!(self.world.operator().starts().len(), 1);
    }
}

fn spec(control_plane: &Value) -> Value {
    json!({
        "controlPlane": control_plane, "service": {"type": "LoadBalancer"}, "rollout": {"onSpecChange": "WhenNeeded"},
        "adapterDiscovery": {"pollingInterval": "1s"},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_tls_is_probed_and_followed_over_it_and_its_new_certificate_too() {
    let bed = at_services("tls").await;
    let (ca, next) = (Authority::new("ca"), Authority::new("ca"));
    let issued = bed.issue(&ca, "files");
    bed.dittofs("files").set_tls(&issued, None);
    bed.certificate("files-cert", &issued, ca.pem()).await;
    let mut server = spec(&json!({"tls": true, "certSecretName": "files-cert"}));
    server["ports"] = json!({"nfs": 2049, "smb": 4450});
    bed.ready_server("files", &server).await;
    bed.wait_adapter_services("files", &BOTH).await;
    bed.wait_condition("files", "Authenticated", "True", "AuthenticationSucceeded").await;

    let config = bed.get(resources::CONFIG_MAPS, "files-config").await;
    let yaml = config["data"]["config.yaml"].as_str().expect("a config").to_owned();
    for line in ["cert_file: \"/tls/tls.crt\"", "key_file: \"/tls/tls.key\""] {
        assert!(yaml.contains(line), "{yaml}");
    }
    let set = bed.set("files").await;
    let pod = &set["spec"]["template"]["spec"];
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(container(pod)[probe]["httpGet"]["scheme"], "HTTPS", "{probe}");
    }
    let volumes = pod["volumes"].as_array().expect("volumes");
    let tls = volumes.iter().find(|volume| volume["name"] == "tls").expect("the certificate");
    assert_eq!((&tls["secret"]["secretName"], &tls["secret"]["defaultMode"]), (&json!("files-cert"), &json!(0o440)));
    let credentials = bed.get(resources::SECRETS, "files-operator-credentials").await;
    assert!(credentials["data"]["server-url"].as_str().is_some_and(|url| url.starts_with("aHR0cHM6Ly9")), "https://");
    let warnings = bed.world.server("files").await.expect("the server")["status"]["conditions"].to_string();
    assert!(!warnings.contains("not encrypted"), "{warnings}");

    // A CA that is only added to the Secret is nothing to the pod.
    let both = format!("{}{}", ca.pem(), next.pem());
    bed.data("files-cert", &[("ca.crt", &both)]).await;
    bed.wait_polls("files", 2).await;
    assert_eq!(hash(&bed.set("files").await), hash(&set));

    // Another certificate, of another CA: one restart of the server, none of the operator.
    let issued = bed.issue(&next, "files");
    bed.certificate("files-cert", &issued, next.pem()).await;
    bed.wait_starts(2).await;
    assert_ne!(hash(&bed.set("files").await), hash(&set));
    bed.dittofs("files").set_tls(&issued, None);
    bed.wait_polls("files", 2).await;
    bed.dittofs("files").stop_adapter("smb");
    bed.wait_adapter_services("files", &NFS).await;
    bed.wait_condition("files", "Authenticated", "True", "AuthenticationSucceeded").await;
    bed.assert_one_operator();
    bed.finish(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_mutual_tls_the_operator_shows_its_certificate_and_each_next_one() {
    let bed = at_services("mutual-tls").await;
    let (ca, clients, next) = (Authority::new("ca"), Authority::new("clients"), Authority::new("clients"));
    let issued = bed.issue(&ca, "files");
    bed.dittofs("files").set_tls(&issued, Some(clients.pem()));
    bed.certificate("files-cert", &issued, ca.pem()).await;
    bed.data("clients-ca", &[("ca.crt", clients.pem())]).await;
    bed.certificate("operator-cert", &clients.client("operator"), clients.pem()).await;

    // As the Go operator takes it: without a certificate for the operator.
    let server = spec(&json!({"tls": true, "certSecretName": "files-cert", "clientCASecretName": "clients-ca"}));
    bed.world.apply_server("files", &server).await.expect("the server is accepted");
    let remedy = "spec.controlPlane.clientCertSecretName";
    bed.wait_message("files", "Authenticated", "False", remedy).await;
    bed.wait_condition("files", "Authenticated", "False", "AuthenticationFailed").await;
    bed.wait_message("files", "Warnings", "True", remedy).await;
    let set = bed.set("files").await;
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let probe = &container(&set["spec"]["template"]["spec"])[probe];
        assert!(probe["httpGet"].is_null() && probe["tcpSocket"]["port"] == "api", "{probe}");
    }
    let config = bed.get(resources::CONFIG_MAPS, "files-config").await;
    assert!(config["data"]["config.yaml"].as_str().is_some_and(|yaml| yaml.contains("/tls-client-ca/ca.crt")));

    bed.patch_spec("files", &json!({"controlPlane": {"clientCertSecretName": "operator-cert"}})).await;
    bed.world.wait_ready("files").await.expect("the operator gets in");
    bed.wait_adapter_services("files", &BOTH).await;

    // The server's clients get another CA: the operator's next certificate needs no restart of anything.
    bed.dittofs("files").set_tls(&issued, Some(next.pem()));
    bed.wait_message("files", "Authenticated", "False", "does not take the operator's certificate").await;
    bed.certificate("operator-cert", &next.client("operator"), next.pem()).await;
    bed.wait_condition("files", "Authenticated", "True", "AuthenticationSucceeded").await;
    bed.dittofs("files").stop_adapter("smb");
    bed.wait_adapter_services("files", &NFS).await;
    bed.assert_one_operator();
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wrong_certificate_is_told_with_its_remedy_and_healed() {
    let bed = at_services("tls-wrong").await;
    let (ca, other) = (Authority::new("ca"), Authority::new("ca"));
    let name = |server: &str| bed.host(server);
    let wrong = [
        ("untrusted", bed.issue(&other, "untrusted"), "tls-untrusted", "is not signed by what is trusted".to_owned()),
        ("expired", ca.expired(&[&name("expired")]), "tls-expired", "expired on 2021-01-01; renew it".to_owned()),
        ("elsewhere", ca.server(&["files.example"]), "tls-wrong-name", format!("not for {}", name("elsewhere"))),
    ];
    for (server, issued, ..) in &wrong {
        bed.dittofs(server).set_tls(issued, None);
        bed.certificate(&format!("{server}-cert"), issued, ca.pem()).await;
        let spec = spec(&json!({"tls": true, "certSecretName": format!("{server}-cert")}));
        bed.world.apply_server(server, &spec).await.expect("the server is accepted");
    }
    for (server, _, category, text) in &wrong {
        bed.wait_message(server, "Authenticated", "False", text).await;
        bed.wait_condition(server, "Authenticated", "False", "AuthenticationFailed").await;
        bed.world
            .wait_until(&format!("{category} in the log"), LATER, async || {
                let logs = bed.world.operator().logs();
                let told = logs.iter().any(|line| line.contains(category) && line.contains(*server));
                if told { Ok(()) } else { Err(format!("{} lines", logs.len())) }
            })
            .await
            .expect("the log says so");
        assert!(bed.dittofs(server).requests().is_empty(), "nothing was sent to it");
    }
    // Each is started anew with the certificate that it should have had, signed by the CA that is trusted already.
    for (server, ..) in &wrong {
        bed.dittofs(server).set_tls(&bed.issue(&ca, server), None);
        bed.world.wait_ready(server).await.expect("it is healed");
        bed.wait_adapter_services(server, &BOTH).await;
    }
    bed.assert_one_operator();
    bed.finish(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_of_tls_is_named_and_nothing_is_started_or_changed_without_it() {
    let bed = at_services("tls-missing").await;
    let ca = Authority::new("ca");
    let issued = bed.issue(&ca, "files");
    bed.dittofs("files").set_tls(&issued, None);
    let server = spec(&json!({"tls": true, "certSecretName": "files-cert"}));
    bed.world.apply_server("files", &server).await.expect("the server is accepted");
    bed.wait_message("files", "ConfigReady", "False", "files-cert").await;
    bed.wait_message("files", "Authenticated", "False", "Secret files-cert").await;
    assert!(bed.world.stateful_set("files").await.is_err(), "there is no hash yet");
    bed.certificate("files-cert", &issued, ca.pem()).await;
    bed.world.wait_ready("files").await.expect("it starts");
    bed.wait_adapter_services("files", &BOTH).await;

    // Taken away from a running server: it runs on as it is, and status says what is missing.
    let before = hash(&bed.set("files").await).to_owned();
    bed.world.namespace().delete(resources::SECRETS, "files-cert").await.expect("deleted");
    bed.wait_condition("files", "ConfigReady", "False", "SecretMissing").await;
    bed.wait_message("files", "Authenticated", "False", "Secret files-cert").await;
    assert_eq!(hash(&bed.set("files").await), before);
    bed.certificate("files-cert", &issued, ca.pem()).await;
    bed.world.wait_ready("files").await.expect("it is ready again");
    bed.assert_one_operator();
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_tls_fails_is_let_go_within_its_minute_and_says_what_stood_in_the_way() {
    let bed = at_services("tls-farewell").await;
    let ca = Authority::new("ca");
    let names = ["expired", "silent", "bare"];
    for name in names {
        let issued = bed.issue(&ca, name);
        bed.dittofs(name).set_tls(&issued, None);
        let secret = format!("{name}-cert");
        bed.certificate(&secret, &issued, ca.pem()).await;
        bed.ready_server(name, &spec(&json!({"tls": true, "certSecretName": secret}))).await;
        bed.wait_condition(name, "Authenticated", "True", "AuthenticationSucceeded").await;
    }
    bed.dittofs("expired").set_tls(&ca.expired(&[&bed.host("expired")]), None);
    bed.dittofs("silent").set_mode(Mode::Hang, Scope::All);
    // What the operator is to trust is in no Secret any more.
    bed.world.namespace().delete(resources::SECRETS, "bare-cert").await.expect("deleted");
    bed.wait_message("bare", "Authenticated", "False", "Secret bare-cert").await;
    bed.wait_message("expired", "Authenticated", "False", "expired on 2021-01-01").await;
    for name in names {
        bed.world.namespace().delete(resources::SERVERS, name).await.expect("the deletion is accepted");
    }
    let start = Instant::now();
    for name in names {
        bed.wait_message(name, "Ready", "False", "the operator's account at the server").await;
    }
    for (name, why) in names.into_iter().zip(["expired on 2021-01-01", "no full answer in time", "Secret bare-cert"]) {
        bed.world
            .wait_until(&format!("{name} to be gone"), LATER * 2, async || {
                match bed.world.namespace().get(resources::SERVERS, name).await {
                    Ok(None) => Ok(()),
                    Ok(Some(server)) => Err(server["status"].to_string()),
                    Err(error) => Err(error.to_string()),
                }
            })
            .await
            .expect("it goes");
        assert!((50..80).contains(&start.elapsed().as_secs()), "{name}: {:?}", start.elapsed());
        bed.wait_event("CleanupTimeout", why).await;
        bed.wait_gone(resources::STATEFUL_SETS, name).await;
        bed.wait_gone(resources::SECRETS, &format!("{name}-operator-credentials")).await;
        for secret in ["jwt-secret", "admin-bootstrap-credentials"] {
            bed.get(resources::SECRETS, &format!("{name}-{secret}")).await;
        }
        bed.get(resources::CLAIMS, &format!("metadata-{name}-0")).await;
    }
    bed.get(resources::SECRETS, "expired-cert").await;
    bed.finish(3).await;
}
