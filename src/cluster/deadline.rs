//! A tower layer that bounds how long the API server may keep us waiting.
//!
//! Owns: the deadline of every request. Touches no request and no answer. Guarantees: an ordinary call ends, body
//! included, within the request timeout; a watch's response head comes within the request timeout and its body is
//! never silent for longer than the idle timeout. kube itself sets no limit on either (`Config::read_timeout` is
//! `None`), so that a LIST or GET that is never answered would block for ever.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use kube::client::Body as KubeBody;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tower::{BoxError, Layer, Service};

/// The API server did not answer, or not to the end, within this time.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no complete answer within {0:?}")]
pub struct DeadlineExceeded(pub Duration);

/// The layer.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// For the whole of an ordinary call, and for the response head of a watch.
    pub request: Duration,
    /// For the silence between two pieces of a watch's body. Bookmarks come every minute or so.
    pub watch_idle: Duration,
}

impl<S> Layer<S> for Deadlines {
    type Service = WithDeadlines<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithDeadlines { inner, deadlines: *self }
    }
}

/// A service under [`Deadlines`].
#[derive(Clone, Debug)]
pub struct WithDeadlines<S> {
    inner: S,
    deadlines: Deadlines,
}

/// Whether the request asks for a stream that ends late by design.
pub(super) fn is_watch<B>(request: &Request<B>) -> bool {
    request.uri().query().is_some_and(|q| q.split('&').any(|p| p == "watch=true" || p == "watch=1"))
}

impl<S, B> Service<Request<KubeBody>> for WithDeadlines<S>
where
    S: Service<Request<KubeBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
{
    type Response = Response<BoundedBody<B>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<KubeBody>) -> Self::Future {
        let Deadlines { request: limit, watch_idle } = self.deadlines;
        let idle = is_watch(&request).then_some(watch_idle);
        let deadline = Instant::now() + limit;
        let answer = self.inner.call(request);
        Box::pin(async move {
            let Ok(response) = timeout_at(deadline, answer).await else {
                return Err(DeadlineExceeded(limit).into());
            };
            let (until, span) = match idle {
                Some(idle) => (Instant::now() + idle, idle),
                None => (deadline, limit),
            };
            let response = response.map_err(Into::into)?;
            Ok(response.map(|body| BoundedBody {
                inner: Box::pin(body),
                alarm: Box::pin(sleep_until(until)),
                idle,
                span,
            }))
        })
    }
}

/// A response body that fails when its time is up.
pub struct BoundedBody<B> {
    inner: Pin<Box<B>>,
    alarm: Pin<Box<Sleep>>,
    /// Re-arms the alarm with each piece; `None` when the alarm bounds the whole body.
    idle: Option<Duration>,
    span: Duration,
}

impl<B> Body for BoundedBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if let Poll::Ready(frame) = self.inner.as_mut().poll_frame(cx) {
            if let Some(idle) = self.idle {
                self.alarm.as_mut().reset(Instant::now() + idle);
            }
            return Poll::Ready(frame.map(|f| f.map_err(Into::into)));
        }
        if self.alarm.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(DeadlineExceeded(self.span).into())));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use serde_json::json;

    use super::super::error::find_in_chain;
    use super::super::scripted::{Reply, Server};
    use super::*;

    const S: Duration = Duration::from_secs(1);

    async fn read(server: &Server, uri: &str) -> (Duration, usize, Option<Duration>) {
        let start = Instant::now();
        let request = Request::get(uri).body(KubeBody::empty()).expect("a request");
        let mut body = server.client().send(request).await.expect("a head").into_body();
        let mut pieces = 0;
        loop {
            match body.frame().await {
                Some(Ok(_)) => pieces += 1,
                Some(Err(error)) => {
                    return (start.elapsed(), pieces, find_in_chain::<DeadlineExceeded>(&error).map(|d| d.0));
                }
                None => return (start.elapsed(), pieces, None),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_may_last_but_not_be_silent() {
        let ticks = || vec![(60 * S, json!(1)), (69 * S, json!(2))];
        let server = Server::new(move |_, _| Reply::EventsThenSilence(ticks()));
        assert_eq!(read(&server, "/x?a=b&watch=true").await, (199 * S, 2, Some(70 * S)));
        let server = Server::new(move |_, _| Reply::Events(ticks()));
        assert_eq!(read(&server, "/x?watch=1").await, (129 * S, 2, None));
    }

    #[tokio::test(start_paused = true)]
    async fn an_ordinary_answer_that_trickles_ends_at_the_deadline() {
        let server = Server::new(|_, _| Reply::Events((0..100).map(|i| (3 * S, json!(i))).collect()));
        assert_eq!(read(&server, "/x?watch=false").await, (10 * S, 3, Some(10 * S)));
    }
}
