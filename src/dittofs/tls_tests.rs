//! TLS over real sockets, with a DittoFS stand-in that has certificates of its own CAs.

use std::time::Duration;

use dittofs_testbed::certs::{Authority, Issued};
use dittofs_testbed::dittofs::{ServerHandle, StandIn};
use reqwest::{Method, Url};
use tokio::time::Instant;

use super::*;
use crate::dittofs::error::{ApiError, Operation};
use crate::dittofs::http::{Call, Deadline, HttpClient, HttpSettings};
use crate::dittofs::url::endpoint;

const HERE: &[&str] = &["127.0.0.1"];
/// 2035-01-01 and 2034-01-01, when what the test's CAs sign expires.
const EXPIRIES: [Option<i64>; 2] = [Some(2_051_222_400), Some(2_019_686_400)];

struct Bed {
    stand_in: StandIn,
    server: ServerHandle,
    plain: HttpClient,
}

impl Bed {
    async fn new() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let stand_in = StandIn::start().await.expect("a stand-in");
        let settings = HttpSettings { proxy_from_env: false, ..HttpSettings::default() };
        let server = stand_in.server("team", "files");
        Self { server, plain: HttpClient::new(settings).expect("a client"), stand_in }
    }

    /// One whose server has a certificate.
    async fn with(certificate: &Issued, clients: Option<&str>) -> Self {
        let bed = Self::new().await;
        bed.server.set_tls(certificate, clients);
        bed
    }

    async fn ask(&self, http: &HttpClient) -> Result<u16, ApiError> {
        let base = self.stand_in.url("team", "files").replace("http://", "https://");
        let call = Call {
            operation: Operation::ListAdapters,
            method: Method::GET,
            url: endpoint(&Url::parse(&base).expect("a URL"), &["health"]),
            bearer: None,
            body: None,
            secrets: &[],
        };
        let deadline = Deadline::after(Instant::now(), Duration::from_secs(20));
        http.send(call, deadline).await.map(|answer| answer.status.as_u16())
    }

    async fn ask_with(&self, material: &TlsMaterial) -> Result<u16, ApiError> {
        self.ask(&self.plain.secured(material).expect("good material")).await
    }

    /// Category and text of the failure.
    async fn fails_with(&self, material: &TlsMaterial) -> (&'static str, String) {
        let error = self.ask_with(material).await.expect_err("no connection");
        (error.category(), error.to_string())
    }
}

fn pem(secret: &str, field: &'static str, key: &'static str, text: &str) -> Pem {
    Pem { secret: secret.to_owned(), field, key, bytes: text.as_bytes().to_vec() }
}

fn trusting(ca: &str) -> TlsMaterial {
    TlsMaterial { trusted: pem("the-ca", "caSecretName", "ca.crt", ca), shown: None, mutual: false }
}

fn showing(ca: &str, own: &Issued) -> TlsMaterial {
    let of = |key, text: &str| pem("own", "clientCertSecretName", key, text);
    let shown = Some((of("tls.crt", &own.certificate), of("tls.key", &own.key)));
    TlsMaterial { shown, mutual: true, ..trusting(ca) }
}

#[tokio::test]
async fn a_server_of_the_trusted_ca_is_asked_and_both_certificates_ends_are_known() {
    let (ca, clients) = (Authority::new("ca"), Authority::new("clients"));
    let bed = Bed::with(&ca.server(HERE), Some(clients.pem())).await;
    let http = bed.plain.secured(&showing(ca.pem(), &clients.client("operator"))).expect("good material");
    assert_eq!(http.expiries(), [None, EXPIRIES[1]], "the server was not seen yet");
    assert_eq!(bed.ask(&http).await.expect("an answer"), 200);
    assert_eq!(http.expiries(), EXPIRIES);
    assert_eq!(bed.plain.expiries(), [None, None]);
}

