//! The half of PortReconciler that says early that a StorageClass is missing: reads only.
//!
//! What waits for which class is decided in [`crate::reconcile::storage_class`]. Only claims that have no volume are
//! asked about, so that a server at rest costs no request. Nothing is held back: volumes made by hand may bear the name of
//! a class that has no object.

use std::time::Duration;

use tracing::warn;

use super::Run;
use crate::cluster::Kind;
use crate::cluster::Reason;
use crate::reconcile::ValidatedServer;
use crate::reconcile::storage_class::{Class, ClassSeen, awaited, claims_wait};

/// When a class that was missing is looked for again; a claim that gets its volume tells sooner.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(10);

impl Run {
    /// What to say of classes that are missing, for each one; None when nothing is known.
    pub(super) async fn classless(&mut self, server: &ValidatedServer) -> Option<Vec<String>> {
        if server.deleting || !self.deps.caches.claims.is_synced() {
            return None;
        }
        let deps = self.deps.clone();
        let cached = |name: &str| deps.caches.claims.get(&server.key.namespace, name);
        let mut told = Vec::new();
        for (class, claims) in awaited(server, cached) {
            if deps.classes.look(&class).await.seen != ClassSeen::Missing {
                continue;
            }
            let mut waiting = Vec::new();
            for name in claims {
                if cached(&name).is_some() || self.asks(&name, &class).await {
                    waiting.push(name);
                }
            }
            if !waiting.is_empty() {
                let why = claims_wait(server, &class, &waiting);
                self.tell_missing(server, &class, &why);
                told.push(why);
            }
        }
        Some(told)
    }

    /// Whether a claim that is in no cache, since it is still to be made or lacks our labels, waits for this class.
    async fn asks(&self, name: &str, class: &Class) -> bool {
        match self.deps.cluster.get(Kind::Claim, &self.key.namespace, name).await {
            Ok(Some(claim)) => Class::of_claim(&claim).as_ref() == Some(class),
            Ok(None) => true,
            Err(_) => false,
        }
    }

    /// As often as failures are told.
    fn tell_missing(&mut self, server: &ValidatedServer, class: &Class, why: &str) {
        let (what, related) = match class {
            Class::Named(name) => (format!("StorageClass {name}"), Some((Kind::StorageClass, name.clone()))),
            Class::Default => ("the default StorageClass".to_owned(), None),
        };
        if let Some(again) = self.trouble.failed(&what) {
            warn!(namespace = self.key.namespace, name = self.key.name, why, "a StorageClass is missing{again}");
            let (about, reason) = (self.about(server), Reason::StorageClassNotFound);
            self.deps.event_again(&about, reason, "FindStorageClass", why.to_owned(), related, again.times);
        }
    }
}
