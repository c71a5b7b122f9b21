//! The way to one server's API where it speaks TLS: which client to poll with, made of what the server's Secrets say.
//!
//! Reads the Secrets that `spec.controlPlane` names for the operator, once, and again after one of them changed; writes
//! nothing. A server without TLS gets the client that all share. What is held is a client, never a key; it is made anew
//! only when the bytes that it was made of differ.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::Deps;
use crate::cluster::Kind;
use crate::dittofs::{Deadline, HttpClient, Pem, TlsError, TlsMaterial};
use crate::reconcile::{ApiTls, ValidatedServer, secret_bytes};

/// See the module; a clone is the same door.
#[derive(Clone, Default)]
pub struct TlsDoor(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// The Secrets were not read since one of them may have changed.
    stale: AtomicBool,
    held: Mutex<Option<Held>>,
}

#[derive(Clone)]
struct Held {
    settings: ApiTls,
    digest: [u8; 32],
    client: HttpClient,
}

impl TlsDoor {
    /// Says that a Secret of the server changed: the next poll reads them again.
    pub fn forget(&self) {
        self.0.stale.store(true, Ordering::Relaxed);
    }

    /// When the certificates that the API showed last, and that is shown to it, expire, in seconds since 1970.
    pub fn expiries(&self) -> [Option<i64>; 2] {
        self.held().map_or([None; 2], |held| held.client.expiries())
    }

    /// The client for the next poll of `server`, by `deadline`.
    pub async fn client(
        &self,
        deps: &Deps,
        server: &ValidatedServer,
        deadline: Deadline,
    ) -> Result<HttpClient, TlsError> {
        let settings = &server.api_tls;
        let Some(trusted) = settings.trusted() else {
            self.hold(None);
            return Ok(deps.http.clone());
        };
        let held = self.held().filter(|held| held.settings == *settings);
        // Taken before anything is read: a change meanwhile is read by the next poll.
        let stale = self.0.stale.swap(false, Ordering::Relaxed);
        if let Some(held) = held.as_ref().filter(|_| !stale) {
            return Ok(held.client.clone());
        }
        let read = deadline.bound(read(deps, server, trusted)).await.unwrap_or(Err(TlsError::Timeout));
        let made = read.and_then(|material| {
            let digest = material.digest();
            let client = match &held {
                Some(held) if held.digest == digest => held.client.clone(),
                _ => deps.http.secured(&material)?,
            };
            Ok(Held { settings: settings.clone(), digest, client })
        });
        match (made, held) {
            (Ok(made), _) => {
                let client = made.client.clone();
                self.hold(Some(made));
                Ok(client)
            }
            // The server is watched on while the API server is away.
            (Err(TlsError::Read { transient: true, .. }), Some(held)) => {
                self.forget();
                Ok(held.client)
            }
            (Err(error), _) => {
                self.forget();
                self.hold(None);
                Err(error)
            }
        }
    }

    fn held(&self) -> Option<Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hold(&self, held: Option<Held>) {
        *self.0.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }
}

/// `name` and `field` are [`ApiTls::trusted`].
async fn read(
    deps: &Deps,
    server: &ValidatedServer,
    (name, field): (&str, &'static str),
) -> Result<TlsMaterial, TlsError> {
    let tls = &server.api_tls;
    let namespace = &server.key.namespace;
    let trusted = {
        let secret = secret(deps, namespace, name, field).await?;
        // Without a CA, the server's own certificate is what is trusted: it can have signed itself.
        let own = field == "certSecretName" && secret_bytes(&secret, ApiTls::CA).is_none_or(|ca| ca.is_empty());
        pem(&secret, name, field, if own { ApiTls::CERTIFICATE } else { ApiTls::CA })?
    };
    let shown = match tls.shown() {
        Some(name) => {
            let field = "clientCertSecretName";
            let secret = secret(deps, namespace, name, field).await?;
            Some((pem(&secret, name, field, ApiTls::CERTIFICATE)?, pem(&secret, name, field, ApiTls::KEY)?))
        }
        None => None,
    };
    Ok(TlsMaterial { trusted, shown, mutual: tls.mutual().is_some() })
}

async fn secret(deps: &Deps, namespace: &str, name: &str, field: &'static str) -> Result<Value, TlsError> {
    match deps.cluster.get(Kind::Secret, namespace, name).await {
        Ok(Some(secret)) => Ok(secret),
        Ok(None) => {
            let problem = "it does not exist; create it, or name another".to_owned();
            Err(TlsError::Secret { secret: name.to_owned(), field, problem })
        }
        Err(error) => {
            let transient = error.is_transient();
            Err(TlsError::Read { secret: name.to_owned(), transient, source: Box::new(error) })
        }
    }
}

fn pem(secret: &Value, name: &str, field: &'static str, key: &'static str) -> Result<Pem, TlsError> {
    let bytes = secret_bytes(secret, key).filter(|bytes| !bytes.is_empty());
    let missing = || {
        let problem = format!("it has no key {key}; put it there");
        TlsError::Secret { secret: name.to_owned(), field, problem }
    };
    Ok(Pem { secret: name.to_owned(), field, key, bytes: bytes.ok_or_else(missing)? })
}
