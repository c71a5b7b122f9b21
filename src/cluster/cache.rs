//! What a watch has seen: the objects of one kind, and whose they are.
//!
//! Owns: the newest known state of each object of one watch. Touches nothing: it is filled by handing it the events
//! of [`watch`](super::watch). Guarantees: a list becomes visible as a whole or not at all; before the first one the
//! cache says that it is not synced; a list that brings nothing new reports nothing; `managedFields` never enters.
//!
//! Whoever writes an object reads it from the API first: what is in here may be older than the API server's state.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Deref;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde_json::Value;

use super::packing::{Pattern, Text};
use super::watch::WatchEvent;

/// The controller owner reference of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// `kind` of the owner.
    pub kind: String,
    /// Its name; owners are in the namespace of what they own.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// An object that came, changed or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its controller. An object that passes from one owner to another gives a change for each of them.
    pub owner: Option<Owner>,
    /// Whether it is no longer there.
    pub gone: bool,
}

/// Namespace and name, parted by a byte that neither can have and that sorts before all that they have.
type Key = Arc<str>;

/// An object as the cache holds it: read when it is first looked into, which is what takes time.
#[derive(Clone)]
pub struct Object {
    packed: Arc<Packed>,
    tree: OnceLock<Value>,
}

impl Object {
    /// `metadata.resourceVersion`, without reading the object.
    pub fn version(&self) -> Option<&str> {
        self.packed.version.as_deref()
    }
}

impl Deref for Object {
    type Target = Value;
    fn deref(&self) -> &Value {
        self.tree.get_or_init(|| self.packed.read())
    }
}

impl std::fmt::Debug for Object {
    /// Not what is in it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Object").field("version", &self.packed.version).finish_non_exhaustive()
    }
}

/// An object as compressed text, with what is asked of it without reading it. A tree of JSON takes some twenty times the
/// memory of its text, and most objects are looked at once in many minutes.
struct Packed {
    text: Text,
    version: Option<Box<str>>,
    owner: Option<Arc<Owner>>,
}

impl Packed {
    /// The object; it was made from one, so it reads.
    fn read(&self) -> Value {
        self.text.read()
    }
}

/// What one controller has.
struct Owned {
    owner: Arc<Owner>,
    keys: Vec<Key>,
}

#[derive(Default)]
struct Contents {
    objects: BTreeMap<Key, Arc<Packed>>,
    /// By the controller's uid.
    by_owner: HashMap<String, Owned>,
    pattern: Pattern,
    synced: bool,
    absent: bool,
}

/// The objects of one watch.
#[derive(Default)]
pub struct Cache {
    contents: RwLock<Contents>,
}

impl Cache {
    /// An empty cache that is not synced.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in an event, and says which objects it really changed.
    pub fn apply(&self, event: WatchEvent) -> Vec<Change> {
        match event {
            WatchEvent::Listed(objects) => self.write().swap(objects),
            WatchEvent::Applied(object) => self.write().put(object),
            WatchEvent::Deleted(object) => key_of(&object).map(|key| self.write().remove(&key)).unwrap_or_default(),
            WatchEvent::Trouble { .. } | WatchEvent::Recovered => Vec::new(),
        }
    }

