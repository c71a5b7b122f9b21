//! From the resource as it was read to a [`ValidatedServer`]: the one place where a `DittoServer` is checked.
//!
//! Takes the JSON of the whole object, because an older CRD may have let through what the types would not parse, and
//! one such object must not stop the others. Fills in every default itself, checks all that the CEL rules check, and
//! collects every problem instead of the first. Pure: the same object gives the same answer.

mod directory;
mod percona;
mod snapshots;
mod tls;

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::EnvVar;
use serde_json::Value;

mod network_policy;
mod service_monitor;

use super::duration::parse_go_duration;
use super::problem::{Field, Reader, SpecInvalid, shown};
use super::quantity::{is_claim_size, parse_bytes};
use super::{
    Admin, Cache, ClientPorts, Database, Jwt, Logging, Metrics, Names, OnPortChange, OnSpecChange, PodSettings,
    Rollout, SecretKey, ServerKey, Storage, ValidatedServer,
};
use crate::crd::{annotations, defaults, rules};

mod services;

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
    let percona = percona::percona(&mut read, &spec, &name);
    let database = match (database(&mut read, &spec, percona.is_some()), &percona) {
        (_, Some(_)) => Database::Percona,
        (given, None) => given,
    };
    let (api_port, api_tls) = tls::control_plane(&mut read, &spec);
    tls::clear_of_cache(&mut read, &api_tls, &cache.path);
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
    let ldap = directory::ldap(&mut read, &spec.child("identity"));
    let kerberos = directory::kerberos(&mut read, &spec.child("identity"));
    let (polling_interval, stop_grace_period) = discovery(&mut read, &spec);

    let image = read.text(&spec.child("image"), defaults::IMAGE, rules::BLANK_REMEDY, is_not_blank);
    let replicas = read.integer(&spec.child("replicas"), i64::from(defaults::REPLICAS), 0, 1);
    let services = services::services(&mut read, &spec);

    let server = ValidatedServer {
        key: ServerKey { namespace, name },
        uid,
        generation: object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default(),
        deleting: metadata.child("deletionTimestamp").value.is_some(),
        image,
        replicas: i32::try_from(replicas).unwrap_or_default(),
        storage,
        database,
        percona,
        cache,
        api_port,
        api_tls,
        ports,
        jwt,
        admin,
        ldap,
        kerberos,
        polling_interval,
        stop_grace_period,
        adapter_services: services.adapters,
        per_adapter: services.per_adapter,
        api_service: services.api,
        api_type_field: services.api_type_field,
        file_service: services.file,
        file_service_enabled: services.file_enabled,
        file_service_asked: spec.child("fileService").value.is_some(),
        idle_service_fields: services.idle,
        metrics,
        network_policy: network_policy::read(&mut read, &spec),
        service_monitor: service_monitor::read(&mut read, &spec),
        logging: logging(&mut read, &spec),
        rollout: rollout(&mut read, &spec),
        snapshot_policies: snapshots::snapshot_policies(&mut read, &spec),
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
        restart_at: annotations::restart_at(object),
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
    let remedy = format!("{}, at most {max} characters, so that the names of its objects fit", rules::NAME_REMEDY);
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

fn database(read: &mut Reader, spec: &Field<'_>, percona: bool) -> Database {
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
    if postgres && !percona {
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
    let bearer_token = secret_key(read, &metrics, "bearerTokenSecret");
    enabled.then_some(Metrics { port, path, bearer_token })
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
#[path = "validate_tests.rs"]
mod tests;
