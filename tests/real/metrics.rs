//! `/metrics` as a scraper meets it: what happened is in it, no server's name is, and `promtool` has nothing to say.

use std::time::Duration;

use dittofs_testbed::cluster::resources;
use dittofs_testbed::dittofs::{Mode, Scope};
use dittofs_testbed::prometheus::promtool;
use serde_json::{Value, json};

use crate::support::{Bed, SOON};

const BOTH: [(&str, u64); 2] = [("nfs", 12049), ("smb", 1445)];
const NFS: [(&str, u64); 1] = [("nfs", 12049)];

/// A control plane with an operator that serves metrics, and where.
async fn measured(test: &str, more: &[&str]) -> (Bed, String) {
    let mut bed = Bed::idle(test).await;
    let mut options = bed.options();
    options.extra_args.extend(["--metrics-addr", "127.0.0.1:0"].iter().chain(more).map(|arg| (*arg).to_owned()));
    bed.world.start_operator(options).await.expect("the operator starts");
    let url = address(&bed);
    (bed, url)
}

/// Where the operator serves its metrics, from its first line.
pub(crate) fn address(bed: &Bed) -> String {
    let told = bed.world.operator().logs().into_iter().find_map(|line| {
        let line: Value = serde_json::from_str(&line).ok()?;
        Some(line["metrics"].as_str()?.to_owned())
    });
    format!("http://{}/metrics", told.expect("the first line says where"))
}

/// Content type and text.
async fn scrape_as(url: &str, accept: &str) -> (String, String) {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = client.get(url).header("accept", accept).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let kind = answer.headers()["content-type"].to_str().expect("text").to_owned();
    (kind, answer.text().await.expect("text"))
}

pub(crate) async fn scrape(url: &str) -> String {
    scrape_as(url, "text/plain").await.1
}

/// The sum of all series of a name that have these labels (`name="value"`).
pub(crate) fn sum(text: &str, name: &str, labels: &[&str]) -> f64 {
    text.lines()
        .filter_map(|line| line.rsplit_once(' '))
        .filter(|(series, _)| series.split('{').next() == Some(name))
        .filter(|(series, _)| labels.iter().all(|label| series.contains(label)))
        .map(|(_, value)| value.parse::<f64>().expect("a number"))
        .sum()
}

impl Bed {
    /// Waits until the sums are these.
    async fn wait_sums(&self, url: &str, wanted: &[(&str, &[&str], f64)]) -> String {
        self.world
            .wait_until(&format!("{wanted:?}"), SOON, async || {
                let text = scrape(url).await;
                let wrong: Vec<String> = wanted
                    .iter()
                    .map(|(name, labels, value)| (name, labels, value, sum(&text, name, labels)))
                    .filter(|(_, _, value, found)| (*value - found).abs() > 1e-9)
                    .map(|(name, labels, _, found)| format!("{name}{labels:?} is {found}"))
                    .collect();
                if wrong.is_empty() { Ok(text) } else { Err(wrong.join(", ")) }
            })
            .await
            .expect("the metrics follow")
    }
}

