//! The session against a server in this process, over real sockets.

mod accounts;
mod faults;
mod server;
mod tokens;
mod vaults;

use std::collections::HashSet;
use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use self::server::{Fault, Server};
use super::super::{AdminAccount, HttpSettings};
use super::*;

/// The Secrets of one server, in memory. What it is told goes into the server's event log too, so that the order of
/// writes and requests shows.
struct TestVault {
    server: Server,
    stored: Mutex<Option<Credentials>>,
    admin: Mutex<Option<AdminAccount>>,
    writes: AtomicU32,
    reads: AtomicU32,
    passwords: AtomicU32,
    refuse_writes: AtomicBool,
    /// Says that a write failed although it was done.
    lie: AtomicBool,
    hang: AtomicBool,
    away: AtomicBool,
}

#[async_trait]
impl Vault for TestVault {
    async fn admin(&self) -> Result<AdminAccount, VaultError> {
        self.admin.lock().expect("a lock").clone().ok_or_else(|| VaultError::AdminMissing {
            secret: "files-admin-bootstrap-credentials".to_owned(),
            problem: "it is not there".to_owned(),
        })
    }

    async fn load(&self) -> Result<Option<Credentials>, VaultError> {
        if self.hang.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.away.load(Ordering::SeqCst) {
            let secret = "files-operator-credentials".to_owned();
            return Err(VaultError::Away { secret, source: "the API server is away".into() });
        }
        self.reads.fetch_add(1, Ordering::SeqCst);
        Ok(self.stored())
    }

    async fn store(&self, credentials: &Credentials) -> Result<(), VaultError> {
        let error = || VaultError::Write {
            secret: "files-operator-credentials".to_owned(),
            source: "the API server is away".into(),
        };
        if self.refuse_writes.load(Ordering::SeqCst) {
            return Err(error());
        }
        let what = if credentials.access_token.is_some() { "tokens" } else { "password" };
        self.server.lock().events.push(format!("store {what}"));
        self.writes.fetch_add(1, Ordering::SeqCst);
        *self.stored.lock().expect("a lock") = Some(credentials.clone());
        if self.lie.load(Ordering::SeqCst) { Err(error()) } else { Ok(()) }
    }

    fn new_password(&self) -> String {
        format!("canary-password-{}", self.passwords.fetch_add(1, Ordering::SeqCst))
    }
}

impl TestVault {
    fn stored(&self) -> Option<Credentials> {
        self.stored.lock().expect("a lock").clone()
    }
    /// Someone edits the Secret by hand.
    fn edit(&self, edit: impl FnOnce(&mut Credentials)) {
        edit(self.stored.lock().expect("a lock").as_mut().expect("a Secret"));
    }
    fn writes(&self) -> u32 {
        self.writes.load(Ordering::SeqCst)
    }
    fn reads(&self) -> u32 {
        self.reads.load(Ordering::SeqCst)
    }
}

/// A server, its vault, and a session of the operator.
struct Bed {
    server: Server,
    vault: Arc<TestVault>,
    http: HttpClient,
    session: Session,
    start: Instant,
}

fn client(poll_timeout: Duration) -> HttpClient {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    HttpClient::new(HttpSettings { poll_timeout, proxy_from_env: false, ..HttpSettings::default() }).expect("a client")
}

impl Bed {
    async fn new() -> Self {
        Self::with_timeout(Duration::from_secs(30)).await
    }

    async fn with_timeout(poll_timeout: Duration) -> Self {
        Self::with_client(client(poll_timeout)).await
    }

    async fn with_client(http: HttpClient) -> Self {
        let server = Server::start().await;
        let admin = AdminAccount { username: "admin".to_owned(), password: Sensitive::new("canary-admin-password") };
        let vault = TestVault {
            server: server.clone(),
            stored: Mutex::new(None),
            admin: Mutex::new(Some(admin)),
            writes: AtomicU32::new(0),
            reads: AtomicU32::new(0),
            passwords: AtomicU32::new(0),
            refuse_writes: AtomicBool::new(false),
            lie: AtomicBool::new(false),
            hang: AtomicBool::new(false),
            away: AtomicBool::new(false),
        };
        Self { server, vault: Arc::new(vault), http, session: Session::new(), start: Instant::now() }
    }

    /// A bed whose first poll is done, with an empty event log.
    async fn logged_in() -> Self {
        let mut bed = Self::new().await;
        bed.poll().await.expect("a first poll");
        bed.server.take_events();
        bed
    }

    /// The operator's process starts anew: all that it knew is gone.
    fn restart(&mut self) {
        self.session = Session::new();
    }

    async fn poll(&mut self) -> Result<Poll, PollError> {
        self.poll_after(Duration::ZERO).await
    }

    /// A poll that takes place `later` after the bed was made, by the session's clock.
    async fn poll_after(&mut self, later: Duration) -> Result<Poll, PollError> {
        let now = if later.is_zero() { Instant::now() } else { self.start + later };
        let polled = self.session.poll(&self.http, &self.server.base, &*self.vault, now).await;
        assert_keeps_secrets(&format!("{:?}", self.session));
        match &polled {
            Ok(poll) => assert_keeps_secrets(&format!("{poll:?}")),
            Err(error) => assert_keeps_secrets(&told(error)),
        }
        polled
    }

    fn events(&self) -> Vec<String> {
        self.server.take_events()
    }
}

/// All that an error can say.
fn told(error: &(dyn Error + 'static)) -> String {
    let mut text = format!("{error:?} {error:#?}");
    let mut cause = Some(error);
    while let Some(inner) = cause {
        text = format!("{text} {inner}");
        cause = inner.source();
    }
    text
}

fn assert_keeps_secrets(text: &str) {
    assert!(!text.contains("canary"), "a secret shows in {text}");
    assert!(!text.chars().any(|c| c == '\u{1b}'), "a control character shows in {text:?}");
}

const ADMIN_LOGIN: &str = "POST /auth/login admin";
const LOGIN: &str = "POST /auth/login k8s-operator";
const REFRESH: &str = "POST /auth/refresh";
const CREATE: &str = "POST /users k8s-operator";
const RESET: &str = "POST /users/k8s-operator/password";
const LIST: &str = "GET /adapters";
const HEALTH: &str = "GET /team-a/files/health";
const STORE_PASSWORD: &str = "store password";
const STORE_TOKENS: &str = "store tokens";
