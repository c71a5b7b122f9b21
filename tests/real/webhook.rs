//! The optional admission webhook, asked by a real API server under the shipped rules: what it refuses, what it lets through,
//! its certificate renewed under it, and life without it.

use std::os::unix::fs::symlink;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dittofs_testbed::certs::{Authority, Issued};
use dittofs_testbed::cluster::{ApiError, Cluster, ClusterOptions, Resource, deploy, repository, resources};
use dittofs_testbed::free_port;
use http::Method;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::look::LATER;
use crate::support::Bed;

const HOST: &str = "127.0.0.1";
const PATH: &str = "/validate-a4c1f0";

/// A webhook of a test's own: asked for its namespace alone.
struct Hook {
    bed: Bed,
    files: tempfile::TempDir,
    versions: u32,
    configuration: String,
}

impl Hook {
    /// With an operator that presents `issued`, and an API server that trusts `ca`.
    async fn new(mut bed: Bed, ca: &Authority, issued: &Issued) -> Self {
        let configuration = format!("{}-webhook", bed.world.namespace().name());
        let files = tempfile::tempdir().expect("a directory");
        let address = format!("{HOST}:{}", free_port().expect("a port"));
        let mut options = bed.options();
        let directory = files.path().to_string_lossy().into_owned();
        let arguments = ["--webhook", "--webhook-address", &address, "--webhook-path", PATH];
        options.extra_args = arguments.map(str::to_owned).to_vec();
        options.env.push(("DITTOFS_WEBHOOK_CERT_DIR".to_owned(), directory));
        bed.world.start_operator(options).await.expect("the operator starts, and is ready without a certificate");
        bed.let_look_at_classes().await;
        let mut hook = Self { bed, files, versions: 0, configuration };
        hook.mount(&issued.certificate, &issued.key);
        hook.configure(&address, ca.pem()).await;
        hook
    }

    fn cluster(&self) -> &Cluster {
        self.bed.world.cluster()
    }

    /// The shipped configuration, at this address, for this test's namespace.
    async fn configure(&self, address: &str, ca: &str) {
        let text = std::fs::read_to_string(deploy("webhook/webhook.yaml")).expect("the manifest");
        let documents = serde_yaml_ng::Deserializer::from_str(&text);
        let mut documents = documents.map(|document| Value::deserialize(document).expect("YAML"));
        let kind = resources::VALIDATING_WEBHOOKS.kind;
        let mut shipped = documents.find(|document| document["kind"] == kind).expect("a configuration");
        shipped["metadata"] = json!({"name": self.configuration});
        let hook = &mut shipped["webhooks"][0];
        hook["clientConfig"] = json!({"url": format!("https://{address}{PATH}"), "caBundle": STANDARD.encode(ca)});
        let namespace = self.bed.world.namespace().name();
        hook["namespaceSelector"] = json!({"matchLabels": {"kubernetes.io/metadata.name": namespace}});
        let made = self.cluster().create(resources::VALIDATING_WEBHOOKS, "", &shipped).await;
        made.expect("the shipped configuration is accepted");
    }

    /// What the API server trusts from now on. It makes new connections for it.
    async fn trust(&self, authorities: &[&Authority]) {
        let bundle: String = authorities.iter().map(|ca| ca.pem()).collect();
        let change = json!([{
            "op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": STANDARD.encode(bundle)
        }]);
        let path = format!("{}/{}", resources::VALIDATING_WEBHOOKS.path(""), self.configuration);
        let patched = self.cluster().request(Method::PATCH, &path, "application/json-patch+json", Some(&change)).await;
        patched.expect("the configuration is changed");
    }

    /// Changes the mounted files as the kubelet does: another directory, and one link that turns.
    fn mount(&mut self, certificate: &str, key: &str) {
        let root = self.files.path();
        self.versions += 1;
        let version = format!("..{}", self.versions);
        std::fs::create_dir(root.join(&version)).expect("a directory");
        std::fs::write(root.join(&version).join("tls.crt"), certificate).expect("a file");
        std::fs::write(root.join(&version).join("tls.key"), key).expect("a file");
        symlink(&version, root.join("..new")).expect("a link");
        std::fs::rename(root.join("..new"), root.join("..data")).expect("the link turns");
        for name in ["tls.crt", "tls.key"] {
            if !root.join(name).exists() {
                symlink(Path::new("..data").join(name), root.join(name)).expect("a link");
            }
        }
    }

