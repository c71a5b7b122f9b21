//! A StatefulSet as an API server stores it, and a controller that treats it as the real one does.
//!
//! Modelled of the real controller: revisions by content (an old content brings its old revision back), the partition
//! (a pod is rolled, or comes back at the newest revision, only when its ordinal is not below it), one step of a roll a
//! sync, and when a rollout counts as complete.

use serde_json::{Value, json};

use super::super::ports::{adapter_ports, without_adapter_ports};
use super::super::{AdapterState, ObservedAdapter, ValidatedServer};
use super::{HELD_TEMPLATE, HashInput, Input, Plan, plan};

/// Adapters that run, each (type, port).
pub(super) fn running(adapters: &[(&str, u16)]) -> Vec<ObservedAdapter> {
    adapters.iter().map(|(name, port)| adapter(name, *port, AdapterState::Running)).collect()
}

pub(super) fn adapter(adapter_type: &str, port: u16, state: AdapterState) -> ObservedAdapter {
    ObservedAdapter { adapter_type: adapter_type.to_owned(), port, state }
}

pub(super) fn hash(text: &str) -> HashInput {
    HashInput::Hash(text.to_owned())
}

/// Sets `object[key]` unless it is there.
fn default(object: &mut Value, key: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.entry(key).or_insert(value);
    }
}

/// What an API server adds to a StatefulSet when it stores it.
fn defaulted(mut object: Value) -> Value {
    for (field, value) in [("uid", json!("uid-of-the-set")), ("generation", json!(1)), ("resourceVersion", json!("41"))]
    {
        default(&mut object["metadata"], field, value);
    }
    default(&mut object["metadata"], "managedFields", json!([{"manager": "dittofs-operator"}]));
    let spec = &mut object["spec"];
    default(spec, "revisionHistoryLimit", json!(10));
    default(&mut spec["updateStrategy"]["rollingUpdate"], "maxUnavailable", json!(1));
    for claim in spec["volumeClaimTemplates"].as_array_mut().into_iter().flatten() {
        default(claim, "status", json!({"phase": "Pending"}));
        default(&mut claim["spec"], "volumeMode", json!("Filesystem"));
    }
    let pod = &mut spec["template"]["spec"];
    for (field, value) in [("restartPolicy", "Always"), ("dnsPolicy", "ClusterFirst"), ("schedulerName", "default")] {
        default(pod, field, json!(value));
    }
    for volume in pod["volumes"].as_array_mut().into_iter().flatten() {
        default(&mut volume["configMap"], "defaultMode", json!(420));
    }
    for container in pod["containers"].as_array_mut().into_iter().flatten() {
        default(container, "imagePullPolicy", json!("Always"));
        default(container, "terminationMessagePath", json!("/dev/termination-log"));
        default(container, "terminationMessagePolicy", json!("File"));
        default(container, "resources", json!({}));
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            if container.get(probe).is_some() {
                default(&mut container[probe], "successThreshold", json!(1));
            }
        }
    }
    object
}

/// One server, its StatefulSet and its pod.
pub(super) struct Sim {
    pub(super) server: ValidatedServer,
    pub(super) hash: HashInput,
    pub(super) adapters: Option<Vec<ObservedAdapter>>,
    pub(super) live: Option<Value>,
    /// The template that the pod runs, and its revision.
    pub(super) pod: Option<(Value, usize)>,
    pub(super) starts: usize,
    /// Pods taken away by a roll although no template that was written since their start differs from theirs in more
    /// than adapter ports. (One that was written and taken back before the controller looked was a change.)
    pub(super) rolled_for_ports_alone: usize,
    /// A template of another base was written since the pod's start.
    other_base: bool,
    revisions: Vec<Value>,
}

impl Sim {
    /// A server that is known, and nothing else.
    pub(super) fn new(server: ValidatedServer) -> Self {
        Self {
            server,
            hash: HashInput::Pending,
            adapters: None,
            live: None,
            pod: None,
            starts: 0,
            rolled_for_ports_alone: 0,
            other_base: false,
            revisions: vec![],
        }
    }

    /// A server that runs with hash `h1` and the adapters of a fresh one, settled.
    pub(super) fn running(server: ValidatedServer) -> Self {
        let mut sim = Self::new(server);
        sim.hash = hash("h1");
        sim.settle();
        sim.adapters = Some(running(&[("nfs", 12049), ("smb", 1445)]));
        assert_eq!(sim.plan(), Plan::Nothing { deferred: false }, "the usual first poll changes nothing");
        sim
    }

    /// The same, with its NFS adapter on another port, held back from the pod.
    pub(super) fn held(server: ValidatedServer) -> Self {
        let mut sim = Self::running(server);
        sim.adapters = Some(running(&[("nfs", 13049), ("smb", 1445)]));
        sim.settle();
        assert!(sim.is_held() && sim.starts == 1);
        sim
    }

    pub(super) fn plan(&self) -> Plan {
        plan(Input {
            server: &self.server,
            hash: &self.hash,
            adapters: self.adapters.as_deref(),
            live: self.live.as_ref(),
            orphan: None,
        })
    }

    /// One look, and its write.
    pub(super) fn reconcile(&mut self) -> Plan {
        let plan = self.plan();
        match &plan {
            Plan::Create(object) => self.live = Some(defaulted((**object).clone())),
            Plan::Replace { object, .. } => self.store((**object).clone()),
            _ => {}
        }
        plan
    }

