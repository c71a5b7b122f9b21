//! Secret `<cr>-jwt-secret`: the key that signs the server's tokens, made when the user gives none.
//!
//! It has no owner reference: it outlives the `DittoServer` as the claims do.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::common::outliving;
use crate::reconcile::ValidatedServer;

/// Key of the signing key in the generated Secret.
pub const JWT_SECRET_KEY: &str = "jwt-secret";

/// The Secret with `signing_key`, which the caller drew at random (32 characters or more).
pub fn jwt_secret(server: &ValidatedServer, signing_key: &str) -> Secret {
    Secret {
        metadata: outliving(server, server.names().jwt_secret()),
        type_: Some("Opaque".to_owned()),
        data: Some(BTreeMap::from([(JWT_SECRET_KEY.to_owned(), ByteString(signing_key.into()))])),
        ..Secret::default()
    }
}
