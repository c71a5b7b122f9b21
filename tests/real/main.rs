//! The operator as its users meet it: its own process under its own rights, on a real Kubernetes API server with the
//! real StatefulSet controller and garbage collector. After each test a checker reads the history.

mod look;
mod snapshot;
mod support;

mod adapters;
mod authentication;
mod conflicts;
mod crash;
mod deletion;
mod drift;
mod drift_told;
mod dual_stack;
mod faults;
mod fleet;
mod gitops;
mod health;
mod hostile;
mod identity;
mod life;
mod metrics;
mod monitoring;
mod network_policy;
mod one_actor;
mod otlp;
mod pause;
mod percona;
mod percona_farewell;
mod polling;
mod portmapper;
mod rollouts;
mod runbooks;
mod seeded;
mod service_fields;
mod service_monitor;
mod services;
mod snapshots;
mod status;
mod storage_class;
mod supervision;
mod takeover;
mod takeover_back;
mod tls;
mod traces;
mod volumes;
mod webhook;
