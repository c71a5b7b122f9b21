//! The operator as its users meet it: its own process under its own rights, on a real Kubernetes API server with the
//! real StatefulSet controller and garbage collector. After each test a checker reads the history.

mod snapshot;
mod support;

mod crash;
mod drift;
mod faults;
mod fleet;
mod life;
mod seeded;
mod supervision;
