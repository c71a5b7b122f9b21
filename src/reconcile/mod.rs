//! Everything that decides, as pure functions and types.
//!
//! Nothing here knows an actor, a client, a runtime, a clock or a source of randomness: what a decision needs is
//! passed in. `tests/pure_ring.rs` keeps it so.

mod adapters;
mod admin_pace;
pub mod admission;
mod api_tls;
pub mod claims;
pub mod deletion;
mod diff;
pub mod drift;
mod duration;
pub mod fights;
mod hash;
mod key;
mod merge;
mod names;
mod network_policies;
pub mod nfs;
mod object;
pub mod percona;
pub mod pod;
mod ports;
pub mod preview;
mod problem;
mod quantity;
#[cfg(test)]
mod releases_tests;
mod repeats;
mod service_monitor;
mod service_settings;
mod services;
mod slot;
mod snapshots;
pub mod stateful_set;
pub mod status;
pub mod storage_class;
mod validate;
mod validated;
mod warnings;

pub use adapters::{AdapterTracker, ReportedAdapter};
pub use admin_pace::{AdminPace, Ended, Errand};
pub use api_tls::ApiTls;
pub use diff::{diff, differences};
pub use duration::{DurationError, parse_go_duration};
pub use hash::{Keys, SecretUse, UsedKey, config_hash, generation_for_hash, secrets_used};
pub use key::ServerKey;
pub use merge::LAST_APPLIED;
pub use names::{ADAPTER_PORT_PREFIX, Names, adapter_label, adapter_port_name};
pub use network_policies::{Published, plan_network_policies};
pub use nfs::NfsPorts;
pub use object::{Decision, controller_uid, decide, disowned, fingerprint, is_being_deleted, meta, owned_by, repeats};
pub use problem::{Problem, SpecInvalid};
pub use quantity::{QuantityError, is_claim_size, parse_bytes};
pub use repeats::{Again, Over, Repeats};
pub use service_monitor::plan_service_monitor;
pub use service_settings::{IdleFields, ServiceSettings, ServiceType};
pub use services::{Ensure, Refusal, Remove, ServicePlan, is_adapter_service, plan_services};
pub use slot::Slot;
pub use snapshots::{ListedPolicy, PolicyPlan, SnapshotPolicy, parse_interval, parse_ttl, plan_policies, share_name};
pub use validate::validate;
pub use validated::{
    AdapterState, Admin, Cache, ClientPorts, Database, Jwt, Kerberos, Krb5Conf, Ldap, Logging, MachineAccount, Metrics,
    NetworkPolicySettings, ObservedAdapter, OnPortChange, OnSpecChange, Percona, PerconaBackup, PodSettings, Rollout,
    SecretKey, ServiceMonitorSettings, Storage, ValidatedServer,
};
pub use warnings::{Warning, no_service_monitors, operator_kept_out, warnings};
