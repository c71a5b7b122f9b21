//! What most tests start with: the shared control plane, a namespace of their own, an operator for it, and at the end the
//! checker.
//!
//! Owns the namespace and the operator; shares the control plane. [`World::finish`] ends every test: it stops the
//! operator in order and judges its history.

use crate::audit::{self, Expect};
use crate::cluster::{Cluster, Namespace, background, resources};
use crate::dittofs::{ServerHandle, StandIn};
use crate::operator::{Operator, OperatorOptions};
use crate::proxy::Proxy;
use anyhow::Context as _;
use base64::Engine as _;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// How long a server may take to become ready, on a busy machine.
pub const SERVER_READY: Duration = Duration::from_secs(45);

/// How long the operator may take to end after SIGTERM: below the pod's grace period.
pub const SHUTDOWN: Duration = Duration::from_secs(20);

/// The surroundings of one test.
pub struct World {
    cluster: Cluster,
    namespace: Namespace,
    binary: PathBuf,
    api_url_template: String,
    operator: Option<Operator>,
    stand_in: Option<StandIn>,
}

impl World {
    /// On the shared control plane, with a DittoFS stand-in of its own that knows each server's admin from its Secret,
    /// for the operator's program `binary` (in a test of the operator's own package:
    /// `env!("CARGO_BIN_EXE_dittofs-operator")`).
    ///
    /// # Errors
    /// When no namespace can be made or the stand-in cannot be started.
    pub async fn new(test: &str, binary: impl Into<PathBuf>) -> anyhow::Result<Self> {
        Self::new_on(Cluster::shared(), test, binary).await
    }

    /// As [`World::new`], on a control plane of the test's own: for tests that stop it, or that watch all namespaces.
    ///
    /// # Errors
    /// As there.
    pub async fn new_on(cluster: &Cluster, test: &str, binary: impl Into<PathBuf>) -> anyhow::Result<Self> {
        let stand_in = background::run(StandIn::start()).await?;
        let source = cluster.clone();
        stand_in.set_admin_source(move |namespace, name| {
            let cluster = source.clone();
            async move { admin(&cluster, &namespace, &name).await }
        });
        let mut world = Self::on(cluster, test, binary, stand_in.url_template()).await?;
        world.stand_in = Some(stand_in);
        Ok(world)
    }

    /// On the shared control plane, for an operator whose DittoFS APIs are found by `api_url_template`.
    ///
    /// # Errors
    /// When no namespace can be made.
    pub async fn with_api_url_template(
        test: &str,
        binary: impl Into<PathBuf>,
        api_url_template: impl Into<String>,
    ) -> anyhow::Result<Self> {
        Self::on(Cluster::shared(), test, binary, api_url_template).await
    }

