//! The checker itself on trial: the operator is built with faults that tests can switch on, and each has to be found, as
//! the breach of the promise that it is.
//!
//! | fault | what it does | found as |
//! |---|---|---|
//! | second-writer | each replace is sent twice at once | S1 |
//! | no-hold | a port change is not held back from the running pod | S2 |
//! | hash-of-the-process | another config hash after each restart of the operator | S2 |
//! | delete-without-uid | deletes carry no uid | S3 |
//! | adopt-foreign | a Service or NetworkPolicy of our name is overwritten, whosever it is | S3 |
//! | delete-claim | a claim of the server is to be deleted | S3 |
//! | ignore-pause | a paused server is written to | S3 |
//! | drop-finalizers | the finalizers of others go with ours | S3 |
//! | take-database | a database is made to go with a server that does not ask for it | S3 |
//! | keep-tie | a server goes, and the database that is to stay goes with it | S3 |
//! | error-is-empty | a poll that failed counts as "no adapter runs" | S5 |
//! | absence-is-empty | before the first answer no adapter is taken to run | S5 |
//! | rewrite-services | Services are written although nothing differs | S6 |
//! | rewrite-config-map | the ConfigMap likewise | S6 |
//! | list-storm | everything is listed anew each second | S6 |
//! | no-pace | the status is written at once, however often | S6 |
//! | foreign-namespace | a Secret of another namespace is asked for | S7 |
//! | secret-in-log | a password in the log | S8 |
//! | secret-in-event | a password in an event | S8 |
//! | status-ahead | observedGeneration is ahead of the generation | S9 |
//! | ready-too-early | Ready before there is a pod | S9 |

use std::time::Duration;

use dittofs_testbed::audit::{self, Expect, Promise, Report};
use dittofs_testbed::cluster::{Cluster, ClusterOptions, PodBehavior, PodMode, resources};
use dittofs_testbed::dittofs::{Mode, Scope};
use dittofs_testbed::operator::OperatorOptions;
use dittofs_testbed::world::{SHUTDOWN, condition};
use futures::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};

use crate::percona;
use crate::support::{Bed, SOON};

/// What the test does beside letting a server become ready and stopping one of its adapters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    /// A Service that a user made has a name of ours.
    ForeignService,
    /// The DittoFS API answers nothing valid for a while.
    FailingApi,
    /// The operator is killed and started again, while the API is silent.
    Restart,
    /// The test waits until everything was listed a second time.
    SecondList,
    /// The pod does not become ready until the server was said to be.
    UnreadyPod,
    /// A NetworkPolicy that a user made has a name of ours.
    ForeignPolicy,
    /// An adapter stops while the server is paused.
    Paused,
    /// The server is deleted, and somebody else holds it, too.
    Deleted,
}

const FAULTS: [(&str, Beside, Promise); 20] = [
    ("second-writer", Beside::Nothing, Promise::S1),
    ("no-hold", Beside::Nothing, Promise::S2),
    ("hash-of-the-process", Beside::Restart, Promise::S2),
    ("delete-without-uid", Beside::Nothing, Promise::S3),
    ("adopt-foreign", Beside::ForeignService, Promise::S3),
    ("adopt-foreign", Beside::ForeignPolicy, Promise::S3),
    ("delete-claim", Beside::Nothing, Promise::S3),
    ("ignore-pause", Beside::Paused, Promise::S3),
    ("drop-finalizers", Beside::Deleted, Promise::S3),
    ("error-is-empty", Beside::FailingApi, Promise::S5),
    ("absence-is-empty", Beside::Restart, Promise::S5),
    ("rewrite-services", Beside::Nothing, Promise::S6),
    ("rewrite-config-map", Beside::Nothing, Promise::S6),
    ("list-storm", Beside::SecondList, Promise::S6),
    ("no-pace", Beside::Nothing, Promise::S6),
    ("foreign-namespace", Beside::Nothing, Promise::S7),
    ("secret-in-log", Beside::Restart, Promise::S8),
    ("secret-in-event", Beside::Restart, Promise::S8),
    ("status-ahead", Beside::Nothing, Promise::S9),
    ("ready-too-early", Beside::UnreadyPod, Promise::S9),
];

/// Waits, without judging, until something is so: a broken operator may never get there.
async fn hope(bed: &Bed, what: &str, mut so: impl AsyncFnMut() -> bool) {
    let looked = bed.world.wait_until(what, SOON, async || if so().await { Ok(()) } else { Err(String::new()) }).await;
    if looked.is_err() {
        println!("{what}: never came true");
    }
}

