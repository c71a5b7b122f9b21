//! The actors: thin shells around the pure ring.
//!
//! A handler updates state, calls a pure function and starts its plan as a task; it never awaits and never blocks.
//! Every worker is driven by [`flight`]: single flight, backoff and the task's end as a message. One family of five
//! actors serves one `DittoServer`; the [`supervisor`] owns them all, starts them anew when they panic and stops the
//! process when that happens too often. Actors know each other only as `Recipient`s.

pub mod adapter_poller;
pub mod config_hasher;
pub mod cr_watcher;
pub mod deps;
pub mod done;
pub mod flight;
pub mod gate;
pub mod heart;
pub mod inspect;
pub mod lifeline;
pub mod messages;
pub mod port_reconciler;
pub mod service_reconciler;
pub mod specs;
pub mod status_reporter;
pub mod supervisor;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod tls_door;
pub mod trouble;
pub mod upkeep;
pub mod vault;

pub use deps::{Caches, Deps};
