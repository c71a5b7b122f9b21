//! What people on call see: metrics.

pub mod fleet;
pub mod metrics;
