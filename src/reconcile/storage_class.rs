//! Which StorageClass the volumes of a server wait for, and what to say when it is not there.
//!
//! A class that is missing is a doubt and no mistake: volumes that were made by hand may bear the name of a class that has
//! no object. So it is said only of a claim that has no volume yet, and nothing is held back for it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::claims::wishes;
use super::{Percona, ValidatedServer, is_being_deleted};

/// The field with the class of a server's own volumes.
pub const FIELD: &str = "spec.storage.storageClassName";
/// The field with the class of its database's volumes.
pub const PERCONA_FIELD: &str = "spec.percona.storageClassName";

/// Annotations that make a class the default one.
const DEFAULT: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

/// A class that volumes are asked of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// The one of this name.
    Named(String),
    /// Whichever is the cluster's default.
    Default,
}

/// What is known of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassSeen {
    /// It is there.
    There,
    /// The API server has none.
    Missing,
    /// The API server did not say, or may not be asked.
    Unknown,
}

impl Class {
    /// The class that a `storageClassName` asks for; None for the empty one, which asks for a volume made by hand.
    pub fn asked(name: Option<&str>) -> Option<Self> {
        match name {
            None => Some(Self::Default),
            Some("") => None,
            Some(name) => Some(Self::Named(name.to_owned())),
        }
    }

    /// The class that a claim waits for; None when it has a volume, or a volume was chosen for it.
    pub fn of_claim(claim: &Value) -> Option<Self> {
        let text = |path: &str| claim.pointer(path).and_then(Value::as_str);
        let pending = text("/status/phase").is_none_or(|phase| phase == "Pending");
        if !pending || text("/spec/volumeName").is_some_and(|name| !name.is_empty()) || is_being_deleted(claim) {
            return None;
        }
        Self::asked(text("/spec/storageClassName"))
    }

    /// What to say when it is missing: the field, its value, and what to do. `who` waits for it.
    pub fn missing(&self, field: &str, who: &str) -> String {
        match self {
            Self::Named(name) => format!(
                "{field} is {name:?}, and there is no StorageClass of that name: {who} cannot get a volume; create the \
                 StorageClass, or a PersistentVolume that names it for each claim"
            ),
            Self::Default => format!(
                "{field} is unset, and the cluster has no default StorageClass: {who} cannot get a volume; mark one as the \
                 default (annotation {}: \"true\"), or create a PersistentVolume without a class for each claim",
                DEFAULT[0]
            ),
        }
    }
}

/// Whether a StorageClass, as read, is the default one.
pub fn is_default(class: &Value) -> bool {
    let annotations = class.pointer("/metadata/annotations");
    DEFAULT.iter().any(|name| annotations.and_then(|all| all.get(name)?.as_str()) == Some("true"))
}

/// The classes that the server's claims wait for, each with the names of the claims. `claim` gives a claim by its name,
/// None for one that is still to be made.
pub fn awaited<C: AsRef<Value>>(
    server: &ValidatedServer,
    claim: impl Fn(&str) -> Option<C>,
) -> BTreeMap<Class, Vec<String>> {
    let mut found: BTreeMap<Class, Vec<String>> = BTreeMap::new();
    for wish in wishes(server) {
        let class = match claim(&wish.name) {
            Some(claim) => Class::of_claim(claim.as_ref()),
            None => Class::asked(server.storage.class.as_deref()),
        };
        if let Some(class) = class {
            found.entry(class).or_default().push(wish.name);
        }
    }
    found
}

/// What to say of these claims when their class is missing.
pub fn claims_wait(server: &ValidatedServer, class: &Class, claims: &[String]) -> String {
    let who = format!("{} {}", if claims.len() == 1 { "claim" } else { "claims" }, claims.join(", "));
    if Class::asked(server.storage.class.as_deref()).as_ref() == Some(class) {
        return class.missing(FIELD, &who);
    }
    // A claim that is older than this server keeps the class that it was made with.
    class.missing("spec.storageClassName of its claims", &who)
}

