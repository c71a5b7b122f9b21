//! Adapters that start, stop, move, come and go: Services and container ports follow, the pod is left alone.

use std::time::Duration;

use dittofs_testbed::audit::Micros;
use dittofs_testbed::cluster::resources;
use dittofs_testbed::world::condition;
use serde_json::json;

use crate::look::{LATER, container, port_names, uid, version};
use crate::support::Bed;

const BOTH: [(&str, u64); 2] = [("nfs", 12049), ("smb", 1445)];

/// Waits until a Service has an address of its load balancer.
async fn with_address(bed: &Bed, name: &str) -> serde_json::Value {
    bed.wait_object(resources::SERVICES, name, "to have an address", |service| {
        let address = &service["status"]["loadBalancer"]["ingress"][0]["ip"];
        if address.is_string() { Ok(()) } else { Err("no address".to_owned()) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_adapter_loses_service_and_port_within_one_poll_and_gets_them_back_at_its_start() {
    let bed = Bed::new("stop-start").await;
    bed.ready_server("files", &json!({"adapterDiscovery": {"pollingInterval": "2s"}})).await;
    bed.wait_adapter_services("files", &BOTH).await;

    bed.dittofs("files").stop_adapter("smb");
    bed.wait_adapter_services("files", &[("nfs", 12049)]).await;
    bed.wait_adapter_ports("files", &[("nfs", 12049)]).await;
    // The removal rests on the first answer that said so: the next had not come yet.
    let removed = bed
        .world
        .wait_until("the deletion to be in the audit log", LATER, async || {
            bed.writes("services")
                .into_iter()
                .find(|entry| entry.verb == "delete")
                .ok_or_else(|| "not there".to_owned())
        })
        .await
        .expect("a deletion");
    let told = bed
        .timeline()
        .into_iter()
        .filter(|answer| answer.adapters.iter().any(|adapter| adapter.adapter_type == "smb" && !adapter.enabled))
        .filter(|answer| Micros::from(answer.time) <= removed.received)
        .count();
    assert_eq!(told, 1, "answers between the stop and the removal");

    bed.dittofs("files").start_adapter("smb");
    bed.wait_adapter_services("files", &BOTH).await;
    bed.wait_adapter_ports("files", &BOTH).await;
    bed.wait_condition("files", "PortsRolledOut", "True", "RolledOut").await;
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_change_updates_the_service_in_place() {
    let bed = Bed::new("port-change").await;
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &BOTH).await;
    let before = with_address(&bed, "files-adapter-nfs").await;
    assert!(before["spec"]["ports"][0]["nodePort"].is_u64());

    bed.dittofs("files").move_adapter("nfs", 13049, Duration::ZERO);
    bed.wait_adapter_services("files", &[("nfs", 13049), ("smb", 1445)]).await;
    bed.wait_adapter_ports("files", &[("nfs", 13049), ("smb", 1445)]).await;
    let after = bed.service("files-adapter-nfs").await;
    for field in ["/metadata/uid", "/spec/clusterIP", "/spec/ports/0/nodePort", "/spec/ports/0/name", "/status"] {
        assert_eq!(after.pointer(field), before.pointer(field), "{field}");
    }
    assert_eq!(after["spec"]["ports"][0]["targetPort"], 13049);
    bed.wait_object(resources::SERVICES, "files-file", "to lead to the new port", |service| {
        let ports = &service["spec"]["ports"];
        let port = ports.as_array().into_iter().flatten().find(|port| port["name"] == "nfs");
        if port.is_some_and(|port| port["port"] == 2049 && port["targetPort"] == 13049) {
            Ok(())
        } else {
            Err(ports.to_string())
        }
    })
    .await;
    assert!(bed.writes("services").iter().all(|entry| entry.verb != "delete"), "something was deleted");
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_drains_keeps_the_service_as_it_is_until_it_runs_on_its_new_port() {
    let bed = Bed::new("drain").await;
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &BOTH).await;
    let before = with_address(&bed, "files-adapter-nfs").await;
    let file = bed.service("files-file").await;

    let dittofs = bed.dittofs("files");
    dittofs.move_adapter("nfs", 13049, Duration::from_secs(10));
    for _ in 0..4 {
        bed.wait_polls("files", 1).await;
        if dittofs.adapters().iter().all(|adapter| adapter.running) {
            break;
        }
        let during = bed.service("files-adapter-nfs").await;
        assert_eq!(version(&during), version(&before), "the Service was written while its adapter moved");
        assert_eq!(version(&bed.service("files-file").await), version(&file), "so was -file");
        let set = bed.set("files").await;
        let ports = container(&set["spec"]["template"]["spec"])["ports"].clone();
        let nfs = ports.as_array().into_iter().flatten().find(|port| port["name"] == "adapter-nfs").cloned();
        assert_eq!(nfs.expect("its container port")["containerPort"], 12049);
        assert_eq!(bed.world.server("files").await.expect("the server")["status"]["activeAdapters"], "nfs, smb");
    }
    let passages = bed.timeline().iter().filter(|a| a.adapters.iter().any(|a| a.enabled && !a.running)).count();
    assert!(passages >= 2, "the drain was seen in {passages} answers");

    bed.wait_adapter_services("files", &[("nfs", 13049), ("smb", 1445)]).await;
    bed.wait_adapter_ports("files", &[("nfs", 13049), ("smb", 1445)]).await;
    let after = bed.service("files-adapter-nfs").await;
    for field in ["/metadata/uid", "/spec/clusterIP", "/spec/ports/0/nodePort", "/status"] {
        assert_eq!(after.pointer(field), before.pointer(field), "{field}");
    }
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_that_does_not_run_for_the_grace_period_goes_and_comes_back_when_it_runs() {
    let bed = Bed::new("grace").await;
    bed.ready_server("files", &json!({"adapterDiscovery": {"stopGracePeriod": "4s"}})).await;
    bed.wait_adapter_services("files", &BOTH).await;
    let dittofs = bed.dittofs("files");
    dittofs.set_running("smb", false);
    // S5 of the checker: not before four seconds of such answers.
    bed.wait_adapter_services("files", &[("nfs", 12049)]).await;
    bed.wait_adapter_ports("files", &[("nfs", 12049)]).await;
    dittofs.set_running("smb", true);
    bed.wait_adapter_services("files", &BOTH).await;
    bed.wait_adapter_ports("files", &BOTH).await;
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_adapter_gets_no_service_until_it_runs() {
    let bed = Bed::new("new-adapter").await;
    bed.ready_server("files", &json!({})).await;
    let dittofs = bed.dittofs("files");
    dittofs.set_start_delay(Duration::from_hours(1));
    dittofs.create_adapter("webdav", 8443);
    bed.wait_polls("files", 3).await;
    bed.wait_adapter_services("files", &BOTH).await;
    bed.wait_adapter_ports("files", &BOTH).await;
    let made = bed.writes("services").into_iter().filter(|entry| entry.object.name.contains("webdav")).count();
    assert_eq!(made, 0, "a Service for an adapter that never ran");

    dittofs.set_running("webdav", true);
    bed.wait_adapter_services("files", &[("nfs", 12049), ("smb", 1445), ("webdav", 8443)]).await;
    bed.wait_adapter_ports("files", &[("nfs", 12049), ("smb", 1445), ("webdav", 8443)]).await;
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_adapter_takes_only_its_own_service_and_an_empty_list_takes_all() {
    let bed = Bed::new("empty-list").await;
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &BOTH).await;
    let nfs = bed.service("files-adapter-nfs").await;
    let dittofs = bed.dittofs("files");
    dittofs.delete_adapter("smb");
    bed.wait_adapter_services("files", &[("nfs", 12049)]).await;
    bed.wait_adapter_ports("files", &[("nfs", 12049)]).await;
    assert_eq!(uid(&bed.service("files-adapter-nfs").await), uid(&nfs));

    dittofs.delete_adapter("nfs");
    bed.wait_adapter_services("files", &[]).await;
    bed.wait_adapter_ports("files", &[]).await;
    let set = bed.set("files").await;
    assert_eq!(port_names(container(&set["spec"]["template"]["spec"])), ["api"], "the static port stays");
    bed.world
        .wait_server("files", "to serve nothing and be ready", LATER, |server| {
            let empty = server["status"]["activeAdapters"] == "" && server["status"]["adapters"] == json!([]);
            // An empty list is a valid answer.
            let ready = condition(server, "Ready").is_some_and(|ready| ready["status"] == "True");
            if empty && ready { Ok(()) } else { Err(server["status"].to_string()) }
        })
        .await
        .expect("status follows");

    dittofs.create_adapter("nfs", 12049);
    bed.wait_adapter_services("files", &[("nfs", 12049)]).await;
    bed.wait_adapter_ports("files", &[("nfs", 12049)]).await;
    assert_ne!(uid(&bed.service("files-adapter-nfs").await), uid(&nfs), "a new Service");
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn types_that_fit_no_port_name_and_two_adapters_on_one_port_number_are_served() {
    let bed = Bed::new("odd-adapters").await;
    bed.ready_server("files", &json!({})).await;
    let dittofs = bed.dittofs("files");
    // Both are cut to the same seven characters; the third has a port number that another adapter has.
    dittofs.create_adapter("objectstorage", 9000);
    dittofs.create_adapter("objectstore", 9001);
    dittofs.create_adapter("webdav", 12049);
    let all = [("nfs", 12049), ("objectstorage", 9000), ("objectstore", 9001), ("smb", 1445), ("webdav", 12049)];
    bed.wait_adapter_services("files", &all).await;
    for kind in ["objectstorage", "objectstore"] {
        let service = bed.service(&format!("files-adapter-{kind}")).await;
        assert_eq!(service["metadata"]["labels"]["dittofs.io/adapter-type"], kind);
    }
    let numbers = |set: &serde_json::Value| -> Vec<(String, u64)> {
        let ports = container(&set["spec"]["template"]["spec"])["ports"].as_array().cloned().unwrap_or_default();
        let port =
            |port: &serde_json::Value| (port["name"].as_str()?.to_owned(), port["containerPort"].as_u64()?).into();
        let mut ports: Vec<(String, u64)> = ports.iter().filter_map(port).collect();
        ports.sort_by_key(|port| port.1);
        ports
    };
    let set = bed
        .wait_object(resources::STATEFUL_SETS, "files", "to declare all five", |set| {
            let ports = numbers(set);
            if ports.len() == 6 { Ok(()) } else { Err(format!("{ports:?}")) }
        })
        .await;
    let ports = numbers(&set);
    assert_eq!(ports.iter().map(|port| port.1).collect::<Vec<_>>(), [1445, 8080, 9000, 9001, 12049, 12049]);
    assert!(ports.iter().all(|(name, _)| name.len() <= 15), "{ports:?}");
    let mut names: Vec<&str> = ports.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 6, "{ports:?}");

    dittofs.delete_adapter("objectstorage");
    dittofs.stop_adapter("webdav");
    bed.wait_adapter_services("files", &[("nfs", 12049), ("objectstore", 9001), ("smb", 1445)]).await;
    bed.wait_object(resources::STATEFUL_SETS, "files", "to declare the three that run", |set| {
        let left: Vec<u64> = numbers(set).into_iter().map(|port| port.1).collect();
        if left == [1445, 8080, 9001, 12049] { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    bed.finish(1).await;
}
