//! The server's `config.yaml`: infrastructure only. Stores, shares, users and adapters belong to whoever uses the
//! REST API; secrets come through the environment.
//!
//! The text goes into the config hash, so it is written by hand: a serialiser that starts to quote or to order
//! otherwise would restart every server at an upgrade of the operator. Keys are those of the real server's
//! `config.schema.json`, against which the tests check every variant.

use std::fmt::Write as _;

use super::tls;
use crate::reconcile::{Database, ValidatedServer};

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
            Scalar::True => writeln!(text, "{:indent$}{key}: true", ""),
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
        Database::Postgres { .. } => {
            line(2, "type", Scalar::Text("postgres"));
            line(2, "postgres", Scalar::Section);
            line(4, "host", Scalar::Text(PLACEHOLDER));
            // PostgreSQL's own port, in force when the Secret names none.
            line(4, "port", Scalar::Number(5432));
            line(4, "database", Scalar::Text(PLACEHOLDER));
            line(4, "user", Scalar::Text(PLACEHOLDER));
            line(4, "password", Scalar::Text(PLACEHOLDER));
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
        line(2, "enabled", Scalar::True);
        line(2, "host", Scalar::Text(ALL_ADDRESSES));
        line(2, "port", Scalar::Number(metrics.port.into()));
        line(2, "path", Scalar::Text(&metrics.path));
    }
    text
}

/// What stands behind a key.
enum Scalar<'a> {
    Section,
    Text(&'a str),
    Number(u64),
    True,
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
    use crate::fixtures::{everything, mutual, secured, server};
    use crate::reconcile::{Metrics, ValidatedServer};

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
        let metrics = Metrics { port: 9191, path: "/m".into() };
        vec![
            server("minimal").build(),
            everything("full"),
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
    fn nothing_but_infrastructure_is_configured() {
        for server in variants() {
            let config = parse(&server);
            let sections: Vec<&str> = config.as_object().unwrap().keys().map(String::as_str).collect();
            for section in sections {
                assert!(
                    ["logging", "shutdown_timeout", "database", "controlplane", "admin", "blockstore", "metrics"]
                        .contains(&section),
                    "{section}"
                );
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
