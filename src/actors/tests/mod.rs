//! Each actor alone, its siblings replaced by mailboxes that record, under a paused clock where no socket is needed.

mod config_hasher;
mod farewell;
mod flight;
mod network_policies;
mod poller;
mod port_reconciler;
mod port_volumes;
mod port_writes;
mod service_failures;
mod service_fields;
mod service_monitor;
mod service_reconciler;
mod status_reporter;
mod upkeep;

use std::sync::Arc;

use super::messages::{AdaptersObserved, Cause, CauseKind};
use crate::reconcile::{AdapterState, ObservedAdapter};

/// What a poller tells: type, port and state of each adapter.
fn observed(adapters: &[(&str, u16, AdapterState)]) -> AdaptersObserved {
    let adapters = adapters.iter().map(|(adapter_type, port, state)| ObservedAdapter {
        adapter_type: (*adapter_type).to_owned(),
        port: *port,
        state: *state,
    });
    AdaptersObserved {
        adapters: Arc::new(adapters.collect()),
        nfs: None,
        polled_at: None,
        cause: Cause::here(CauseKind::AdaptersObserved),
    }
}