async fn adapter_services(bed: &Bed) -> usize {
    bed.world.adapter_services("files").await.map_or(0, |services| services.len())
}

async fn story(fault: &str, beside: Beside) -> Report {
    let mut bed = Bed::idle("seeded").await;
    let namespace = bed.world.namespace().clone();
    if beside == Beside::ForeignService {
        let theirs = json!({"metadata": {"name": "files-file"}, "spec": {"ports": [{"port": 1}]}});
        namespace.create_object(resources::SERVICES, &theirs).await.expect("a Service of a user");
    }
    if beside == Beside::ForeignPolicy {
        let theirs =
            json!({"metadata": {"name": "files-baseline"}, "spec": {"podSelector": {"matchLabels": {"a": "b"}}}});
        namespace.create_object(resources::NETWORK_POLICIES, &theirs).await.expect("a NetworkPolicy of a user");
    }
    start(&mut bed, fault).await;
    let pods = |mode: PodMode| PodBehavior::new(namespace.name(), "files", mode);
    if beside == Beside::UnreadyPod {
        bed.world.cluster().pod_behavior(&pods(PodMode::NeverReady)).await.expect("told");
    }
    let spec = json!({"adapterDiscovery": {"pollingInterval": "1s"}});
    bed.world.apply_server("files", &spec).await.expect("the server is accepted");
    hope(&bed, "two adapter Services", async || adapter_services(&bed).await == 2).await;
    if beside == Beside::UnreadyPod {
        hope(&bed, "a server that is said to be ready", async || {
            let server = bed.world.server("files").await.unwrap_or_default();
            condition(&server, "Ready").is_some_and(|ready| ready["status"] == "True")
        })
        .await;
        bed.world.cluster().pod_behavior(&pods(PodMode::Normal)).await.expect("told");
    }
    hope(&bed, "a pod", async || {
        let set = bed.world.stateful_set("files").await.unwrap_or_default();
        set["status"]["readyReplicas"] == 1
    })
    .await;
    match beside {
        Beside::FailingApi => {
            bed.dittofs("files").set_mode(Mode::Status(500), Scope::AdaptersList);
            polls(&bed, 3).await;
            if fault != "none" {
                hope(&bed, "a removal", async || adapter_services(&bed).await < 2).await;
            }
            bed.dittofs("files").heal();
        }
        Beside::Restart => {
            bed.dittofs("files").set_mode(Mode::Hang, Scope::AdaptersList);
            bed.world.operator().restart().await.expect("the operator starts again");
            bed.world.operator().wait_ready().await.expect("it becomes ready");
            polls(&bed, 1).await;
            if ["hash-of-the-process", "absence-is-empty"].contains(&fault) {
                hope(&bed, "a removal or another pod", async || {
                    adapter_services(&bed).await < 2 || bed.world.pod_starts().await.unwrap_or_default() > 1
                })
                .await;
            }
            bed.dittofs("files").heal();
            bed.dittofs("files").restart();
        }
        Beside::SecondList => {
            hope(&bed, "a second list", async || {
                let listed = |line: &&String| line.contains("\"listed\"") && line.contains("Service");
                bed.world.operator().logs().iter().filter(listed).count() > 1
            })
            .await;
        }
        Beside::Paused => {
            let pause = |value: Value| json!({"annotations": {"dittofs.io/paused": value}});
            bed.patch_meta(resources::SERVERS, "files", &pause(json!("true"))).await;
            hope(&bed, "the pause", async || {
                let server = bed.world.server("files").await.unwrap_or_default();
                condition(&server, "Paused").is_some()
            })
            .await;
            polls(&bed, 4).await;
            bed.dittofs("files").stop_adapter("smb");
            if fault == "none" {
                polls(&bed, 2).await;
            } else {
                hope(&bed, "a removal", async || adapter_services(&bed).await < 2).await;
            }
            bed.patch_meta(resources::SERVERS, "files", &pause(Value::Null)).await;
        }
        Beside::Deleted => {
            let both = json!({"finalizers": ["example.com/theirs", "dittofs.dittofs.com/finalizer"]});
            bed.patch_meta(resources::SERVERS, "files", &both).await;
            namespace.delete(resources::SERVERS, "files").await.expect("the deletion is accepted");
            hope(&bed, "the operator's finalizer to go", async || {
                let server = bed.world.server("files").await.unwrap_or_default();
                !server["metadata"]["finalizers"].to_string().contains("dittofs")
            })
            .await;
            return judged(bed, Some(1)).await;
        }
        Beside::Nothing | Beside::ForeignService | Beside::ForeignPolicy | Beside::UnreadyPod => {}
    }
    bed.dittofs("files").stop_adapter("smb");
    hope(&bed, "one adapter Service", async || adapter_services(&bed).await == 1).await;
    hope(&bed, "the container ports", async || {
        let set = bed.world.stateful_set("files").await.unwrap_or_default();
        !set["spec"]["template"].to_string().contains("adapter-smb")
    })
    .await;
    judged(bed, Some(1)).await
}