    /// The object of that name, when it is known.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.packed(namespace, name).map(|packed| Arc::new(packed.read()))
    }

    /// The same, not yet read.
    pub fn object(&self, namespace: &str, name: &str) -> Option<Object> {
        self.packed(namespace, name).map(|packed| Object { packed, tree: OnceLock::new() })
    }

    fn packed(&self, namespace: &str, name: &str) -> Option<Arc<Packed>> {
        self.read().objects.get(&key(namespace, name)).cloned()
    }

    /// All objects whose controller has this uid, by namespace and name.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<Value>> {
        let packed: Vec<Arc<Packed>> = {
            let contents = self.read();
            let owned = contents.by_owner.get(uid).map(|has| has.keys.as_slice()).unwrap_or_default();
            owned.iter().filter_map(|key| contents.objects.get(key).cloned()).collect()
        };
        // Read outside the lock: the watch waits for it.
        packed.iter().map(|packed| Arc::new(packed.read())).collect()
    }

    /// All objects, by namespace and name.
    pub fn all(&self) -> Vec<Arc<Value>> {
        let packed: Vec<Arc<Packed>> = self.read().objects.values().cloned().collect();
        packed.iter().map(|packed| Arc::new(packed.read())).collect()
    }

    /// The API server no longer serves the kind: what was seen is gone, and until the next list nothing is known.
    pub fn set_absent(&self) {
        *self.write() = Contents { absent: true, ..Contents::default() };
    }

    /// Whether the API server was last found not to serve the kind.
    pub fn is_absent(&self) -> bool {
        self.read().absent
    }

    /// Whether a complete list has been seen: only then does an object's absence mean anything.
    pub fn is_synced(&self) -> bool {
        self.read().synced
    }

    // A panic while the lock is held leaves the contents whole: each step below is one insertion or removal, and
    // the next list heals what a half-done event left out.
    fn read(&self) -> RwLockReadGuard<'_, Contents> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Contents> {
        self.contents.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    fn swap(&mut self, objects: Vec<Value>) -> Vec<Change> {
        let mut vanished: BTreeSet<Key> = self.objects.keys().cloned().collect();
        let mut changes = Vec::new();
        for object in objects {
            if let Some(key) = key_of(&object) {
                vanished.remove(&key);
                changes.extend(self.put(object));
            }
        }
        for key in vanished {
            changes.extend(self.remove(&key));
        }
        self.synced = true;
        self.absent = false;
        changes
    }

    fn put(&mut self, mut object: Value) -> Vec<Change> {
        let Some(key) = key_of(&object) else {
            return Vec::new();
        };
        let old = self.objects.get(&key);
        if old.is_some_and(|old| old.version.is_some() && old.version.as_deref() == version_of(&object)) {
            return Vec::new();
        }
        strip(&mut object);
        let owner = owner_of(&object).map(|owner| self.known(owner));
        let packed = Packed {
            text: self.pattern.pack(&object),
            version: version_of(&object).map(Box::from),
            owner: owner.clone(),
        };
        let old_owner = old.and_then(|old| old.owner.clone());
        let mut changes = vec![change(&key, owner.as_deref(), false)];
        if let Some(old_owner) = old_owner
            && owner.as_ref() != Some(&old_owner)
        {
            self.disown(&key, &old_owner.uid);
            changes.push(change(&key, Some(&old_owner), false));
        }
        if let Some(owner) = owner {
            let has = self.by_owner.entry(owner.uid.clone()).or_insert_with(|| Owned { owner, keys: Vec::new() });
            if let Err(place) = has.keys.binary_search(&key) {
                has.keys.insert(place, key.clone());
            }
        }
        self.objects.insert(key, Arc::new(packed));
        changes
    }

    fn remove(&mut self, key: &Key) -> Vec<Change> {
        let Some(old) = self.objects.remove(key) else {
            return Vec::new();
        };
        if let Some(owner) = &old.owner {
            self.disown(key, &owner.uid);
        }
        vec![change(key, old.owner.as_deref(), true)]
    }

    /// The owner as it is held already: a server's objects share one.
    fn known(&self, owner: Owner) -> Arc<Owner> {
        match self.by_owner.get(&owner.uid) {
            Some(has) if *has.owner == owner => has.owner.clone(),
            _ => Arc::new(owner),
        }
    }

    fn disown(&mut self, key: &Key, uid: &str) {
        if let Some(has) = self.by_owner.get_mut(uid) {
            has.keys.retain(|held| held != key);
            if has.keys.is_empty() {
                self.by_owner.remove(uid);
            }
        }
    }
}

fn change(key: &Key, owner: Option<&Owner>, gone: bool) -> Change {
    let (namespace, name) = key.split_once(BETWEEN).unwrap_or_default();
    Change { namespace: namespace.to_owned(), name: name.to_owned(), owner: owner.cloned(), gone }
}

const BETWEEN: char = '\0';

fn key(namespace: &str, name: &str) -> Key {
    Key::from(format!("{namespace}{BETWEEN}{name}"))
}

/// Namespace and name; `None` for an object without a name, which nobody could ask for.
fn key_of(object: &Value) -> Option<Key> {
    let text = |field: &str| object.get("metadata")?.get(field)?.as_str();
    Some(key(text("namespace").unwrap_or_default(), text("name")?))
}

fn version_of(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("resourceVersion")?.as_str()
}

fn owner_of(object: &Value) -> Option<Owner> {
    let references = object.get("metadata")?.get("ownerReferences")?.as_array()?;
    let controller = references.iter().find(|r| r.get("controller") == Some(&Value::Bool(true)))?;
    let text = |field: &str| controller.get(field)?.as_str().map(ToOwned::to_owned);
    Some(Owner { kind: text("kind")?, name: text("name")?, uid: text("uid")? })
}

