//! Whether a StorageClass is there: asked when somebody needs to know, and known for a while.
//!
//! Owns: when StorageClasses are asked for. Touches: a GET of one class, and a LIST of all when the default one is meant.
//! Guarantees: one LIST in [`PERIOD`], one GET of a name in [`THERE`] or [`MISSING`], whatever is asked meanwhile and by
//! however many servers; what could not be read is no evidence. Nothing of a class is kept. A watch would be one more for a
//! whole cluster, for what matters to a server once in its life.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex as Turn;
use tokio::time::{Instant, timeout};

use super::{Cluster, Kind, KubeError};
use crate::reconcile::storage_class::{Class, ClassSeen, is_default};

/// From the start of a LIST to the start of the next: a little more than is promised of any kind.
const PERIOD: Duration = Duration::from_secs(31);
/// How long a class of this name is known to be there.
const THERE: Duration = Duration::from_secs(5);
/// How long it is known not to be there, or not known.
const MISSING: Duration = Duration::from_secs(1);
/// How long the operator takes it that it may not look: that of one namespace never may.
const FORBIDDEN: Duration = Duration::from_mins(1);
/// Longest time that an answer takes.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most classes that are remembered; users' specs name them.
const MOST: usize = 64;

/// What is known of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looked {
    /// What was seen.
    pub seen: ClassSeen,
    /// How long ago.
    pub age: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    at: Instant,
    seen: ClassSeen,
    fresh_for: Duration,
}

impl Known {
    fn is_fresh(&self) -> bool {
        self.at.elapsed() < self.fresh_for
    }
}

type Place = Arc<Turn<Option<Known>>>;

/// Reads StorageClasses. A clone is the same reader.
#[derive(Clone)]
pub struct ClassReader {
    cluster: Cluster,
    known: Arc<Mutex<HashMap<Class, Place>>>,
}

impl ClassReader {
    /// One that knows nothing.
    pub fn new(cluster: Cluster) -> Self {
        Self { cluster, known: Arc::default() }
    }

    /// One that knows for ever that there is a default class.
    #[cfg(test)]
    pub(crate) fn with_default(cluster: Cluster) -> Self {
        let reader = Self::new(cluster);
        let known = Known { at: Instant::now(), seen: ClassSeen::There, fresh_for: Duration::MAX };
        reader.places().insert(Class::Default, Arc::new(Turn::new(Some(known))));
        reader
    }

    /// Whether the class is there.
    pub async fn look(&self, class: &Class) -> Looked {
        let place = self.place(class);
        let mut known = place.lock().await;
        if let Some(fresh) = known.filter(Known::is_fresh) {
            return Looked { seen: fresh.seen, age: fresh.at.elapsed() };
        }
        let at = Instant::now();
        let asked = timeout(PATIENCE, self.ask(class)).await;
        let (seen, fresh_for) = match asked {
            Ok(Ok(true)) => (ClassSeen::There, THERE),
            Ok(Ok(false)) => (ClassSeen::Missing, MISSING),
            Ok(Err(error)) if error.is_forbidden() => (ClassSeen::Unknown, FORBIDDEN),
            // A name that no class can have.
            Ok(Err(KubeError::InvalidName { .. })) => (ClassSeen::Missing, THERE),
            Ok(Err(_)) | Err(_) => (ClassSeen::Unknown, MISSING),
        };
        let fresh_for = if *class == Class::Default { fresh_for.max(PERIOD) } else { fresh_for };
        *known = Some(Known { at, seen, fresh_for });
        Looked { seen, age: at.elapsed() }
    }

    async fn ask(&self, class: &Class) -> Result<bool, KubeError> {
        match class {
            Class::Named(name) => Ok(self.cluster.get(Kind::StorageClass, "", name).await?.is_some()),
            Class::Default => Ok(self.cluster.list(Kind::StorageClass, None, None).await?.iter().any(is_default)),
        }
    }

