//! The pause of a server, at the one door that every write passes.
//!
//! A job runs inside [`guarded`], which is told how to find out whether its server is paused. [`Cluster`](super::Cluster)
//! asks here before each write, at the moment of the write: while the server is paused it is not sent, what it would have
//! done is noted in words, and the caller gets [`KubeError::Paused`](super::KubeError::Paused). The status and our
//! finalizer are no such writes: the one says that the server is paused, the other lets it go when it is deleted.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::Operation;

/// Longest note of what one write would have done, in bytes.
const NOTE_MAX: usize = 600;

tokio::task_local! {
    static JOB: Job;
}

struct Job {
    paused: Box<dyn Fn() -> bool + Send>,
    refused: Arc<Mutex<Vec<String>>>,
}

/// `work` for a server that is paused whenever `paused` says so; its output, and what it would have written.
pub async fn guarded<F: Future>(paused: impl Fn() -> bool + Send + 'static, work: F) -> (F::Output, Vec<String>) {
    let refused = Arc::<Mutex<Vec<String>>>::default();
    let job = Job { paused: Box::new(paused), refused: refused.clone() };
    let output = JOB.scope(job, work).await;
    let words = std::mem::take(&mut *refused.lock().unwrap_or_else(PoisonError::into_inner));
    (output, words)
}

/// Whether a write of the current job was refused for the pause.
pub fn was_refused() -> bool {
    let refused = |job: &Job| !job.refused.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
    JOB.try_with(refused).unwrap_or(false)
}

/// Whether this operation may not be done now.
pub(super) fn refuses(operation: Operation) -> bool {
    let held = match operation {
        Operation::Create | Operation::Replace | Operation::Delete | Operation::ResizeClaim => true,
        Operation::Get
        | Operation::List
        | Operation::PatchStatus
        | Operation::AddFinalizer
        | Operation::RemoveFinalizer => false,
    };
    held && JOB.try_with(|job| (job.paused)()).unwrap_or(false) && !crate::fault::on("ignore-pause")
}

/// A write was not sent; what it would have done.
pub(super) fn refused(words: &str) {
    let note = super::cut(words, NOTE_MAX);
    let _ = JOB.try_with(|job| {
        let mut all = job.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains(&note) {
            all.push(note);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_guarded_job_of_a_paused_server_is_refused_and_what_it_would_do_is_kept() {
        assert!(!refuses(Operation::Create), "no job");
        let ((), words) = guarded(|| false, async {
            assert!(!refuses(Operation::Create));
        })
        .await;
        assert_eq!(words, Vec::<String>::new());
        let (seen, words) = guarded(|| true, async {
            assert!(!was_refused());
            for text in ["create a", "create a", "delete b"] {
                refused(text);
            }
            let of = [Operation::Create, Operation::Replace, Operation::Delete, Operation::Get, Operation::PatchStatus];
            (of.map(refuses), was_refused())
        })
        .await;
        assert_eq!(seen, ([true, true, true, false, false], true));
        assert_eq!(words, ["create a", "delete b"]);
        assert!(!was_refused() && !refuses(Operation::Create));
    }
}
