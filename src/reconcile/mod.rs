//! Everything that decides, as pure functions and types.
//!
//! Nothing here knows an actor, a client, a runtime, a clock or a source of randomness: what a decision needs is
//! passed in. `tests/pure_ring.rs` keeps it so.

mod adapters;
mod key;
mod names;
mod validated;

pub use adapters::{AdapterTracker, ReportedAdapter};
pub use key::ServerKey;
pub use names::{ADAPTER_PORT_PREFIX, Names, adapter_label, adapter_port_name};
pub use validated::{
    AdapterState, Admin, Cache, ClientPorts, Database, Jwt, Logging, Metrics, ObservedAdapter, OnPortChange,
    OnSpecChange, PodSettings, Rollout, SecretKey, ServiceSettings, ServiceType, Storage, ValidatedServer,
};
