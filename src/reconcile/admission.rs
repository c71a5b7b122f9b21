//! What a change of a DittoServer is refused for at admission: what only the cluster can tell, said before it is stored.
//!
//! Owns the decision of the optional webhook, in two steps: [`review`] says what of the cluster has to be known about a
//! change, [`decide`] judges it by what was found. Guarantees: a change is refused only for what it brings itself, so that
//! a server with something missing can still be changed, stopped and deleted; what could not be found out refuses nothing;
//! of a Secret nothing but the names of its keys gets here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};

use super::percona::{ClusterStep, plan_cluster};
use super::storage_class::{self, Class, ClassSeen};
use super::{ApiTls, Database, Keys, SpecInvalid, ValidatedServer, is_being_deleted, owned_by, secrets_used, validate};
use crate::build::FRESH_SERVER_ADAPTERS;

/// Longest text of one refusal, in characters; names in a spec can be long.
const TEXT_MAX: usize = 600;
/// Most refusals that are told of one change.
const TOLD_MAX: usize = 16;

/// One thing that a change is refused for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Path of the field.
    pub field: String,
    /// Field, value and what to do, in words.
    pub text: String,
}

impl Refusal {
    fn new(field: impl Into<String>, text: &str) -> Self {
        let cut: String = text.chars().take(TEXT_MAX).collect();
        let text = if cut.len() < text.len() { format!("{cut}…") } else { cut };
        Self { field: field.into(), text }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A kind of object that a server needs and that may be somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owned {
    /// `apps/v1 StatefulSet`.
    StatefulSet,
    /// `v1 ConfigMap`.
    ConfigMap,
    /// `v1 Service`.
    Service,
    /// `networking.k8s.io/v1 NetworkPolicy`.
    NetworkPolicy,
    /// `monitoring.coreos.com/v1 ServiceMonitor`.
    ServiceMonitor,
}

impl Owned {
    /// `kind` as a manifest has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StatefulSet => "StatefulSet",
            Self::ConfigMap => "ConfigMap",
            Self::Service => "Service",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::ServiceMonitor => "ServiceMonitor",
        }
    }
}

/// Something of the cluster that has to be known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A Secret that the spec names.
    Secret {
        /// The field that names it.
        field: &'static str,
        /// Its name.
        name: String,
        /// Keys that it has to have.
        keys: Vec<String>,
        /// What it is for, as a person calls it.
        purpose: &'static str,
    },
    /// A Secret that the operator makes, and takes up as it is when it is there.
    Generated {
        /// Its name.
        name: String,
        /// The key that it has to have then.
        key: String,
    },
    /// The StorageClass of the server's volumes.
    VolumeClass {
        /// Which.
        class: Class,
        /// The claims that ask for it, by name; some may be there from a server of that name.
        claims: Vec<String>,
    },
    /// The StorageClass of its database's volumes.
    DatabaseClass(Class),
    /// The kind of Percona's operator, and the cluster of this name.
    Database {
        /// Name of the PerconaPGCluster.
        name: String,
    },
    /// An object of this name that is the server's own, or none.
    Name {
        /// Its kind.
        kind: Owned,
        /// Its name.
        name: String,
    },
}

impl Need {
    /// In words, for a change that was let through unlooked.
    pub fn what(&self) -> String {
        match self {
            Self::Secret { name, .. } | Self::Generated { name, .. } => format!("Secret {name}"),
            Self::VolumeClass { class, .. } | Self::DatabaseClass(class) => match class {
                Class::Named(name) => format!("StorageClass {name}"),
                Class::Default => "the default StorageClass".to_owned(),
            },
            Self::Database { name } => format!("PerconaPGCluster {name}"),
            Self::Name { kind, name } => format!("{} {name}", kind.as_str()),
        }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// The keys of a Secret; None when there is none.
    Secret(Option<BTreeSet<String>>),
    /// Whether a class is there, and whether a claim still waits for it.
    Class {
        /// The class.
        seen: ClassSeen,
        /// Whether there is a claim without a volume, or one to be made.
        waits: bool,
    },
    /// The object; None when there is none.
    Object(Option<Value>),
    /// The API server does not serve the kind.
    Unserved,
    /// It could not be found out.
    Unknown,
}

/// A change, and what has to be known about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Review {
    server: Option<Box<ValidatedServer>>,
    needs: Vec<Need>,
    /// What the object alone is refused for, which an older CRD lets through.
    invalid: Vec<Refusal>,
    /// Whether what is found can refuse the change.
    binding: bool,
}

