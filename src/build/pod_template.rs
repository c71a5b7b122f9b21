//! The pod template of the StatefulSet: the container, its environment, volumes and probes.
//!
//! Our part of the pod always wins over `spec.pod`; the two security contexts are the one exception, in
//! [`security`](super::security).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, Container, ContainerPort, EnvVar, EnvVarSource, Lifecycle, LifecycleHandler, PodSpec,
    PodTemplateSpec, Probe, ResourceRequirements, SecretKeySelector, SleepAction, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::common::{API_PORT_NAME, CONFIG_HASH_ANNOTATION, CONTAINER_NAME, METRICS_PORT_NAME, labels};
use super::config_map::CONFIG_FILE;
use super::files;
use super::quantity::canonical;
use super::secret_admin::ADMIN_PASSWORD_KEY;
use super::secret_jwt::JWT_SECRET_KEY;
use super::security;
use super::stateful_set::{CONTENT_CLAIM, CONTROL_PLANE_CLAIM, METADATA_CLAIM, TemplateInput};
use super::tls;
use crate::crd::annotations::RESTART_AT;
use crate::reconcile::{Database, SecretKey, ValidatedServer, adapter_port_name};

/// Every environment variable that the operator may set; `spec.pod.env` cannot have one of these.
pub const OWN_ENV: [&str; 10] = [
    "DITTOFS_CONTROLPLANE_SECRET",
    "DITTOFS_ADMIN_INITIAL_PASSWORD",
    LDAP_PASSWORD_ENV,
    MACHINE_SECRET_ENV,
    "DITTOFS_DATABASE_POSTGRES_HOST",
    "DITTOFS_DATABASE_POSTGRES_PORT",
    "DITTOFS_DATABASE_POSTGRES_DATABASE",
    "DITTOFS_DATABASE_POSTGRES_USER",
    "DITTOFS_DATABASE_POSTGRES_PASSWORD",
    "DITTOFS_DATABASE_POSTGRES_SSLMODE",
];

const LDAP_PASSWORD_ENV: &str = "DITTOFS_LDAP_BIND_PASSWORD";
const MACHINE_SECRET_ENV: &str = "DITTOFS_KERBEROS_MACHINE_ACCOUNT_SECRET";

/// Keys of the database Secret, the variable each goes to, and whether it may be missing.
const POSTGRES_ENV: [(&str, &str, bool); 6] = [
    ("host", "DITTOFS_DATABASE_POSTGRES_HOST", false),
    ("port", "DITTOFS_DATABASE_POSTGRES_PORT", true),
    ("database", "DITTOFS_DATABASE_POSTGRES_DATABASE", false),
    ("user", "DITTOFS_DATABASE_POSTGRES_USER", false),
    ("password", "DITTOFS_DATABASE_POSTGRES_PASSWORD", false),
    ("sslmode", "DITTOFS_DATABASE_POSTGRES_SSLMODE", true),
];

/// The same for the Secret that Percona's operator makes.
const PERCONA_ENV: [(&str, &str, bool); 5] = [
    ("host", "DITTOFS_DATABASE_POSTGRES_HOST", false),
    ("port", "DITTOFS_DATABASE_POSTGRES_PORT", true),
    ("dbname", "DITTOFS_DATABASE_POSTGRES_DATABASE", false),
    ("user", "DITTOFS_DATABASE_POSTGRES_USER", false),
    ("password", "DITTOFS_DATABASE_POSTGRES_PASSWORD", false),
];

const CONFIG_VOLUME: &str = "config";
const CONFIG_DIR: &str = "/config";
const METADATA_DIR: &str = "/data/store/metadata";
const CONTROL_PLANE_DIR: &str = "/data/controlplane";
/// Seconds between the pod's removal from the endpoints and SIGTERM.
const PRE_STOP_SECONDS: i64 = 5;

