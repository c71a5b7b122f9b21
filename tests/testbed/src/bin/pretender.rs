//! A program with the command line of the operator that makes one server's objects, breaks the promise that `PRETEND`
//! names, if any, and then waits for SIGTERM. It is what the checker is tried with, against a real audit log.

use anyhow::Context as _;
use http::{Method, Request};
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::ExitCode;

const SERVERS: &str = "/apis/dittofs.dittofs.com/v1alpha1";

struct Pretender {
    client: kube::Client,
    namespace: String,
}

impl Pretender {
    async fn ask(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let content = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body)? };
        let request = Request::builder().method(method).uri(path).header("content-type", content).body(body)?;
        self.client.request(request).await.with_context(|| path.to_owned())
    }

    fn core(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/{rest}", self.namespace)
    }

    fn set(&self, rest: &str) -> String {
        format!("/apis/apps/v1/namespaces/{}/statefulsets{rest}", self.namespace)
    }

    fn server(&self, rest: &str) -> String {
        format!("{SERVERS}/namespaces/{}/dittoservers{rest}", self.namespace)
    }

    async fn status(&self, observed: i64) -> anyhow::Result<Value> {
        let status = json!({"status": {"observedGeneration": observed}});
        self.ask(Method::PATCH, &self.server("/files/status"), &status).await
    }

    async fn delete_adapter_service(&self, options: Value) -> anyhow::Result<()> {
        self.ask(Method::DELETE, &self.core("services/files-adapter-nfs"), &options).await.map(drop)
    }

    async fn change_label(&self, value: usize) -> anyhow::Result<Value> {
        let mut service = self.ask(Method::GET, &self.core("services/files-api"), &Value::Null).await?;
        service["metadata"]["labels"] = json!({"value": value.to_string()});
        self.ask(Method::PUT, &self.core("services/files-api"), &service).await
    }

    async fn run(&self, fault: &str) -> anyhow::Result<()> {
        let servers = self.ask(Method::GET, &self.server(""), &Value::Null).await?;
        let uid = &servers["items"][0]["metadata"]["uid"];
        let owner = json!([{"apiVersion": "dittofs.dittofs.com/v1alpha1", "kind": "DittoServer", "name": "files",
                            "uid": uid, "controller": true}]);
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "stringData": {"jwt-secret": "a-b-c-d-e-f-g-h"},
            "metadata": {"name": "files-jwt-secret", "labels": {"instance": "files"}}});
        self.ask(Method::POST, &self.core("secrets"), &secret).await?;
        let service = |name: &str, labels: Value| {
            json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 2049}]},
                "metadata": {"name": name, "labels": labels, "ownerReferences": owner}})
        };
        let labels = json!({"dittofs.io/adapter-service": "true", "dittofs.io/adapter-type": "nfs"});
        let adapter = self.ask(Method::POST, &self.core("services"), &service("files-adapter-nfs", labels)).await?;
        let api = self.ask(Method::POST, &self.core("services"), &service("files-api", json!({}))).await?;
        let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": "files", "ownerReferences": owner},
            "spec": {"serviceName": "files", "selector": {"matchLabels": {"a": "b"}}, "template": {
                "metadata": {"labels": {"a": "b"}, "annotations": {"dittofs.io/config-hash": "one"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
        self.ask(Method::POST, &self.set(""), &set).await?;
        let preconditions = json!({"preconditions": {"uid": adapter["metadata"]["uid"]}});
        match fault {
            "none" => {}
            "S1" => {
                futures::future::join_all((0..12).map(|value| self.change_label(value))).await;
            }
            "S2" => {
                // The StatefulSet's controller writes its status meanwhile.
                let mut attempts = 0;
                loop {
                    let mut set = self.ask(Method::GET, &self.set("/files"), &Value::Null).await?;
                    set["spec"]["template"]["metadata"]["annotations"]["dittofs.io/config-hash"] = json!("two");
                    attempts += 1;
                    match self.ask(Method::PUT, &self.set("/files"), &set).await {
                        Err(error) if attempts < 20 && format!("{error:#}").contains("Conflict") => {}
                        written => break written.map(drop)?,
                    }
                }
            }
            "S3 no uid" => self.delete_adapter_service(json!({})).await?,
            "S3 foreign" => {
                let mut decoy = self.ask(Method::GET, &self.core("services/decoy"), &Value::Null).await?;
                decoy["metadata"]["ownerReferences"] = owner.clone();
                self.ask(Method::PUT, &self.core("services/decoy"), &decoy).await?;
            }
            "S5" => self.delete_adapter_service(preconditions).await?,
            "S6 write" => {
                self.ask(Method::PUT, &self.core("services/files-api"), &api).await?;
            }
            "S6 list" => {
                self.ask(Method::GET, &self.server(""), &Value::Null).await?;
            }
            "S6 secrets" => {
                self.ask(Method::GET, &self.core("secrets"), &Value::Null).await?;
            }
            "S7" => {
                // Refused, as the account has no right to it; to ask is enough.
                let refused = self.ask(Method::GET, "/api/v1/namespaces/kube-system/services", &Value::Null).await;
                anyhow::ensure!(refused.is_err(), "rights in another namespace");
            }
            "S8" => println!("{{\"message\": \"made a secret: a-b-c-d-e-f-g-h\"}}"),
            "S9" => {
                self.status(7).await?;
            }
            other => anyhow::bail!("no such fault: {other}"),
        }
        if fault != "S9" {
            self.status(1).await?;
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(pretend())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, whatever RUST_BACKTRACE says.
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn pretend() -> anyhow::Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments: Vec<String> = std::env::args().collect();
    let value = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag).with_context(|| flag.to_owned())?;
        arguments.get(at + 1).cloned().with_context(|| flag.to_owned())
    };
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut config = kube::Config::infer().await?;
    config.default_retry = false;
    let client = kube::Client::try_from(config)?;
    let pretender = Pretender { client, namespace: value("--namespace")? };
    pretender.run(&std::env::var("PRETEND").unwrap_or_else(|_| "none".to_owned())).await?;

    let listener = std::net::TcpListener::bind(value("--health-addr")?)?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    terminated.recv().await;
    Ok(())
}
