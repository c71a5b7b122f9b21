//! The webhook as the API server meets it: questions over TLS, look-ups over a scripted API server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dittofs_testbed::certs::Authority;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::actors::testing::Bench;
use crate::cluster::scripted::{Reply, Server};
use crate::telemetry::metrics::Format;

const PATH: &str = "/ask";

struct Hook {
    bench: Bench,
    _serving: Serving,
    _files: tempfile::TempDir,
    client: reqwest::Client,
    url: String,
}

/// A webhook of the operator of `namespace`, whose look-ups `answer` answers.
async fn hook(namespace: Option<&str>, answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Hook {
    let bench = Bench::new();
    let server = Server::new(move |asked, _| answer(&asked.path));
    let ca = Authority::new("ca");
    let issued = ca.server(&["localhost"]);
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("tls.crt"), &issued.certificate).unwrap();
    std::fs::write(files.path().join("tls.key"), &issued.key).unwrap();
    let settings = Settings {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        path: PATH.to_owned(),
        cert_dir: files.path().to_owned(),
    };
    let cluster = Cluster::new(server.client());
    let serving = serve(settings, &bench.deps, cluster, namespace.map(str::to_owned)).await.unwrap();
    let root = reqwest::Certificate::from_pem(ca.pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([root]).build().unwrap();
    let url = format!("https://localhost:{}", serving.bound.port());
    Hook { bench, _serving: serving, _files: files, client, url }
}

fn question(operation: &str, old: &Value, new: &Value) -> Value {
    let group = json!({"group": "dittofs.dittofs.com", "version": "v1alpha1", "kind": "DittoServer"});
    let resource = json!({"group": "dittofs.dittofs.com", "version": "v1alpha1", "resource": "dittoservers"});
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "ask-1", "kind": group, "resource": resource, "name": "files", "namespace": "team",
            "operation": operation, "userInfo": {"username": "alice"}, "object": new, "oldObject": old,
            "dryRun": false, "options": null,
        },
    })
}

fn server(secret: &str) -> Value {
    json!({
        "apiVersion": "dittofs.dittofs.com/v1alpha1", "kind": "DittoServer",
        "metadata": {"namespace": "elsewhere", "name": "files", "uid": "u"},
        "spec": {
            "storage": {"metadataSize": "1Gi"},
            "identity": {"jwt": {"secretRef": {"name": secret, "key": "jwt"}}},
        },
    })
}

