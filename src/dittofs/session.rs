//! Keeps the operator logged in at one server, and polls it.
//!
//! Owns the tokens of one server. It writes the vault only when what it holds differs from what the vault holds, and
//! then only what the server has taken: a server that refuses fresh tokens at every poll costs no write. The stored
//! password is the truth and is stored before an account gets it, so that a crash in between heals at the next poll.
//! A poll that is dropped half way leaves a session that can go on. A server that refuses operator and administrator is
//! not hammered: see [`Refusal`].

use std::future::Future;
use std::time::Duration;

use reqwest::Url;
use tokio::time::Instant;

use super::calls::{Api, Created};
use super::error::{ApiError, Operation, PollError};
use super::http::HttpClient;
use super::refusal::Refusal;
use super::types::{Tokens, is_token};
use super::vault::{AdminAccount, Credentials, Sensitive, Vault, VaultError};
use crate::reconcile::ReportedAdapter;
use crate::telemetry::metrics::TokenOutcome;

/// The operator's own account at every server.
pub const ACCOUNT_NAME: &str = "k8s-operator";

/// A poll makes at most this many requests: a list, a refresh and a login that are refused; the administrator's
/// login, an account that exists, a password that cannot be hashed, twice; a login, a list.
#[cfg(test)]
const REQUESTS_MAX: usize = 9;

/// Lengths in bytes of the passwords that the server can hash (bcrypt's end is at 72).
const PASSWORD_BYTES: std::ops::RangeInclusive<usize> = 8..=72;

/// How long a poll that has a token waits for the vault to be read again; the rest of its time is for the server.
const RELOAD_PATIENCE: Duration = Duration::from_secs(2);

/// A valid answer of the server.
#[derive(Debug)]
pub struct Poll {
    /// All adapters, in the server's order.
    pub adapters: Vec<ReportedAdapter>,
    /// The operator's account was made, or its password reset, in this poll.
    pub provisioned: bool,
    /// Tokens were renewed in this poll, by refresh or by login.
    pub refreshed: bool,
    /// New tokens could not be stored; they stay in memory, and the next poll tries again.
    pub vault_error: Option<VaultError>,
}

/// The login of the operator at one server.
#[derive(Debug)]
pub struct Session {
    /// What is in use; without a password until the first load.
    held: Credentials,
    /// What the vault is known to hold.
    saved: Option<Credentials>,
    /// When the access token was obtained and how long it lives; unknown for one that was loaded.
    expiry: Option<(Instant, Duration)>,
    /// The vault has not been read since it may have changed.
    stale: bool,
    /// A password that the server refused to hash was replaced, and no login has worked since.
    replaced: bool,
    /// The server lets neither the operator nor the administrator in.
    refusal: Option<Refusal>,
    /// The administrator's Secret may hold something else than the one that was refused.
    look_at_admin: bool,
}

/// How far this poll has gone to renew the tokens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Renewed {
    Not,
    Refreshed,
    LoggedIn,
}

/// One poll under way.
struct Run<'a> {
    api: Api<'a>,
    vault: &'a dyn Vault,
    now: Instant,
    renewed: Renewed,
    provisioned: bool,
}

impl Run<'_> {
    fn told(&self, outcome: TokenOutcome) {
        self.api.http.metrics().token_refreshed(outcome);
    }

    /// A vault operation, within the poll's time.
    async fn bound<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, VaultError>>,
    ) -> Result<T, VaultError> {
        self.api.deadline.bound(work).await.unwrap_or(Err(VaultError::Timeout { operation }))
    }
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

impl Session {
    /// A session that knows nothing yet.
    pub fn new() -> Self {
        let held = Credentials {
            username: ACCOUNT_NAME.to_owned(),
            password: Sensitive::new(""),
            access_token: None,
            refresh_token: None,
            server_url: String::new(),
        };
        Self { held, saved: None, expiry: None, stale: true, replaced: false, refusal: None, look_at_admin: false }
    }

    /// Says that the stored credentials may have been changed by someone: the next poll loads them again, and when
    /// they are not what this session stored, they replace what it holds. Those that are cost one read.
    pub fn forget(&mut self) {
        self.stale = true;
        self.look_at_admin = true;
    }

