//! The proxy's connections: HTTP/1.1 with keep-alive on this side, HTTP/1.1 over TLS on the other; bodies of answers are
//! streamed, so that watches pass event by event.

use super::{Action, Cut, Hook, Mode, Seen, Shared};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::net::{TcpListener, TcpStream};

type Body = UnsyncBoxBody<Bytes, io::Error>;

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // The connections end with the listener.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(connection(stream, Arc::clone(&shared)));
                }
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let mut cuts = shared.cuts.subscribe();
    if *shared.mode.borrow() == Mode::Refuse {
        return;
    }
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(|request| handle(request, Arc::clone(&shared)));
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // An error is how a connection without an answer is closed.
        _ = serving => {}
        _ = cuts.changed() => {}
    }
}

/// What was decided about a request before anything was sent.
struct Plan {
    index: usize,
    seen: Seen,
    cut: Option<(Cut, Hook)>,
    action: Option<Action>,
}

fn plan(request: &Request<Incoming>, shared: &Shared) -> Plan {
    let method = request.method().clone();
    let path = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let writes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(&method);
    let mut state = shared.state();
    let write = (writes && (state.counts)(&method, &path)).then(|| {
        state.writes += 1;
        state.writes
    });
    let hit = |(cut, _): &mut (Cut, Hook)| {
        let (Cut::BeforeWrite(n) | Cut::AfterWrite(n)) = *cut;
        write == Some(n)
    };
    let cut = state.cut.take_if(hit);
    let action = state.rules.iter_mut().find_map(|rule| rule.take(&method, &path));
    let seen = Seen { time: SystemTime::now(), method, path, accept: accept.to_owned(), write, status: None };
    state.seen.push(seen.clone());
    Plan { index: state.seen.len() - 1, seen, cut, action }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the proxy was told to close the connection")
}

async fn pass_mode(shared: &Shared) -> io::Result<()> {
    let mut mode = shared.mode.subscribe();
    let mode = *mode.wait_for(|mode| *mode != Mode::Hang).await.map_err(io::Error::other)?;
    if mode == Mode::Refuse { Err(closed()) } else { Ok(()) }
}

async fn handle(request: Request<Incoming>, shared: Arc<Shared>) -> io::Result<Response<Body>> {
    let Plan { index, seen, cut, action } = plan(&request, &shared);
    pass_mode(&shared).await?;
    if let Some((Cut::BeforeWrite(_), hook)) = &cut {
        hook(seen).await;
        return Err(closed());
    }
    match action {
        None => {}
        Some(Action::Hang) => std::future::pending::<()>().await,
        Some(Action::Refuse) => return Err(closed()),
        Some(Action::Delay(time)) => tokio::time::sleep(time).await,
        Some(Action::Before(hook)) => hook(seen.clone()).await,
        Some(Action::Answer(code, value)) => {
            note(&shared, index, &seen, code);
            let body = Full::new(Bytes::from(value.to_string())).map_err(|never| match never {}).boxed_unsync();
            return Response::builder()
                .status(code)
                .header(header::CONTENT_TYPE, "application/json")
                .body(body)
                .map_err(io::Error::other);
        }
    }
    let answer = forward(request, &shared).await?;
    if let Some((Cut::AfterWrite(_), hook)) = &cut {
        // Read to the end: the API server is done with the request then.
        let _ = answer.bytes().await;
        hook(seen).await;
        return Err(closed());
    }
    note(&shared, index, &seen, answer.status().as_u16());
    Ok(stream(answer, &shared))
}

fn note(shared: &Shared, index: usize, seen: &Seen, code: u16) {
    // After a reset the place is gone, or another request's.
    if let Some(entry) = shared.state().seen.get_mut(index).filter(|entry| entry.time == seen.time) {
        entry.status = Some(code);
    }
}

/// Headers of one connection, which the next must not see.
const HOP_BY_HOP: [&str; 8] =
    ["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-connection", "host"];

fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    headers
        .iter()
        .filter(|(name, _)| !HOP_BY_HOP.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

async fn forward(request: Request<Incoming>, shared: &Shared) -> io::Result<reqwest::Response> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let url = format!("{}{}", shared.server, parts.uri);
    let mut headers = end_to_end(&parts.headers);
    headers.remove(header::CONTENT_LENGTH);
    let mut forwarded = shared.upstream.request(parts.method, url).headers(headers);
    if !body.is_empty() {
        forwarded = forwarded.body(body);
    }
    forwarded.send().await.map_err(io::Error::other)
}

fn stream(answer: reqwest::Response, shared: &Arc<Shared>) -> Response<Body> {
    let status = StatusCode::from_u16(answer.status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
    let headers = end_to_end(answer.headers());
    let shared = Arc::clone(shared);
    let chunks = answer.bytes_stream().map_err(io::Error::other).and_then(move |chunk| {
        let shared = Arc::clone(&shared);
        async move { pass_mode(&shared).await.map(|()| Frame::data(chunk)) }
    });
    let mut response = Response::new(StreamBody::new(chunks.boxed()).boxed_unsync());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
