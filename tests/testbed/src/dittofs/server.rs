//! One DittoFS server: its state, its log, and the handle through which a test watches and breaks it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use rustls::ServerConfig;
use serde_json::Value;
use tokio::sync::Notify;

use super::adapter::AdapterView;
use super::clock::Now;
use super::database::{Database, UserView};
use super::fault::{Faults, Mode, Scope};
use super::locked;
use super::log::{Record, RequestLog};
use super::policy::Policy;
use super::token::{Role, Tokens};
use crate::certs::Issued;

/// How long an adapter that was just made, or whose server just started, answers running false.
const START_DELAY: Duration = Duration::from_millis(200);

/// What a server is at one moment.
pub(super) struct State {
    pub(super) database: Database,
    pub(super) tokens: Tokens,
    pub(super) faults: Faults,
    /// What a new database seeds its admin from (the real server's environment).
    bootstrap: Option<(String, String)>,
    pub(super) ready: bool,
    pub(super) started: Timestamp,
    pub(super) start_delay: Duration,
    /// How long a move through the API drains.
    pub(super) drain: Duration,
}

impl State {
    fn fresh(now: Now) -> Self {
        Self {
            database: Database::fresh(now),
            tokens: Tokens::new(),
            faults: Faults::default(),
            bootstrap: None,
            ready: true,
            started: now.wall,
            start_delay: START_DELAY,
            drain: Duration::ZERO,
        }
    }
}

/// One server.
pub(super) struct Server {
    pub(super) namespace: String,
    pub(super) name: String,
    state: Mutex<State>,
    pub(super) log: Arc<RequestLog>,
    /// Tells what waits for an answer that the server was restarted.
    pub(super) restarted: Notify,
    tls: Mutex<Option<Arc<ServerConfig>>>,
    /// Ends the connections: the server has another certificate.
    pub(super) tls_changed: Notify,
}

impl Server {
    pub(super) fn fresh(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            state: Mutex::new(State::fresh(Now::read())),
            log: Arc::new(RequestLog::new()),
            restarted: Notify::new(),
            tls: Mutex::default(),
            tls_changed: Notify::new(),
        }
    }

    /// How it speaks TLS; None when it does not.
    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        locked(&self.tls).clone()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// The database has no admin yet, and was not told its credentials.
    pub(super) fn wants_admin(&self) -> bool {
        !self.state().database.is_seeded()
    }

    /// Seeds the admin from credentials that were looked up; one that is there already stays.
    pub(super) fn seed(&self, username: &str, password: &str) {
        self.state().database.seed(username, password, Now::read());
    }
}

/// A server in the hands of a test. Cheap to clone; keeps working (on the state) after the stand-in is gone.
///
/// Methods that name an adapter or a user panic when there is none of that name: the test is wrong then.
#[derive(Clone)]
pub struct ServerHandle {
    server: Arc<Server>,
}

