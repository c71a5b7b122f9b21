//! The `DittoServer` resource as the API server sees it: types, defaults, bounds and CEL rules.
//!
//! Owns the schema and nothing else. It is pure: it prints a `CustomResourceDefinition`, it never talks to a cluster.
//! What is guaranteed here:
//!
//! * field names, types, defaults and bounds are those of the operator that ships with DittoFS today, so that a
//!   manifest for that one applies here;
//! * no rule can refuse a write of `.status` or of finalizers of an object that an older CRD admitted. Rules below
//!   `spec` do not mention `oldSelf`, so the API server ratchets them while `spec` stays as it is; rules at the root
//!   and rules that do mention `oldSelf` hold whenever nothing changes. No rule can fail to evaluate, because an
//!   evaluation error is not ratcheted;
//! * a field of the schema has an effect: none is accepted and ignored.
//!
//! The operator itself reads a `DittoServer` with [`crate::reconcile::validate`], not with these types.

#![expect(unreachable_pub, reason = "the KubeSchema derive copies each public struct into a function body")]

pub mod annotations;
pub mod database;
pub mod defaults;
pub mod directory;
pub mod identity;
pub mod network;
pub mod network_policy;
pub mod percona;
pub mod pod;
pub mod rules;
pub mod runtime;
mod schema;
pub mod service;
pub mod service_monitor;
pub mod service_rules;
pub mod snapshots;
pub mod spec;
pub mod status;
pub mod storage;

pub(crate) use schema::sorted;
pub use schema::{crd_json, crd_yaml};
pub use spec::{DittoServer, DittoServerSpec};
pub use status::{AdapterStatus, DittoServerStatus, LastChange, VolumesStatus};

/// API group of the resource.
pub const GROUP: &str = "dittofs.dittofs.com";
/// API version of the resource.
pub const VERSION: &str = "v1alpha1";
/// Kind of the resource.
pub const KIND: &str = "DittoServer";
/// Plural, as it stands in URLs and RBAC rules.
pub const PLURAL: &str = "dittoservers";
/// Finalizer of every `DittoServer` that lives; the operator written in Go has the same, so that each can release what
/// the other has set.
pub const FINALIZER: &str = "dittofs.dittofs.com/finalizer";
