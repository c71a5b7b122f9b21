//! `check` on the API server of the tests: what it reads and of whom, and that it writes nothing. What it makes of that is
//! tried beside `reconcile::preview`.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use crate::actors::testing::api::Fault;
use crate::actors::testing::{Bench, ditto_server, key, run};
use crate::build::{AdapterPort, TemplateInput, adapter_service, stateful_set};
use crate::check::look;
use crate::cluster::Kind;
use crate::reconcile::ValidatedServer;
use crate::reconcile::preview::{Action, Preview};

fn server(bench: &Bench) -> Arc<ValidatedServer> {
    bench.deps.spec(&key()).expect("the server").server.clone().expect("a valid spec")
}

/// What is told about the servers; nothing but reads were sent.
async fn told(bench: &Bench) -> Vec<Preview> {
    let report =
        look(&bench.deps.cluster, &bench.deps.classes, Some("team"), Some("operators")).await.expect("a report");
    assert!(bench.api.asked().iter().all(|(_, asked)| asked.method == Method::GET));
    report.servers
}

async fn only(bench: &Bench) -> Preview {
    told(bench).await.pop().expect("a server")
}

fn action(told: &Preview, kind: &str, name: &str) -> Option<Action> {
    told.changes.iter().find(|change| (change.kind, change.name.as_str()) == (kind, name)).map(|change| change.action)
}

fn warned(told: &Preview, part: &str) -> bool {
    told.warnings.iter().any(|warning| warning.contains(part))
}

#[test]
fn servers_are_told_in_order_with_what_stands_in_their_own_objects() {
    run(async {
        let bench = Bench::with_server();
        let mut invalid = ditto_server("zeta");
        invalid["spec"]["adapterDiscovery"]["pollingInterval"] = json!("soon");
        bench.api.put(Kind::DittoServer, invalid);
        let mut going = ditto_server("alpha");
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        bench.api.put(Kind::DittoServer, going);
        let all = told(&bench).await;
        assert_eq!(all.iter().map(|told| told.name.as_str()).collect::<Vec<_>>(), ["alpha", "files", "zeta"]);
        assert!(all[0].changes.is_empty() && warned(&all[0], "being deleted"));
        assert!(
            all[2].invalid.as_ref().is_some_and(|why| why.contains("pollingInterval")) && all[2].changes.is_empty()
        );
        assert_eq!(action(&all[1], "DittoServer", "files"), Some(Action::Update), "its finalizer");
        assert!(!warned(&all[1], "dittofs.io/paused"));
        bench.api.change(Kind::DittoServer, "files", |server| {
            server["metadata"]["finalizers"] = json!(["theirs", "dittofs.dittofs.com/finalizer"]);
            server["metadata"]["annotations"] = json!({"dittofs.io/paused": "true"});
        });
        let all = told(&bench).await;
        assert_eq!(action(&all[1], "DittoServer", "files"), None);
        assert!(warned(&all[1], "dittofs.io/paused"));
    });
}

#[test]
fn what_is_read_is_the_servers_own_and_what_bears_its_names() {
    run(async {
        let bench = Bench::new().and_server(|spec| {
            spec["networkPolicy"] = json!({"enabled": true});
            spec["metrics"] = json!({"enabled": true, "serviceMonitor": {"enabled": true}});
        });
        let nfs = AdapterPort { adapter_type: "nfs".to_owned(), port: 12049 };
        let own = serde_json::to_value(adapter_service(&server(&bench), &nfs)).expect("JSON");
        bench.api.put(Kind::Service, own.clone());
        // Of another server: neither told nor counted.
        let mut others = own;
        others["metadata"]["name"] = json!("other-adapter-smb");
        others["metadata"]["labels"]["dittofs.io/adapter-type"] = json!("smb");
        others["metadata"]["ownerReferences"][0]["uid"] = json!("another");
        bench.api.put(Kind::Service, others);
        let foreign = [
            (Kind::Service, "files-api"),
            (Kind::NetworkPolicy, "files-baseline"),
            (Kind::NetworkPolicy, "files-adapter-nfs"),
            (Kind::ServiceMonitor, "files-metrics"),
            (Kind::ConfigMap, "files-config"),
            (Kind::StatefulSet, "files"),
            (Kind::Secret, "files-operator-credentials"),
        ];
        for (kind, name) in foreign {
            bench.api.put(kind, json!({"metadata": {"name": name}}));
        }
        let told = only(&bench).await;
        for (kind, name) in foreign {
            assert_eq!(action(&told, kind.name(), name), Some(Action::Blocked), "{kind} {name}");
        }
        assert_eq!(action(&told, "Service", "files-adapter-nfs"), Some(Action::Update), "our annotation");
        assert_eq!(action(&told, "Service", "files-headless"), Some(Action::Create));
        assert!(told.changes.iter().all(|change| !change.name.contains("smb") && change.action != Action::Delete));
    });
}

