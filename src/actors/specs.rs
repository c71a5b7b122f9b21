//! The checked form of every DittoServer, made once for each version of the object.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;

use crate::cluster::Cache;
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
    /// The checked server, or what is wrong with it in words.
    pub server: Result<Arc<ValidatedServer>, Arc<str>>,
    /// The object.
    pub object: Arc<Value>,
}

/// What was made of one version of an object.
struct Parsed {
    uid: String,
    version: String,
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
        let Some(object) = servers.get(&key.namespace, &key.name) else {
            self.parsed.write().unwrap_or_else(PoisonError::into_inner).remove(key);
            return None;
        };
        let (uid, version) = (meta(&object, "uid").to_owned(), meta(&object, "resourceVersion").to_owned());
        let known = {
            let parsed = self.parsed.read().unwrap_or_else(PoisonError::into_inner);
            let same = parsed.get(key).filter(|known| known.uid == uid && known.version == version);
            same.map(|known| known.server.clone())
        };
        let server = known.unwrap_or_else(|| {
            let server = validate(&object).map(Arc::new).map_err(|invalid| Arc::from(invalid.to_string()));
            let made = Parsed { uid: uid.clone(), version, server: server.clone() };
            self.parsed.write().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), made);
            server
        });
        Some(Arc::new(Spec {
            uid,
            generation: object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0),
            deleting: is_being_deleted(&object),
            server,
            object,
        }))
    }
}