    /// Says that the server has just started: whom it refused before, it may let in now.
    pub fn server_is_new(&mut self, now: Instant) {
        if let Some(refusal) = &mut self.refusal {
            refusal.end(now);
        }
    }

    /// Asks the server at `base` for its adapters, logging in as far as needed.
    ///
    /// Ends within the client's poll timeout after `now` and makes at most nine requests. An error says nothing about
    /// the adapters: what was known stays.
    pub async fn poll(
        &mut self,
        http: &HttpClient,
        base: &Url,
        vault: &dyn Vault,
        now: Instant,
    ) -> Result<Poll, PollError> {
        let api = Api { http, base, deadline: http.deadline(now) };
        let mut run = Run { api, vault, now, renewed: Renewed::Not, provisioned: false };
        let away = self.load(&run).await?;
        base.as_str().trim_end_matches('/').clone_into(&mut self.held.server_url);
        let listed = self.list(&mut run).await;
        let saved = match away {
            // Somebody may have changed what is stored: theirs is read before anything is stored over it.
            Some(away) if self.is_unsaved() => Err(away),
            Some(_) => Ok(()),
            None => self.save(&run).await,
        };
        Ok(Poll {
            adapters: listed?,
            provisioned: run.provisioned,
            refreshed: run.renewed > Renewed::Not,
            vault_error: saved.err(),
        })
    }

    /// Makes sure that there are credentials to work with, from the vault or new. With a token at hand a vault that is
    /// away does not end the poll: the server is watched while the API server is not there, and the vault is read by a
    /// later poll. Why it could not be read now is returned.
    async fn load(&mut self, run: &Run<'_>) -> Result<Option<VaultError>, VaultError> {
        const READING: &str = "reading the credentials Secret";
        if !self.stale {
            return Ok(None);
        }
        let reading = run.bound(READING, run.vault.load());
        let loaded = if self.held.access_token.is_some() {
            match tokio::time::timeout(RELOAD_PATIENCE, reading).await {
                Err(_) => return Ok(Some(VaultError::Timeout { operation: READING })),
                Ok(Err(away @ VaultError::Away { .. })) => return Ok(Some(away)),
                Ok(read) => read?,
            }
        } else {
            reading.await?
        };
        self.stale = false;
        let new_here = self.held.password.expose().is_empty();
        // A write that timed out here can have reached the vault all the same.
        let ours = loaded == self.saved || loaded.as_ref() == Some(&self.held);
        if new_here || !ours {
            let usable = |token: &Option<Sensitive>| token.clone().filter(|token| is_token(token.expose()));
            let stored = loaded.as_ref();
            self.held.password = stored
                .map(|stored| stored.password.clone())
                .filter(|password| !password.expose().is_empty())
                .unwrap_or_else(|| Sensitive::new(run.vault.new_password()));
            self.held.access_token = stored.and_then(|stored| usable(&stored.access_token));
            self.held.refresh_token = stored.and_then(|stored| usable(&stored.refresh_token));
            self.expiry = None;
        }
        self.saved = loaded;
        Ok(None)
    }

    /// Lists the adapters, with a token that is good for it.
    async fn list(&mut self, run: &mut Run<'_>) -> Result<Vec<ReportedAdapter>, PollError> {
        match self.expiry {
            _ if self.held.access_token.is_none() => self.renew(run).await?,
            Some((since, lifetime)) if run.now.duration_since(since) >= lifetime / 3 * 2 => {
                match self.refresh(run).await {
                    Err(PollError::Api(ApiError::Status { .. } | ApiError::Shape { .. }))
                        if self.held.access_token.is_some() && run.now.duration_since(since) < lifetime =>
                    {
                        // The token has a third of its life left, and the list says more than a failed refresh.
                    }
                    other => other?,
                }
            }
            _ => {}
        }
        let mut answer = self.ask(run).await;
        if run.renewed < Renewed::LoggedIn {
            match answer.as_ref().map_err(ApiError::status) {
                Err(Some(401)) => self.renew(run).await?,
                // A new role comes with a new login only.
                Err(Some(403)) => self.login_or_provision(run).await?,
                _ => return Ok(answer?),
            }
            answer = self.ask(run).await;
        }
        if answer.as_ref().is_err_and(is_refusal) {
            // The next poll starts with a login instead of a token that is known to be refused.
            self.drop_tokens();
        }
        Ok(answer?)
    }

