//! What to do about the PostgreSQL cluster of Percona's operator, and what its state means for the server.
//!
//! The cluster is made once and then left alone: it is Percona's operator and whoever runs the database that change it.
//! One thing is kept in step with the spec, the owner reference: with it the garbage collector takes the cluster, and
//! its data, along with the server, without it nobody does. It is looked at once more when the server goes, and when
//! `spec.percona` is switched off in one that stays, by what the spec says then ([`Leaver`]).

use serde_json::{Map, Value};

use super::object::{controller_uid, is_being_deleted, meta};
use super::{Names, Percona, ServerKey, ValidatedServer};
use crate::build::{INSTANCE_LABEL, labels_of, owner_reference_of, percona_cluster};

/// What to write.
#[derive(Clone, Debug, PartialEq)]
pub enum ClusterStep {
    /// There is none: create this.
    Create(Value),
    /// Replace it by this, which differs in its owner references alone.
    SetOwner(Value),
    /// It is as it should be.
    Keep,
    /// It is on its way out; another one is made when it is gone.
    BeingDeleted,
    /// A cluster of that name is somebody else's.
    NotOwned,
}

/// Whether a cluster is the server's: its controller is the server, or it has none and bears the server's label, as one
/// that outlived a server of that name does.
fn is_ours(name: &str, uid: &str, live: &Value) -> bool {
    match controller_uid(live) {
        Some(owner) => owner == uid,
        None => live.pointer("/metadata/labels").and_then(|labels| labels.get(INSTANCE_LABEL)?.as_str()) == Some(name),
    }
}

/// The next step for the cluster of a server that stays.
pub fn plan_cluster(server: &ValidatedServer, percona: &Percona, live: Option<&Value>) -> ClusterStep {
    let Some(live) = live else { return ClusterStep::Create(percona_cluster(server, percona)) };
    let (name, uid) = (server.key.name.as_str(), server.uid.as_str());
    // Whosever it was: of a server of that name that went, mostly.
    if is_being_deleted(live) {
        return ClusterStep::BeingDeleted;
    }
    if !is_ours(name, uid, live) {
        return ClusterStep::NotOwned;
    }
    match with_owner(name, uid, live, percona.delete_with_server) {
        Some(changed) => ClusterStep::SetOwner(changed),
        None => ClusterStep::Keep,
    }
}

/// A server that has no use for its cluster any more: it is being deleted, or `spec.percona` is not enabled.
///
/// Read from the object as it is, since a server whose spec is not valid goes, too.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each says one thing about the server, and none rules out another")]
pub struct Leaver {
    /// Namespace and name of the server.
    pub key: ServerKey,
    /// `metadata.uid` of the server.
    pub uid: String,
    /// The garbage collector was asked to leave behind what the server owns (`--cascade=orphan`).
    pub orphans: bool,
    /// `spec.percona.deleteWithServer`, whether or not Percona is enabled.
    takes_along: bool,
    /// Whether there may be a cluster.
    had_one: bool,
    /// Whether the server is being deleted.
    pub deleting: bool,
}

impl Leaver {
    /// By the DittoServer as it was read.
    pub fn of(server: &Value) -> Self {
        let percona = server.pointer("/spec/percona").filter(|percona| percona.is_object());
        let finalizers = server.pointer("/metadata/finalizers").and_then(Value::as_array);
        let named = server.pointer("/status/perconaClusterName").and_then(Value::as_str);
        let deleting = is_being_deleted(server);
        Self {
            key: ServerKey::new(meta(server, "namespace"), meta(server, "name")),
            uid: meta(server, "uid").to_owned(),
            orphans: finalizers.into_iter().flatten().any(|finalizer| finalizer == "orphan"),
            takes_along: percona.and_then(|percona| percona.get("deleteWithServer")?.as_bool()).unwrap_or(false),
            had_one: percona.is_some() && deleting || named.is_some_and(|name| !name.is_empty()),
            deleting,
        }
    }

    /// Whether its cluster is to be looked for. A server that never had one is spared the question.
    pub fn had_cluster(&self) -> bool {
        self.had_one
    }

    /// Name of the cluster.
    pub fn cluster(&self) -> String {
        Names::new(&self.key.name).percona_cluster()
    }

