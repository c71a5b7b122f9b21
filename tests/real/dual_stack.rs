//! Services of a cluster with two families of addresses: both, one or the other first, and back, without a write that is not
//! needed and without another address for what is published.

use std::net::IpAddr;
use std::process::{Child, Command, Stdio};

use dittofs_testbed::cluster::{Cluster, ClusterOptions, resources};
use serde_json::{Value, json};

use crate::look::{LATER, uid};
use crate::support::Bed;

const PORT: &str = "--secure-port=";
const RANGES: &str = "--service-cluster-ip-range=";

/// An API server that this test has started; it ends with it.
struct ApiServer(Child);

impl Drop for ApiServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The arguments of a control plane's running API server.
fn arguments(cluster: &Cluster) -> Vec<String> {
    let port = cluster.server().trim_end_matches('/').rsplit(':').next().expect("a port");
    let port = format!("{PORT}{port}");
    let found = std::fs::read_dir("/proc").expect("processes").flatten().find_map(|process| {
        let text = String::from_utf8(std::fs::read(process.path().join("cmdline")).ok()?).ok()?;
        let words: Vec<String> = text.split_terminator('\0').map(str::to_owned).collect();
        let same = words.contains(&port) && words.iter().any(|word| word.starts_with(RANGES));
        same.then(|| words.into_iter().skip(1).collect())
    });
    found.expect("the API server's process")
}

/// A second API server over the same store, with a second range of addresses, IPv6, for Services; and its URL. What the
/// operator sends to it is judged by its rules and written into the same audit log.
async fn with_two_families(cluster: &Cluster) -> (ApiServer, String) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("its address").port();
    drop(free);
    let mut arguments = arguments(cluster);
    for argument in &mut arguments {
        if argument.starts_with(RANGES) {
            argument.push_str(",fd00:10:96::/112");
        } else if argument.starts_with(PORT) {
            *argument = format!("{PORT}{port}");
        }
    }
    let log = std::fs::File::create(cluster.directory().join("two-families.log")).expect("a log");
    let mut command = Command::new(cluster.program());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let server = ApiServer(command.spawn().expect("it starts"));
    let url = format!("https://127.0.0.1:{port}");
    dittofs_testbed::cluster::wait_until("the API server with two families", LATER, async || {
        let answer = cluster.kubectl(&["--server", &url, "get", "--raw", "/readyz"]).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&answer.stderr).into_owned()) }
    })
    .await
    .expect("it becomes ready");
    (server, url)
}

/// The families of a Service's addresses, by the addresses themselves.
fn families(service: &Value) -> Vec<&'static str> {
    let addresses = service["spec"]["clusterIPs"].as_array().into_iter().flatten().filter_map(Value::as_str);
    addresses
        .map(|address| match address.parse() {
            Ok(IpAddr::V4(_)) => "IPv4",
            Ok(IpAddr::V6(_)) => "IPv6",
            Err(_) => "none",
        })
        .collect()
}

/// Waits until a Service has these families, in words and in addresses; what was its first address still is.
async fn wait_families(bed: &Bed, name: &str, policy: &str, wanted: &[&str], before: Option<&Value>) -> Value {
    let service = bed
        .wait_object(resources::SERVICES, name, &format!("to be {policy} with {wanted:?}"), |service| {
            let spec = &service["spec"];
            let same =
                spec["ipFamilyPolicy"] == policy && spec["ipFamilies"] == json!(wanted) && families(service) == wanted;
            if same { Ok(()) } else { Err(spec.to_string()) }
        })
        .await;
    if let Some(before) = before {
        assert_eq!(uid(&service), uid(before), "{name} was made anew");
        assert_eq!(service["spec"]["clusterIP"], before["spec"]["clusterIP"], "{name} has another address");
    }
    service
}

