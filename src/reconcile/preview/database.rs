//! The PostgreSQL cluster of Percona's operator in the preview.

use serde_json::Value;

use super::{Action, FOREIGN, GOING, Live, LiveDatabase, Preview, told};
use crate::reconcile::ValidatedServer;
use crate::reconcile::percona::{ClusterStep, DatabaseFact, Leaver, Parting, part_with_cluster, plan_cluster};

const KIND: &str = "PerconaPGCluster";

/// Adds what would happen to the cluster of a server that has one; says whether the server waits for it.
pub(super) fn preview(server: &ValidatedServer, live: &Live, seen: &mut Preview) -> bool {
    let Some(wanted) = &server.percona else {
        if let (Some(leaver), LiveDatabase::There(cluster)) = (&live.leaver, &live.database) {
            let_go(leaver, cluster, seen);
        }
        return false;
    };
    let name = server.names().percona_cluster();
    let there = match &live.database {
        LiveDatabase::Unserved => return waits(DatabaseFact::unserved(name), seen),
        LiveDatabase::Absent => None,
        LiveDatabase::There(cluster) => Some(cluster.as_ref()),
    };
    let blocked = match plan_cluster(server, wanted, there) {
        ClusterStep::Keep => None,
        ClusterStep::Create(object) => {
            let size = &object["spec"]["instances"][0]["dataVolumeClaimSpec"]["resources"]["requests"]["storage"];
            let size = size.as_str().unwrap_or_default();
            let what = format!("{} instances of {size}, made once and never changed after", wanted.replicas);
            seen.add(KIND, &name, Action::Create, vec![what]);
            None
        }
        ClusterStep::SetOwner(object) => {
            let how = if wanted.delete_with_server { "goes with the server" } else { "outlives the server" };
            let mut what = vec![format!("it {how}")];
            what.extend(told(there.unwrap_or(&Value::Null), &object));
            seen.add(KIND, &name, Action::Update, what);
            None
        }
        ClusterStep::BeingDeleted => Some(GOING),
        ClusterStep::NotOwned => Some(FOREIGN),
    };
    if let Some(why) = blocked {
        seen.add(KIND, &name, Action::Blocked, vec![why.to_owned()]);
        return true;
    }
    waits(DatabaseFact::of(name, there.unwrap_or(&Value::Null)), seen)
}

/// What becomes of the cluster of a server that stays and has Percona switched off.
fn let_go(leaver: &Leaver, cluster: &Value, seen: &mut Preview) {
    let (object, how) = match part_with_cluster(leaver, Some(cluster)) {
        Parting::Nothing | Parting::Orphaned | Parting::Taken => return,
        Parting::Release(object) => (object, leaver.stays_note()),
        Parting::Claim(object) => (object, leaver.goes_note()),
    };
    let what = std::iter::once(how).chain(told(cluster, &object)).collect();
    seen.add(KIND, &leaver.cluster(), Action::Update, what);
}

/// Whether the server waits for its database; why is among the warnings.
fn waits(fact: DatabaseFact, seen: &mut Preview) -> bool {
    let problem = fact.problem.map(|(_, text)| text);
    let waits = problem.is_some();
    seen.warnings.extend(problem);
    waits
}
