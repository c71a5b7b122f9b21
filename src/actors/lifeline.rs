//! How the Supervisor learns that a child is no more, however it ended: the child owns a [`Lifeline`], and dropping
//! it sends the message. actix drops an actor that panicked without restarting it; `Drop` is the one thing that runs.

use actix::prelude::*;

use super::messages::{ChildEnded, Role};
use crate::reconcile::ServerKey;

/// Owned by a child; tells its end.
pub struct Lifeline {
    supervisor: Recipient<ChildEnded>,
    end: ChildEnded,
}

impl Lifeline {
    /// The lifeline of one life of one child.
    pub fn new(supervisor: Recipient<ChildEnded>, key: Option<ServerKey>, role: Role, life: u64) -> Self {
        Self { supervisor, end: ChildEnded { key, role, life, panicked: false } }
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        let end = ChildEnded { panicked: std::thread::panicking(), ..self.end.clone() };
        self.supervisor.do_send(end);
    }
}
