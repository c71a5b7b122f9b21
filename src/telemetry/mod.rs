//! What people on call see: metrics.

pub mod metrics;
