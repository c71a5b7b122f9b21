//! A short session as the server's administrator, for what answers to nobody else.
//!
//! [`visit`] logs in, does what it was given and forgets the tokens: they are stored nowhere, and this API has no
//! logout, so they end with their lifetime. It tries nothing twice; pace and backoff are
//! [`AdminPace`](crate::reconcile::AdminPace)'s. What cannot be read is an error, and no reading.

use std::time::Duration;

use reqwest::{Method, StatusCode, Url};
use serde_json::json;
use tokio::time::Instant;

use super::admin_types::{parse_nfs_settings, parse_policies, parse_shares, parse_started};
use super::calls::Api;
use super::error::{ApiError, Operation, PollError, excerpt};
use super::http::{Answer, Call, Deadline, HttpClient};
use super::session::ACCOUNT_NAME;
use super::url::endpoint;
use super::vault::{AdminAccount, Vault, VaultError};
use crate::reconcile::{Errand, ListedPolicy, NfsPorts, SnapshotPolicy, plan_policies};

/// Time of a whole visit. What it did not come to is left for the next one.
const VISIT: Duration = Duration::from_secs(30);

/// What a visit is for.
#[derive(Clone, Debug)]
pub struct AdminWork {
    /// What is to be done.
    pub errand: Errand,
    /// The policies that the spec has.
    pub policies: Vec<SnapshotPolicy>,
    /// The administrator whom the server has refused.
    pub refused: Option<AdminAccount>,
}

/// How a visit ended.
#[derive(Debug)]
pub enum AdminVisit {
    /// What it depended on had not changed; nobody logged in.
    NotNeeded,
    /// The administrator was let in, and this came of it.
    Done(Visited),
    /// No session came to be.
    Failed {
        /// Why.
        error: PollError,
        /// Who was refused, when somebody was.
        refused: Option<AdminAccount>,
    },
}

/// What a session brought.
#[derive(Debug)]
pub struct Visited {
    /// Number of shares before anything was written, when the server told.
    pub shares: Option<u64>,
    /// The settings of the NFS adapter, when they were asked for.
    pub nfs: Option<Result<NfsPorts, ApiError>>,
    /// The snapshot policies, when they were asked for.
    pub policies: Option<Result<Policies, ApiError>>,
}

/// What became of the snapshot policies.
#[derive(Debug, Default)]
pub struct Policies {
    /// Share and what differed, of those that were written.
    pub written: Vec<(String, String)>,
    /// Shares that do not exist.
    pub missing: Vec<String>,
    /// Shares whose policy the server did not take, and its words.
    pub failed: Vec<(String, ApiError)>,
    /// Shares with a policy that the spec does not name.
    pub others: Vec<String>,
}

/// Does `work` at the server at `base`. Ends within half a minute after `now`.
pub async fn visit(http: &HttpClient, base: &Url, vault: &dyn Vault, now: Instant, work: &AdminWork) -> AdminVisit {
    let api = Api { http, base, deadline: Deadline::after(now, VISIT) };
    match admit(&api, vault, work).await {
        Ok(Some((shares, token))) => AdminVisit::Done(serve(&api, &token, shares, work).await),
        Ok(None) => AdminVisit::NotNeeded,
        Err((error, refused)) => AdminVisit::Failed { error, refused },
    }
}

type Refused = (PollError, Option<AdminAccount>);

/// Logs in, when that is worth its while: the number of shares and the token.
async fn admit(api: &Api<'_>, vault: &dyn Vault, work: &AdminWork) -> Result<Option<(Option<u64>, String)>, Refused> {
    const READING: VaultError = VaultError::Timeout { operation: "reading the administrator's Secret" };
    let shares = if work.errand.policies { api.shares().await } else { None };
    if let Some(before) = work.errand.unless_shares
        && shares.is_none_or(|now| now == before)
    {
        return Ok(None);
    }
    let admin = match api.deadline.bound(vault.admin()).await {
        Some(Ok(admin)) => admin,
        Some(Err(error)) => return Err((error.into(), None)),
        None => return Err((READING.into(), None)),
    };
    if work.errand.unless_refused && work.refused.as_ref() == Some(&admin) {
        return Ok(None);
    }
    if admin.username == ACCOUNT_NAME {
        return Err((PollError::AdminIsOperator, Some(admin)));
    }
    match api.login(Operation::AdminLogin, &admin.username, admin.password.expose()).await {
        Ok(tokens) => Ok(Some((shares, tokens.access.expose().to_owned()))),
        Err(source) if matches!(source.status(), Some(401 | 403)) => {
            Err((PollError::AdminUnauthorized { source }, Some(admin)))
        }
        Err(source) => Err((source.into(), None)),
    }
}

