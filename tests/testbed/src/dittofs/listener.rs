//! The port: accepts connections, finds each request's server, applies its fault, sends the answer. One small task a
//! connection and none a request; all end when the accept loop's task is aborted.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::api::{self, Call};
use super::body::{self, AnswerBody, Content};
use super::clock::Now;
use super::door::welcome;
use super::fault::Mode;
use super::log::{Caller, Flight, Record};
use super::reply::Reply;
use super::route::{Route, route};
use super::server::Server;
use super::token::Role;
use super::{ADAPTERS, AdminSource, LOGIN, locked};

/// The largest request body that is read.
const LARGEST_REQUEST: usize = 1024 * 1024;

/// How deep a [`Mode::DeepNesting`] goes.
const DEPTH: usize = 100_000;

/// All servers behind one port.
#[derive(Default)]
pub(super) struct Hub {
    servers: Mutex<HashMap<(String, String), Arc<Server>>>,
    admin_source: Mutex<Option<AdminSource>>,
}

impl Hub {
    /// The server of that name; a fresh one at its first mention.
    pub(super) fn server(&self, namespace: &str, name: &str) -> Arc<Server> {
        let key = (namespace.to_owned(), name.to_owned());
        let fresh = || Arc::new(Server::fresh(namespace, name));
        Arc::clone(locked(&self.servers).entry(key).or_insert_with(fresh))
    }

    pub(super) fn servers(&self) -> Vec<Arc<Server>> {
        locked(&self.servers).values().cloned().collect()
    }

    /// The server that has a certificate, when just one has.
    pub(super) fn only_one_with_tls(&self) -> Option<Arc<Server>> {
        let mut found = self.servers().into_iter().filter(|server| server.tls().is_some());
        found.next().filter(|_| found.next().is_none())
    }

    pub(super) fn set_admin_source(&self, source: AdminSource) {
        *locked(&self.admin_source) = Some(source);
    }

    /// Asks for the admin's credentials when the server has none.
    async fn seed(&self, server: &Server) {
        if !server.wants_admin() {
            return;
        }
        let Some(source) = locked(&self.admin_source).clone() else { return };
        if let Some((username, password)) = source(server.namespace.clone(), server.name.clone()).await {
            server.seed(&username, &password);
        }
    }
}

/// Accepts for ever.
pub(super) async fn accept(listener: TcpListener, hub: Arc<Hub>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn(welcome(stream, Arc::clone(&hub))); }
                // Out of file descriptors: some come back when connections end.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Answers the requests of one connection, over TLS with `secure` when that is a server. `reset` makes its closing an
