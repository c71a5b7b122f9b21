//! Secret `<cr>-admin-bootstrap-credentials`: the first administrator, made when the user gives no password.
//!
//! It has no owner reference: the server seeds its administrator once, so the password must outlive the
//! `DittoServer` as the claims do.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::common::outliving;
use crate::reconcile::ValidatedServer;

/// Key of the user name.
pub const ADMIN_USERNAME_KEY: &str = "username";
/// Key of the password.
pub const ADMIN_PASSWORD_KEY: &str = "password";

/// The Secret for `username` with `password`, which the caller drew at random or took from a legacy Secret.
pub fn admin_secret(server: &ValidatedServer, username: &str, password: &str) -> Secret {
    Secret {
        metadata: outliving(server, server.names().admin_secret()),
        type_: Some("Opaque".to_owned()),
        data: Some(BTreeMap::from([
            (ADMIN_USERNAME_KEY.to_owned(), ByteString(username.into())),
            (ADMIN_PASSWORD_KEY.to_owned(), ByteString(password.into())),
        ])),
        ..Secret::default()
    }
}
