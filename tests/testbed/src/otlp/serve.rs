//! The receiver's connections: HTTP/1.1 and HTTP/2, with or without TLS, told apart by what the client sends.

use super::{Behaviour, Protocol, ReceivedRequest, Shared, span};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use prost::Message as _;
use std::convert::Infallible;
use std::io::Read as _;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;
use tonic::codegen::{CompressionEncoding, Service as _};

const GRPC: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const HTTP: &str = "/v1/traces";
const PROTOBUF: &str = "application/x-protobuf";

pub(super) async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>) {
    // The connections end with the listener.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(connection(stream, acceptor.clone(), Arc::clone(&shared)));
                }
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn connection(stream: TcpStream, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>) {
    match acceptor {
        None => serve(stream, shared).await,
        Some(acceptor) => {
            // One that does not trust us goes away here: nothing was received.
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(stream, shared).await;
            }
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, shared: Arc<Shared>) {
    let service = hyper::service::service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(request, shared).await) }
    });
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    // An error is how a connection ends that the other side has left.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Response<Body> {
    match (request.method(), request.uri().path()) {
        (&Method::POST, GRPC) => grpc(request, shared).await,
        (&Method::POST, HTTP) => http_protobuf(request, &shared).await,
        _ => plain(StatusCode::NOT_FOUND, Bytes::new()),
    }
}

/// Records the head of a request; gives its index.
fn record(shared: &Shared, protocol: Protocol, headers: &HeaderMap) -> usize {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    let mut state = shared.state();
    state.requests.push(ReceivedRequest { protocol, headers, accepted: false, spans: 0 });
    state.requests.len() - 1
}

/// Waits as the behaviour says; an error is what is to be answered: gRPC code and HTTP status.
async fn gate(shared: &Shared) -> Result<(), (i32, u16)> {
    let mut behaviour = shared.behaviour.subscribe();
    loop {
        let now = *behaviour.borrow_and_update();
        match now {
            Behaviour::Accept => return Ok(()),
            Behaviour::Slow(time) => {
                tokio::time::sleep(time).await;
                return Ok(());
            }
            Behaviour::Refuse => return Err((tonic::Code::Unavailable as i32, 503)),
            Behaviour::Fail { grpc, http } => return Err((grpc, http)),
            Behaviour::Hang => {
                // The sender lives in `shared`.
                let _ = behaviour.changed().await;
            }
        }
    }
}

fn accepted(shared: &Shared, index: usize, request: ExportTraceServiceRequest) {
    let spans = span::spans(request, index);
    let mut state = shared.state();
    state.requests[index].accepted = true;
    state.requests[index].spans = spans.len();
    state.spans.extend(spans);
}

async fn grpc(request: Request<Incoming>, shared: Arc<Shared>) -> Response<Body> {
    let index = record(&shared, Protocol::Grpc, request.headers());
    if let Err((code, _)) = gate(&shared).await {
        return tonic::Status::new(code.into(), "the test's receiver was told so").into_http();
    }
    let mut service = TraceServiceServer::new(Recorder { shared, index }).accept_compressed(CompressionEncoding::Gzip);
    let Ok(response) = service.call(request).await;
    response
}

struct Recorder {
    shared: Arc<Shared>,
    index: usize,
}

#[tonic::async_trait]
impl TraceService for Recorder {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        accepted(&self.shared, self.index, request.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn http_protobuf(request: Request<Incoming>, shared: &Shared) -> Response<Body> {
    let (head, body) = request.into_parts();
    let index = record(shared, Protocol::HttpProtobuf, &head.headers);
    if let Err((_, status)) = gate(shared).await {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        return plain(status, Bytes::new());
    }
    let content = head.headers.get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    if content != Some(PROTOBUF.as_bytes()) {
        return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, Bytes::new());
    }
    let Ok(body) = body.collect().await else { return plain(StatusCode::BAD_REQUEST, Bytes::new()) };
    let body = match head.headers.get(header::CONTENT_ENCODING).map(http::HeaderValue::as_bytes) {
        None => Ok(body.to_bytes()),
        Some(b"gzip") => unzip(&body.to_bytes()),
        Some(_) => return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, Bytes::new()),
    };
    let Ok(body) = body else { return plain(StatusCode::BAD_REQUEST, Bytes::new()) };
    match ExportTraceServiceRequest::decode(body) {
        Ok(request) => {
            accepted(shared, index, request);
            plain(StatusCode::OK, ExportTraceServiceResponse::default().encode_to_vec().into())
        }
        Err(_) => plain(StatusCode::BAD_REQUEST, Bytes::new()),
    }
}

fn unzip(zipped: &[u8]) -> std::io::Result<Bytes> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(zipped).read_to_end(&mut plain)?;
    Ok(plain.into())
}

fn plain(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(PROTOBUF));
    response
}
