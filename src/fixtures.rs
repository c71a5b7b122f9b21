//! Servers for unit tests: `server("files").namespace("tenant").uid("…").build()`.
//!
//! A fixture has the CRD's defaults; [`everything`] has every field set, each to a value of its own, so that a swap
//! shows.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, EnvVar, LocalObjectReference, NodeAffinity, NodeSelector, NodeSelectorRequirement,
    NodeSelectorTerm, PodSecurityContext, ResourceRequirements, SecurityContext, Toleration, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::reconcile::{
    Admin, ApiTls, Cache, ClientPorts, Database, Jwt, Logging, Metrics, OnPortChange, OnSpecChange, PodSettings,
    Rollout, SecretKey, ServerKey, ServiceSettings, ServiceType, Storage, ValidatedServer,
};

/// A server under construction.
#[derive(Clone, Debug)]
pub(crate) struct ServerFixture(ValidatedServer);

/// A server called `name` with nothing set but what is required.
pub(crate) fn server(name: &str) -> ServerFixture {
    let settings = ServiceSettings { service_type: ServiceType::LoadBalancer, annotations: BTreeMap::new() };
    ServerFixture(ValidatedServer {
        key: ServerKey::new("default", name),
        uid: format!("uid-of-{name}"),
        generation: 1,
        deleting: false,
        image: "marmos91c/dittofs:latest".into(),
        replicas: 1,
        storage: Storage { metadata: "10Gi".into(), content: None, control_plane: "1Gi".into(), class: None },
        database: Database::Sqlite { path: "/data/controlplane/controlplane.db".into() },
        cache: Cache { size_bytes: 1 << 30, path: "/data/store/block".into() },
        api_port: 8080,
        api_tls: ApiTls::default(),
        ports: ClientPorts { nfs: 2049, smb: 445 },
        jwt: Jwt { secret: None, access_token_duration: "15m".into(), refresh_token_duration: "168h".into() },
        admin: Admin { username: "admin".into(), password: None },
        polling_interval: Duration::from_secs(30),
        stop_grace_period: Duration::from_secs(35),
        adapter_services: settings.clone(),
        service: settings,
        file_service_enabled: true,
        metrics: None,
        logging: Logging { level: "INFO".into(), format: "json".into(), output: "stdout".into() },
        rollout: Rollout { on_port_change: OnPortChange::Deferred, on_spec_change: OnSpecChange::Always },
        termination_grace_period_seconds: 105,
        resources: None,
        security_context: None,
        pod_security_context: None,
        pod: PodSettings::default(),
    })
}

impl ServerFixture {
    /// Another namespace than `default`.
    pub(crate) fn namespace(self, namespace: &str) -> Self {
        self.with(|server| server.key.namespace = namespace.into())
    }
    /// Another uid than `uid-of-<name>`.
    pub(crate) fn uid(self, uid: &str) -> Self {
        self.with(|server| server.uid = uid.into())
    }
    /// Another generation than 1.
    pub(crate) fn generation(self, generation: i64) -> Self {
        self.with(|server| server.generation = generation)
    }
    /// Any other change.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut ValidatedServer)) -> Self {
        change(&mut self.0);
        self
    }
    /// The server.
    pub(crate) fn build(self) -> ValidatedServer {
        self.0
    }
}

/// A server that speaks TLS itself, with a name in every field of it but the clients' CA.
pub(crate) fn secured(name: &str) -> ValidatedServer {
    mutual_fixture(name).with(|s| s.api_tls.client_ca_secret = None).build()
}

/// A server that speaks mutual TLS.
pub(crate) fn mutual(name: &str) -> ValidatedServer {
    mutual_fixture(name).build()
}

fn mutual_fixture(name: &str) -> ServerFixture {
    let secret = |name: &str| Some(name.to_owned());
    server(name).namespace("tenant").uid("3e9c1b7a-0000-4000-8000-00000000f00d").with(|s| {
        s.api_tls = ApiTls {
            enabled: true,
            cert_secret: secret("api-certificate"),
            client_ca_secret: secret("clients-ca"),
            client_cert_secret: secret("operator-certificate"),
            ca_secret: secret("mesh-ca"),
        };
    })
}

