//! What a server's pod says about its coming up: whether it is ready, what it waits for, and what keeps it from ever
//! getting there.
//!
//! Pure. Source: `status` of `v1 Pod` as scheduler and kubelet write it, and the note of the StatefulSet controller's
//! `FailedCreate` events when there is no pod. A normal start is never trouble: what heals by itself has time to do so
//! ([`UNSCHEDULABLE_GRACE`], [`CONFIG_GRACE`], [`READY_DEADLINE`], [`START_DEADLINE`]). What a container printed is
//! never repeated.

use std::fmt;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

/// How long no node may be found before that is a failure: an autoscaler, or the binding of claims, needs some time.
pub const UNSCHEDULABLE_GRACE: i64 = 30;
/// How long a container may lack a Secret or ConfigMap after its pod was scheduled: a kubelet reads them late.
pub const CONFIG_GRACE: i64 = 10;
/// How long a container that runs may take to become ready: the startup probe's 30 × 5 s, and a readiness probe.
pub const READY_DEADLINE: i64 = 180;
/// How long a container may take to be started: its image is pulled and its volumes are mounted meanwhile.
pub const START_DEADLINE: i64 = 600;
/// How long a pod may stay past the time that its containers were given to end.
const ENDING_GRACE: i64 = 60;
/// A container that ran longer than this begins its restarts anew, as the kubelet's backoff does.
const LOOP_WINDOW: i64 = 600;
/// Restarts from which on a container that is not ready is in a loop, also between two crashes.
const LOOP_RESTARTS: i64 = 2;
/// Longest text of a kubelet or controller that is repeated, in characters.
const DETAIL_MAX: usize = 600;

/// Why a server cannot come up. Phase `Failed`, and reason of `Ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The image cannot be pulled.
    ImagePullBackOff,
    /// The container ends again and again.
    CrashLoopBackOff,
    /// A Secret or ConfigMap that the pod names, or a key of it, is not there.
    CreateContainerConfigError,
    /// The container cannot be made or started.
    CreateContainerError,
    /// No node takes the pod.
    Unschedulable,
    /// The pod as a whole was ended: evicted, or refused by its node.
    PodFailed,
    /// The pod does not get ready in time.
    ProgressDeadlineExceeded,
    /// The pod does not end.
    PodStuckTerminating,
    /// A ResourceQuota leaves no room for the pod or its claims.
    QuotaExceeded,
    /// Pod Security admission refuses the pod.
    PodSecurityViolation,
    /// Another admission plugin, policy or webhook refuses the pod.
    AdmissionDenied,
    /// The pod cannot be created for another reason.
    FailedCreate,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::ImagePullBackOff,
        Self::CrashLoopBackOff,
        Self::CreateContainerConfigError,
        Self::CreateContainerError,
        Self::Unschedulable,
        Self::PodFailed,
        Self::ProgressDeadlineExceeded,
        Self::PodStuckTerminating,
        Self::QuotaExceeded,
        Self::PodSecurityViolation,
        Self::AdmissionDenied,
        Self::FailedCreate,
    ];

    /// Reason of the condition.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ImagePullBackOff => "ImagePullBackOff",
            Self::CrashLoopBackOff => "CrashLoopBackOff",
            Self::CreateContainerConfigError => "CreateContainerConfigError",
            Self::CreateContainerError => "CreateContainerError",
            Self::Unschedulable => "Unschedulable",
            Self::PodFailed => "PodFailed",
            Self::ProgressDeadlineExceeded => "ProgressDeadlineExceeded",
            Self::PodStuckTerminating => "PodStuckTerminating",
            Self::QuotaExceeded => "QuotaExceeded",
            Self::PodSecurityViolation => "PodSecurityViolation",
            Self::AdmissionDenied => "AdmissionDenied",
            Self::FailedCreate => "FailedCreate",
        }
    }

    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::ImagePullBackOff => {
                "correct spec.image, or give the registry's credentials in spec.pod.imagePullSecrets"
            }
            Self::CrashLoopBackOff => {
                "see what the server said last (kubectl logs --previous); memory is set by spec.resources"
            }
            Self::CreateContainerConfigError => "create the Secret or ConfigMap, or the key that it lacks",
            Self::CreateContainerError => "see kubectl describe pod; the image may not be that of a DittoFS server",
            Self::Unschedulable => {
                "make room on the nodes or lower spec.resources; see also spec.pod's nodeSelector, affinity and \
                 tolerations, and whether the claims can be bound"
            }
            Self::PodFailed => "see kubectl describe pod; its StatefulSet makes another",
            Self::ProgressDeadlineExceeded => "see kubectl describe pod and kubectl logs",
            Self::PodStuckTerminating => {
                "see whether its node is alive; a pod of a node that is gone for good may be deleted with --force"
            }
            Self::QuotaExceeded => "raise the ResourceQuota or free what others use of it",
            Self::PodSecurityViolation => {
                "set spec.securityContext and spec.podSecurityContext to what the namespace allows, or unset them: \
                 the defaults are allowed everywhere"
            }
            Self::AdmissionDenied => "do what the message asks for, or change the policy that says so",
            Self::FailedCreate => "see the events of the StatefulSet",
        }
    }
}