#[test]
fn a_kind_that_is_not_served_is_a_warning_and_a_refused_read_is_an_error() {
    run(async {
        let bench = Bench::new().and_server(|spec| {
            spec["metrics"] = json!({"enabled": true, "serviceMonitor": {"enabled": true}});
            spec["percona"] = json!({"enabled": true});
        });
        for kind in ["GET ServiceMonitor", "GET PerconaPGCluster"] {
            bench.api.fail(usize::MAX, kind, Fault::Status(404, ""));
        }
        let told = only(&bench).await;
        assert_eq!(action(&told, "ServiceMonitor", "files-metrics"), None);
        assert_eq!(action(&told, "PerconaPGCluster", "files-postgres"), None);
        assert!(warned(&told, "Prometheus operator's CRDs") && warned(&told, "install Percona's operator"));
        bench.api.heal();
        let told = only(&bench).await;
        assert_eq!(action(&told, "ServiceMonitor", "files-metrics"), Some(Action::Create));
        assert_eq!(action(&told, "PerconaPGCluster", "files-postgres"), Some(Action::Create));
        for kind in ["GET ServiceMonitor", "GET PerconaPGCluster", "GET NetworkPolicy", "GET Secret"] {
            bench.api.fail(usize::MAX, kind, Fault::Status(403, "Forbidden"));
            let refused = look(&bench.deps.cluster, &bench.deps.classes, Some("team"), None).await.expect_err(kind);
            assert!(refused.is_forbidden(), "{refused}");
            bench.api.heal();
        }
    });
}

#[test]
fn the_database_of_a_server_that_had_one_is_looked_for() {
    run(async {
        let bench = Bench::with_server();
        assert!(only(&bench).await.changes.iter().all(|change| change.kind != "PerconaPGCluster"));
        assert_eq!(bench.api.count("GET PerconaPGCluster"), 0, "nobody says that there was one");
        bench.api.change(Kind::DittoServer, "files", |server| {
            server["status"] = json!({"perconaClusterName": "files-postgres"});
        });
        let owners = json!([{"kind": "DittoServer", "uid": "uid-files", "controller": true}]);
        let cluster = json!({"metadata": {"name": "files-postgres", "ownerReferences": owners}});
        bench.api.put(Kind::PerconaPgCluster, cluster);
        let told = only(&bench).await;
        assert_eq!(action(&told, "PerconaPGCluster", "files-postgres"), Some(Action::Update));
    });
}

#[test]
fn claims_are_read_with_their_classes_and_a_class_that_must_not_be_read_is_left_to_the_api_server() {
    run(async {
        let bench = Bench::new().and_server(|spec| spec["storage"]["metadataSize"] = json!("2Gi"));
        let input = TemplateInput { config_hash: "h", adapters: &[], partition: 0 };
        bench.api.put(Kind::StatefulSet, serde_json::to_value(stateful_set(&server(&bench), &input)).expect("JSON"));
        bench.api.put(
            Kind::Claim,
            json!({
                "metadata": {"name": "metadata-files-0", "labels": {"app": "dittofs-server", "instance": "files"}},
                "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}},
                "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}},
            }),
        );
        let claim = async || action(&only(&bench).await, "PersistentVolumeClaim", "metadata-files-0");
        assert_eq!(claim().await, Some(Action::Blocked), "the class is not there");
        bench.api.fail(usize::MAX, "GET StorageClass", Fault::Status(403, "Forbidden"));
        assert_eq!(claim().await, Some(Action::Update));
        bench.api.heal();
        bench.api.put(Kind::StorageClass, json!({"metadata": {"name": "fast"}, "allowVolumeExpansion": false}));
        assert_eq!(claim().await, Some(Action::Blocked));
        bench.api.change(Kind::StorageClass, "fast", |class| class["allowVolumeExpansion"] = json!(true));
        assert_eq!(claim().await, Some(Action::Update));
    });
}

#[test]
fn the_operators_namespace_is_let_in_by_a_policy_with_peers() {
    run(async {
        let bench = Bench::new().and_server(|spec| {
            spec["networkPolicy"] = json!({"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]});
        });
        let told: Value = serde_json::to_value(only(&bench).await).expect("JSON");
        assert!(!told["warnings"].to_string().contains("its own namespace"), "{told}");
        let report = look(&bench.deps.cluster, &bench.deps.classes, Some("team"), None).await.expect("a report");
        assert!(warned(&report.servers[0], "its own namespace"), "{:?}", report.servers);
    });
}
