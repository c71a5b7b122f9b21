//! A namespace that belongs to one test.

use super::{ApiError, Cluster, Resource, resources, wait_until};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;

/// A namespace of one test, and shorthands for its objects.
#[derive(Clone)]
pub struct Namespace {
    cluster: Cluster,
    name: String,
}

impl Namespace {
    pub(super) async fn create(cluster: &Cluster, prefix: &str) -> anyhow::Result<Self> {
        let prefix: String = prefix
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .take(40)
            .collect();
        let name = format!("{}-{:06x}", prefix.trim_matches('-'), rand::random::<u32>() & 0xff_ffff);
        let namespace = json!({"metadata": {"name": name}});
        cluster.create(resources::NAMESPACES, "", &namespace).await?;
        Ok(Self { cluster: cluster.clone(), name })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster that it is in.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// See [`Cluster::get`].
    ///
    /// # Errors
    /// As there.
    pub async fn get(&self, resource: Resource, name: &str) -> Result<Option<Value>, ApiError> {
        self.cluster.get(resource, &self.name, name).await
    }

    /// See [`Cluster::list`].
    ///
    /// # Errors
    /// As there.
    pub async fn list(&self, resource: Resource, labels: &str) -> Result<Vec<Value>, ApiError> {
        self.cluster.list(resource, &self.name, labels).await
    }

    /// See [`Cluster::create`].
    ///
    /// # Errors
    /// As there.
    pub async fn create_object(&self, resource: Resource, object: &Value) -> Result<Value, ApiError> {
        self.cluster.create(resource, &self.name, object).await
    }

    /// See [`Cluster::patch`].
    ///
    /// # Errors
    /// As there.
    pub async fn patch(&self, resource: Resource, name: &str, change: &Value) -> Result<Value, ApiError> {
        self.cluster.patch(resource, &self.name, name, change).await
    }

    /// See [`Cluster::delete`].
    ///
    /// # Errors
    /// As there.
    pub async fn delete(&self, resource: Resource, name: &str) -> Result<(), ApiError> {
        self.cluster.delete(resource, &self.name, name).await
    }

    /// A Secret with these keys and values.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn secret(&self, name: &str, data: &[(&str, &str)]) -> Result<Value, ApiError> {
        let data: serde_json::Map<_, _> = data.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        self.create_object(resources::SECRETS, &json!({"metadata": {"name": name}, "stringData": data})).await
    }

    /// As [`wait_until`]; the error also tells what is in the namespace.
    ///
    /// # Errors
    /// When the time is over.
    pub async fn wait_until<T>(
        &self,
        what: &str,
        timeout: Duration,
        look: impl AsyncFnMut() -> Result<T, String>,
    ) -> anyhow::Result<T> {
        match wait_until(what, timeout, look).await {
            Ok(value) => Ok(value),
            Err(error) => anyhow::bail!("{error}\n{}", self.dump().await),
        }
    }

    /// The namespace's objects, a line each, for a failing test.
    pub async fn dump(&self) -> String {
        let mut text = format!("objects in namespace {}:\n", self.name);
        let kinds = [
            resources::SERVERS,
            resources::STATEFUL_SETS,
            resources::PODS,
            resources::SERVICES,
            resources::NETWORK_POLICIES,
            resources::CONFIG_MAPS,
            resources::SECRETS,
            resources::EVENTS,
        ];
        for kind in kinds {
            match self.list(kind, "").await {
                Ok(items) => {
                    for item in items {
                        let _ = writeln!(text, "  {}", brief(kind, &item));
                    }
                }
                Err(error) if error.code() == 404 => {}
                Err(error) => {
                    let _ = writeln!(text, "  {}: {error}", kind.plural);
                }
            }
        }
        text
    }

    /// Asks for the end of the namespace and everything in it, and does not wait for it.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn discard(&self) -> Result<(), ApiError> {
        self.cluster.delete(resources::NAMESPACES, "", &self.name).await
    }
}

/// One line about an object; never a Secret's values.
fn brief(kind: Resource, item: &Value) -> String {
    let name = item["metadata"]["name"].as_str().unwrap_or("?");
    let deleting = if item["metadata"]["deletionTimestamp"].is_string() { " (being deleted)" } else { "" };
    let rest = match kind.plural {
        "dittoservers" => {
            let conditions: Vec<String> = item["status"]["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|c| {
                    let text = |key: &str| c[key].as_str().unwrap_or("?").to_owned();
                    format!("{}={} ({}: {})", text("type"), text("status"), text("reason"), text("message"))
                })
                .collect();
            format!(
                "generation {} observed {} phase {} conditions [{}]",
                item["metadata"]["generation"],
                item["status"]["observedGeneration"],
                item["status"]["phase"],
                conditions.join("; ")
            )
        }
        "statefulsets" => format!(
            "hash {} partition {} ports {} ready {} revisions {} -> {}",
            item["spec"]["template"]["metadata"]["annotations"]["dittofs.io/config-hash"],
            item["spec"]["updateStrategy"]["rollingUpdate"]["partition"],
            ports(&item["spec"]["template"]["spec"]["containers"][0]["ports"], "containerPort"),
            item["status"]["readyReplicas"],
            item["status"]["currentRevision"],
            item["status"]["updateRevision"],
        ),
        "pods" => format!("phase {}", item["status"]["phase"]),
        "services" => format!("{} {}", item["spec"]["type"], ports(&item["spec"]["ports"], "port")),
        "networkpolicies" => item["spec"]["ingress"].to_string(),
        "secrets" => {
            let keys: Vec<_> = item["data"].as_object().into_iter().flat_map(serde_json::Map::keys).collect();
            format!("keys {keys:?}")
        }
        "events" => format!("{} {}: {}", item["type"], item["reason"], item["message"]),
        _ => String::new(),
    };
    format!("{} {name}{deleting} {rest}", kind.kind)
}

fn ports(list: &Value, key: &str) -> String {
    let ports: Vec<String> = list
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| format!("{}:{}", port["name"].as_str().unwrap_or("?"), port[key]))
        .collect();
    format!("[{}]", ports.join(" "))
}
