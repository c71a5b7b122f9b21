//! Every object as YAML under `tests/golden/`, for a minimal server and for one with everything set.
//!
//! `UPDATE_GOLDEN=1 cargo test golden` renews the files; the diff is for a person to review.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::*;
use crate::fixtures::{directory, everything, mutual, percona_server, secured, server, service_settings};
use crate::reconcile::ValidatedServer;

fn minimal() -> ValidatedServer {
    server("files").namespace("tenant").uid("0b1c2d3e-0000-4000-8000-00000000cafe").build()
}

/// A server whose Services have every field set, each Service its own.
fn services() -> ValidatedServer {
    let minimal = minimal();
    ValidatedServer {
        api_service: service_settings("api"),
        file_service: service_settings("file"),
        adapter_services: service_settings("adapters"),
        per_adapter: [("nfs".to_owned(), service_settings("nfs"))].into(),
        ..minimal
    }
}

fn value(object: impl Serialize) -> Value {
    serde_json::to_value(object).unwrap()
}

/// Every object of `server`, by the name of its golden file.
fn objects(server: &ValidatedServer, adapters: &[AdapterPort], targets: TargetPorts) -> Vec<(String, Value)> {
    let template = TemplateInput { config_hash: "c0ffee", adapters, partition: 0 };
    let credentials = CredentialValues {
        username: "user-value",
        password: "password-value",
        access_token: "access-value",
        refresh_token: "refresh-value",
        server_url: "http://url-value",
    };
    let mut objects = vec![
        ("config-map".to_owned(), value(config_map(server, &render(server)))),
        ("stateful-set".to_owned(), value(stateful_set(server, &template))),
        ("service-headless".to_owned(), value(headless_service(server))),
        ("service-api".to_owned(), value(api_service(server))),
        ("secret-jwt".to_owned(), value(jwt_secret(server, "jwt-value"))),
        ("secret-admin".to_owned(), value(admin_secret(server, "user-value", "password-value"))),
        ("secret-credentials".to_owned(), value(credentials_secret(server, credentials))),
    ];
    objects.extend(file_service(server, targets).map(|service| ("service-file".to_owned(), value(service))));
    objects.extend(metrics_service(server).map(|service| ("service-metrics".to_owned(), value(service))));
    objects.extend(
        adapters.iter().map(|adapter| {
            (format!("service-adapter-{}", adapter.adapter_type), value(adapter_service(server, adapter)))
        }),
    );
    let statics: Vec<Value> =
        objects.iter().filter(|(name, _)| name.starts_with("service-")).map(|(_, object)| object.clone()).collect();
    let statics: Vec<&Value> =
        statics.iter().filter(|service| service["metadata"]["labels"].get(ADAPTER_SERVICE_LABEL).is_none()).collect();
    objects.extend(service_monitor(server).map(|monitor| ("monitor".to_owned(), monitor)));
    let baseline = value(baseline_policy(server, &statics, Some("dittofs-system")));
    objects.push(("network-policy-baseline".to_owned(), baseline));
    objects.extend(adapters.iter().map(|adapter| {
        let policy = adapter_policy(server, &value(adapter_service(server, adapter)));
        (format!("network-policy-adapter-{}", adapter.adapter_type), value(policy))
    }));
    objects
}

