//! The claims in the preview: which would be asked for another size, and which cannot have it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Action, Live, Preview};
use crate::build::MANAGED_BY;
use crate::reconcile::claims::{self, Standing, Wish, standing, wishes};
use crate::reconcile::{ValidatedServer, meta, owned_by};

/// Adds what would happen to the claims of a StatefulSet that is the server's.
pub(super) fn preview(server: &ValidatedServer, live: &Live, seen: &mut Preview) {
    let Some(set) = live.stateful_set.as_ref().filter(|set| owned_by(set, &server.uid)) else { return };
    for wish in wishes(server).iter().filter(|wish| claims::has_template(set, wish.volume)) {
        // The StatefulSet's controller makes it, in the size of its template; it is asked to grow then.
        let Some(claim) = live.claims.iter().find(|claim| meta(claim, "name") == wish.name) else { continue };
        if let Some((action, what)) = asked(server, set, wish, claim, &live.classes) {
            seen.add("PersistentVolumeClaim", &wish.name, action, vec![what]);
        }
    }
}

fn asked(
    server: &ValidatedServer,
    set: &Value,
    wish: &Wish,
    claim: &Value,
    classes: &BTreeMap<String, Option<Value>>,
) -> Option<(Action, String)> {
    if !claims::is_claim_of(claim, &server.key.name, wish.volume) {
        // It is in the way only of a size that differs.
        let differs = claims::has_pod(set) && claims::template_size(set, wish.volume) != Some(&wish.size);
        return differs.then(|| (Action::Blocked, claims::foreign(&server.key.name)));
    }
    match standing(claim, &wish.size) {
        // What somebody else asked it for is left.
        Standing::Ask { grows: false, .. } if claims::wished_by_other(claim, MANAGED_BY).is_some() => None,
        Standing::Ask { has, asks, to, grows } => {
            let refused = match claims::class_name(claim) {
                _ if !grows => None,
                None => claims::class_refuses(claim, None),
                // A class that must not be read is left to the API server, as in earnest.
                Some(class) => classes.get(class).and_then(|class| claims::class_refuses(claim, class.as_ref())),
            };
            Some(match refused {
                Some(why) => (Action::Blocked, why),
                None => (Action::Update, format!("it asks for {to} instead of {asks}; it has {has}")),
            })
        }
        Standing::Growing { has, asks, how, failed: true } => {
            Some((Action::Blocked, format!("it does not grow from {has} to {asks} ({how})")))
        }
        Standing::Unbound | Standing::Fits | Standing::Growing { .. } | Standing::Larger { .. } => None,
    }
}