/// What stands between a server and its being ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Why it cannot come up; None while that may well be a matter of time.
    pub why: Option<Why>,
    /// In words, without remedy.
    pub detail: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why {
            Some(why) => write!(f, "{}: {}", self.detail, why.remedy()),
            None => f.write_str(&self.detail),
        }
    }
}

/// What a pod says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it is ready.
    pub ready: bool,
    /// What it lacks; None when it is ready.
    pub trouble: Option<Trouble>,
    /// Seconds after which the same pod says something else, if nothing happens to it.
    pub recheck: Option<u64>,
}

/// The pod of a server, as far as it was looked for.
#[derive(Clone, Copy, Debug)]
pub enum PodSeen<'a> {
    /// Pods were not listed yet.
    Unknown,
    /// There is none; the note of the newest event that says why it could not be created.
    Absent(Option<&'a str>),
    /// There it is, whole or [`slim`].
    There(&'a Value),
}

/// Leaves of a pod what is read here, so that a cache of them is small.
pub fn slim(pod: &Value) -> Value {
    let pick = |from: &Value, fields: &[&str]| -> Value {
        let kept = fields.iter().filter_map(|field| Some(((*field).to_owned(), from.get(field)?.clone())));
        Value::Object(kept.collect::<Map<_, _>>())
    };
    let metadata = &pod["metadata"];
    let mut meta = pick(
        metadata,
        &["namespace", "name", "uid", "resourceVersion", "ownerReferences", "creationTimestamp", "deletionTimestamp"],
    );
    if let Some(revision) = metadata["labels"].get(REVISION_LABEL) {
        meta["labels"] = json!({ REVISION_LABEL: revision });
    }
    let mut status = pick(&pod["status"], &["phase", "reason", "message"]);
    let wanted = |condition: &&Value| matches!(condition["type"].as_str(), Some("PodScheduled" | "Ready"));
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten().filter(wanted);
    let fields = ["type", "status", "reason", "message", "lastTransitionTime"];
    status["conditions"] = conditions.map(|condition| pick(condition, &fields)).collect();
    for list in ["initContainerStatuses", "containerStatuses"] {
        if let Some(containers) = pod["status"][list].as_array() {
            let fields = ["name", "image", "ready", "restartCount", "state", "lastState"];
            status[list] = containers.iter().map(|container| pick(container, &fields)).collect();
        }
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "status": status})
}

/// Label of a pod with the revision of its StatefulSet that it was made from.
pub const REVISION_LABEL: &str = "controller-revision-hash";

