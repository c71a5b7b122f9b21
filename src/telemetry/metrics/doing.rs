//! What the current task is doing it for: known to everything below it without being passed down.
//!
//! A job runs inside [`Doing::around`]; the Kubernetes client below it counts writes with the job's server and cause, and
//! remembers when the last one was done. Outside of any job nothing is counted here.

use std::cell::Cell;
use std::future::Future;

use tokio::time::Instant;

use super::{Action, Metrics};
use crate::actors::messages::CauseKind;
use crate::cluster::Kind;
use crate::reconcile::ServerKey;

tokio::task_local! {
    static DOING: Doing;
}

/// A job.
#[derive(Debug)]
pub struct Doing {
    metrics: Metrics,
    key: ServerKey,
    cause: CauseKind,
    last_write: Cell<Option<Instant>>,
}

impl Doing {
    /// A job for this server, for this cause.
    pub fn new(metrics: Metrics, key: ServerKey, cause: CauseKind) -> Self {
        Self { metrics, key, cause, last_write: Cell::new(None) }
    }

    /// `work` as this job.
    pub async fn around<F: Future>(self, work: F) -> F::Output {
        DOING.scope(self, work).await
    }
}

/// The API server took a write.
pub fn wrote(kind: Kind, action: Action) {
    let _ = DOING.try_with(|doing| {
        doing.metrics.kube_wrote(&doing.key, kind, action, doing.cause);
        doing.last_write.set(Some(Instant::now()));
    });
}

/// When the last write of this job was done.
pub fn last_write() -> Option<Instant> {
    DOING.try_with(|doing| doing.last_write.get()).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Format;

    #[tokio::test]
    async fn writes_are_counted_for_the_job_that_makes_them() {
        let metrics = Metrics::default();
        wrote(Kind::Service, Action::Delete);
        let key = ServerKey::new("ns", "files");
        let last = Doing::new(metrics.clone(), key, CauseKind::AdaptersObserved)
            .around(async {
                assert_eq!(last_write(), None);
                wrote(Kind::Service, Action::Delete);
                last_write()
            })
            .await;
        assert!(last.is_some() && last_write().is_none());
        let text = metrics.encode(Format::Prometheus).expect("text");
        let written: Vec<&str> =
            text.lines().filter(|line| line.starts_with("dittofs_operator_kube_writes_total{")).collect();
        let expected = "dittofs_operator_kube_writes_total{resource=\"services\",action=\"delete\",reason=\"adapters-observed\"} 1";
        assert_eq!(written, [expected]);
    }
}
