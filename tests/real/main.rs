//! The operator as its users meet it: its own process under its own rights, on a real Kubernetes API server with the
//! real StatefulSet controller and garbage collector. After each test a checker reads the history.

mod look;
mod snapshot;
mod support;

mod adapters;
mod conflicts;
mod crash;
mod drift;
mod faults;
mod fleet;
mod health;
mod life;
mod metrics;
mod monitoring;
mod otlp;
mod polling;
mod rollouts;
mod runbooks;
mod seeded;
mod services;
mod supervision;
mod tls;
mod traces;
mod volumes;