impl Hook {
    async fn send(&self, path: &str, body: String) -> (u16, Value) {
        let sent =
            self.client.post(format!("{}{path}", self.url)).header("content-type", "application/json").body(body);
        let answer = sent.send().await.expect("an answer");
        let code = answer.status().as_u16();
        (code, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    }

    async fn ask(&self, question: &Value) -> Value {
        let (code, answer) = self.send(PATH, question.to_string()).await;
        assert_eq!((code, &answer["response"]["uid"]), (200, &json!("ask-1")), "{answer}");
        assert_eq!(
            (&answer["kind"], &answer["apiVersion"]),
            (&json!("AdmissionReview"), &json!("admission.k8s.io/v1"))
        );
        answer["response"].clone()
    }

    fn counted(&self, operation: &str, verdict: &str) -> u32 {
        let text = self.bench.deps.metrics.encode(Format::Prometheus).unwrap();
        let name =
            format!("dittofs_operator_admission_reviews_total{{operation=\"{operation}\",verdict=\"{verdict}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap()
    }
}

fn run<F: Future>(test: F) -> F::Output {
    crate::actors::testing::run_in_real_time(test)
}

#[test]
fn a_creation_is_refused_in_the_namespace_of_the_request_and_let_through_once_all_is_there() {
    run(async {
        let there = Arc::new(AtomicUsize::new(0));
        let seen = there.clone();
        let hook = hook(None, move |path| {
            assert!(path.starts_with("/api/v1/namespaces/team/") || path.contains("/namespaces/team/"), "{path}");
            if path.ends_with("/secrets/keys") && seen.load(Ordering::Relaxed) > 0 {
                return Reply::Json(200, json!({"metadata": {"name": "keys"}, "data": {"jwt": "Y2FuYXJ5LTQ3MTE="}}));
            }
            Reply::status(404, "NotFound")
        })
        .await;
        let ask = question("CREATE", &Value::Null, &server("keys"));
        let answer = hook.ask(&ask).await;
        assert_eq!((&answer["allowed"], &answer["status"]["code"]), (&json!(false), &json!(422)));
        let message = answer["status"]["message"].as_str().unwrap();
        assert!(message.contains("spec.identity.jwt.secretRef is \"keys\"") && message.contains("create it first"));
        assert_eq!(answer["status"]["details"]["causes"][0]["field"], "spec.identity.jwt.secretRef");
        there.store(1, Ordering::Relaxed);
        let answer = hook.ask(&ask).await;
        assert_eq!(answer["allowed"], json!(true), "{answer}");
        assert!(!answer.to_string().contains("canary") && !answer.to_string().contains("Y2FuYXJ5"));
        assert_eq!((hook.counted("create", "refused"), hook.counted("create", "allowed")), (1, 1));
        // An update that leaves the broken field alone asks nobody.
        let mut next = server("gone");
        next["spec"]["replicas"] = json!(0);
        let answer = hook.ask(&question("UPDATE", &server("gone"), &next)).await;
        assert_eq!((&answer["allowed"], hook.counted("update", "nothing")), (&json!(true), 1));
    });
}

#[test]
fn look_ups_that_hang_end_long_before_the_api_server_gives_up_and_let_the_change_through_with_a_warning() {
    run(async {
        let hook =
            hook(None, |path| if path.contains("/secrets/") { Reply::Hang } else { Reply::status(404, "NotFound") })
                .await;
        let start = Instant::now();
        let answer = hook.ask(&question("CREATE", &Value::Null, &server("keys"))).await;
        assert!(start.elapsed() < Duration::from_millis(4500), "{:?}", start.elapsed());
        assert_eq!(answer["allowed"], json!(true));
        assert!(answer["warnings"][0].as_str().unwrap().contains("Secret keys"), "{answer}");
        assert_eq!(hook.counted("create", "unknown"), 1);
        // A burst of reviews that hang waits no longer than one.
        let start = Instant::now();
        let ask = question("CREATE", &Value::Null, &server("keys")).to_string();
        let burst = futures::future::join_all((0..60).map(|_| hook.send(PATH, ask.clone()))).await;
        assert!(start.elapsed() < Duration::from_millis(4800), "{:?}", start.elapsed());
        assert!(burst.iter().all(|(code, _)| [200, 503].contains(code)));
        assert!(burst.iter().any(|(code, _)| *code == 503) && hook.counted("other", "busy") > 0);
    });
}

#[test]
fn what_is_no_review_is_too_long_or_comes_to_another_path_is_refused_unread() {
    run(async {
        let hook = hook(None, |_| Reply::Unexpected).await;
        for body in ["", "{}", "null", "[1]", "{\"kind\": \"AdmissionReview\"}"] {
            assert_eq!(hook.send(PATH, body.to_owned()).await.0, 400, "{body}");
        }
        assert_eq!(hook.send("/validate-dittoserver", "{}".to_owned()).await.0, 404);
        assert_eq!(hook.send(PATH, "[".repeat(900 * 1024)).await.0, 400, "too deep");
        // Answered before it is read, which the sender may or may not live to see.
        let long = hook.client.post(format!("{}{PATH}", hook.url)).body(" ".repeat(1024 * 1024 + 1)).send().await;
        assert!(long.is_err() || long.is_ok_and(|answer| answer.status() == 413));
        assert_eq!(hook.counted("other", "unreadable"), 7);
        let plain = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = hook.url.replace("https", "http");
        assert!(plain.post(format!("{url}{PATH}")).body("{}").send().await.is_err(), "only over TLS");
    });
}

#[test]
fn what_is_not_a_dittoserver_of_a_served_namespace_is_let_through_unlooked() {
    run(async {
        let hook = hook(Some("team"), |_| Reply::Unexpected).await;
        let ask = question("CREATE", &Value::Null, &server("keys"));
        let changed = |path: &str, value: Value| {
            let mut ask = ask.clone();
            *ask.pointer_mut(path).unwrap() = value;
            ask
        };
        let mut status = ask.clone();
        status["request"]["subResource"] = json!("status");
        for ask in [
            changed("/request/namespace", json!("other")),
            changed("/request/resource/resource", json!("pods")),
            changed("/request/operation", json!("DELETE")),
            status,
        ] {
            assert_eq!(hook.ask(&ask).await["allowed"], json!(true), "{ask}");
        }
    });
}
