//! The part of ConfigHasher that makes the generated Secrets and reads those that the pod uses; which these are, and what
//! is taken from them, is decided in [`crate::reconcile::secrets_used`] and [`crate::reconcile::values_of`].
//!
//! The only writer of the generated JWT and admin Secrets: created once, taken up as they are, never changed but for the
//! owner reference that would take them along with the server. Secrets of the user are read. Each is read once a run.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use super::Run;
use crate::actors::vault::{random_text, secret_text};
use crate::build::{admin_secret, jwt_secret};
use crate::cluster::{CrRef, Kind, KubeError};
use crate::reconcile::status::ConfigFact;
use crate::reconcile::{SecretKey, SecretUse, ValidatedServer, disowned, meta, secrets_used, values_of};

/// Bytes of a generated JWT signing key; the server asks for 32 characters or more.
const JWT_SECRET_LENGTH: usize = 48;
/// Length of a generated administrator password.
const ADMIN_PASSWORD_LENGTH: usize = 24;

/// What the pod takes from Secrets.
#[derive(Default)]
pub(super) struct Used {
    /// The values, for the hash alone.
    pub(super) values: BTreeMap<SecretKey, Vec<u8>>,
    /// What of it is not there or cannot be read, in words.
    pub(super) lacking: Vec<String>,
    /// Whether a Secret could not be read, which only time may heal.
    pub(super) retry: bool,
}

impl Run {
    /// Creates the Secrets that the user did not give, once; what is there is taken up as it is. Returns them by name,
    /// so that each is read once a run.
    pub(super) async fn keep_secrets(
        &mut self,
        about: &CrRef,
        server: &ValidatedServer,
    ) -> Result<BTreeMap<String, Value>, ConfigFact> {
        let names = server.names();
        let failed = |error: KubeError| ConfigFact::Failed { reason: "SecretMissing", text: error.to_string() };
        let mut read = BTreeMap::new();
        if server.jwt.secret.is_none() {
            let name = names.jwt_secret();
            let secret = match self.secret(&name).await.map_err(failed)? {
                Some(found) => self.set_free(server, found).await.map_err(failed)?,
                None => self
                    .create_secret(about, jwt_secret(server, &random_text(JWT_SECRET_LENGTH)))
                    .await
                    .map_err(failed)?,
            };
            self.upkeep.saw(Kind::Secret, &name);
            read.insert(name, secret);
        }
        if server.admin.password.is_none() {
            let name = names.admin_secret();
            let secret = if let Some(found) = self.secret(&name).await.map_err(failed)? {
                self.set_free(server, found).await.map_err(failed)?
            } else {
                // An existing server never seeds its administrator again: a password that an older release made stays.
                let legacy = self.secret(&names.legacy_admin_secret()).await.map_err(failed)?;
                let password = legacy
                    .and_then(|secret| secret_text(&secret, "password"))
                    .filter(|password| !password.is_empty())
                    .unwrap_or_else(|| random_text(ADMIN_PASSWORD_LENGTH));
                self.create_secret(about, admin_secret(server, &server.admin.username, &password))
                    .await
                    .map_err(failed)?
            };
            self.upkeep.saw(Kind::Secret, &name);
            read.insert(name, secret);
        }
        Ok(read)
    }

    /// A generated Secret does not go with its DittoServer: the one that another operator made is freed of its owner.
    async fn set_free(&mut self, server: &ValidatedServer, secret: Value) -> Result<Value, KubeError> {
        let Some(free) = disowned(&secret, &server.uid) else { return Ok(secret) };
        let name = meta(&free, "name").to_owned();
        let kept = self.deps.cluster.replace(Kind::Secret, &self.key.namespace, &name, &free).await?;
        self.done.did("update", format!("Secret {name} outlives the server: its owner reference is gone"));
        Ok(kept)
    }

    async fn secret(&self, name: &str) -> Result<Option<Value>, KubeError> {
        self.deps.cluster.get(Kind::Secret, &self.key.namespace, name).await
    }

    /// Creates a Secret, or reads the one that somebody made meanwhile: theirs counts.
    async fn create_secret(&mut self, about: &CrRef, secret: Secret) -> Result<Value, KubeError> {
        let name = secret.metadata.name.clone().unwrap_or_default();
        let made = serde_json::to_value(secret).unwrap_or_default();
        match self.deps.cluster.create(Kind::Secret, &self.key.namespace, &made).await {
            Err(error) if error.is_already_exists() => Ok(self.secret(&name).await?.unwrap_or_default()),
            made => {
                if made.is_ok() {
                    let missing = self.upkeep.missing(Kind::Secret, &name);
                    self.upkeep.repaired(about, Kind::Secret, &name, &missing, "");
                    self.done.did("create", format!("created Secret {name}"));
                }
                made
            }
        }
    }

    /// What the pod takes from Secrets; `read` are those that are read already, by name.
    pub(super) async fn used(&self, server: &ValidatedServer, mut read: BTreeMap<String, Value>) -> Used {
        let mut found = Used::default();
        for used in secrets_used(server) {
            let SecretUse { name, purpose, .. } = &used;
            let secret = match read.entry(name.clone()) {
                Entry::Occupied(known) => &*known.into_mut(),
                Entry::Vacant(place) => match self.secret(name).await {
                    Ok(Some(secret)) => &*place.insert(secret),
                    Ok(None) => {
                        found.lacking.push(used.lacking("it does not exist"));
                        continue;
                    }
                    Err(error) => {
                        let why = error.category();
                        found.retry = true;
                        found.lacking.push(format!("Secret {name} cannot be read ({why}), needed for {purpose}"));
                        continue;
                    }
                },
            };
            match values_of(secret, &used) {
                Ok(values) => found.values.extend(values),
                Err(why) => found.lacking.push(used.lacking(&why)),
            }
        }
        found
    }
}
