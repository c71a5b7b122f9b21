//! A Kubernetes API server in memory, over [`scripted::Server`](crate::cluster::scripted::Server).
//!
//! It keeps objects as the real one does in what the operator relies on: a resourceVersion that grows, a uid and a
//! generation for each object, conflicts on a stale resourceVersion and on another uid, a delete that finalizers hold
//! up, a status that only its own path changes. Events are taken and kept apart. A request for anything else fails
//! the test. Requests are named `VERB Kind name` (`PUT StatefulSet files`, `PATCH DittoServer files`), and faults and
//! counts go by such a name or by its beginning.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::cluster::scripted::{Asked, Reply, Server, failure};
use crate::cluster::{Kind, NOTE_ANNOTATION};
use crate::reconcile::meta;

/// Every test's namespace.
pub(crate) const NAMESPACE: &str = "team";

/// What goes wrong with a request.
pub(crate) enum Fault {
    /// This status and reason; nothing is done.
    Status(u16, &'static str),
    /// No answer ever; nothing is done.
    Hang,
    /// It is done, and answered that much later.
    Late(Duration),
    /// Somebody else changes the object just before.
    Raced(Box<dyn Fn(&mut Value) + Send>),
}

struct Rule {
    name: String,
    left: usize,
    fault: Fault,
}

type Hook = Box<dyn Fn(&mut Value) + Send>;

#[derive(Default)]
struct Store {
    objects: BTreeMap<(Kind, String), Value>,
    version: u64,
    rules: Vec<Rule>,
    /// Changes every object of a kind as it is stored, as an admission webhook or a defaulter does.
    hooks: BTreeMap<Kind, Hook>,
    events: Vec<Value>,
    /// Events of others, as a LIST answers them.
    mishaps: Vec<Value>,
    unexpected: BTreeSet<String>,
}

/// The server. A clone is the same one.
#[derive(Clone)]
pub(crate) struct Api {
    store: Arc<Mutex<Store>>,
    server: Server,
}

impl Api {
    /// One without objects.
    pub(crate) fn new() -> Self {
        let store = Arc::new(Mutex::new(Store::default()));
        let answering = store.clone();
        let server = Server::new(move |asked, _| lock(&answering).answer(asked));
        Self { store, server }
    }

    /// A client for it, under the usual deadlines.
    pub(crate) fn client(&self) -> kube::Client {
        self.server.client()
    }

    /// Stores an object, as somebody else's create would, and returns it.
    pub(crate) fn put(&self, kind: Kind, mut object: Value) -> Value {
        object["metadata"]["namespace"] = json!(NAMESPACE);
        lock(&self.store).insert(kind, object)
    }

    /// Changes an object, as somebody else's update would.
    #[track_caller]
    pub(crate) fn change(&self, kind: Kind, name: &str, change: impl FnOnce(&mut Value)) {
        let mut store = lock(&self.store);
        let mut object = store.get(kind, name).cloned().unwrap_or_else(|| panic!("no {kind} {name}"));
        change(&mut object);
        store.update(kind, object);
    }

    /// Takes an object out.
    #[track_caller]
    pub(crate) fn remove(&self, kind: Kind, name: &str) {
        let gone = lock(&self.store).objects.remove(&(kind, name.to_owned()));
        assert!(gone.is_some(), "no {kind} {name}");
    }

    /// The object as it stands.
    #[track_caller]
    pub(crate) fn get(&self, kind: Kind, name: &str) -> Value {
        self.find(kind, name).unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    /// The object, if there is one.
    pub(crate) fn find(&self, kind: Kind, name: &str) -> Option<Value> {
        lock(&self.store).get(kind, name).cloned()
    }

    /// All objects of a kind, by name.
    pub(crate) fn all(&self, kind: Kind) -> Vec<Value> {
        lock(&self.store).objects.iter().filter(|((known, _), _)| *known == kind).map(|(_, o)| o.clone()).collect()
    }

    /// The next `count` requests whose name begins so have this fault.
    pub(crate) fn fail(&self, count: usize, name: &str, fault: Fault) {
        lock(&self.store).rules.push(Rule { name: name.to_owned(), left: count, fault });
    }

    /// No faults any more.
    pub(crate) fn heal(&self) {
        lock(&self.store).rules.clear();
    }

    /// Changes what is stored of a kind from now on.
    pub(crate) fn on_write(&self, kind: Kind, hook: impl Fn(&mut Value) + Send + 'static) {
        lock(&self.store).hooks.insert(kind, Box::new(hook));
    }

    /// All requests so far but those for events; fails the test when one was not expected.
    pub(crate) fn asked(&self) -> Vec<(String, Asked)> {
        let unexpected = lock(&self.store).unexpected.clone();
        assert!(unexpected.is_empty(), "unexpected: {unexpected:#?}");
        self.server.asked().into_iter().filter_map(|asked| Some((name_of(&asked)?, asked))).collect()
    }

    /// The requests whose name begins so.
    pub(crate) fn requests(&self, name: &str) -> Vec<Asked> {
        self.asked().into_iter().filter(|(known, _)| known.starts_with(name)).map(|(_, asked)| asked).collect()
    }

    /// How many there were.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.requests(name).len()
    }

