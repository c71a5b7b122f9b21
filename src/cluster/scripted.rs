//! A scripted API server for tests: a function from request to reply, and a record of what was asked and when.
//!
//! A request that the script does not know fails the test as soon as it looks at the record. There is no real I/O, so
//! that a paused clock runs hours in milliseconds.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tower::{BoxError, Service};

use super::{ConnectOptions, client_over};

/// More requests than any test has a use for.
const STORM: usize = 5000;

/// A request as it reached the server.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Since the server was made.
    pub(crate) at: Duration,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) accept: String,
    pub(crate) content_type: String,
    pub(crate) body: Value,
}

impl Asked {
    pub(crate) fn is_watch(&self) -> bool {
        self.query.contains("watch=true")
    }

    /// A GET of a collection that is no watch.
    pub(crate) fn is_list(&self) -> bool {
        self.method == Method::GET && !self.is_watch() && self.query.contains("limit=")
    }
}

/// What the server does with a request.
pub(crate) enum Reply {
    /// This status and body.
    Json(u16, Value),
    /// This status and text.
    Text(u16, String),
    /// Never an answer.
    Hang,
    /// The response head and half a body, then silence.
    HalfThenHang(&'static str),
    /// Nobody listens.
    Refused,
    /// A watch: each line after its delay (counted from the one before), then the end.
    Events(Vec<(Duration, Value)>),
    /// As `Events`, but never an end: a connection that is dead on the other side.
    EventsThenSilence(Vec<(Duration, Value)>),
    /// This reply, that much later; what was asked is done at once.
    Late(Duration, Box<Reply>),
    /// The test did not expect that.
    Unexpected,
    /// Too much: no answer any more, so that the test comes to its end and fails.
    Storm,
}

impl Reply {
    /// An error as the API server words it.
    pub(crate) fn status(code: u16, reason: &str) -> Self {
        Self::Json(code, failure(code, reason))
    }
}

/// A `Status` object.
pub(crate) fn failure(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
           "message": format!("scripted {reason}")})
}

/// A list with this version and these items.
pub(crate) fn list(version: &str, items: &[Value]) -> Value {
    json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items})
}

/// One line of a watch.
pub(crate) fn event(kind: &str, object: &Value) -> Value {
    json!({"type": kind, "object": object})
}

type Script = dyn FnMut(&Asked, usize) -> Reply + Send;

struct State {
    script: Box<Script>,
    asked: Vec<Asked>,
    unexpected: Vec<String>,
}

/// The server.
#[derive(Clone)]
pub(crate) struct Server {
    state: Arc<Mutex<State>>,
    start: Instant,
}

impl Server {
    /// `script` is given each request and how many came before it.
    pub(crate) fn new(script: impl FnMut(&Asked, usize) -> Reply + Send + 'static) -> Self {
        let state = State { script: Box::new(script), asked: Vec::new(), unexpected: Vec::new() };
        Self { state: Arc::new(Mutex::new(state)), start: Instant::now() }
    }

    pub(crate) fn client(&self) -> Client {
        client_over(self.clone(), &ConnectOptions::default())
    }

    /// All requests so far; fails the test when one was not expected.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        let state = self.state.lock().expect("no panic in a script");
        assert!(state.unexpected.is_empty(), "unexpected: {:#?}", state.unexpected);
        state.asked.clone()
    }

    pub(crate) fn lists(&self) -> Vec<Asked> {
        self.asked().into_iter().filter(Asked::is_list).collect()
    }

    pub(crate) fn watches(&self) -> Vec<Asked> {
        self.asked().into_iter().filter(Asked::is_watch).collect()
    }
}

type ReplyBody = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

impl Service<Request<Body>> for Server {
    type Response = Response<ReplyBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let header = |name| parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
            let asked = Asked {
                at: server.start.elapsed(),
                method: parts.method,
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().unwrap_or_default().to_owned(),
                accept: header(http::header::ACCEPT),
                content_type: header(http::header::CONTENT_TYPE),
                body: serde_json::from_slice(&body).unwrap_or_default(),
            };
            let reply = {
                let mut state = server.state.lock().expect("no panic in a script");
                let before = state.asked.len();
                let reply = if before < STORM { (state.script)(&asked, before) } else { Reply::Storm };
                if matches!(reply, Reply::Unexpected | Reply::Storm) {
                    state.unexpected.push(format!("{asked:?}"));
                }
                state.asked.push(asked);
                reply
            };
            let reply = match reply {
                Reply::Late(delay, reply) => {
                    sleep(delay).await;
                    *reply
                }
                reply => reply,
            };
            answer(reply).await
        })
    }
}

async fn answer(reply: Reply) -> Result<Response<ReplyBody>, BoxError> {
    let respond = |code: u16, frames: BoxStream<'static, Result<Frame<Bytes>, Infallible>>| {
        Ok(Response::builder().status(code).body(StreamBody::new(frames))?)
    };
    let once = |text: String| stream::iter([Ok(Frame::data(Bytes::from(text)))]);
    let lines = |events: Vec<(Duration, Value)>| {
        stream::iter(events).then(|(delay, line)| async move {
            sleep(delay).await;
            Ok(Frame::data(Bytes::from(format!("{line}\n"))))
        })
    };
    match reply {
        Reply::Json(code, body) => respond(code, once(body.to_string()).boxed()),
        Reply::Text(code, body) => respond(code, once(body).boxed()),
        Reply::Hang | Reply::Storm => std::future::pending().await,
        Reply::HalfThenHang(half) => respond(200, once(half.to_owned()).chain(stream::pending()).boxed()),
        Reply::Refused => Err(Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionRefused))),
        Reply::Events(events) => respond(200, lines(events).boxed()),
        Reply::EventsThenSilence(events) => respond(200, lines(events).chain(stream::pending()).boxed()),
        Reply::Late(..) | Reply::Unexpected => respond(500, once("unexpected".to_owned()).boxed()),
    }
}