    /// What the API server says to the creation of such a server, without making it.
    async fn create(&self, name: &str, spec: &Value) -> Result<Value, ApiError> {
        let mut whole = json!({"storage": {"metadataSize": "1Gi"}});
        dittofs_testbed::world::merge(&mut whole, spec);
        let object = json!({
            "apiVersion": resources::SERVERS.api_version, "kind": resources::SERVERS.kind,
            "metadata": {"name": name}, "spec": whole,
        });
        let path = format!("{}?dryRun=All", resources::SERVERS.path(self.bed.world.namespace().name()));
        self.cluster().request(Method::POST, &path, "application/json", Some(&object)).await
    }

    /// Waits until the creation is refused with all of these words.
    async fn wait_refused(&self, name: &str, spec: &Value, words: &[&str]) {
        let what = format!("{name} to be refused with {words:?}");
        let refused = self.bed.world.wait_until(&what, LATER, async || match self.create(name, spec).await {
            Ok(_) => Err("it was let through".to_owned()),
            Err(ApiError::Refused { code: 422, message, .. }) if words.iter().all(|word| message.contains(word)) => {
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        });
        refused.await.expect("the webhook refuses");
    }

    /// Waits until the creation is let through.
    async fn wait_let_through(&self, name: &str, spec: &Value) {
        let what = format!("{name} to be let through");
        let through = self.bed.world.wait_until(&what, LATER, async || {
            self.create(name, spec).await.map(drop).map_err(|error| error.to_string())
        });
        through.await.expect("the webhook lets it through");
    }

    async fn wait_log(&self, text: &str) {
        let what = format!("{text:?} in the log");
        let found = self.bed.world.wait_until(&what, LATER, async || {
            let logs = self.bed.world.operator().logs();
            if logs.iter().any(|line| line.contains(text)) { Ok(()) } else { Err(format!("{} lines", logs.len())) }
        });
        found.await.expect("the log says so");
    }

    async fn finish(self, starts: usize) {
        let gone = self.cluster().delete(resources::VALIDATING_WEBHOOKS, "", &self.configuration).await;
        gone.expect("the configuration is taken away");
        self.bed.finish(starts).await;
    }
}

fn keys(name: &str, key: &str) -> Value {
    json!({"identity": {"jwt": {"secretRef": {"name": name, "key": key}}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_cluster_can_tell_is_refused_with_field_value_and_remedy_and_let_through_once_it_is_there() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // Classes and kinds of its own.
    let cluster = Cluster::start(ClusterOptions::default()).await.expect("a control plane");
    let ca = Authority::new("ca");
    let hook = Hook::new(Bed::on(&cluster, "webhook").await, &ca, &ca.server(&[HOST])).await;
    let namespace = hook.bed.world.namespace().clone();

    let field = "spec.identity.jwt.secretRef is \"keys\"";
    hook.wait_refused("files", &keys("keys", "jwt"), &[field, "no such Secret", "create it first"]).await;
    let ApiError::Refused { reason, .. } = hook.create("files", &keys("keys", "jwt")).await.expect_err("refused")
    else {
        panic!("no answer")
    };
    assert_eq!(reason, "Invalid");
    namespace.secret("keys", &[("other", "canary-of-a-value-that-is-read")]).await.expect("a Secret");
    hook.wait_refused("files", &keys("keys", "jwt"), &[field, "no key jwt", "put it there first"]).await;
    let value = json!({"stringData": {"jwt": "a-signing-key-of-thirty-two-characters-or-more"}});
    namespace.patch(resources::SECRETS, "keys", &value).await.expect("another key");
    hook.wait_let_through("files", &keys("keys", "jwt")).await;

    let fast = json!({"storage": {"storageClassName": "fast"}});
    let field = "spec.storage.storageClassName is \"fast\"";
    hook.wait_refused("files", &fast, &[field, "no StorageClass of that name", "create it first"]).await;
    let class = json!({"metadata": {"name": "fast"}, "provisioner": "controlplane.test/volumes"});
    cluster.create(resources::STORAGE_CLASSES, "", &class).await.expect("a class");
    hook.wait_let_through("files", &fast).await;

    let service = json!({"metadata": {"name": "files-api"}, "spec": {"ports": [{"port": 1}]}});
    namespace.create_object(resources::SERVICES, &service).await.expect("somebody's Service");
    let words = ["metadata.name is \"files\"", "Service files-api is there", "rename or remove it"];
    hook.wait_refused("files", &json!({}), &words).await;
    namespace.delete(resources::SERVICES, "files-api").await.expect("deleted");
    hook.wait_let_through("files", &json!({})).await;

    let percona = json!({"percona": {"enabled": true}});
    let words = ["spec.percona.enabled is true", "PerconaPGCluster", "install Percona's operator"];
    hook.wait_refused("files", &percona, &words).await;
    let text = std::fs::read_to_string(repository().join("tests/fixtures/percona/crd.yaml")).expect("the CRD");
    let crd: Value = serde_yaml_ng::from_str(&text).expect("the CRD is YAML");
    cluster.create(resources::CRDS, "", &crd).await.expect("the CRD is accepted");
    hook.wait_let_through("files", &percona).await;

    // Another namespace's Secret of that name is none.
    assert!(hook.create("files", &keys("../default/keys", "jwt")).await.is_err());
    hook.wait_log("admission refused a DittoServer").await;
    let logs = hook.bed.world.operator().logs();
    assert!(!logs.iter().any(|line| line.contains("canary-of-a-value")), "a value in the log");
    let refusals: Vec<&String> = logs.iter().filter(|line| line.contains("admission refused")).collect();
    assert!(!refusals.is_empty() && refusals.iter().all(|line| !line.contains("admin") && !line.contains(PATH)));
    hook.finish(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_something_missing_can_still_be_changed_and_deleted_and_is_refused_only_what_is_new() {
    let ca = Authority::new("ca");
    let hook = Hook::new(Bed::idle("webhook-ratchet").await, &ca, &ca.server(&[HOST])).await;
    hook.wait_refused("other", &keys("none", "jwt"), &["\"none\""]).await;
    let bed = &hook.bed;
    let namespace = bed.world.namespace().clone();
    namespace
        .secret("keys", &[("jwt", "a-signing-key-of-thirty-two-characters-or-more")])
        .await
        .expect("the user's Secret");
    let mut spec = keys("keys", "jwt");
    spec["rollout"] = json!({"onSpecChange": "WhenNeeded"});
    bed.ready_server("files", &spec).await;
    let finalizers = &bed.get(resources::SERVERS, "files").await["metadata"]["finalizers"];
    assert!(finalizers.as_array().is_some_and(|all| !all.is_empty()), "the operator's own writes pass");

    // Its Secret goes: the status can say so, and everything else goes on.
    namespace.delete(resources::SECRETS, "keys").await.expect("deleted");
    bed.wait_condition("files", "ConfigReady", "False", "SecretMissing").await;
    bed.wait_message("files", "ConfigReady", "False", "spec.identity.jwt.secretRef").await;
    bed.patch_spec("files", &json!({"adapterDiscovery": {"stopGracePeriod": "40s"}})).await;
    let held = json!(["dittofs.dittofs.com/finalizer", "example.com/hold"]);
    bed.patch_meta(resources::SERVERS, "files", &json!({"labels": {"team": "a"}, "finalizers": held})).await;
    let change = json!({"spec": keys("nowhere", "jwt")});
    let refused = namespace.patch(resources::SERVERS, "files", &change).await.expect_err("what is new is refused");
    assert!(refused.to_string().contains("spec.identity.jwt.secretRef is \"nowhere\""), "{refused}");
    let change = json!({"spec": {"metrics": {"enabled": true, "bearerTokenSecret": {"name": "no", "key": "token"}}}});
    let refused = namespace.patch(resources::SERVERS, "files", &change).await.expect_err("what is new is refused");
    let text = refused.to_string();
    assert!(text.contains("spec.metrics.bearerTokenSecret is \"no\"") && !text.contains("jwt"), "{text}");

    // A server of that name that is being deleted takes any write, and goes.
    namespace.delete(resources::SERVERS, "files").await.expect("the deletion is accepted");
    bed.wait_object(resources::SERVERS, "files", "to be on its way out", |server| {
        if server["metadata"]["deletionTimestamp"].is_string() { Ok(()) } else { Err("it is not".to_owned()) }
    })
    .await;
    bed.patch_meta(resources::SERVERS, "files", &json!({"finalizers": []})).await;
    bed.wait_gone(resources::SERVERS, "files").await;
    hook.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_certificate_is_renewed_without_a_restart_a_broken_one_changes_nothing_and_without_it_nothing_is_refused() {
    let (ca, other, next) = (Authority::new("ca"), Authority::new("other"), Authority::new("next"));
    let issued = ca.server(&[HOST]);
    let mut hook = Hook::new(Bed::idle("webhook-certificate").await, &ca, &issued).await;
    let spec = keys("none", "jwt");
    let words = ["spec.identity.jwt.secretRef is \"none\""];
    hook.wait_refused("files", &spec, &words).await;

    // Half a renewal: the certificate of one pair and the key of another.
    hook.mount(&next.server(&[HOST]).certificate, &issued.key);
    hook.wait_log("tls.key does not belong to tls.crt").await;
    // An API server that does not trust it asks it nothing, and lets the change through; one that does makes new
    // connections, which get the old certificate.
    hook.trust(&[&next]).await;
    hook.wait_let_through("files", &spec).await;
    hook.trust(&[&ca, &other]).await;
    hook.wait_refused("files", &spec, &words).await;
    hook.trust(&[&next]).await;
    hook.wait_let_through("files", &spec).await;
    let renewed = next.server(&[HOST]);
    hook.mount(&renewed.certificate, &renewed.key);
    hook.wait_refused("files", &spec, &words).await;
    assert_eq!(hook.bed.world.operator().starts().len(), 1, "no restart");

    // The operator is away.
    hook.bed.world.operator().sigterm(LATER).await.expect("it ends");
    hook.wait_let_through("files", &spec).await;
    hook.bed.world.operator().restart().await.expect("it starts again");
    hook.bed.world.operator().wait_ready().await.expect("ready");
    hook.wait_refused("files", &spec, &words).await;
    hook.finish(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifests_with_the_component_are_the_operators_and_the_webhooks_that_fit() {
    const DEPLOYMENTS: Resource = Resource { api_version: "apps/v1", plural: "deployments", kind: "Deployment" };
    let bed = Bed::idle("webhook-manifests").await;
    let (cluster, namespace) = (bed.world.cluster(), bed.world.namespace().name());
    // As a kustomization of somebody's own; it may name its bases by relative paths only.
    let directory = tempfile::tempdir().expect("a directory");
    let own = directory.path().canonicalize().expect("a directory");
    let up = "../".repeat(own.components().count() - 1);
    let base = format!("{up}{}", repository().join("deploy").to_string_lossy().trim_start_matches('/'));
    let kustomization = json!({"resources": [base], "components": [format!("{base}/webhook")]});
    std::fs::write(own.join("kustomization.yaml"), kustomization.to_string()).expect("a file");
    let rendered = cluster.kubectl_ok(&["kustomize", &own.to_string_lossy()]).await.expect("it is rendered");
    let rendered: Vec<Value> = serde_yaml_ng::Deserializer::from_str(&rendered)
        .map(|document| Value::deserialize(document).expect("YAML"))
        .collect();
    let find = |kind: &str| {
        let found = rendered.iter().find(|document| document["kind"] == kind);
        let mut found = found.unwrap_or_else(|| panic!("no {kind}")).clone();
        found["metadata"]["namespace"] = json!(namespace);
        found
    };
    let mut deployment = find("Deployment");
    deployment["spec"]["replicas"] = json!(0);
    let made = cluster.create(DEPLOYMENTS, namespace, &deployment).await.expect("the Deployment is accepted");
    let container = &made["spec"]["template"]["spec"]["containers"][0];
    let names = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(|one| Some(one["name"].as_str()?.to_owned())).collect()
    };
    for name in ["POD_NAME", "POD_NAMESPACE", "DITTOFS_WEBHOOK", "DITTOFS_WEBHOOK_CERT_DIR"] {
        assert!(names(&container["env"]).iter().any(|known| known == name), "{name}: {container}");
    }
    for name in ["health", "metrics", "webhook"] {
        assert!(names(&container["ports"]).iter().any(|known| known == name), "{name}: {container}");
    }
    assert_eq!(container["args"][0], "run");
    let volume = &made["spec"]["template"]["spec"]["volumes"][0]["secret"];
    assert_eq!(
        (&volume["secretName"], &volume["optional"]),
        (&find("Certificate")["spec"]["secretName"], &json!(true))
    );
    // The Service leads to that port of that pod.
    let service = cluster.create(resources::SERVICES, namespace, &find("Service")).await.expect("the Service");
    assert_eq!(service["spec"]["ports"][0]["targetPort"], "webhook");
    let labels = &made["spec"]["template"]["metadata"]["labels"];
    for (name, value) in service["spec"]["selector"].as_object().expect("a selector") {
        assert_eq!(&labels[name], value);
    }
    let client = &find("ValidatingWebhookConfiguration")["webhooks"][0]["clientConfig"]["service"];
    assert_eq!(client["name"], service["metadata"]["name"]);
    cluster.delete(DEPLOYMENTS, namespace, "dittofs-operator").await.expect("the Deployment is taken away");
}