/// The class that the volumes of the server's database are asked of.
pub fn of_database(percona: &Percona) -> Option<Class> {
    Class::asked(percona.storage_class.as_deref())
}

/// What to say when that is missing.
pub fn database_waits(class: &Class) -> String {
    class.missing(PERCONA_FIELD, "the database")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::fixtures::server;

    fn named(name: &str) -> Class {
        Class::Named(name.to_owned())
    }

    fn of(class: Option<&str>, claims: &[(&str, Value)]) -> Vec<(Class, Vec<String>)> {
        let server = server("files").with(|server| server.storage.class = class.map(str::to_owned)).build();
        let claim =
            |name: &str| claims.iter().find(|(known, _)| *known == name).map(|(_, claim)| Arc::new(claim.clone()));
        awaited(&server, claim).into_iter().collect()
    }

    #[test]
    fn a_claim_without_a_volume_waits_for_its_own_class_and_one_to_come_for_that_of_the_spec() {
        let both = ["metadata-files-0".to_owned(), "controlplane-files-0".to_owned()];
        assert_eq!(of(Some("fast"), &[]), [(named("fast"), both.to_vec())]);
        assert_eq!(of(None, &[]), [(Class::Default, both.to_vec())]);
        assert_eq!(of(Some(""), &[]), [], "volumes made by hand");
        let old = json!({"spec": {"storageClassName": "old"}, "status": {"phase": "Pending"}});
        assert_eq!(
            of(Some("fast"), &[(&both[0], old)]),
            [(named("fast"), vec![both[1].clone()]), (named("old"), vec![both[0].clone()])]
        );
    }

    #[test]
    fn a_claim_that_has_or_will_have_a_volume_or_asks_for_none_of_a_class_waits_for_nothing() {
        let claim = |spec: Value, phase: &str| json!({"spec": spec, "status": {"phase": phase}});
        for (claim, expected) in [
            (claim(json!({"storageClassName": "fast"}), "Pending"), Some(named("fast"))),
            (claim(json!({}), "Pending"), Some(Class::Default)),
            (json!({"spec": {"storageClassName": "fast"}}), Some(named("fast"))),
            (claim(json!({"storageClassName": "fast"}), "Bound"), None),
            (claim(json!({"storageClassName": "fast"}), "Lost"), None),
            (claim(json!({"storageClassName": ""}), "Pending"), None),
            (claim(json!({"storageClassName": "manual", "volumeName": "pv-1"}), "Pending"), None),
            (
                json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"storageClassName": "fast"}}),
                None,
            ),
        ] {
            assert_eq!(Class::of_claim(&claim), expected, "{claim}");
        }
    }

    #[test]
    fn only_the_annotation_makes_a_class_the_default() {
        let class = |name: &str, value: &str| json!({"metadata": {"name": "a", "annotations": {name: value}}});
        assert!(is_default(&class("storageclass.kubernetes.io/is-default-class", "true")));
        assert!(is_default(&class("storageclass.beta.kubernetes.io/is-default-class", "true")));
        assert!(!is_default(&class("storageclass.kubernetes.io/is-default-class", "false")));
        assert!(!is_default(&class("team", "true")));
        assert!(!is_default(&json!({"metadata": {"name": "default"}})));
    }

    #[test]
    fn what_is_said_names_field_value_claims_and_remedy() {
        let server = server("files").with(|server| server.storage.class = Some("fast".into())).build();
        let text = claims_wait(&server, &named("fast"), &["metadata-files-0".into()]);
        assert_eq!(
            text,
            "spec.storage.storageClassName is \"fast\", and there is no StorageClass of that name: claim metadata-files-0 \
             cannot get a volume; create the StorageClass, or a PersistentVolume that names it for each claim"
        );
        let text = claims_wait(&server, &named("old"), &["a".into(), "b".into()]);
        assert!(
            text.starts_with("spec.storageClassName of its claims is \"old\"") && text.contains("claims a, b"),
            "{text}"
        );
        let text = Class::Default.missing(FIELD, "claim a");
        assert!(text.contains("is unset") && text.contains("mark one as the default"), "{text}");
    }
}
