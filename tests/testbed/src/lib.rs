//! What the tests of the operator stand on: a real control plane, a DittoFS stand-in, the operator as a process of
//! its own, a proxy that counts and cuts, a checker that reads the API server's audit log, and what its traces and
//! metrics are sent to: a real Jaeger, a real Prometheus, and an OTLP receiver that can misbehave.
//!
//! Nothing here depends on the operator's code: it is tried from outside, as its users see it.

pub mod audit;
mod backend;
pub mod certs;
pub mod cluster;
pub mod dittofs;
pub mod jaeger;
pub mod operator;
pub mod otlp;
mod port;
pub use port::free_port;
pub mod prometheus;
pub mod proxy;
pub mod world;
