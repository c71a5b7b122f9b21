//! The connection to the API server.
//!
//! Owns: how the configuration is found and what is changed in it. Touches: KUBECONFIG, `~/.kube/config`, the
//! service account's files. Guarantees: every client made here has [`Deadlines`] around it and never repeats a
//! request by itself (kube's default would send one POST answered 503 sixteen times).
//!
//! Tokens that rotate: with a service account, and with `tokenFile` in a kubeconfig, kube reads the file again when
//! its copy is 50 s old, and the CA bundle of a service account likewise; a 401 in between is the caller's to retry.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use kube::client::{Body, ClientBuilder};
use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use tower::{BoxError, Layer as _, Service};

use super::deadline::Deadlines;

/// How to connect.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// For the whole of each call but watches; for the response head of watches.
    pub request_timeout: Duration,
    /// For the silence within a watch; a backstop above the timeout that each watch has itself.
    pub watch_idle_timeout: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self { request_timeout: Duration::from_secs(10), watch_idle_timeout: Duration::from_secs(70) }
    }
}

impl ConnectOptions {
    fn deadlines(&self) -> Deadlines {
        Deadlines { request: self.request_timeout, watch_idle: self.watch_idle_timeout }
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// `KUBECONFIG` is set and what it names cannot be used.
    #[error("cannot use the kubeconfig {path}: {source}; correct KUBECONFIG, or unset it to use the service account")]
    Kubeconfig {
        /// Value of `KUBECONFIG`.
        path: String,
        /// What kube says about it.
        source: Box<kube::config::KubeconfigError>,
    },
    /// Neither a kubeconfig nor a service account was found.
    #[error("no cluster to talk to: set KUBECONFIG to a readable kubeconfig, or run in a pod: {source}")]
    NoConfig {
        /// What kube says about both.
        source: Box<kube::config::InferConfigError>,
    },
    /// The kubeconfig asks for a proxy.
    #[error("the kubeconfig sets proxy-url, which is not supported for the Kubernetes API; remove it")]
    ProxyUrl,
    /// The configuration was found, but no client can be made of it (TLS, token file).
    #[error("cannot make a client from the configuration of the cluster: {source}")]
    Client {
        /// What kube says.
        source: Box<kube::Error>,
    },
}

impl ConnectError {
    /// Static label for metrics and exit codes.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Kubeconfig { .. } => "kubeconfig",
            Self::NoConfig { .. } => "no-config",
            Self::ProxyUrl => "proxy-url",
            Self::Client { .. } => "client",
        }
    }
}

/// A client for the cluster that `KUBECONFIG`, `~/.kube/config` or the pod's service account names, in that order.
pub async fn connect(options: &ConnectOptions) -> Result<Client, ConnectError> {
    let mut config = find_config().await?;
    adjust(&mut config, options, |name| std::env::var(name).ok())?;
    client_from(config, options)
}

/// A client over any tower service, with the deadlines of [`connect`]: what tests and simulations use.
pub fn client_over<S, B>(service: S, options: &ConnectOptions) -> Client
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    Client::new(options.deadlines().layer(service), "default")
}

async fn find_config() -> Result<Config, ConnectError> {
    // kube's own inference drops an unreadable KUBECONFIG silently in favour of the service account.
    match std::env::var("KUBECONFIG") {
        Ok(path) if !path.is_empty() => {
            let mut config = Config::from_kubeconfig(&KubeConfigOptions::default())
                .await
                .map_err(|source| ConnectError::Kubeconfig { path, source: Box::new(source) })?;
            config.apply_debug_overrides();
            Ok(config)
        }
        _ => Config::infer().await.map_err(|source| ConnectError::NoConfig { source: Box::new(source) }),
    }
}

/// Turns off what kube does behind the caller's back. `env` looks up an environment variable.
fn adjust(
    config: &mut Config,
    options: &ConnectOptions,
    env: impl Fn(&str) -> Option<String>,
) -> Result<(), ConnectError> {
    config.default_retry = false;
    config.connect_timeout = Some(options.request_timeout);
    // With a kubeconfig kube takes HTTPS_PROXY for the API server and fails for want of a feature. That variable is
    // meant for the DittoFS API; only a proxy that the kubeconfig itself names is an error.
    if let Some(proxy) = config.proxy_url.take() {
        let ambient = ["HTTPS_PROXY", "https_proxy"]
            .into_iter()
            .filter_map(env)
            .any(|value| value.parse::<http::Uri>().is_ok_and(|uri| uri == proxy));
        if !ambient {
            return Err(ConnectError::ProxyUrl);
        }
    }
    Ok(())
}

fn client_from(config: Config, options: &ConnectOptions) -> Result<Client, ConnectError> {
    let builder =
        ClientBuilder::try_from(config).map_err(|source| ConnectError::Client { source: Box::new(source) })?;
    Ok(builder.with_layer(&options.deadlines()).build())
}
