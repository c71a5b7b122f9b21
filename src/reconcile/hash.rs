//! The config hash: which Secrets the pod uses, and the fingerprint of everything that the server reads.
//!
//! The hash is an annotation of the pod template, so whatever changes it restarts the server, and an upgrade of the
//! operator must not: a golden value in the tests pins it.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::{ApiTls, Database, OnSpecChange, SecretKey, ValidatedServer};

/// Names the layout of what is hashed; another layout must have another name.
const LAYOUT: &[u8] = b"dittofs-config-hash/1";

/// One Secret that the pod uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretUse {
    /// Name of the Secret, in the server's namespace.
    pub name: String,
    /// What of it the pod uses.
    pub keys: Keys,
    /// What it is for, as a person calls it (`JWT signing key`).
    pub purpose: &'static str,
    /// The field that names it, or could.
    pub field: &'static str,
}

/// The keys of a Secret that the pod uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Every key that is there.
    All,
    /// These; another key of the same Secret has no effect.
    Named(Vec<UsedKey>),
}

/// One key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedKey {
    /// The key.
    pub key: String,
    /// Whether the pod cannot start without it.
    pub required: bool,
}

/// The Secrets that the pod of `server` uses, the user's or those that the operator makes.
///
/// Source of the database's keys: the section "Pod" of the CRD reference.
pub fn secrets_used(server: &ValidatedServer) -> Vec<SecretUse> {
    let names = server.names();
    let one = |given: &Option<SecretKey>, generated: String, key: &str, purpose, field| {
        let SecretKey { name, key } =
            given.clone().unwrap_or_else(|| SecretKey { name: generated, key: key.to_owned() });
        SecretUse { name, keys: Keys::Named(vec![UsedKey { key, required: true }]), purpose, field }
    };
    let mut uses = vec![
        one(&server.jwt.secret, names.jwt_secret(), "jwt-secret", "JWT signing key", "spec.identity.jwt.secretRef"),
        one(
            &server.admin.password,
            names.admin_secret(),
            "password",
            "admin password",
            "spec.identity.admin.passwordSecretRef",
        ),
    ];
    let postgres =
        [("host", true), ("port", false), ("database", true), ("user", true), ("password", true), ("sslmode", false)];
    let percona = [("host", true), ("port", false), ("dbname", true), ("user", true), ("password", true)];
    let database = match &server.database {
        Database::Sqlite { .. } => None,
        Database::Postgres { secret } => Some((secret.clone(), postgres.as_slice(), "spec.database.postgresSecretRef")),
        Database::Percona => Some((names.percona_secret(), percona.as_slice(), "spec.percona")),
    };
    if let Some((name, keys, field)) = database {
        let of = |&(key, required): &(&str, bool)| UsedKey { key: key.to_owned(), required };
        let keys = Keys::Named(keys.iter().map(of).collect());
        uses.push(SecretUse { name, keys, purpose: "database connection", field });
    }
    let mut value = |secret: &Option<SecretKey>, purpose, field| {
        if let Some(SecretKey { name, key }) = secret.clone() {
            uses.push(SecretUse { name, keys: Keys::Named(vec![UsedKey { key, required: true }]), purpose, field });
        }
    };
    if let Some(ldap) = &server.ldap {
        value(&ldap.bind_password, "LDAP bind password", "spec.identity.ldap.bindPasswordSecretRef");
        value(&ldap.ca_secret, "LDAP CA certificates", "spec.identity.ldap.caSecretRef");
    }
    if let Some(kerberos) = &server.kerberos {
        value(&kerberos.keytab, "Kerberos keytab", "spec.identity.kerberos.keytabSecretRef");
        value(&kerberos.krb5_conf_secret, "krb5.conf", "spec.identity.kerberos.krb5ConfSecretRef");
        if let Some(account) = &kerberos.machine_account {
            value(&account.secret, "machine account password", "spec.identity.kerberos.machineAccount.secretRef");
            value(&account.keytab, "machine account keytab", "spec.identity.kerberos.machineAccount.keytabSecretRef");
        }
    }
    if let Some(metrics) = &server.metrics {
        value(&metrics.bearer_token, "metrics bearer token", "spec.metrics.bearerTokenSecret");
    }
    let mut files = |secret: Option<&str>, keys: &[&str], purpose, field| {
        let keys = keys.iter().map(|key| UsedKey { key: (*key).to_owned(), required: true }).collect();
        uses.extend(secret.map(|name| SecretUse { name: name.to_owned(), keys: Keys::Named(keys), purpose, field }));
    };
    files(
        server.api_tls.native(),
        &[ApiTls::CERTIFICATE, ApiTls::KEY],
        "TLS of the API",
        "spec.controlPlane.certSecretName",
    );
    files(
        server.api_tls.mutual(),
        &[ApiTls::CA],
        "the CA of the API's clients",
        "spec.controlPlane.clientCASecretName",
    );
    uses
}