/// Starts an operator with a fault.
async fn start(bed: &mut Bed, fault: &str) {
    let env = vec![("DITTOFS_FAULTS".to_owned(), fault.to_owned())];
    let options = OperatorOptions { env, ..bed.options() };
    bed.world.start_operator(options).await.expect("the operator starts");
}

/// Ends a story.
async fn judged(bed: Bed, pod_starts: Option<usize>) -> Report {
    let namespace = bed.world.namespace().clone();
    let timeline = audit::timeline(bed.world.stand_in());
    bed.world.operator().sigterm(SHUTDOWN).await.expect("it ends");
    let expect = Expect { pod_starts, timeline: Some(timeline), ..Expect::default() };
    let report = audit::check(bed.world.cluster(), bed.world.operator(), expect).await;
    let _ = namespace.discard().await;
    report
}

/// A server whose database is to stay after all goes.
async fn story_of_a_database(cluster: &Cluster, fault: &str) -> Report {
    let mut bed = Bed::on(cluster, "seeded").await;
    start(&mut bed, fault).await;
    let spec = |delete: bool| json!({"percona": {"enabled": true, "deleteWithServer": delete}});
    for (name, delete) in [("files", false), ("late", true)] {
        bed.world.apply_server(name, &spec(delete)).await.expect("the server is accepted");
        let cluster = format!("{name}-postgres");
        bed.wait_object(percona::CLUSTERS, &cluster, "to be made", |_| Ok(())).await;
    }
    bed.world.apply_server("late", &spec(false)).await.expect("the change is accepted");
    bed.wait_condition("late", "DatabaseReady", "False", "PerconaNotReady").await;
    for name in ["files", "late"] {
        bed.delete_server(name).await;
    }
    judged(bed, Some(0)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_unasked_is_found() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cluster = Cluster::start(ClusterOptions::default()).await.expect("a control plane");
    percona::install(&cluster).await;
    let report = story_of_a_database(&cluster, "none").await;
    assert!(report.is_clean(), "{report}");
    for (fault, words) in [("take-database", "does not ask for it"), ("keep-tie", "a database along that is to stay")] {
        let report = story_of_a_database(&cluster, fault).await;
        let found = report.broken.iter().any(|broken| broken.promise == Promise::S3 && broken.words.contains(words));
        assert!(found, "{fault}: {report}");
    }
}

async fn polls(bed: &Bed, more: usize) {
    let server = bed.dittofs("files");
    let before = server.polls().len();
    server
        .wait_for(|log| log.iter().filter(|request| request.is_poll()).count() >= before + more, Duration::from_mins(1))
        .await
        .expect("the server is polled");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_seeded_fault_of_the_operator_is_found() {
    let reports: Vec<_> = futures::stream::iter(FAULTS)
        .map(|(fault, beside, promise)| story(fault, beside).map(move |report| (fault, promise, report)))
        .buffer_unordered(4)
        .collect()
        .await;
    let mut missed = Vec::new();
    for (fault, promise, report) in &reports {
        let mut found: Vec<Promise> = report.broken.iter().map(|broken| broken.promise).collect();
        found.dedup();
        let words = report.broken.iter().find(|broken| broken.promise == *promise).map(|broken| broken.words.clone());
        println!("| {fault} | {promise:?} | {found:?} | {} |", words.clone().unwrap_or_default());
        if words.is_none() {
            missed.push(format!("{fault} should break {promise:?}: {report}"));
        }
    }
    assert_eq!(reports.len(), FAULTS.len());
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_fault_the_same_stories_are_clean() {
    // A second list does not come within this test.
    let besides = [
        Beside::Nothing,
        Beside::ForeignService,
        Beside::FailingApi,
        Beside::Restart,
        Beside::ForeignPolicy,
        Beside::Paused,
        Beside::Deleted,
    ];
    let reports: Vec<_> =
        futures::stream::iter(besides).map(|beside| story("none", beside)).buffer_unordered(4).collect().await;
    for report in reports {
        assert!(report.is_clean(), "{report}");
    }
}