/// What a pod says at the time `now` (RFC 3339).
pub fn standing(pod: &Value, now: &str) -> Standing {
    let now = seconds(Some(&json!(now))).unwrap_or_default();
    let ready = condition(pod, "Ready").is_some_and(|ready| ready["status"] == "True");
    let mut look = Look { now, recheck: None };
    let fine = ready && pod["metadata"]["deletionTimestamp"].is_null();
    let trouble = (!fine).then(|| look.trouble(pod));
    Standing { ready, trouble, recheck: look.recheck }
}

/// What the note of a `FailedCreate` event means.
pub fn refused(note: &str) -> Trouble {
    let words = note.split_once("failed error: ").map_or(note, |(_, words)| words);
    let has = |text: &str| words.contains(text);
    let why = if has("exceeded quota") || has("failed quota") {
        Why::QuotaExceeded
    } else if has("violates PodSecurity") {
        Why::PodSecurityViolation
    } else if has("denied the request") || has("is forbidden") || has("admission webhook") {
        Why::AdmissionDenied
    } else {
        Why::FailedCreate
    };
    let what = if note.starts_with("create Claim") { "a claim of the pod" } else { "the pod" };
    Trouble { why: Some(why), detail: format!("{what} cannot be created: {}", shortened(words)) }
}

struct Look {
    now: i64,
    recheck: Option<u64>,
}

impl Look {
    /// `why` once so many seconds have passed since `since`; what it waits for until then.
    fn after(&mut self, since: Option<i64>, patience: i64, why: Why, detail: String) -> Trouble {
        // A time that lies ahead is a clock's error.
        let left = since.map_or(0, |since| (since.min(self.now) + patience).saturating_sub(self.now));
        if left <= 0 {
            return Trouble { why: Some(why), detail };
        }
        let left = u64::try_from(left).unwrap_or(1);
        self.recheck = Some(self.recheck.map_or(left, |known| known.min(left)));
        Trouble { why: None, detail }
    }

    fn trouble(&mut self, pod: &Value) -> Trouble {
        let status = &pod["status"];
        let made = seconds(pod["metadata"].get("creationTimestamp"));
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if let Some(end) = seconds(pod["metadata"].get("deletionTimestamp")) {
            let detail = "the pod is ending".to_owned();
            return self.ending(end, detail);
        }
        if matches!(status["phase"].as_str(), Some("Failed" | "Succeeded")) {
            let told = [word(&status["reason"]), word(&status["message"])];
            let told: Vec<&str> = told.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
            let told = if told.is_empty() { "its containers have ended".to_owned() } else { told.join(": ") };
            return failing(Why::PodFailed, format!("the pod has ended: {}", shortened(&told)));
        }
        let scheduled = condition(pod, "PodScheduled");
        let since = scheduled.and_then(|condition| seconds(condition.get("lastTransitionTime")));
        match scheduled {
            Some(no) if no["status"] == "False" && no["reason"] == "Unschedulable" => {
                let detail = format!("no node takes the pod: {}", shortened(&word(&no["message"])));
                return self.after(since, UNSCHEDULABLE_GRACE, Why::Unschedulable, detail);
            }
            Some(yes) if yes["status"] == "True" => {}
            _ => {
                let detail = "the pod waits for the scheduler".to_owned();
                return self.after(made, START_DEADLINE, Why::ProgressDeadlineExceeded, detail);
            }
        }
        for list in ["initContainerStatuses", "containerStatuses"] {
            for container in status[list].as_array().into_iter().flatten() {
                let done = list == "initContainerStatuses" && container["state"]["terminated"]["exitCode"] == 0;
                if container["ready"] != true && !done {
                    return self.container(pod, container, since);
                }
            }
        }
        let detail = "the pod waits for its node".to_owned();
        self.after(since.or(made), START_DEADLINE, Why::ProgressDeadlineExceeded, detail)
    }

    fn ending(&mut self, end: i64, detail: String) -> Trouble {
        let left = end.saturating_add(ENDING_GRACE).saturating_sub(self.now);
        match u64::try_from(left) {
            Ok(left) if left > 0 => {
                self.recheck = Some(left);
                Trouble { why: None, detail }
            }
            _ => failing(Why::PodStuckTerminating, "the pod does not end".to_owned()),
        }
    }

