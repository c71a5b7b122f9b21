//! How the server's pod comes up, as status tells it.

use serde_json::Value;

use super::Observed;
use crate::reconcile::pod::{PodSeen, REVISION_LABEL, Trouble, Why, refused, standing};

/// What the pod says, of a server that is to have one.
pub(super) struct Coming {
    /// Whether it is ready; None when pods were not looked at.
    ready: Option<bool>,
    /// Whether there is one.
    pub(super) there: bool,
    /// What stands in the way of its being ready.
    pub(super) trouble: Option<Trouble>,
}

impl Coming {
    pub(super) fn of(seen: &Observed<'_>, wanted: i64) -> Self {
        let wants = wanted > 0 && seen.stateful_set.is_some();
        match seen.pod {
            PodSeen::Unknown => Self { ready: None, there: false, trouble: None },
            PodSeen::Absent(note) => {
                let trouble = note.filter(|_| wants).map(refused);
                Self { ready: Some(false), there: false, trouble }
            }
            PodSeen::There(pod) => {
                let now = standing(pod, seen.now);
                let mut trouble = now.trouble.filter(|_| wants);
                if let (Some(trouble), Some(set)) = (&mut trouble, seen.stateful_set)
                    && trouble.why.is_some()
                    && waits_for_its_end(set, pod)
                {
                    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
                    trouble.detail = format!(
                        "{} (the template was changed since, but Kubernetes replaces no pod of this StatefulSet that never \
                         got ready: kubectl delete pod {name})",
                        trouble.detail
                    );
                }
                Self { ready: Some(now.ready), there: true, trouble }
            }
        }
    }

    /// Why the server cannot come up; None while it may.
    pub(super) fn failed(&self) -> Option<Why> {
        self.trouble.as_ref().and_then(|trouble| trouble.why)
    }

    /// So many ready pods, and none when the pod itself says otherwise.
    pub(super) fn at_most(&self, ready: i64) -> i64 {
        if self.ready == Some(false) { 0 } else { ready }
    }
}

/// Whether the pod is of an older template and nobody will replace it: under `OrderedReady`, which a StatefulSet of the
/// Go operator may have, its controller waits for a broken pod to get ready first.
fn waits_for_its_end(set: &Value, pod: &Value) -> bool {
    let held = set.pointer("/spec/updateStrategy/rollingUpdate/partition").and_then(Value::as_i64).unwrap_or(0) > 0;
    let update = set.pointer("/status/updateRevision").and_then(Value::as_str);
    !held
        && set["spec"]["podManagementPolicy"] != "Parallel"
        && update.is_some()
        && pod["metadata"]["labels"][REVISION_LABEL].as_str() != update
}