async fn serve(api: &Api<'_>, token: &str, shares: Option<u64>, work: &AdminWork) -> Visited {
    let nfs = if work.errand.nfs { Some(api.nfs_settings(token).await) } else { None };
    let policies = if work.errand.policies { Some(api.apply_policies(token, &work.policies).await) } else { None };
    Visited { shares, nfs, policies }
}

impl Api<'_> {
    /// When the server started, as `GET /health` tells everybody; none when it does not.
    ///
    /// # Errors
    /// When it gives no whole answer.
    pub(super) async fn started(&self) -> Result<Option<String>, ApiError> {
        let answer = self.send(Operation::Health, Method::GET, &["health"], None, None).await?;
        Ok(if answer.status == StatusCode::OK { parse_started(&answer.body) } else { None })
    }

    /// The number of shares, as `GET /health/ready` tells everybody.
    async fn shares(&self) -> Option<u64> {
        let answer = self.send(Operation::CountShares, Method::GET, &["health", "ready"], None, None).await.ok()?;
        parse_shares(&answer.body)
    }

    async fn nfs_settings(&self, token: &str) -> Result<NfsPorts, ApiError> {
        let operation = Operation::NfsSettings;
        let path = ["api", "v1", "adapters", "nfs", "settings"];
        let answer = self.send(operation, Method::GET, &path, Some(token), None).await?;
        match answer.status {
            StatusCode::OK => {
                parse_nfs_settings(&answer.body).map_err(|problem| ApiError::Shape { operation, problem })
            }
            _ => Err(answer.into_status_error()),
        }
    }

    async fn apply_policies(&self, token: &str, wanted: &[SnapshotPolicy]) -> Result<Policies, ApiError> {
        let listed = self.policies(token).await?;
        let plan = plan_policies(wanted, listed.as_deref());
        let mut done =
            Policies { others: plan.others.iter().map(|share| excerpt(share, &[])).collect(), ..Policies::default() };
        for (policy, difference) in plan.write {
            match self.put_policy(token, policy).await {
                Ok(()) => done.written.push((policy.share.clone(), difference)),
                Err(error) => match error.status() {
                    Some(404) => done.missing.push(policy.share.clone()),
                    // Nobody is let in any more, or nobody answers: what follows would end the same.
                    Some(401 | 403) | None => return Err(error),
                    Some(_) => done.failed.push((policy.share.clone(), error)),
                },
            }
        }
        Ok(done)
    }

    /// The policies of all shares; none from a server that does not list them.
    async fn policies(&self, token: &str) -> Result<Option<Vec<ListedPolicy>>, ApiError> {
        let operation = Operation::ListPolicies;
        let answer = self.send(operation, Method::GET, &["api", "v1", "snapshot-policies"], Some(token), None).await?;
        match answer.status {
            StatusCode::OK => {
                parse_policies(&answer.body).map(Some).map_err(|problem| ApiError::Shape { operation, problem })
            }
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Ok(None),
            _ => Err(answer.into_status_error()),
        }
    }

    async fn put_policy(&self, token: &str, policy: &SnapshotPolicy) -> Result<(), ApiError> {
        let body = json!({
            "interval": policy.interval,
            "keep_last": policy.keep_last,
            "ttl": policy.ttl,
            "enabled": policy.enabled,
            "name_prefix": policy.name_prefix,
        });
        let path = ["api", "v1", "shares", &policy.share, "snapshot-policy"];
        let answer = self.send(Operation::PutPolicy, Method::PUT, &path, Some(token), Some(body)).await?;
        if answer.status.is_success() { Ok(()) } else { Err(answer.into_status_error()) }
    }

    async fn send(
        &self,
        operation: Operation,
        method: Method,
        path: &[&str],
        bearer: Option<&str>,
        body: Option<serde_json::Value>,
    ) -> Result<Answer, ApiError> {
        let secrets: Vec<&str> = bearer.into_iter().collect();
        let url = endpoint(self.base, path);
        self.http.send(Call { operation, method, url, bearer, body, secrets: &secrets }, self.deadline).await
    }
}
