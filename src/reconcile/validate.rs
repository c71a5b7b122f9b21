//! From the resource as it was read to a [`ValidatedServer`]: the one place where a `DittoServer` is checked.
//!
//! Takes the JSON of the whole object, because an older CRD may have let through what the types would not parse, and
//! one such object must not stop the others. Fills in every default itself, checks all that the CEL rules check, and
//! collects every problem instead of the first. Pure: the same object gives the same answer.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::EnvVar;
use serde_json::Value;

use super::duration::parse_go_duration;
use super::problem::{Field, Reader, SpecInvalid, shown};
use super::quantity::{is_claim_size, parse_bytes};
use super::{
    Admin, Cache, ClientPorts, Database, Jwt, Logging, Metrics, Names, OnPortChange, OnSpecChange, PodSettings,
    Rollout, SecretKey, ServerKey, ServiceSettings, ServiceType, Storage, ValidatedServer,
};
use crate::crd::{defaults, rules};

const SERVICE_TYPES: [(&str, ServiceType); 3] = [
    ("ClusterIP", ServiceType::ClusterIp),
    ("NodePort", ServiceType::NodePort),
    ("LoadBalancer", ServiceType::LoadBalancer),
];

/// Checks a `DittoServer` (the whole object as JSON) and fills in its defaults.
///
/// # Errors
/// [`SpecInvalid`] with every problem, when the object cannot be acted upon.
pub fn validate(object: &Value) -> Result<ValidatedServer, SpecInvalid> {
    let mut read = Reader::default();
    let metadata = Field::root(object, "metadata");
    let name = name(&mut read, &metadata);
    let namespace = required_text(&mut read, &metadata.child("namespace"));
    let uid = required_text(&mut read, &metadata.child("uid"));

    let mut spec = Field::root(object, "spec");
    match spec.value {
        None => read.note("spec", "unset", rules::SPEC_REMEDY),
        Some(value) if !value.is_object() => {
            read.note("spec", shown(value), rules::SPEC_REMEDY);
            spec.value = None;
        }
        Some(_) => {}
    }
    let storage = storage(&mut read, &spec);
    let cache = cache(&mut read, &spec);
    let database = database(&mut read, &spec);
    let api_port = {
        let control_plane = read.object(&spec, "controlPlane");
        read.port(&control_plane.child("port"), defaults::API_PORT)
    };
    let ports = {
        let ports = read.object(&spec, "ports");
        ClientPorts {
            nfs: read.port(&ports.child("nfs"), defaults::NFS_PORT),
            smb: read.port(&ports.child("smb"), defaults::SMB_PORT),
        }
    };
    let metrics = metrics(&mut read, &spec);
    ports_differ(&mut read, ports, api_port, metrics.as_ref());
    let (jwt, admin) = identity(&mut read, &spec);
    let (polling_interval, stop_grace_period) = discovery(&mut read, &spec);

    let server = ValidatedServer {
        key: ServerKey { namespace, name },
        uid,
        generation: object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default(),
        deleting: metadata.child("deletionTimestamp").value.is_some(),
        image: read.text(&spec.child("image"), defaults::IMAGE, rules::BLANK_REMEDY, is_not_blank),
        replicas: {
            let replicas = read.integer(&spec.child("replicas"), i64::from(defaults::REPLICAS), 0, 1);
            i32::try_from(replicas).unwrap_or_default()
        },
        storage,
        database,
        cache,
        api_port,
        ports,
        jwt,
        admin,
        polling_interval,
        stop_grace_period,
        adapter_services: service(&mut read, &spec, "adapterServices"),
        service: service(&mut read, &spec, "service"),
        file_service_enabled: {
            let file_service = read.object(&spec, "fileService");
            read.boolean(&file_service.child("enabled"), true)
        },
        metrics,
        logging: logging(&mut read, &spec),
        rollout: rollout(&mut read, &spec),
        termination_grace_period_seconds: read.integer(
            &spec.child("terminationGracePeriodSeconds"),
            defaults::TERMINATION_GRACE_PERIOD_SECONDS,
            36,
            i64::MAX,
        ),
        resources: read.typed(&spec.child("resources"), "ResourceRequirements"),
        security_context: read.typed(&spec.child("securityContext"), "SecurityContext"),
        pod_security_context: read.typed(&spec.child("podSecurityContext"), "PodSecurityContext"),
        pod: pod(&mut read, &spec),
    };
    let problems = read.into_problems();
    if problems.is_empty() { Ok(server) } else { Err(SpecInvalid { problems }) }
}

