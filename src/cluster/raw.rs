//! An object as JSON, in the form that kube's generic API wants.
//!
//! Owns: the bridge between `serde_json::Value` and kube's `Resource`. Touches nothing. Guarantees: any JSON value
//! can be read as one, so that a single broken object never spoils a list or ends a watch; `managedFields` is gone.

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::{ApiResource, DynamicResourceScope};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::cache::strip;

/// kubectl keeps a whole manifest in it, with a Secret's data.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// One object; with `METADATA_ONLY`, only its metadata is asked for.
#[derive(Clone)]
pub(super) struct Raw<const METADATA_ONLY: bool> {
    value: Value,
    /// What kube's watcher reads of it.
    meta: ObjectMeta,
}

impl<const M: bool> Raw<M> {
    /// The object as the API server sent it, but for what was dropped.
    pub(super) fn into_value(self) -> Value {
        self.value
    }
}

impl<const M: bool> fmt::Debug for Raw<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{:?}", self.meta.namespace, self.meta.name)
    }
}

impl<'de, const M: bool> Deserialize<'de> for Raw<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        strip(&mut value);
        if M && let Some(annotations) = value.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
            annotations.remove(LAST_APPLIED);
        }
        let text = |field: &str| value.get("metadata")?.get(field)?.as_str().map(ToOwned::to_owned);
        let meta = ObjectMeta {
            namespace: text("namespace"),
            name: text("name"),
            resource_version: text("resourceVersion"),
            ..ObjectMeta::default()
        };
        Ok(Self { value, meta })
    }
}

impl<const M: bool> Resource for Raw<M> {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(dt: &ApiResource) -> Cow<'_, str> {
        dt.kind.as_str().into()
    }

    fn group(dt: &ApiResource) -> Cow<'_, str> {
        dt.group.as_str().into()
    }

    fn version(dt: &ApiResource) -> Cow<'_, str> {
        dt.version.as_str().into()
    }

    fn plural(dt: &ApiResource) -> Cow<'_, str> {
        dt.plural.as_str().into()
    }

    fn metadata_api() -> bool {
        M
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}
