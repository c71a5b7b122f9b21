//! The judgement: facts in, broken promises out; one file a promise.

mod absence;
mod confinement;
mod databases;
#[cfg(test)]
mod fixture;
mod load;
mod one_writer;
mod ownership;
mod restarts;
mod secrecy;
mod status;

use super::entry::{Entry, Micros, ObjectRef};
use super::history::{History, Key};
use super::{Facts, history};
use serde_json::Value;

/// A promise of the operator's guarantees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// One writer.
    S1,
    /// No restart without need.
    S2,
    /// What is not ours is not touched.
    S3,
    /// Absence is not evidence.
    S5,
    /// Bounded load.
    S6,
    /// Confinement.
    S7,
    /// No secret leaves.
    S8,
    /// Status is true.
    S9,
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Broken {
    /// Which.
    pub promise: Promise,
    /// How, in words.
    pub words: String,
    /// The requests that show it, a line each.
    pub entries: Vec<String>,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{:?}: {}", self.promise, self.words)?;
        self.entries.iter().try_for_each(|entry| writeln!(f, "    {entry}"))
    }
}

/// Judges a run.
pub fn judge(facts: &Facts) -> Vec<Broken> {
    let view = View::new(facts);
    let mut broken = Vec::new();
    let checks: [fn(&View<'_>, &mut Vec<Broken>); 9] = [
        one_writer::check,
        restarts::check,
        ownership::check,
        databases::check,
        absence::check,
        load::check,
        confinement::check,
        secrecy::check,
        status::check,
    ];
    for check in checks {
        check(&view, &mut broken);
    }
    broken.retain(|broken| !facts.expect.skip.contains(&broken.promise));
    broken
}

/// The facts, arranged for the checks.
struct View<'a> {
    facts: &'a Facts,
    history: History<'a>,
    /// The operator's requests.
    ours: Vec<&'a Entry>,
}

/// API group of the custom resource.
const GROUP: &str = "dittofs.dittofs.com";

impl<'a> View<'a> {
    fn new(facts: &'a Facts) -> Self {
        let ours = facts.entries.iter().filter(|entry| entry.user == facts.user).collect();
        Self { facts, history: History::new(&facts.entries), ours }
    }

    /// The operator's writes.
    fn writes(&self) -> impl Iterator<Item = &'a Entry> {
        self.ours.iter().copied().filter(|entry| entry.is_write())
    }

    /// The writes of all others.
    fn foreign_writes(&self) -> impl Iterator<Item = &'a Entry> {
        self.facts.entries.iter().filter(|entry| entry.user != self.facts.user && entry.is_write() && entry.succeeded())
    }

    /// Which run of the operator a time belongs to: requests of two runs may overlap, as the killed one's last does
    /// not end with it.
    fn life(&self, time: Micros) -> usize {
        self.facts.starts.iter().filter(|start| **start <= time).count()
    }

    /// The start of the run that a time belongs to.
    fn born(&self, time: Micros) -> Micros {
        self.facts.starts.iter().copied().filter(|start| *start <= time).max().unwrap_or_default()
    }

    /// Key of a DittoServer.
    fn server_key(namespace: &str, name: &str) -> Key {
        (GROUP.to_owned(), "dittoservers".to_owned(), namespace.to_owned(), name.to_owned())
    }

    /// The DittoServer that controls an object, as it was known at a time.
    fn server_of(&self, object: &Value, time: Micros) -> Option<&'a Value> {
        let owner = history::controller(object)?;
        let namespace = object["metadata"]["namespace"].as_str()?;
        let key = Self::server_key(namespace, owner["name"].as_str()?);
        self.history.at(&key, time, None).map(|state| state.object)
    }
}

fn report(broken: &mut Vec<Broken>, promise: Promise, words: String, entries: &[&Entry]) {
    broken.push(Broken { promise, words, entries: entries.iter().map(|entry| entry.brief()).collect() });
}

/// The object's place in words.
fn place(object: &ObjectRef) -> String {
    let ObjectRef { resource, subresource, namespace, name, .. } = object;
    let slash = if subresource.is_empty() { "" } else { "/" };
    format!("{resource}{slash}{subresource} {namespace}/{name}")
}

/// Names of the container ports that follow the adapters.
fn adapter_ports(template: &Value) -> Vec<(String, i64)> {
    let containers = template["spec"]["containers"].as_array().into_iter().flatten();
    let ports = containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
    let mut names: Vec<_> = ports
        .filter_map(|port| Some((port["name"].as_str()?, port["containerPort"].as_i64()?)))
        .filter(|(name, _)| name.starts_with("adapter-"))
        .map(|(name, port)| (name.to_owned(), port))
        .collect();
    names.sort();
    names
}