/// The template for `server` with what `input` adds.
pub(super) fn pod_template(server: &ValidatedServer, input: &TemplateInput<'_>) -> PodTemplateSpec {
    let pod = &server.pod;
    let mut pod_labels = pod.labels.clone();
    pod_labels.extend(labels(server));
    let mut annotations = pod.annotations.clone();
    annotations.insert(CONFIG_HASH_ANNOTATION.to_owned(), input.config_hash.to_owned());
    if let Some(text) = &server.restart_at {
        annotations.insert(RESTART_AT.to_owned(), text.clone());
    }
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod_labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            automount_service_account_token: Some(false),
            // Otherwise Kubernetes puts DITTOFS_METRICS_PORT=tcp://… into the pod of a server called "dittofs" (or
            // beside one), and the server reads every DITTOFS_ variable as configuration.
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(server.termination_grace_period_seconds),
            security_context: Some(security::of_pod(server)),
            containers: vec![container(server, input)],
            volumes: Some(volumes(server)),
            node_selector: Some(pod.node_selector.clone()),
            tolerations: Some(pod.tolerations.clone()),
            affinity: pod.affinity.clone(),
            topology_spread_constraints: Some(pod.topology_spread_constraints.clone()),
            image_pull_secrets: Some(pod.image_pull_secrets.clone()),
            priority_class_name: pod.priority_class_name.clone(),
            ..PodSpec::default()
        }),
    }
}

fn volumes(server: &ValidatedServer) -> Vec<Volume> {
    let config = Volume {
        name: CONFIG_VOLUME.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: server.names().config_map(),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    };
    std::iter::once(config).chain(tls::volumes(server)).chain(files::volumes(server)).collect()
}