impl Review {
    fn nothing() -> Self {
        Self { server: None, needs: Vec::new(), invalid: Vec::new(), binding: true }
    }

    /// What has to be known; nothing for a change that brings nothing.
    pub fn needs(&self) -> &[Need] {
        &self.needs
    }

    /// Whether there is nothing to decide.
    pub fn is_empty(&self) -> bool {
        self.needs.is_empty() && self.invalid.is_empty()
    }
}

/// What became of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What it is refused for; it is let through when there is nothing.
    pub refusals: Vec<Refusal>,
    /// What is told with it all the same.
    pub doubts: Vec<String>,
    /// Whether something could not be found out.
    pub unknown: bool,
}

impl Verdict {
    /// All refusals in words.
    pub fn why(&self) -> String {
        let mut told: Vec<String> = self.refusals.iter().take(TOLD_MAX).map(ToString::to_string).collect();
        if self.refusals.len() > TOLD_MAX {
            told.push(format!("and {} more", self.refusals.len() - TOLD_MAX));
        }
        told.join("; ")
    }
}

/// What has to be known about the change from `old`, None for a creation, to `new`; both whole objects.
pub fn review(old: Option<&Value>, new: &Value) -> Review {
    let same = old.is_some_and(|old| old.get("spec") == new.get("spec"));
    if same || is_being_deleted(new) {
        return Review::nothing();
    }
    let before = old.map(validate);
    let server = match validate(new) {
        Ok(server) => server,
        Err(invalid) => return Review { invalid: introduced(&invalid, before), ..Review::nothing() },
    };
    let (known, binding) = match &before {
        None => (BTreeSet::new(), true),
        Some(Ok(before)) => (needs(before), true),
        // What a spec that nobody could act upon needed is not known: nothing counts as new.
        Some(Err(_)) => (BTreeSet::new(), false),
    };
    let needs = needs(&server).difference(&known).cloned().collect();
    Review { server: Some(Box::new(server)), needs, invalid: Vec::new(), binding }
}

/// The problems that were not there before.
fn introduced(invalid: &SpecInvalid, before: Option<Result<ValidatedServer, SpecInvalid>>) -> Vec<Refusal> {
    let known = before.and_then(Result::err).map(|before| before.problems).unwrap_or_default();
    let new = invalid.problems.iter().filter(|problem| !known.contains(problem));
    new.map(|problem| Refusal::new(problem.field.clone(), &problem.to_string())).collect()
}

/// All that a server needs of the cluster.
fn needs(server: &ValidatedServer) -> BTreeSet<Need> {
    let mut all: BTreeSet<Need> = BTreeSet::new();
    let names = server.names();
    let generated = [names.jwt_secret(), names.admin_secret()];
    for used in secrets_used(server) {
        let keys: Vec<String> = match used.keys {
            Keys::All => Vec::new(),
            Keys::Named(keys) => keys.into_iter().filter(|key| key.required).map(|key| key.key).collect(),
        };
        if server.database == Database::Percona && used.name == names.percona_secret() {
            // Percona's operator makes it.
        } else if generated.contains(&used.name) {
            all.extend(keys.into_iter().map(|key| Need::Generated { name: used.name.clone(), key }));
        } else {
            all.insert(Need::Secret { field: used.field, name: used.name, keys, purpose: used.purpose });
        }
    }
    all.extend(operators_own(&server.api_tls));
    for (class, claims) in storage_class::awaited(server, |_| None::<Arc<Value>>) {
        all.insert(Need::VolumeClass { class, claims });
    }
    if let Some(percona) = &server.percona {
        all.insert(Need::Database { name: names.percona_cluster() });
        all.extend(storage_class::of_database(percona).map(Need::DatabaseClass));
    }
    all.extend(objects(server).into_iter().map(|(kind, name)| Need::Name { kind, name }));
    all
}

