//! Everything that decides, as pure functions and types.
//!
//! Nothing here knows an actor, a client, a runtime, a clock or a source of randomness: what a decision needs is
//! passed in. `tests/pure_ring.rs` keeps it so.

mod duration;
mod key;
mod names;
mod problem;
mod quantity;
mod validate;
mod validated;
mod warnings;

pub use duration::{DurationError, parse_go_duration};
pub use key::ServerKey;
pub use names::{ADAPTER_PORT_PREFIX, Names, adapter_label, adapter_port_name};
pub use problem::{Problem, SpecInvalid};
pub use quantity::{QuantityError, is_claim_size, parse_bytes};
pub use validate::validate;
pub use validated::{
    AdapterState, Admin, Cache, ClientPorts, Database, Jwt, Logging, Metrics, ObservedAdapter, OnPortChange,
    OnSpecChange, PodSettings, Rollout, SecretKey, ServiceSettings, ServiceType, Storage, ValidatedServer,
};
pub use warnings::{Warning, warnings};
