//! TLS of the API: which Secrets are read and when, what follows a change of theirs, what is said while they are wrong.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use dittofs_testbed::certs::{Authority, Issued};
use serde_json::{Value, json};

use super::Bed;
use crate::actors::messages::CredentialsTouched;
use crate::actors::testing::api::Fault;
use crate::actors::testing::{eventually, key, run_in_real_time};
use crate::cluster::Kind;
use crate::reconcile::status::PollFact;
use crate::telemetry::metrics::Format;

const CERT: &str = "api-certificate";
const OWN: &str = "operator-certificate";

fn secret(name: &str, data: &[(&str, &str)]) -> Value {
    let data: serde_json::Map<String, Value> =
        data.iter().map(|(key, value)| ((*key).to_owned(), json!(BASE64_STANDARD.encode(value)))).collect();
    json!({"metadata": {"name": name}, "data": data})
}

/// A certificate's Secret as cert-manager writes it.
fn certificate(name: &str, issued: &Issued, ca: &Authority) -> Value {
    secret(name, &[("tls.crt", &issued.certificate), ("tls.key", &issued.key), ("ca.crt", ca.pem())])
}

fn here(ca: &Authority) -> Issued {
    ca.server(&["127.0.0.1"])
}

impl Bed {
    /// One whose server speaks TLS with a certificate of `ca`, and was observed over it.
    async fn over_tls(ca: &Authority) -> Self {
        let bed = Self::new().await;
        bed.server.set_tls(&here(ca), None);
        bed.bench.api.put(Kind::Secret, certificate(CERT, &here(ca), ca));
        bed.edit(|spec| spec["controlPlane"] = json!({"tls": true, "certSecretName": CERT}));
        eventually("the first observation", || bed.observations() == 1).await;
        bed
    }

    /// Changes a Secret and tells the poller, as the watch does.
    fn put_secret(&self, secret: Value) {
        self.bench.api.put(Kind::Secret, secret);
        self.address.do_send(CredentialsTouched);
    }

    /// How often a Secret was read.
    fn reads(&self, name: &str) -> usize {
        self.bench.api.requests("GET ").iter().filter(|asked| asked.path.ends_with(&format!("/secrets/{name}"))).count()
    }

    async fn says(&self, parts: &[&str]) {
        let told = || match self.fact() {
            Some(PollFact::Refused(text)) => parts.iter().all(|part| text.contains(part)),
            _ => false,
        };
        eventually(&format!("{parts:?} in {:?}", self.fact()), told).await;
    }
}

#[test]
fn a_server_with_tls_is_asked_over_it_and_its_secret_is_read_once_and_once_more_a_change() {
    run_in_real_time(async {
        let ca = Authority::new("ca");
        let bed = Bed::over_tls(&ca).await;
        bed.polls(2).await;
        assert!(bed.answered());
        assert_eq!(bed.reads(CERT), 1);
        bed.address.do_send(CredentialsTouched);
        bed.polls(2).await;
        assert_eq!(bed.reads(CERT), 2);
        assert!(bed.answered());
    });
}

#[test]
fn another_ca_and_certificate_are_followed_without_a_restart() {
    run_in_real_time(async {
        let (first, second) = (Authority::new("ca"), Authority::new("ca"));
        let bed = Bed::over_tls(&first).await;
        bed.server.set_tls(&here(&second), None);
        bed.says(&["not signed by what is trusted", CERT]).await;
        bed.put_secret(certificate(CERT, &here(&second), &second));
        eventually("an answer", || bed.answered()).await;
        assert_eq!(bed.observations(), 1, "nothing else was observed meanwhile");
    });
}