    /// Of a container that is not ready, in a pod that was given a node at `scheduled`.
    fn container(&mut self, pod: &Value, container: &Value, scheduled: Option<i64>) -> Trouble {
        let name = container["name"].as_str().unwrap_or_default();
        let (state, last) = (&container["state"], &container["lastState"]["terminated"]);
        let restarts = container["restartCount"].as_i64().unwrap_or_default();
        let message = shortened(state["waiting"]["message"].as_str().unwrap_or_default());
        let told = if message.is_empty() { String::new() } else { format!(": {message}") };
        match state["waiting"]["reason"].as_str() {
            Some(
                "ErrImagePull"
                | "ImagePullBackOff"
                | "ErrImageNeverPull"
                | "InvalidImageName"
                | "ImageInspectError"
                | "RegistryUnavailable",
            ) => {
                let image = container["image"].as_str().unwrap_or_default();
                failing(
                    Why::ImagePullBackOff,
                    format!("the image {} of container {name} cannot be pulled{told}", shortened(image)),
                )
            }
            Some("CrashLoopBackOff") => failing(Why::CrashLoopBackOff, crashed(name, last)),
            Some("CreateContainerConfigError") => {
                let detail = format!("container {name} lacks something that it is configured with{told}");
                self.after(scheduled, CONFIG_GRACE, Why::CreateContainerConfigError, detail)
            }
            Some("CreateContainerError" | "RunContainerError" | "StartError" | "PostStartHookError") => {
                failing(Why::CreateContainerError, format!("container {name} cannot be started{told}"))
            }
            Some(reason) => {
                let detail = format!("container {name} is not started yet ({}){told}", shortened(reason));
                self.after(scheduled, START_DEADLINE, Why::ProgressDeadlineExceeded, detail)
            }
            None => {
                let started = seconds(state["running"].get("startedAt"));
                let young = started.is_none_or(|at| self.now - at < LOOP_WINDOW);
                if restarts >= LOOP_RESTARTS && young && last.is_object() {
                    // What runs now may get ready or end; that it is over shows when it does not end any more.
                    if let Some(at) = started {
                        let left = u64::try_from(at.min(self.now) + LOOP_WINDOW - self.now).unwrap_or(1).max(1);
                        self.recheck = Some(left);
                    }
                    return failing(Why::CrashLoopBackOff, crashed(name, last));
                }
                if let Some(ended) = state.get("terminated") {
                    return Trouble { why: None, detail: format!("container {name} {}", ended_with(ended)) };
                }
                let unready = condition(pod, "Ready").and_then(|ready| seconds(ready.get("lastTransitionTime")));
                let since = started.max(unready).or(scheduled);
                let detail = format!("container {name} runs and is not ready");
                self.after(since, READY_DEADLINE, Why::ProgressDeadlineExceeded, detail)
            }
        }
    }
}

fn failing(why: Why, detail: String) -> Trouble {
    Trouble { why: Some(why), detail }
}

fn crashed(name: &str, last: &Value) -> String {
    if last.is_object() {
        format!("container {name} {} again and again", ended_with(last))
    } else {
        format!("container {name} ends again and again")
    }
}

/// `ended with exit code 1 (Error)`. The message of the container is left out: the server wrote it.
fn ended_with(terminated: &Value) -> String {
    let code = terminated["exitCode"].as_i64().unwrap_or_default();
    match terminated["reason"].as_str().filter(|reason| !reason.is_empty()) {
        Some(reason) => format!("ended with exit code {code} ({})", shortened(reason)),
        None => format!("ended with exit code {code}"),
    }
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    pod["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// Seconds since 1970.
fn seconds(time: Option<&Value>) -> Option<i64> {
    time?.as_str()?.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(DETAIL_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
