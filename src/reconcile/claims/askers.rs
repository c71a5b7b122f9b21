//! Whose wish the size is that a claim asks for, by the claim's own `metadata.managedFields`.
//!
//! Pure. The operator takes back only what it asked for itself: a size that somebody typed at the claim stays, whatever
//! `spec.storage` says. The object alone tells: an operator that was started a moment ago decides as one that made the wish
//! itself. Source: a field manager owns a field from its last write that changed it; server-side apply lets several own one.

use serde_json::Value;

/// Place of the size in `fieldsV1`.
const SIZE: &str = "/f:spec/f:resources/f:requests/f:storage";
/// Whoever left no name: the owners of the fields are gone from the object.
const SOMEBODY: &str = "somebody";
/// Longest name of a manager that is repeated, in characters.
const NAME_MAX: usize = 120;

/// Who besides `ours`, the name of our field manager, wishes for the size that `claim` asks for. None when it is a wish of
/// ours alone, which is ours to take back. `claim` as the API server has it, with its `managedFields`.
pub fn wished_by_other(claim: &Value, ours: &str) -> Option<String> {
    let entries = claim.pointer("/metadata/managedFields").and_then(Value::as_array);
    let owners: Vec<&str> = entries
        .into_iter()
        .flatten()
        .filter(|entry| entry["subresource"].as_str().unwrap_or_default().is_empty())
        .filter(|entry| entry["fieldsV1"].pointer(SIZE).is_some())
        .filter_map(|entry| entry["manager"].as_str())
        .collect();
    match owners.iter().find(|owner| **owner != ours) {
        Some(other) if !other.is_empty() => Some(other.chars().take(NAME_MAX).collect()),
        None if !owners.is_empty() => None,
        _ => Some(SOMEBODY.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const OURS: &str = "dittofs-operator";

    fn owner(manager: &str) -> Value {
        let fields = json!({"f:spec": {"f:resources": {"f:requests": {".": {}, "f:storage": {}}}}});
        json!({"manager": manager, "operation": "Update", "fieldsV1": fields})
    }

    fn by(owners: &Value) -> Option<String> {
        wished_by_other(&json!({"metadata": {"name": "metadata-files-0", "managedFields": owners}}), OURS)
    }

    #[test]
    fn only_what_nobody_else_wishes_for_is_ours() {
        assert_eq!(by(&json!([owner(OURS)])), None);
        for theirs in ["kubectl-patch", "manager", "kube-controller-manager", "dittofs-operator-2"] {
            assert_eq!(by(&json!([owner(theirs)])).as_deref(), Some(theirs));
            assert_eq!(by(&json!([owner(OURS), owner(theirs)])).as_deref(), Some(theirs), "they wish for it as well");
        }
        assert_eq!(by(&json!([owner(&"x".repeat(500))])).unwrap().len(), NAME_MAX);
    }

    #[test]
    fn other_fields_and_the_status_are_no_wish() {
        let volume = json!({"manager": "kube-controller-manager", "fieldsV1": {"f:spec": {"f:volumeName": {}}}});
        let label = json!({"manager": "kubectl-label", "fieldsV1": {"f:metadata": {"f:labels": {"f:a": {}}}}});
        let mut status = owner("csi-resizer");
        status["subresource"] = json!("status");
        assert_eq!(by(&json!([volume, label, status, owner(OURS)])), None);
        assert_eq!(by(&json!([volume, owner("argocd"), status])).as_deref(), Some("argocd"));
    }

    #[test]
    fn a_claim_that_does_not_tell_is_left_to_somebody() {
        for owners in [
            Value::Null,
            json!([]),
            json!([{}]),
            json!("x"),
            json!([owner("")]),
            json!([{"manager": OURS, "fieldsV1": null}]),
        ] {
            assert_eq!(by(&owners).as_deref(), Some("somebody"), "{owners}");
        }
    }
}