    /// The names of all writes so far, in order.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.asked().into_iter().map(|(name, _)| name).filter(|name| !name.starts_with("GET ")).collect()
    }

    /// How often the Events of others were listed.
    pub(crate) fn lists_of_events(&self) -> usize {
        let asked = self.server.asked();
        asked.iter().filter(|asked| asked.method == Method::GET && asked.path.ends_with("/events")).count()
    }

    /// Reason and note of every event, in order; of one that counts a former one up the newest note.
    pub(crate) fn events(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let note = |event: &Value| match text(&event["note"]) {
            first if first.is_empty() => text(&event["metadata"]["annotations"][NOTE_ANNOTATION]),
            first => first,
        };
        lock(&self.store).events.iter().map(|event| (text(&event["reason"]), note(event))).collect()
    }

    /// Says why the StatefulSet of this uid has no pod, as its controller does, at this time (RFC 3339).
    pub(crate) fn mishap(&self, uid: &str, note: &str, at: &str) {
        lock(&self.store).mishaps.push(json!({
            "metadata": {"name": format!("{uid}.{at}"), "namespace": NAMESPACE},
            "regarding": {"kind": "StatefulSet", "name": "files", "uid": uid}, "reason": "FailedCreate",
            "note": note, "type": "Warning", "eventTime": null, "deprecatedLastTimestamp": at,
        }));
    }

    /// The reasons of every event, in order.
    pub(crate) fn reasons(&self) -> Vec<String> {
        self.events().into_iter().map(|(reason, _)| reason).collect()
    }
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A path taken apart.
struct Place {
    kind: Kind,
    name: Option<String>,
    status: bool,
}

fn place(path: &str) -> Option<Place> {
    Kind::ALL.into_iter().find_map(|kind| {
        let collection = kind.collection_path(NAMESPACE)?;
        let rest = path.strip_prefix(&collection)?;
        let (name, status) = match rest.strip_suffix("/status") {
            Some(name) => (name, true),
            None => (rest, false),
        };
        match name.strip_prefix('/') {
            Some(name) if !name.is_empty() && !name.contains('/') => {
                Some(Place { kind, name: Some(name.to_owned()), status })
            }
            None if name.is_empty() => Some(Place { kind, name: None, status }),
            _ => None,
        }
    })
}

/// `VERB Kind name` of a request; None for an event.
fn name_of(asked: &Asked) -> Option<String> {
    let Place { kind, name, .. } = place(&asked.path)?;
    let name = name.unwrap_or_else(|| meta(&asked.body, "name").to_owned());
    Some(format!("{} {kind} {name}", asked.method))
}

fn refused(code: u16, reason: &str) -> Reply {
    Reply::status(code, reason)
}

impl Store {
    fn get(&self, kind: Kind, name: &str) -> Option<&Value> {
        self.objects.get(&(kind, name.to_owned()))
    }

    fn stamp(&mut self, object: &mut Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
    }

    fn insert(&mut self, kind: Kind, mut object: Value) -> Value {
        object["apiVersion"] = json!(kind.api_version());
        object["kind"] = json!(kind.name());
        if let Some(hook) = self.hooks.get(&kind) {
            hook(&mut object);
        }
        self.stamp(&mut object);
        if meta(&object, "uid").is_empty() {
            object["metadata"]["uid"] = json!(format!("made-{}", self.version));
        }
        object["metadata"]["generation"] = json!(1);
        self.objects.insert((kind, meta(&object, "name").to_owned()), object.clone());
        object
    }

