//! The end of the operator's account at a server that is being deleted.
//!
//! Only an administrator may delete an account: one short admin session, whose token is forgotten with the call. An
//! account that was never made needs none of it. It writes nothing to the vault.

use reqwest::Url;
use tokio::time::Instant;

use super::calls::Api;
use super::error::{Operation, PollError};
use super::http::HttpClient;
use super::session::{ACCOUNT_NAME, is_refusal};
use super::vault::{Vault, VaultError};

/// Deletes the operator's account at the server at `base`. True when it is gone, false when there never was one: its
/// password is stored before it is made, and nothing is stored. Ends within the client's poll timeout after `now`, after
/// two requests at most.
///
/// # Errors
/// As a poll: the server or a Secret does not answer, or the administrator is refused.
pub async fn remove_account(http: &HttpClient, base: &Url, vault: &dyn Vault, now: Instant) -> Result<bool, PollError> {
    let api = Api { http, base, deadline: http.deadline(now) };
    let late = |operation| VaultError::Timeout { operation };
    let stored = api.deadline.bound(vault.load()).await;
    if stored.unwrap_or_else(|| Err(late("reading the credentials Secret")))?.is_none() {
        return Ok(false);
    }
    let admin = api.deadline.bound(vault.admin()).await;
    let admin = admin.unwrap_or_else(|| Err(late("reading the administrator's Secret")))?;
    if admin.username == ACCOUNT_NAME {
        return Err(PollError::AdminIsOperator);
    }
    let login = api.login(Operation::AdminLogin, &admin.username, admin.password.expose()).await;
    let token = login
        .map_err(|source| if is_refusal(&source) { PollError::AdminUnauthorized { source } } else { source.into() })?
        .access;
    api.delete_account(token.expose(), ACCOUNT_NAME).await?;
    Ok(true)
}
