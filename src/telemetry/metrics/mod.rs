//! What Prometheus scrapes.

pub mod table;
