//! `/debug/state`: what every actor of every server is doing, as JSON, for whoever sits on the node or in the pod.
//!
//! Off unless asked for, and on a loopback address only: it is a picture of the process, not an interface. The actors
//! are asked by message and given [`PATIENCE`]; one that does not answer is shown as such, and delays nobody.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use futures::future::join_all;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::actors::Deps;
use crate::actors::heart::Heart;
use crate::actors::inspect::{Census, Inspect, Member};
use crate::actors::supervisor::Supervisor;
use crate::telemetry::trace::milliseconds;

/// How long an actor has for its answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the picture is made of.
#[derive(Clone)]
pub struct Debug {
    /// For the caches.
    pub deps: Arc<Deps>,
    /// Whether the actors live.
    pub heart: Arc<Heart>,
    /// Who knows them.
    pub supervisor: Addr<Supervisor>,
}

/// Reads `--debug-addr`: an address that nobody can reach from outside.
pub fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|_| format!("{text:?} is not ADDRESS:PORT, such as 127.0.0.1:6060"))?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(format!(
            "{address} can be reached from outside; the state is for localhost only: 127.0.0.1:PORT or [::1]:PORT"
        ))
    }
}

/// Serves the state for as long as the process lives. Returns the address that it listens on.
pub async fn serve(address: SocketAddr, debug: Debug) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let app = Router::new()
        .route("/debug/state", get(|State(debug): State<Debug>| async move { Json(debug.state().await) }))
        .with_state(debug);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, "the debug endpoint ended");
        }
    });
    Ok(bound)
}

impl Debug {
    /// The whole picture.
    pub async fn state(&self) -> Value {
        let since = self.deps.origin.elapsed();
        let caches = &self.deps.caches;
        let mut picture = json!({
            "uptimeSeconds": since.as_secs(),
            "standstill": self.heart.standstill().map(|stopped| stopped.to_string()),
            "heartbeatAgeMilliseconds": milliseconds(since.saturating_sub(self.heart.last())),
            "listed": {
                "dittoservers": caches.servers.is_synced(),
                "statefulsets": caches.stateful_sets.is_synced(),
                "services": caches.services.is_synced(),
                "configmaps": caches.config_maps.is_synced(),
                "pods": caches.pods.is_synced(),
            },
        });
        picture["servers"] = match timeout(PATIENCE, self.supervisor.send(Census)).await {
            Ok(Ok(members)) => servers(members).await,
            Ok(Err(_)) | Err(_) => json!({"error": "the Supervisor does not answer"}),
        };
        picture
    }
}

async fn servers(members: Vec<Member>) -> Value {
    let asked = members.into_iter().map(|Member { key, role, address }| async move {
        let answer = match timeout(PATIENCE, address.send(Inspect)).await {
            Ok(Ok(state)) => state,
            Ok(Err(_)) => json!({"error": "the actor is gone; it is started anew"}),
            Err(_) => json!({"error": "no answer"}),
        };
        (key, role, answer)
    });
    let mut all: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for (key, role, answer) in join_all(asked).await {
        all.entry(key.to_string()).or_default().insert(role.as_str().to_owned(), answer);
    }
    all.into_iter().map(|(key, actors)| (key, Value::Object(actors))).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::loopback;

    #[test]
    fn only_an_address_of_this_host_is_taken() {
        for good in ["127.0.0.1:6060", "127.8.0.1:0", "[::1]:6060"] {
            assert_eq!(loopback(good).map(|address| address.to_string()).as_deref(), Ok(good));
        }
        for (bad, why) in [
            ("0.0.0.0:6060", "localhost only"),
            ("[::]:6060", "localhost only"),
            ("10.0.0.1:6060", "localhost only"),
            ("localhost", "is not ADDRESS:PORT"),
            ("6060", "is not ADDRESS:PORT"),
        ] {
            assert!(loopback(bad).is_err_and(|error| error.contains(why)), "{bad}");
        }
    }
}
