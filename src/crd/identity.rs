//! `spec.identity`.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::database::SecretKeySelector;
use super::directory::{KerberosSpec, LdapSpec};
use super::{defaults, rules};

/// Who may use the server's API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdentitySpec {
    /// Store of identities.
    #[serde(default, rename = "type")]
    pub identity_type: IdentityType,
    /// Tokens of the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtSpec>,
    /// The first administrator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<AdminSpec>,
    /// A directory that names users and groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ldap: Option<LdapSpec>,
    /// Kerberos for NFS and SMB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kerberos: Option<KerberosSpec>,
}

/// Store of identities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum IdentityType {
    #[default]
    /// The server's own.
    Memory,
}

/// Tokens of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwtSpec {
    /// Signing key of 32 characters or more. Without it the operator makes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::secret_key("spec.identity.jwt.secretRef"))]
    pub secret_ref: Option<SecretKeySelector>,
    /// How long an access token lasts, a Go duration.
    #[serde(default = "defaults::access_token_duration")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::positive_duration("spec.identity.jwt.accessTokenDuration"))]
    pub access_token_duration: String,
    /// How long a refresh token lasts, a Go duration.
    #[serde(default = "defaults::refresh_token_duration")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::positive_duration("spec.identity.jwt.refreshTokenDuration"))]
    pub refresh_token_duration: String,
}

/// The first administrator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdminSpec {
    /// User name.
    #[serde(default = "defaults::admin_username")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::not_blank("spec.identity.admin.username"))]
    pub username: String,
    /// The password. Without it the operator makes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::secret_key("spec.identity.admin.passwordSecretRef"))]
    pub password_secret_ref: Option<SecretKeySelector>,
}
