//! A control plane, a DittoFS stand-in and the operator, put together.

use std::time::Duration;

use dittofs_testbed::audit::{self, Expect, Observation};
use dittofs_testbed::cluster::{Cluster, repository, resources};
use dittofs_testbed::dittofs::ServerHandle;
use dittofs_testbed::operator::OperatorOptions;
use dittofs_testbed::world::World;
use serde_json::{Value, json};

use crate::snapshot::{Objects, compare, snapshot};

/// The operator under test: built with the faults that tests may switch on.
pub(crate) const OPERATOR: &str = env!("CARGO_BIN_EXE_dittofs-operator");

/// Long enough for anything that has to happen soon, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Gives a control plane a kind: the CRD in a file of the repository.
pub(crate) async fn install(cluster: &Cluster, path: &str) {
    let text = std::fs::read_to_string(repository().join(path)).expect("the CRD");
    let crd: Value = serde_yaml_ng::from_str(&text).expect("YAML");
    cluster.create(resources::CRDS, "", &crd).await.expect("the CRD is accepted");
}

/// One test's surroundings.
pub(crate) struct Bed {
    pub(crate) world: World,
}

impl Bed {
    /// On the shared control plane, in a namespace of its own, with an operator that runs.
    pub(crate) async fn new(test: &str) -> Self {
        let mut bed = Self::idle(test).await;
        let options = bed.world.options();
        bed.world.start_operator(options).await.expect("the operator starts");
        bed
    }

    /// The same, without an operator.
    pub(crate) async fn idle(test: &str) -> Self {
        Self::on(Cluster::shared(), test).await
    }

    /// On a control plane of the test's own.
    pub(crate) async fn on(cluster: &Cluster, test: &str) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Self { world: World::new_on(cluster, test, OPERATOR).await.expect("a namespace and a stand-in") }
    }

    /// Options for an operator of this test.
    pub(crate) fn options(&self) -> OperatorOptions {
        self.world.options()
    }

    /// The DittoFS server behind a DittoServer of this test's namespace.
    pub(crate) fn dittofs(&self, name: &str) -> ServerHandle {
        self.world.dittofs(name)
    }

    /// Creates a server that is polled each second, and waits until it is ready.
    pub(crate) async fn ready_server(&self, name: &str, spec: &Value) -> Value {
        let mut whole = json!({"adapterDiscovery": {"pollingInterval": "1s"}});
        dittofs_testbed::world::merge(&mut whole, spec);
        self.world.apply_server(name, &whole).await.expect("the server is accepted");
        self.world.wait_ready(name).await.expect("the server becomes ready")
    }

    /// Waits until the adapter Services of a server are exactly these, as (type, port), sorted by type.
    pub(crate) async fn wait_adapter_services(&self, name: &str, wanted: &[(&str, u64)]) {
        self.wait_adapter_services_within(name, wanted, SOON).await;
    }

    /// The same, with a time of its own.
    pub(crate) async fn wait_adapter_services_within(&self, name: &str, wanted: &[(&str, u64)], time: Duration) {
        self.world
            .wait_until(&format!("the adapter Services of {name} to be {wanted:?}"), time, async || {
                let services = self.world.adapter_services(name).await.map_err(|error| error.to_string())?;
                let found: Vec<(String, u64)> = services
                    .iter()
                    .filter(|service| service["metadata"]["deletionTimestamp"].is_null())
                    .map(|service| {
                        let kind =
                            service["metadata"]["labels"]["dittofs.io/adapter-type"].as_str().unwrap_or_default();
                        (kind.to_owned(), service["spec"]["ports"][0]["port"].as_u64().unwrap_or_default())
                    })
                    .collect();
                let same = found.len() == wanted.len()
                    && found.iter().zip(wanted).all(|(found, wanted)| found.0 == wanted.0 && found.1 == wanted.1);
                if same { Ok(()) } else { Err(format!("{found:?}")) }
            })
            .await
            .expect("the adapter Services follow");
    }

    /// Waits until the container ports named `adapter-…` are exactly these.
    pub(crate) async fn wait_adapter_ports(&self, name: &str, wanted: &[(&str, u64)]) {
        self.world
            .wait_until(&format!("the adapter ports of {name} to be {wanted:?}"), SOON, async || {
                let set = self.world.stateful_set(name).await.map_err(|error| error.to_string())?;
                let mut found: Vec<(String, u64)> = crate::look::container(&set["spec"]["template"]["spec"])["ports"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|port| {
                        (
                            port["name"].as_str().unwrap_or_default().to_owned(),
                            port["containerPort"].as_u64().unwrap_or_default(),
                        )
                    })
                    .filter(|(name, _)| name.starts_with("adapter-"))
                    .collect();
                found.sort();
                let same = found.len() == wanted.len()
                    && found
                        .iter()
                        .zip(wanted)
                        .all(|(found, wanted)| found.0 == format!("adapter-{}", wanted.0) && found.1 == wanted.1);
                if same { Ok(()) } else { Err(format!("{found:?}")) }
            })
            .await
            .expect("the container ports follow");
    }

    /// Waits until the namespace's objects are as in a snapshot.
    pub(crate) async fn wait_same(&self, clean: &Objects, what: &str) {
        self.world
            .wait_until(what, Duration::from_mins(1), async || {
                compare(clean, &snapshot(self.world.namespace(), "files").await)
            })
            .await
            .expect("the objects are the same");
    }

    /// Waits until the status of a server names just these adapters, each with an address.
    pub(crate) async fn wait_endpoints(&self, name: &str, adapters: &[(&str, u64)]) {
        self.world
            .wait_server(name, "to say what runs and where", SOON, |server| {
                let told = server["status"]["adapters"].as_array().cloned().unwrap_or_default();
                let there = adapters.iter().all(|(kind, port)| {
                    told.iter().any(|adapter| {
                        let address = adapter["endpoint"].as_str().is_some_and(|endpoint| !endpoint.is_empty());
                        adapter["type"] == *kind && adapter["port"] == *port && address
                    })
                });
                let kinds: Vec<_> = adapters.iter().map(|(kind, _)| *kind).collect();
                let active = server["status"]["activeAdapters"] == kinds.join(", ");
                if active && there { Ok(()) } else { Err(server["status"].to_string()) }
            })
            .await
            .expect("the status follows");
    }

    /// Ends the test and has its history checked; `starts` pods were allowed to start.
    pub(crate) async fn finish(self, starts: usize) {
        self.finish_with(Expect { pod_starts: Some(starts), ..Expect::default() }).await;
    }

    /// Ends the test and has its history checked; what the DittoFS servers answered is part of it.
    pub(crate) async fn finish_with(self, mut expect: Expect) {
        if expect.timeline.is_none() {
            expect.timeline = Some(self.timeline());
        }
        self.world.finish(expect).await;
    }

    /// Every full and true answer to a poll that the test's servers gave, oldest first.
    pub(crate) fn timeline(&self) -> Vec<Observation> {
        audit::timeline(self.world.stand_in())
    }
}