    async fn ask(&self, run: &Run<'_>) -> Result<Vec<ReportedAdapter>, ApiError> {
        run.api.adapters(self.held.access_token.as_ref().map_or("", Sensitive::expose)).await
    }

    /// New tokens, by refresh where this poll has not tried that, else by login.
    async fn renew(&mut self, run: &mut Run<'_>) -> Result<(), PollError> {
        if run.renewed == Renewed::Not { self.refresh(run).await } else { self.login_or_provision(run).await }
    }

    /// New tokens for the refresh token; by login when there is none, or the server does not take it.
    async fn refresh(&mut self, run: &mut Run<'_>) -> Result<(), PollError> {
        if let Some(token) = &self.held.refresh_token {
            match run.api.refresh(token.expose()).await {
                Ok(tokens) => {
                    self.adopt(tokens, run, Renewed::Refreshed);
                    run.told(TokenOutcome::Refreshed);
                    return Ok(());
                }
                Err(ApiError::Status { status: 400 | 401 | 403, .. }) => run.told(TokenOutcome::Refused),
                Err(error) => {
                    run.told(TokenOutcome::Failed);
                    return Err(error.into());
                }
            }
        }
        self.login_or_provision(run).await
    }

    /// New tokens for the password; the account gets that password when the server does not take it.
    async fn login_or_provision(&mut self, run: &mut Run<'_>) -> Result<(), PollError> {
        self.drop_tokens();
        if let Some(refused) = self.still_refused(run).await? {
            return Err(refused);
        }
        if self.password_is_stored() {
            match self.login(run).await {
                Err(ApiError::Status { status: 401, .. }) => {}
                other => return Ok(other?),
            }
        }
        let admin = self.administrator(run).await?;
        let login = run.api.login(Operation::AdminLogin, &admin.username, admin.password.expose()).await;
        let token = match login {
            Ok(tokens) => tokens.access,
            Err(source) if is_refusal(&source) => {
                self.note_refusal(run, &admin, &source).await;
                return Err(PollError::AdminUnauthorized { source });
            }
            Err(source) => return Err(source.into()),
        };
        self.provision(run, &token).await?;
        run.provisioned = true;
        let login = self.login(run).await;
        if let Err(error) = &login {
            // An account that was switched off, say: no password helps it.
            self.note_refusal(run, &admin, error).await;
        }
        Ok(login?)
    }

    /// Why nobody is asked now, if so: operator and administrator are those whom the server refused a moment ago. It is
    /// asked when it started instead, which everybody is told.
    async fn still_refused(&mut self, run: &Run<'_>) -> Result<Option<PollError>, PollError> {
        let look_at_admin = std::mem::take(&mut self.look_at_admin);
        let Some(refusal) = self.refusal.as_ref().filter(|refusal| refusal.stands(run.now, &self.held.password)) else {
            return Ok(None);
        };
        if look_at_admin && self.administrator(run).await? != refusal.admin {
            return Ok(None);
        }
        let started = run.api.started().await?;
        Ok((started.is_none() || started == refusal.started).then(|| refusal.error()))
    }

    async fn note_refusal(&mut self, run: &Run<'_>, admin: &AdminAccount, error: &ApiError) {
        let refusal = Refusal::new(self.refusal.as_ref(), run.now, &self.held.password, admin, error);
        if let Some(mut refusal) = refusal {
            refusal.started = run.api.started().await.unwrap_or_default();
            self.refusal = Some(refusal);
        }
    }

    async fn administrator(&self, run: &Run<'_>) -> Result<AdminAccount, PollError> {
        let admin = run.bound("reading the administrator's Secret", run.vault.admin()).await?;
        if admin.username == ACCOUNT_NAME { Err(PollError::AdminIsOperator) } else { Ok(admin) }
    }

