//! The StatefulSet in the preview, and with it whether the pod would be started anew.

use super::{Action, FOREIGN, GOING, Live, Preview, told};
use crate::build::CONFIG_HASH_ANNOTATION;
use crate::reconcile::ValidatedServer;
use crate::reconcile::stateful_set::{HashInput, Input, Plan, plan};

/// Adds what would happen to the StatefulSet; `waits` for a database that cannot be used, as ConfigHasher has it.
pub(super) fn preview(server: &ValidatedServer, live: &Live, waits: bool, seen: &mut Preview) {
    const KIND: &str = "StatefulSet";
    let name = server.names().stateful_set();
    let unknown = HashInput::Hash("known when its Secrets are made".to_owned());
    let hash = match &live.hash {
        Some(HashInput::Held) => &HashInput::Held,
        _ if waits => &HashInput::Held,
        Some(HashInput::Hash(_)) => live.hash.as_ref().unwrap_or(&unknown),
        Some(HashInput::Pending) | None => &unknown,
    };
    if *hash == HashInput::Held && live.stateful_set.is_some() {
        let held = "the pod is left as it is while that is missing; check again when it is there";
        seen.warnings.push(held.to_owned());
    }
    // Adapter ports are left out: whatever they become, they start no pod.
    let blocked = match plan(Input { server, hash, adapters: None, live: live.stateful_set.as_ref(), orphan: None }) {
        Plan::Nothing { .. } => return,
        Plan::Create(_) => return seen.add(KIND, &name, Action::Create, vec![]),
        Plan::Replace { object, rolls, .. } => {
            let before = live.stateful_set.clone().unwrap_or_default();
            let what = told(&before, &object);
            if rolls {
                seen.restart = true;
                seen.because =
                    what.iter().filter(|line| line.starts_with("spec.template")).map(|line| explained(line)).collect();
            }
            return seen.add(KIND, &name, Action::Update, what);
        }
        Plan::Wait(what) => format!("it waits for {what}"),
        Plan::NotOwned => FOREIGN.to_owned(),
        Plan::StorageChanged(why) => why,
        Plan::BeingDeleted => GOING.to_owned(),
    };
    seen.add(KIND, &name, Action::Blocked, vec![blocked]);
}

/// A hash says nothing to a person: what it stands for does.
fn explained(line: &str) -> String {
    if line.contains(CONFIG_HASH_ANNOTATION) {
        format!("{line} (its config, its Secrets or its spec changed, or another operator computed it)")
    } else {
        line.to_owned()
    }
}