fn both() -> Vec<(String, Value)> {
    let (plain, full) = (minimal(), everything("files"));
    let full_adapters = [("smb", 5445), ("objectstorage", 9000), ("nfs", 11049)]
        .map(|(adapter_type, port)| AdapterPort { adapter_type: adapter_type.into(), port });
    let of_tls = |server: ValidatedServer| {
        let mut objects = objects(&server, &fresh_server_adapters(), server.ports.into());
        objects.retain(|(name, _)| ["config-map", "stateful-set", "service-api"].contains(&name.as_str()));
        objects
    };
    let mut all = Vec::new();
    for (prefix, objects) in [
        ("tls", of_tls(secured("files"))),
        ("mutual-tls", of_tls(mutual("files"))),
        ("minimal", objects(&plain, &fresh_server_adapters(), plain.ports.into())),
        ("full", objects(&full, &full_adapters, TargetPorts { nfs: 11049, smb: 5445 })),
    ] {
        all.extend(objects.into_iter().map(|(name, object)| (format!("{prefix}-{name}"), object)));
    }
    let joined = objects(&directory("files"), &full_adapters, TargetPorts { nfs: 11049, smb: 5445 });
    let only = ["config-map", "stateful-set", "monitor"];
    let read = joined.into_iter().filter(|(name, _)| only.contains(&name.as_str()));
    all.extend(read.map(|(name, object)| (format!("directory-{name}"), object)));
    let served = percona_server("files");
    let cluster = percona_cluster(&served, served.percona.as_ref().unwrap());
    all.push(("percona-cluster".to_owned(), crate::crd::sorted(cluster)));
    let read = objects(&served, &fresh_server_adapters(), served.ports.into()).into_iter();
    let read = read.filter(|(name, _)| ["config-map", "stateful-set"].contains(&name.as_str()));
    all.extend(read.map(|(name, object)| (format!("percona-{name}"), object)));
    let services = services();
    let only = ["service-api", "service-file", "service-adapter-nfs", "service-adapter-smb"];
    let services = objects(&services, &fresh_server_adapters(), services.ports.into()).into_iter();
    let services = services.filter(|(name, _)| only.contains(&name.as_str()));
    all.extend(services.map(|(name, object)| (format!("services-{name}"), object)));
    all
}

#[test]
fn golden_every_object_is_as_reviewed() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut expected_files = Vec::new();
    let mut different = Vec::new();
    for (name, object) in both() {
        let file = dir.join(format!("{name}.yaml"));
        let text = serde_yaml_ng::to_string(&object).unwrap();
        if update {
            std::fs::write(&file, &text).unwrap();
        } else if std::fs::read_to_string(&file).ok().as_deref() != Some(&text) {
            different.push(format!("{name}.yaml:\n{text}"));
        }
        expected_files.push(format!("{name}.yaml"));
    }
    for entry in std::fs::read_dir(&dir).unwrap() {
        let entry = entry.unwrap();
        // `releases` has what older releases left behind.
        if entry.path().is_dir() {
            continue;
        }
        let name = entry.file_name().into_string().unwrap();
        if !expected_files.contains(&name) {
            assert!(update, "tests/golden/{name} belongs to no object");
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    assert!(
        different.is_empty(),
        "differs from tests/golden (UPDATE_GOLDEN=1 cargo test golden renews it):\n{}",
        different.join("\n")
    );
}

/// Paths of what the API server would drop: null, empty lists, empty maps, empty text.
fn droppable(path: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Null => found.push(path.to_owned()),
        Value::String(text) if text.is_empty() => found.push(path.to_owned()),
        Value::Array(items) => {
            if items.is_empty() {
                found.push(path.to_owned());
            }
            for (index, item) in items.iter().enumerate() {
                droppable(&format!("{path}[{index}]"), item, found);
            }
        }
        Value::Object(fields) => {
            if fields.is_empty() {
                found.push(path.to_owned());
            }
            for (name, field) in fields {
                droppable(&format!("{path}.{name}"), field, found);
            }
        }
        _ => {}
    }
}

#[test]
fn nothing_is_emitted_that_the_api_server_would_drop() {
    let mut found = Vec::new();
    for (name, object) in both() {
        droppable(&name, &object, &mut found);
    }
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn every_object_is_in_the_servers_namespace_and_only_the_generated_secrets_have_no_owner() {
    for (name, object) in both() {
        assert_eq!(object.pointer("/metadata/namespace"), Some(&"tenant".into()), "{name}");
        assert_eq!(object.pointer("/metadata/labels/instance"), Some(&"files".into()), "{name}");
        let outlives = name.ends_with("secret-jwt") || name.ends_with("secret-admin") || name == "percona-cluster";
        assert_eq!(object.pointer("/metadata/ownerReferences").is_none(), outlives, "{name}");
    }
}
