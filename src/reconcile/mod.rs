//! Everything that decides, as pure functions and types.
//!
//! Nothing here knows an actor, a client, a runtime, a clock or a source of randomness: what a decision needs is
//! passed in. `tests/pure_ring.rs` keeps it so.

mod adapters;
mod api_tls;
pub mod claims;
mod diff;
pub mod drift;
mod duration;
mod hash;
mod key;
mod merge;
mod names;
mod object;
mod ports;
mod problem;
mod quantity;
#[cfg(test)]
mod releases_tests;
mod repeats;
mod services;
mod slot;
pub mod stateful_set;
pub mod status;
mod validate;
mod validated;
mod warnings;

pub use adapters::{AdapterTracker, ReportedAdapter};
pub use api_tls::ApiTls;
pub use diff::diff;
pub use duration::{DurationError, parse_go_duration};
pub use hash::{Keys, SecretUse, UsedKey, config_hash, generation_for_hash, secrets_used};
pub use key::ServerKey;
pub use merge::LAST_APPLIED;
pub use names::{ADAPTER_PORT_PREFIX, Names, adapter_label, adapter_port_name};
pub use object::{Decision, controller_uid, decide, fingerprint, is_being_deleted, meta, owned_by, repeats};
pub use problem::{Problem, SpecInvalid};
pub use quantity::{QuantityError, is_claim_size, parse_bytes};
pub use repeats::{Again, Over, Repeats};
pub use services::{Ensure, Remove, ServicePlan, is_adapter_service, plan_services};
pub use slot::Slot;
pub use validate::validate;
pub use validated::{
    AdapterState, Admin, Cache, ClientPorts, Database, Jwt, Logging, Metrics, ObservedAdapter, OnPortChange,
    OnSpecChange, PodSettings, Rollout, SecretKey, ServiceSettings, ServiceType, Storage, ValidatedServer,
};
pub use warnings::{Warning, warnings};
