//! The DittoFS accounts of one server, as Secrets: what AdapterPoller's session loads and stores.
//!
//! Writes `<cr>-operator-credentials` and nothing else; reads that and the administrator's Secret. Values go from
//! Secret to session and back, and nowhere else. What somebody else does to that Secret and the session sets right is told
//! by the names of its keys; a password that somebody puts there counts, and is not set back.

use std::collections::BTreeSet;
use std::error::Error;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rand::Rng as _;
use serde_json::Value;

use super::Deps;
use super::messages::CauseKind;
use super::upkeep::{Rest, Upkeep};
use crate::build::{CredentialValues, credentials_secret};
use crate::cluster::{CrRef, FIELD_MANAGER, Kind, Reason};
use crate::dittofs::{ACCOUNT_NAME, AdminAccount, Credentials, Sensitive, Vault, VaultError};
use crate::reconcile::drift::{Drifted, drift};
use crate::reconcile::{ValidatedServer, owned_by, secret_bytes};

/// Length of a generated password.
const PASSWORD_LENGTH: usize = 32;

/// The Secrets of one server.
pub struct SecretVault {
    deps: Arc<Deps>,
    server: Arc<ValidatedServer>,
    known: KnownSecret,
    upkeep: Option<Upkeep>,
}

/// The credentials Secret as the session knows it; kept from poll to poll.
pub type KnownSecret = Arc<Mutex<Known>>;

/// See [`KnownSecret`].
#[derive(Default)]
pub struct Known {
    /// None when there was none. As text, which takes a quarter of the tree's memory.
    text: Option<Box<[u8]>>,
    /// Its keys that are not as this process had seen or stored them, until it stores them again.
    edited: BTreeSet<String>,
}

impl SecretVault {
    /// The vault of `server`.
    pub fn new(deps: Arc<Deps>, server: Arc<ValidatedServer>, known: KnownSecret) -> Self {
        Self { deps, server, known, upkeep: None }
    }

    /// The same, which tells what it sets right.
    #[must_use]
    pub fn kept(mut self, upkeep: Upkeep) -> Self {
        self.upkeep = Some(upkeep);
        self
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The Secret was read: what differs from what was known somebody has changed.
    fn found(&self, secret: Option<&Value>) {
        let before = self.known();
        let keys = |secret: &Value| secret["data"].as_object().cloned().unwrap_or_default();
        if let (Some(before), Some(now)) = (&before, secret) {
            let (before, now) = (keys(before), keys(now));
            let edited = before.keys().chain(now.keys()).filter(|key| before.get(*key) != now.get(*key));
            self.lock().edited.extend(edited.cloned());
        }
        self.know(secret);
    }

    fn know(&self, secret: Option<&Value>) {
        let text = secret.map(|secret| secret.to_string().into_bytes().into_boxed_slice());
        self.lock().text = text;
        if let (Some(_), Some(upkeep)) = (secret, &self.upkeep) {
            upkeep.saw(Kind::Secret, &self.server.names().credentials_secret());
        }
    }

    /// It was made from a tree, so it reads.
    fn known(&self) -> Option<Value> {
        serde_json::from_slice(self.lock().text.as_deref()?).ok()
    }

    /// Which keys that somebody else changed this write sets back. Tokens that are merely new are none of them.
    fn drifted(&self, live: &Value, next: &Value) -> Drifted {
        let mut drifted = drift(live, next, FIELD_MANAGER, true);
        let known = self.lock();
        let all = drifted.fields.len();
        drifted.fields.retain(|drift| drift.field.strip_prefix("data.").is_some_and(|key| known.edited.contains(key)));
        drifted.entirely &= drifted.fields.len() == all;
        drifted
    }

    /// How long what somebody does again and again is left before it is set right once more.
    fn rest(&self, drifted: &Drifted) -> Result<(), Resting> {
        let name = self.server.names().credentials_secret();
        let rest = self.upkeep.as_ref().and_then(|u| u.rest(Kind::Secret, &name, drifted, CauseKind::SecretChanged));
        rest.map_or(Ok(()), |Rest { why, .. }| Err(Resting(why)))
    }

    fn repaired(&self, drifted: &Drifted) {
        let about = CrRef { key: self.server.key.clone(), uid: self.server.uid.clone() };
        if let Some(upkeep) = &self.upkeep {
            upkeep.repaired(&about, Kind::Secret, &self.server.names().credentials_secret(), drifted, "");
        }
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

/// Somebody deletes or edits the Secret again and again: it is met ever more slowly.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Resting(String);

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
        let name = self.server.names().credentials_secret();
        let found = self.own(&name).await?;
        if found.is_none()
            && let Some(upkeep) = &self.upkeep
        {
            // Meanwhile the server is asked with the token at hand.
            let resting = self.rest(&upkeep.missing(Kind::Secret, &name));
            resting.map_err(|rest| VaultError::Away { secret: name, source: Box::new(rest) })?;
        }
        self.found(found.as_ref());
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
        let (stored, drifted) = match self.known() {
            None => {
                let missing = self.upkeep.as_ref().map(|upkeep| upkeep.missing(Kind::Secret, &name));
                (self.deps.cluster.create(Kind::Secret, namespace, &desired).await, missing.unwrap_or_default())
            }
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
                let drifted = self.drifted(&live, &next);
                self.rest(&drifted).map_err(|rest| failed(Box::new(rest)))?;
                (self.deps.cluster.replace(Kind::Secret, namespace, &name, &next).await, drifted)
            }
        };
        match stored {
            Ok(stored) => {
                self.repaired(&drifted);
                mem::take(&mut self.lock().edited);
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
