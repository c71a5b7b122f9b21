//! What the API server makes of a `DittoServer`: the table of admission cases, objects that an older CRD admitted, and
//! `kubectl apply -k deploy`. On a real control plane, without the operator.

#[path = "fixtures/admission_table.rs"]
mod admission_table;

use std::time::Duration;

use admission_table::{Expect, object, table};
use dittofs_testbed::cluster::{Cluster, ClusterOptions, Namespace, deploy, repository, resources, wait_until};
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

/// How long the API server may take to use a schema or a policy that it has been given.
const IN_USE: Duration = Duration::from_mins(1);
const CRD: &str = "dittoservers.dittofs.dittofs.com";
/// The finalizer of the operator written in Go.
const FINALIZER: &str = "dittofs.dittofs.com/finalizer";

/// What became of a write.
struct Answer {
    status: StatusCode,
    /// The error's text; empty when it was accepted.
    message: String,
    warnings: Vec<String>,
}

impl Answer {
    /// What differs from what was expected.
    fn differs(&self, expect: Expect, parts: &[String]) -> Option<String> {
        let Self { status, message, warnings } = self;
        let texts = match expect {
            Expect::Refused if *status != StatusCode::UNPROCESSABLE_ENTITY => {
                return Some(format!("{status}, {message}"));
            }
            Expect::Refused => message,
            _ if !status.is_success() => return Some(format!("{status}, {message}")),
            Expect::Accepted => return (!warnings.is_empty()).then(|| format!("warned: {warnings:?}")),
            Expect::Warned if warnings.len() != 1 => return Some(format!("{} warnings: {warnings:?}", warnings.len())),
            Expect::Warned => &warnings[0],
        };
        parts.iter().find(|part| !texts.contains(part.as_str())).map(|part| format!("{part:?} is missing in: {texts}"))
    }
}

/// A write with its warnings, which are headers.
async fn write(client: &kube::Client, method: Method, path: &str, object: &Value) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(kube::client::Body::from(serde_json::to_vec(object).expect("JSON")))
        .expect("a request");
    let answer = client.send(request).await.expect("the API server answers");
    let warnings = answer.headers().get_all("warning").iter();
    let warnings = warnings.map(|value| String::from_utf8_lossy(value.as_bytes()).replace("\\\"", "\"")).collect();
    let status = answer.status();
    let body = answer.into_body().collect_bytes().await.expect("a body");
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    let message = body["message"].as_str().filter(|_| !status.is_success()).unwrap_or_default().to_owned();
    Answer { status, message, warnings }
}

fn install_tls() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

