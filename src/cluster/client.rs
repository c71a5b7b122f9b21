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
use kube::config::{KubeConfigOptions, KubeconfigError};
use kube::{Client, Config};
use tower::limit::ConcurrencyLimitLayer;
use tower::{BoxError, Layer as _, Service};

use super::deadline::Deadlines;

/// How to connect.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// For the whole of each call but watches; for the response head of watches.
    pub request_timeout: Duration,
    /// Requests under way at once, the heads of watches among them: each has a connection of its own, and hundreds of
    /// servers that start together would open hundreds. Waiting for a turn is not part of a request's time.
    pub most_in_flight: usize,
    /// For the silence within a watch; a backstop above the timeout that each watch has itself.
    pub watch_idle_timeout: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(10),
            most_in_flight: 16,
            watch_idle_timeout: Duration::from_secs(70),
        }
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
    #[error("cannot use the kubeconfig {path}: {problem}; correct KUBECONFIG, or unset it to use the service account")]
    Kubeconfig {
        /// Value of `KUBECONFIG`.
        path: String,
        /// What kube says about it, without the lines that it quotes.
        problem: String,
    },
    /// Neither a kubeconfig nor a service account was found.
    #[error(
        "no cluster to talk to: set KUBECONFIG to a readable kubeconfig, or run in a pod \
         (kubeconfig: {kubeconfig}; service account: {in_cluster})"
    )]
    NoConfig {
        /// What kube says about `~/.kube/config`, without the lines that it quotes.
        kubeconfig: String,
        /// What kube says about the service account.
        in_cluster: String,
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

/// A client for the cluster that `KUBECONFIG`, `~/.kube/config` or the pod's service account names, in that order, and
/// the URL of its API server.
pub async fn connect(options: &ConnectOptions) -> Result<(Client, http::Uri), ConnectError> {
    let mut config = find_config().await?;
    adjust(&mut config, options, |name| std::env::var(name).ok())?;
    let server = config.cluster_url.clone();
    Ok((client_from(config, options)?, server))
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
    let named = std::env::var("KUBECONFIG").ok().filter(|path| !path.is_empty());
    let mut config = match (Config::from_kubeconfig(&KubeConfigOptions::default()).await, named) {
        (Ok(config), _) => config,
        (Err(error), Some(path)) => return Err(ConnectError::Kubeconfig { path, problem: problem(&error) }),
        (Err(error), None) => Config::incluster().map_err(|in_cluster| ConnectError::NoConfig {
            kubeconfig: problem(&error),
            in_cluster: in_cluster.to_string(),
        })?,
    };
    config.apply_debug_overrides();
    Ok(config)
}

/// What is wrong with a kubeconfig, on one line. The source is not kept: its text and its Debug quote the lines around
/// the place that cannot be parsed, which may be the token's.
fn problem(error: &KubeconfigError) -> String {
    let text = error.to_string();
    match error {
        KubeconfigError::Parse(_) => {
            let place = text.find("line ").map(|start| {
                text[start..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == ' ').collect::<String>()
            });
            format!("it is no kubeconfig ({})", place.unwrap_or_default())
        }
        _ => text.lines().next().unwrap_or_default().to_owned(),
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
    let limit = ConcurrencyLimitLayer::new(options.most_in_flight);
    Ok(builder.with_layer(&options.deadlines()).with_layer(&limit).build())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::http::StatusCode;
    use serde_json::json;
    use tokio::net::TcpListener;

    use super::super::{Cluster, Kind};
    use super::*;

    fn options() -> ConnectOptions {
        ConnectOptions { request_timeout: Duration::from_millis(500), ..ConnectOptions::default() }
    }

    /// A server on a real socket, and a client for it made the way `connect` makes one.
    async fn serve(router: Router) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut config = Config::new(url.parse().expect("a url"));
        adjust(&mut config, &options(), |_| None).expect("a usable configuration");
        client_from(config, &options()).expect("a client")
    }

    #[tokio::test]
    async fn one_post_answered_503_is_sent_once() {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let client = serve(Router::new().fallback(move || async move {
            counted.fetch_add(1, Ordering::SeqCst);
            (StatusCode::SERVICE_UNAVAILABLE, "busy")
        }))
        .await;
        let object = json!({"metadata": {"name": "a"}});
        let answer = Cluster::new(client).create(Kind::Service, "ns", &object).await;
        assert_eq!(answer.expect_err("busy").code(), Some(503));
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_server_that_accepts_and_never_answers_is_given_up() {
        let client = serve(Router::new().fallback(|| async { std::future::pending::<()>().await })).await;
        let answer = Cluster::new(client).get(Kind::Service, "ns", "a").await;
        assert!(answer.expect_err("no answer").is_timeout());
    }

    #[tokio::test]
    async fn nobody_listening_is_a_refused_connection() {
        let port = TcpListener::bind("127.0.0.1:0").await.and_then(|l| l.local_addr()).expect("a port").port();
        let mut config = Config::new(format!("http://127.0.0.1:{port}").parse().expect("a url"));
        adjust(&mut config, &options(), |_| None).expect("a usable configuration");
        let client = client_from(config, &options()).expect("a client");
        let request = Request::get("/").body(Body::empty()).expect("a request");
        let error = client.send(request).await.expect_err("nobody listens");
        assert!(super::super::driver::is_refused_connection(&error), "{error:?}");
    }

    #[test]
    fn an_ambient_proxy_is_not_for_the_kubernetes_api() {
        let mut config = Config::new("https://10.0.0.1".parse().expect("a url"));
        config.proxy_url = Some("http://proxy:3128".parse().expect("a url"));
        let env = |name: &str| (name == "https_proxy").then(|| "http://proxy:3128".to_owned());
        adjust(&mut config, &ConnectOptions::default(), env).expect("ambient");
        assert_eq!(config.proxy_url, None);
        assert!(!config.default_retry);
        assert_eq!(config.connect_timeout, Some(Duration::from_secs(10)));
    }

    #[test]
    fn a_proxy_that_the_kubeconfig_names_is_an_error_that_says_what_to_do() {
        let mut config = Config::new("https://10.0.0.1".parse().expect("a url"));
        config.proxy_url = Some("socks5://proxy:1080".parse().expect("a url"));
        let error = adjust(&mut config, &ConnectOptions::default(), |_| None).expect_err("unsupported");
        assert!(error.to_string().contains("remove it"), "{error}");
        assert_eq!(error.category(), "proxy-url");
    }

    #[test]
    fn a_kubeconfig_that_cannot_be_read_is_not_quoted() {
        for yaml in [
            "users: [{name: u, user: {token: canary-4711}}]\nclusters: 5\n",
            "users: [{name: u, user: {token: canary-4711\nclusters: [",
            "users: [{name: u, user: {token: [canary-4711]}}]\nclusters: []\n",
            "users: [{name: u, user: {exec: {interactiveMode: canary-4711}}}]\n",
            "canary-4711",
        ] {
            let error = kube::config::Kubeconfig::from_yaml(yaml).expect_err("no kubeconfig");
            let error = ConnectError::Kubeconfig { path: "/home/me/.kube/config".into(), problem: problem(&error) };
            let text = format!("{error} {error:?}");
            assert!(text.contains("line ") && text.contains("/home/me/.kube/config"), "{text}");
            assert!(!text.contains("canary"), "{text}");
        }
    }

    #[test]
    fn a_kubeconfig_that_is_not_there_is_named() {
        let error = kube::config::Kubeconfig::read_from("/nowhere/config").expect_err("not there");
        assert!(problem(&error).contains("/nowhere/config"), "{}", problem(&error));
    }

    #[tokio::test]
    #[ignore = "waits 51 s of real time: kube reads its clock from the system"]
    async fn a_token_file_that_changes_is_read_again() {
        let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let router = Router::new().fallback(move |headers: axum::http::HeaderMap| async move {
            let token = headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
            log.lock().expect("test").push(token);
            (StatusCode::NOT_FOUND, "none")
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let server = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let file = std::env::temp_dir().join(format!("dittofs-token-{}", std::process::id()));
        std::fs::write(&file, "one").expect("a file");
        let kubeconfig: kube::config::Kubeconfig = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {"tokenFile": file}}],
        }))
        .expect("a kubeconfig");
        let mut config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("usable");
        adjust(&mut config, &options(), |_| None).expect("usable");
        let cluster = Cluster::new(client_from(config, &options()).expect("a client"));
        assert_eq!(cluster.get(Kind::Service, "ns", "a").await.expect("an answer"), None);
        std::fs::write(&file, "two").expect("a file");
        tokio::time::sleep(Duration::from_secs(51)).await;
        assert_eq!(cluster.get(Kind::Service, "ns", "a").await.expect("an answer"), None);
        let _ = std::fs::remove_file(&file);
        assert_eq!(*seen.lock().expect("test"), ["Bearer one", "Bearer two"]);
    }
}
