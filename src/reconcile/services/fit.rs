//! What of a Service cannot become as the spec asks for, and what is done instead: the rest of it still follows.
//!
//! A Service is never deleted and made again to have its way: its address would change. What Kubernetes does not let
//! change stays as it is, and is said.

use serde_json::Value;

use super::super::merge::last_applied;
use super::super::object::{meta, owned_by};
use super::{Ensure, ServicePlan};

const CLASS: &str = "loadBalancerClass";
const POLICY: &str = "ipFamilyPolicy";
const FAMILIES: &str = "ipFamilies";

fn field<'a>(service: &'a Value, name: &str) -> Option<&'a Value> {
    service.get("spec")?.get(name)
}

fn set(service: &mut Value, name: &str, value: Option<&Value>) {
    if let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) {
        match value {
            Some(value) => spec.insert(name.to_owned(), value.clone()),
            None => spec.remove(name),
        };
    }
}

fn is_load_balancer(service: &Value) -> bool {
    field(service, "type").and_then(Value::as_str) == Some("LoadBalancer")
}

/// Adapts what is wanted of a Service to what it is: see [`keep_class`] and [`keep_families`].
pub(super) fn fit(ensure: &mut Ensure, live: &Value) {
    let last = last_applied(live);
    keep_class(ensure, live, last.as_ref());
    keep_families(ensure, live, last.as_ref());
}

/// Kubernetes never changes the class of a Service while that is a load balancer: it stays, and that is said. A class
/// that the spec never named is nobody's failure.
fn keep_class(ensure: &mut Ensure, live: &Value, last: Option<&Value>) {
    if !is_load_balancer(live) || !is_load_balancer(&ensure.desired) {
        return;
    }
    let (has, wants) = (field(live, CLASS), field(&ensure.desired, CLASS));
    let ours = last.is_some_and(|last| field(last, CLASS).is_some());
    if has == wants || (wants.is_none() && !ours) {
        return;
    }
    let shown = |class: Option<&Value>| class.and_then(Value::as_str).unwrap_or("unset").to_owned();
    ensure.short.push(format!(
        "{CLASS} stays {} and cannot become {}: Kubernetes does not change it on a load balancer; set it back, or let \
         the Service be of type ClusterIP for a moment (a load balancer's address changes then)",
        shown(has),
        shown(wants)
    ));
    let has = has.cloned();
    set(&mut ensure.desired, CLASS, has.as_ref());
}

/// What the spec names no more goes back to one family. The first is never taken away: Kubernetes does not change it.
fn keep_families(ensure: &mut Ensure, live: &Value, last: Option<&Value>) {
    let was_ours = |name| last.is_some_and(|last| field(last, name).is_some());
    if field(&ensure.desired, POLICY).is_none() && was_ours(POLICY) && field(live, POLICY).is_some() {
        set(&mut ensure.desired, POLICY, Some(&"SingleStack".into()));
    }
    let single = field(&ensure.desired, POLICY).and_then(Value::as_str) == Some("SingleStack");
    let Some(live) = field(live, FAMILIES).and_then(Value::as_array) else { return };
    if field(&ensure.desired, FAMILIES).is_none() && was_ours(FAMILIES) {
        let kept: Vec<Value> = live.iter().take(if single { 1 } else { 2 }).cloned().collect();
        set(&mut ensure.desired, FAMILIES, Some(&kept.into()));
    }
}

/// A change of families that the API server refused: it is not asked for again until something about it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    wanted: [Option<Value>; 2],
    found: [Option<Value>; 2],
    text: String,
}

impl Refusal {
    /// What was refused of `desired` while `live` was there, and the API server's words; None when they are not about
    /// families, or nothing about families was to change.
    pub fn of(desired: &Value, live: &Value, text: &str) -> Option<Self> {
        let (wanted, found) = (families(desired), families(live));
        let asked = wanted.iter().zip(&found).any(|(wanted, found)| wanted.is_some() && wanted != found);
        let about = [POLICY, FAMILIES, "clusterIPs"].iter().any(|name| text.contains(&format!("spec.{name}")));
        (asked && about).then(|| Self { wanted, found, text: text.to_owned() })
    }
}

