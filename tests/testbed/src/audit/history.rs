//! The states that each object went through, as the audit log shows them.
//!
//! States come from the bodies of answers to writes, of whoever wrote, and of the operator's own reads. Their order is
//! that of the resourceVersion: one etcd counts all of them.

use super::entry::{Entry, Micros};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};

/// An object's place: group, resource, namespace, name.
pub(super) type Key = (String, String, String, String);

pub(super) struct State<'a> {
    pub(super) version: u64,
    /// The request that shows it.
    pub(super) entry: &'a Entry,
    /// A write made it; otherwise a read found it.
    pub(super) written: bool,
    pub(super) object: &'a Value,
}

impl State<'_> {
    pub(super) fn uid(&self) -> &str {
        self.object["metadata"]["uid"].as_str().unwrap_or_default()
    }
}

/// All states of all objects.
#[derive(Default)]
pub(super) struct History<'a> {
    objects: BTreeMap<Key, Vec<State<'a>>>,
}

pub(super) fn version_of(object: &Value) -> Option<u64> {
    object["metadata"]["resourceVersion"].as_str()?.parse().ok()
}

pub(super) fn key_of(entry: &Entry) -> Key {
    let object = &entry.object;
    (object.api_group.clone(), object.resource.clone(), object.namespace.clone(), object.name.clone())
}

impl<'a> History<'a> {
    pub(super) fn new(entries: &'a [Entry]) -> Self {
        let mut history = Self::default();
        for entry in entries.iter().filter(|entry| entry.succeeded()) {
            match entry.verb.as_str() {
                "list" => history.add_list(entry),
                "watch" => {}
                _ => {
                    if let Some(object) = entry.result() {
                        history.add(key_of(entry), entry, entry.is_write(), object);
                    }
                }
            }
        }
        for states in history.objects.values_mut() {
            // Of a write and the reads of its result, the write stands first and stays.
            states.sort_by_key(|state| (state.version, !state.written, state.entry.received));
            let mut known = HashSet::new();
            states.retain(|state| known.insert(state.version));
        }
        history
    }

    fn add(&mut self, key: Key, entry: &'a Entry, written: bool, object: &'a Value) {
        if let Some(version) = version_of(object) {
            self.objects.entry(key).or_default().push(State { version, entry, written, object });
        }
    }

    fn add_list(&mut self, entry: &'a Entry) {
        if entry.response["kind"].as_str().is_some_and(|kind| kind.starts_with("PartialObjectMetadata")) {
            return;
        }
        for item in entry.response["items"].as_array().into_iter().flatten() {
            let text = |field: &str| item["metadata"][field].as_str().unwrap_or_default().to_owned();
            let object = &entry.object;
            let key = (object.api_group.clone(), object.resource.clone(), text("namespace"), text("name"));
            self.add(key, entry, false, item);
        }
    }

    /// The states of one object, oldest first.
    pub(super) fn states(&self, key: &Key) -> &[State<'a>] {
        self.objects.get(key).map_or(&[], Vec::as_slice)
    }

    /// All objects of a kind.
    pub(super) fn of_kind<'s>(
        &'s self,
        group: &'s str,
        resource: &'s str,
    ) -> impl Iterator<Item = (&'s Key, &'s [State<'a>])> {
        self.objects.iter().filter(move |(key, _)| key.0 == group && key.1 == resource).map(|(k, s)| (k, s.as_slice()))
    }

    /// The object as it was before a write, where the log shows it.
    pub(super) fn before(&self, entry: &Entry) -> Option<&State<'a>> {
        let states = self.states(&key_of(entry));
        if entry.verb != "delete"
            && let Some(after) = entry.result().and_then(version_of)
        {
            let base = version_of(&entry.request);
            let exact = base.and_then(|base| states.iter().find(|state| state.version == base));
            return exact.or_else(|| states.iter().rev().find(|state| state.version < after));
        }
        self.at(&key_of(entry), entry.received, Some(&entry.id))
    }

    /// The newest state that a request showed which ended by `time`; not by the request `except`.
    pub(super) fn at(&self, key: &Key, time: Micros, except: Option<&str>) -> Option<&State<'a>> {
        let ended = |state: &&State<'a>| state.entry.finished <= time && Some(state.entry.id.as_str()) != except;
        self.states(key).iter().rev().find(ended)
    }
}

/// The controller among an object's owner references.
pub(super) fn controller(object: &Value) -> Option<&Value> {
    object["metadata"]["ownerReferences"].as_array()?.iter().find(|owner| owner["controller"] == true)
}