fn required_text(read: &mut Reader, field: &Field<'_>) -> String {
    let remedy = "read the object from the API server, which sets it";
    if field.value.is_none() {
        read.note(&field.path, "unset", remedy);
    }
    read.text(field, "", remedy, |text| !text.is_empty())
}

fn name(read: &mut Reader, metadata: &Field<'_>) -> String {
    let field = metadata.child("name");
    let max = Names::CR_NAME_MAX;
    let remedy = format!("{}, at most {max} characters, so that the names of its Services fit", rules::NAME_REMEDY);
    if field.value.is_none() {
        read.note(&field.path, "unset", remedy.as_str());
    }
    read.text(&field, "", &remedy, |name| {
        name.len() <= max
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && !name.ends_with('-')
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    })
}

fn storage(read: &mut Reader, spec: &Field<'_>) -> Storage {
    let storage = read.object(spec, "storage");
    let metadata = storage.child("metadataSize");
    if metadata.value.is_none() && spec.value.is_some() {
        read.note(&metadata.path, "unset", rules::CLAIM_SIZE_REMEDY);
    }
    Storage {
        metadata: read.text(&metadata, "", rules::CLAIM_SIZE_REMEDY, is_claim_size),
        content: read.optional_text(&storage.child("contentSize"), rules::CLAIM_SIZE_REMEDY, is_claim_size),
        control_plane: read.text(
            &storage.child("controlPlaneSize"),
            defaults::CONTROL_PLANE_SIZE,
            rules::CLAIM_SIZE_REMEDY,
            is_claim_size,
        ),
        class: read.optional_text(&storage.child("storageClassName"), "use the name of a StorageClass", |_| true),
    }
}

fn cache(read: &mut Reader, spec: &Field<'_>) -> Cache {
    let cache = read.object(spec, "cache");
    let size = read.text(&cache.child("size"), defaults::CACHE_SIZE, rules::CACHE_SIZE_REMEDY, |text| {
        parse_bytes(text).is_ok_and(|bytes| bytes > 0)
    });
    let remedy = format!("{} ({}); {}", rules::MOUNT_REMEDY, rules::TAKEN_PATHS.join(", "), rules::PATH_REMEDY);
    Cache {
        size_bytes: parse_bytes(&size).unwrap_or_default(),
        path: read.text(&cache.child("path"), defaults::CACHE_PATH, &remedy, |path| {
            is_path(path) && !rules::TAKEN_PATHS.iter().any(|taken| lies_in(path, taken) || lies_in(taken, path))
        }),
    }
}

fn database(read: &mut Reader, spec: &Field<'_>) -> Database {
    let database = read.object(spec, "database");
    let kind = database.child("type");
    let postgres = read.choice(&kind, false, &[("sqlite", false), ("postgres", true)]);
    let sqlite = read.object(&database, "sqlite");
    let path = read.text(&sqlite.child("path"), defaults::SQLITE_PATH, rules::PATH_REMEDY, is_path);
    let reference = read.object(&database, "postgresSecretRef");
    let secret = read.text(&reference.child("name"), "", "use the name of a Secret", |_| true);
    if !secret.is_empty() {
        return Database::Postgres { secret };
    }
    if postgres {
        read.note(&reference.path, "without a name while spec.database.type is \"postgres\"", rules::POSTGRES_REMEDY);
    }
    Database::Sqlite { path }
}

fn metrics(read: &mut Reader, spec: &Field<'_>) -> Option<Metrics> {
    let metrics = read.object(spec, "metrics");
    let enabled = read.boolean(&metrics.child("enabled"), false);
    let port = read.port(&metrics.child("port"), defaults::METRICS_PORT);
    let path =
        read.text(&metrics.child("path"), defaults::METRICS_PATH, "use a path that starts with / (a slash)", |path| {
            path.starts_with('/')
        });
    enabled.then_some(Metrics { port, path })
}

