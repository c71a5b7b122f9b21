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
    Admin, ApiTls, Cache, ClientPorts, Database, Jwt, Kerberos, Krb5Conf, Ldap, Logging, MachineAccount, Metrics,
    OnPortChange, OnSpecChange, Percona, PerconaBackup, PodSettings, Rollout, SecretKey, ServerKey, ServiceSettings,
    ServiceType, SnapshotPolicy, Storage, ValidatedServer,
};

/// A server under construction.
#[derive(Clone, Debug)]
pub(crate) struct ServerFixture(ValidatedServer);

/// A server called `name` with nothing set but what is required.
pub(crate) fn server(name: &str) -> ServerFixture {
    ServerFixture(ValidatedServer {
        key: ServerKey::new("default", name),
        uid: format!("uid-of-{name}"),
        generation: 1,
        deleting: false,
        image: "marmos91c/dittofs:latest".into(),
        replicas: 1,
        storage: Storage { metadata: "10Gi".into(), content: None, control_plane: "1Gi".into(), class: None },
        database: Database::Sqlite { path: "/data/controlplane/controlplane.db".into() },
        percona: None,
        cache: Cache { size_bytes: 1 << 30, path: "/data/store/block".into() },
        api_port: 8080,
        api_tls: ApiTls::default(),
        ports: ClientPorts { nfs: 2049, smb: 445 },
        jwt: Jwt { secret: None, access_token_duration: "15m".into(), refresh_token_duration: "168h".into() },
        admin: Admin { username: "admin".into(), password: None },
        ldap: None,
        kerberos: None,
        polling_interval: Duration::from_secs(30),
        stop_grace_period: Duration::from_secs(35),
        adapter_services: ServiceSettings::default(),
        per_adapter: BTreeMap::new(),
        api_service: ServiceSettings::default(),
        api_type_field: "spec.service.type",
        file_service: ServiceSettings::default(),
        file_service_enabled: true,
        idle_service_fields: vec![],
        metrics: None,
        logging: Logging { level: "INFO".into(), format: "json".into(), output: "stdout".into() },
        rollout: Rollout { on_port_change: OnPortChange::Deferred, on_spec_change: OnSpecChange::Always },
        snapshot_policies: vec![],
        termination_grace_period_seconds: 105,
        resources: None,
        security_context: None,
        pod_security_context: None,
        pod: PodSettings::default(),
        restart_at: None,
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

/// Settings of a load balancer with every field set, its texts marked with `mark`.
pub(crate) fn service_settings(mark: &str) -> ServiceSettings {
    let map = |key: &str| BTreeMap::from([(format!("example.com/{key}-{mark}"), format!("{mark}-{key}"))]);
    ServiceSettings {
        service_type: ServiceType::LoadBalancer,
        annotations: map("note"),
        labels: map("team"),
        load_balancer_class: Some(format!("example.com/{mark}")),
        load_balancer_source_ranges: vec!["192.0.2.0/24".into(), "2001:db8::/32".into()],
        external_traffic_policy: Some("Local"),
        ip_family_policy: Some("PreferDualStack"),
        ip_families: vec!["IPv6", "IPv4"],
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
            let settings =
                |service_type, annotations| ServiceSettings { service_type, annotations, ..ServiceSettings::default() };
            s.adapter_services = settings(ServiceType::NodePort, map("adapters", "only"));
            s.api_service = settings(ServiceType::ClusterIp, map("service", "only"));
            s.file_service = s.api_service.clone();
            s.metrics = Some(Metrics { port: 9191, path: "/telemetry".into(), bearer_token: None });
            s.logging = Logging { level: "WARN".into(), format: "text".into(), output: "stderr".into() };
            s.rollout = Rollout { on_port_change: OnPortChange::Immediate, on_spec_change: OnSpecChange::WhenNeeded };
            s.snapshot_policies = vec![SnapshotPolicy {
                share: "/archive".into(),
                interval: "@daily".into(),
                keep_last: 7,
                ttl: "720h".into(),
                enabled: false,
                name_prefix: "auto".into(),
            }];
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

/// [`everything`] with a directory, Kerberos and a token for the metrics, each value its own.
pub(crate) fn directory(name: &str) -> ValidatedServer {
    fn secret(name: &str, key: &str) -> SecretKey {
        SecretKey { name: name.into(), key: key.into() }
    }
    let mut server = everything(name);
    server.ldap = Some(Ldap {
        url: "ldaps://dc.example.com:636".into(),
        start_tls: true,
        allow_plaintext: false,
        base_dn: "DC=example,DC=com".into(),
        bind_dn: "CN=dittofs,DC=example,DC=com".into(),
        bind_password: Some(secret("ldap-bind", "bind-pass")),
        user_attr: Some("uid".into()),
        realm: Some("USERS.EXAMPLE.COM".into()),
        idmap: Some("rid".into()),
        nested_groups: true,
        ca_cert_file: Some("/etc/ssl/ldap.pem".into()),
        ca_secret: Some(secret("ldap-ca", "bundle.pem")),
        insecure_skip_verify: false,
    });
    server.kerberos = Some(Kerberos {
        service_principal: Some("nfs/files.example.com@EXAMPLE.COM".into()),
        realm: Some("EXAMPLE.COM".into()),
        netbios_domain: Some("EXAMPLE".into()),
        dns_domain: Some("example.com".into()),
        keytab: Some(secret("krb-keytab", "nfs.keytab")),
        krb5_conf_secret: Some(secret("krb-conf", "conf")),
        krb5_conf: Some(Krb5Conf::Path("/etc/krb5.conf".into())),
        machine_account: Some(MachineAccount {
            account_name: Some("FILES$".into()),
            secret: Some(secret("machine", "machine-pass")),
            keytab: Some(secret("machine-keytab", "own.keytab")),
            dc_address: vec!["dc1.example.com".into(), "dc2.example.com:445".into()],
        }),
    });
    if let Some(metrics) = &mut server.metrics {
        metrics.bearer_token = Some(secret("scrape", "scrape-token"));
    }
    server
}

/// A server with a database of Percona's operator, each value its own.
pub(crate) fn percona_server(name: &str) -> ValidatedServer {
    server(name)
        .namespace("tenant")
        .uid("5a1e0000-0000-4000-8000-00000000feed")
        .with(|s| {
            s.database = Database::Percona;
            s.percona = Some(Percona {
                delete_with_server: false,
                replicas: 3,
                storage_size: "20480Mi".into(),
                storage_class: Some("block".into()),
                database_name: "control".into(),
                backup: Some(PerconaBackup {
                    credentials: Some("s3".into()),
                    bucket: "backups".into(),
                    endpoint: "s3.example.com".into(),
                    region: "eu-south-1".into(),
                    full_schedule: "5 1 * * *".into(),
                    incr_schedule: "7 * * * *".into(),
                    retention_days: 9,
                }),
            });
        })
        .build()
}
