//! What to do with one owned object, given how it reads and how it should be.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::diff::diff;
use super::merge::{last_applied, merge, with_last_applied};

/// Whether `object` has a controller reference to `uid`: the only proof that it is ours.
pub fn owned_by(object: &Value, uid: &str) -> bool {
    controller_uid(object) == Some(uid)
}

/// The uid of the object's controller.
pub fn controller_uid(object: &Value) -> Option<&str> {
    object
        .pointer("/metadata/ownerReferences")?
        .as_array()?
        .iter()
        .find(|owner| owner.get("controller") == Some(&Value::Bool(true)))?
        .get("uid")?
        .as_str()
}

/// `metadata.<field>` as text.
pub fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get("metadata").and_then(|meta| meta.get(field)).and_then(Value::as_str).unwrap_or_default()
}

/// Whether `metadata.deletionTimestamp` is set: present in name only.
pub fn is_being_deleted(object: &Value) -> bool {
    !meta(object, "deletionTimestamp").is_empty()
}

/// What to do with one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It is as it should be.
    Nothing,
    /// There is none: create this.
    Create(Value),
    /// Replace it by this, at the resourceVersion that it was read at; the difference in words.
    Replace(Value, Vec<String>),
    /// An object of that name belongs to somebody else: leave it alone and say so.
    NotOwned,
    /// It is neither present nor foreign: its successor is made when it is gone.
    BeingDeleted,
}

/// Decides for an object that carries a controller reference to `uid`.
pub fn decide(live: Option<&Value>, desired: &Value, uid: &str) -> Decision {
    let wanted = with_last_applied(desired);
    let Some(live) = live else { return Decision::Create(wanted) };
    if !owned_by(live, uid) {
        return Decision::NotOwned;
    }
    if is_being_deleted(live) {
        return Decision::BeingDeleted;
    }
    let mut next = merge(live, last_applied(live).as_ref(), &wanted);
    if live.get("kind").or_else(|| desired.get("kind")).and_then(Value::as_str) == Some("Service") {
        complete_service(&mut next, live, desired);
    }
    if next == *live {
        return Decision::Nothing;
    }
    let changes = diff(live, &next);
    Decision::Replace(next, changes)
}

/// What a Service needs beyond the merge: its list of ports is ours as a whole, and source ranges and a class, whoever
/// set them, are refused by the API server (422) on anything but a load balancer. It drops by itself what else belongs
/// to a type (node ports, traffic policy, health check port) when that stands there as it was. The second family of
/// addresses that two stacks bring along is no difference.
fn complete_service(next: &mut Value, live: &Value, desired: &Value) {
    let wanted: Vec<&Value> = desired
        .pointer("/spec/ports")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|p| p.get("name"))
        .collect();
    if let Some(ports) = next.pointer_mut("/spec/ports").and_then(Value::as_array_mut) {
        ports.retain(|port| port.get("name").is_some_and(|name| wanted.contains(&name)));
    }
    let families = |service: &Value| service.pointer("/spec/ipFamilies").and_then(Value::as_array).cloned();
    if next.pointer("/spec/ipFamilyPolicy").and_then(Value::as_str).is_some_and(|policy| policy != "SingleStack")
        && let (Some(wanted), Some(both)) = (families(desired), families(live))
        && wanted.len() == 1
        && both.len() == 2
        && wanted[0] == both[0]
    {
        next["spec"]["ipFamilies"] = both.into();
    }
    if desired.pointer("/spec/type").and_then(Value::as_str) != Some("LoadBalancer")
        && let Some(spec) = next.get_mut("spec").and_then(Value::as_object_mut)
    {
        spec.remove("loadBalancerSourceRanges");
        spec.remove("loadBalancerClass");
    }
}

