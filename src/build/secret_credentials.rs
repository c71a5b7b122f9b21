//! Secret `<cr>-operator-credentials`: the operator's own account at the server's API, and its tokens.
//!
//! It goes with the `DittoServer`. `server-url` is written for people and never read back.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::common::owned;
use crate::reconcile::ValidatedServer;

/// Keys of the credentials Secret.
pub mod credentials_keys {
    /// User name of the operator's account.
    pub const USERNAME: &str = "username";
    /// Its password.
    pub const PASSWORD: &str = "password";
    /// The access token of the current session.
    pub const ACCESS_TOKEN: &str = "access-token";
    /// The refresh token of the current session.
    pub const REFRESH_TOKEN: &str = "refresh-token";
    /// Where the API was reached.
    pub const SERVER_URL: &str = "server-url";
}

/// The values of the credentials Secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CredentialValues<'a> {
    /// User name of the operator's account.
    pub username: &'a str,
    /// Its password.
    pub password: &'a str,
    /// The access token of the current session.
    pub access_token: &'a str,
    /// The refresh token of the current session.
    pub refresh_token: &'a str,
    /// Where the API was reached.
    pub server_url: &'a str,
}

impl fmt::Debug for CredentialValues<'_> {
    /// Names only what is no secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialValues")
            .field("username", &self.username)
            .field("server_url", &self.server_url)
            .finish_non_exhaustive()
    }
}

/// The Secret with `values`.
pub fn credentials_secret(server: &ValidatedServer, values: CredentialValues<'_>) -> Secret {
    let CredentialValues { username, password, access_token, refresh_token, server_url } = values;
    let data = [
        (credentials_keys::USERNAME, username),
        (credentials_keys::PASSWORD, password),
        (credentials_keys::ACCESS_TOKEN, access_token),
        (credentials_keys::REFRESH_TOKEN, refresh_token),
        (credentials_keys::SERVER_URL, server_url),
    ];
    Secret {
        metadata: owned(server, server.names().credentials_secret()),
        type_: Some("Opaque".to_owned()),
        data: Some(
            data.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.into()))).collect::<BTreeMap<_, _>>(),
        ),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_neither_password_nor_token() {
        let text = format!(
            "{:?}",
            CredentialValues {
                username: "k8s-operator",
                password: "canary-password",
                access_token: "canary-access",
                refresh_token: "canary-refresh",
                server_url: "http://x",
            }
        );
        assert!(!text.contains("canary"), "{text}");
        assert!(text.contains("k8s-operator"));
    }
}