/// The Secrets for TLS that only the operator reads.
fn operators_own(tls: &ApiTls) -> Vec<Need> {
    let secret = |field, name: &str, keys: &[&str], purpose| Need::Secret {
        field,
        name: name.to_owned(),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        purpose,
    };
    let shown = tls.shown().map(|name| {
        secret(
            "spec.controlPlane.clientCertSecretName",
            name,
            &[ApiTls::CERTIFICATE, ApiTls::KEY],
            "the operator's certificate",
        )
    });
    let trusted = tls.ca_secret.as_deref();
    let trusted = trusted
        .map(|name| secret("spec.controlPlane.caSecretName", name, &[ApiTls::CA], "the CA that the operator trusts"));
    shown.into_iter().chain(trusted).collect()
}

/// The objects that a server has, or will have once the adapters of a fresh one run.
fn objects(server: &ValidatedServer) -> Vec<(Owned, String)> {
    let names = server.names();
    let mut all = vec![
        (Owned::StatefulSet, names.stateful_set()),
        (Owned::ConfigMap, names.config_map()),
        (Owned::Service, names.headless_service()),
        (Owned::Service, names.api_service()),
    ];
    if server.file_service_enabled {
        all.push((Owned::Service, names.file_service()));
    }
    if server.metrics.is_some() {
        all.push((Owned::Service, names.metrics_service()));
        if server.service_monitor.enabled {
            all.push((Owned::ServiceMonitor, names.service_monitor()));
        }
    }
    if server.network_policy.enabled {
        all.push((Owned::NetworkPolicy, names.baseline_policy()));
    }
    for (adapter, _) in FRESH_SERVER_ADAPTERS {
        all.push((Owned::Service, names.adapter_service(adapter)));
        if server.network_policy.enabled {
            all.push((Owned::NetworkPolicy, names.adapter_service(adapter)));
        }
    }
    all
}

/// Judges a change by what was found for each of its needs, in their order.
pub fn decide(review: &Review, found: &[Found]) -> Verdict {
    let mut verdict = Verdict { refusals: review.invalid.clone(), ..Verdict::default() };
    let Some(server) = &review.server else { return verdict };
    let mut unasked = Vec::new();
    let missing = std::iter::repeat(&Found::Unknown);
    for (need, found) in review.needs.iter().zip(found.iter().chain(missing)) {
        match judge(server, need, found) {
            Judged::Fine => {}
            Judged::Refused(refusal) => verdict.refusals.push(refusal),
            Judged::Doubt(doubt) => verdict.doubts.push(doubt),
            Judged::Unknown => unasked.push(need.what()),
        }
    }
    if !review.binding {
        verdict.doubts.extend(verdict.refusals.drain(..).map(|refusal| refusal.text));
    }
    if !unasked.is_empty() {
        verdict.unknown = true;
        let more = unasked.len().saturating_sub(3);
        unasked.truncate(3);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        verdict
            .doubts
            .push(format!("not looked at in time: {}{more}; see the conditions in status", unasked.join(", ")));
    }
    verdict
}

enum Judged {
    Fine,
    Refused(Refusal),
    Doubt(String),
    Unknown,
}