fn when_needed() -> Value {
    json!({"rollout": {"onSpecChange": "WhenNeeded"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_is_in_the_metrics_and_no_servers_name_is() {
    let (bed, url) = measured("metrics", &[]).await;
    bed.ready_server("files", &when_needed()).await;
    bed.wait_adapter_services("files", &BOTH).await;
    let kube = "dittofs_operator_kube_writes_total";
    let create = ["resource=\"services\"", "action=\"create\""];
    let text = bed
        .wait_sums(
            &url,
            &[
                ("dittofs_operator_servers", &["phase=\"Running\""], 1.0),
                ("dittofs_operator_servers_condition", &["condition=\"Ready\"", "status=\"True\""], 1.0),
                ("dittofs_operator_adapters_active", &[], 2.0),
                ("dittofs_operator_watch_synced", &[], 9.0),
                ("dittofs_operator_adapter_services_late", &[], 0.0),
                ("dittofs_operator_observations_late", &[], 0.0),
                ("dittofs_operator_poll_failing", &[], 0.0),
                ("dittofs_operator_reconcile_failing", &[], 0.0),
                ("dittofs_operator_mailbox_depth", &[], 0.0),
                ("dittofs_operator_slots_running", &[], 0.0),
                // Two of adapters, and headless, api and file.
                (kube, &create, 5.0),
                (kube, &["resource=\"statefulsets\"", "action=\"create\""], 1.0),
                ("dittofs_operator_token_refreshes_total", &["outcome=\"logged-in\""], 1.0),
                ("dittofs_operator_poll_to_write_seconds_count", &["resource=\"services\""], 1.0),
                ("dittofs_operator_actor_restarts_total", &[], 0.0),
                ("dittofs_operator_drift_repaired_total", &[], 0.0),
            ],
        )
        .await;
    for (name, labels) in [
        ("dittofs_operator_kube_requests_total", &["verb=\"list\"", "resource=\"services\"", "code=\"200\""][..]),
        ("dittofs_operator_kube_requests_total", &["verb=\"watch\"", "resource=\"secrets\"", "code=\"200\""]),
        ("dittofs_operator_kube_requests_total", &["verb=\"create\"", "resource=\"events\"", "code=\"201\""]),
        ("dittofs_operator_kube_requests_total", &["verb=\"patch\"", "resource=\"dittoservers\"", "code=\"200\""]),
        ("dittofs_operator_dittofs_requests_total", &["operation=\"list-adapters\"", "code=\"200\""]),
        ("dittofs_operator_poll_duration_seconds_count", &["result=\"changed\""]),
        ("dittofs_operator_reconcile_duration_seconds_count", &["actor=\"status-reporter\"", "outcome=\"settled\""]),
        ("dittofs_operator_mailbox_wait_seconds_count", &["actor=\"port-reconciler\""]),
        ("dittofs_operator_turn_wait_seconds_count", &["class=\"urgent\""]),
        ("dittofs_operator_watch_events_total", &["resource=\"dittoservers\"", "type=\"applied\""]),
        ("dittofs_operator_events_published_total", &["type=\"Normal\"", "outcome=\"published\""]),
        ("process_resident_memory_bytes", &[]),
        ("process_cpu_seconds_total", &[]),
        ("dittofs_operator_tokio_workers", &[]),
    ] {
        assert!(sum(&text, name, labels) > 0.0, "{name} {labels:?} in\n{text}");
    }

    bed.dittofs("files").stop_adapter("smb");
    bed.wait_adapter_services("files", &NFS).await;
    bed.wait_sums(
        &url,
        &[
            (kube, &["resource=\"services\"", "action=\"delete\"", "reason=\"adapters-observed\""], 1.0),
            (kube, &["resource=\"services\"", "action=\"delete\""], 1.0),
            ("dittofs_operator_poll_to_write_seconds_count", &["resource=\"services\""], 2.0),
            ("dittofs_operator_adapters_active", &["type=\"smb\""], 0.0),
            ("dittofs_operator_held_port_rollouts", &[], 1.0),
            ("dittofs_operator_pod_rollouts_total", &[], 0.0),
        ],
    )
    .await;
    bed.dittofs("files").start_adapter("smb");
    bed.wait_adapter_services("files", &BOTH).await;
    bed.wait_sums(&url, &[(kube, &create, 6.0), ("dittofs_operator_adapters_active", &["type=\"smb\""], 1.0)]).await;

    // Somebody else writes a field of ours.
    bed.edit(resources::SERVICES, "files-adapter-nfs", |service| {
        service["spec"]["ports"][0]["port"] = json!(4711);
    })
    .await;
    bed.wait_sums(
        &url,
        &[
            ("dittofs_operator_drift_repaired_total", &["resource=\"services\"", "manager=\"other\""], 1.0),
            ("dittofs_operator_drift_repaired_total", &[], 1.0),
        ],
    )
    .await;
    bed.wait_adapter_services("files", &BOTH).await;

    // A server that answers nonsense for a while.
    bed.dittofs("files").set_mode(Mode::Status(500), Scope::AdaptersList);
    bed.wait_sums(&url, &[("dittofs_operator_poll_failing", &["problem=\"bad-answer\""], 1.0)]).await;
    bed.world
        .wait_until("the observation to be late", Duration::from_mins(1), async || {
            let text = scrape(&url).await;
            let late = sum(&text, "dittofs_operator_observations_late", &[]) > 0.0;
            let old = sum(&text, "dittofs_operator_oldest_observation_age_seconds", &[]) > 3.0;
            if late && old { Ok(()) } else { Err("it is not".to_owned()) }
        })
        .await
        .expect("three intervals without an answer are late");
    bed.dittofs("files").set_mode(Mode::Normal, Scope::AdaptersList);
    let zero = [
        ("dittofs_operator_poll_failing", &[][..], 0.0),
        ("dittofs_operator_observations_late", &[], 0.0),
        ("dittofs_operator_poll_failing_oldest_seconds", &[], 0.0),
    ];
    let text = bed.wait_sums(&url, &zero).await;

    let (kind, open) = scrape_as(&url, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5").await;
    assert!(kind.starts_with("application/openmetrics-text") && open.ends_with("# EOF\n"), "{kind}");
    for text in [&text, &open] {
        assert!(!text.contains(bed.world.namespace().name()) && !text.contains("\"files"), "a name in\n{text}");
    }
    let checked = promtool(&["check", "metrics"], &text).await.expect("promtool runs");
    let said = [checked.stdout, checked.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(checked.status.success() && said.is_empty(), "{said}");
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn series_of_a_server_come_when_asked_for_and_go_with_it() {
    let (bed, url) = measured("metrics-servers", &["--metrics-per-server"]).await;
    for name in ["files", "media"] {
        bed.ready_server(name, &when_needed()).await;
        bed.wait_adapter_services(name, &BOTH).await;
    }
    let of = |name: &str| format!("server_namespace=\"{}\",server=\"{name}\"", bed.world.namespace().name());
    let (files, media) = (of("files"), of("media"));
    let all = |server: &str, number: f64| {
        vec![
            ("dittofs_operator_server_phase".to_owned(), format!("{server},phase=\"Running\""), number),
            ("dittofs_operator_server_adapters_active".to_owned(), server.to_owned(), 2.0 * number),
            (
                "dittofs_operator_server_condition".to_owned(),
                format!("{server},condition=\"Ready\",status=\"True\""),
                number,
            ),
            ("dittofs_operator_server_polling_interval_seconds".to_owned(), server.to_owned(), number),
        ]
    };
    let wait = async |rows: Vec<(String, String, f64)>| {
        let labels: Vec<[&str; 1]> = rows.iter().map(|(_, label, _)| [label.as_str()]).collect();
        let wanted: Vec<(&str, &[&str], f64)> =
            rows.iter().zip(&labels).map(|((name, _, value), label)| (name.as_str(), &label[..], *value)).collect();
        bed.wait_sums(&url, &wanted).await
    };
    wait([all(&files, 1.0), all(&media, 1.0)].concat()).await;
    bed.world.namespace().delete(resources::SERVERS, "media").await.expect("deleted");
    let text = wait([all(&files, 1.0), all(&media, 0.0)].concat()).await;
    assert!(text.contains(&files) && !text.contains(&media), "{text}");
    let checked = promtool(&["check", "metrics"], &text).await.expect("promtool runs");
    let said = [checked.stdout, checked.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(checked.status.success() && said.is_empty(), "{said}");
    bed.finish(2).await;
}