/// A server with every field set, each value its own.
pub(crate) fn everything(name: &str) -> ValidatedServer {
    fn map(key: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(key.to_owned(), value.to_owned())])
    }
    fn secret(name: &str, key: &str) -> SecretKey {
        SecretKey { name: name.into(), key: key.into() }
    }
    fn quantities(cpu: &str, memory: &str) -> BTreeMap<String, Quantity> {
        BTreeMap::from([("cpu".into(), Quantity(cpu.into())), ("memory".into(), Quantity(memory.into()))])
    }
    let node_affinity = NodeAffinity {
        preferred_during_scheduling_ignored_during_execution: Some(vec![]),
        required_during_scheduling_ignored_during_execution: Some(NodeSelector {
            node_selector_terms: vec![NodeSelectorTerm {
                match_expressions: Some(vec![NodeSelectorRequirement {
                    key: "zone".into(),
                    operator: "In".into(),
                    values: Some(vec!["z1".into()]),
                }]),
                match_fields: Some(vec![]),
            }],
        }),
    };
    let pod = PodSettings {
        node_selector: map("disk", "ssd"),
        tolerations: vec![Toleration {
            key: Some("storage".into()),
            operator: Some("Exists".into()),
            value: Some(String::new()),
            effect: Some("NoSchedule".into()),
            ..Toleration::default()
        }],
        affinity: Some(Affinity { node_affinity: Some(node_affinity), ..Affinity::default() }),
        topology_spread_constraints: vec![TopologySpreadConstraint {
            max_skew: 2,
            topology_key: "rack".into(),
            when_unsatisfiable: "ScheduleAnyway".into(),
            label_selector: Some(LabelSelector {
                match_labels: Some(map("tier", "files")),
                ..LabelSelector::default()
            }),
            ..TopologySpreadConstraint::default()
        }],
        image_pull_secrets: vec![LocalObjectReference { name: "pull".into() }],
        image_pull_policy: Some("Always".into()),
        priority_class_name: Some("important".into()),
        env: vec![
            EnvVar { name: "TZ".into(), value: Some("Europe/Rome".into()), ..EnvVar::default() },
            EnvVar { name: "EMPTY".into(), value: Some(String::new()), ..EnvVar::default() },
            EnvVar {
                name: "DITTOFS_CONTROLPLANE_SECRET".into(),
                value: Some("not the user's to set".into()),
                ..EnvVar::default()
            },
        ],
        labels: BTreeMap::from([("team".into(), "storage".into()), ("app".into(), "hijacked".into())]),
        annotations: BTreeMap::from([
            ("note".into(), "hello".into()),
            ("dittofs.io/config-hash".into(), "hijacked".into()),
        ]),
    };
    server(name)
        .namespace("tenant")
        .uid("7d0f4a52-0000-4000-8000-00000000beef")
        .generation(23)
        .with(|s| {
            s.image = "example.org/dittofs:v9".into();
            s.storage = Storage {
                metadata: "2048Mi".into(),
                content: Some("3Ti".into()),
                control_plane: "5Gi".into(),
                class: Some("fast".into()),
            };
            s.database = Database::Postgres { secret: "pg-conn".into() };
            s.cache = Cache { size_bytes: 3 << 30, path: "/data/cache".into() };
            s.api_port = 8443;
            s.ports = ClientPorts { nfs: 3049, smb: 4445 };
            s.jwt = Jwt {
                secret: Some(secret("own-jwt", "signing")),
                access_token_duration: "17m".into(),
                refresh_token_duration: "190h".into(),
            };
            s.admin = Admin { username: "boss".into(), password: Some(secret("own-admin", "pass")) };
            s.polling_interval = Duration::from_secs(7);
            s.stop_grace_period = Duration::from_secs(41);
            s.adapter_services =
                ServiceSettings { service_type: ServiceType::NodePort, annotations: map("adapters", "only") };
            s.service = ServiceSettings { service_type: ServiceType::ClusterIp, annotations: map("service", "only") };
            s.metrics = Some(Metrics { port: 9191, path: "/telemetry".into() });
            s.logging = Logging { level: "WARN".into(), format: "text".into(), output: "stderr".into() };
            s.rollout = Rollout { on_port_change: OnPortChange::Immediate, on_spec_change: OnSpecChange::WhenNeeded };
            s.termination_grace_period_seconds = 77;
            s.resources = Some(ResourceRequirements {
                limits: Some(quantities("2.5", "4096Mi")),
                requests: Some(quantities("250m", "0.5Gi")),
                claims: Some(vec![]),
            });
            s.security_context = Some(SecurityContext {
                capabilities: Some(Capabilities { add: Some(vec!["NET_BIND_SERVICE".into()]), drop: None }),
                read_only_root_filesystem: Some(false),
                ..SecurityContext::default()
            });
            s.pod_security_context =
                Some(PodSecurityContext { run_as_user: Some(1234), run_as_group: Some(5678), ..Default::default() });
            s.pod = pod;
        })
        .build()
}
