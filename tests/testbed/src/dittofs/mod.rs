//! A stand-in for DittoFS servers: any number of them behind one port of this process, answering as the recorded
//! exchanges of a real server show (`tests/exchanges.rs` replays them), and failing in every way on demand.
//!
//! Owns its servers' state, in memory; touches nothing outside the process but its port on 127.0.0.1. Which server a
//! request is for is told by the path `/NAMESPACE/NAME/…` ([`StandIn::url_template`]), or by the host
//! `NAME-api.NAMESPACE.svc…` when the stand-in is a client's HTTP proxy. A server comes to be, fresh, when it is first
//! asked or named. One that was given a certificate ([`ServerHandle::set_tls`]) speaks TLS alone; the client says by SNI
//! whom it wants.
//!
//! Guarantees: whatever the real server was recorded to answer, a server in [`Mode::Normal`] answers; a fault touches
//! the requests of its own server and scope only; tokens and passwords appear in no log, `Debug` or error.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use std::time::Duration;
//! use dittofs_testbed::dittofs::{Mode, Scope, StandIn};
//!
//! let stand_in = StandIn::start().await?;
//! let files = stand_in.server("team", "files");
//! files.set_admin("admin", "bootstrap-password");
//! files.set_mode_for(Mode::Hang, Scope::AdaptersList, 2);
//! files.wait_for(|log| log.iter().filter(|request| request.is_poll()).count() > 2, Duration::from_secs(10)).await?;
//! files.move_adapter("smb", 2445, Duration::from_secs(10));
//! # Ok(())
//! # }
//! ```

mod adapter;
mod api;
mod body;
mod clock;
mod database;
mod door;
mod fault;
mod listener;
mod log;
mod policy;
mod reply;
mod route;
mod server;
#[cfg(test)]
mod tests;
mod token;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use adapter::AdapterView;
pub use database::UserView;
pub use fault::{Mode, Scope};
pub use log::{Caller, Record};
pub use server::ServerHandle;
pub use token::Role;

const ADAPTERS: &str = "/api/v1/adapters";
const LOGIN: &str = "/api/v1/auth/login";
const REFRESH: &str = "/api/v1/auth/refresh";

/// Looks up the admin's username and password of a server by namespace and name; none when there are none yet.
pub type AdminSource = Arc<dyn Fn(String, String) -> BoxFuture<'static, Option<(String, String)>> + Send + Sync>;

/// Servers behind one port; the port closes, and every connection with it, when this is dropped.
pub struct StandIn {
    address: SocketAddr,
    hub: Arc<listener::Hub>,
    task: JoinHandle<()>,
}

impl StandIn {
    /// Listens on a free port of 127.0.0.1. Runs on the tokio runtime that it is called in.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("binding the stand-in's port")?;
        let address = listener.local_addr().context("reading the stand-in's port")?;
        let hub = Arc::new(listener::Hub::default());
        let task = tokio::spawn(listener::accept(listener, Arc::clone(&hub)));
        Ok(Self { address, hub, task })
    }

    /// Where it listens: an `HTTP_PROXY` or `HTTPS_PROXY` is `http://` and this.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The operator's `--api-url-template`, braces and all.
    pub fn url_template(&self) -> String {
        format!("http://{}/{{namespace}}/{{name}}", self.address)
    }

    /// One server's base address, without a slash at its end.
    pub fn url(&self, namespace: &str, name: &str) -> String {
        format!("http://{}/{namespace}/{name}", self.address)
    }

    /// The server of that name; a fresh one at its first mention.
    pub fn server(&self, namespace: &str, name: &str) -> ServerHandle {
        ServerHandle::new(self.hub.server(namespace, name))
    }

    /// Every server that was named or asked so far, in no order.
    pub fn servers(&self) -> Vec<ServerHandle> {
        self.hub.servers().into_iter().map(ServerHandle::new).collect()
    }

    /// How servers learn their admin's credentials: asked at each login while a database has no admin, that is at
    /// the first one and at the first one after [`ServerHandle::lose_database`]. [`ServerHandle::set_admin`] comes first.
    pub fn set_admin_source<F, R>(&self, source: F)
    where
        F: Fn(String, String) -> R + Send + Sync + 'static,
        R: Future<Output = Option<(String, String)>> + Send + 'static,
    {
        self.hub.set_admin_source(Arc::new(move |namespace, name| Box::pin(source(namespace, name))));
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The lock, also after a panic of one that held it: the state is replaced whole or by single assignments.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