    /// On a control plane of the test's own: for tests that stop it, or that watch all namespaces.
    ///
    /// # Errors
    /// When no namespace can be made.
    pub async fn on(
        cluster: &Cluster,
        test: &str,
        binary: impl Into<PathBuf>,
        api_url_template: impl Into<String>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            cluster: cluster.clone(),
            namespace: cluster.namespace(test).await?,
            binary: binary.into(),
            api_url_template: api_url_template.into(),
            operator: None,
            stand_in: None,
        })
    }

    /// The control plane.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The test's namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The DittoFS stand-in.
    ///
    /// # Panics
    /// When the world was made without one.
    pub fn stand_in(&self) -> &StandIn {
        self.stand_in.as_ref().expect("a world with a DittoFS stand-in")
    }

    /// The DittoFS server behind a DittoServer of this namespace.
    ///
    /// # Panics
    /// When the world was made without a stand-in.
    pub fn dittofs(&self, name: &str) -> ServerHandle {
        self.stand_in().server(self.namespace.name(), name)
    }

    /// Options for an operator of this namespace, to be changed before [`World::start_operator`].
    pub fn options(&self) -> OperatorOptions {
        OperatorOptions::new(&self.binary, self.namespace.name(), &self.api_url_template)
    }

    /// Starts the operator and waits until it says that it is ready.
    ///
    /// # Errors
    /// When it cannot be started or does not become ready.
    pub async fn start_operator(&mut self, options: OperatorOptions) -> anyhow::Result<&Operator> {
        let operator = Operator::start(&self.cluster, options).await?;
        // Kept even if it does not become ready, so that its log can be read.
        let operator = self.operator.insert(operator);
        operator.wait_ready().await?;
        Ok(operator)
    }

    /// Starts the operator and does not wait: it may end before it is ready.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start_operator_unready(&mut self, options: OperatorOptions) -> anyhow::Result<&Operator> {
        let operator = Operator::start(&self.cluster, options).await?;
        Ok(self.operator.insert(operator))
    }

    /// The operator behind a new proxy, not waited for: it may be cut off at its first write.
    ///
    /// # Errors
    /// When one of the two cannot be started.
    pub async fn start_operator_through_proxy(&mut self, options: OperatorOptions) -> anyhow::Result<Proxy> {
        let proxy = Proxy::start(&self.cluster).await?;
        let options = OperatorOptions { through: Some(proxy.url().to_owned()), ..options };
        self.operator = Some(Operator::start(&self.cluster, options).await?);
        Ok(proxy)
    }

    /// The operator.
    ///
    /// # Panics
    /// When none was started.
    pub fn operator(&self) -> &Operator {
        self.operator.as_ref().expect("an operator was started")
    }

    /// The operator, to change what it is given: its token.
    ///
    /// # Panics
    /// When none was started.
    pub fn operator_mut(&mut self) -> &mut Operator {
        self.operator.as_mut().expect("an operator was started")
    }

    /// Creates a DittoServer, or merges `spec` into the one that is there.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn apply_server(&self, name: &str, spec: &Value) -> anyhow::Result<Value> {
        if self.namespace.get(resources::SERVERS, name).await?.is_some() {
            return Ok(self.namespace.patch(resources::SERVERS, name, &json!({"spec": spec})).await?);
        }
        let mut whole = json!({"storage": {"metadataSize": "1Gi", "contentSize": "1Gi"}});
        merge(&mut whole, spec);
        let server = json!({"metadata": {"name": name}, "spec": whole});
        Ok(self.namespace.create_object(resources::SERVERS, &server).await?)
    }

    /// The DittoServer.
    ///
    /// # Errors
    /// When there is none.
    pub async fn server(&self, name: &str) -> anyhow::Result<Value> {
        self.namespace.get(resources::SERVERS, name).await?.with_context(|| format!("no DittoServer {name}"))
    }

    /// Waits until the DittoServer is ready in its present generation.
    ///
    /// # Errors
    /// When it does not become ready in time; with the namespace's objects and the operator's last lines.
    pub async fn wait_ready(&self, name: &str) -> anyhow::Result<Value> {
        self.wait_server(name, "to be ready", SERVER_READY, |server| {
            let current = server["status"]["observedGeneration"] == server["metadata"]["generation"];
            let ready = condition(server, "Ready").is_some_and(|ready| ready["status"] == "True");
            if current && ready { Ok(()) } else { Err(server["status"].to_string()) }
        })
        .await
    }

    /// Waits until a DittoServer is as `look` wants it; `look` says in words why it is not so yet.
    ///
    /// # Errors
    /// When it is not so in time.
    pub async fn wait_server(
        &self,
        name: &str,
        what: &str,
        timeout: Duration,
        mut look: impl FnMut(&Value) -> Result<(), String>,
    ) -> anyhow::Result<Value> {
        self.wait_until(&format!("DittoServer {name} {what}"), timeout, async || {
            let server = self.server(name).await.map_err(|error| format!("{error:#}"))?;
            look(&server).map(|()| server)
        })
        .await
    }

    /// Waits for a condition; the error tells what is in the namespace, and the end of the operator's log.
    ///
    /// # Errors
    /// When the time is over.
    pub async fn wait_until<T>(
        &self,
        what: &str,
        timeout: Duration,
        look: impl AsyncFnMut() -> Result<T, String>,
    ) -> anyhow::Result<T> {
        self.namespace.wait_until(what, timeout, look).await.map_err(|error| match &self.operator {
            Some(operator) => anyhow::anyhow!("{error}\nthe operator's last lines:\n{}", operator.log_tail(30)),
            None => error,
        })
    }

    /// The StatefulSet of a server.
    ///
    /// # Errors
    /// When there is none.
    pub async fn stateful_set(&self, name: &str) -> anyhow::Result<Value> {
        self.namespace.get(resources::STATEFUL_SETS, name).await?.with_context(|| format!("no StatefulSet {name}"))
    }

    /// The Services of a server, by their label `instance`, sorted by name.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn services(&self, name: &str) -> anyhow::Result<Vec<Value>> {
        let mut services = self.namespace.list(resources::SERVICES, "").await?;
        services.retain(|service| {
            let owners = service["metadata"]["ownerReferences"].as_array();
            owners.into_iter().flatten().any(|owner| owner["controller"] == true && owner["name"] == name)
        });
        services.sort_by_key(|service| service["metadata"]["name"].as_str().unwrap_or_default().to_owned());
        Ok(services)
    }

    /// The Services for adapters of a server.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn adapter_services(&self, name: &str) -> anyhow::Result<Vec<Value>> {
        let mut services = self.services(name).await?;
        services.retain(|service| service["metadata"]["labels"]["dittofs.io/adapter-service"] == "true");
        Ok(services)
    }

    /// How many pods were started in the namespace.
    ///
    /// # Errors
    /// When the control plane does not tell.
    pub async fn pod_starts(&self) -> anyhow::Result<usize> {
        Ok(self.cluster.pod_starts(self.namespace.name()).await?.total)
    }

    /// Ends the test: stops the operator with SIGTERM, wants exit code 0 and a clean history, and gives the namespace up.
    /// What the stand-in told is taken as the timeline for S5, unless the test gives one.
    ///
    /// # Panics
    /// When the operator does not end as it should, or broke a promise.
    pub async fn finish(mut self, expect: Expect) {
        let told = || self.stand_in.as_ref().map(audit::timeline);
        let expect = Expect { timeline: expect.timeline.clone().or_else(told), ..expect };
        if let Some(operator) = self.operator.take() {
            if operator.is_running() {
                let exit = operator.sigterm(SHUTDOWN).await.expect("an orderly end");
                assert_eq!(exit.code, Some(0), "exit of the operator:\n{}", operator.log_tail(30));
            }
            let report = audit::check(&self.cluster, &operator, expect).await;
            if !report.is_clean() {
                let dump = self.namespace.dump().await;
                panic!("{report}\n{dump}\nthe operator's last lines:\n{}", operator.log_tail(30));
            }
        }
        // What is left is gone with the control plane.
        let _ = self.namespace.discard().await;
    }
}

