//! An OTLP receiver in the test process, for what a real backend does not show: the headers of each request, TLS, and
//! what an exporter does when its collector is slow, refuses, hangs or fails.
//!
//! Owns one listener on 127.0.0.1 that takes traces by gRPC and by HTTP/protobuf, gzipped or not. A request is recorded when its head
//! has arrived, whatever the answer; its spans when it is accepted. Logs and metrics are not taken.

mod serve;
mod span;
mod tls;

pub use span::{ReceivedEvent, ReceivedLink, ReceivedSpan};

use crate::cluster::background;
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How requests are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// At once, with success.
    #[default]
    Accept,
    /// With success, after this time.
    Slow(Duration),
    /// With gRPC UNAVAILABLE or HTTP 503: the exporter may try again.
    Refuse,
    /// Not at all, until the behaviour changes; then as that says.
    Hang,
    /// With an error.
    Fail {
        /// gRPC status code, 1 to 16.
        grpc: i32,
        /// HTTP status.
        http: u16,
    },
}

/// What a receiver is started with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Whether it speaks TLS, with a certificate for `localhost` and 127.0.0.1 from a CA of its own.
    pub tls: bool,
    /// How it starts to answer.
    pub behaviour: Behaviour,
}

/// By which protocol a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP with a protobuf body.
    HttpProtobuf,
}

/// One request of an exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedRequest {
    /// How it came.
    pub protocol: Protocol,
    /// Its headers, which are the metadata of gRPC; names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Whether it was answered with success.
    pub accepted: bool,
    /// How many spans were in it; 0 until it is accepted.
    pub spans: usize,
}

/// A receiver; it ends when it is dropped.
pub struct OtlpReceiver {
    shared: Arc<Shared>,
    endpoint: String,
    ca: Option<String>,
    accepting: tokio::task::AbortHandle,
}

struct Shared {
    behaviour: watch::Sender<Behaviour>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    requests: Vec<ReceivedRequest>,
    spans: Vec<ReceivedSpan>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OtlpReceiver {
    /// Starts to listen on a port of its own.
    ///
    /// # Errors
    /// When it cannot listen or no certificate can be made.
    pub fn start(options: Options) -> anyhow::Result<Self> {
        let identity = options.tls.then(tls::Identity::new).transpose()?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("a port for OTLP")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let runtime = background::runtime();
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let shared =
            Arc::new(Shared { behaviour: watch::Sender::new(options.behaviour), state: Mutex::new(State::default()) });
        let acceptor = identity.as_ref().map(tls::Identity::acceptor).transpose()?;
        let accepting = runtime.spawn(serve::accept(listener, acceptor, Arc::clone(&shared))).abort_handle();
        let endpoint = match identity {
            Some(_) => format!("https://localhost:{port}"),
            None => format!("http://127.0.0.1:{port}"),
        };
        Ok(Self { shared, endpoint, ca: identity.map(|identity| identity.ca_pem), accepting })
    }

    /// `OTEL_EXPORTER_OTLP_ENDPOINT` for it, of either protocol.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The certificate of its CA, PEM; `None` without TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca.as_deref()
    }

    /// How requests are answered from now on, also those that hang.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.shared.behaviour.send_replace(behaviour);
    }

    /// Every span that was accepted, in the order of arrival.
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        self.shared.state().spans.clone()
    }

    /// Every request, in the order of arrival.
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.shared.state().requests.clone()
    }

    /// The headers of every request, in the order of arrival.
    pub fn headers(&self) -> Vec<BTreeMap<String, String>> {
        self.shared.state().requests.iter().map(|request| request.headers.clone()).collect()
    }
}

impl Drop for OtlpReceiver {
    fn drop(&mut self) {
        // The connections end with it.
        self.accepting.abort();
    }
}

#[cfg(test)]
mod tests;
