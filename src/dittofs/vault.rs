//! What the session keeps outside the process, and the door to it.
//!
//! Owns the types of the two accounts that the operator uses at a server. Nothing here prints a password or a token:
//! `Debug` says only whether there is one. Which Secret holds what is the business of whoever implements [`Vault`].

use std::error::Error;
use std::fmt;

use async_trait::async_trait;

/// A password or token: it can be used and compared, and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Sensitive(String);

impl Sensitive {
    /// Keeps `text` from being printed.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
    /// The text itself, for a request or a Secret and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "[empty]" } else { "[hidden]" })
    }
}

/// The operator's own account at one server, as Secret `<cr>-operator-credentials` holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// `username`. Written as [`ACCOUNT_NAME`](super::ACCOUNT_NAME); what is read back is not used.
    pub username: String,
    /// `password`; empty when the Secret has none. This is the truth: the account's password is made to be it.
    pub password: Sensitive,
    /// `access-token`, when there is one.
    pub access_token: Option<Sensitive>,
    /// `refresh-token`, when there is one.
    pub refresh_token: Option<Sensitive>,
    /// `server-url`, for people to read. What is read back is not used.
    pub server_url: String,
}

/// The server's administrator, as the bootstrap Secret holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminAccount {
    /// User name.
    pub username: String,
    /// Password.
    pub password: Sensitive,
}

/// A Secret could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The administrator's Secret, or its key, is not there.
    #[error("the administrator's Secret {secret}: {problem}")]
    AdminMissing {
        /// Name of the Secret.
        secret: String,
        /// What is missing.
        problem: String,
    },
    /// Reading failed.
    #[error("cannot read Secret {secret}: {source}")]
    Read {
        /// Name of the Secret.
        secret: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Nobody can read it now: the API server is away, or too busy.
    #[error("cannot read Secret {secret} now: {source}")]
    Away {
        /// Name of the Secret.
        secret: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Writing failed.
    #[error("cannot write Secret {secret}: {source}")]
    Write {
        /// Name of the Secret.
        secret: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The server is paused: its account is not set up meanwhile.
    #[error("the operator's account is not set up while the server is paused")]
    Paused,
    /// The time of the poll was up first.
    #[error("{operation} was not done within the poll's time")]
    Timeout {
        /// What was under way.
        operation: &'static str,
    },
}

/// Where one server's accounts are kept.
#[async_trait]
pub trait Vault: Send + Sync {
    /// The administrator, read anew each time; [`VaultError::AdminMissing`] when there is none.
    async fn admin(&self) -> Result<AdminAccount, VaultError>;
    /// The operator's account; `None` when nothing was stored yet. [`VaultError::Away`] when trying again may help.
    async fn load(&self) -> Result<Option<Credentials>, VaultError>;
    /// Keeps `credentials`; when it returns `Ok` they survive the process.
    async fn store(&self, credentials: &Credentials) -> Result<(), VaultError>;
    /// A fresh random password that the server accepts (8 to 72 bytes).
    fn new_password(&self) -> String;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_whether_there_is_a_secret_and_never_which() {
        let credentials = Credentials {
            username: "k8s-operator".to_owned(),
            password: Sensitive::new("canary-password"),
            access_token: Some(Sensitive::new("canary-access")),
            refresh_token: None,
            server_url: "http://files:8080".to_owned(),
        };
        let admin = AdminAccount { username: "admin".to_owned(), password: Sensitive::new("canary-admin") };
        let text = format!("{credentials:?} {credentials:#?} {admin:?}");
        assert!(!text.contains("canary"), "{text}");
        assert!(text.contains("[hidden]") && text.contains("None"), "{text}");
        assert_eq!(format!("{:?}", Sensitive::new("")), "[empty]");
    }
}
