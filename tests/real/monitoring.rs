//! Dashboards and alerts as the person on call meets them: a real Prometheus scrapes the operator through a run with
//! faults, evaluates each expression and fires each alert that can be provoked.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dittofs_dashboards::alerts::ALERTS;
use dittofs_dashboards::panel::Kind;
use dittofs_dashboards::{DASHBOARDS, rules};
use dittofs_testbed::audit::{Expect, Promise};
use dittofs_testbed::cluster::resources;
use dittofs_testbed::dittofs::{Mode, Scope};
use dittofs_testbed::otlp::{Behaviour, Options, OtlpReceiver};
use dittofs_testbed::prometheus::{PromConfig, Prometheus, ScrapeTarget};
use dittofs_testbed::proxy::{Action, Mode as Network, Proxy, Rule};
use http::Method;
use serde_json::{Value, json};

use crate::look::LATER;
use crate::support::{Bed, SOON};

/// By which every `for`, range and age of the rules is divided. Each is scraped and evaluated once a second.
const FACTOR: u64 = 60;
/// Long enough for the slowest: a watch counts as stale after two minutes of silence, whatever the factor.
const PATIENCE: Duration = Duration::from_mins(5);
const BOTH: [(&str, u64); 2] = [("nfs", 12049), ("smb", 1445)];
const NFS: [(&str, u64); 1] = [("nfs", 12049)];

/// Not served by an operator without TLS and without a memory limit: their panels are empty, and rightly so.
const NOT_SERVED: [&str; 2] =
    ["dittofs_operator_certificate_expiry_timestamp_seconds", "dittofs_operator_memory_limit_bytes"];
/// Values between two scrapes: zero is an answer.
const MAY_BE_ZERO: [&str; 5] = [
    "dittofs_operator_turns_waiting",
    "dittofs_operator_slots_running",
    "dittofs_operator_slots_dirty",
    "dittofs_operator_mailbox_depth",
    "dittofs_operator_tokio_global_queue_depth",
];
/// Alerts that nothing in this run can set off, for want of what is in [`NOT_SERVED`].
const NOT_PROVOKED: [&str; 2] = ["DittofsCertificateExpiring", "DittofsNearMemoryLimit"];

struct Watched {
    bed: Bed,
    proxy: Proxy,
    collector: OtlpReceiver,
    prometheus: Prometheus,
    since: Instant,
}

impl Watched {
    /// An operator behind a proxy, which exports traces and is scraped, with series of each server.
    async fn new(test: &str, faults: &str) -> Self {
        let collector = OtlpReceiver::start(Options::default()).expect("a collector");
        let mut bed = Bed::idle(test).await;
        let mut options = bed.options();
        options.extra_args = ["--metrics-addr", "127.0.0.1:0", "--metrics-per-server"].map(str::to_owned).into();
        options.env.extend([
            ("DITTOFS_FAULTS".to_owned(), faults.to_owned()),
            ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), collector.endpoint().to_owned()),
            ("OTEL_BSP_SCHEDULE_DELAY".to_owned(), "200".to_owned()),
        ]);
        let proxy = bed.world.start_operator_through_proxy(options).await.expect("the operator starts");
        bed.world.operator().wait_ready().await.expect("the operator is ready");
        let told = bed.world.operator().logs().into_iter().find_map(|line| {
            let line: Value = serde_json::from_str(&line).ok()?;
            Some(line["metrics"].as_str()?.to_owned())
        });
        let rules_file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-rules.yaml"));
        std::fs::write(&rules_file, rules(FACTOR).to_string()).expect("the rules are written");
        let target = ScrapeTarget {
            job: "dittofs-system/dittofs-operator".to_owned(),
            addr: told.expect("the first line says where metrics are"),
            labels: [("namespace", "dittofs-system"), ("pod", "dittofs-operator-0")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        };
        let config =
            PromConfig { targets: vec![target], scrape_interval: Duration::from_secs(1), rule_files: vec![rules_file] };
        let prometheus = Prometheus::start(&config).await.expect("Prometheus starts");
        let since = Instant::now();
        let seen = |samples: &[_]| if samples.is_empty() { Err("no operator".to_owned()) } else { Ok(()) };
        prometheus.wait_for("dittofs_operator_build_info", SOON, seen).await.expect("the operator is scraped");
        Self { bed, proxy, collector, prometheus, since }
    }

    /// Waits until an alert fires, and says with which labels.
    async fn fires(&self, alert: &str) -> BTreeMap<String, String> {
        let found = self.prometheus.wait_firing(alert, PATIENCE).await.expect("the alert fires");
        for annotation in ["summary", "description", "runbook_url"] {
            let text = &found.annotations[annotation];
            assert!(!text.is_empty() && !text.contains("<no value>") && !text.contains("{{"), "{alert}: {text}");
        }
        found.labels
    }

    /// Waits until an alert fires no more.
    async fn is_over(&self, alert: &str) {
        let none = |samples: &[dittofs_testbed::prometheus::Sample]| {
            if samples.is_empty() { Ok(()) } else { Err(format!("{samples:?}")) }
        };
        let expr = format!(r#"ALERTS{{alertname="{alert}",alertstate="firing"}}"#);
        self.prometheus.wait_for(&expr, PATIENCE, none).await.expect("the alert stops");
    }

    /// Waits until the sum of an expression is more than zero.
    async fn counts(&self, expr: &str) {
        let judge = |samples: &[dittofs_testbed::prometheus::Sample]| {
            let sum: f64 = samples.iter().map(|sample| sample.value).sum();
            if sum > 0.0 { Ok(()) } else { Err(format!("{samples:?}")) }
        };
        self.prometheus.wait_for(expr, LATER, judge).await.expect("it is counted");
    }

    /// Evaluates every expression of every panel over the whole run until now. What is wrong: an error, no data, or
    /// nothing but zeros where the subject is something that happens.
    async fn wrong_panels(&self) -> Vec<String> {
        let namespace = self.bed.world.namespace().name();
        let mut wrong = Vec::new();
        let mut asked = 0;
        for board in DASHBOARDS {
            let panels = board.rows.iter().flat_map(|row| row.panels).filter(|panel| panel.kind != Kind::Traces);
            for (panel, query) in panels.flat_map(|panel| panel.queries.iter().map(move |query| (panel, query))) {
                let expr = query.expr().replace("$__rate_interval", "10s").replace("$job", ".*");
                let expr = expr.replace("$namespace", namespace).replace("$server", "files");
                let place = format!("{}: {}: {expr}", board.file, panel.title);
                asked += 1;
                let series =
                    match self.prometheus.query_range(&expr, self.since.elapsed(), Duration::from_secs(1)).await {
                        Ok(series) => series,
                        Err(error) => {
                            wrong.push(format!("{place}: {error:#}"));
                            continue;
                        }
                    };
                let values: Vec<f64> = series
                    .iter()
                    .flat_map(|series| series.points.iter().map(|point| point.1))
                    .filter(|value| value.is_finite())
                    .collect();
                let any = |names: &[&str]| names.iter().any(|name| expr.contains(name));
                if any(&NOT_SERVED) {
                    if !values.is_empty() {
                        wrong.push(format!("{place}: there is data: take it off the list"));
                    }
                } else if values.is_empty() {
                    wrong.push(format!("{place}: no data"));
                } else if !any(&MAY_BE_ZERO) && values.iter().all(|value| *value <= 0.0) {
                    wrong.push(format!("{place}: it did not happen"));
                }
            }
        }
        assert!(asked > 60, "{asked} expressions");
        wrong
    }
}

