//! Tokens: JWTs (HS256) that only their server can verify. Owns a server's signing key and lifetimes.
//!
//! A token stands for itself, as in the real server: nothing is looked up when it is used, so that the token of a
//! deleted user, or of a database that was lost, works until it expires.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::clock;

/// What a user may do; only `Admin` and `Operator` matter to the exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May do everything.
    Admin,
    /// May list adapters.
    Operator,
    /// May list adapter ports only.
    User,
}

impl Role {
    /// The role's name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::User => "user",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::Admin, Self::Operator, Self::User].into_iter().find(|role| role.as_str() == name)
    }
}

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Purpose {
    Access,
    Refresh,
}

/// What a token says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) sub: String,
    pub(super) username: String,
    pub(super) role: Role,
    pub(super) token_type: Purpose,
    iat: i64,
    /// Whole seconds, rounded up; what a client may read.
    exp: i64,
    /// The expiry that counts, in ms: tests use lifetimes below a second.
    exp_ms: i64,
    jti: String,
}

/// A server's key and the lifetimes of what it signs.
pub(super) struct Tokens {
    key: hmac::Key,
    /// Of access tokens.
    pub(super) access: Duration,
    /// Of refresh tokens.
    pub(super) refresh: Duration,
}

impl Tokens {
    /// A new random key; 15 min and 7 days, the real server's defaults.
    pub(super) fn new() -> Self {
        Self { key: new_key(), access: Duration::from_mins(15), refresh: Duration::from_hours(168) }
    }

    /// Every token that was given out is worthless from now on.
    pub(super) fn change_key(&mut self) {
        self.key = new_key();
    }

    pub(super) fn sign(&self, id: &str, username: &str, role: Role, purpose: Purpose, at: Timestamp) -> String {
        let lifetime = match purpose {
            Purpose::Access => self.access,
            Purpose::Refresh => self.refresh,
        };
        let exp_ms = clock::add(at, lifetime).as_millisecond();
        let claims = Claims {
            sub: id.to_owned(),
            username: username.to_owned(),
            role,
            token_type: purpose,
            iat: at.as_second(),
            exp: exp_ms.div_euclid(1000) + i64::from(exp_ms.rem_euclid(1000) != 0),
            exp_ms,
            jti: uuid::Uuid::new_v4().to_string(),
        };
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims).unwrap_or_default());
        let signed = format!("{header}.{payload}");
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// What the token says, when we signed it for that purpose and it has not expired.
    pub(super) fn verify(&self, token: &str, purpose: Purpose, at: Timestamp) -> Option<Claims> {
        let (signed, signature) = token.rsplit_once('.')?;
        hmac::verify(&self.key, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
        let (_, payload) = signed.split_once('.')?;
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        (claims.token_type == purpose && at.as_millisecond() < claims.exp_ms).then_some(claims)
    }
}

fn new_key() -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(tokens: &Tokens, at: Timestamp) -> String {
        tokens.sign("id-1", "k8s-operator", Role::Operator, Purpose::Access, at)
    }

    #[test]
    fn a_token_is_good_until_its_last_millisecond() {
        let mut tokens = Tokens::new();
        tokens.access = Duration::from_millis(1500);
        let at = Timestamp::now();
        let token = token(&tokens, at);
        let good_after =
            |ms| tokens.verify(&token, Purpose::Access, clock::add(at, Duration::from_millis(ms))).is_some();
        assert!(good_after(0) && good_after(1499));
        assert!(!good_after(1500) && !good_after(60_000));
    }

    #[test]
    fn a_token_serves_its_purpose_and_its_server_only() {
        let (ours, theirs, at) = (Tokens::new(), Tokens::new(), Timestamp::now());
        let token = token(&ours, at);
        assert!(ours.verify(&token, Purpose::Refresh, at).is_none());
        assert!(theirs.verify(&token, Purpose::Access, at).is_none());
        assert!(ours.verify(&token, Purpose::Access, at).is_some_and(|claims| claims.role == Role::Operator));
    }

    #[test]
    fn a_token_with_other_claims_than_the_signed_ones_is_refused() {
        let (tokens, at) = (Tokens::new(), Timestamp::now());
        let operator = token(&tokens, at);
        let admin = tokens.sign("id-1", "admin", Role::Admin, Purpose::Access, at);
        let part = |token: &str, n: usize| token.split('.').nth(n).unwrap().to_owned();
        let forged = format!("{}.{}.{}", part(&operator, 0), part(&admin, 1), part(&operator, 2));
        assert!(tokens.verify(&forged, Purpose::Access, at).is_none());
    }

    #[test]
    fn two_tokens_of_one_moment_differ() {
        let (tokens, at) = (Tokens::new(), Timestamp::now());
        assert_ne!(token(&tokens, at), token(&tokens, at));
    }
}
