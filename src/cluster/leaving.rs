//! Namespaces on their way out, in which nothing can be made any more.
//!
//! Owns: when the next create in such a namespace is worth sending. Touches nothing. Guarantees: once the API server
//! has refused a create because its namespace is being deleted, one create at most goes there in [`HOLD`], whoever
//! wants it, until one is let through.
//!
//! The namespace's contents go one by one, each of them wakes those who keep it, and the `DittoServer` itself may be
//! the last that is marked: without this each of them would ask for its object until then.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// From one create to the next in a namespace that is being deleted.
const HOLD: Duration = Duration::from_secs(5);

/// How long a namespace is remembered in which nobody tries any more.
const REMEMBERED: Duration = Duration::from_mins(5);

/// What is known of namespaces. A clone is the same knowledge.
#[derive(Clone, Debug, Default)]
pub struct Leaving(Arc<Mutex<HashMap<String, Instant>>>);

impl Leaving {
    /// Whether a create in `namespace` may be sent now. When it may and the namespace was being deleted, the next one
    /// has to wait for what becomes of this one.
    pub(super) fn lets(&self, namespace: &str) -> bool {
        let now = Instant::now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(namespace) {
            Some(next) if now < *next => false,
            Some(next) => {
                *next = now + HOLD;
                true
            }
            None => true,
        }
    }

    /// A create in `namespace` was answered; `leaving` when it was refused because the namespace is being deleted.
    pub(super) fn answered(&self, namespace: &str, leaving: bool) {
        let now = Instant::now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if leaving {
            all.retain(|_, next| now < *next + REMEMBERED);
            all.insert(namespace.to_owned(), now + HOLD);
        } else {
            all.remove(namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use super::super::scripted::{Reply, Server};
    use super::super::{Cluster, CrRef, Events, Kind, Notice, Reason};
    use super::*;
    use crate::reconcile::ServerKey;

    #[tokio::test(start_paused = true)]
    async fn a_refused_create_holds_those_of_all_kinds_and_events_and_nothing_else() {
        let server = Server::new(|request, _| match request.method {
            Method::POST => {
                let causes = json!([{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]);
                let status = json!({"kind": "Status", "status": "Failure", "message": "", "reason": "Forbidden",
                    "code": 403, "details": {"causes": causes}});
                Reply::Json(403, status)
            }
            _ => Reply::Json(200, json!({"metadata": {"name": "files"}})),
        });
        let cluster = Cluster::new(server.client());
        let events = Events::new(server.client(), "pod-1".into(), cluster.leaving());
        let object = json!({"metadata": {"name": "files"}});
        let notice = || Notice {
            reason: Reason::AdapterServiceFailed,
            action: "CreateService",
            note: "cannot".to_owned(),
            related: None,
            times: 1,
            trace: None,
        };
        let about = CrRef { key: ServerKey::new("team", "files"), uid: "uid-1".into() };
        for kind in [Kind::ConfigMap, Kind::StatefulSet] {
            let error = cluster.create(kind, "team", &object).await.expect_err("refused");
            assert!(error.is_namespace_leaving(), "{error}");
        }
        assert_eq!(events.publish(&about, notice()).await, "dropped");
        assert_eq!(server.asked().len(), 1);
        cluster.replace(Kind::ConfigMap, "team", "files", &object).await.expect("it is not new");
        cluster.create(Kind::ConfigMap, "other", &object).await.expect_err("another namespace is asked");
        assert_eq!(server.asked().len(), 3);

        tokio::time::advance(HOLD).await;
        assert_eq!(events.publish(&about, notice()).await, "failed");
        cluster.create(Kind::ConfigMap, "team", &object).await.expect_err("the event was refused");
        assert_eq!(server.asked().len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn one_create_at_most_goes_to_a_namespace_that_is_being_deleted_until_one_is_let_through() {
        let leaving = Leaving::default();
        assert!(leaving.lets("team") && leaving.lets("team"));
        leaving.answered("team", true);
        assert!(!leaving.lets("team") && leaving.lets("other"));
        tokio::time::advance(HOLD).await;
        assert!(leaving.lets("team") && !leaving.lets("team"), "the one that finds out");
        tokio::time::advance(HOLD).await;
        assert!(leaving.lets("team"), "the one before was never answered");
        leaving.answered("team", false);
        assert!(leaving.lets("team") && leaving.lets("team"), "it is there again");
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_asks_for_any_more_is_forgotten() {
        let leaving = Leaving::default();
        leaving.answered("gone", true);
        tokio::time::advance(HOLD + REMEMBERED).await;
        leaving.answered("team", true);
        assert_eq!(leaving.0.lock().expect("a lock").len(), 1);
    }
}
