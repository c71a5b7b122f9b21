//! What to do about the PostgreSQL cluster of Percona's operator, and what its state means for the server.
//!
//! The cluster is made once and then left alone: it is Percona's operator and whoever runs the database that change it.
//! One thing is kept in step with the spec, the owner reference: with it the garbage collector takes the cluster, and
//! its data, along with the server, without it nobody does.

use serde_json::{Map, Value};

use super::object::{controller_uid, is_being_deleted};
use super::{Percona, ValidatedServer};
use crate::build::{INSTANCE_LABEL, labels, owner_reference, percona_cluster};

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
fn is_ours(server: &ValidatedServer, live: &Value) -> bool {
    match controller_uid(live) {
        Some(uid) => uid == server.uid,
        None => {
            live.pointer("/metadata/labels").and_then(|labels| labels.get(INSTANCE_LABEL)?.as_str())
                == Some(server.key.name.as_str())
        }
    }
}

/// The next step for the cluster of a server that stays.
pub fn plan_cluster(server: &ValidatedServer, percona: &Percona, live: Option<&Value>) -> ClusterStep {
    let Some(live) = live else { return ClusterStep::Create(percona_cluster(server, percona)) };
    if !is_ours(server, live) {
        return ClusterStep::NotOwned;
    }
    if is_being_deleted(live) {
        return ClusterStep::BeingDeleted;
    }
    match with_owner(server, live, percona.delete_with_server) {
        Some(changed) => ClusterStep::SetOwner(changed),
        None => ClusterStep::Keep,
    }
}

/// What becomes of the cluster when its server goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Parting {
    /// There is none that is ours.
    Nothing,
    /// It stays as it is.
    Orphaned,
    /// It stays: replace it by this first, or the garbage collector takes it.
    Release(Value),
    /// It goes: the garbage collector takes it.
    Taken,
    /// It goes: replace it by this first, or the garbage collector does not know.
    Claim(Value),
}

/// What becomes of the cluster of a server that is being deleted. Without `spec.percona` a cluster that is still there
/// stays.
pub fn part_with_cluster(server: &ValidatedServer, live: Option<&Value>) -> Parting {
    let Some(live) = live.filter(|live| is_ours(server, live) && !is_being_deleted(live)) else {
        return Parting::Nothing;
    };
    if server.percona.as_ref().is_some_and(|percona| percona.delete_with_server) {
        with_owner(server, live, true).map_or(Parting::Taken, Parting::Claim)
    } else {
        with_owner(server, live, false).map_or(Parting::Orphaned, Parting::Release)
    }
}

/// The cluster with or without our owner reference; None when that is how it is.
fn with_owner(server: &ValidatedServer, live: &Value, wanted: bool) -> Option<Value> {
    let owners = live.pointer("/metadata/ownerReferences").and_then(Value::as_array).cloned().unwrap_or_default();
    let is_server = |owner: &Value| owner.get("uid").and_then(Value::as_str) == Some(server.uid.as_str());
    if owners.iter().any(is_server) == wanted {
        return None;
    }
    let mut changed = live.clone();
    let mut owners: Vec<Value> = owners.into_iter().filter(|owner| !is_server(owner)).collect();
    if wanted {
        owners.push(serde_json::to_value(owner_reference(server)).unwrap_or_default());
    }
    let metadata = changed.get_mut("metadata")?.as_object_mut()?;
    // By its label it is known when no owner says whose it is; one that the Go operator made has none.
    let known = metadata.entry("labels").or_insert_with(|| Value::Object(Map::new()));
    if let Some(known) = known.as_object_mut() {
        known.extend(labels(server).into_iter().map(|(key, value)| (key, Value::String(value))));
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
    use crate::fixtures::percona_server;

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
        assert_eq!(part_with_cluster(&server, Some(&foreign)), Parting::Nothing);
        foreign["metadata"].as_object_mut().unwrap().remove("ownerReferences");
        foreign["metadata"]["labels"] = json!({"instance": "others"});
        assert_eq!(plan(&server, Some(&foreign)), ClusterStep::NotOwned);
    }

    #[test]
    fn it_stays_when_its_server_goes_unless_the_spec_says_otherwise() {
        let (kept, taken) = (server(false), server(true));
        assert_eq!(part_with_cluster(&kept, None), Parting::Nothing);
        assert_eq!(part_with_cluster(&kept, Some(&stored(&kept))), Parting::Orphaned);
        assert_eq!(part_with_cluster(&kept, Some(&stored(&taken))), Parting::Release(stored(&kept)));
        assert_eq!(part_with_cluster(&taken, Some(&stored(&taken))), Parting::Taken);
        assert_eq!(part_with_cluster(&taken, Some(&stored(&kept))), Parting::Claim(stored(&taken)));
        let mut without = taken.clone();
        without.percona = None;
        assert_eq!(part_with_cluster(&without, Some(&stored(&kept))), Parting::Orphaned);
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