/// Drops `managedFields`, which nobody here reads and which is half of what a cache would hold. An update without
/// them leaves the stored ones as they are.
pub(super) fn strip(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(name: &str, version: u32, owner: Option<&str>) -> Value {
        let owners = owner.map(|uid| {
            json!([
                {"apiVersion": "v1", "kind": "Other", "name": "x", "uid": "not-the-controller"},
                {"apiVersion": "a/v1", "kind": "DittoServer", "name": "files", "uid": uid, "controller": true}
            ])
        });
        json!({"metadata": {
            "namespace": "ns", "name": name, "resourceVersion": version.to_string(), "ownerReferences": owners,
            "managedFields": [{"manager": "kubectl"}],
        }})
    }

    fn names(changes: &[Change]) -> Vec<(&str, bool)> {
        changes.iter().map(|c| (c.name.as_str(), c.gone)).collect()
    }

    fn owned(cache: &Cache, uid: &str) -> Vec<String> {
        cache.owned_by(uid).iter().map(|o| o["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn a_cache_is_synced_by_a_list_and_by_nothing_else() {
        let cache = Cache::new();
        assert!(!cache.is_synced());
        cache.apply(WatchEvent::Applied(object("a", 1, None)));
        cache.apply(WatchEvent::Trouble { error: "x".into(), category: "timeout" });
        cache.apply(WatchEvent::Recovered);
        assert!(!cache.is_synced());
        assert_eq!(cache.apply(WatchEvent::Listed(vec![])).len(), 1);
        assert!(cache.is_synced());
    }

    #[test]
    fn a_kind_that_is_no_longer_served_leaves_nothing_behind_until_its_next_list() {
        let cache = Cache::new();
        assert!(!cache.is_absent(), "nobody has looked");
        cache.apply(WatchEvent::Listed(vec![object("a", 1, Some("u"))]));
        cache.set_absent();
        assert_eq!((cache.is_absent(), cache.is_synced(), owned(&cache, "u").len()), (true, false, 0));
        assert_eq!(names(&cache.apply(WatchEvent::Listed(vec![object("a", 1, Some("u"))]))), [("a", false)]);
        assert_eq!((cache.is_absent(), cache.is_synced()), (false, true));
    }

    #[test]
    fn an_unchanged_relist_reports_no_change() {
        let cache = Cache::new();
        let list = || vec![object("a", 1, Some("u")), object("b", 2, None)];
        assert_eq!(names(&cache.apply(WatchEvent::Listed(list()))), [("a", false), ("b", false)]);
        assert_eq!(cache.apply(WatchEvent::Listed(list())), []);
        assert_eq!(cache.apply(WatchEvent::Applied(object("a", 1, Some("u")))), []);
        assert_eq!(owned(&cache, "u"), ["a"]);
    }

    #[test]
    fn a_vanished_object_is_reported_after_a_relist() {
        let cache = Cache::new();
        cache.apply(WatchEvent::Listed(vec![object("a", 1, Some("u")), object("b", 2, Some("u"))]));
        let changes = cache.apply(WatchEvent::Listed(vec![object("b", 3, Some("u"))]));
        assert_eq!(names(&changes), [("b", false), ("a", true)]);
        assert_eq!(changes[1].owner.as_ref().map(|o| (o.kind.as_str(), o.uid.as_str())), Some(("DittoServer", "u")));
        assert_eq!(cache.get("ns", "a"), None);
        assert_eq!(owned(&cache, "u"), ["b"]);
    }

    #[test]
    fn an_event_adds_changes_and_removes_one_object() {
        let cache = Cache::new();
        cache.apply(WatchEvent::Listed(vec![object("a", 1, Some("u"))]));
        assert_eq!(names(&cache.apply(WatchEvent::Applied(object("b", 5, Some("u"))))), [("b", false)]);
        assert_eq!(owned(&cache, "u"), ["a", "b"]);
        assert_eq!(names(&cache.apply(WatchEvent::Deleted(object("a", 6, Some("u"))))), [("a", true)]);
        assert_eq!(cache.apply(WatchEvent::Deleted(object("a", 6, Some("u")))), []);
        assert_eq!(owned(&cache, "u"), ["b"]);
        assert_eq!(cache.all().len(), 1);
    }

    #[test]
    fn both_owners_hear_of_an_object_that_changes_hands() {
        let cache = Cache::new();
        cache.apply(WatchEvent::Applied(object("a", 1, Some("old"))));
        let changes = cache.apply(WatchEvent::Applied(object("a", 2, Some("new"))));
        let uids: Vec<_> = changes.iter().filter_map(|c| c.owner.as_ref()).map(|o| o.uid.as_str()).collect();
        assert_eq!(uids, ["new", "old"]);
        assert_eq!((owned(&cache, "old").len(), owned(&cache, "new").len()), (0, 1));
        cache.apply(WatchEvent::Applied(object("a", 3, None)));
        assert_eq!(owned(&cache, "new").len(), 0);
    }

    #[test]
    fn managed_fields_are_not_kept_and_the_rest_is() {
        let cache = Cache::new();
        let mut full = object("a", 1, None);
        full["spec"] = json!({"newer": ["than", "our", "types"]});
        cache.apply(WatchEvent::Applied(full));
        let kept = cache.get("ns", "a").expect("stored");
        assert!(kept["metadata"].get("managedFields").is_none());
        assert_eq!(kept["spec"]["newer"][2], "types");
    }

    #[test]
    fn an_object_tells_its_version_unread_and_stays_as_it_was_handed_out() {
        let cache = Cache::new();
        cache.apply(WatchEvent::Applied(object("a", 1, None)));
        let first = cache.object("ns", "a").expect("stored");
        cache.apply(WatchEvent::Applied(object("a", 2, None)));
        assert_eq!((first.version(), first.tree.get()), (Some("1"), None));
        assert_eq!(first["metadata"]["resourceVersion"], "1");
        assert_eq!(cache.object("ns", "a").expect("stored").version(), Some("2"));
        assert!(cache.object("ns", "b").is_none());
    }

    #[test]
    fn a_broken_item_does_not_stop_the_others() {
        let cache = Cache::new();
        let list = vec![json!({"metadata": 7}), json!(null), json!({"metadata": {"name": 3}}), object("a", 1, None)];
        assert_eq!(names(&cache.apply(WatchEvent::Listed(list))), [("a", false)]);
    }
}
