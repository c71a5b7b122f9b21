//! The validating admission webhook, off unless it is asked for: refuses a change of a DittoServer for what only the
//! cluster can tell.
//!
//! Owns an address of its own that speaks TLS ([`certificate`]), the reading of what a change needs ([`facts`]) and the
//! answers ([`review`]); what is decided is decided in [`crate::reconcile::admission`]. Touches the Kubernetes API with
//! GETs, and a LIST of StorageClasses, alone, over a client of its own. Guarantees: connections, reviews at once, bytes and
//! time are bounded; no reconcile waits for a review; whatever goes wrong lets the change through (`failurePolicy:
//! Ignore`), and is counted; a path that nobody else knows keeps others from asking.

mod certificate;
mod facts;
mod review;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use tracing::debug;

use self::certificate::{Presented, Reloader};
use self::review::Reviewer;
use crate::actors::Deps;
use crate::cluster::{Cluster, ConnectOptions};

/// Connections at once; the API server keeps a few.
const CONNECTIONS: usize = 128;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a connection may be silent. The API server gives an idle one up after 90 s: it is to be the first.
const IDLE: Duration = Duration::from_mins(2);
/// Pause after a connection that could not be taken, such as for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// Deadline of each request to the API server, and how many there are at once.
const REQUESTS: (Duration, usize) = (Duration::from_secs(2), 8);

/// A path of the webhook: letters, digits and `-._~` between slashes.
pub fn path(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
    let fine = text.len() > 1 && text.len() <= 512 && text.starts_with('/') && text.chars().all(plain);
    // What was given may be meant for nobody's eyes.
    fine.then(|| text.to_owned()).ok_or_else(|| "use a slash and letters, digits, dashes, dots after it".to_owned())
}

/// What the webhook was asked for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it is served.
    pub address: SocketAddr,
    /// The path of a review; others are not found.
    pub path: String,
    /// Directory of `tls.crt` and `tls.key`.
    pub cert_dir: PathBuf,
}

/// A webhook that is served until this is dropped; what is under way then goes on.
#[derive(Debug)]
pub struct Serving {
    /// The address that it listens on.
    pub bound: SocketAddr,
    tasks: [AbortHandle; 2],
}

impl Drop for Serving {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// How its client of the Kubernetes API is made: apart from the one of the actors, so that neither waits for the other.
pub fn connect_options() -> ConnectOptions {
    ConnectOptions { request_timeout: REQUESTS.0, most_in_flight: REQUESTS.1, ..ConnectOptions::default() }
}

/// Begins to serve. `cluster` is over a client made with [`connect_options`]; `namespace` is the only one that the operator
/// serves, if it serves one.
pub async fn serve(
    settings: Settings,
    deps: &Deps,
    cluster: Cluster,
    namespace: Option<String>,
) -> std::io::Result<Serving> {
    let listener = TcpListener::bind(settings.address).await?;
    let bound = listener.local_addr()?;
    let presented = Arc::new(Presented::default());
    let mut reloader = Reloader::new(settings.cert_dir, presented.clone(), deps.metrics.clone());
    reloader.reload().await;
    let rereading = tokio::spawn(reloader.follow()).abort_handle();
    let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(presented);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let app = Reviewer::new(deps, cluster, namespace).router(&settings.path);
    let accepting = tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), app)).abort_handle();
    Ok(Serving { bound, tasks: [accepting, rereading] })
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, app: Router) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(converse(stream, acceptor.clone(), app.clone(), slot));
            }
            Err(error) => {
                debug!(%error, "a connection to the webhook could not be taken");
                sleep(PAUSE).await;
            }
        }
    }
}

/// One connection. A panic in it ends it alone.
async fn converse(stream: TcpStream, acceptor: TlsAcceptor, app: Router, slot: OwnedSemaphorePermit) {
    let stream = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return debug!(%error, "a TLS handshake with the webhook failed"),
        Err(_) => return debug!("a TLS handshake with the webhook took too long"),
    };
    let service =
        service_fn(move |request: Request<hyper::body::Incoming>| app.clone().oneshot(request.map(Body::new)));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!(%error, "a connection to the webhook broke off");
    }
    drop(slot);
}

#[cfg(test)]
mod tests;
