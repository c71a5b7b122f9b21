//! The test bed on the real control plane: what it offers to the tests of the operator is tried before it is trusted.

use dittofs_testbed::audit;
use dittofs_testbed::cluster::{Cluster, ClusterOptions, Namespace, resources, wait_until};
use dittofs_testbed::operator::{Account, Rights};
use dittofs_testbed::proxy::{Action, Cut, Mode, Proxy, Rule};
use futures::StreamExt as _;
use http::Method;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// One control plane for all tests of this file, without the CRD.
fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let runtime = std::thread::spawn(|| {
            tokio::runtime::Runtime::new().unwrap().block_on(Cluster::start(ClusterOptions::bare())).unwrap()
        });
        runtime.join().unwrap()
    })
}

async fn namespace(test: &str) -> Namespace {
    cluster().namespace(test).await.unwrap()
}

/// A `kube` client as the operator has it: its own account, through a proxy.
async fn client(namespace: &Namespace, proxy: &Proxy) -> (kube::Client, Account) {
    let rules = vec![json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]})];
    let account =
        Account::create(cluster(), namespace.name(), Some(namespace.name()), &Rights::Rules(rules)).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    account.write_kubeconfig(directory.path(), Some(proxy.url())).unwrap();
    let file = kube::config::Kubeconfig::read_from(directory.path().join("kubeconfig")).unwrap();
    let mut config =
        kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    config.proxy_url = None;
    (kube::Client::try_from(config).unwrap(), account)
}

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"a": "b"}})).unwrap()
}

#[tokio::test]
async fn kubectl_and_json_helpers_see_the_same_objects() {
    let namespace = namespace("helpers").await;
    namespace
        .create_object(resources::CONFIG_MAPS, &json!({"metadata": {"name": "c"}, "data": {"k": "v"}}))
        .await
        .unwrap();
    let printed = cluster()
        .kubectl_ok(&["get", "configmap", "c", "-n", namespace.name(), "-o", "jsonpath={.data.k}"])
        .await
        .unwrap();
    assert_eq!(printed, "v");
    namespace.patch(resources::CONFIG_MAPS, "c", &json!({"data": {"k": "w"}})).await.unwrap();
    let mut object = namespace.get(resources::CONFIG_MAPS, "c").await.unwrap().unwrap();
    assert_eq!(object["data"]["k"], "w");
    object["metadata"]["resourceVersion"] = json!("1");
    let refused = cluster().replace(resources::CONFIG_MAPS, namespace.name(), &object).await.unwrap_err();
    assert_eq!(refused.code(), 409, "{refused}");
    namespace.delete(resources::CONFIG_MAPS, "c").await.unwrap();
    assert!(namespace.get(resources::CONFIG_MAPS, "c").await.unwrap().is_none());
    let output = cluster().kubectl(&["get", "configmap", "c", "-n", namespace.name()]).await.unwrap();
    assert!(!output.status.success());
}