#[tokio::test]
async fn each_failure_has_its_category_and_says_what_to_do() {
    let (ca, other, clients) = (Authority::new("ca"), Authority::new("ca"), Authority::new("clients"));
    let good = ca.server(HERE);
    let table = [
        (good.clone(), None, trusting(other.pem()), "tls-untrusted", ["ca.crt of Secret the-ca", "caSecretName"]),
        (ca.expired(HERE), None, trusting(ca.pem()), "tls-expired", ["expired on 2021-01-01", "renew"]),
        (
            ca.server(&["files-api.team.svc", "other"]),
            None,
            trusting(ca.pem()),
            "tls-wrong-name",
            ["not for 127.0.0.1 (it is for files-api.team.svc, other)", "issue it for that name"],
        ),
        (
            good.clone(),
            Some(clients.pem()),
            TlsMaterial { mutual: true, ..trusting(ca.pem()) },
            "tls-client-certificate",
            ["the operator has none", "spec.controlPlane.clientCertSecretName"],
        ),
        (
            good.clone(),
            Some(clients.pem()),
            showing(ca.pem(), &other.client("operator")),
            "tls-client-certificate",
            ["Secret own", "spec.controlPlane.clientCASecretName"],
        ),
        (Issued::by_itself(HERE, true), None, trusting(ca.pem()), "tls-untrusted", ["127.0.0.1", "certificate"]),
    ];
    for (certificate, clients, material, category, parts) in table {
        let bed = Bed::with(&certificate, clients).await;
        let (found, text) = bed.fails_with(&material).await;
        assert_eq!(found, category, "{text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        assert_eq!(bed.fails_with(&material).await.1, text, "the same failure has the same text");
    }
}

#[tokio::test]
async fn what_does_not_speak_tls_is_not_sent_a_word_in_the_clear() {
    let bed = Bed::new().await;
    let (category, text) = bed.fails_with(&trusting(Authority::new("ca").pem())).await;
    assert_eq!(category, "tls-not-spoken", "{text}");
    assert_eq!(bed.server.requests().len(), 0);
}

#[tokio::test]
async fn a_certificate_that_signed_itself_is_trusted_by_itself_and_a_ca_is_no_server() {
    let alone = Issued::by_itself(HERE, false);
    let bed = Bed::with(&alone, None).await;
    assert_eq!(bed.ask_with(&trusting(&alone.certificate)).await.expect("an answer"), 200);
    let ca = Issued::by_itself(HERE, true);
    bed.server.set_tls(&ca, None);
    let (category, text) = bed.fails_with(&trusting(&ca.certificate)).await;
    assert_eq!(category, "tls-untrusted", "{text}");
    assert!(text.contains("CA:TRUE"), "{text}");
}

#[tokio::test]
async fn clients_of_one_setting_share_their_connections_and_go_when_nobody_holds_them() {
    let bed = Bed::new().await;
    let (one, other) = (Authority::new("one"), Authority::new("other"));
    let setting = |ca: &Authority| trusting(ca.pem()).digest();
    let make = || reqwest::Client::builder().tls_certs_only([]).build().map_err(drop);
    let shared = Shared::default();
    let first = shared.get(setting(&one), make).expect("a client");
    assert!(Arc::ptr_eq(&first, &shared.get(setting(&one), || Err(())).expect("the same")));
    assert!(!Arc::ptr_eq(&first, &shared.get(setting(&other), make).expect("another")));
    drop(first);
    assert!(shared.get(setting(&one), || Err(())).is_err(), "it was kept");
    let own = one.client("operator");
    assert_ne!(showing(one.pem(), &own).digest(), trusting(one.pem()).digest());
    assert_ne!(showing(one.pem(), &own).digest(), showing(one.pem(), &one.client("operator")).digest());
    drop(bed);
}

#[tokio::test]
async fn what_cannot_be_read_is_named_by_secret_field_and_key_and_never_quoted() {
    let bed = Bed::new().await;
    let ca = Authority::new("ca");
    let (own, another) = (ca.client("operator"), ca.client("another"));
    let with_key = |key: &str| showing(ca.pem(), &Issued { key: key.to_owned(), ..own.clone() });
    let broken_key = own.key.replacen("MI", "canary", 1);
    let cut = &ca.pem()[..ca.pem().len() / 2];
    for (material, parts) in [
        (trusting("canary"), ["Secret the-ca", "caSecretName", "its ca.crt holds no readable certificate"]),
        (trusting(cut), ["Secret the-ca", "caSecretName", "its ca.crt holds no readable certificate"]),
        (with_key("canary"), ["Secret own", "clientCertSecretName", "its tls.key holds no readable private key"]),
        (with_key(&broken_key), ["Secret own", "clientCertSecretName", "its tls.key"]),
        (with_key(&another.key), ["Secret own", "clientCertSecretName", "does not belong to its tls.crt"]),
        (
            showing(ca.pem(), &Issued { certificate: own.key.clone(), ..own.clone() }),
            ["Secret own", "clientCertSecretName", "its tls.crt holds no readable certificate"],
        ),
    ] {
        let error = bed.plain.secured(&material).expect_err("it cannot be read");
        let text = format!("{error}");
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        let all = format!("{text} {error:?} {material:?}");
        assert!(!all.contains("canary") && !all.contains("PRIVATE"), "{all}");
    }
}