fn container(server: &ValidatedServer, input: &TemplateInput<'_>) -> Container {
    Container {
        name: CONTAINER_NAME.to_owned(),
        image: Some(server.image.clone()),
        image_pull_policy: server.pod.image_pull_policy.clone(),
        command: Some(vec!["/app/dfs".to_owned()]),
        args: Some(vec![
            "start".to_owned(),
            "--foreground".to_owned(),
            "--config".to_owned(),
            format!("{CONFIG_DIR}/{CONFIG_FILE}"),
        ]),
        env: Some(env(server)),
        ports: Some(ports(server, input)),
        volume_mounts: Some(mounts(server)),
        resources: server.resources.as_ref().map(resources),
        security_context: Some(security::of_container(server)),
        startup_probe: Some(probe(server, "/health", None, 5, 30)),
        liveness_probe: Some(probe(server, "/health", Some(15), 10, 3)),
        readiness_probe: Some(probe(server, "/health/ready", Some(10), 5, 3)),
        lifecycle: Some(Lifecycle {
            // The kubelet's own sleep (on by default since Kubernetes 1.30) needs no `sleep` program in the image.
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction { seconds: PRE_STOP_SECONDS }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        ..Container::default()
    }
}

/// The user's resources with quantities as the API server stores them.
fn resources(given: &ResourceRequirements) -> ResourceRequirements {
    let canonical_map = |quantities: &Option<BTreeMap<String, Quantity>>| {
        quantities.as_ref().map(|quantities| {
            quantities.iter().map(|(name, quantity)| (name.clone(), Quantity(canonical(&quantity.0)))).collect()
        })
    };
    ResourceRequirements {
        limits: canonical_map(&given.limits),
        requests: canonical_map(&given.requests),
        claims: given.claims.clone(),
    }
}

/// Ours, then the user's, which may refer to ours as `$(NAME)`.
fn env(server: &ValidatedServer) -> Vec<EnvVar> {
    let names = server.names();
    let jwt = server
        .jwt
        .secret
        .clone()
        .unwrap_or_else(|| SecretKey { name: names.jwt_secret(), key: JWT_SECRET_KEY.to_owned() });
    let password = server
        .admin
        .password
        .clone()
        .unwrap_or_else(|| SecretKey { name: names.admin_secret(), key: ADMIN_PASSWORD_KEY.to_owned() });
    let mut env = vec![
        from_secret("DITTOFS_CONTROLPLANE_SECRET", jwt, false),
        from_secret("DITTOFS_ADMIN_INITIAL_PASSWORD", password, false),
    ];
    let database = match &server.database {
        Database::Sqlite { .. } => None,
        Database::Postgres { secret } => Some((secret.clone(), POSTGRES_ENV.as_slice())),
        Database::Percona => Some((names.percona_secret(), PERCONA_ENV.as_slice())),
    };
    if let Some((secret, keys)) = database {
        env.extend(keys.iter().map(|&(key, variable, optional)| {
            from_secret(variable, SecretKey { name: secret.clone(), key: key.to_owned() }, optional)
        }));
    }
    let ldap = server.ldap.as_ref().and_then(|ldap| ldap.bind_password.clone());
    env.extend(ldap.map(|secret| from_secret(LDAP_PASSWORD_ENV, secret, false)));
    let account = server.kerberos.as_ref().and_then(|kerberos| kerberos.machine_account.as_ref());
    let account = account.and_then(|account| account.secret.clone());
    env.extend(account.map(|secret| from_secret(MACHINE_SECRET_ENV, secret, false)));
    env.extend(server.pod.env.iter().filter(|given| !OWN_ENV.contains(&given.name.as_str())).cloned().map(user_env));
    env
}

/// The user's variable with its quantity as the API server stores it.
fn user_env(mut given: EnvVar) -> EnvVar {
    let resource = given.value_from.as_mut().and_then(|source| source.resource_field_ref.as_mut());
    if let Some(divisor) = resource.and_then(|resource| resource.divisor.as_mut()) {
        divisor.0 = canonical(&divisor.0);
    }
    given
}

fn from_secret(variable: &str, SecretKey { name, key }: SecretKey, optional: bool) -> EnvVar {
    EnvVar {
        name: variable.to_owned(),
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector { name, key, optional: optional.then_some(true) }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

/// Sorted by name, as they are compared.
fn ports(server: &ValidatedServer, input: &TemplateInput<'_>) -> Vec<ContainerPort> {
    let adapters = input.adapters.iter().map(|adapter| (adapter_port_name(&adapter.adapter_type), adapter.port));
    let metrics = server.metrics.iter().map(|metrics| (METRICS_PORT_NAME.to_owned(), metrics.port));
    let mut ports: Vec<(String, u16)> =
        adapters.chain(metrics).chain([(API_PORT_NAME.to_owned(), server.api_port)]).collect();
    ports.sort();
    ports
        .into_iter()
        .map(|(name, port)| ContainerPort {
            name: Some(name),
            container_port: port.into(),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        })
        .collect()
}

fn mounts(server: &ValidatedServer) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str, read_only: Option<bool>| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only,
        ..VolumeMount::default()
    };
    let mut mounts = vec![
        mount(CONFIG_VOLUME, CONFIG_DIR, Some(true)),
        mount(METADATA_CLAIM, METADATA_DIR, None),
        mount(CONTROL_PLANE_CLAIM, CONTROL_PLANE_DIR, None),
    ];
    if server.storage.content.is_some() {
        mounts.push(mount(CONTENT_CLAIM, &server.cache.path, None));
    }
    mounts.extend(tls::mounts(server));
    mounts.extend(files::mounts(server));
    mounts
}

/// A probe of the REST API: `delay`, `period` and the timeout of 5 s in seconds.
fn probe(server: &ValidatedServer, path: &str, delay: Option<i32>, period: i32, failures: i32) -> Probe {
    Probe {
        initial_delay_seconds: delay,
        period_seconds: Some(period),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..tls::probe(server, path)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ResourceFieldSelector;

    use super::*;
    use crate::build::AdapterPort;
    use crate::fixtures::{directory, everything, server};

    fn adapter(adapter_type: &str, port: u16) -> AdapterPort {
        AdapterPort { adapter_type: adapter_type.into(), port }
    }

    fn template(server: &ValidatedServer, adapters: &[AdapterPort]) -> PodTemplateSpec {
        pod_template(server, &TemplateInput { config_hash: "ours", adapters, partition: 0 })
    }

    fn only_container(template: PodTemplateSpec) -> Container {
        let mut containers = template.spec.unwrap().containers;
        assert_eq!(containers.len(), 1);
        containers.remove(0)
    }

    #[test]
    fn ports_are_the_same_in_whatever_order_the_adapters_came() {
        let server = everything("files");
        let one = template(&server, &[adapter("nfs", 1), adapter("smb", 2)]);
        let other = template(&server, &[adapter("smb", 2), adapter("nfs", 1)]);
        assert_eq!(one, other);
        let ports: Vec<_> =
            only_container(one).ports.unwrap().into_iter().map(|p| (p.name.unwrap(), p.container_port)).collect();
        let want = [("adapter-nfs", 1), ("adapter-smb", 2), ("api", 8443), ("metrics", 9191)];
        assert_eq!(ports, want.map(|(name, port)| (name.to_owned(), port)));
    }

    #[test]
    fn two_adapters_of_one_port_number_are_both_declared() {
        let ports = only_container(template(&server("files").build(), &[adapter("nfs", 7), adapter("smb", 7)])).ports;
        assert_eq!(ports.unwrap().iter().filter(|port| port.container_port == 7).count(), 2);
    }

    #[test]
    fn the_users_labels_annotations_and_variables_never_replace_ours() {
        let template = template(&everything("files"), &[]);
        let metadata = template.metadata.clone().unwrap();
        let (labels, annotations) = (metadata.labels.unwrap(), metadata.annotations.unwrap());
        assert_eq!((labels["app"].as_str(), labels["team"].as_str()), ("dittofs-server", "storage"));
        assert_eq!((annotations[CONFIG_HASH_ANNOTATION].as_str(), annotations["note"].as_str()), ("ours", "hello"));
        let env = only_container(template).env.unwrap();
        let secret: Vec<_> = env.iter().filter(|variable| variable.name == "DITTOFS_CONTROLPLANE_SECRET").collect();
        assert_eq!(secret.len(), 1);
        assert!(secret[0].value.is_none() && secret[0].value_from.is_some());
    }

    #[test]
    fn every_variable_that_is_set_is_one_that_the_user_cannot_set() {
        let mut ours = directory("files");
        ours.pod.env.clear();
        let mut names: Vec<_> = env(&ours).into_iter().map(|variable| variable.name).collect();
        let mut known = OWN_ENV.to_vec();
        names.sort();
        known.sort_unstable();
        assert_eq!(names, known);
    }

    #[test]
    fn the_content_volume_is_mounted_at_the_cache_path_only_when_it_has_a_size() {
        let at = |server: &ValidatedServer| {
            mounts(server).into_iter().find(|mount| mount.name == "content").map(|mount| mount.mount_path)
        };
        assert_eq!(at(&server("files").build()), None);
        assert_eq!(at(&everything("files")).as_deref(), Some("/data/cache"));
    }

    #[test]
    fn a_quantity_in_the_users_environment_is_canonical() {
        let divisor = Some(Quantity("1024Ki".into()));
        let source = ResourceFieldSelector { resource: "limits.memory".into(), divisor, container_name: None };
        let given = EnvVar {
            name: "LIMIT".into(),
            value_from: Some(EnvVarSource { resource_field_ref: Some(source), ..EnvVarSource::default() }),
            ..EnvVar::default()
        };
        let stored = user_env(given).value_from.unwrap().resource_field_ref.unwrap().divisor.unwrap();
        assert_eq!(stored.0, "1Mi");
    }
}