/// Username and password of a server's first admin, as its pod finds them: the Secret that the DittoServer names, else
/// the one that the operator made.
async fn admin(cluster: &Cluster, namespace: &str, name: &str) -> Option<(String, String)> {
    let server = cluster.get(resources::SERVERS, namespace, name).await.ok()??;
    let admin = &server["spec"]["identity"]["admin"];
    if let Some(secret) = admin["passwordSecretRef"]["name"].as_str() {
        let key = admin["passwordSecretRef"]["key"].as_str().unwrap_or("password");
        let username = admin["username"].as_str().unwrap_or("admin").to_owned();
        return Some((username, secret_value(cluster, namespace, secret, key).await?));
    }
    for suffix in ["admin-bootstrap-credentials", "admin-credentials"] {
        let secret = format!("{name}-{suffix}");
        if let Some(password) = secret_value(cluster, namespace, &secret, "password").await {
            let username = secret_value(cluster, namespace, &secret, "username").await;
            return Some((username.unwrap_or_else(|| "admin".to_owned()), password));
        }
    }
    None
}

async fn secret_value(cluster: &Cluster, namespace: &str, name: &str, key: &str) -> Option<String> {
    let secret = cluster.get(resources::SECRETS, namespace, name).await.ok()??;
    let value = base64::engine::general_purpose::STANDARD.decode(secret["data"][key].as_str()?).ok()?;
    String::from_utf8(value).ok()
}

/// A condition of an object, by its type.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// Merges `change` into `value` as a JSON merge patch does.
pub fn merge(value: &mut Value, change: &Value) {
    match change {
        Value::Object(fields) => {
            if !value.is_object() {
                *value = json!({});
            }
            for (key, field) in fields {
                if field.is_null() {
                    value.as_object_mut().map(|object| object.remove(key));
                } else {
                    merge(&mut value[key.as_str()], field);
                }
            }
        }
        other => *value = other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_keeps_what_is_not_named_and_removes_nulls() {
        let mut value = json!({"a": {"b": 1, "c": 2}, "d": 3});
        merge(&mut value, &json!({"a": {"b": null, "e": 4}, "d": [5]}));
        assert_eq!(value, json!({"a": {"c": 2, "e": 4}, "d": [5]}));
    }
}
