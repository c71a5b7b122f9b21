//! `/healthz` and `/readyz`.
//!
//! Alive: the actor system turns, which the Supervisor's heartbeat proves, and every actor answers. Ready: every watch
//! was listed once and the process is not ending. The body says what is missing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::actors::Deps;
use crate::actors::heart::Heart;

/// What health is read from.
#[derive(Clone)]
pub struct Health {
    /// The deps, for the caches and the origin of time.
    pub deps: Arc<Deps>,
    /// Whether the actors live.
    pub heart: Arc<Heart>,
    /// Set when the process begins to end.
    pub ending: Arc<AtomicBool>,
}

impl Health {
    fn alive(&self) -> Result<(), String> {
        self.heart.standstill().map_or(Ok(()), |stopped| Err(format!("{stopped}\n")))
    }

    fn ready(&self) -> Result<(), String> {
        self.alive()?;
        if self.ending.load(Ordering::Relaxed) {
            return Err("shutting down\n".to_owned());
        }
        let caches = &self.deps.caches;
        let missing: Vec<&str> = [
            ("dittoservers", caches.servers.is_synced()),
            ("statefulsets", caches.stateful_sets.is_synced()),
            ("services", caches.services.is_synced()),
            ("configmaps", caches.config_maps.is_synced()),
            ("pods", caches.pods.is_synced()),
        ]
        .into_iter()
        .filter_map(|(kind, synced)| (!synced).then_some(kind))
        .collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("not listed yet: {}\n", missing.join(", "))) }
    }
}

fn answer(result: Result<(), String>) -> (StatusCode, String) {
    match result {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(missing) => (StatusCode::SERVICE_UNAVAILABLE, missing),
    }
}

/// Serves both paths for as long as the process lives. Returns the address that it listens on.
pub async fn serve(address: SocketAddr, health: Health) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let app = Router::new()
        .route("/healthz", get(|State(health): State<Health>| async move { answer(health.alive()) }))
        .route("/readyz", get(|State(health): State<Health>| async move { answer(health.ready()) }))
        .with_state(health);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, "the health endpoint ended");
        }
    });
    Ok(bound)
}