fn judge(server: &ValidatedServer, need: &Need, found: &Found) -> Judged {
    match (need, found) {
        (_, Found::Unknown | Found::Class { seen: ClassSeen::Unknown, .. }) => Judged::Unknown,
        (Need::Secret { field, name, keys, purpose }, Found::Secret(there)) => {
            secret(field, name, keys, purpose, there.as_ref())
        }
        (Need::Generated { name, key }, Found::Secret(Some(there))) if !there.contains(key) => {
            let text = format!(
                "metadata.name is {:?}: the Secret {name} that is there would be taken up, and it has no key {key}; put it \
                 there, or remove the Secret",
                server.key.name
            );
            Judged::Refused(Refusal::new("metadata.name", &text))
        }
        (Need::VolumeClass { class, .. }, Found::Class { seen: ClassSeen::Missing, waits: true }) => {
            class_missing(class, storage_class::FIELD)
        }
        (Need::DatabaseClass(class), Found::Class { seen: ClassSeen::Missing, .. }) => {
            class_missing(class, storage_class::PERCONA_FIELD)
        }
        (Need::Database { .. }, Found::Unserved) => Judged::Refused(Refusal::new(
            "spec.percona.enabled",
            "spec.percona.enabled is true, and the API server does not serve PerconaPGCluster (pgv2.percona.com/v2); \
             install Percona's operator for PostgreSQL, 2.8 or newer, first",
        )),
        (Need::Database { name }, Found::Object(Some(live))) => {
            let Some(percona) = &server.percona else { return Judged::Fine };
            match plan_cluster(server, percona, Some(live)) {
                ClusterStep::NotOwned => foreign(server, "PerconaPGCluster", name, live),
                _ => Judged::Fine,
            }
        }
        (Need::Name { kind, name }, Found::Object(Some(live))) if !owned_by(live, &server.uid) => {
            foreign(server, kind.as_str(), name, live)
        }
        // A ServiceMonitor whose kind is not there yet is made when it comes.
        _ => Judged::Fine,
    }
}

fn secret(field: &'static str, name: &str, keys: &[String], purpose: &str, there: Option<&BTreeSet<String>>) -> Judged {
    let said = |what: &str| Judged::Refused(Refusal::new(field, &format!("{field} is {name:?} ({purpose}): {what}")));
    let Some(there) = there else {
        return said("there is no such Secret in this namespace; create it first, or name another");
    };
    let missing: Vec<&str> = keys.iter().filter(|key| !there.contains(*key)).map(String::as_str).collect();
    if missing.is_empty() {
        return Judged::Fine;
    }
    let word = if missing.len() == 1 { "key" } else { "keys" };
    said(&format!("that Secret has no {word} {}; put it there first, or name another", missing.join(", ")))
}

fn class_missing(class: &Class, field: &str) -> Judged {
    let text = match class {
        Class::Named(name) => format!(
            "{field} is {name:?}, and there is no StorageClass of that name; create it first (for volumes made by hand one \
             with provisioner kubernetes.io/no-provisioner), or name another"
        ),
        Class::Default => format!(
            "{field} is unset, and the cluster has no default StorageClass; name one, or mark one as the default first"
        ),
    };
    Judged::Refused(Refusal::new(field, &text))
}

fn foreign(server: &ValidatedServer, kind: &str, name: &str, live: &Value) -> Judged {
    if is_being_deleted(live) || is_of_a_predecessor(server, live) {
        return Judged::Doubt(format!("{kind} {name} is left of another server and on its way out; it is waited for"));
    }
    let text = format!(
        "metadata.name is {:?}: {kind} {name} is there and belongs to somebody else; rename or remove it, or give the server \
         another name",
        server.key.name
    );
    Judged::Refused(Refusal::new("metadata.name", &text))
}

/// Whether the garbage collector is about to take an object: a DittoServer of this name, which is no more, owned it.
fn is_of_a_predecessor(server: &ValidatedServer, live: &Value) -> bool {
    let owners = live.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.into_iter().flatten().any(|owner| {
        owner.get("controller") == Some(&json!(true))
            && owner.get("kind").and_then(Value::as_str) == Some(crate::build::KIND)
            && owner.get("name").and_then(Value::as_str) == Some(server.key.name.as_str())
    })
}

/// Whether one of `names` is a claim that waits for `class`, by what was read of them: one that is not there is still to be
/// made.
pub fn claims_wait_for(class: &Class, names: &[String], read: &BTreeMap<String, Value>) -> bool {
    names.iter().any(|name| read.get(name).is_none_or(|claim| Class::of_claim(claim).as_ref() == Some(class)))
}

/// The keys of a Secret, as read; its values stay behind.
pub fn keys_of(secret: &Value) -> BTreeSet<String> {
    let data = secret.get("data").and_then(Value::as_object);
    data.into_iter().flat_map(|data| data.keys().cloned()).collect()
}

#[cfg(test)]
mod tests;
