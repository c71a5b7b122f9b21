//! dittofs.
