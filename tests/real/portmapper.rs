//! The further ports of the NFS adapter's Service: there exactly when the server has them switched on.

use dittofs_testbed::cluster::resources;
use dittofs_testbed::dittofs::{Mode, Record, Scope};
use serde_json::{Value, json};

use crate::look::{LATER, uid};
use crate::support::Bed;

const NFS: &str = "files-adapter-nfs";

/// Name, protocol, port and target of each port, sorted.
fn ports(service: &Value) -> Vec<String> {
    let text = |port: &Value| {
        let word = |field: &str| port[field].as_str().unwrap_or_default().to_owned();
        format!("{} {} {} {}", word("name"), word("protocol"), port["port"], port["targetPort"])
    };
    let mut ports: Vec<String> = service["spec"]["ports"].as_array().into_iter().flatten().map(text).collect();
    ports.sort();
    ports
}

fn readings(requests: &[Record]) -> usize {
    let over = |request: &&Record| request.path.ends_with("/nfs/settings") && request.ended.is_some();
    requests.iter().filter(over).count()
}

impl Bed {
    async fn wait_ports(&self, wanted: &[&str]) -> Value {
        let same = |service: &Value| {
            let found = ports(service);
            if found == wanted { Ok(()) } else { Err(format!("{found:?}")) }
        };
        self.wait_object(resources::SERVICES, NFS, "to have its ports", same).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn portmapper_and_udp_are_published_exactly_when_the_server_has_them_switched_on() {
    let bed = Bed::new("portmapper").await;
    let dittofs = bed.dittofs("files");
    dittofs.patch_nfs_settings(&json!({"portmapper_enabled": true, "udp_enabled": true}));
    bed.ready_server("files", &json!({"adapterServices": {"type": "LoadBalancer"}})).await;
    let all = [
        "adapter-nfs TCP 12049 12049",
        "adapter-nfs-udp UDP 12049 12049",
        "portmap TCP 111 10111",
        "portmap-udp UDP 111 10111",
    ];
    let before = bed.wait_ports(&all).await;
    assert_eq!(ports(&bed.service("files-adapter-smb").await), ["adapter-smb TCP 1445 1445"]);
    // Information in the pod template, which would have to roll for it: it stays as it is.
    bed.wait_adapter_ports("files", &[("nfs", 12049), ("smb", 1445)]).await;
    bed.wait_endpoints("files", &[("nfs", 12049), ("smb", 1445)]).await;

    // A reading that fails takes nothing away, nor does an operator that has just started.
    for mode in [Mode::Status(500), Mode::Forbidden, Mode::Null] {
        dittofs.set_mode(mode.clone(), Scope::NfsSettings);
        let read = readings(&dittofs.requests());
        bed.world.operator().restart().await.expect("another operator");
        bed.world.operator().wait_ready().await.expect("it starts");
        dittofs.wait_for(|requests| readings(requests) > read, LATER).await.expect("it reads");
        bed.wait_polls("files", 2).await;
        let now = bed.service(NFS).await;
        assert_eq!((ports(&now), uid(&now)), (ports(&before), uid(&before)), "{mode:?}");
    }
    dittofs.heal();

    // The adapter that moves is a reason to read again: UDP moves with it, the portmapper was switched off meanwhile.
    dittofs.patch_nfs_settings(&json!({"portmapper_enabled": false}));
    dittofs.move_adapter("nfs", 13049, std::time::Duration::ZERO);
    let moved = bed.wait_ports(&["adapter-nfs TCP 13049 13049", "adapter-nfs-udp UDP 13049 13049"]).await;
    assert_eq!(uid(&moved), uid(&before), "the Service, and its address, stay");
    bed.finish(1).await;
}
