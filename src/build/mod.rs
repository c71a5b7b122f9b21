//! Pure builders: one Kubernetes object to a file, made from a [`ValidatedServer`](crate::reconcile::ValidatedServer) alone.
