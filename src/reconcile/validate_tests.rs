//! What [`validate`](super::validate()) makes of good, bad and strange objects.

use serde_json::json;

use super::*;
use crate::reconcile::{ApiTls, ServiceSettings, ServiceType};

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
    assert_eq!((server.api_port, &server.api_tls), (8080, &ApiTls::default()));
    assert_eq!(server.ports, ClientPorts { nfs: 2049, smb: 445 });
    assert_eq!(
        server.jwt,
        Jwt { secret: None, access_token_duration: "15m".to_owned(), refresh_token_duration: "168h".to_owned() }
    );
    assert_eq!(server.admin, Admin { username: "admin".to_owned(), password: None });
    assert_eq!(server.polling_interval, Duration::from_secs(30));
    assert_eq!(server.stop_grace_period, Duration::from_secs(35));
    for service in [&server.api_service, &server.file_service, server.adapter_settings("nfs")] {
        assert_eq!(service, &ServiceSettings::default());
    }
    assert_eq!((server.per_adapter.len(), server.idle_service_fields.len()), (0, 0));
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
        "adapterServices": {"type": "NodePort", "annotations": {"a": "b"}, "externalTrafficPolicy": "Local", "perAdapter": {
            "nfs": {"type": "LoadBalancer", "loadBalancerClass": "example.com/nfs", "annotations": {"a2": "b2"}},
        }},
        "service": {"type": "ClusterIP", "annotations": {"c": "d"}, "labels": {"q": "r"}, "ipFamilyPolicy": "PreferDualStack",
                    "ipFamilies": ["IPv6", "IPv4"]},
        "fileService": {"enabled": false, "type": "LoadBalancer", "loadBalancerSourceRanges": ["192.0.2.0/24"]},
        "apiService": {"labels": {"s": "t"}, "externalTrafficPolicy": "Cluster"},
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
    assert_eq!(server.adapter_services.external_traffic_policy, Some("Local"));
    let nfs = server.adapter_settings("nfs");
    assert_eq!(nfs.load_balancer_class.as_deref(), Some("example.com/nfs"));
    assert_eq!((nfs.service_type, nfs.external_traffic_policy), (ServiceType::LoadBalancer, Some("Local")));
    assert_eq!((nfs.annotations["a"].as_str(), nfs.annotations["a2"].as_str()), ("b", "b2"));
    assert_eq!(server.adapter_settings("smb"), &server.adapter_services);
    let (api, file) = (&server.api_service, &server.file_service);
    assert_eq!((api.service_type, file.service_type), (ServiceType::ClusterIp, ServiceType::LoadBalancer));
    for service in [api, file] {
        assert_eq!((service.annotations["c"].as_str(), service.labels["q"].as_str()), ("d", "r"));
        assert_eq!(service.ip_family_policy, Some("PreferDualStack"));
        assert_eq!(service.ip_families, ["IPv6", "IPv4"]);
    }
    assert_eq!((api.labels.get("s").map(String::as_str), file.labels.get("s")), (Some("t"), None));
    assert_eq!(
        (file.load_balancer_source_ranges.as_slice(), api.load_balancer_source_ranges.len()),
        (&["192.0.2.0/24".to_owned()][..], 0)
    );
    assert_eq!(server.api_type_field, "spec.service.type");
    let idle: Vec<(&str, &[&str])> =
        server.idle_service_fields.iter().map(|idle| (idle.place.as_str(), idle.fields.as_slice())).collect();
    assert_eq!(idle, [("spec.apiService", &["externalTrafficPolicy"][..])]);
    assert!(!server.file_service_enabled);
    assert_eq!(server.metrics, Some(Metrics { port: 9, path: "/m".to_owned(), bearer_token: None }));
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
        let error = validate(&server(json!({"storage": {"metadataSize": "1Gi"}, "pod": {"env": env}}))).unwrap_err();
        assert!(!error.to_string().contains("canary") && !format!("{error:?}").contains("canary"), "{error}");
    }
}
