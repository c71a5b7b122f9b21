//! What the control plane's program can be told beside the Kubernetes API: how pods and load balancers behave, and when
//! its parts stop.

use super::{Cluster, background};
use anyhow::Context as _;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

/// Pods that the node stand-in has started.
#[derive(Clone, Debug, Deserialize)]
pub struct PodStarts {
    /// How many.
    pub total: usize,
    /// Restarts of containers in pods that stayed.
    #[serde(default)]
    pub restarts: usize,
    /// Each of them, oldest first.
    #[serde(default)]
    pub starts: Vec<PodStart>,
}

/// One start of a pod.
#[derive(Clone, Debug, Deserialize)]
pub struct PodStart {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// Uid of the pod.
    pub uid: String,
    /// When, RFC 3339.
    pub time: String,
    /// Revision of the StatefulSet's template that it runs.
    #[serde(default)]
    pub revision: String,
    /// Annotations of the pod.
    #[serde(default)]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Images of its containers.
    #[serde(default)]
    pub images: Option<Vec<String>>,
}

/// What the node stand-in does with pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PodMode {
    /// They run and become ready.
    #[default]
    Normal,
    /// They run and do not become ready.
    NeverReady,
    /// No node takes them.
    Unschedulable,
    /// Their image cannot be pulled.
    #[serde(rename = "image-pull-backoff")]
    ImagePullBackOff,
    /// They start and crash.
    CrashLoop,
}

/// What happens to the pods of one StatefulSet.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodBehavior {
    /// Namespace of the StatefulSet.
    pub namespace: String,
    /// Name of the StatefulSet.
    pub statefulset: String,
    /// What happens.
    pub mode: PodMode,
    /// How long a pod takes to become ready, ms.
    pub ready_delay_ms: u64,
    /// How long a deleted pod takes to end, ms.
    pub delete_delay_ms: u64,
    /// Leaves pods alone that run already.
    pub only_new: bool,
}

impl PodBehavior {
    /// A mode for the pods of one StatefulSet, with the delays that pods have otherwise.
    pub fn new(namespace: &str, statefulset: &str, mode: PodMode) -> Self {
        Self {
            namespace: namespace.to_owned(),
            statefulset: statefulset.to_owned(),
            mode,
            ready_delay_ms: 50,
            delete_delay_ms: 50,
            only_new: false,
        }
    }
}

/// How the stand-in of a cloud's load balancer controller behaves.
#[derive(Clone, Debug, Serialize)]
pub struct LoadBalancers {
    /// Puts the service load balancer finalizer on Services of type LoadBalancer.
    pub finalizer: bool,
    /// Does not remove that finalizer, so that a deletion does not end.
    pub hold: bool,
    /// Gives addresses.
    pub assign: bool,
    /// Only in this namespace; everywhere otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// What the stand-in of a storage driver does with the claims of a namespace.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Volumes<'a> {
    /// Which namespace.
    pub namespace: &'a str,
    /// Claims that ask for more do not grow.
    pub resize_hold: bool,
    /// The condition with which they say so, such as `FileSystemResizePending`; `Resizing` when empty.
    pub hold_as: &'a str,
    /// Claims get no volume.
    pub bind_hold: bool,
}

impl Cluster {
    /// Tells what becomes of the claims of a namespace.
    ///
    /// # Errors
    /// When the control plane does not answer as it should.
    pub async fn volumes(&self, volumes: Volumes<'_>) -> anyhow::Result<()> {
        self.control(Method::POST, "/volumes", Some(serde_json::to_value(volumes)?)).await.map(drop)
    }

    /// The pods that were started in a namespace.
    ///
    /// # Errors
    /// When the control plane does not answer as it should.
    pub async fn pod_starts(&self, namespace: &str) -> anyhow::Result<PodStarts> {
        let answer = self.control(Method::GET, &format!("/pods/starts?namespace={namespace}"), None).await?;
        Ok(serde_json::from_value(answer)?)
    }

