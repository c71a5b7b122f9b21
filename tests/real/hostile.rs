//! A tenant who may edit DittoServers in a namespace of his own, and a file server that was taken over by somebody: what
//! they can do to a neighbour in another namespace, and to the operator. The checker judges S3, S5–S8 on top.

use std::time::{Duration, Instant};

use dittofs_testbed::audit::Expect;
use dittofs_testbed::cluster::{Cluster, ClusterOptions, Namespace, resources};
use dittofs_testbed::dittofs::{Mode, Scope, ServerHandle};
use serde_json::{Value, json};

use crate::support::{Bed, SOON, wait_adapter_types};

const LONG: Duration = Duration::from_mins(1);
/// What any of the attacks may cost the operator's memory: answers are cut at a few hundred KiB, and not kept.
const MEMORY: u64 = 48 << 20;

/// Two namespaces under one operator that watches all of them: the tenant's, which is the bed's, and the neighbour's.
struct Two {
    bed: Bed,
    neighbour: Namespace,
}

impl Two {
    async fn new(test: &str) -> Self {
        let cluster = Cluster::start(ClusterOptions::default()).await.expect("a control plane");
        let mut bed = Bed::on(&cluster, test).await;
        let mut options = bed.options();
        options.namespace = None;
        bed.world.start_operator(options).await.expect("the operator starts");
        let neighbour = cluster.namespace("neighbour").await.expect("another namespace");
        let server = json!({
            "metadata": {"name": "files"},
            "spec": {"storage": {"metadataSize": "1Gi", "contentSize": "1Gi"},
                     "adapterDiscovery": {"pollingInterval": "1s"}},
        });
        neighbour.create_object(resources::SERVERS, &server).await.expect("the server is accepted");
        let two = Self { bed, neighbour };
        two.wait_neighbour(&["nfs", "smb"]).await;
        two
    }

    fn victim(&self) -> ServerHandle {
        self.bed.world.stand_in().server(self.neighbour.name(), "files")
    }

    async fn wait_neighbour(&self, wanted: &[&str]) {
        wait_adapter_types(&self.neighbour, wanted).await;
    }

    /// How long the neighbour's Services took to follow a stop and a start, the longer of the two.
    async fn neighbours_delay(&self) -> Duration {
        let mut worst = Duration::ZERO;
        for (running, wanted) in [(false, &["nfs"][..]), (true, &["nfs", "smb"][..])] {
            let start = Instant::now();
            if running {
                self.victim().start_adapter("smb");
            } else {
                self.victim().stop_adapter("smb");
            }
            self.wait_neighbour(wanted).await;
            worst = worst.max(start.elapsed());
        }
        worst
    }

    fn peak(&self) -> u64 {
        self.bed.world.operator().usage().expect("its memory").peak_memory
    }

    async fn finish(self, starts: usize) {
        self.bed.finish_with(Expect { pod_starts: Some(starts), ..Expect::default() }).await;
    }
}

