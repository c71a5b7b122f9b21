//! The server's `config.yaml`: infrastructure only. Stores, shares, users and adapters belong to whoever uses the
//! REST API; secrets come through the environment.
//!
//! The text goes into the config hash, so it is written by hand: a serialiser that starts to quote or to order
//! otherwise would restart every server at an upgrade of the operator. Keys are those of the real server's
//! `config.schema.json`, against which the tests check every variant.

use std::fmt::Write as _;

use super::{files, tls};
use crate::reconcile::{Database, Kerberos, Krb5Conf, Ldap, SecretKey, ValidatedServer};

/// How long the server may take for each stage of its shutdown; `terminationGracePeriodSeconds` counts on it.
const SHUTDOWN_TIMEOUT: &str = "30s";
/// The server listens on loopback where it is told nothing, out of reach of probes and Services. For a Go program
/// this address means every address, IPv6 included.
const ALL_ADDRESSES: &str = "0.0.0.0";
/// Stands where the environment brings the value: the server looks only for variables of fields that the file has.
const PLACEHOLDER: &str = "from-environment";

/// The text of `config.yaml` for `server`; equal servers give equal bytes, and no secret is in it.
pub fn render(server: &ValidatedServer) -> String {
    let mut text = String::with_capacity(768);
    let mut line = |indent: usize, key: &str, value: Scalar<'_>| {
        // Writing to a String cannot fail.
        let _ = match value {
            Scalar::Section => writeln!(text, "{:indent$}{key}:", ""),
            Scalar::Text(value) => writeln!(text, "{:indent$}{key}: {}", "", quote(value)),
            Scalar::Number(value) => writeln!(text, "{:indent$}{key}: {value}", ""),
            Scalar::Bool(value) => writeln!(text, "{:indent$}{key}: {value}", ""),
            Scalar::Item(value) => writeln!(text, "{:indent$}- {}", "", quote(value)),
        };
    };

    line(0, "logging", Scalar::Section);
    line(2, "level", Scalar::Text(&server.logging.level));
    line(2, "format", Scalar::Text(&server.logging.format));
    line(2, "output", Scalar::Text(&server.logging.output));
    line(0, "shutdown_timeout", Scalar::Text(SHUTDOWN_TIMEOUT));
    line(0, "database", Scalar::Section);
    match &server.database {
        Database::Sqlite { path } => {
            line(2, "type", Scalar::Text("sqlite"));
            line(2, "sqlite", Scalar::Section);
            line(4, "path", Scalar::Text(path));
        }
        Database::Postgres { .. } | Database::Percona => {
            line(2, "type", Scalar::Text("postgres"));
            line(2, "postgres", Scalar::Section);
            line(4, "host", Scalar::Text(PLACEHOLDER));
            // PostgreSQL's own port, in force when the Secret names none.
            line(4, "port", Scalar::Number(5432));
            line(4, "database", Scalar::Text(PLACEHOLDER));
            line(4, "user", Scalar::Text(PLACEHOLDER));
            line(4, "password", Scalar::Text(PLACEHOLDER));
            if server.database == Database::Percona {
                // Percona's PostgreSQL always has a certificate, and its Secret does not say.
                line(4, "sslmode", Scalar::Text("require"));
            }
        }
    }
    line(0, "controlplane", Scalar::Section);
    line(2, "host", Scalar::Text(ALL_ADDRESSES));
    line(2, "port", Scalar::Number(server.api_port.into()));
    line(2, "jwt", Scalar::Section);
    line(4, "access_token_duration", Scalar::Text(&server.jwt.access_token_duration));
    line(4, "refresh_token_duration", Scalar::Text(&server.jwt.refresh_token_duration));
    if server.api_tls.native().is_some() {
        line(2, "tls", Scalar::Section);
        line(4, "cert_file", Scalar::Text(tls::CERT_FILE));
        line(4, "key_file", Scalar::Text(tls::KEY_FILE));
        if server.api_tls.mutual().is_some() {
            line(4, "client_ca", Scalar::Text(tls::CLIENT_CA_FILE));
        }
    }
    line(0, "admin", Scalar::Section);
    line(2, "username", Scalar::Text(&server.admin.username));
    line(0, "blockstore", Scalar::Section);
    line(2, "local", Scalar::Section);
    line(4, "default_remote_cache_size", Scalar::Number(server.cache.size_bytes));
    if let Some(metrics) = &server.metrics {
        line(0, "metrics", Scalar::Section);
        line(2, "enabled", Scalar::Bool(true));
        line(2, "host", Scalar::Text(ALL_ADDRESSES));
        line(2, "port", Scalar::Number(metrics.port.into()));
        line(2, "path", Scalar::Text(&metrics.path));
        if metrics.bearer_token.is_some() {
            line(2, "auth", Scalar::Text("token"));
            line(2, "token_file", Scalar::Text(files::METRICS_TOKEN.path));
        }
    }
    if let Some(settings) = &server.ldap {
        ldap(&mut line, settings);
    }
    if let Some(settings) = &server.kerberos {
        kerberos(&mut line, settings);
    }
    text
}

