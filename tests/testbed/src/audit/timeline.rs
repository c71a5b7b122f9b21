//! What the DittoFS stand-in truly told about its adapters, for S5.

use super::{AdapterState, Observation};
use crate::dittofs::StandIn;

/// Every full and true answer to a poll that the stand-in gave, oldest first; what a fault spoiled is none.
pub fn timeline(stand_in: &StandIn) -> Vec<Observation> {
    let mut answers = Vec::new();
    for server in stand_in.servers() {
        for (time, adapters) in server.polls().into_iter().filter_map(|record| record.adapters) {
            let adapters = adapters
                .into_iter()
                .map(|view| AdapterState { adapter_type: view.kind, enabled: view.enabled, running: view.running })
                .collect();
            let (namespace, name) = (server.namespace().to_owned(), server.name().to_owned());
            answers.push(Observation { time, namespace, server: name, adapters });
        }
    }
    answers.sort_by_key(|answer| answer.time);
    answers
}