    /// Stores another state of an object that is there.
    fn update(&mut self, kind: Kind, mut object: Value) -> Value {
        if let Some(hook) = self.hooks.get(&kind) {
            hook(&mut object);
        }
        let key = (kind, meta(&object, "name").to_owned());
        let old = self.objects.get(&key).cloned().unwrap_or_default();
        if object != old {
            if object["spec"] != old["spec"] {
                object["metadata"]["generation"] = json!(old["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
            }
            self.stamp(&mut object);
        }
        self.objects.insert(key, object.clone());
        object
    }

    fn answer(&mut self, asked: &Asked) -> Reply {
        if asked.path.starts_with("/apis/events.k8s.io/v1/namespaces/team/events") {
            if asked.method == Method::GET {
                let items = &self.mishaps;
                return Reply::Json(
                    200,
                    json!({"apiVersion": "events.k8s.io/v1", "kind": "EventList", "metadata": {}, "items": items}),
                );
            }
            self.events.push(asked.body.clone());
            let mut event = asked.body.clone();
            event["metadata"]["name"] = json!("event");
            return Reply::Json(201, event);
        }
        let (Some(place), Some(name)) = (place(&asked.path), name_of(asked)) else {
            self.unexpected.insert(format!("{} {}", asked.method, asked.path));
            return Reply::Unexpected;
        };
        let rule = self.rules.iter_mut().find(|rule| rule.left > 0 && name.starts_with(&rule.name));
        let mut late = None;
        if let Some(rule) = rule {
            rule.left -= 1;
            match &rule.fault {
                Fault::Status(code, reason) => return refused(*code, reason),
                Fault::Hang => return Reply::Hang,
                Fault::Late(delay) => late = Some(*delay),
                Fault::Raced(change) => {
                    let mut object = place.name.as_ref().and_then(|n| self.objects.get(&(place.kind, n.clone())));
                    if let Some(object) = object.take() {
                        let mut object = object.clone();
                        change(&mut object);
                        self.update(place.kind, object);
                    }
                }
            }
        }
        let reply = self.serve(&place, asked);
        match late {
            Some(delay) => Reply::Late(delay, Box::new(reply)),
            None => reply,
        }
    }

    fn serve(&mut self, place: &Place, asked: &Asked) -> Reply {
        let kind = place.kind;
        let Some(name) = &place.name else {
            return match asked.method.as_str() {
                "POST" => self.create(kind, &asked.body),
                "GET" => self.list(kind, asked),
                _ => self.strange(asked),
            };
        };
        let Some(stored) = self.get(kind, name).cloned() else { return refused(404, "NotFound") };
        match (asked.method.as_str(), place.status) {
            ("GET", false) => Reply::Json(200, stored),
            ("PUT", false) => {
                // A replace without the version that was read would overwrite whatever came meanwhile.
                if meta(&asked.body, "resourceVersion").is_empty() {
                    return self.strange(asked);
                }
                if ["resourceVersion", "uid"].iter().any(|field| meta(&asked.body, field) != meta(&stored, field)) {
                    return refused(409, "Conflict");
                }
                let mut object = asked.body.clone();
                if let Some(status) = stored.get("status") {
                    object["status"] = status.clone();
                }
                Reply::Json(200, self.update(kind, object))
            }
            ("DELETE", false) => {
                match asked.body.pointer("/preconditions/uid").and_then(Value::as_str) {
                    None => return self.strange(asked),
                    Some(uid) if uid != meta(&stored, "uid") => return refused(409, "Conflict"),
                    Some(_) => {}
                }
                if stored["metadata"]["finalizers"].as_array().is_some_and(|held| !held.is_empty()) {
                    let mut object = stored;
                    object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                    return Reply::Json(200, self.update(kind, object));
                }
                self.objects.remove(&(kind, name.clone()));
                Reply::Json(200, json!({"kind": "Status", "status": "Success"}))
            }
            ("PATCH", true) if asked.content_type == "application/merge-patch+json" => {
                if asked.body["metadata"]["uid"] != stored["metadata"]["uid"] {
                    return refused(409, "Conflict");
                }
                let mut object = stored;
                for (field, value) in asked.body["status"].as_object().into_iter().flatten() {
                    object["status"][field] = value.clone();
                }
                if let Some(status) = object["status"].as_object_mut() {
                    status.retain(|_, value| !value.is_null());
                }
                Reply::Json(200, self.update(kind, object))
            }
            // The size that a claim asks for, of the object that was read.
            ("PATCH", false) if asked.content_type == "application/merge-patch+json" && kind == Kind::Claim => {
                if ["resourceVersion", "uid"].iter().any(|field| meta(&asked.body, field) != meta(&stored, field)) {
                    return refused(409, "Conflict");
                }
                let mut object = stored;
                object["spec"]["resources"]["requests"] = asked.body["spec"]["resources"]["requests"].clone();
                let manager = asked.query.strip_prefix("fieldManager=").unwrap_or_default();
                object["metadata"]["managedFields"] = json!([{"manager": manager, "operation": "Update",
                    "fieldsV1": {"f:spec": {"f:resources": {"f:requests": {"f:storage": {}}}}}}]);
                Reply::Json(200, self.update(kind, object))
            }
            ("PATCH", false) if asked.content_type == "application/json-patch+json" => {
                self.json_patch(kind, stored, &asked.body)
            }
            _ => self.strange(asked),
        }
    }

    /// All of a kind with our label, the only selector that anybody asks for; of servers all.
    fn list(&mut self, kind: Kind, asked: &Asked) -> Reply {
        let labelled = asked.query.contains("labelSelector=app%3Ddittofs-server");
        if labelled == (kind == Kind::DittoServer) {
            return self.strange(asked);
        }
        let of_kind = self.objects.iter().filter(|((known, _), _)| *known == kind).map(|(_, object)| object);
        let ours = |object: &&Value| !labelled || object["metadata"]["labels"]["app"] == "dittofs-server";
        let items: Vec<&Value> = of_kind.filter(ours).collect();
        Reply::Json(200, json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}))
    }