    /// What is told when the cluster stays: why, and how it is deleted.
    pub fn stays_note(&self) -> String {
        let (cluster, namespace) = (self.cluster(), &self.key.namespace);
        let why = match (self.deleting, self.orphans) {
            (true, true) => "the deletion leaves behind what the server owned",
            (true, false) => "spec.percona.deleteWithServer is not set",
            (false, _) => "spec.percona is not enabled any more",
        };
        format!(
            "PerconaPGCluster {cluster} stays with its data: {why}; when nobody needs it: kubectl delete \
             perconapgclusters.pgv2.percona.com {cluster} -n {namespace}"
        )
    }

    /// What is told when the cluster goes with its server.
    pub fn goes_note(&self) -> String {
        format!(
            "PerconaPGCluster {} goes with the server: spec.percona.deleteWithServer is set; what becomes of its volumes \
             and backups is for Percona's operator to decide",
            self.cluster()
        )
    }
}

/// What becomes of the cluster that its server has no use for.
#[derive(Clone, Debug, PartialEq)]
pub enum Parting {
    /// There is none that is ours.
    Nothing,
    /// It stays as it is.
    Orphaned,
    /// It stays: replace it by this first, or the garbage collector takes it with the server.
    Release(Value),
    /// It goes with the server: the garbage collector takes it.
    Taken,
    /// It goes with the server: replace it by this first, or the garbage collector does not know.
    Claim(Value),
}

/// What becomes of the cluster of a server that is being deleted or has Percona switched off. Nothing but
/// `deleteWithServer` lets it go, and that only with the server.
pub fn part_with_cluster(server: &Leaver, live: Option<&Value>) -> Parting {
    let (name, uid) = (server.key.name.as_str(), server.uid.as_str());
    let Some(live) = live.filter(|live| is_ours(name, uid, live) && !is_being_deleted(live)) else {
        return Parting::Nothing;
    };
    if server.takes_along && !server.orphans {
        with_owner(name, uid, live, true).map_or(Parting::Taken, Parting::Claim)
    } else {
        with_owner(name, uid, live, false).map_or(Parting::Orphaned, Parting::Release)
    }
}

/// The cluster with or without our owner reference; None when that is how it is.
fn with_owner(name: &str, uid: &str, live: &Value, wanted: bool) -> Option<Value> {
    let owners = live.pointer("/metadata/ownerReferences").and_then(Value::as_array).cloned().unwrap_or_default();
    let is_server = |owner: &Value| owner.get("uid").and_then(Value::as_str) == Some(uid);
    if owners.iter().any(is_server) == wanted {
        return None;
    }
    let mut changed = live.clone();
    let mut owners: Vec<Value> = owners.into_iter().filter(|owner| !is_server(owner)).collect();
    if wanted {
        owners.push(serde_json::to_value(owner_reference_of(name, uid)).unwrap_or_default());
    }
    let metadata = changed.get_mut("metadata")?.as_object_mut()?;
    // By its label it is known when no owner says whose it is; one that the Go operator made has none.
    let known = metadata.entry("labels").or_insert_with(|| Value::Object(Map::new()));
    if let Some(known) = known.as_object_mut() {
        known.extend(labels_of(name).into_iter().map(|(key, value)| (key, Value::String(value))));
    }
    if owners.is_empty() {
        metadata.remove("ownerReferences");
    } else {
        metadata.insert("ownerReferences".to_owned(), Value::Array(owners));
    }
    Some(changed)
}

/// How the cluster does, for `.status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseFact {
    /// Name of the cluster.
    pub cluster: String,
    /// Why it cannot be used, as reason and words; None when it can.
    pub problem: Option<(&'static str, String)>,
}

impl DatabaseFact {
    /// The cluster can be used.
    pub fn ready(cluster: String) -> Self {
        Self { cluster, problem: None }
    }

    /// The cluster cannot be used.
    pub fn not_ready(cluster: String, reason: &'static str, text: String) -> Self {
        Self { cluster, problem: Some((reason, text)) }
    }

    /// The API server does not serve the kind.
    pub fn unserved(cluster: String) -> Self {
        let text = "the API server does not serve PerconaPGCluster (pgv2.percona.com/v2); install Percona's operator for \
                    PostgreSQL, 2.8 or newer";
        Self::not_ready(cluster, "PerconaMissing", text.to_owned())
    }