#[test]
fn a_missing_secret_or_key_is_named_and_taken_up_at_once_when_it_comes() {
    run_in_real_time(async {
        let bed = Bed::new().await;
        let ca = Authority::new("ca");
        bed.server.set_tls(&here(&ca), None);
        bed.edit(|spec| {
            spec["controlPlane"] = json!({"tls": true, "certSecretName": CERT});
            spec["adapterDiscovery"]["pollingInterval"] = json!("1h");
        });
        bed.says(&["Secret api-certificate", "spec.controlPlane.certSecretName", "does not exist"]).await;
        bed.put_secret(secret(CERT, &[("tls.key", "canary")]));
        bed.says(&["Secret api-certificate", "it has no key tls.crt"]).await;
        bed.put_secret(secret(CERT, &[("tls.crt", "canary")]));
        bed.says(&["Secret api-certificate", "its tls.crt holds no readable certificate"]).await;
        assert_eq!(bed.server.requests().len(), 0, "nothing was sent");
        bed.put_secret(certificate(CERT, &here(&ca), &ca));
        eventually("an answer", || bed.answered()).await;
        assert_eq!(bed.bench.api.reasons(), ["AuthProvisioned"], "a server that has not started is no trouble");
    });
}

#[test]
fn the_operators_certificate_is_shown_and_its_successor_followed() {
    run_in_real_time(async {
        let bed = Bed::new().await;
        let (ca, first, second) = (Authority::new("ca"), Authority::new("clients"), Authority::new("clients"));
        bed.server.set_tls(&here(&ca), Some(first.pem()));
        bed.bench.deps.metrics.server_came(&key());
        bed.bench.api.put(Kind::Secret, certificate(CERT, &here(&ca), &ca));
        let tls = json!({"tls": true, "certSecretName": CERT, "clientCASecretName": "clients-ca"});
        bed.edit(|spec| spec["controlPlane"] = tls.clone());
        bed.says(&["the operator has none", "spec.controlPlane.clientCertSecretName"]).await;
        bed.bench.api.put(Kind::Secret, certificate(OWN, &first.client("operator"), &first));
        bed.edit(|spec| spec["controlPlane"]["clientCertSecretName"] = json!(OWN));
        eventually("an answer", || bed.answered()).await;
        // Until 2035 and 2034.
        for (purpose, expires) in [("api", "2051222400.0"), ("api-client", "2019686400.0")] {
            let row = format!("certificate_expiry_timestamp_seconds{{purpose=\"{purpose}\"}} {expires}");
            let metrics = bed.bench.deps.metrics.encode(Format::Prometheus).expect("a page");
            assert!(metrics.contains(&row), "{row}");
        }
        bed.server.set_tls(&here(&ca), Some(second.pem()));
        bed.says(&["does not take", "Secret operator-certificate"]).await;
        bed.put_secret(certificate(OWN, &second.client("operator"), &second));
        eventually("an answer", || bed.answered()).await;
    });
}

#[test]
fn a_named_ca_wins_and_a_mesh_that_speaks_tls_is_asked_over_it() {
    run_in_real_time(async {
        let bed = Bed::new().await;
        let ca = Authority::new("mesh");
        bed.server.set_tls(&here(&ca), None);
        bed.bench.api.put(Kind::Secret, secret("mesh-ca", &[("ca.crt", ca.pem())]));
        bed.edit(|spec| spec["controlPlane"] = json!({"caSecretName": "mesh-ca", "certSecretName": CERT}));
        eventually("the first observation", || bed.observations() == 1).await;
        assert_eq!((bed.reads("mesh-ca"), bed.reads(CERT)), (1, 0));
    });
}

#[test]
fn while_the_api_server_is_away_the_server_is_watched_with_what_was_read_before() {
    run_in_real_time(async {
        let ca = Authority::new("ca");
        let bed = Bed::over_tls(&ca).await;
        bed.bench.api.fail(usize::MAX, "GET ", Fault::Status(503, "ServiceUnavailable"));
        bed.address.do_send(CredentialsTouched);
        bed.polls(2).await;
        assert!(bed.answered(), "{:?}", bed.fact());
        let reads = bed.reads(CERT);
        assert!(reads >= 2, "it is tried again");
        bed.bench.api.heal();
        eventually("it is read", || bed.reads(CERT) > reads).await;
        bed.polls(2).await;
        let reads = bed.reads(CERT);
        bed.polls(2).await;
        assert_eq!(bed.reads(CERT), reads, "and no more");
    });
}