    async fn login(&mut self, run: &mut Run<'_>) -> Result<(), ApiError> {
        let answer = run.api.login(Operation::Login, ACCOUNT_NAME, self.held.password.expose()).await;
        run.told(match &answer {
            Ok(_) => TokenOutcome::LoggedIn,
            Err(error) if is_refusal(error) => TokenOutcome::Refused,
            Err(_) => TokenOutcome::Failed,
        });
        let tokens = answer?;
        self.adopt(tokens, run, Renewed::LoggedIn);
        self.replaced = false;
        self.refusal = None;
        Ok(())
    }

    /// Makes the account, or resets its password, with the administrator's help.
    async fn provision(&mut self, run: &Run<'_>, token: &Sensitive) -> Result<(), PollError> {
        if !PASSWORD_BYTES.contains(&self.held.password.expose().len()) {
            self.replace_password(run);
        }
        self.store_password(run).await?;
        match self.set_password(run, token).await {
            Err(error) if !self.replaced && is_about_the_password(&error) => {
                self.replace_password(run);
                self.store_password(run).await?;
                let again = match error.operation() {
                    Operation::ResetPassword => self.reset_password(run, token).await,
                    _ => self.set_password(run, token).await,
                };
                Ok(again?)
            }
            other => Ok(other?),
        }
    }

    /// Makes the account with the stored password, or gives that password to the account that is there.
    async fn set_password(&self, run: &Run<'_>, admin: &Sensitive) -> Result<(), ApiError> {
        match run.api.create_operator(admin.expose(), ACCOUNT_NAME, self.held.password.expose()).await? {
            Created::New => Ok(()),
            Created::Exists => self.reset_password(run, admin).await,
        }
    }

    async fn reset_password(&self, run: &Run<'_>, admin: &Sensitive) -> Result<(), ApiError> {
        run.api.reset_password(admin.expose(), ACCOUNT_NAME, self.held.password.expose()).await
    }

    fn replace_password(&mut self, run: &Run<'_>) {
        self.held.password = Sensitive::new(run.vault.new_password());
        self.replaced = true;
    }

    fn password_is_stored(&self) -> bool {
        self.saved.as_ref().is_some_and(|saved| saved.password == self.held.password)
    }

    async fn store_password(&mut self, run: &Run<'_>) -> Result<(), VaultError> {
        if self.password_is_stored() { Ok(()) } else { self.store(run).await }
    }

    /// Stores what the server has given, when that is new; after a refusal there is nothing to store.
    async fn save(&mut self, run: &Run<'_>) -> Result<(), VaultError> {
        if self.is_unsaved() { self.store(run).await } else { Ok(()) }
    }

    fn is_unsaved(&self) -> bool {
        self.held.access_token.is_some() && self.saved.as_ref() != Some(&self.held)
    }

    async fn store(&mut self, run: &Run<'_>) -> Result<(), VaultError> {
        run.bound("writing the credentials Secret", run.vault.store(&self.held)).await?;
        self.saved = Some(self.held.clone());
        Ok(())
    }

    fn adopt(&mut self, tokens: Tokens, run: &mut Run<'_>, how: Renewed) {
        self.held.access_token = Some(tokens.access);
        if tokens.refresh.is_some() || how == Renewed::LoggedIn {
            self.held.refresh_token = tokens.refresh;
        }
        // Counted from the poll's start, which is before the server counts.
        self.expiry = tokens.lifetime.map(|lifetime| (run.now, lifetime));
        run.renewed = how;
    }

    fn drop_tokens(&mut self) {
        self.held.access_token = None;
        self.held.refresh_token = None;
        self.expiry = None;
    }
}

pub(super) fn is_refusal(error: &ApiError) -> bool {
    matches!(error.status(), Some(401 | 403))
}

/// Whether the server cannot take this password: the real one answers 500 "Failed to hash password".
fn is_about_the_password(error: &ApiError) -> bool {
    match error {
        ApiError::Status { status: 400 | 422 | 500, detail: Some(detail), .. } => {
            detail.to_ascii_lowercase().contains("password")
        }
        _ => false,
    }
}

#[cfg(test)]
#[path = "session_tests/mod.rs"]
mod tests;