/// Not slower than before, as far as a busy machine can tell: one timeout that anybody waits for would be seen.
fn assert_unmoved(before: Duration, now: Duration, what: &str) {
    assert!(now < before * 3 + Duration::from_secs(3), "{what}: the neighbour took {now:?}, {before:?} before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compromised_server_costs_neither_its_neighbour_time_nor_the_operator_memory() {
    let two = Two::new("compromised").await;
    two.bed.ready_server("evil", &json!({})).await;
    let evil = two.bed.dittofs("evil");
    let (before, peak) = (two.neighbours_delay().await, two.peak());
    let elsewhere = two.bed.world.stand_in().url(two.neighbour.name(), "files");
    let asked_of_victim =
        |path: &str| two.victim().requests().iter().filter(|request| request.path.contains(path)).count();
    let logins = asked_of_victim("/auth/login");
    for mode in [
        Mode::GzipBomb,
        Mode::DeepNesting,
        Mode::Huge(64 << 20),
        Mode::Endless,
        Mode::DuplicateType,
        Mode::Redirect(elsewhere),
    ] {
        evil.set_mode(mode.clone(), Scope::AdaptersList);
        let asked = evil.polls().len();
        evil.wait_for(|log| log.iter().filter(|request| request.is_poll()).count() > asked + 1, LONG)
            .await
            .expect("it is asked again and again");
        assert_unmoved(before, two.neighbours_delay().await, &format!("{mode:?}"));
        two.bed.wait_adapter_services("evil", &[("nfs", 12049), ("smb", 1445)]).await;
    }
    assert!(two.peak() < peak + MEMORY, "{} MiB, {} MiB before", two.peak() >> 20, peak >> 20);
    assert_eq!(asked_of_victim("/auth/login"), logins, "a redirect leads nobody's credentials to another server");
    evil.heal();
    two.bed.world.wait_ready("evil").await.expect("it is believed again when it is honest");
    two.finish(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn adapters_without_end_and_with_hostile_names_are_refused_or_made_harmless() {
    let two = Two::new("adapters").await;
    two.bed.ready_server("evil", &json!({})).await;
    let evil = two.bed.dittofs("evil");
    let (before, peak) = (two.neighbours_delay().await, two.peak());
    // A path, a label and names that fit nowhere: each becomes a Service of a valid name.
    for (number, name) in ["../../secrets", "dittofs.io/x=y", "UPPER case", "-"].into_iter().enumerate() {
        evil.create_adapter(name, 20_000 + u16::try_from(number).expect("few"));
    }
    let asked = evil.polls().len();
    evil.wait_for(|log| log.iter().filter(|request| request.is_poll()).count() > asked + 2, LONG).await.expect("polls");
    let services = two.bed.world.adapter_services("evil").await.expect("a list");
    for service in &services {
        let name = service["metadata"]["name"].as_str().unwrap_or_default();
        assert!(name.starts_with("evil-adapter-") && name.len() <= 63, "{name}");
    }
    // A terminal escape reaches nobody's terminal.
    evil.create_adapter("\u{1b}[31mred", 21_000);
    two.bed.wait_message("evil", "AdaptersDiscovered", "False", "control character").await;
    let status = two.bed.world.server("evil").await.expect("the server")["status"].to_string();
    let log = two.bed.world.operator().logs().join("\n");
    assert!(!status.contains("\\u001b") && !log.contains('\u{1b}') && !log.contains("\\u001b"), "{status}\n{log}");
    evil.delete_adapter("\u{1b}[31mred");
    for number in 0..10_000_u16 {
        evil.create_adapter(&format!("a{number}"), 30_000);
    }
    two.bed.wait_message("evil", "AdaptersDiscovered", "False", "the answer is larger than").await;
    let after = two.bed.world.adapter_services("evil").await.expect("a list");
    assert_eq!(after.len(), services.len(), "an answer that is refused changes nothing");
    assert_unmoved(before, two.neighbours_delay().await, "10,000 adapters");
    assert!(two.peak() < peak + MEMORY, "{} MiB, {} MiB before", two.peak() >> 20, peak >> 20);
    two.finish(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_reaches_no_other_namespace_and_cannot_keep_the_operator_busy() {
    let two = Two::new("tenant").await;
    let before = two.neighbours_delay().await;
    let tenant = two.bed.world.namespace();
    let secret = two.neighbour.secret("treasure", &[("password", "the-neighbours-treasure-4711")]).await;
    secret.expect("the neighbour's Secret");

    // A Secret elsewhere: no name of the tenant's leads there.
    for (server, name) in [("one", format!("../{}/treasure", two.neighbour.name())), ("two", "treasure".to_owned())] {
        let spec = json!({
            "storage": {"metadataSize": "1Gi"},
            "identity": {"admin": {"passwordSecretRef": {"name": name, "key": "password"}}},
        });
        let object = json!({"metadata": {"name": server}, "spec": spec});
        match tenant.create_object(resources::SERVERS, &object).await {
            Ok(_) => {
                two.bed
                    .world
                    .wait_server(server, "to say that its Secret is missing", SOON, |server| {
                        let found = dittofs_testbed::world::condition(server, "ConfigReady").cloned();
                        let found = found.unwrap_or_default();
                        if found["status"] == "False" { Ok(()) } else { Err(found.to_string()) }
                    })
                    .await
                    .expect("the condition says so");
            }
            Err(error) => assert!(error.to_string().contains("passwordSecretRef"), "{error}"),
        }
    }

    // Annotations up to the API server's limit, which nothing of ours carries on.
    let fat = json!({
        "metadata": {"name": "fat", "annotations": {"tenant.example/fat": "x".repeat(250 << 10)}},
        "spec": {"storage": {"metadataSize": "1Gi"}, "replicas": 0},
    });
    tenant.create_object(resources::SERVERS, &fat).await.expect("accepted");
    two.bed.wait_object(resources::STATEFUL_SETS, "fat", "to be there", |_| Ok(())).await;
    for kind in [resources::STATEFUL_SETS, resources::CONFIG_MAPS, resources::SERVICES] {
        for object in tenant.list(kind, "instance=fat").await.expect("a list") {
            assert!(object.to_string().len() < 32 << 10, "{}", object["metadata"]["name"]);
        }
    }

    // A spec that changes fifty times a second.
    let peak = two.peak();
    let calm =
        json!({"storage": {"metadataSize": "1Gi"}, "replicas": 0, "adapterDiscovery": {"pollingInterval": "1s"}});
    tenant
        .create_object(resources::SERVERS, &json!({"metadata": {"name": "busy"}, "spec": calm}))
        .await
        .expect("accepted");
    let storm = async {
        let mut every = tokio::time::interval(Duration::from_millis(20));
        for number in 0..250 {
            every.tick().await;
            let level = ["DEBUG", "INFO", "WARN", "ERROR"][number % 4];
            let change: Value = json!({"spec": {"logging": {"level": level}}});
            tenant.patch(resources::SERVERS, "busy", &change).await.expect("the change is accepted");
        }
    };
    let ((), during) = tokio::join!(storm, two.neighbours_delay());
    assert_unmoved(before, during, "a CR that changes fifty times a second");
    assert!(two.peak() < peak + MEMORY, "{} MiB, {} MiB before", two.peak() >> 20, peak >> 20);
    let current = tenant.get(resources::SERVERS, "busy").await.expect("an answer").expect("the server");
    two.bed
        .world
        .wait_server("busy", "to be followed to the end", LONG, |server| {
            let there = server["status"]["observedGeneration"] == current["metadata"]["generation"];
            if there { Ok(()) } else { Err(server["status"].to_string()) }
        })
        .await
        .expect("the last change counts");
    // 250 changes in five seconds: a write for each of the few runs that saw them, checked against the log.
    let expect = Expect {
        pod_starts: Some(1),
        canaries: vec!["the-neighbours-treasure-4711".to_owned()],
        max_writes_per_object: 150,
        ..Expect::default()
    };
    two.bed.finish_with(expect).await;
}
