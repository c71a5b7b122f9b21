//! `GET /metrics`, and nothing else, at an address of its own.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use super::{Format, Metrics};

/// Serves for as long as the process lives. Returns the address that it listens on.
pub async fn serve(address: SocketAddr, metrics: Metrics) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let app = Router::new().route("/metrics", get(scrape)).with_state(metrics);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, "the metrics endpoint ended");
        }
    });
    Ok(bound)
}

async fn scrape(State(metrics): State<Metrics>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = Format::accepted(accept);
    match metrics.encode(format) {
        Ok(text) => Ok(([(header::CONTENT_TYPE, format.content_type())], text)),
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write the metrics: {error}\n"))),
    }
}
