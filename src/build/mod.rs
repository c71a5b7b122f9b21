//! Pure builders: one Kubernetes object to a file, made from a [`ValidatedServer`](crate::reconcile::ValidatedServer) alone.

mod rbac;

pub use rbac::rbac_yaml;
