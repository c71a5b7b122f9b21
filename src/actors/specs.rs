//! The checked form of every DittoServer, made once for each version of the object.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;

use crate::cluster::{Cache, Object};
use crate::crd::annotations::is_paused;
use crate::reconcile::{ServerKey, ValidatedServer, is_being_deleted, meta, validate};

/// One DittoServer as it was read.
#[derive(Clone, Debug)]
pub struct Spec {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether the operator is asked to leave it as it is; a deletion goes on all the same.
    pub paused: bool,
    /// The checked server, or what is wrong with it in words.
    pub server: Result<Arc<ValidatedServer>, Arc<str>>,
    /// The object; read when it is looked into.
    pub object: Object,
}

/// What was made of one version of an object.
#[derive(Clone)]
struct Parsed {
    version: Option<String>,
    uid: String,
    generation: i64,
    deleting: bool,
    paused: bool,
    server: Result<Arc<ValidatedServer>, Arc<str>>,
}

/// Reads the watcher's cache and remembers what it parsed; the objects themselves stay in the cache alone.
#[derive(Default)]
pub struct Specs {
    parsed: RwLock<HashMap<ServerKey, Parsed>>,
}

impl Specs {
    /// The newest known state of the server; None when there is none.
    pub fn current(&self, servers: &Cache, key: &ServerKey) -> Option<Arc<Spec>> {
        let Some(object) = servers.object(&key.namespace, &key.name) else {
            self.parsed.write().unwrap_or_else(PoisonError::into_inner).remove(key);
            return None;
        };
        let known = {
            let parsed = self.parsed.read().unwrap_or_else(PoisonError::into_inner);
            parsed
                .get(key)
                .filter(|known| known.version.is_some() && known.version.as_deref() == object.version())
                .cloned()
        };
        let Parsed { uid, generation, deleting, paused, server, .. } = known.unwrap_or_else(|| {
            let made = Parsed {
                version: object.version().map(str::to_owned),
                uid: meta(&object, "uid").to_owned(),
                generation: object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0),
                deleting: is_being_deleted(&object),
                paused: is_paused(&object) && !is_being_deleted(&object),
                server: validate(&object).map(Arc::new).map_err(|invalid| Arc::from(invalid.to_string())),
            };
            self.parsed.write().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), made.clone());
            made
        });
        Some(Arc::new(Spec { uid, generation, deleting, paused, server, object }))
    }
}