/// abrupt one.
pub(super) async fn converse<S>(
    stream: S,
    hub: Arc<Hub>,
    secure: Option<Arc<Server>>,
    reset_by: impl FnOnce(S) -> io::Result<()>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let over_tls = secure.is_some();
    let reset = Arc::new(Notify::new());
    let resetting = Arc::clone(&reset);
    let service = service_fn(move |request| {
        let (hub, reset) = (Arc::clone(&hub), Arc::clone(&resetting));
        async move {
            let Some(response) = serve(&hub, request, over_tls).await else {
                reset.notify_one();
                return std::future::pending().await;
            };
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let changed = async {
        match &secure {
            Some(server) => server.tls_changed.notified().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = &mut connection => {}
        () = changed => {}
        () = reset.notified() => {
            let _ = reset_by(connection.into_parts().io.into_inner());
        }
    }
}

/// The answer to one request; none when the connection is to be reset.
async fn serve(hub: &Hub, request: Request<Incoming>, over_tls: bool) -> Option<Response<AnswerBody>> {
    let (head, body) = request.into_parts();
    let Some(Route { namespace, name, path }) = route(&head.uri, &head.headers) else {
        let reply = Reply::text(StatusCode::NOT_FOUND, "no server in this address");
        return Some(respond(&reply, None));
    };
    let server = hub.server(&namespace, &name);
    if server.tls().is_some() && !over_tls {
        let reply = Reply::text(StatusCode::BAD_REQUEST, "Client sent an HTTP request to an HTTPS server.");
        return Some(respond(&reply, None));
    }
    let authorization = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    // Made before the request can be seen in the log: who sees it there and restarts the server ends it.
    let restarted = server.restarted.notified();
    let (mode, flight) = begin(&server, &head, &path, authorization);

    match mode {
        Mode::Normal | Mode::HalfBody | Mode::DuplicateType => {}
        Mode::Slow(delay) => tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = restarted => return None,
        },
        Mode::Hang => {
            restarted.await;
            return None;
        }
        Mode::Reset => return None,
        mode => return Some(wrong(mode, flight)),
    }

    let body = Limited::new(body, LARGEST_REQUEST).collect().await.map(http_body_util::Collected::to_bytes);
    if path == LOGIN {
        hub.seed(&server).await;
    }
    let body = body.unwrap_or_default();
    let call = Call { method: &head.method, path: &path, authorization, body: &body };
    let reply = {
        let (mut state, now) = (server.state(), Now::read());
        let reply = api::answer(&mut state, &call, now);
        let polled = head.method == Method::GET && path == ADAPTERS && reply.status == StatusCode::OK;
        if polled && matches!(mode, Mode::Normal | Mode::Slow(_)) {
            flight.told(state.database.adapters.views(now));
        }
        reply
    };
    match mode {
        Mode::HalfBody if reply.body.is_empty() => None,
        Mode::HalfBody => {
            flight.answered(reply.status.as_u16());
            let body = AnswerBody::new(Content::Half(reply.body.clone()), Some(flight));
            Some(with_head(&reply, body))
        }
        Mode::DuplicateType if head.method == Method::GET && path == ADAPTERS => {
            Some(respond(&twice(reply), Some(flight)))
        }
        _ => Some(respond(&reply, Some(flight))),
    }
}

/// How the request is answered; notes it in the log.
fn begin(server: &Server, head: &Parts, path: &str, authorization: Option<&str>) -> (Mode, Flight) {
    let mut state = server.state();
    let mode = state.faults.take(&head.method, path);
    let caller = match (head.headers.contains_key(AUTHORIZATION), api::claims(&state, authorization, Now::read())) {
        (false, _) => Caller::None,
        (true, Some(claims)) if claims.role == Role::Admin => Caller::Admin,
        (true, Some(claims)) if claims.role == Role::Operator => Caller::Operator,
        (true, _) => Caller::Other,
    };
    drop(state);
    let traceparent = head.headers.get("traceparent").and_then(|value| value.to_str().ok());
    let flight = server.log.begin(Record {
        at: Instant::now(),
        wall: SystemTime::now(),
        method: head.method.clone(),
        path: path.to_owned(),
        caller,
        traceparent: traceparent.map(str::to_owned),
        faulty: mode != Mode::Normal,
        status: None,
        ended: None,
        adapters: None,
    });
    (mode, flight)
}

/// The answer of a mode that does not do what was asked.
fn wrong(mode: Mode, flight: Flight) -> Response<AnswerBody> {
    let content = match mode {
        Mode::Huge(length) => Some(Content::Padded(length as u64)),
        Mode::Endless => Some(Content::Endless),
        _ => None,
    };
    if let Some(content) = content {
        flight.answered(StatusCode::OK.as_u16());
        return with_head(&Reply::raw(Bytes::new()), AnswerBody::new(content, Some(flight)));
    }
    let mut headers = Vec::new();
    let reply = match mode {
        Mode::Status(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Reply::problem(status, "told to fail")
        }
        Mode::Garbage => Reply::raw("<<< this is [ not { JSON"),
        Mode::Null => Reply::raw("null"),
        Mode::Unauthorized => Reply::unauthorized(),
        Mode::Forbidden => Reply::forbidden(),
        Mode::Redirect(location) => {
            headers.extend(HeaderValue::from_str(&location).map(|location| (LOCATION, location)));
            Reply { status: StatusCode::TEMPORARY_REDIRECT, content_type: None, body: Bytes::new() }
        }
        Mode::UnknownShape => {
            let body = json!({"items": [{"kind": "nfs", "state": "up", "listen": "0.0.0.0:12049"}], "total": 1});
            Reply::json(StatusCode::OK, &body)
        }
        Mode::GzipBomb => {
            headers.push((CONTENT_ENCODING, HeaderValue::from_static("gzip")));
            Reply::raw(body::gzip_bomb())
        }
        Mode::DeepNesting => Reply::raw(["[".repeat(DEPTH), "]".repeat(DEPTH)].concat()),
        // The others are answered elsewhere; a body that is empty is what is left.
        _ => Reply::raw(Bytes::new()),
    };
    let mut response = respond(&reply, Some(flight));
    response.headers_mut().extend(headers);
    response
}

/// The list with its first entry twice, the second time stopped and elsewhere.
fn twice(reply: Reply) -> Reply {
    let Ok(Value::Array(mut adapters)) = serde_json::from_slice(&reply.body) else { return reply };
    let Some(mut again) = adapters.first().cloned() else { return reply };
    again["port"] = json!(again["port"].as_u64().unwrap_or_default() + 1);
    again["enabled"] = json!(false);
    again["running"] = json!(false);
    adapters.push(again);
    Reply::json(reply.status, &Value::Array(adapters))
}

fn respond(reply: &Reply, flight: Option<Flight>) -> Response<AnswerBody> {
    if let Some(flight) = &flight {
        flight.answered(reply.status.as_u16());
    }
    let body = AnswerBody::new(Content::Whole(reply.body.clone()), flight);
    with_head(reply, body)
}

fn with_head(reply: &Reply, body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    if let Some(content_type) = reply.content_type {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}