fn when_needed() -> Value {
    json!({"rollout": {"onSpecChange": "WhenNeeded"}})
}

fn refused_write_of_services() -> Rule {
    let matches = |method: &Method, path: &str| *method != Method::GET && path.contains("/services");
    Rule::new(matches, Action::status(403, "Forbidden", "services is forbidden: not today"))
}

/// Somebody writes the StatefulSet just before the operator's next replace of it.
fn conflict(bed: &Bed) -> Rule {
    let namespace = bed.world.namespace().clone();
    let hook = Action::before(move |_| {
        let namespace = namespace.clone();
        Box::pin(async move {
            let change = json!({"metadata": {"annotations": {"example.com/theirs": "kept"}}});
            namespace.patch(resources::STATEFUL_SETS, "files", &change).await.expect("their write");
        })
    });
    let is_replace = |method: &Method, path: &str| *method == Method::PUT && path.contains("/statefulsets/files");
    Rule::new(is_replace, hook).times(1)
}

/// Changes fields of ours, sees them set back, and so on, for ever. Another field each time: the same one would be set
/// back ever more slowly, in minutes that are not divided by [`FACTOR`].
async fn fight(bed: &Bed) {
    let labels = ["app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/managed-by"];
    let fields = ["files-api", "files-file", "files-headless"].map(|service| labels.map(|label| (service, label)));
    for (service, label) in fields.into_iter().flatten().cycle() {
        let theirs = |service: &mut Value| service["metadata"]["labels"][label] = json!("theirs");
        bed.edit(resources::SERVICES, service, theirs).await;
        let back = |service: &Value| {
            let label = &service["metadata"]["labels"][label];
            if label == "theirs" { Err("still theirs".to_owned()) } else { Ok(()) }
        };
        bed.wait_object(resources::SERVICES, service, "to be set back", back).await;
        // Their next attempt comes some time later, as that of a GitOps tool does.
        bed.wait_polls("files", 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_has_data_and_every_alert_fires_when_its_subject_happens() {
    let faults = "panic:service-reconciler.handler@panicky:3,panic:port-reconciler.job@panicky:4";
    let on = Watched::new("monitoring", faults).await;
    let bed = &on.bed;
    bed.ready_server("files", &when_needed()).await;
    bed.wait_adapter_services("files", &BOTH).await;
    on.counts("dittofs_operator_server_adapters_active").await;
    let firing = on.prometheus.alerts().await.expect("alerts");
    assert!(firing.iter().all(|alert| !alert.firing), "nothing is wrong yet: {firing:?}");
    // So far these are empty: that they are not at the end says that what happened is seen.
    let wrong = on.wrong_panels().await;
    for title in ["Drift that was repaired", "Restarts and panics", "Port rollouts that are held back"] {
        assert!(wrong.iter().any(|place| place.contains(title)), "{title} shows something: {wrong:?}");
    }

    // A removal, whose port change is held back; then a conflict, and a rollout.
    bed.dittofs("files").stop_adapter("smb");
    bed.wait_adapter_services("files", &NFS).await;
    bed.wait_adapter_ports("files", &NFS).await;
    let labels = on.fires("DittofsPortRolloutHeld").await;
    assert_eq!((labels["statefulset"].as_str(), labels["namespace"].as_str()), ("files", bed.world.namespace().name()));
    on.proxy.rule(conflict(bed));
    bed.dittofs("files").start_adapter("smb");
    bed.wait_adapter_ports("files", &BOTH).await;
    bed.patch_spec("files", &json!({"logging": {"level": "DEBUG"}})).await;
    bed.wait_starts(2).await;
    on.is_over("DittofsPortRolloutHeld").await;

    // Panics of one server's actors.
    bed.world
        .apply_server(
            "panicky",
            &json!({"adapterDiscovery": {"pollingInterval": "1s"}, "rollout": {"onSpecChange": "WhenNeeded"}}),
        )
        .await
        .expect("accepted");
    let labels = on.fires("DittofsActorRestarts").await;
    assert!(["service-reconciler", "port-reconciler"].contains(&labels["actor"].as_str()), "{labels:?}");
    bed.world.wait_ready("panicky").await.expect("it is healed");

    // Two managers.
    let labels = tokio::select! {
        labels = on.fires("DittofsDriftFought") => labels,
        () = fight(bed) => unreachable!("it goes on for ever"),
    };
    assert_eq!(labels["resource"], "services");

    // Writes that are refused, and a collector that refuses what tells of them.
    on.collector.set_behaviour(Behaviour::Fail { grpc: 3, http: 400 });
    on.proxy.rule(refused_write_of_services());
    bed.dittofs("files").stop_adapter("smb");
    on.fires("DittofsAdapterServiceLate").await;
    let labels = on.fires("DittofsReconcileFailing").await;
    assert_eq!(labels["actor"], "service-reconciler");
    on.counts("sum(dittofs_operator_spans_dropped_total)").await;
    on.collector.set_behaviour(Behaviour::Accept);
    on.proxy.clear_rules();
    bed.wait_adapter_services_within("files", &NFS, PATIENCE).await;
    on.is_over("DittofsAdapterServiceLate").await;
    on.is_over("DittofsReconcileFailing").await;

    // An API that hangs.
    bed.dittofs("files").set_mode(Mode::Hang, Scope::AdaptersList);
    let labels = on.fires("DittofsServerApiFailing").await;
    assert_eq!(labels["problem"], "unreachable");
    bed.dittofs("files").heal();
    on.is_over("DittofsServerApiFailing").await;

    // A watch whose version is gone, and then an API server that says nothing at all.
    let is_watch =
        |method: &Method, path: &str| *method == Method::GET && path.contains("/services") && path.contains("watch=");
    on.proxy.rule(Rule::new(is_watch, Action::status(410, "Expired", "too old resource version")).times(1));
    on.proxy.cut_connections();
    on.counts(r#"increase(dittofs_operator_relists_total{resource="services"}[1m])"#).await;
    on.proxy.set_mode(Network::Hang);
    on.fires("DittofsWatchStale").await;
    on.proxy.set_mode(Network::Normal);
    on.proxy.cut_connections();
    on.is_over("DittofsWatchStale").await;

    let wrong = on.wrong_panels().await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for rule in on.prometheus.rules().await.expect("rules") {
        assert_eq!((rule.health.as_str(), rule.last_error.as_str()), ("ok", ""), "{}", rule.name);
    }

    // And an operator that is gone.
    bed.world.operator().sigterm(SOON).await.expect("it ends");
    on.fires("DittofsOperatorAbsent").await;

    // The last step of a range can lie before the sample that the alert was just seen in.
    let what = "the alerts of the run, the last one among them";
    let fired = bed
        .world
        .wait_until(what, PATIENCE, async || {
            let query = r#"count by (alertname) (ALERTS{alertstate="firing"})"#;
            let found = on.prometheus.query_range(query, on.since.elapsed(), Duration::from_secs(1)).await;
            let found = found.map_err(|error| format!("{error:#}"))?;
            let last = found.iter().any(|series| series.labels["alertname"] == "DittofsOperatorAbsent");
            if last { Ok(found) } else { Err(format!("{} alerts", found.len())) }
        })
        .await
        .expect("the alerts");
    for alert in ALERTS {
        let seen = fired.iter().any(|series| series.labels["alertname"] == alert.name);
        assert_ne!(seen, NOT_PROVOKED.contains(&alert.name), "{}", alert.name);
    }
    let Watched { bed, .. } = on;
    // A connection that is cut and a version that is gone cost lists; somebody fights for long.
    let expect =
        Expect { pod_starts: Some(3), skip: vec![Promise::S6], max_writes_per_object: 1000, ..Expect::default() };
    bed.finish_with(expect).await;
}