fn ports_differ(read: &mut Reader, ports: ClientPorts, api_port: u16, metrics: Option<&Metrics>) {
    use rules::Port;
    let mut all = vec![(Port::Nfs, ports.nfs), (Port::Smb, ports.smb), (Port::Api, api_port)];
    all.extend(metrics.map(|metrics| (Port::Metrics, metrics.port)));
    for (at, (one, number)) in all.iter().enumerate() {
        for (other, _) in all[at + 1..].iter().filter(|(_, other)| other == number) {
            read.note(
                &format!("spec.{}", one.field()),
                format!("{number}, the same as spec.{}", other.field()),
                rules::PORTS_REMEDY,
            );
        }
    }
}

fn identity(read: &mut Reader, spec: &Field<'_>) -> (Jwt, Admin) {
    let identity = read.object(spec, "identity");
    read.choice(&identity.child("type"), (), &[(defaults::IDENTITY_TYPE, ())]);
    let jwt = read.object(&identity, "jwt");
    let admin = read.object(&identity, "admin");
    let remedy = format!("{}, above 0", rules::DURATION_REMEDY);
    let lifetime = |read: &mut Reader, name: &str, default: &str| {
        read.text(&jwt.child(name), default, &remedy, |text| {
            parse_go_duration(text).is_ok_and(|duration| duration > Duration::ZERO)
        })
    };
    (
        Jwt {
            access_token_duration: lifetime(read, "accessTokenDuration", defaults::ACCESS_TOKEN_DURATION),
            refresh_token_duration: lifetime(read, "refreshTokenDuration", defaults::REFRESH_TOKEN_DURATION),
            secret: secret_key(read, &jwt, "secretRef"),
        },
        Admin {
            username: read.text(&admin.child("username"), defaults::ADMIN_USERNAME, rules::BLANK_REMEDY, is_not_blank),
            password: secret_key(read, &admin, "passwordSecretRef"),
        },
    )
}

/// A reference without a name is none.
fn secret_key(read: &mut Reader, parent: &Field<'_>, name: &str) -> Option<SecretKey> {
    let reference = read.object(parent, name);
    let name = read.text(&reference.child("name"), "", "use the name of a Secret", |_| true);
    if name.is_empty() {
        return None;
    }
    let key = reference.child("key");
    if key.value.is_none() {
        read.note(&key.path, "unset", rules::SECRET_KEY_REMEDY);
    }
    let key = read.text(&key, "", rules::SECRET_KEY_REMEDY, |key| {
        !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
    });
    Some(SecretKey { name, key })
}

fn discovery(read: &mut Reader, spec: &Field<'_>) -> (Duration, Duration) {
    let discovery = read.object(spec, "adapterDiscovery");
    let mut duration = |name: &str, default: &str, remedy: &str, least: Duration| {
        let text = read.text(&discovery.child(name), default, remedy, |text| {
            parse_go_duration(text).is_ok_and(|duration| duration >= least)
        });
        parse_go_duration(&text).unwrap_or_default()
    };
    (
        duration("pollingInterval", defaults::POLLING_INTERVAL, rules::POLLING_REMEDY, Duration::from_secs(1)),
        duration("stopGracePeriod", defaults::STOP_GRACE_PERIOD, rules::DURATION_REMEDY, Duration::ZERO),
    )
}

fn service(read: &mut Reader, spec: &Field<'_>, name: &str) -> ServiceSettings {
    let service = read.object(spec, name);
    ServiceSettings {
        service_type: read.choice(&service.child("type"), ServiceType::LoadBalancer, &SERVICE_TYPES),
        annotations: read.map(&service.child("annotations")),
    }
}

fn logging(read: &mut Reader, spec: &Field<'_>) -> Logging {
    let logging = read.object(spec, "logging");
    let same = |name: &'static str| (name, name);
    let level =
        read.choice(&logging.child("level"), defaults::LOG_LEVEL, &["DEBUG", "INFO", "WARN", "ERROR"].map(same));
    let format = read.choice(&logging.child("format"), defaults::LOG_FORMAT, &["text", "json"].map(same));
    let output = read.text(&logging.child("output"), "", "use stdout, stderr or a path", |_| true);
    Logging {
        level: level.to_owned(),
        format: format.to_owned(),
        output: if output.is_empty() { defaults::LOG_OUTPUT.to_owned() } else { output },
    }
}

