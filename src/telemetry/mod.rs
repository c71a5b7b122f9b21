//! What the operator tells about itself: traces, metrics, and the ids that join both to its log, events and status.
//!
//! Owns the contract of names ([`table`]), the traces that travel in messages ([`trace`]), the choice of which of them
//! are worth a place at the backend ([`tail`]) and the way there ([`export`]). Touches no actor and no cluster: they
//! call it. Guarantees: telling delays no reconcile, is bounded in memory, and carries no secret.

pub mod export;
pub mod fleet;
pub mod metrics;
pub mod table;
pub mod tail;
pub mod trace;

pub use trace::{TraceContext, Tracer};
