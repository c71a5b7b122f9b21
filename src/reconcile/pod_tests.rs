//! What each state of a pod means, and when.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// `base + offset` seconds, RFC 3339.
fn at(offset: i64) -> String {
    let base: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
    Timestamp::from_second(base.as_second() + offset).unwrap().to_string()
}

/// A pod that has a node since 0 s and whose one container is as given.
fn pod(container: &Value) -> Value {
    json!({
        "metadata": {"name": "files-0", "creationTimestamp": at(0)},
        "status": {
            "phase": "Pending",
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(0)},
                {"type": "Ready", "status": "False", "lastTransitionTime": at(0)},
            ],
            "containerStatuses": [container],
        },
    })
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"name": "dittofs", "image": "example.com/dittofs:9", "ready": false, "restartCount": 0,
           "state": {"waiting": {"reason": reason, "message": message}}})
}

fn running(restarts: i64, since: i64) -> Value {
    let last = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled", "message": "password=hunter2"}});
    json!({"name": "dittofs", "image": "i", "ready": false, "restartCount": restarts,
           "state": {"running": {"startedAt": at(since)}}, "lastState": if restarts > 0 { last } else { json!({}) }})
}

/// Why, in which words, and when to look again, at this second.
fn told(pod: &Value, second: i64) -> (Option<Why>, String, Option<u64>) {
    let standing = standing(pod, &at(second));
    let trouble = standing.trouble.expect("trouble");
    (trouble.why, trouble.detail, standing.recheck)
}

#[test]
fn a_ready_pod_has_no_trouble() {
    let mut ready = pod(&running(5, 0));
    ready["status"]["conditions"][1]["status"] = json!("True");
    assert_eq!(standing(&ready, &at(1)), Standing { ready: true, trouble: None, recheck: None });
    assert_eq!(standing(&slim(&ready), &at(1)), standing(&ready, &at(1)));
}

#[test]
fn what_keeps_a_container_from_running_is_told_with_its_reason() {
    for (reason, message, why, words) in [
        ("ErrImagePull", "not found", Why::ImagePullBackOff, "the image example.com/dittofs:9 of container dittofs"),
        ("ImagePullBackOff", "Back-off", Why::ImagePullBackOff, "cannot be pulled: Back-off"),
        ("InvalidImageName", "", Why::ImagePullBackOff, "cannot be pulled"),
        ("CrashLoopBackOff", "back-off 10s", Why::CrashLoopBackOff, "container dittofs ends again and again"),
        ("CreateContainerError", "no such user", Why::CreateContainerError, "cannot be started: no such user"),
        ("RunContainerError", "exec", Why::CreateContainerError, "cannot be started: exec"),
    ] {
        let (found, detail, recheck) = told(&pod(&waiting(reason, message)), 0);
        assert_eq!((found, recheck), (Some(why), None), "{reason}");
        assert!(detail.contains(words), "{reason}: {detail}");
    }
}

#[test]
fn what_heals_by_itself_has_time_to_do_so() {
    let mut unschedulable = pod(&json!({}));
    unschedulable["status"]["conditions"][0] = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/3 nodes are available: 3 Insufficient memory.", "lastTransitionTime": at(0)});
    let unscheduled = json!({"metadata": {"creationTimestamp": at(0)}, "status": {"phase": "Pending"}});
    let mut no_node = pod(&json!({}));
    no_node["status"]["containerStatuses"] = json!([]);
    let lost = {
        let mut lost = pod(&running(0, 0));
        lost["status"]["conditions"][1]["lastTransitionTime"] = json!(at(1000));
        lost
    };
    for (what, pod, since, patience, why, words) in [
        ("no node", unschedulable, 0, UNSCHEDULABLE_GRACE, Why::Unschedulable, "3 Insufficient memory."),
        (
            "no Secret",
            pod(&waiting("CreateContainerConfigError", "secret \"x\" not found")),
            0,
            CONFIG_GRACE,
            Why::CreateContainerConfigError,
            "secret \"x\" not found",
        ),
        (
            "a volume",
            pod(&waiting("ContainerCreating", "")),
            0,
            START_DEADLINE,
            Why::ProgressDeadlineExceeded,
            "not started yet (ContainerCreating)",
        ),
        ("slow", pod(&running(0, 5)), 5, READY_DEADLINE, Why::ProgressDeadlineExceeded, "runs and is not ready"),
        ("not ready any more", lost, 1000, READY_DEADLINE, Why::ProgressDeadlineExceeded, "runs and is not ready"),
        ("no scheduler", unscheduled, 0, START_DEADLINE, Why::ProgressDeadlineExceeded, "waits for the scheduler"),
        ("no kubelet", no_node, 0, START_DEADLINE, Why::ProgressDeadlineExceeded, "waits for its node"),
    ] {
        let (early, detail, recheck) = told(&pod, since + patience - 1);
        assert_eq!((early, recheck), (None, Some(1)), "{what}");
        assert!(detail.contains(words), "{what}: {detail}");
        let (late, same, recheck) = told(&pod, since + patience);
        assert_eq!((late, same, recheck), (Some(why), detail, None), "{what}");
        // A node whose clock is ahead.
        assert_eq!(told(&pod, since - 60).2, u64::try_from(patience).ok(), "{what}");
    }
}

