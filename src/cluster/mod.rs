//! All I/O with the Kubernetes API: the client and its deadlines, verbs, watches, caches of what they see, events.
//!
//! Owns: the connection and the policy of when it may be asked. Touches nothing else, and decides nothing about a
//! `DittoServer`. Guarantees: no call outlives its deadline, no request is repeated behind the caller's back, a
//! watch starts at most one LIST in 30 s, and neither an error text nor a log line of this module has a body in it.

mod cache;
mod classes;
mod client;
mod deadline;
mod driver;
mod error;
mod events;
mod kind;
mod leaving;
mod mishaps;
mod objects;
mod packing;
pub mod pause;
mod raw;
mod reason;
#[cfg(test)]
pub(crate) mod scripted;
mod watch;
#[cfg(test)]
mod watch_tests;

pub use cache::{Cache, Change, Object, Owner};
pub use classes::{ClassReader, Looked};
pub use client::{ConnectError, ConnectOptions, client_over, connect};
pub use deadline::{DeadlineExceeded, Deadlines};
pub use driver::count_events;
pub(crate) use error::cut;
pub use error::{Call, KubeError, Operation};
pub use events::{CrRef, Events, NOTE_ANNOTATION, Notice, NoticeKind, TRACE_ANNOTATION};
pub use kind::Kind;
pub use leaving::Leaving;
pub use mishaps::{Mishap, MishapReader, Mishaps};
pub use objects::{Cluster, Deletion, FIELD_MANAGER};
pub use reason::{Reason, markdown as events_markdown};
pub use watch::{WatchEvent, WatchPolicy, WatchScope, watch};