fn rollout(read: &mut Reader, spec: &Field<'_>) -> Rollout {
    let rollout = read.object(spec, "rollout");
    Rollout {
        on_port_change: read.choice(
            &rollout.child("onPortChange"),
            OnPortChange::Deferred,
            &[
                ("Deferred", OnPortChange::Deferred),
                ("WithNextRollout", OnPortChange::WithNextRollout),
                ("Immediate", OnPortChange::Immediate),
            ],
        ),
        on_spec_change: read.choice(
            &rollout.child("onSpecChange"),
            OnSpecChange::Always,
            &[("Always", OnSpecChange::Always), ("WhenNeeded", OnSpecChange::WhenNeeded)],
        ),
    }
}

fn pod(read: &mut Reader, spec: &Field<'_>) -> PodSettings {
    let pod = read.object(spec, "pod");
    let same = |name: &'static str| (name, Some(name));
    PodSettings {
        node_selector: read.map(&pod.child("nodeSelector")),
        tolerations: read.typed(&pod.child("tolerations"), "tolerations").unwrap_or_default(),
        affinity: read.typed(&pod.child("affinity"), "affinity"),
        topology_spread_constraints: read
            .typed(&pod.child("topologySpreadConstraints"), "topologySpreadConstraints")
            .unwrap_or_default(),
        image_pull_secrets: read.typed(&pod.child("imagePullSecrets"), "imagePullSecrets").unwrap_or_default(),
        image_pull_policy: read
            .choice(&pod.child("imagePullPolicy"), None, &["Always", "IfNotPresent", "Never"].map(same))
            .map(str::to_owned),
        priority_class_name: read
            .optional_text(&pod.child("priorityClassName"), "use the name of a PriorityClass", |_| true)
            .filter(|name| !name.is_empty()),
        env: env(read, &pod),
        labels: read.map(&pod.child("labels")),
        annotations: read.map(&pod.child("annotations")),
    }
}

fn env(read: &mut Reader, pod: &Field<'_>) -> Vec<EnvVar> {
    let field = pod.child("env");
    let env: Vec<EnvVar> = read.typed(&field, "list of environment variables").unwrap_or_default();
    let mut seen = BTreeSet::new();
    for variable in &env {
        let name = variable.name.as_str();
        if name.is_empty() {
            read.note(&field.path, "a list with an unnamed variable", "give each variable a name");
        } else if rules::OWN_ENV.contains(&name) || name.starts_with(rules::OWN_ENV_PREFIX) {
            read.note(&field.path, format!("a list with {name}"), rules::ENV_REMEDY);
        } else if !seen.insert(name) {
            read.note(&field.path, format!("a list with {name} twice"), "give each variable once");
        }
    }
    env
}

fn is_not_blank(text: &str) -> bool {
    !text.is_empty() && !text.contains([' ', '\t', '\r', '\n'])
}

fn is_path(path: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(plain)) && !path.contains("..")
}

