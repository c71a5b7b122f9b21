//! What can go wrong with a server's API, sorted once.
//!
//! [`ApiError`] is the failure of one request, [`PollError`] that of a poll. Their texts go to status, events and
//! logs: they hold no password, no token and no body, and they are the same for the same failure, so that a failing
//! server does not make a new status text at every poll.

use std::error::Error;
use std::fmt;

use super::session::ACCOUNT_NAME;
use super::{TlsError, TlsFault, VaultError};

/// The requests that the operator makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `GET /api/v1/adapters`.
    ListAdapters,
    /// `POST /api/v1/auth/login` as the operator's own account.
    Login,
    /// `POST /api/v1/auth/login` as the administrator.
    AdminLogin,
    /// `POST /api/v1/auth/refresh`.
    Refresh,
    /// `POST /api/v1/users`.
    CreateAccount,
    /// `POST /api/v1/users/k8s-operator/password`.
    ResetPassword,
    /// `DELETE /api/v1/users/k8s-operator`.
    DeleteAccount,
    /// `GET /health`: when the server started.
    Health,
    /// `GET /health/ready`: how many shares there are.
    CountShares,
    /// `GET /api/v1/adapters/nfs/settings`.
    NfsSettings,
    /// `GET /api/v1/snapshot-policies`.
    ListPolicies,
    /// `PUT /api/v1/shares/{share}/snapshot-policy`.
    PutPolicy,
}

impl Operation {
    /// Method and path template, the name of its span after `dittofs `.
    pub fn route(self) -> &'static str {
        match self {
            Self::ListAdapters => "GET /api/v1/adapters",
            Self::Login | Self::AdminLogin => "POST /api/v1/auth/login",
            Self::Refresh => "POST /api/v1/auth/refresh",
            Self::CreateAccount => "POST /api/v1/users",
            Self::ResetPassword => "POST /api/v1/users/{name}/password",
            Self::DeleteAccount => "DELETE /api/v1/users/{name}",
            Self::Health => "GET /health",
            Self::CountShares => "GET /health/ready",
            Self::NfsSettings => "GET /api/v1/adapters/nfs/settings",
            Self::ListPolicies => "GET /api/v1/snapshot-policies",
            Self::PutPolicy => "PUT /api/v1/shares/{share}/snapshot-policy",
        }
    }

    /// Static label for spans and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::ListAdapters => "list-adapters",
            Self::Login => "login",
            Self::AdminLogin => "admin-login",
            Self::Refresh => "refresh",
            Self::CreateAccount => "create-account",
            Self::ResetPassword => "reset-password",
            Self::DeleteAccount => "delete-account",
            Self::Health => "health",
            Self::CountShares => "count-shares",
            Self::NfsSettings => "nfs-settings",
            Self::ListPolicies => "list-policies",
            Self::PutPolicy => "put-policy",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ListAdapters => "listing the adapters",
            Self::Login => "login as the operator",
            Self::AdminLogin => "login as the administrator",
            Self::Refresh => "refreshing the token",
            Self::CreateAccount => "creating the operator's account",
            Self::ResetPassword => "resetting the operator's password",
            Self::DeleteAccount => "deleting the operator's account",
            Self::Health => "asking for the server's health",
            Self::CountShares => "asking for the number of shares",
            Self::NfsSettings => "reading the NFS adapter's settings",
            Self::ListPolicies => "listing the snapshot policies",
            Self::PutPolicy => "writing a snapshot policy",
        })
    }
}