#[tokio::test]
async fn a_stateful_set_starts_its_pod_once() {
    let namespace = namespace("pods").await;
    let set = json!({
        "metadata": {"name": "s"},
        "spec": {"serviceName": "s", "replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
    });
    namespace.create_object(resources::STATEFUL_SETS, &set).await.unwrap();
    namespace
        .wait_until("a ready pod", PATIENCE, async || {
            let set = namespace.get(resources::STATEFUL_SETS, "s").await.map_err(|error| error.to_string())?;
            let ready = set.unwrap_or_default()["status"]["readyReplicas"].clone();
            if ready == 1 { Ok(()) } else { Err(format!("ready: {ready}")) }
        })
        .await
        .unwrap();
    let starts = cluster().pod_starts(namespace.name()).await.unwrap();
    assert_eq!((starts.total, starts.starts[0].name.as_str()), (1, "s-0"));
}

#[tokio::test]
async fn the_proxy_counts_writes_and_streams_watches() {
    let namespace = namespace("proxy").await;
    let proxy = Proxy::start(cluster()).await.unwrap();
    let (client, account) = client(&namespace, &proxy).await;
    let maps: Api<ConfigMap> = Api::namespaced(client, namespace.name());
    let mut watch = maps.watch(&WatchParams::default().timeout(60), "0").await.unwrap().boxed();
    maps.create(&PostParams::default(), &config_map("mine")).await.unwrap();
    maps.get("mine").await.unwrap();
    let seen = tokio::time::timeout(PATIENCE, async {
        while let Some(event) = watch.next().await {
            if let WatchEvent::Added(map) = event.unwrap()
                && map.metadata.name.as_deref() == Some("mine")
            {
                return true;
            }
        }
        false
    });
    assert!(seen.await.expect("the event while the watch is open"));
    assert_eq!(proxy.writes(), 1);
    assert_eq!(proxy.seen().iter().filter(|seen| seen.status == Some(200)).count(), 2, "{:?}", proxy.seen());

    // The same requests, in the audit log, by the account's name.
    let own = wait_until("the requests in the audit log", PATIENCE, async || {
        let entries = audit::read(cluster().audit_log()).map_err(|error| error.to_string())?;
        let own: Vec<_> = entries.into_iter().filter(|entry| entry.user == account.user()).collect();
        let verbs: Vec<_> = own.iter().map(|entry| entry.verb.as_str()).collect();
        if verbs == ["watch", "create", "get"] { Ok(own) } else { Err(format!("{verbs:?}")) }
    });
    let create = &own.await.unwrap()[1];
    assert_eq!((create.object.resource.as_str(), create.object.name.as_str()), ("configmaps", "mine"));
    assert_eq!(create.request["data"]["a"], "b");
    assert!(create.result().is_some() && create.succeeded() && create.received <= create.finished);
}

#[tokio::test]
async fn a_cut_before_a_write_hides_it_from_the_api_server_and_one_after_does_not() {
    let namespace = namespace("cut").await;
    let proxy = Proxy::start(cluster()).await.unwrap();
    let (client, _account) = client(&namespace, &proxy).await;
    let maps: Api<ConfigMap> = Api::namespaced(client, namespace.name());
    let calls = Arc::new(AtomicUsize::new(0));
    for (cut, name, there) in [(Cut::BeforeWrite(2), "before", false), (Cut::AfterWrite(2), "after", true)] {
        proxy.reset();
        let counter = Arc::clone(&calls);
        proxy.arm(cut, move |seen| {
            assert_eq!(seen.write, Some(2));
            counter.fetch_add(1, Ordering::SeqCst);
            Box::pin(async {})
        });
        maps.create(&PostParams::default(), &config_map(&format!("first-{name}"))).await.unwrap();
        maps.create(&PostParams::default(), &config_map(name)).await.unwrap_err();
        assert_eq!(namespace.get(resources::CONFIG_MAPS, name).await.unwrap().is_some(), there, "{cut:?}");
        assert!(!proxy.disarm(), "it happens once");
        maps.create(&PostParams::default(), &config_map(&format!("third-{name}"))).await.unwrap();
    }
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_hook_before_a_write_makes_a_true_conflict() {
    let namespace = namespace("conflict").await;
    let proxy = Proxy::start(cluster()).await.unwrap();
    let (client, _account) = client(&namespace, &proxy).await;
    let maps: Api<ConfigMap> = Api::namespaced(client, namespace.name());
    let map = maps.create(&PostParams::default(), &config_map("mine")).await.unwrap();
    let other = namespace.clone();
    let action = Action::before(move |_| {
        let other = other.clone();
        Box::pin(async move {
            other.patch(resources::CONFIG_MAPS, "mine", &json!({"data": {"other": "was first"}})).await.unwrap();
        })
    });
    proxy.rule(Rule::new(|method, path| method == Method::PUT && path.contains("/configmaps/mine"), action).times(1));
    let error = maps.replace("mine", &PostParams::default(), &map).await.unwrap_err();
    assert!(matches!(&error, kube::Error::Api(status) if status.code == 409), "{error:?}");
    let map = maps.get("mine").await.unwrap();
    maps.replace("mine", &PostParams::default(), &map).await.unwrap();
    proxy.rule(Rule::new(|_, _| true, Action::status(503, "ServiceUnavailable", "told so")).times(1));
    let error = maps.get("mine").await.unwrap_err();
    assert!(matches!(&error, kube::Error::Api(status) if status.code == 503), "{error:?}");
}

#[tokio::test]
async fn a_proxy_that_hangs_or_refuses_recovers() {
    let namespace = namespace("modes").await;
    let proxy = Proxy::start(cluster()).await.unwrap();
    let (client, _account) = client(&namespace, &proxy).await;
    let maps: Api<ConfigMap> = Api::namespaced(client, namespace.name());
    maps.create(&PostParams::default(), &config_map("mine")).await.unwrap();
    proxy.set_mode(Mode::Hang);
    let silent = tokio::time::timeout(Duration::from_millis(300), maps.get("mine")).await;
    assert!(silent.is_err(), "answered while hanging");
    proxy.set_mode(Mode::Refuse);
    maps.get("mine").await.unwrap_err();
    proxy.set_mode(Mode::Normal);
    maps.get("mine").await.unwrap();
}

#[tokio::test]
async fn a_failed_wait_tells_what_is_in_the_namespace() {
    let namespace = namespace("dump").await;
    namespace.secret("sesame", &[("key", "open-says-me")]).await.unwrap();
    let error = namespace
        .wait_until("nothing", Duration::from_millis(100), async || Err::<(), _>("as expected".to_owned()))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("as expected") && error.contains("sesame") && error.contains("key"), "{error}");
    let encoded = namespace.get(resources::SECRETS, "sesame").await.unwrap().unwrap()["data"]["key"].clone();
    assert!(!error.contains("open-says-me") && !error.contains(encoded.as_str().unwrap()), "{error}");
}

#[tokio::test]
async fn the_api_server_can_be_stopped_and_comes_back_with_its_objects() {
    let cluster = Cluster::start(ClusterOptions::bare()).await.unwrap();
    let namespace = cluster.namespace("outage").await.unwrap();
    namespace.create_object(resources::CONFIG_MAPS, &json!({"metadata": {"name": "c"}})).await.unwrap();
    cluster.stop_api_server().await.unwrap();
    assert_eq!(namespace.get(resources::CONFIG_MAPS, "c").await.unwrap_err().code(), 0);
    cluster.start_api_server().await.unwrap();
    let kept: Option<Value> = wait_until("an answer", PATIENCE, async || {
        namespace.get(resources::CONFIG_MAPS, "c").await.map_err(|error| error.to_string())
    })
    .await
    .unwrap();
    assert!(kept.is_some());
    let directory = cluster.directory().to_owned();
    drop(namespace);
    drop(cluster);
    assert!(!directory.exists(), "the control plane left {} behind", directory.display());
}
