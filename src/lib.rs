//! A Kubernetes operator for DittoFS file servers, built from supervised actors.
//!
//! ```text
//! Kubernetes API ──watch──> CrWatcher ──Changed/Gone──> Supervisor ──owns──> one family per DittoServer
//!                                                                            │
//!      user & managed Secrets ──> ConfigHasher ──ConfigHashed──────────────┐ │
//!                                                                          v v
//!      DittoFS REST API <──poll── AdapterPoller ──AdaptersObserved──> PortReconciler    (only writer of the StatefulSet)
//!                                                      └────────────> ServiceReconciler (only writer of Services, NetworkPolicies)
//!                                    all four ──facts──> StatusReporter (only writer of .status)
//! ```
//!
//! The code stands in three rings:
//!
//! 1. [`crd`], [`reconcile`] and [`build`] are pure: types and functions that decide. No actor, no client, no
//!    runtime, no clock.
//! 2. [`cluster`] and [`dittofs`] are the only code that does I/O, one for each outside system.
//! 3. [`actors`] are thin shells: a handler updates state, calls a pure function and starts its plan.

#![warn(clippy::unwrap_used, clippy::expect_used)]

pub mod actors;
pub mod backoff;
pub mod build;
pub mod check;
pub mod cli;
pub mod cluster;
pub mod crd;
pub mod debug;
pub mod dittofs;
pub mod fault;
#[cfg(test)]
mod fixtures;
pub mod health;
pub mod logging;
pub mod reconcile;
pub mod run;
pub mod telemetry;
pub mod webhook;