/// Takes an indent, a key and what stands behind it.
type Line<'a> = dyn FnMut(usize, &str, Scalar<'_>) + 'a;

fn ldap(line: &mut Line<'_>, ldap: &Ldap) {
    line(0, "ldap", Scalar::Section);
    line(2, "enabled", Scalar::Bool(true));
    line(2, "url", Scalar::Text(&ldap.url));
    line(2, "start_tls", Scalar::Bool(ldap.start_tls));
    line(2, "allow_plaintext", Scalar::Bool(ldap.allow_plaintext));
    line(2, "base_dn", Scalar::Text(&ldap.base_dn));
    line(2, "bind_dn", Scalar::Text(&ldap.bind_dn));
    placeholder(line, 2, "bind_password", ldap.bind_password.as_ref());
    optional(line, 2, "user_attr", ldap.user_attr.as_deref());
    optional(line, 2, "realm", ldap.realm.as_deref());
    optional(line, 2, "idmap", ldap.idmap.as_deref());
    line(2, "nested_groups", Scalar::Bool(ldap.nested_groups));
    line(2, "tls", Scalar::Section);
    let mounted = ldap.ca_secret.as_ref().map(|_| files::LDAP_CA.path);
    optional(line, 4, "ca_cert_file", mounted.or(ldap.ca_cert_file.as_deref()));
    line(4, "insecure_skip_verify", Scalar::Bool(ldap.insecure_skip_verify));
}

fn kerberos(line: &mut Line<'_>, kerberos: &Kerberos) {
    line(0, "kerberos", Scalar::Section);
    line(2, "enabled", Scalar::Bool(true));
    optional(line, 2, "keytab_path", kerberos.keytab.as_ref().map(|_| files::KEYTAB.path));
    optional(line, 2, "service_principal", kerberos.service_principal.as_deref());
    optional(line, 2, "realm", kerberos.realm.as_deref());
    optional(line, 2, "netbios_domain", kerberos.netbios_domain.as_deref());
    optional(line, 2, "dns_domain", kerberos.dns_domain.as_deref());
    let krb5_conf = match (&kerberos.krb5_conf_secret, &kerberos.krb5_conf) {
        (Some(_), _) | (None, Some(Krb5Conf::Text(_))) => Some(files::KRB5_CONF.path),
        (None, Some(Krb5Conf::Path(path))) => Some(path.as_str()),
        (None, None) => None,
    };
    optional(line, 2, "krb5_conf", krb5_conf);
    let Some(account) = &kerberos.machine_account else { return };
    line(2, "machine_account", Scalar::Section);
    line(4, "enabled", Scalar::Bool(true));
    optional(line, 4, "account_name", account.account_name.as_deref());
    placeholder(line, 4, "secret", account.secret.as_ref());
    optional(line, 4, "keytab_path", account.keytab.as_ref().map(|_| files::MACHINE_KEYTAB.path));
    if !account.dc_address.is_empty() {
        line(4, "dc_address", Scalar::Section);
        for address in &account.dc_address {
            line(6, "", Scalar::Item(address));
        }
    }
}

fn optional(line: &mut Line<'_>, indent: usize, key: &str, value: Option<&str>) {
    if let Some(value) = value {
        line(indent, key, Scalar::Text(value));
    }
}

fn placeholder(line: &mut Line<'_>, indent: usize, key: &str, secret: Option<&SecretKey>) {
    optional(line, indent, key, secret.map(|_| PLACEHOLDER));
}