/// One request that gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No connection, no address, or the connection broke before an answer.
    #[error("{operation}: the server cannot be reached: {cause}")]
    Unreachable {
        /// The request.
        operation: Operation,
        /// The innermost cause, bounded.
        cause: String,
        /// The client's error.
        source: Box<dyn Error + Send + Sync>,
    },
    /// TLS with the server failed, or is not what it should be.
    #[error("{operation}: {text}")]
    Tls {
        /// The request.
        operation: Operation,
        /// What kind of failure.
        fault: TlsFault,
        /// What is wrong, and what to do about it.
        text: String,
        /// The client's error.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The poll's time was up before the whole answer was there.
    #[error("{operation}: no full answer in time")]
    Timeout {
        /// The request.
        operation: Operation,
    },
    /// What came is not HTTP, or ended before its end.
    #[error("{operation}: the answer is broken: {cause}")]
    Broken {
        /// The request.
        operation: Operation,
        /// The innermost cause, bounded.
        cause: String,
        /// The client's error.
        source: Box<dyn Error + Send + Sync>,
    },
    /// More bytes than any good answer has.
    #[error("{operation}: the answer is larger than {limit} bytes")]
    TooLarge {
        /// The request.
        operation: Operation,
        /// The limit that it passed.
        limit: usize,
    },
    /// A status that the request does not end well with; 3xx among them, redirects are not followed.
    #[error("{operation}: the server answered {status}{}", detail.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Status {
        /// The request.
        operation: Operation,
        /// The HTTP status.
        status: u16,
        /// `detail` of an `application/problem+json`, bounded, without the secrets of the request.
        detail: Option<String>,
    },
    /// The right status with a body that is not what it should be.
    #[error("{operation}: {problem}")]
    Shape {
        /// The request.
        operation: Operation,
        /// What is wrong, without quoting the body.
        problem: String,
    },
}

impl ApiError {
    /// The request that failed.
    pub fn operation(&self) -> Operation {
        match self {
            Self::Unreachable { operation, .. }
            | Self::Tls { operation, .. }
            | Self::Timeout { operation }
            | Self::Broken { operation, .. }
            | Self::TooLarge { operation, .. }
            | Self::Status { operation, .. }
            | Self::Shape { operation, .. } => *operation,
        }
    }

    /// The status that the server answered, when that is what went wrong.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Why there is no whole answer, for metrics: `unreachable`, `timeout`, `broken` or `too-large`.
    pub(super) fn broke_by(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } | Self::Tls { .. } => "unreachable",
            Self::Timeout { .. } => "timeout",
            Self::TooLarge { .. } => "too-large",
            Self::Broken { .. } | Self::Status { .. } | Self::Shape { .. } => "broken",
        }
    }

    /// For metrics and events: `unreachable`, `timeout`, `unauthorized`, `forbidden` or `bad-answer`, or one of
    /// [`TlsFault::category`].
    pub fn category(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Tls { fault, .. } => fault.category(),
            Self::Timeout { .. } => "timeout",
            Self::Status { status: 401, .. } => "unauthorized",
            Self::Status { status: 403, .. } => "forbidden",
            Self::Broken { .. } | Self::TooLarge { .. } | Self::Status { .. } | Self::Shape { .. } => "bad-answer",
        }
    }
}

/// A poll that brought no observation. Every one of them is tried again with backoff.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// A request failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The operator's account has to be made and the administrator's password is not taken.
    #[error("{source}; the administrator's Secret has to hold the password that the server knows")]
    AdminUnauthorized {
        /// The refused login.
        source: ApiError,
    },
    /// Administrator and operator would be one account, whose password the operator would reset.
    #[error(
        "the administrator is named {ACCOUNT_NAME}, which is the operator's own account; choose another spec.identity.admin.username"
    )]
    AdminIsOperator,
    /// A Secret could not be read or written.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// What TLS needs is not in its Secrets.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What a failed poll says about the server, for its conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It does not answer.
    Unreachable,
    /// It has let the operator in, and answers what cannot be used.
    BadAnswer,
    /// It answers, and the operator does not get in.
    Auth,
}

impl PollError {
    /// For metrics and events: that of [`ApiError`], or `admin-unauthorized`, `admin-secret-missing`, `vault` or
    /// `tls-secret`.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Api(error) => error.category(),
            Self::AdminUnauthorized { .. } | Self::AdminIsOperator => "admin-unauthorized",
            Self::Vault(VaultError::AdminMissing { .. }) => "admin-secret-missing",
            Self::Vault(_) => "vault",
            Self::Tls(_) => "tls-secret",
        }
    }

    /// What it says about the server.
    pub fn problem(&self) -> Problem {
        match (self.category(), self) {
            ("unreachable" | "timeout" | "tls-not-spoken", _) => Problem::Unreachable,
            // Whoever gets nonsense for a login is not logged in.
            ("bad-answer", Self::Api(error)) if error.operation() == Operation::ListAdapters => Problem::BadAnswer,
            _ => Problem::Auth,
        }
    }
}