#[tokio::test(flavor = "multi_thread")]
async fn services_have_both_families_when_they_may_and_keep_their_first_address_whatever_is_asked_next() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cluster = Cluster::start(ClusterOptions::default()).await.expect("a control plane");
    let (_server, url) = with_two_families(&cluster).await;
    let mut bed = Bed::on(&cluster, "dual-stack").await;
    let mut options = bed.options();
    options.through = Some(url);
    bed.world.start_operator(options).await.expect("the operator starts");
    bed.ready_server(
        "files",
        &json!({
            "rollout": {"onSpecChange": "WhenNeeded"},
            "service": {"ipFamilyPolicy": "PreferDualStack"},
            "fileService": {"ipFamilyPolicy": "RequireDualStack"},
            "adapterServices": {"perAdapter": {
                "nfs": {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]},
                "smb": {"ipFamilies": ["IPv6"]},
            }},
        }),
    )
    .await;
    bed.wait_adapter_services("files", &[("nfs", 12049), ("smb", 1445)]).await;
    let api = wait_families(&bed, "files-api", "PreferDualStack", &["IPv4", "IPv6"], None).await;
    let file = wait_families(&bed, "files-file", "RequireDualStack", &["IPv4", "IPv6"], None).await;
    let nfs = wait_families(&bed, "files-adapter-nfs", "RequireDualStack", &["IPv6", "IPv4"], None).await;
    let smb = wait_families(&bed, "files-adapter-smb", "SingleStack", &["IPv6"], None).await;
    // What the API server adds of its own is no difference.
    bed.wait_endpoints("files", &[("nfs", 12049), ("smb", 1445)]).await;
    let writes = bed.writes("services").len();
    bed.wait_polls("files", 10).await;
    assert_eq!(bed.writes("services").len(), writes, "nothing is left to be written");

    // One family is enough, two are wanted, and nothing is asked for any more.
    bed.patch_spec(
        "files",
        &json!({
            "service": {"ipFamilyPolicy": "SingleStack"}, "fileService": null,
            "adapterServices": {"perAdapter": {
                "nfs": {"ipFamilyPolicy": "PreferDualStack"},
                "smb": {"ipFamilyPolicy": "PreferDualStack"},
            }},
        }),
    )
    .await;
    wait_families(&bed, "files-api", "SingleStack", &["IPv4"], Some(&api)).await;
    wait_families(&bed, "files-file", "SingleStack", &["IPv4"], Some(&file)).await;
    wait_families(&bed, "files-adapter-nfs", "PreferDualStack", &["IPv6", "IPv4"], Some(&nfs)).await;
    wait_families(&bed, "files-adapter-smb", "PreferDualStack", &["IPv6", "IPv4"], Some(&smb)).await;
    bed.patch_spec("files", &json!({"service": {"ipFamilyPolicy": null}, "adapterServices": {"perAdapter": null}}))
        .await;
    wait_families(&bed, "files-api", "SingleStack", &["IPv4"], Some(&api)).await;
    wait_families(&bed, "files-adapter-nfs", "SingleStack", &["IPv6"], Some(&nfs)).await;
    wait_families(&bed, "files-adapter-smb", "SingleStack", &["IPv6"], Some(&smb)).await;
    bed.patch_spec("files", &json!({"service": {"ipFamilyPolicy": "RequireDualStack"}})).await;
    wait_families(&bed, "files-api", "RequireDualStack", &["IPv4", "IPv6"], Some(&api)).await;
    bed.world.wait_ready("files").await.expect("ready");
    let refused = bed.writes("services").iter().filter(|entry| entry.code == 422).count();
    assert_eq!(refused, 0, "a write was refused");

    // The first family of a living Service cannot change: that is said, once asked, and never forced.
    bed.patch_spec("files", &json!({"service": {"ipFamilies": ["IPv6", "IPv4"]}})).await;
    bed.wait_message("files", "Ready", "False", "ipFamilyPolicy and ipFamilies stay as they are").await;
    let writes = bed.writes("services").len();
    bed.wait_polls("files", 5).await;
    assert_eq!(bed.writes("services").len(), writes, "it is not asked for again and again");
    wait_families(&bed, "files-api", "RequireDualStack", &["IPv4", "IPv6"], Some(&api)).await;
    bed.patch_spec("files", &json!({"service": {"ipFamilies": null}})).await;
    bed.world
        .wait_server("files", "to have nothing to say of families", LATER, |server| {
            let told = server["status"].to_string();
            if told.contains("stay as they are") { Err(told) } else { Ok(()) }
        })
        .await
        .expect("it is over");
    bed.finish(1).await;
}