/// What stands behind a key.
enum Scalar<'a> {
    Section,
    Text(&'a str),
    Number(u64),
    Bool(bool),
    /// Of the list that the line before opened; the key counts for nothing.
    Item(&'a str),
}

/// `text` as a YAML string that no parser takes for anything else (`no`, `1e3`, `2001-01-01`, `: #`), in ASCII.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            ' '..='~' => quoted.push(c),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(quoted, "\\U{:08X}", u32::from(c));
            }
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::fixtures::{directory, everything, mutual, percona_server, secured, server};
    use crate::reconcile::{MachineAccount, Metrics, ValidatedServer};

    /// The real server's schema: durations may be text, no key is required, an unknown one is an error.
    fn schema() -> jsonschema::Validator {
        fn relax(node: &mut Value, name: &str) {
            if let Value::Object(map) = node {
                map.remove("required");
                let duration = ["timeout", "duration"].iter().any(|word| name.contains(word));
                if duration && map.get("type") == Some(&Value::from("integer")) {
                    map.insert("type".into(), serde_json::json!(["integer", "string"]));
                    map.insert("pattern".into(), "^([0-9]+(\\.[0-9]+)?(ns|us|ms|s|m|h))+$".into());
                }
                for (key, child) in map.iter_mut() {
                    relax(child, key);
                }
            }
        }
        let mut schema: Value =
            serde_json::from_str(include_str!("../../tests/fixtures/dittofs/config.schema.json")).unwrap();
        relax(&mut schema, "");
        jsonschema::validator_for(&schema).unwrap()
    }

    fn parse(server: &ValidatedServer) -> Value {
        serde_yaml_ng::from_str(&render(server)).unwrap()
    }

    fn variants() -> Vec<ValidatedServer> {
        let metrics = Metrics { port: 9191, path: "/m".into(), bearer_token: None };
        vec![
            server("minimal").build(),
            everything("full"),
            directory("directory"),
            percona_server("percona"),
            server("half")
                .with(|s| {
                    let mut given = directory("half");
                    if let Some(ldap) = &mut given.ldap {
                        (ldap.ca_secret, ldap.bind_password, ldap.user_attr) = (None, None, None);
                    }
                    s.ldap = given.ldap;
                    let machine_account = Some(MachineAccount::default());
                    s.kerberos = Some(Kerberos { machine_account, ..Kerberos::default() });
                })
                .build(),
            secured("secured"),
            mutual("mutual"),
            server("pg").with(|s| s.database = Database::Postgres { secret: "pg-conn".into() }).build(),
            server("measured").with(|s| s.metrics = Some(metrics)).build(),
            server("path").with(|s| s.database = Database::Sqlite { path: "/data/controlplane/x.db".into() }).build(),
        ]
    }

    #[test]
    fn every_variant_is_valid_for_the_real_servers_schema() {
        let schema = schema();
        for server in variants() {
            let errors: Vec<String> = schema.iter_errors(&parse(&server)).map(|e| e.to_string()).collect();
            assert!(errors.is_empty(), "{}: {errors:?}\n{}", server.key, render(&server));
        }
    }

    #[test]
    fn the_schema_check_refuses_an_unknown_key_and_a_wrong_type() {
        let schema = schema();
        let good = parse(&server("files").build());
        for (pointer, key, value) in [
            ("", "shares", Value::from("x")),
            ("/controlplane", "prot", Value::from(1)),
            ("/controlplane", "port", Value::from("8080")),
            ("/controlplane/jwt", "access_token_duration", Value::from("soon")),
            ("/blockstore/local", "default_remote_cache_size", Value::from("1Gi")),
        ] {
            let mut bad = good.clone();
            bad.pointer_mut(pointer).unwrap().as_object_mut().unwrap().insert(key.into(), value);
            assert!(!schema.is_valid(&bad), "{pointer}/{key}");
        }
    }

    #[test]
    fn each_field_arrives_under_its_key() {
        let config = parse(&everything("files"));
        for (pointer, want) in [
            ("/logging/level", Value::from("WARN")),
            ("/logging/format", "text".into()),
            ("/logging/output", "stderr".into()),
            ("/shutdown_timeout", "30s".into()),
            ("/database/type", "postgres".into()),
            ("/controlplane/host", "0.0.0.0".into()),
            ("/controlplane/port", 8443.into()),
            ("/controlplane/jwt/access_token_duration", "17m".into()),
            ("/controlplane/jwt/refresh_token_duration", "190h".into()),
            ("/admin/username", "boss".into()),
            ("/blockstore/local/default_remote_cache_size", 3_221_225_472_u64.into()),
            ("/metrics/enabled", true.into()),
            ("/metrics/host", "0.0.0.0".into()),
            ("/metrics/port", 9191.into()),
            ("/metrics/path", "/telemetry".into()),
        ] {
            assert_eq!(config.pointer(pointer), Some(&want), "{pointer}");
        }
        let minimal = parse(&server("files").build());
        assert_eq!(minimal.pointer("/database/sqlite/path"), Some(&"/data/controlplane/controlplane.db".into()));
        assert_eq!(minimal.get("metrics"), None);
        assert_eq!(minimal.pointer("/controlplane/tls"), None);
        let of_tls = |server: &ValidatedServer| parse(server).pointer("/controlplane/tls").cloned().unwrap();
        let mut wanted = serde_json::json!({"cert_file": "/tls/tls.crt", "key_file": "/tls/tls.key"});
        assert_eq!(of_tls(&secured("files")), wanted);
        wanted["client_ca"] = "/tls-client-ca/ca.crt".into();
        assert_eq!(of_tls(&mutual("files")), wanted);
    }

    #[test]
    fn each_field_of_directory_and_kerberos_arrives_under_its_key() {
        let config = parse(&directory("files"));
        for (pointer, want) in [
            ("/ldap/enabled", Value::from(true)),
            ("/ldap/url", "ldaps://dc.example.com:636".into()),
            ("/ldap/start_tls", true.into()),
            ("/ldap/allow_plaintext", false.into()),
            ("/ldap/base_dn", "DC=example,DC=com".into()),
            ("/ldap/bind_dn", "CN=dittofs,DC=example,DC=com".into()),
            ("/ldap/user_attr", "uid".into()),
            ("/ldap/realm", "USERS.EXAMPLE.COM".into()),
            ("/ldap/idmap", "rid".into()),
            ("/ldap/nested_groups", true.into()),
            ("/ldap/tls/ca_cert_file", "/ldap-ca/ca.crt".into()),
            ("/ldap/tls/insecure_skip_verify", false.into()),
            ("/kerberos/enabled", true.into()),
            ("/kerberos/keytab_path", "/kerberos/dittofs.keytab".into()),
            ("/kerberos/service_principal", "nfs/files.example.com@EXAMPLE.COM".into()),
            ("/kerberos/realm", "EXAMPLE.COM".into()),
            ("/kerberos/netbios_domain", "EXAMPLE".into()),
            ("/kerberos/dns_domain", "example.com".into()),
            ("/kerberos/krb5_conf", "/kerberos-krb5/krb5.conf".into()),
            ("/kerberos/machine_account/enabled", true.into()),
            ("/kerberos/machine_account/account_name", "FILES$".into()),
            ("/kerberos/machine_account/keytab_path", "/kerberos-machine/machine.keytab".into()),
            ("/kerberos/machine_account/dc_address/0", "dc1.example.com".into()),
            ("/kerberos/machine_account/dc_address/1", "dc2.example.com:445".into()),
            ("/metrics/auth", "token".into()),
            ("/metrics/token_file", "/metrics-token/token".into()),
        ] {
            assert_eq!(config.pointer(pointer), Some(&want), "{pointer}");
        }
        let half = parse(&variants()[4]);
        assert_eq!(half.pointer("/ldap/tls/ca_cert_file"), Some(&"/etc/ssl/ldap.pem".into()));
        for unset in ["/ldap/bind_password", "/ldap/user_attr", "/kerberos/keytab_path", "/kerberos/krb5_conf"] {
            assert_eq!(half.pointer(unset), None, "{unset}");
        }
        let plain = parse(&server("files").build());
        assert_eq!((plain.get("ldap"), plain.get("kerberos")), (None, None));
    }

    #[test]
    fn nothing_but_infrastructure_is_configured() {
        for server in variants() {
            let config = parse(&server);
            let sections: Vec<&str> = config.as_object().unwrap().keys().map(String::as_str).collect();
            for section in sections {
                assert!(
                    [
                        "logging",
                        "shutdown_timeout",
                        "database",
                        "controlplane",
                        "admin",
                        "blockstore",
                        "metrics",
                        "ldap",
                        "kerberos",
                    ]
                    .contains(&section),
                    "{section}"
                );
            }
            for secret in ["/ldap/bind_password", "/kerberos/machine_account/secret"] {
                assert!(config.pointer(secret).is_none_or(|value| value == PLACEHOLDER), "{secret}");
            }
            assert_eq!(config.pointer("/controlplane/jwt/secret"), None);
            assert_eq!(config.pointer("/admin/password_hash"), None);
            if let Some(password) = config.pointer("/database/postgres/password") {
                assert_eq!(password, PLACEHOLDER);
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_reads_back_as_that_text(name in "\\PC*|[\\x00-\\x7f\u{85}\u{2028}\u{feff}]*|no|on|1e3|~|2001-01-01|0x1f|- a") {
            let config = parse(&server("files").with(|s| s.admin.username.clone_from(&name)).build());
            prop_assert_eq!(config.pointer("/admin/username"), Some(&Value::from(name)));
        }
    }
}