    fn place(&self, class: &Class) -> Place {
        let mut all = self.places();
        if all.len() >= MOST && !all.contains_key(class) {
            // Whoever is just asking holds a place of its own.
            all.retain(|kept, place| {
                *kept == Class::Default
                    || place.try_lock().map_or(true, |known| known.is_some_and(|known| known.is_fresh()))
            });
        }
        all.entry(class.clone()).or_default().clone()
    }

    fn places(&self) -> std::sync::MutexGuard<'_, HashMap<Class, Place>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::{Reply, Server};
    use super::*;
    use serde_json::json;

    fn reader(server: &Server) -> ClassReader {
        ClassReader::new(Cluster::new(server.client()))
    }

    fn named(name: &str) -> Class {
        Class::Named(name.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_class_is_asked_for_by_name_once_in_its_time_however_many_ask() {
        let server = Server::new(|_, before| {
            if before < 2 {
                Reply::status(404, "NotFound")
            } else {
                Reply::Json(200, json!({"metadata": {"name": "fast"}}))
            }
        });
        let reader = reader(&server);
        let all = (0..50).map(|_| {
            let reader = reader.clone();
            async move { reader.look(&named("fast")).await.seen }
        });
        let seen = futures::future::join_all(all).await;
        assert!(seen.into_iter().all(|seen| seen == ClassSeen::Missing));
        assert_eq!(server.asked().len(), 1);
        assert_eq!(server.asked()[0].path, "/apis/storage.k8s.io/v1/storageclasses/fast");
        let (missing, there) = (ClassSeen::Missing, ClassSeen::There);
        for (seconds, seen, asked) in [(1, missing, 2), (1, there, 3), (4, there, 3), (1, there, 4)] {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            assert_eq!((reader.look(&named("fast")).await.seen, server.asked().len()), (seen, asked));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_default_is_listed_for_once_in_its_period_and_says_how_old_that_is() {
        let server = Server::new(|_, before| {
            let annotation = json!({"storageclass.kubernetes.io/is-default-class": "true"});
            let classes =
                [json!({"metadata": {"name": "a"}}), json!({"metadata": {"name": "b", "annotations": annotation}})];
            let items = &classes[..=before.min(1)];
            Reply::Json(200, json!({"kind": "StorageClassList", "metadata": {}, "items": items}))
        });
        let reader = reader(&server);
        assert_eq!(reader.look(&Class::Default).await.seen, ClassSeen::Missing);
        tokio::time::advance(Duration::from_secs(30)).await;
        let looked = reader.look(&Class::Default).await;
        assert_eq!(looked, Looked { seen: ClassSeen::Missing, age: Duration::from_secs(30) });
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(reader.look(&Class::Default).await.seen, ClassSeen::There);
        assert_eq!(server.asked().len(), 2);
        assert_eq!(server.asked()[0].path, "/apis/storage.k8s.io/v1/storageclasses");
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_read_is_no_evidence_and_what_must_not_be_is_asked_rarely() {
        let server = Server::new(|_, before| match before {
            0 => Reply::status(500, "InternalError"),
            1 => Reply::Hang,
            _ => Reply::status(403, "Forbidden"),
        });
        let reader = reader(&server);
        for asked in 1..=3 {
            assert_eq!(reader.look(&named("fast")).await.seen, ClassSeen::Unknown);
            assert_eq!(server.asked().len(), asked);
            tokio::time::advance(Duration::from_secs(2)).await;
        }
        tokio::time::advance(Duration::from_secs(50)).await;
        assert_eq!(reader.look(&named("fast")).await.seen, ClassSeen::Unknown);
        assert_eq!(server.asked().len(), 3, "it may not look");
        assert_eq!(reader.look(&named("../secrets/x")).await.seen, ClassSeen::Missing, "no class has such a name");
        assert_eq!(server.asked().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_names_are_remembered() {
        let server = Server::new(|_, _| Reply::status(404, "NotFound"));
        let reader = reader(&server);
        for at in 0..1000 {
            reader.look(&named(&format!("c{at}"))).await;
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert!(reader.places().len() <= MOST, "{}", reader.places().len());
    }
}