/// At most this many characters of foreign text stand in an error.
const EXCERPT_MAX: usize = 160;

/// Foreign text made fit for an error: without `secrets`, control characters and line breaks, bounded.
pub(super) fn excerpt(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "[hidden]");
    }
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut kept: String = printable.take(EXCERPT_MAX + 1).collect();
    if kept.chars().count() > EXCERPT_MAX {
        kept = kept.chars().take(EXCERPT_MAX).chain(['…']).collect();
    }
    kept.trim().to_owned()
}

/// The innermost cause of `error`: "Connection refused" and not that a request could not be sent.
pub(super) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    excerpt(&cause.to_string(), &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16) -> PollError {
        ApiError::Status { operation: Operation::ListAdapters, status, detail: None }.into()
    }

    #[test]
    fn every_failure_has_its_category_and_its_problem() {
        let io = || Box::new(std::io::Error::other("x"));
        let operation = Operation::ListAdapters;
        let tls = |fault| PollError::from(ApiError::Tls { operation, fault, text: "t".to_owned(), source: io() });
        let table: [(PollError, &str, Problem); 18] = [
            (tls(TlsFault::Untrusted), "tls-untrusted", Problem::Auth),
            (tls(TlsFault::ClientCertificate), "tls-client-certificate", Problem::Auth),
            (tls(TlsFault::NotSpoken), "tls-not-spoken", Problem::Unreachable),
            (TlsError::Timeout.into(), "tls-secret", Problem::Auth),
            (
                ApiError::Unreachable { operation, cause: String::new(), source: io() }.into(),
                "unreachable",
                Problem::Unreachable,
            ),
            (ApiError::Timeout { operation }.into(), "timeout", Problem::Unreachable),
            (
                ApiError::Broken { operation, cause: String::new(), source: io() }.into(),
                "bad-answer",
                Problem::BadAnswer,
            ),
            (ApiError::TooLarge { operation, limit: 1 }.into(), "bad-answer", Problem::BadAnswer),
            (ApiError::Shape { operation, problem: String::new() }.into(), "bad-answer", Problem::BadAnswer),
            (status(500), "bad-answer", Problem::BadAnswer),
            (status(302), "bad-answer", Problem::BadAnswer),
            (
                ApiError::Status { operation: Operation::Login, status: 500, detail: None }.into(),
                "bad-answer",
                Problem::Auth,
            ),
            (status(401), "unauthorized", Problem::Auth),
            (status(403), "forbidden", Problem::Auth),
            (
                PollError::AdminUnauthorized { source: ApiError::Timeout { operation } },
                "admin-unauthorized",
                Problem::Auth,
            ),
            (PollError::AdminIsOperator, "admin-unauthorized", Problem::Auth),
            (
                VaultError::AdminMissing { secret: "s".to_owned(), problem: "missing".to_owned() }.into(),
                "admin-secret-missing",
                Problem::Auth,
            ),
            (VaultError::Write { secret: "s".to_owned(), source: io() }.into(), "vault", Problem::Auth),
        ];
        for (error, category, problem) in table {
            assert_eq!((error.category(), error.problem()), (category, problem), "{error}");
            assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn an_excerpt_is_short_printable_and_without_secrets() {
        assert_eq!(excerpt("a\u{1b}[31m\r\nb\u{0}", &[]), "a [31m  b");
        assert_eq!(excerpt(&"é".repeat(EXCERPT_MAX), &[]).chars().count(), EXCERPT_MAX);
        assert_eq!(excerpt(&"é".repeat(5000), &[]).chars().count(), EXCERPT_MAX + 1);
        assert_eq!(excerpt("password 'canary' is short", &["", "canary"]), "password '[hidden]' is short");
        let cut_through_a_secret = format!("{}canary", "x".repeat(EXCERPT_MAX - 3));
        assert!(!excerpt(&cut_through_a_secret, &["canary"]).contains("can"));
    }
}