async fn cluster_with_policy() -> (Cluster, kube::Client, Namespace) {
    install_tls();
    let manifests = vec![deploy("crd.yaml"), deploy("admission-policy.yaml")];
    let cluster = Cluster::start(ClusterOptions { manifests }).await.expect("a control plane");
    let client = cluster.client().await.expect("a client");
    let namespace = cluster.namespace("admission").await.expect("a namespace");
    let path = format!("{}?dryRun=All", resources::SERVERS.path(namespace.name()));
    let doubtful = object("probe", &json!({"storage": {"metadataSize": "1Gi"}}));
    wait_until("the policy to be in use", IN_USE, async || {
        let answer = write(&client, Method::POST, &path, &doubtful).await;
        if answer.warnings.is_empty() { Err(answer.message) } else { Ok(()) }
    })
    .await
    .expect("the policy warns");
    (cluster, client, namespace)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_judges_each_case_and_each_update_as_the_table_says() {
    let (_cluster, client, namespace) = cluster_with_policy().await;
    let path = resources::SERVERS.path(namespace.name());
    let mut wrong = Vec::new();
    for case in table().cases {
        let object = object(case.server_name.as_deref().unwrap_or("files"), &case.spec);
        let answer = write(&client, Method::POST, &format!("{path}?dryRun=All"), &object).await;
        wrong.extend(answer.differs(case.expect, &case.message).map(|text| format!("{}: {text}", case.name)));
    }
    for (number, update) in table().updates.into_iter().enumerate() {
        let name = update.server_name.clone().unwrap_or_else(|| format!("files-{number}"));
        let created = write(&client, Method::POST, &path, &object(&name, &update.before)).await;
        assert!(created.status.is_success(), "{}: {}", update.name, created.message);
        if let Some(volumes) = &update.volumes {
            let status = json!({"status": {"volumes": volumes}});
            let patched =
                namespace.cluster().patch_subresource(resources::SERVERS, namespace.name(), &name, "status", &status);
            patched.await.expect("the status is accepted");
        }
        let mut changed = namespace.get(resources::SERVERS, &name).await.expect("an answer").expect("it is there");
        changed["spec"] = update.after.clone();
        if update.after.is_null() {
            changed.as_object_mut().expect("an object").remove("spec");
        }
        let answer = write(&client, Method::PUT, &format!("{path}/{name}"), &changed).await;
        wrong.extend(answer.differs(update.expect, &update.message).map(|text| format!("{}: {text}", update.name)));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_leaves_the_spec_as_it_is_brings_no_warning() {
    let (_cluster, client, namespace) = cluster_with_policy().await;
    let path = resources::SERVERS.path(namespace.name());
    let doubtful = object("files", &json!({"storage": {"metadataSize": "1Gi"}, "controlPlane": {"port": 80}}));
    assert_eq!(write(&client, Method::POST, &path, &doubtful).await.warnings.len(), 2);
    let mut labelled = namespace.get(resources::SERVERS, "files").await.expect("an answer").expect("it is there");
    labelled["metadata"]["labels"] = json!({"team": "x"});
    let answer = write(&client, Method::PUT, &format!("{path}/files"), &labelled).await;
    assert_eq!((answer.message.as_str(), answer.warnings.len()), ("", 0), "{:?}", answer.warnings);
}

/// A CRD as it was before there were rules and bounds.
fn unguarded(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            for bound in ["pattern", "minimum", "maximum", "maxLength", "minLength", "maxItems", "enum"] {
                // A property may have the name of a bound.
                if map.get(bound).is_some_and(|value| !value.is_object()) {
                    map.remove(bound);
                }
            }
            map.remove("x-kubernetes-validations");
            map.values_mut().for_each(unguarded);
        }
        Value::Array(items) => items.iter_mut().for_each(unguarded),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_an_older_crd_admitted_takes_status_and_gives_up_its_finalizer() {
    install_tls();
    let cluster = Cluster::start(ClusterOptions::bare()).await.expect("a control plane");
    let client = cluster.client().await.expect("a client");
    let text = std::fs::read_to_string(deploy("crd.yaml")).expect("the CRD");
    let today: Value = serde_yaml_ng::from_str(&text).expect("the CRD is YAML");
    let mut older = today.clone();
    let schema = older.pointer_mut("/spec/versions/0/schema/openAPIV3Schema").expect("a schema");
    schema.as_object_mut().expect("an object").remove("required");
    unguarded(schema);
    cluster.create(resources::CRDS, "", &older).await.expect("the older CRD is accepted");

    let namespace = cluster.namespace("grandfathered").await.expect("a namespace");
    let path = resources::SERVERS.path(namespace.name());
    let dry_run = format!("{path}?dryRun=All");
    let probe = object("9files", &json!({"storage": {"metadataSize": "1Gi"}}));
    wait_until("the resource to be served", IN_USE, async || {
        let list = namespace.list(resources::SERVERS, "").await;
        list.map(|_| ()).map_err(|error| error.to_string())
    })
    .await
    .expect("it is served");
    let mut servers = Vec::new();
    for (number, old) in table().grandfathered.into_iter().enumerate() {
        let name = old.server_name.clone().unwrap_or_else(|| format!("old-{number}"));
        let mut server = object(&name, &old.spec);
        server["metadata"]["finalizers"] = json!([FINALIZER]);
        let created = write(&client, Method::POST, &path, &server).await;
        assert!(created.status.is_success(), "{}: {}", old.name, created.message);
        servers.push((name, old));
    }

    let mut upgraded = cluster.get(resources::CRDS, "", CRD).await.expect("an answer").expect("it is there");
    upgraded["spec"] = today["spec"].clone();
    cluster.replace(resources::CRDS, "", &upgraded).await.expect("the CRD of today is accepted");
    wait_until("the rules of today to be in force", IN_USE, async || {
        let answer = write(&client, Method::POST, &dry_run, &probe).await;
        if answer.status.is_success() { Err("a bad name is accepted".to_owned()) } else { Ok(()) }
    })
    .await
    .expect("they come into force");

    let mut wrong = Vec::new();
    for (name, old) in servers {
        let mut again = object(&name, &old.spec);
        again["metadata"] = json!({"name": old.server_name.unwrap_or_else(|| "new".to_owned())});
        let today = write(&client, Method::POST, &dry_run, &again).await;
        if today.status != StatusCode::UNPROCESSABLE_ENTITY && today.status != StatusCode::CONFLICT {
            wrong.push(format!("{}: would be created today, {}", old.name, today.status));
        }
        let result = write_as_the_operator_does(&namespace, &name).await;
        wrong.extend(result.err().map(|error| format!("{}: {error}", old.name)));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// A status, with volumes that have more or less than the spec says, a label, a deletion, and the end of the finalizer.
async fn write_as_the_operator_does(namespace: &Namespace, name: &str) -> Result<(), String> {
    let said = |what: &'static str| move |error| format!("{what}: {error}");
    for (phase, size) in [("Failed", "90Ti"), ("Pending", "1Mi")] {
        let volumes = json!({"metadata": size, "content": size, "controlplane": size});
        let status = json!({"status": {"observedGeneration": 1, "phase": phase, "activeAdapters": "", "volumes": volumes, "conditions": [{
            "type": "Ready", "status": "False", "reason": "SpecInvalid", "message": "told",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]}});
        let written = namespace
            .cluster()
            .patch_subresource(resources::SERVERS, namespace.name(), name, "status", &status)
            .await
            .map_err(said("status"))?;
        if written["status"]["phase"] != phase {
            return Err(format!("the status is {}", written["status"]));
        }
    }
    let label = json!({"metadata": {"labels": {"seen": "yes"}}});
    namespace.patch(resources::SERVERS, name, &label).await.map_err(said("label"))?;
    namespace.delete(resources::SERVERS, name).await.map_err(said("deletion"))?;
    let released = json!({"metadata": {"finalizers": null}});
    namespace.patch(resources::SERVERS, name, &released).await.map_err(said("finalizer"))?;
    match namespace.get(resources::SERVERS, name).await.map_err(said("get"))? {
        None => Ok(()),
        Some(left) => Err(format!("still there: {left}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_apply_k_deploy_installs_an_operator_whose_pod_a_restricted_namespace_admits() {
    install_tls();
    let cluster = Cluster::start(ClusterOptions::bare()).await.expect("a control plane");
    let path = |file: &str| repository().join("deploy").join(file).to_string_lossy().into_owned();
    let folder = path("");
    let printed = cluster.kubectl_ok(&["apply", "-k", &folder]).await.expect("everything is applied");
    for what in ["namespace/dittofs-system", "customresourcedefinition", "clusterrole", "deployment.apps", "policy"] {
        assert!(printed.contains(what), "{what}: {printed}");
    }
    // A second time changes nothing: no default of the API server is fought over.
    let again = cluster.kubectl_ok(&["apply", "-k", &folder]).await.expect("everything is applied again");
    assert!(again.lines().count() > 6 && again.lines().all(|line| line.ends_with("unchanged")), "{again}");
    wait_until("the operator's pod to be admitted", IN_USE, async || {
        let pods = cluster.list(resources::PODS, "dittofs-system", "").await.map_err(|error| error.to_string())?;
        if pods.len() == 1 { Ok(()) } else { Err(format!("{} pods", pods.len())) }
    })
    .await
    .expect("a pod is made");
    for sample in ["samples/dittoserver.yaml", "samples/dittoserver-postgres.yaml"] {
        let output = cluster.kubectl(&["apply", "--dry-run=server", "-f", &path(sample)]).await.expect("kubectl runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{sample}: {said}");
    }
}
