//! What the operator says of itself: nothing while nothing happens, who has stopped, and what everyone is doing.

use base64::Engine as _;
use dittofs_testbed::cluster::resources;
use dittofs_testbed::operator::OperatorOptions;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::look::LATER;
use crate::support::{Bed, SOON};

const BOTH: [(&str, u64); 2] = [("nfs", 12049), ("smb", 1445)];

fn with_fault(bed: &Bed, fault: &str) -> OperatorOptions {
    OperatorOptions { env: vec![("DITTOFS_FAULTS".to_owned(), fault.to_owned())], ..bed.options() }
}

impl Bed {
    /// Waits until `/healthz` fails, and gives its words.
    async fn wait_unhealthy(&self) -> String {
        self.world
            .wait_until("/healthz to fail", LATER, async || {
                let answer = self.world.operator().health("/healthz").await;
                let (code, body) = answer.map_err(|error| format!("{error:#}"))?;
                if code == 503 { Ok(body) } else { Err(format!("{code} {body}")) }
            })
            .await
            .expect("it fails")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_quiet_servers_log_nothing() {
    let bed = Bed::new("quiet-log").await;
    let names: Vec<String> = (0..20).map(|number| format!("files-{number}")).collect();
    let spec = json!({"adapterDiscovery": {"pollingInterval": "1s"}});
    for name in &names {
        bed.world.apply_server(name, &spec).await.expect("the server is accepted");
    }
    for name in &names {
        bed.world.wait_ready(name).await.expect("the server becomes ready");
        bed.wait_adapter_services(name, &BOTH).await;
        bed.wait_endpoints(name, &BOTH).await;
    }
    // What came late is told by now.
    join_all(names.iter().map(|name| bed.wait_polls(name, 2))).await;
    let before = bed.world.operator().logs();
    assert!(before.iter().any(|line| line.contains("observed the adapters")), "the log is read");
    join_all(names.iter().map(|name| bed.wait_polls(name, 10))).await;
    let told = bed.world.operator().logs().split_off(before.len());
    assert_eq!(told, Vec::<String>::new());
    // Something does happen: one change is a few lines, and each has the server's name.
    bed.dittofs("files-7").stop_adapter("smb");
    bed.wait_adapter_services("files-7", &BOTH[..1]).await;
    bed.wait_adapter_ports("files-7", &BOTH[..1]).await;
    // A line is written after what it tells of.
    let told = bed
        .world
        .wait_until("the lines about it", SOON, async || {
            let told = bed.world.operator().logs().split_off(before.len());
            let all = ["observed the adapters", "deleted a", "replaced the StatefulSet"];
            let there = |what: &str| told.iter().any(|line| line.contains(what));
            if all.into_iter().all(there) { Ok(told) } else { Err(format!("{told:#?}")) }
        })
        .await
        .expect("they are told");
    for line in &told {
        let line: Value = serde_json::from_str(line).expect("a JSON object a line");
        assert_eq!(line["name"], "files-7", "{line}");
    }
    assert!((2..=8).contains(&told.len()), "{told:#?}");
    bed.finish(names.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_that_is_stuck_fails_healthz_by_its_name_and_the_state_shows_who_is_doing_what() {
    let mut bed = Bed::idle("stuck-actor").await;
    let mut options = with_fault(&bed, "adapter-poller.block@stuck");
    options.extra_args.extend(["--debug-addr".to_owned(), "127.0.0.1:0".to_owned()]);
    bed.world.start_operator(options).await.expect("the operator starts");
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &BOTH).await;
    let (code, body) = bed.world.operator().health("/healthz").await.expect("an answer");
    assert_eq!((code, body.as_str()), (200, "ok\n"));

    let spec = json!({"adapterDiscovery": {"pollingInterval": "1s"}});
    bed.world.apply_server("stuck", &spec).await.expect("the server is accepted");
    let body = bed.wait_unhealthy().await;
    let stuck = format!("{}/stuck", bed.world.namespace().name());
    assert!(body.starts_with(&format!("the actor adapter-poller of {stuck} has not answered for")), "{body}");
    let (code, body) = bed.world.operator().health("/readyz").await.expect("an answer");
    assert!(code == 503 && body.contains("adapter-poller"), "{code} {body}");

    let state = state(&bed).await;
    let files = format!("{}/files", bed.world.namespace().name());
    assert_eq!(state["servers"][&stuck]["adapter-poller"], json!({"error": "no answer"}));
    assert!(state["standstill"].as_str().is_some_and(|text| text.contains("adapter-poller")), "{state}");
    let poller = &state["servers"][&files]["adapter-poller"];
    assert_eq!((&poller["lastResult"], &poller["periodSeconds"]), (&json!("answered"), &json!(1.0)));
    assert!(poller["adapters"].as_str().is_some_and(|text| text.contains("smb Running on 1445")), "{poller}");
    for actor in ["config-hasher", "service-reconciler", "port-reconciler", "status-reporter"] {
        assert_eq!(state["servers"][&files][actor]["failing"], json!([]), "{state}");
    }
    assert_eq!(state["servers"][&files]["config-hasher"]["last"]["hash"].as_str().map(str::len), Some(12));
    // Nothing that a Secret holds is in it.
    let text = state.to_string();
    let mut values = 0;
    for secret in bed.world.namespace().list(resources::SECRETS, "").await.expect("the Secrets") {
        for (key, value) in secret["data"].as_object().into_iter().flatten() {
            let encoded = value.as_str().unwrap_or_default();
            let plain = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default();
            let plain = String::from_utf8_lossy(&plain).into_owned();
            if plain.len() >= 8 && !["username", "server-url"].contains(&key.as_str()) {
                values += 1;
                assert!(!text.contains(&plain) && !text.contains(encoded), "{key} of {}", secret["metadata"]["name"]);
            }
        }
    }
    assert!(values >= 4, "{values} values were looked for");
    bed.finish(2).await;
}

/// `/debug/state`, at the address that the log names.
async fn state(bed: &Bed) -> Value {
    let logs = bed.world.operator().logs();
    let line = logs.iter().find(|line| line.contains("serving /debug/state")).expect("it says where");
    let line: Value = serde_json::from_str(line).expect("JSON");
    let url = format!("http://{}/debug/state", line["address"].as_str().expect("an address"));
    let client = reqwest::Client::builder().no_proxy().timeout(SOON).build().expect("a client");
    let body = client.get(url).send().await.expect("an answer").text().await.expect("text");
    serde_json::from_str(&body).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_system_that_does_not_turn_fails_healthz() {
    let mut bed = Bed::idle("stuck-all").await;
    let options = with_fault(&bed, "block-all@stuck");
    bed.world.start_operator(options).await.expect("the operator starts");
    bed.ready_server("files", &json!({})).await;
    bed.world.apply_server("stuck", &json!({})).await.expect("the server is accepted");
    let body = bed.wait_unhealthy().await;
    assert!(body.starts_with("the actor system has not turned for"), "{body}");
    // As the kubelet does.
    bed.world.operator().sigkill().await.expect("it ends");
    let options = bed.options();
    bed.world.start_operator(options).await.expect("the next one starts");
    bed.world.wait_ready("stuck").await.expect("the server becomes ready");
    bed.finish(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debug_address_that_others_can_reach_is_refused() {
    let output = std::process::Command::new(crate::support::OPERATOR)
        .args(["run", "--debug-addr", "0.0.0.0:6060"])
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("can be reached from outside") && said.contains("127.0.0.1:PORT"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_again_is_one_event_that_counts_and_has_the_newest_note() {
    let bed = Bed::new("event-count").await;
    let spec = |value: &str| {
        json!({
            "adapterDiscovery": {"pollingInterval": "1s"},
            "rollout": {"onSpecChange": "WhenNeeded"},
            "adapterServices": {"annotations": {"example.com/round": value}},
        })
    };
    bed.ready_server("files", &spec("first")).await;
    bed.wait_adapter_services("files", &BOTH).await;
    for value in ["second", "third", "fourth"] {
        bed.world.apply_server("files", &spec(value)).await.expect("the change is accepted");
        bed.world
            .wait_until("the Services to follow", SOON, async || {
                let services = bed.world.adapter_services("files").await.map_err(|error| error.to_string())?;
                let all = services.iter().all(|s| s["metadata"]["annotations"]["example.com/round"] == value);
                if all { Ok(()) } else { Err(format!("{services:?}")) }
            })
            .await
            .expect("they follow");
    }
    let event = bed
        .world
        .wait_until("one event that counts to three", SOON, async || {
            let mut events = bed.events("AdapterServiceUpdated").await;
            events.retain(|event| event["related"]["name"].as_str().is_some_and(|name| name.ends_with("-nfs")));
            match events.as_slice() {
                [event] if event["series"]["count"] == 3 => Ok(event.clone()),
                events => Err(format!("{events:?}")),
            }
        })
        .await
        .expect("it counts");
    assert!(event["message"].as_str().is_some_and(|note| note.contains("second")), "the first note stays: {event}");
    let newest = event["metadata"]["annotations"][dittofs_operator::cluster::NOTE_ANNOTATION].as_str();
    assert!(newest.is_some_and(|note| note.contains("fourth")), "{event}");
    bed.finish(1).await;
}