    fn create(&mut self, kind: Kind, object: &Value) -> Reply {
        let mut object = object.clone();
        object["metadata"]["namespace"] = json!(NAMESPACE);
        match self.get(kind, meta(&object, "name")) {
            Some(there) if !meta(there, "deletionTimestamp").is_empty() => {
                let mut body = failure(409, "AlreadyExists");
                body["message"] = json!("object is being deleted: it already exists");
                Reply::Json(409, body)
            }
            Some(_) => refused(409, "AlreadyExists"),
            None => Reply::Json(201, self.insert(kind, object)),
        }
    }

    /// The operations that the operator uses: `test`, `remove` from a list, and `add` of a list or to its end.
    fn json_patch(&mut self, kind: Kind, mut object: Value, patch: &Value) -> Reply {
        for step in patch.as_array().into_iter().flatten() {
            let place = step["path"].as_str().unwrap_or_default();
            match step["op"].as_str() {
                Some("test") if object.pointer(place) == Some(&step["value"]) => {}
                Some("test") => return refused(422, "Invalid"),
                Some("add") => {
                    if let Some(list) = place.strip_suffix("/-") {
                        let Some(Value::Array(list)) = object.pointer_mut(list) else {
                            return refused(422, "Invalid");
                        };
                        list.push(step["value"].clone());
                    } else {
                        let (parent, name) = place.rsplit_once('/').unwrap_or_default();
                        if let Some(parent) = object.pointer_mut(parent) {
                            parent[name] = step["value"].clone();
                        }
                    }
                }
                _ => {
                    let (list, index) = place.rsplit_once('/').unwrap_or_default();
                    if let (Some(Value::Array(list)), Ok(index)) = (object.pointer_mut(list), index.parse()) {
                        let _: Value = list.remove(index);
                    }
                }
            }
        }
        let released = object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty);
        if released && !meta(&object, "deletionTimestamp").is_empty() {
            self.objects.remove(&(kind, meta(&object, "name").to_owned()));
            return Reply::Json(200, object);
        }
        Reply::Json(200, self.update(kind, object))
    }

    fn strange(&mut self, asked: &Asked) -> Reply {
        self.unexpected.insert(format!("{} {} {}", asked.method, asked.path, asked.content_type));
        Reply::Unexpected
    }
}