/// A print of one write: the object that it starts from and the one that it sends, without what changes by itself.
///
/// When the API server stores a write in its own words (a mutating webhook, a spelling that it normalises), the same
/// wish differs again at once: a write whose print was just sent is not sent again.
pub fn fingerprint(live: Option<&Value>, next: &Value) -> String {
    let mut hash = Sha256::new();
    for object in [live.unwrap_or(&Value::Null), next] {
        let mut bare = object.clone();
        if let Some(fields) = bare.as_object_mut() {
            fields.remove("status");
        }
        if let Some(meta) = bare.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in ["resourceVersion", "managedFields", "generation"] {
                meta.remove(field);
            }
        }
        let text = bare.to_string();
        hash.update(text.len().to_le_bytes());
        hash.update(text.as_bytes());
    }
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        use std::fmt::Write;
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether `again`, wished for right after `sent` was stored as `stored`, only repeats what was just sent: the API
/// server stored that in its own words. A further step of ours differs from what was sent.
pub fn repeats(stored: &Value, again: &Value, sent: &Value) -> bool {
    match (stored, again) {
        _ if stored == again => true,
        (Value::Object(before), Value::Object(after)) => {
            let keys = before.keys().chain(after.keys().filter(|key| !before.contains_key(*key)));
            let none = Value::Null;
            keys.into_iter().all(|key| {
                let of = |fields: &serde_json::Map<String, Value>| fields.get(key).cloned().unwrap_or_default();
                repeats(&of(before), &of(after), sent.get(key).unwrap_or(&none))
            })
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            let pairs = before.iter().zip(after).enumerate();
            pairs.into_iter().all(|(at, (before, after))| repeats(before, after, sent.get(at).unwrap_or(&Value::Null)))
        }
        _ => again == sent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn owner(uid: &str) -> Value {
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "u-other"}, {"uid": uid, "controller": true}])
    }
    fn service(ports: &Value) -> Value {
        json!({"kind": "Service", "metadata": {"name": "s", "ownerReferences": [{"uid": "u1", "controller": true}]},
               "spec": {"type": "LoadBalancer", "ports": ports}})
    }

    #[test]
    fn only_a_controller_reference_to_our_uid_is_ours() {
        assert!(owned_by(&json!({"metadata": {"ownerReferences": owner("u1")}}), "u1"));
        assert!(!owned_by(&json!({"metadata": {"ownerReferences": owner("u2")}}), "u1"));
        assert!(!owned_by(&json!({"metadata": {"ownerReferences": owner("u1")}}), "u-other"));
        assert!(!owned_by(&json!({"metadata": {}}), "u1"));
    }

    #[test]
    fn a_foreign_object_and_one_being_deleted_are_left_alone() {
        let desired = service(&json!([]));
        assert_eq!(
            decide(Some(&json!({"metadata": {"ownerReferences": owner("u2")}})), &desired, "u1"),
            Decision::NotOwned
        );
        let dying = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "ownerReferences": owner("u1")}});
        assert_eq!(decide(Some(&dying), &desired, "u1"), Decision::BeingDeleted);
    }

    #[test]
    fn what_was_created_and_defaulted_by_the_server_is_no_difference() {
        let desired = service(&json!([{"name": "nfs", "port": 1, "targetPort": 1, "protocol": "TCP"}]));
        let Decision::Create(mut live) = decide(None, &desired, "u1") else { panic!("no creation") };
        live["metadata"]["resourceVersion"] = json!("7");
        live["spec"]["clusterIP"] = json!("10.0.0.1");
        live["spec"]["ports"][0]["nodePort"] = json!(30001);
        live["metadata"]["annotations"]["cloud.example/address"] = json!("kept");
        assert_eq!(decide(Some(&live), &desired, "u1"), Decision::Nothing);
    }

    #[test]
    fn a_port_move_keeps_node_port_and_address_and_a_strange_port_goes() {
        let desired = service(&json!([{"name": "nfs", "port": 1, "targetPort": 1}]));
        let Decision::Create(mut live) = decide(None, &desired, "u1") else { panic!("no creation") };
        live["spec"]["ports"] =
            json!([{"name": "nfs", "port": 1, "targetPort": 1, "nodePort": 30001}, {"name": "x", "port": 9}]);
        live["spec"]["clusterIP"] = json!("10.0.0.1");
        let moved = service(&json!([{"name": "nfs", "port": 2, "targetPort": 2}]));
        let Decision::Replace(next, changes) = decide(Some(&live), &moved, "u1") else { panic!("no replacement") };
        assert_eq!(next["spec"]["ports"], json!([{"name": "nfs", "port": 2, "targetPort": 2, "nodePort": 30001}]));
        assert_eq!(next["spec"]["clusterIP"], "10.0.0.1");
        assert!(changes.contains(&"spec.ports[nfs].port: 1 → 2".to_owned()), "{changes:?}");
    }

    #[test]
    fn a_wish_in_other_words_repeats_and_a_further_step_does_not() {
        let sent = json!({"limits": {"cpu": "1000m"}, "held": "x", "list": [{"a": "b"}]});
        let stored = json!({"limits": {"cpu": "1"}, "held": "x", "list": [{"a": "B", "mode": 420}], "default": 1});
        let mut again = stored.clone();
        assert!(repeats(&stored, &again, &sent), "nothing is wished for");
        again["limits"]["cpu"] = json!("1000m");
        again["list"][0]["a"] = json!("b");
        assert!(repeats(&stored, &again, &sent), "the same in our words");
        for step in [json!(null), json!("y")] {
            let mut further = again.clone();
            further["held"] = step;
            assert!(!repeats(&stored, &further, &sent));
        }
        again["partition"] = json!(0);
        assert!(!repeats(&stored, &again, &sent), "a field that was not sent");
    }

    #[test]
    fn the_family_that_two_stacks_add_is_no_difference_and_one_stack_takes_it_away() {
        let mut desired = service(&json!([]));
        desired["spec"]["ipFamilyPolicy"] = json!("PreferDualStack");
        desired["spec"]["ipFamilies"] = json!(["IPv6"]);
        let Decision::Create(mut live) = decide(None, &desired, "u1") else { panic!("no creation") };
        live["spec"]["ipFamilies"] = json!(["IPv6", "IPv4"]);
        assert_eq!(decide(Some(&live), &desired, "u1"), Decision::Nothing);
        for (policy, family) in [("SingleStack", "IPv6"), ("PreferDualStack", "IPv4")] {
            desired["spec"]["ipFamilyPolicy"] = json!(policy);
            desired["spec"]["ipFamilies"] = json!([family]);
            let Decision::Replace(next, _) = decide(Some(&live), &desired, "u1") else { panic!("no replacement") };
            assert_eq!(next["spec"]["ipFamilies"], json!([family]), "{policy}");
        }
    }

    #[test]
    fn leaving_the_load_balancer_drops_source_ranges_and_class() {
        let desired = service(&json!([]));
        let Decision::Create(mut live) = decide(None, &desired, "u1") else { panic!("no creation") };
        live["spec"]["loadBalancerSourceRanges"] = json!(["10.0.0.0/8"]);
        live["spec"]["loadBalancerClass"] = json!("example.com/theirs");
        live["spec"]["healthCheckNodePort"] = json!(31000);
        assert_eq!(decide(Some(&live), &desired, "u1"), Decision::Nothing, "kept while it is one");
        let mut inside = desired;
        inside["spec"]["type"] = json!("ClusterIP");
        let Decision::Replace(next, _) = decide(Some(&live), &inside, "u1") else { panic!("no replacement") };
        assert_eq!((next["spec"].get("loadBalancerSourceRanges"), next["spec"].get("loadBalancerClass")), (None, None));
        assert_eq!(next["spec"]["healthCheckNodePort"], 31000, "the API server drops what is as it was");
    }
}
