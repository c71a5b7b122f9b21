//! The DittoFS accounts of one server, as Secrets: what AdapterPoller's session loads and stores.
//!
//! Writes `<cr>-operator-credentials` and nothing else; reads that and the administrator's Secret. Values go from
//! Secret to session and back, and nowhere else.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rand::Rng as _;
use serde_json::Value;

use super::Deps;
use crate::build::{CredentialValues, credentials_secret};
use crate::cluster::{CrRef, Kind, Reason};
use crate::dittofs::{ACCOUNT_NAME, AdminAccount, Credentials, Sensitive, Vault, VaultError};
use crate::reconcile::{ValidatedServer, owned_by, secret_bytes};

/// Length of a generated password.
const PASSWORD_LENGTH: usize = 32;

/// The Secrets of one server.
pub struct SecretVault {
    deps: Arc<Deps>,
    server: Arc<ValidatedServer>,
    known: KnownSecret,
}

/// The credentials Secret as the session knows it, None when there was none; kept from poll to poll. As text, which takes
/// a quarter of the tree's memory.
pub type KnownSecret = Arc<Mutex<Option<Box<[u8]>>>>;

impl SecretVault {
    /// The vault of `server`.
    pub fn new(deps: Arc<Deps>, server: Arc<ValidatedServer>, known: KnownSecret) -> Self {
        Self { deps, server, known }
    }

    fn know(&self, secret: Option<&Value>) {
        let text = secret.map(|secret| secret.to_string().into_bytes().into_boxed_slice());
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// It was made from a tree, so it reads.
    fn known(&self) -> Option<Value> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        serde_json::from_slice(known.as_deref()?).ok()
    }

    async fn read(&self, name: &str) -> Result<Option<Value>, VaultError> {
        let found = self.deps.cluster.get(Kind::Secret, &self.server.key.namespace, name).await;
        found.map_err(|error| {
            let (transient, secret, source) = (error.is_transient(), name.to_owned(), Box::new(error));
            if transient { VaultError::Away { secret, source } } else { VaultError::Read { secret, source } }
        })
    }

    /// The credentials Secret when it is there and ours.
    async fn own(&self, name: &str) -> Result<Option<Value>, VaultError> {
        match self.read(name).await? {
            Some(secret) if !owned_by(&secret, &self.server.uid) => {
                Err(VaultError::Read { secret: name.to_owned(), source: Box::new(NotOurs) })
            }
            found => Ok(found),
        }
    }
}

/// The Secret has our name and another owner.
#[derive(Debug, thiserror::Error)]
#[error("it belongs to somebody else; rename or remove it")]
struct NotOurs;

/// Somebody edited the Secret after the session loaded it; theirs counts, and is loaded before anything is stored.
#[derive(Debug, thiserror::Error)]
#[error("it was changed meanwhile")]
struct ChangedMeanwhile;

/// A key of a Secret's data as text; None when it is missing, not base64 or not UTF-8.
pub fn secret_text(secret: &Value, key: &str) -> Option<String> {
    String::from_utf8(secret_bytes(secret, key)?).ok()
}

/// A random text of letters and digits from the system's source of randomness.
pub fn random_text(length: usize) -> String {
    rand::rng().sample_iter(rand::distr::Alphanumeric).take(length).map(char::from).collect()
}

#[async_trait]
impl Vault for SecretVault {
    async fn admin(&self) -> Result<AdminAccount, VaultError> {
        // To make the account, or to reset its password, would change the server.
        if self.deps.is_paused(&self.server.key) {
            return Err(VaultError::Paused);
        }
        let generated = self.server.names().admin_secret();
        let (name, key) = match &self.server.admin.password {
            Some(given) => (given.name.as_str(), given.key.as_str()),
            None => (generated.as_str(), "password"),
        };
        let missing = |problem: String| VaultError::AdminMissing { secret: name.to_owned(), problem };
        let secret = self.read(name).await?.ok_or_else(|| missing("it does not exist".to_owned()))?;
        let password = secret_text(&secret, key).filter(|password| !password.is_empty());
        let password = password.ok_or_else(|| missing(format!("it has no usable key {key}")))?;
        Ok(AdminAccount { username: self.server.admin.username.clone(), password: Sensitive::new(password) })
    }

    async fn load(&self) -> Result<Option<Credentials>, VaultError> {
        let found = self.own(&self.server.names().credentials_secret()).await?;
        self.know(found.as_ref());
        let Some(secret) = found else { return Ok(None) };
        let text = |key: &str| secret_text(&secret, key).filter(|text| !text.is_empty());
        if crate::fault::on("secret-in-log") {
            tracing::info!(password = text("password"), "loaded");
        }
        if crate::fault::on("secret-in-event") {
            let about = CrRef { key: self.server.key.clone(), uid: self.server.uid.clone() };
            self.deps.event(&about, Reason::AuthProvisioned, "Load", text("password").unwrap_or_default(), None);
        }
        Ok(Some(Credentials {
            username: text("username").unwrap_or_else(|| ACCOUNT_NAME.to_owned()),
            password: Sensitive::new(text("password").unwrap_or_default()),
            access_token: text("access-token").map(Sensitive::new),
            refresh_token: text("refresh-token").map(Sensitive::new),
            server_url: text("server-url").unwrap_or_default(),
        }))
    }

    async fn store(&self, credentials: &Credentials) -> Result<(), VaultError> {
        let name = self.server.names().credentials_secret();
        let token = |token: &Option<Sensitive>| token.as_ref().map_or_else(String::new, |t| t.expose().to_owned());
        let built = credentials_secret(
            &self.server,
            CredentialValues {
                username: &credentials.username,
                password: credentials.password.expose(),
                access_token: &token(&credentials.access_token),
                refresh_token: &token(&credentials.refresh_token),
                server_url: &credentials.server_url,
            },
        );
        let desired = serde_json::to_value(built).unwrap_or_default();
        let failed = |source: Box<dyn Error + Send + Sync>| VaultError::Write { secret: name.clone(), source };
        let namespace = &self.server.key.namespace;
        // Whoever changed the Secret since it was loaded makes this a conflict: theirs is loaded first.
        let stored = match self.known() {
            None => self.deps.cluster.create(Kind::Secret, namespace, &desired).await,
            Some(live) => {
                // From the JSON as read: labels, annotations and further keys that others put there stay.
                let mut next = live.clone();
                for (key, value) in desired["data"].as_object().into_iter().flatten() {
                    next["data"][key] = value.clone();
                }
                if let Some(data) = next["data"].as_object_mut() {
                    data.retain(|key, _| desired["data"].get(key).is_some() || !OWN_KEYS.contains(&key.as_str()));
                }
                next["metadata"]["ownerReferences"] = live["metadata"]["ownerReferences"].clone();
                if next == live {
                    return Ok(());
                }
                self.deps.cluster.replace(Kind::Secret, namespace, &name, &next).await
            }
        };
        match stored {
            Ok(stored) => {
                self.know(Some(&stored));
                Ok(())
            }
            Err(error) if error.is_conflict() || error.is_already_exists() || error.is_not_found() => {
                Err(failed(Box::new(ChangedMeanwhile)))
            }
            Err(error) => Err(failed(Box::new(error))),
        }
    }

    fn new_password(&self) -> String {
        random_text(PASSWORD_LENGTH)
    }
}

/// The keys of the Secret that are ours to set and to take out.
const OWN_KEYS: [&str; 5] = ["username", "password", "access-token", "refresh-token", "server-url"];