impl ServerHandle {
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self { server }
    }

    /// The namespace that it stands for.
    pub fn namespace(&self) -> &str {
        &self.server.namespace
    }

    /// The DittoServer's name that it stands for.
    pub fn name(&self) -> &str {
        &self.server.name
    }

    // --- TLS

    /// The server is started anew with this certificate, and speaks TLS alone; with `clients`, the PEM of a CA, it lets
    /// in only clients with a certificate of that CA.
    ///
    /// # Panics
    /// When it is no certificate with its key.
    pub fn set_tls(&self, certificate: &Issued, clients: Option<&str>) {
        *locked(&self.server.tls) = Some(certificate.server_config(clients));
        self.server.tls_changed.notify_waiters();
    }

    // --- accounts

    /// What the server was started with. Seeds the admin when the database has none, and again after
    /// [`lose_database`](Self::lose_database); an admin that is there keeps its password, as in the real server.
    pub fn set_admin(&self, username: &str, password: &str) {
        let mut state = self.server.state();
        state.bootstrap = Some((username.to_owned(), password.to_owned()));
        state.database.seed(username, password, Now::read());
    }

    /// The accounts, by name.
    pub fn users(&self) -> Vec<UserView> {
        self.server.state().database.users()
    }

    /// Makes an account, as an administrator would by hand.
    #[track_caller]
    pub fn create_user(&self, username: &str, password: &str, role: Role) {
        let made = self.server.state().database.create_user(username, password, role, Now::read()).map(|_| ());
        assert!(made.is_ok(), "user {username}: {made:?}");
    }

    /// Deletes an account; its tokens work until they expire.
    #[track_caller]
    pub fn delete_user(&self, username: &str) {
        assert!(self.server.state().database.delete_user(username), "no user {username}");
    }

    /// Changes a password by hand; tokens stay good.
    #[track_caller]
    pub fn set_password(&self, username: &str, password: &str) {
        let set = self.server.state().database.set_password(username, password);
        assert!(set.is_ok(), "user {username}: {set:?}");
    }

    /// How long access tokens given out from now on are good (900 s at first). `expires_in` shows whole seconds.
    pub fn set_token_lifetime(&self, lifetime: Duration) {
        self.server.state().tokens.access = lifetime;
    }

    /// How long refresh tokens given out from now on are good (7 days at first).
    pub fn set_refresh_lifetime(&self, lifetime: Duration) {
        self.server.state().tokens.refresh = lifetime;
    }

    /// Changes the signing key: no token that was given out is good any more.
    pub fn revoke_tokens(&self) {
        self.server.state().tokens.change_key();
    }

    // --- adapters

    /// The adapters, by type.
    pub fn adapters(&self) -> Vec<AdapterView> {
        self.server.state().database.adapters.views(Now::read())
    }

    /// Stops an adapter as the API does: enabled and running false.
    #[track_caller]
    pub fn stop_adapter(&self, kind: &str) {
        self.change(kind, Some(false), None, Duration::ZERO);
    }

    /// The same as [`stop_adapter`](Self::stop_adapter): a stop is a stored `enabled: false`.
    #[track_caller]
    pub fn disable(&self, kind: &str) {
        self.stop_adapter(kind);
    }

    /// Starts an adapter on the port that it has: enabled and running true at once.
    #[track_caller]
    pub fn start_adapter(&self, kind: &str) {
        self.change(kind, Some(true), None, Duration::ZERO);
    }

    /// Moves an adapter that runs: the port is stored at once, running is false for `drain`, then true. One that is
    /// stopped is started there at once.
    #[track_caller]
    pub fn move_adapter(&self, kind: &str, port: u16, drain: Duration) {
        self.change(kind, Some(true), Some(port), drain);
    }

    /// Takes an adapter out of the list.
    #[track_caller]
    pub fn delete_adapter(&self, kind: &str) {
        assert!(self.server.state().database.adapters.delete(kind), "no adapter {kind}");
    }

    /// Makes an enabled adapter of any type, known to the real server or not; it runs after the start delay.
    #[track_caller]
    pub fn create_adapter(&self, kind: &str, port: u16) {
        let mut state = self.server.state();
        assert!(!state.database.adapters.has(kind), "adapter {kind} exists");
        let delay = state.start_delay;
        state.database.adapters.create(kind, true, port, delay, Now::read());
    }

    /// Whether an adapter runs, whatever is stored (enabled with running false, for as long as the test likes).
    #[track_caller]
    pub fn set_running(&self, kind: &str, running: bool) {
        assert!(self.server.state().database.adapters.set_running(kind, running), "no adapter {kind}");
    }

    /// How long an adapter answers running false after it was made, and all after a restart (200 ms at first).
    pub fn set_start_delay(&self, delay: Duration) {
        self.server.state().start_delay = delay;
    }

    /// How long a move through the API drains (not at all at first, as with no client connected).
    pub fn set_drain(&self, drain: Duration) {
        self.server.state().drain = drain;
    }

    #[track_caller]
    fn change(&self, kind: &str, enabled: Option<bool>, port: Option<u16>, drain: Duration) {
        let changed = self.server.state().database.adapters.change(kind, enabled, port, drain, Now::read());
        assert!(changed, "no adapter {kind}");
    }

    // --- shares and settings

    /// Makes a share, so that a snapshot policy can be put on it.
    pub fn add_share(&self, name: &str) {
        self.server.state().database.add_share(name);
    }

    /// The snapshot policy that was put on a share last, as it was sent.
    pub fn snapshot_policy(&self, share: &str) -> Option<Value> {
        self.server.state().database.snapshot_policy(share).map(|policy| policy.sent.clone())
    }

    /// Puts a snapshot policy on a share that exists, as an administrator would by hand.
    #[track_caller]
    pub fn put_snapshot_policy(&self, share: &str, policy: &Value) {
        let policy = policy.as_object().map(Policy::read);
        let Some(Ok(policy)) = policy else { panic!("no policy: {policy:?}") };
        assert!(self.server.state().database.set_snapshot_policy(share, policy), "no share {share}");
    }

    /// Changes NFS settings by hand, as a PATCH of the API does.
    #[track_caller]
    pub fn patch_nfs_settings(&self, changes: &Value) {
        let changes = changes.as_object().expect("an object of settings");
        self.server.state().database.patch_nfs_settings(changes);
    }

    /// The NFS settings, as the API shows them.
    pub fn nfs_settings(&self) -> Value {
        self.server.state().database.nfs_settings()
    }

    // --- the server as a whole

    /// What `/health/ready` answers: 200 or 503.
    pub fn set_health(&self, ready: bool) {
        self.server.state().ready = ready;
    }

    /// The server starts again: requests that wait for an answer are reset, adapters that are enabled run after the
    /// start delay. Accounts, tokens, adapters and faults stay.
    pub fn restart(&self) {
        let now = Now::read();
        let mut state = self.server.state();
        state.started = now.wall;
        let delay = state.start_delay;
        state.database.adapters.restart(delay, now);
        drop(state);
        self.server.restarted.notify_waiters();
    }

    /// A fresh database: no account but the admin (seeded again, with what [`set_admin`](Self::set_admin) or the
    /// stand-in's admin source says now), adapters as at first. Tokens stay good: their key is not stored there.
    pub fn lose_database(&self) {
        let now = Now::read();
        let mut state = self.server.state();
        state.database = Database::fresh(now);
        if let Some((username, password)) = state.bootstrap.clone() {
            state.database.seed(&username, &password, now);
        }
    }

    // --- faults

    /// Answers requests of that scope so, until told otherwise. A narrow scope is stronger than [`Scope::All`];
    /// `Normal` for a narrow scope excepts it from a fault for all.
    pub fn set_mode(&self, mode: Mode, scope: Scope) {
        self.server.state().faults.set(mode, scope, None);
    }

    /// The same for the next `count` requests of that scope.
    pub fn set_mode_for(&self, mode: Mode, scope: Scope, count: u32) {
        self.server.state().faults.set(mode, scope, Some(count));
    }

    /// Takes every fault away. Requests that hang stay hanging: their client has to give up, or
    /// [`restart`](Self::restart) resets them.
    pub fn heal(&self) {
        let mut state = self.server.state();
        state.faults.set(Mode::Normal, Scope::All, None);
        state.faults.refuse(false);
    }

    /// Resets every request, as near as a shared port comes to a server that is not there.
    pub fn refuse_connections(&self, refuse: bool) {
        self.server.state().faults.refuse(refuse);
    }

    // --- what was asked

    /// Every request since the start or the last [`clear_requests`](Self::clear_requests), oldest first (the last
    /// 50,000).
    pub fn requests(&self) -> Vec<Record> {
        self.server.log.records()
    }

    /// The requests for the list of adapters.
    pub fn polls(&self) -> Vec<Record> {
        self.server.log.polls()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.server.log.clear();
    }

    /// Polls that are under way now.
    pub fn polls_in_flight(&self) -> usize {
        self.server.log.polls_in_flight()
    }

    /// The most polls that were ever under way at once: 2 shows two polls overlapping.
    pub fn most_polls_in_flight(&self) -> usize {
        self.server.log.most_polls_in_flight()
    }

    /// Waits until the requests so far are as wanted; looked at on every begin and end of one. The
    /// condition must not use this handle: the log is locked while it looks.
    ///
    /// # Errors
    /// When they are not within `timeout`; the text shows the last requests.
    pub async fn wait_for(&self, condition: impl FnMut(&[Record]) -> bool, timeout: Duration) -> anyhow::Result<()> {
        self.server.log.wait_for(condition, timeout).await
    }
}

impl std::fmt::Debug for ServerHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ServerHandle({}/{})", self.server.namespace, self.server.name)
    }
}