    /// Stores `object`; the generation moves with the spec.
    fn store(&mut self, object: Value) {
        let mut object = defaulted(object);
        let before = self.live();
        if before["spec"] != object["spec"] {
            object["metadata"]["generation"] = json!(before["metadata"]["generation"].as_i64().unwrap() + 1);
        }
        for field in ["volumeClaimTemplates", "selector", "serviceName", "podManagementPolicy"] {
            assert_eq!(before["spec"][field], object["spec"][field], "{field} is immutable");
        }
        let base = without_adapter_ports(&object["spec"]["template"]);
        self.other_base |= self.pod.as_ref().is_some_and(|(ran, _)| without_adapter_ports(ran) != base);
        self.live = Some(object);
    }

    /// Changes the stored object as somebody else would.
    pub(super) fn edit(&mut self, change: impl FnOnce(&mut Value)) {
        let mut object = self.live().clone();
        change(&mut object);
        self.store(object);
    }

    /// `kubectl rollout restart`.
    pub(super) fn rollout_restart(&mut self, at: &str) {
        self.edit(|set| {
            set["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] = json!(at);
        });
    }

    /// One sync of the StatefulSet controller.
    pub(super) fn sync(&mut self) {
        let Some(set) = self.live.clone() else { return };
        let template = &set["spec"]["template"];
        let update = self.revisions.iter().position(|known| known == template).unwrap_or_else(|| {
            self.revisions.push(template.clone());
            self.revisions.len() - 1
        });
        let name = |revision: usize| format!("files-{revision}");
        let current = (0..self.revisions.len())
            .find(|revision| set["status"]["currentRevision"] == json!(name(*revision)))
            .unwrap_or(update);
        let replicas = set["spec"]["replicas"].as_i64().unwrap();
        let partitioned = set["spec"]["updateStrategy"]["rollingUpdate"]["partition"].as_i64().unwrap_or(0) > 0;
        let on_delete = set["spec"]["updateStrategy"]["type"] == "OnDelete";
        match &self.pod {
            Some(_) if replicas == 0 => self.pod = None,
            Some((ran, revision)) if *revision != update && !partitioned && !on_delete => {
                let for_ports_alone = !self.other_base && without_adapter_ports(ran) == without_adapter_ports(template);
                self.rolled_for_ports_alone += usize::from(for_ports_alone);
                self.pod = None;
            }
            None if replicas > 0 => {
                let revision = if partitioned { current } else { update };
                self.pod = Some((self.revisions[revision].clone(), revision));
                self.other_base = false;
                self.starts += 1;
            }
            _ => {}
        }
        let pods = i64::from(self.pod.is_some());
        let updated = i64::from(self.pod.as_ref().is_some_and(|(_, revision)| *revision == update));
        let current = if updated == replicas && pods == replicas { update } else { current };
        self.live.as_mut().unwrap()["status"] = json!({
            "observedGeneration": set["metadata"]["generation"], "replicas": pods, "readyReplicas": pods,
            "availableReplicas": pods, "updatedReplicas": updated, "currentReplicas": pods - updated,
            "currentRevision": name(current), "updateRevision": name(update),
        });
    }

    /// Reconciler and controller until neither does anything; the plans that wrote.
    pub(super) fn settle(&mut self) -> Vec<Plan> {
        let mut wrote = Vec::new();
        for _ in 0..30 {
            let before = (self.live.clone(), self.starts, self.pod.is_some());
            let plan = self.reconcile();
            if matches!(plan, Plan::Create(_) | Plan::Replace { .. }) {
                wrote.push(plan);
            }
            self.sync();
            if before == (self.live.clone(), self.starts, self.pod.is_some()) {
                return wrote;
            }
        }
        panic!("it never comes to rest: {wrote:#?}");
    }

    pub(super) fn live(&self) -> &Value {
        self.live.as_ref().expect("a StatefulSet")
    }

    pub(super) fn template(&self) -> &Value {
        &self.live()["spec"]["template"]
    }

    pub(super) fn annotation(&self) -> Option<&str> {
        self.live()["metadata"]["annotations"][HELD_TEMPLATE].as_str()
    }

    pub(super) fn partition(&self) -> i64 {
        self.live()["spec"]["updateStrategy"]["rollingUpdate"]["partition"].as_i64().unwrap_or(0)
    }

    pub(super) fn is_held(&self) -> bool {
        assert_eq!(self.annotation().is_some(), self.partition() == 1, "annotation and partition go together");
        self.annotation().is_some()
    }

    /// The adapter ports that the StatefulSet declares, and those of the running pod.
    pub(super) fn declared(&self) -> Vec<(String, u64)> {
        numbers(self.template())
    }

    pub(super) fn pod_declares(&self) -> Vec<(String, u64)> {
        numbers(&self.pod.as_ref().expect("a pod").0)
    }

    /// What the running pod was started from, its adapter ports aside.
    pub(super) fn pod_base(&self) -> Option<Value> {
        self.pod.as_ref().map(|(template, _)| without_adapter_ports(template))
    }
}

fn numbers(template: &Value) -> Vec<(String, u64)> {
    adapter_ports(template).into_iter().map(|(name, port)| (name, port["containerPort"].as_u64().unwrap())).collect()
}

/// `[("adapter-nfs", 1)]` as [`Sim::declared`] gives it.
pub(super) fn ports(list: &[(&str, u64)]) -> Vec<(String, u64)> {
    list.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
}

/// What the only write of `plans` says of itself: (ports changed, rolls, deferred).
pub(super) fn only_write(plans: &[Plan]) -> (bool, bool, bool) {
    match plans {
        [Plan::Replace { ports_changed, rolls, deferred, .. }] => (*ports_changed, *rolls, *deferred),
        other => panic!("not one replacement: {other:#?}"),
    }
}
