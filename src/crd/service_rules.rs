//! The CEL rules about Services, and what the operator's own checks share with them. They stand at several places, so a
//! message names the field only; the API server says before it where that is.
//!
//! What they keep to stands in [`rules`](super::rules).

use kube::core::{Message, Reason, Rule};

/// Most labels, and most annotations, at one place.
pub const MAP_MAX: usize = 64;
/// Most characters of keys and values of all annotations at one place. What was applied last is remembered in an
/// annotation, too, and all of a Service's annotations have to fit 256 KiB.
pub const ANNOTATIONS_MAX: usize = 16_384;
/// Most adapters with settings of their own.
pub const PER_ADAPTER_MAX: usize = 16;
/// Most networks in a list of source ranges.
pub const SOURCE_RANGES_MAX: usize = 128;
/// Longest key of a label or annotation: domain, slash and name.
pub const KEY_MAX: usize = 317;
/// Longest domain before a key's slash.
pub const DOMAIN_MAX: usize = 253;

/// A key's optional domain with a slash, and its name.
const KEY: &str = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?\
    [A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
/// A label's value.
const LABEL_VALUE: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$";
/// An adapter's type as the key of its settings.
const ADAPTER_TYPE: &str = "^[!-~]{1,63}$";

/// Labels that the operator sets itself.
pub const OWN_LABELS: [&str; 5] =
    ["app", "app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "app.kubernetes.io/name", "instance"];
/// Prefix of further labels that the operator sets itself.
pub const OWN_LABEL_PREFIX: &str = "dittofs.io/";

/// What to do about a label.
pub const LABEL_REMEDY: &str = "use keys of at most 63 letters, digits, dashes, dots and underscores, with or without \
    a DNS domain and a slash before them, and values of the same form or empty ones";
/// What to do about the key of an annotation.
pub const ANNOTATION_REMEDY: &str = "use keys of at most 63 letters, digits, dashes, dots and underscores, with or \
    without a DNS domain and a slash before them";
/// What to do about a label or an annotation that is ours.
pub const OWN_KEY_REMEDY: &str = "leave it out: the operator sets it itself";
/// What to do about large annotations.
pub const ANNOTATIONS_SIZE_REMEDY: &str = "use at most 16384 in all";
/// What to do about a class.
pub const CLASS_REMEDY: &str = "use a class such as example.com/internal: at most 63 letters, digits, dashes, dots and \
    underscores, with or without a DNS domain and a slash before them";
/// What to do about a source range.
pub const SOURCE_RANGE_REMEDY: &str =
    "use networks in CIDR form without bits behind the prefix, such as 192.0.2.0/24 or 2001:db8::/32";
/// What to do about equal families.
pub const FAMILIES_REMEDY: &str = "use IPv4, IPv6, or each once";
/// What to do about two families without two stacks.
pub const DUAL_STACK_REMEDY: &str = "set ipFamilyPolicy to PreferDualStack or RequireDualStack beside two families";
/// What to do about the key of an adapter's settings.
pub const ADAPTER_TYPE_REMEDY: &str =
    "use the type of an adapter as the server lists it, such as nfs: at most 63 characters without blanks";

fn rule(expression: impl Into<String>, message: impl Into<String>) -> Rule {
    Rule::new(expression).message(Message::Expression(message.into()))
}

/// Every item of the list, or key of the map, meets `good`, an expression in `k`; else the others are named.
fn each(field: &str, good: &str, remedy: &str) -> Rule {
    rule(format!("self.all(k, {good})"), format!("'{field} has %s: {remedy}'.format([self.filter(k, !({good}))])"))
}

fn key(text: &str) -> String {
    format!("size({text}) <= {KEY_MAX} && {text}.indexOf('/') <= {DOMAIN_MAX} && {text}.matches('{KEY}')")
}

/// Keys and values that a label can have.
pub fn labels() -> Rule {
    each("labels", &format!("{} && self[k].matches('{LABEL_VALUE}')", key("k")), LABEL_REMEDY)
}

/// No label that the operator sets itself.
pub fn labels_not_ours() -> Rule {
    let own = OWN_LABELS.map(|name| format!("'{name}'")).join(", ");
    each("labels", &format!("!(k in [{own}] || k.startsWith('{OWN_LABEL_PREFIX}'))"), OWN_KEY_REMEDY)
        .reason(Reason::FieldValueForbidden)
}

/// Keys that an annotation can have: those of a label in any case.
pub fn annotation_keys() -> Rule {
    each("annotations", &key("k.lowerAscii()"), ANNOTATION_REMEDY)
}

/// Not the annotation in which the operator remembers what it applied.
pub fn annotations_not_ours() -> Rule {
    each("annotations", &format!("k != '{}'", crate::reconcile::LAST_APPLIED), OWN_KEY_REMEDY)
        .reason(Reason::FieldValueForbidden)
}

/// All annotations fit.
pub fn annotations_size() -> Rule {
    let size = "self.map(k, size(k) + size(self[k])).sum()";
    rule(
        format!("{size} <= {ANNOTATIONS_MAX}"),
        format!("'annotations has %d characters: {ANNOTATIONS_SIZE_REMEDY}'.format([{size}])"),
    )
}

/// A class that a Service can have.
pub fn load_balancer_class() -> Rule {
    rule(key("self"), format!("'loadBalancerClass is \"' + self + '\": {CLASS_REMEDY}'"))
}

/// Networks, with no bits behind their prefix.
pub fn source_ranges() -> Rule {
    each("loadBalancerSourceRanges", "isCIDR(k) && cidr(k) == cidr(k).masked()", SOURCE_RANGE_REMEDY)
}

/// No family twice.
pub fn families_differ() -> Rule {
    rule(
        "size(self) < 2 || self[0] != self[1]",
        format!("'ipFamilies has %s twice: {FAMILIES_REMEDY}'.format([self[0]])"),
    )
}

/// Two families stand beside a policy that has two.
pub fn two_families_need_dual_stack() -> Rule {
    rule(
        "!has(self.ipFamilies) || size(self.ipFamilies) < 2 || \
         (has(self.ipFamilyPolicy) && self.ipFamilyPolicy != 'SingleStack')",
        format!(
            "'ipFamilies has %s and ipFamilyPolicy is %s: {DUAL_STACK_REMEDY}'.format([self.ipFamilies, \
             has(self.ipFamilyPolicy) ? self.ipFamilyPolicy : 'unset'])"
        ),
    )
    .field_path(".ipFamilyPolicy")
}

/// Keys that can be the type of an adapter.
pub fn adapter_types() -> Rule {
    each("perAdapter", &format!("k.matches('{ADAPTER_TYPE}')"), ADAPTER_TYPE_REMEDY)
}
