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

/// Reads the watcher's cache and remembers what it parsed.
#[derive(Default)]
pub struct Specs {
    parsed: RwLock<HashMap<ServerKey, Arc<Spec>>>,
}

impl Specs {
    /// The newest known state of the server; None when there is none.
    pub fn current(&self, servers: &Cache, key: &ServerKey) -> Option<Arc<Spec>> {
        let Some(object) = servers.get(&key.namespace, &key.name) else {
            self.parsed.write().unwrap_or_else(PoisonError::into_inner).remove(key);
            return None;
        };
        let known = self.parsed.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        if let Some(known) = known
            && meta(&known.object, "resourceVersion") == meta(&object, "resourceVersion")
            && known.uid == meta(&object, "uid")
        {
            return Some(known);
        }
        let spec = Arc::new(Spec {
            uid: meta(&object, "uid").to_owned(),
            generation: object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0),
            deleting: is_being_deleted(&object),
            server: validate(&object).map(Arc::new).map_err(|invalid| invalid.to_string().into()),
            object,
        });
        self.parsed.write().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), spec.clone());
        Some(spec)
    }
}