    /// Tells what becomes of the pods of a StatefulSet.
    ///
    /// # Errors
    /// When the control plane does not answer as it should.
    pub async fn pod_behavior(&self, behavior: &PodBehavior) -> anyhow::Result<()> {
        self.control(Method::POST, "/pods/behavior", Some(serde_json::to_value(behavior)?)).await.map(drop)
    }

    /// Lets a pod crash once.
    ///
    /// # Errors
    /// When the control plane does not answer as it should.
    pub async fn crash_pod(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        self.control(Method::POST, "/pods/crash", Some(json!({"namespace": namespace, "name": name}))).await.map(drop)
    }

    /// Tells how load balancers behave.
    ///
    /// # Errors
    /// When the control plane does not answer as it should.
    pub async fn load_balancers(&self, behavior: &LoadBalancers) -> anyhow::Result<()> {
        self.control(Method::POST, "/loadbalancer", Some(serde_json::to_value(behavior)?)).await.map(drop)
    }

    /// Stops the API server; etcd keeps what it stored.
    ///
    /// # Errors
    /// When the control plane does not answer as it should.
    pub async fn stop_api_server(&self) -> anyhow::Result<()> {
        self.control(Method::POST, "/apiserver/stop", None).await.map(drop)
    }

    /// Starts the API server again, on the port that it had.
    ///
    /// # Errors
    /// When the control plane does not answer as it should.
    pub async fn start_api_server(&self) -> anyhow::Result<()> {
        self.control(Method::POST, "/apiserver/start", None).await.map(drop)
    }

    /// Stops the controller manager: no StatefulSet moves, nothing is collected.
    ///
    /// # Errors
    /// When the control plane does not answer as it should.
    pub async fn stop_controller_manager(&self) -> anyhow::Result<()> {
        self.control(Method::POST, "/controller-manager/stop", None).await.map(drop)
    }

    /// Starts the controller manager again.
    ///
    /// # Errors
    /// When the control plane does not answer as it should.
    pub async fn start_controller_manager(&self) -> anyhow::Result<()> {
        self.control(Method::POST, "/controller-manager/start", None).await.map(drop)
    }

    async fn control(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let base = self.inner.ready.control.trim_end_matches('/');
        let base = if base.contains("://") { base.to_owned() } else { format!("http://{base}") };
        let url = format!("{base}{path}");
        let request = url.clone();
        let (status, text) = background::run(async move {
            let mut request = client().request(method, &request).timeout(Duration::from_mins(1));
            if let Some(body) = body {
                request = request.json(&body);
            }
            let answer = request.send().await?;
            let status = answer.status();
            Ok::<_, reqwest::Error>((status, answer.text().await?))
        })
        .await
        .with_context(|| format!("asking the control plane: {url}"))?;
        anyhow::ensure!(status.is_success(), "{url} answered {status}: {text}");
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).with_context(|| format!("{url} answered {text}"))
    }
}

/// The client of the control port; bound to the background runtime, where alone it is used.
fn client() -> &'static reqwest::Client {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    CLIENT.get_or_init(|| reqwest::Client::builder().no_proxy().build().expect("a plain HTTP client can be made"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_behavior_has_the_words_of_the_control_api() {
        for (mode, word) in [
            (PodMode::Normal, "normal"),
            (PodMode::NeverReady, "never-ready"),
            (PodMode::Unschedulable, "unschedulable"),
            (PodMode::ImagePullBackOff, "image-pull-backoff"),
            (PodMode::CrashLoop, "crash-loop"),
        ] {
            let body = serde_json::to_value(PodBehavior::new("n", "s", mode)).unwrap();
            let expected = json!({"namespace": "n", "statefulset": "s", "mode": word,
                "readyDelayMs": 50, "deleteDelayMs": 50, "onlyNew": false});
            assert_eq!(body, expected);
        }
    }
}
