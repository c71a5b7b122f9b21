//! What status says of the server's volumes: `.status.volumes` and condition `VolumesReady`.

use serde_json::{Map, Value};

use super::super::claims::{self, Standing, standing, wishes};
use super::{Condition, Observed, Truth, carried, carried_or_unknown, condition as made};

const KIND: &str = "VolumesReady";

/// `.status.volumes`. What is not known stays as it was said; what is known to be gone is left out.
pub(super) fn sizes(seen: &Observed<'_>, status: &mut Map<String, Value>) {
    let Some(known) = seen.claims else {
        if let Some(before) = seen.previous.and_then(|previous| previous.get("volumes")) {
            status.insert("volumes".to_owned(), before.clone());
        }
        return;
    };
    let sizes = claims::sizes(seen.name, known);
    if !sizes.is_empty() {
        status.insert("volumes".to_owned(), Value::Object(sizes));
    }
}

/// Takes volumes out that a merge of the patch would leave; whether there were any.
pub(super) fn drop_gone(previous: Option<&Map<String, Value>>, patch: &mut Map<String, Value>) -> bool {
    let before = previous.and_then(|previous| previous.get("volumes")?.as_object());
    let Some(after) = patch.get_mut("volumes").and_then(Value::as_object_mut) else { return false };
    let gone: Vec<String> = before
        .into_iter()
        .flatten()
        .map(|(claim, _)| claim.clone())
        .filter(|claim| !after.contains_key(claim))
        .collect();
    for claim in &gone {
        after.insert(claim.clone(), Value::Null);
    }
    !gone.is_empty()
}

pub(super) fn condition(seen: &Observed<'_>) -> Condition {
    let unknown = || carried_or_unknown(seen, KIND, "NotListedYet", "The claims were not listed yet");
    let Some(known) = seen.claims else { return unknown() };
    let Ok(server) = seen.server else {
        return carried(seen, KIND)
            .unwrap_or_else(|| made(KIND, Truth::Unknown, "SpecInvalid", "No size is asked for"));
    };
    // Of a restarted operator the classes are not known yet.
    if seen.volumes.is_none()
        && let Some(before) = carried(seen, KIND).filter(|before| before.reason == "StorageClassNotFound")
    {
        return before;
    }
    let classless = seen.volumes.map_or(&[][..], |volumes| &volumes.classless);
    let mut failed = Vec::new();
    let mut growing = Vec::new();
    let mut larger = Vec::new();
    for wish in wishes(server) {
        let name = wish.volume.claim();
        let claim = known.iter().find(|claim| claims::is_claim_of(claim, seen.name, wish.volume));
        let refused = seen.volumes.and_then(|volumes| volumes.refused.get(name));
        if let Some(why) = refused {
            failed.push(format!("claim {name}: {why}"));
            continue;
        }
        let Some(claim) = claim else { continue };
        let left = seen.volumes.and_then(|volumes| volumes.left.get(name));
        match (standing(claim, &wish.size), left) {
            (Standing::Unbound | Standing::Fits, _) => {}
            (Standing::Ask { has, asks, grows: false, .. }, Some(by)) => larger.push(format!(
                "claim {name} was asked by {by} to grow from {has} to {asks} ({}), more than spec.storage.{} ({}), and is \
                 left so; set {asks} there, or ask the claim for less yourself",
                claims::progress(claim).0,
                wish.volume.field(),
                wish.size
            )),
            // Whether it can be asked is not known before PortReconciler has tried; nor is who asked for more.
            (Standing::Ask { grows, .. }, _) if !grows || seen.volumes.is_none() => return unknown(),
            (Standing::Ask { has, to, .. }, _) => growing.push(format!("claim {name} grows from {has} to {to}")),
            (Standing::Growing { has, asks, how, failed: false }, _) => {
                growing.push(format!("claim {name} grows from {has} to {asks} ({how})"));
            }
            (Standing::Growing { has, asks, how, failed: true }, _) => {
                failed.push(format!("claim {name} does not grow from {has} to {asks} ({how})"));
            }
            (Standing::Larger { size }, _) => larger.push(format!(
                "claim {name} has or asks for {size}, more than spec.storage.{} ({}); a volume cannot shrink, set {size} there",
                wish.volume.field(),
                wish.size
            )),
        }
    }
    if let Some(why) = seen.stateful_set.and_then(|set| claims::storage_changed(server, set)) {
        made(KIND, Truth::No, "StorageChanged", why)
    } else if !classless.is_empty() {
        made(
            KIND,
            Truth::No,
            "StorageClassNotFound",
            classless.iter().chain(&failed).cloned().collect::<Vec<_>>().join("; "),
        )
    } else if !failed.is_empty() {
        failed.append(&mut growing);
        made(KIND, Truth::No, "VolumeExpansionFailed", failed.join("; "))
    } else if !growing.is_empty() {
        made(KIND, Truth::No, "VolumeExpanding", growing.join("; "))
    } else if !larger.is_empty() {
        made(KIND, Truth::Yes, "VolumeLarger", larger.join("; "))
    } else {
        made(KIND, Truth::Yes, "VolumesAsSpecified", "Every claim has the size that spec.storage asks for")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn a_volume_that_is_gone_is_taken_out_by_the_patch() {
        let previous = json!({"volumes": {"metadata": "10Gi", "controlplane": "1Gi"}});
        let derived = json!({"volumes": {"metadata": "10Gi"}});
        assert_eq!(
            super::super::patch(Some(&previous), &derived),
            Some(json!({"volumes": {"metadata": "10Gi", "controlplane": null}}))
        );
        assert_eq!(super::super::patch(Some(&derived), &derived), None);
        assert_eq!(super::super::patch(Some(&derived), &json!({})), Some(json!({"volumes": null})));
    }
}