#[test]
fn a_container_that_crashed_twice_is_in_a_loop_until_it_has_run_for_long() {
    let (first, detail, _) = told(&pod(&running(1, 0)), 5);
    assert_eq!((first, detail.as_str()), (None, "container dittofs runs and is not ready"), "one restart is none");
    let (why, detail, recheck) = told(&pod(&running(2, 0)), 5);
    assert_eq!((why, recheck), (Some(Why::CrashLoopBackOff), Some(595)));
    assert_eq!(detail, "container dittofs ended with exit code 137 (OOMKilled) again and again");
    assert!(!detail.contains("hunter2"), "what a server prints is not repeated");
    let (why, detail, _) = told(&pod(&running(9, 0)), LOOP_WINDOW);
    assert_eq!(
        (why, detail.as_str()),
        (Some(Why::ProgressDeadlineExceeded), "container dittofs runs and is not ready")
    );
    let ended = json!({"name": "dittofs", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 2}}});
    assert_eq!(told(&pod(&ended), 5), (None, "container dittofs ended with exit code 2".to_owned(), None));
}

#[test]
fn an_init_container_counts_until_it_is_done() {
    let mut both = pod(&waiting("PodInitializing", ""));
    both["status"]["initContainerStatuses"] = json!([waiting("ImagePullBackOff", "no such image")]);
    both["status"]["initContainerStatuses"][0]["name"] = json!("prepare");
    let (why, detail, _) = told(&both, 5);
    assert_eq!(why, Some(Why::ImagePullBackOff));
    assert!(detail.contains("container prepare"), "{detail}");
    both["status"]["initContainerStatuses"][0]["state"] = json!({"terminated": {"exitCode": 0}});
    let (why, detail, _) = told(&both, 5);
    assert_eq!((why, detail.as_str()), (None, "container dittofs is not started yet (PodInitializing)"));
}

#[test]
fn a_pod_that_was_ended_says_by_whom_and_one_that_does_not_end_is_stuck() {
    let mut evicted = pod(&json!({}));
    evicted["status"] = json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory."});
    let (why, detail, _) = told(&evicted, 5);
    assert_eq!(why, Some(Why::PodFailed));
    assert_eq!(detail, "the pod has ended: Evicted: The node was low on memory.");
    let mut ending = pod(&running(0, 0));
    ending["metadata"]["deletionTimestamp"] = json!(at(30));
    assert_eq!(told(&ending, 30), (None, "the pod is ending".to_owned(), Some(60)));
    assert_eq!(told(&ending, 90).0, Some(Why::PodStuckTerminating));
}

#[test]
fn a_refused_pod_says_who_refused_it() {
    let create = |words: &str| format!("create Pod files-0 in StatefulSet files failed error: {words}");
    for (words, why) in [
        (
            "pods \"files-0\" is forbidden: exceeded quota: none, requested: pods=1, used: pods=0, limited: pods=0",
            Why::QuotaExceeded,
        ),
        ("pods \"files-0\" is forbidden: failed quota: small: must specify limits.memory", Why::QuotaExceeded),
        (
            "pods \"files-0\" is forbidden: violates PodSecurity \"restricted:latest\": privileged",
            Why::PodSecurityViolation,
        ),
        ("admission webhook \"x.example.com\" denied the request: no", Why::AdmissionDenied),
        ("pods \"files-0\" is forbidden: error looking up service account", Why::AdmissionDenied),
        ("Pod \"files-0\" is invalid: spec.containers[0].env[3].name: Invalid value", Why::FailedCreate),
    ] {
        let trouble = refused(&create(words));
        assert_eq!((trouble.why, trouble.detail), (Some(why), format!("the pod cannot be created: {words}")));
    }
    let claim =
        refused("create Claim content-files-0 for Pod files-0 in StatefulSet files failed error: exceeded quota");
    assert_eq!(claim.detail, "a claim of the pod cannot be created: exceeded quota");
}

#[test]
fn each_reason_has_a_name_and_a_remedy() {
    for why in Why::ALL {
        assert_eq!(why.as_str(), format!("{why:?}"));
        assert!(why.remedy().len() > 20, "{why:?}");
        let text = Trouble { why: Some(why), detail: "d".to_owned() }.to_string();
        assert_eq!(text, format!("d: {}", why.remedy()));
    }
}

/// Any value where a pod's status is read.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-zA-Z :\"…]{0,12}".prop_map(Value::from),
        (-10_000_000_000i64..10_000_000_000).prop_map(|second| json!(at(second))),
    ];
    let word = prop::sample::select(vec![
        "metadata",
        "status",
        "conditions",
        "type",
        "containerStatuses",
        "state",
        "waiting",
        "reason",
        "running",
        "startedAt",
        "lastState",
        "terminated",
        "deletionTimestamp",
        "phase",
        "restartCount",
    ]);
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..6).prop_map(|fields| -> Value {
                fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            }),
        ]
    })
}

proptest! {
    #[test]
    fn no_pod_is_too_strange(pod in anything(), second in -1_000_000i64..1_000_000) {
        let (whole, slim) = (standing(&pod, &at(second)), standing(&slim(&pod), &at(second)));
        prop_assert!(whole.ready || whole.trouble.is_some());
        // A value of another kind may be dropped on the way; whether it is ready may not.
        prop_assert_eq!(whole.ready, slim.ready);
    }
}