/// The part of `metadata.generation` in the hash: with `onSpecChange: WhenNeeded` none, so that only what the server
/// reads restarts it.
pub fn generation_for_hash(server: &ValidatedServer) -> Option<i64> {
    match server.rollout.on_spec_change {
        OnSpecChange::Always => Some(server.generation),
        OnSpecChange::WhenNeeded => None,
    }
}

/// Lower-case hex SHA-256 over the rendered `config.yaml`, the values of the Secret keys that are used, and
/// `generation` (see [`generation_for_hash`]).
///
/// Every field is preceded by its length: no byte can move from one to the next without changing the hash.
pub fn config_hash(config_yaml: &str, secrets: &BTreeMap<SecretKey, Vec<u8>>, generation: Option<i64>) -> String {
    let mut hasher = Sha256::new();
    let mut field = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    field(LAYOUT);
    field(config_yaml.as_bytes());
    field(&(secrets.len() as u64).to_be_bytes());
    for (SecretKey { name, key }, value) in secrets {
        field(name.as_bytes());
        field(key.as_bytes());
        field(value);
    }
    match generation {
        // An absent generation is an empty field, a present one never is.
        None => field(&[]),
        Some(generation) => field(&generation.to_be_bytes()),
    }
    hex(&hasher.finalize())
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::build::render;
    use crate::fixtures::{directory, everything, mutual, percona_server, secured, server};
    use crate::reconcile::{Metrics, Rollout};

    type Secrets = BTreeMap<SecretKey, Vec<u8>>;

    fn secrets(entries: &[(&str, &str, &str)]) -> Secrets {
        entries
            .iter()
            .map(|&(name, key, value)| (SecretKey { name: name.into(), key: key.into() }, value.into()))
            .collect()
    }

    #[test]
    fn the_hash_is_the_same_in_every_release() {
        let secrets = secrets(&[("files-jwt-secret", "jwt-secret", "k"), ("pg", "host", "db")]);
        assert_eq!(
            config_hash("logging:\n", &secrets, Some(7)),
            "6ea536d70051d4fa8d262c0ea817b59d42ebec4ca16e25ba9aefeb4768e3b7d7"
        );
        assert_eq!(
            config_hash("logging:\n", &secrets, None),
            "47a79a7f207662181aaf682153cdd094cb360e85cf8bf607b807b24bc5f08e81"
        );
    }

    #[test]
    fn each_input_changes_the_hash() {
        let base_secrets = secrets(&[("a", "k", "v"), ("b", "k", "w")]);
        let base = config_hash("config", &base_secrets, Some(1));
        let mut seen = vec![base];
        for (config, entries, generation) in [
            ("config ", &base_secrets, Some(1)),
            ("config", &base_secrets, Some(2)),
            ("config", &base_secrets, Some(0)),
            ("config", &base_secrets, None),
            ("config", &secrets(&[("a", "k", "v2"), ("b", "k", "w")]), Some(1)),
            ("config", &secrets(&[("a", "k2", "v"), ("b", "k", "w")]), Some(1)),
            ("config", &secrets(&[("a2", "k", "v"), ("b", "k", "w")]), Some(1)),
            ("config", &secrets(&[("a", "k", "w"), ("b", "k", "v")]), Some(1)),
            ("config", &secrets(&[("a", "k", "v")]), Some(1)),
            ("config", &secrets(&[("a", "k", "v"), ("b", "k", "w"), ("c", "", "")]), Some(1)),
        ] {
            let hash = config_hash(config, entries, generation);
            assert!(!seen.contains(&hash), "{config:?} {generation:?}");
            seen.push(hash);
        }
    }

    #[test]
    fn what_the_server_does_not_read_is_not_in_its_hash() {
        let hash_of = |server: &ValidatedServer| config_hash(&render(server), &Secrets::new(), None);
        let quiet = server("files").build();
        let changed = server("files")
            .generation(99)
            .with(|s| {
                s.polling_interval *= 2;
                s.ports.nfs = 3049;
                s.adapter_services.annotations.insert("a".into(), "b".into());
                s.api_service.annotations.insert("a".into(), "b".into());
                s.file_service.labels.insert("a".into(), "b".into());
                s.per_adapter.insert("nfs".into(), s.adapter_services.clone());
                s.file_service_enabled = false;
                s.image = "other".into();
            })
            .build();
        assert_eq!(hash_of(&quiet), hash_of(&changed));
        let read = server("files")
            .with(|s| s.metrics = Some(Metrics { port: 9090, path: "/metrics".into(), bearer_token: None }))
            .build();
        assert_ne!(hash_of(&quiet), hash_of(&read));
    }

    #[test]
    fn generation_counts_only_when_every_spec_change_shall_roll() {
        let with = |on_spec_change| {
            server("files").generation(5).with(|s| s.rollout = Rollout { on_spec_change, ..s.rollout }).build()
        };
        assert_eq!(generation_for_hash(&with(OnSpecChange::Always)), Some(5));
        assert_eq!(generation_for_hash(&with(OnSpecChange::WhenNeeded)), None);
    }

    fn flat(server: &ValidatedServer) -> Vec<(String, String, bool)> {
        secrets_used(server)
            .into_iter()
            .flat_map(|used| match used.keys {
                Keys::All => panic!("no Secret is used as a whole"),
                Keys::Named(keys) => keys.into_iter().map(move |k| (used.name.clone(), k.key, k.required)),
            })
            .collect()
    }

    fn used(name: &str, key: &str, required: bool) -> (String, String, bool) {
        (name.to_owned(), key.to_owned(), required)
    }

    #[test]
    fn without_references_the_generated_secrets_are_used() {
        assert_eq!(
            flat(&server("files").build()),
            [used("files-jwt-secret", "jwt-secret", true), used("files-admin-bootstrap-credentials", "password", true)]
        );
    }

    #[test]
    fn the_users_secrets_and_the_databases_keys_are_used_where_given() {
        assert_eq!(
            flat(&everything("files")),
            [
                used("own-jwt", "signing", true),
                used("own-admin", "pass", true),
                used("pg-conn", "host", true),
                used("pg-conn", "port", false),
                used("pg-conn", "database", true),
                used("pg-conn", "user", true),
                used("pg-conn", "password", true),
                used("pg-conn", "sslmode", false),
            ]
        );
    }

    /// Every Secret key in the pod's environment is in the hash, and the other way round.
    #[test]
    fn the_hash_covers_exactly_what_the_pod_takes_from_secrets() {
        let plain = [server("files").build(), everything("files")];
        let more = [secured("files"), mutual("files")].into_iter().chain([directory("files"), percona_server("files")]);
        for server in plain.into_iter().chain(more) {
            let input = crate::build::TemplateInput { config_hash: "x", adapters: &[], partition: 0 };
            let set = crate::build::stateful_set(&server, &input);
            let mut pod = set.spec.unwrap().template.spec.unwrap();
            let container = pod.containers.remove(0);
            let files = pod.volumes.unwrap().into_iter().filter_map(|volume| volume.secret).flat_map(|secret| {
                let (name, optional) = (secret.secret_name.unwrap(), secret.optional == Some(true));
                secret.items.unwrap().into_iter().map(move |item| used(&name, &item.key, !optional))
            });
            let mut own: Vec<_> = container
                .env
                .unwrap()
                .into_iter()
                .filter_map(|variable| variable.value_from?.secret_key_ref)
                .map(|reference| used(&reference.name, &reference.key, reference.optional != Some(true)))
                .chain(files)
                .collect();
            let mut hashed = flat(&server);
            own.sort();
            hashed.sort();
            assert_eq!(own, hashed);
        }
    }

    proptest! {
        #[test]
        fn moving_a_byte_across_any_boundary_changes_the_hash(
            fields in proptest::collection::vec("[a-c]{0,3}", 7),
            from in 0usize..7,
            generation in proptest::option::of(0i64..3),
        ) {
            // config, then name, key and value of two Secrets: a byte moves from the end of one to the start of the next.
            let hash = |f: &[String]| {
                let entries = secrets(&[(&f[1], &f[2], &f[3]), (&f[4], &f[5], &f[6])]);
                (config_hash(&f[0], &entries, generation), f[0].clone(), entries)
            };
            let mut moved = fields.clone();
            if let Some(byte) = moved[from].pop() {
                let next = (from + 1) % 7;
                moved[next].insert(0, byte);
            }
            let (before, after) = (hash(&fields), hash(&moved));
            prop_assert_eq!(before.0 == after.0, (before.1, before.2) == (after.1, after.2));
        }

        #[test]
        fn equal_hashes_mean_equal_inputs(
            a in proptest::collection::btree_map(("[ab]{0,2}", "[ab]{0,2}"), "[ab]{0,2}", 0..3),
            b in proptest::collection::btree_map(("[ab]{0,2}", "[ab]{0,2}"), "[ab]{0,2}", 0..3),
            configs in ("[ab]{0,2}", "[ab]{0,2}"),
            generations in (proptest::option::of(0i64..2), proptest::option::of(0i64..2)),
        ) {
            let map = |entries: &BTreeMap<(String, String), String>| -> Secrets {
                entries.iter().map(|((n, k), v)| (SecretKey { name: n.clone(), key: k.clone() }, v.clone().into_bytes())).collect()
            };
            let same = a == b && configs.0 == configs.1 && generations.0 == generations.1;
            let hashes = (config_hash(&configs.0, &map(&a), generations.0), config_hash(&configs.1, &map(&b), generations.1));
            prop_assert_eq!(hashes.0 == hashes.1, same);
        }
    }
}