    /// By the state that Percona's operator reports.
    pub fn of(cluster: String, live: &Value) -> Self {
        match live.pointer("/status/state").and_then(Value::as_str) {
            Some("ready") => Self::ready(cluster),
            state => {
                let state = state.filter(|state| !state.is_empty()).unwrap_or("not reported yet");
                let text =
                    format!("the state of PerconaPGCluster {cluster} is {state}; the server waits until it is ready");
                Self::not_ready(cluster, "PerconaNotReady", text)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::crd::FINALIZER;
    use crate::fixtures::percona_server;
    use crate::reconcile::deletion::has_finalizer;

    fn plan(server: &ValidatedServer, live: Option<&Value>) -> ClusterStep {
        plan_cluster(server, server.percona.as_ref().unwrap(), live)
    }

    fn server(delete: bool) -> ValidatedServer {
        let mut server = percona_server("files");
        if let Some(percona) = &mut server.percona {
            percona.delete_with_server = delete;
        }
        server
    }

    fn stored(server: &ValidatedServer) -> Value {
        let ClusterStep::Create(mut object) = plan(server, None) else { panic!("none is there") };
        object["metadata"]["uid"] = json!("uid-of-the-cluster");
        object["metadata"]["resourceVersion"] = json!("7");
        object
    }

    #[test]
    fn it_is_made_once_and_its_spec_is_never_fought_over() {
        let (server, mut live) = (server(false), stored(&server(false)));
        assert_eq!(plan(&server, Some(&live)), ClusterStep::Keep);
        live["spec"]["instances"][0]["replicas"] = json!(3);
        live["spec"]["postgresVersion"] = json!(17);
        live["metadata"]["labels"]["theirs"] = json!("x");
        assert_eq!(plan(&server, Some(&live)), ClusterStep::Keep);
        live["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(plan(&server, Some(&live)), ClusterStep::BeingDeleted);
    }

    #[test]
    fn the_owner_reference_follows_delete_with_server_and_nothing_else_changes() {
        let (kept, taken) = (server(false), server(true));
        let orphan = stored(&kept);
        let ClusterStep::SetOwner(owned) = plan(&taken, Some(&orphan)) else { panic!("no step") };
        assert_eq!(owned["metadata"]["ownerReferences"][0]["uid"], taken.uid);
        assert_eq!(owned["spec"], orphan["spec"]);
        assert_eq!(owned["metadata"]["resourceVersion"], "7");
        assert_eq!(plan(&taken, Some(&owned)), ClusterStep::Keep);
        assert_eq!(plan(&kept, Some(&owned)), ClusterStep::SetOwner(orphan), "as the Go operator leaves it");
        let mut bare = owned.clone();
        bare["metadata"].as_object_mut().unwrap().remove("labels");
        let ClusterStep::SetOwner(released) = plan(&kept, Some(&bare)) else { panic!("no step") };
        assert_eq!(plan(&kept, Some(&released)), ClusterStep::Keep, "it is still known as ours");
        let mut shared = stored(&kept);
        shared["metadata"]["ownerReferences"] = json!([{"kind": "Team", "uid": "theirs"}]);
        let ClusterStep::SetOwner(both) = plan(&taken, Some(&shared)) else { panic!("no step") };
        assert_eq!(both["metadata"]["ownerReferences"][0], json!({"kind": "Team", "uid": "theirs"}));
        assert_eq!(plan(&kept, Some(&both)), ClusterStep::SetOwner(shared));
    }

    #[test]
    fn a_cluster_of_our_name_that_is_somebody_elses_is_left_alone() {
        let server = server(true);
        let mut foreign = stored(&server);
        foreign["metadata"]["ownerReferences"][0]["uid"] = json!("another");
        assert_eq!(plan(&server, Some(&foreign)), ClusterStep::NotOwned);
        let mut going = foreign.clone();
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(plan(&server, Some(&going)), ClusterStep::BeingDeleted, "such as that of a predecessor");
        assert_eq!(part_with_cluster(&leaver(&json!({"deleteWithServer": true})), Some(&foreign)), Parting::Nothing);
        foreign["metadata"].as_object_mut().unwrap().remove("ownerReferences");
        foreign["metadata"]["labels"] = json!({"instance": "others"});
        assert_eq!(plan(&server, Some(&foreign)), ClusterStep::NotOwned);
    }

    fn leaving(percona: &Value) -> Value {
        let key = server(false).key;
        json!({
            "metadata": {
                "name": key.name, "namespace": key.namespace, "uid": server(false).uid,
                "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [FINALIZER],
            },
            "spec": {"percona": percona},
        })
    }

    fn leaver(percona: &Value) -> Leaver {
        Leaver::of(&leaving(percona))
    }

    #[test]
    fn it_stays_when_its_server_goes_unless_the_spec_says_otherwise() {
        let (orphan, owned) = (stored(&server(false)), stored(&server(true)));
        for percona in [json!({"enabled": true}), json!({"enabled": true, "deleteWithServer": false}), Value::Null] {
            let kept = leaver(&percona);
            assert_eq!(part_with_cluster(&kept, None), Parting::Nothing);
            assert_eq!(part_with_cluster(&kept, Some(&orphan)), Parting::Orphaned);
            assert_eq!(part_with_cluster(&kept, Some(&owned)), Parting::Release(orphan.clone()));
        }
        // Switched off before, and still to be taken along.
        for enabled in [true, false] {
            let taken = leaver(&json!({"enabled": enabled, "deleteWithServer": true}));
            assert_eq!(part_with_cluster(&taken, Some(&owned)), Parting::Taken);
            assert_eq!(part_with_cluster(&taken, Some(&orphan)), Parting::Claim(owned.clone()));
            let mut leaving = owned.clone();
            leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            assert_eq!(part_with_cluster(&taken, Some(&leaving)), Parting::Nothing, "it goes already");
        }
    }

    #[test]
    fn a_deletion_that_leaves_behind_what_the_server_owns_leaves_the_cluster_too() {
        let mut server_object = leaving(&json!({"enabled": true, "deleteWithServer": true}));
        server_object["metadata"]["finalizers"] = json!([FINALIZER, "orphan"]);
        let left = Leaver::of(&server_object);
        let (orphan, owned) = (stored(&server(false)), stored(&server(true)));
        assert_eq!(part_with_cluster(&left, Some(&owned)), Parting::Release(orphan.clone()));
        assert_eq!(part_with_cluster(&left, Some(&orphan)), Parting::Orphaned);
        assert!(left.stays_note().contains("leaves behind"), "{}", left.stays_note());
    }

    #[test]
    fn only_a_server_that_may_have_one_is_asked_for() {
        let had = |change: &dyn Fn(&mut Value)| {
            let mut server = leaving(&Value::Null);
            change(&mut server);
            Leaver::of(&server).had_cluster()
        };
        assert!(!had(&|_| {}));
        assert!(had(&|server| server["spec"]["percona"] = json!({"enabled": false})));
        assert!(had(&|server| server["status"] = json!({"perconaClusterName": "files-postgres"})));
        assert!(!had(&|server| server["status"] = json!({"perconaClusterName": ""})));
        let living = |server: &mut Value| server["metadata"]["deletionTimestamp"] = Value::Null;
        assert!(!had(&|server| {
            living(server);
            server["spec"]["percona"] = json!({"enabled": false});
        }));
        assert!(had(&|server| {
            living(server);
            server["status"] = json!({"perconaClusterName": "files-postgres"});
        }));
        assert!(
            has_finalizer(&leaving(&Value::Null)) && !has_finalizer(&json!({"metadata": {"finalizers": ["theirs"]}}))
        );
    }

    #[test]
    fn what_stays_is_named_with_the_way_to_delete_it() {
        let note = leaver(&json!({"enabled": true})).stays_note();
        let namespace = server(false).key.namespace;
        for part in [
            "PerconaPGCluster files-postgres stays with its data",
            "deleteWithServer is not set",
            &format!("kubectl delete perconapgclusters.pgv2.percona.com files-postgres -n {namespace}"),
        ] {
            assert!(note.contains(part), "{note}");
        }
        let mut living = leaving(&json!({"enabled": false}));
        living["metadata"]["deletionTimestamp"] = Value::Null;
        assert!(Leaver::of(&living).stays_note().contains("spec.percona is not enabled any more"));
        assert!(leaver(&json!({})).goes_note().contains("files-postgres goes with the server"));
    }

    #[test]
    fn only_the_state_ready_is_ready() {
        let of = |status: Value| DatabaseFact::of("c".to_owned(), &json!({"status": status})).problem;
        assert_eq!(of(json!({"state": "ready"})), None);
        for state in [json!({"state": "initializing"}), json!({"state": "error"}), json!({"state": ""}), json!({})] {
            assert_eq!(of(state).unwrap().0, "PerconaNotReady");
        }
    }
}