/// Whether `path` is `directory` or below it.
fn lies_in(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn server(spec: Value) -> Value {
        let mut object = json!({"metadata": {"name": "files", "namespace": "storage", "uid": "0a1b", "generation": 3}});
        object["spec"] = spec;
        object
    }

    #[test]
    fn the_least_gets_every_default() {
        let server = validate(&server(json!({"storage": {"metadataSize": "10Gi"}}))).unwrap();
        assert_eq!(server.key, ServerKey::new("storage", "files"));
        assert_eq!((server.uid.as_str(), server.generation, server.deleting), ("0a1b", 3, false));
        assert_eq!(server.image, "marmos91c/dittofs:latest");
        assert_eq!(server.replicas, 1);
        assert_eq!(
            server.storage,
            Storage { metadata: "10Gi".to_owned(), content: None, control_plane: "1Gi".to_owned(), class: None }
        );
        assert_eq!(server.database, Database::Sqlite { path: "/data/controlplane/controlplane.db".to_owned() });
        assert_eq!(server.cache, Cache { size_bytes: 1 << 30, path: "/data/store/block".to_owned() });
        assert_eq!(server.api_port, 8080);
        assert_eq!(server.ports, ClientPorts { nfs: 2049, smb: 445 });
        assert_eq!(
            server.jwt,
            Jwt { secret: None, access_token_duration: "15m".to_owned(), refresh_token_duration: "168h".to_owned() }
        );
        assert_eq!(server.admin, Admin { username: "admin".to_owned(), password: None });
        assert_eq!(server.polling_interval, Duration::from_secs(30));
        assert_eq!(server.stop_grace_period, Duration::from_secs(35));
        for service in [&server.service, &server.adapter_services] {
            assert_eq!(service.service_type, ServiceType::LoadBalancer);
            assert!(service.annotations.is_empty());
        }
        assert!(server.file_service_enabled);
        assert_eq!(server.metrics, None);
        assert_eq!(
            (server.logging.level.as_str(), server.logging.format.as_str(), server.logging.output.as_str()),
            ("INFO", "json", "stdout")
        );
        assert_eq!(server.rollout.on_port_change, OnPortChange::Deferred);
        assert_eq!(server.rollout.on_spec_change, OnSpecChange::Always);
        assert_eq!(server.termination_grace_period_seconds, 105);
        assert_eq!(server.pod, PodSettings::default());
    }

    #[test]
    fn each_value_arrives_where_it_belongs() {
        let mut object = server(json!({
            "image": "dittofs:2", "replicas": 0,
            "storage": {"metadataSize": "1Gi", "contentSize": "2Gi", "controlPlaneSize": "3Gi", "storageClassName": "fast"},
            "database": {"type": "sqlite", "sqlite": {"path": "/d.db"}, "postgresSecretRef": {"name": "pg", "key": "x"}},
            "cache": {"size": "4Ki", "path": "/cache"},
            "controlPlane": {"port": 1}, "ports": {"nfs": 2, "smb": 3},
            "identity": {
                "jwt": {"secretRef": {"name": "jwt", "key": "k1"}, "accessTokenDuration": "5m", "refreshTokenDuration": "6h"},
                "admin": {"username": "root", "passwordSecretRef": {"name": "adm", "key": "k2"}},
            },
            "adapterDiscovery": {"pollingInterval": "7s", "stopGracePeriod": "8s"},
            "adapterServices": {"type": "NodePort", "annotations": {"a": "b"}},
            "service": {"type": "ClusterIP", "annotations": {"c": "d"}},
            "fileService": {"enabled": false},
            "metrics": {"enabled": true, "port": 9, "path": "/m"},
            "logging": {"level": "WARN", "format": "text", "output": "stderr"},
            "rollout": {"onPortChange": "Immediate", "onSpecChange": "WhenNeeded"},
            "terminationGracePeriodSeconds": 40,
            "resources": {"limits": {"cpu": 2}}, "securityContext": {"runAsUser": 10}, "podSecurityContext": {"fsGroup": 11},
            "pod": {
                "nodeSelector": {"e": "f"}, "tolerations": [{"key": "g"}], "affinity": {"nodeAffinity": {}},
                "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "h", "whenUnsatisfiable": "DoNotSchedule"}],
                "imagePullSecrets": [{"name": "i"}], "imagePullPolicy": "Never", "priorityClassName": "j",
                "env": [{"name": "K", "value": "l"}], "labels": {"m": "n"}, "annotations": {"o": "p"},
            },
        }));
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let server = validate(&object).unwrap();
        assert!(server.deleting);
        assert_eq!((server.image.as_str(), server.replicas), ("dittofs:2", 0));
        assert_eq!(server.storage.metadata, "1Gi");
        assert_eq!(server.storage.content.as_deref(), Some("2Gi"));
        assert_eq!(server.storage.control_plane, "3Gi");
        assert_eq!(server.storage.class.as_deref(), Some("fast"));
        assert_eq!(server.database, Database::Postgres { secret: "pg".to_owned() }, "Postgres wins");
        assert_eq!(server.cache, Cache { size_bytes: 4096, path: "/cache".to_owned() });
        assert_eq!((server.api_port, server.ports), (1, ClientPorts { nfs: 2, smb: 3 }));
        assert_eq!(server.jwt.secret, Some(SecretKey { name: "jwt".to_owned(), key: "k1".to_owned() }));
        assert_eq!(server.jwt.access_token_duration, "5m");
        assert_eq!(server.jwt.refresh_token_duration, "6h");
        assert_eq!(server.admin.username, "root");
        assert_eq!(server.admin.password, Some(SecretKey { name: "adm".to_owned(), key: "k2".to_owned() }));
        assert_eq!(server.polling_interval, Duration::from_secs(7));
        assert_eq!(server.stop_grace_period, Duration::from_secs(8));
        assert_eq!(server.adapter_services.service_type, ServiceType::NodePort);
        assert_eq!(server.adapter_services.annotations["a"], "b");
        assert_eq!(server.service.service_type, ServiceType::ClusterIp);
        assert_eq!(server.service.annotations["c"], "d");
        assert!(!server.file_service_enabled);
        assert_eq!(server.metrics, Some(Metrics { port: 9, path: "/m".to_owned() }));
        assert_eq!(server.logging.level, "WARN");
        assert_eq!(server.logging.format, "text");
        assert_eq!(server.logging.output, "stderr");
        assert_eq!(server.rollout.on_port_change, OnPortChange::Immediate);
        assert_eq!(server.rollout.on_spec_change, OnSpecChange::WhenNeeded);
        assert_eq!(server.termination_grace_period_seconds, 40);
        assert_eq!(server.resources.unwrap().limits.unwrap()["cpu"].0, "2");
        assert_eq!(server.security_context.unwrap().run_as_user, Some(10));
        assert_eq!(server.pod_security_context.unwrap().fs_group, Some(11));
        let pod = server.pod;
        assert_eq!(pod.node_selector["e"], "f");
        assert_eq!(pod.tolerations[0].key.as_deref(), Some("g"));
        assert!(pod.affinity.unwrap().node_affinity.is_some());
        assert_eq!(pod.topology_spread_constraints[0].topology_key, "h");
        assert_eq!(pod.image_pull_secrets[0].name, "i");
        assert_eq!(pod.image_pull_policy.as_deref(), Some("Never"));
        assert_eq!(pod.priority_class_name.as_deref(), Some("j"));
        assert_eq!((pod.env[0].name.as_str(), pod.env[0].value.as_deref()), ("K", Some("l")));
        assert_eq!((pod.labels["m"].as_str(), pod.annotations["o"].as_str()), ("n", "p"));
    }

    #[test]
    fn null_is_the_same_as_absent() {
        let nulls = json!({
            "storage": {"metadataSize": "10Gi", "contentSize": null, "controlPlaneSize": null}, "replicas": null,
            "database": null, "controlPlane": {"port": null}, "metrics": null, "pod": {"env": null, "labels": null},
            "terminationGracePeriodSeconds": null, "resources": null,
        });
        assert_eq!(validate(&server(nulls)), validate(&server(json!({"storage": {"metadataSize": "10Gi"}}))));
    }

    #[test]
    fn an_object_of_any_shape_is_refused_and_nothing_panics() {
        for object in [json!(null), json!([]), json!("x"), json!({"metadata": 7, "spec": "y"}), json!({"spec": {}})] {
            assert!(!validate(&object).unwrap_err().problems.is_empty(), "{object}");
        }
        for field in
            ["database", "cache", "ports", "identity", "service", "metrics", "logging", "rollout", "pod", "resources"]
        {
            for wrong in [json!(7), json!("x"), json!([1]), json!(true)] {
                let error = validate(&server(json!({"storage": {"metadataSize": "1Gi"}, field: wrong}))).unwrap_err();
                assert_eq!(error.problems.len(), 1, "{error}");
                assert_eq!(error.problems[0].field, format!("spec.{field}"));
            }
        }
    }

    #[test]
    fn what_stands_in_the_environment_is_not_repeated() {
        for env in [
            json!([{"name": "A", "value": {"x": "canary"}}]),
            json!("canary"),
            json!([{"name": "DITTOFS_DATABASE_POSTGRES_PASSWORD", "value": "canary"}]),
        ] {
            let error =
                validate(&server(json!({"storage": {"metadataSize": "1Gi"}, "pod": {"env": env}}))).unwrap_err();
            assert!(!error.to_string().contains("canary") && !format!("{error:?}").contains("canary"), "{error}");
        }
    }
}