fn families(service: &Value) -> [Option<Value>; 2] {
    [POLICY, FAMILIES].map(|name| field(service, name).cloned())
}

impl ServicePlan {
    /// Leaves out of the plan what was refused before, and says so instead. `refused` is told a Service's name.
    pub fn withhold<'a>(
        &mut self,
        refused: impl Fn(&str) -> Option<&'a Refusal>,
        live: &[impl AsRef<Value>],
        uid: &str,
    ) {
        for ensure in &mut self.ensure {
            let Some(refusal) = refused(&ensure.name) else { continue };
            let live = live.iter().map(AsRef::as_ref).find(|service| meta(service, "name") == ensure.name);
            let Some(live) = live.filter(|live| owned_by(live, uid)) else { continue };
            if refusal.wanted == families(&ensure.desired) && refusal.found == families(live) {
                // What was not asked for is left out as before: named once, it would count as asked for the next time.
                let fields = [POLICY, FAMILIES].into_iter().zip(&refusal.wanted).zip(&refusal.found);
                for ((name, _), found) in fields.filter(|((_, wanted), _)| wanted.is_some()) {
                    set(&mut ensure.desired, name, found.as_ref());
                }
                ensure.short.push(format!("{POLICY} and {FAMILIES} stay as they are: {}", refusal.text));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::reconcile::{Decision, decide};

    fn service(spec: &Value) -> Value {
        json!({"kind": "Service", "spec": spec, "metadata": {
            "name": "s", "ownerReferences": [{"uid": "u", "controller": true}],
        }})
    }

    fn wish(spec: &Value) -> Ensure {
        Ensure { name: "s".into(), desired: service(spec), adapter: None, short: vec![] }
    }

    /// What is stored of a wish, with what the API server adds.
    fn stored(spec: &Value, added: &Value) -> Value {
        let Decision::Create(mut live) = decide(None, &service(spec), "u") else { panic!("no creation") };
        for (key, value) in added.as_object().unwrap() {
            live["spec"][key] = value.clone();
        }
        live
    }

    fn fitted(spec: &Value, live: &Value) -> Ensure {
        let mut ensure = wish(spec);
        fit(&mut ensure, live);
        ensure
    }

    fn balancer(class: Option<&str>) -> Value {
        class.map_or_else(
            || json!({"type": "LoadBalancer"}),
            |class| json!({"type": "LoadBalancer", "loadBalancerClass": class}),
        )
    }

    #[test]
    fn a_class_stays_on_a_living_load_balancer_for_as_long_as_it_is_one_and_is_said() {
        for (before, after, said) in [
            (None, Some("b"), "stays unset and cannot become b"),
            (Some("a"), Some("b"), "stays a and cannot become b"),
            (Some("a"), None, "stays a and cannot become unset"),
        ] {
            let mut live = stored(&balancer(before), &json!({}));
            // However often it is written for another reason.
            for step in ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"] {
                let mut wanted = balancer(after);
                wanted["loadBalancerSourceRanges"] = json!([step]);
                let ensure = fitted(&wanted, &live);
                assert!(ensure.short.len() == 1 && ensure.short[0].contains(said), "{:?}", ensure.short);
                let Decision::Replace(next, _) = decide(Some(&live), &ensure.desired, "u") else { panic!("no write") };
                assert_eq!(next["spec"].get("loadBalancerClass"), before.map(Value::from).as_ref());
                assert_eq!(next["spec"]["loadBalancerSourceRanges"], json!([step]));
                let again = fitted(&wanted, &next);
                assert_eq!(decide(Some(&next), &again.desired, "u"), Decision::Nothing, "no write for the class");
                live = next;
            }
            assert_eq!(fitted(&balancer(before), &live).short, [""; 0], "set back");
            let outside = fitted(&json!({"type": "NodePort"}), &live);
            assert_eq!((outside.short.len(), outside.desired["spec"].get("loadBalancerClass")), (0, None));
        }
    }

    #[test]
    fn a_class_is_set_where_kubernetes_lets_it_be_and_others_may_have_set_one() {
        let live = stored(&json!({"type": "NodePort"}), &json!({}));
        let ensure = fitted(&balancer(Some("b")), &live);
        assert_eq!((ensure.short.len(), &ensure.desired["spec"]["loadBalancerClass"]), (0, &json!("b")));
        let theirs = stored(&balancer(None), &json!({"loadBalancerClass": "theirs"}));
        let ensure = fitted(&balancer(None), &theirs);
        assert_eq!(ensure.short, [""; 0]);
        assert_eq!(decide(Some(&theirs), &ensure.desired, "u"), Decision::Nothing);
    }

    #[test]
    fn families_that_are_taken_out_go_back_to_the_first_one() {
        let two = json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]});
        let live = stored(&two, &json!({}));
        let ensure = fitted(&json!({}), &live);
        assert_eq!(ensure.desired["spec"], json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"]}));
        let policy = fitted(&json!({"ipFamilyPolicy": "RequireDualStack"}), &live);
        assert_eq!(policy.desired["spec"]["ipFamilies"], json!(["IPv6", "IPv4"]));
        let never_ours = stored(&json!({}), &json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4"]}));
        assert_eq!(fitted(&json!({}), &never_ours).desired["spec"], json!({}));
    }

    #[test]
    fn a_refused_change_of_families_is_withheld_until_something_about_it_changes() {
        let live =
            stored(&json!({"type": "ClusterIP"}), &json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"]}));
        let wanted = json!({"type": "NodePort", "ipFamilyPolicy": "RequireDualStack"});
        let words = "422 Invalid: spec.ipFamilyPolicy: not configured for dual-stack";
        assert_eq!(Refusal::of(&service(&wanted), &live, "422 Invalid: spec.ports: required"), None);
        assert_eq!(Refusal::of(&service(&json!({"type": "NodePort"})), &live, words), None, "none was asked for");
        let refusal = Refusal::of(&service(&wanted), &live, words).expect("a refusal");
        let withheld = |wanted: &Value, live: &Value, uid: &str| {
            let mut plan = ServicePlan { ensure: vec![wish(wanted)], remove: vec![] };
            plan.withhold(|name| (name == "s").then_some(&refusal), &[std::sync::Arc::new(live.clone())], uid);
            plan.ensure.remove(0)
        };
        let ensure = withheld(&wanted, &live, "u");
        assert!(ensure.short[0].contains("stay as they are") && ensure.short[0].contains(words), "{:?}", ensure.short);
        let Decision::Replace(next, _) = decide(Some(&live), &ensure.desired, "u") else { panic!("no write") };
        assert_eq!(
            (&next["spec"]["type"], &next["spec"]["ipFamilyPolicy"]),
            (&json!("NodePort"), &json!("SingleStack"))
        );
        assert_eq!(decide(Some(&next), &withheld(&wanted, &next, "u").desired, "u"), Decision::Nothing);
        let mut whole = wish(&wanted);
        fit(&mut whole, &next);
        assert_eq!(families(&whole.desired), refusal.wanted, "still the same wish");

        let other = json!({"type": "NodePort", "ipFamilyPolicy": "PreferDualStack"});
        assert_eq!(withheld(&other, &live, "u").short, [""; 0], "another wish");
        let mut moved = live.clone();
        moved["spec"]["ipFamilies"] = json!(["IPv4", "IPv6"]);
        assert_eq!(withheld(&wanted, &moved, "u").short, [""; 0], "another state");
        assert_eq!(withheld(&wanted, &live, "another").short, [""; 0], "somebody else's");
    }
}
