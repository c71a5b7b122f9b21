//! What the tests of the operator stand on: a real control plane, a DittoFS stand-in, the operator as a process of
//! its own, a proxy that counts and cuts, and a checker that reads the API server's audit log.
//!
//! Nothing here depends on the operator's code: it is tried from outside, as its users see it.

pub mod audit;
pub mod cluster;
pub mod dittofs;
pub mod operator;
pub mod proxy;
pub mod world;
