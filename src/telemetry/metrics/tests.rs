use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::table::{self, LabelDef, MetricKind, Served, TABLE};
use super::*;
use crate::dittofs::Problem;

const TICK: Duration = Duration::from_millis(3);

#[derive(Debug)]
struct Spans;

impl SpanCounts for Spans {
    fn exported(&self) -> u64 {
        7
    }
    fn dropped(&self) -> [u64; 3] {
        [1, 2, 3]
    }
}

fn key(name: &str) -> ServerKey {
    ServerKey::new("ns-of-it", name)
}

/// Everything once, about one server.
fn everything(per_server: bool) -> Metrics {
    let metrics = Metrics::new(per_server);
    let files = key("files");
    let started = Instant::now();
    metrics.server_came(&files);
    metrics.status(
        &files,
        &StatusSeen::of(&json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]})),
    );
    metrics.polls_each(&files, Some(Duration::from_secs(5)));
    metrics.poll_late(TICK);
    metrics.polled(&files, started, PollEnd::Changed);
    metrics.polled(&files, started, PollEnd::Failed("forbidden", Problem::Auth));
    metrics.observed(&files, started, ["nfs", "webdav"], 2);
    metrics.poll_to_write(&files, Kind::Service, TICK);
    metrics.ports_held(&files, true);
    metrics.pod_rolls(&files, CauseKind::ConfigHashed);
    metrics.caused(Role::PortReconciler, CauseKind::Start);
    metrics.reconcile_begins(Role::PortReconciler, TICK);
    metrics.reconciled(&files, Role::PortReconciler, Outcome::Failed, TICK);
    metrics.slot(&files, Role::PortReconciler, Slot::RunningDirty);
    metrics.job_panicked(Role::AdapterPoller);
    metrics.actor_ended(Role::CrWatcher, Ended::Panicked);
    metrics.heartbeat();
    drop(metrics.waits_for_turn(Turn::Urgent));
    drop(metrics.posted(Role::StatusReporter));
    metrics.kube_answered(Verb::Update, "services", 409, "Conflict", TICK);
    metrics.kube_unanswered(Verb::Get, "pods", "timeout", TICK);
    metrics.kube_wrote(&files, Kind::Service, Action::Update, CauseKind::AdaptersObserved);
    metrics.kube_conflict(Kind::Service);
    metrics.kube_retry(Kind::Service);
    metrics.drift_repaired(Kind::Service, "kubectl");
    metrics.event_published(true, "published");
    metrics.watch_event(Kind::Secret, true);
    metrics.watch_restarted(Kind::Secret, "unauthorized");
    metrics.relisted(Kind::Secret);
    metrics.dittofs_answered("login", 401, TICK);
    metrics.dittofs_unanswered("list-adapters", "broken", TICK);
    metrics.token_refreshed(TokenOutcome::Refused);
    metrics.certificate("webhook", 2e9);
    metrics.certificate_reloaded("webhook", true);
    metrics.admission("create", Admission::Refused, TICK);
    metrics.api_certificates(&files, [Some(2_100_000_000), None]);
    metrics.count_spans_of(Arc::new(Spans));
    metrics
}

/// The `# TYPE` lines of a Prometheus text.
fn types(text: &str) -> BTreeSet<(String, String)> {
    let typed = |line: &str| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some((name.to_owned(), kind.to_owned()))
    };
    text.lines().filter_map(typed).collect()
}

fn encoded(metrics: &Metrics) -> String {
    metrics.encode(Format::Prometheus).expect("text")
}

fn has(text: &str, line: &str) {
    assert!(text.lines().any(|one| one == line), "no {line} in\n{text}");
}

#[tokio::test]
async fn what_is_served_is_the_table_and_the_table_is_what_is_served() {
    for per_server in [false, true] {
        let kind = |kind: MetricKind| if kind == MetricKind::Info { "gauge" } else { kind.as_str() };
        // Outside of a container with a limit there is no series for it.
        let expected: BTreeSet<_> = TABLE
            .iter()
            .filter(|def| per_server || def.served == Served::Always)
            .map(|def| (def.name.to_owned(), kind(def.kind).to_owned()))
            .filter(|(name, _)| name != table::MEMORY_LIMIT.name)
            .collect();
        let mut served = types(&encoded(&everything(per_server)));
        served.retain(|(name, _)| name != table::MEMORY_LIMIT.name);
        assert_eq!(served, expected, "per server: {per_server}");
    }
}

#[tokio::test]
async fn every_series_has_the_labels_of_its_row_and_values_of_their_sets() {
    let text = encoded(&everything(true));
    let mut seen = 0;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let base = |suffix: &str| name.strip_suffix(suffix).unwrap_or(name);
        let def = TABLE
            .iter()
            .find(|def| [name, base("_bucket"), base("_sum"), base("_count")].contains(&def.name))
            .unwrap_or_else(|| panic!("{name} is not in the table"));
        let pairs: Vec<(&str, &str)> = labels
            .trim_end_matches('}')
            .split("\",")
            .filter_map(|pair| pair.split_once("=\""))
            .map(|(label, value)| (label, value.trim_end_matches('"')))
            .filter(|(label, _)| *label != "le")
            .collect();
        let names: Vec<&str> = pairs.iter().map(|(label, _)| *label).collect();
        let wanted: Vec<&str> = def.labels.iter().map(|label| label.name).collect();
        assert_eq!(names, wanted, "{line}");
        for (LabelDef { values, .. }, (_, value)) in def.labels.iter().zip(pairs) {
            assert!(values.is_empty() || values.contains(&value), "{line}");
        }
        seen += 1;
    }
    assert!(seen > 500, "{seen}");
}

#[tokio::test]
async fn values_are_those_that_were_told() {
    let metrics = everything(true);
    let text = encoded(&metrics);
    for line in [
        "dittofs_operator_servers{phase=\"Running\"} 1.0",
        "dittofs_operator_servers_condition{condition=\"Ready\",status=\"False\"} 1.0",
        "dittofs_operator_adapters_active{type=\"nfs\"} 1.0",
        "dittofs_operator_adapters_active{type=\"other\"} 1.0",
        "dittofs_operator_adapters_active{type=\"smb\"} 0.0",
        "dittofs_operator_poll_failing{problem=\"refused\"} 1.0",
        "dittofs_operator_held_port_rollouts 1.0",
        "dittofs_operator_poll_duration_seconds_count{result=\"forbidden\"} 1",
        "dittofs_operator_poll_to_write_seconds_bucket{le=\"0.0025\",resource=\"services\"} 0",
        "dittofs_operator_poll_to_write_seconds_bucket{le=\"0.005\",resource=\"services\"} 1",
        "dittofs_operator_reconcile_failing{actor=\"port-reconciler\"} 1.0",
        "dittofs_operator_slots_dirty{actor=\"port-reconciler\"} 1.0",
        "dittofs_operator_mailbox_depth{actor=\"status-reporter\"} 0.0",
        "dittofs_operator_mailbox_wait_seconds_count{actor=\"status-reporter\"} 1",
        "dittofs_operator_turns_waiting{class=\"urgent\"} 0.0",
        "dittofs_operator_kube_requests_total{verb=\"update\",resource=\"services\",code=\"409\",reason=\"Conflict\"} 1",
        "dittofs_operator_kube_requests_total{verb=\"get\",resource=\"pods\",code=\"timeout\",reason=\"\"} 1",
        "dittofs_operator_watch_restarts_total{resource=\"secrets\",why=\"refused\"} 1",
        "dittofs_operator_watch_synced{resource=\"secrets\"} 1.0",
        "dittofs_operator_watch_synced{resource=\"services\"} 0.0",
        "dittofs_operator_drift_repaired_total{resource=\"services\",manager=\"kubectl\"} 1",
        "dittofs_operator_drift_repaired_total{resource=\"services\",manager=\"helm\"} 0",
        "dittofs_operator_dittofs_requests_total{operation=\"login\",code=\"401\"} 1",
        "dittofs_operator_spans_dropped_total{reason=\"undecided\"} 3.0",
        "dittofs_operator_certificate_expiry_timestamp_seconds{purpose=\"webhook\"} 2000000000.0",
        "dittofs_operator_certificate_expiry_timestamp_seconds{purpose=\"api\"} 2100000000.0",
        concat!("dittofs_operator_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        "dittofs_operator_server_phase{server_namespace=\"ns-of-it\",server=\"files\",phase=\"Running\"} 1.0",
        "dittofs_operator_server_polls_total{server_namespace=\"ns-of-it\",server=\"files\",result=\"failed\"} 1.0",
        "dittofs_operator_server_writes_total{server_namespace=\"ns-of-it\",server=\"files\",resource=\"services\"} 1.0",
    ] {
        has(&text, line);
    }
    let waiting = (metrics.waits_for_turn(Turn::Other), metrics.posted(Role::ConfigHasher));
    has(&encoded(&metrics), "dittofs_operator_turns_waiting{class=\"other\"} 1.0");
    has(&encoded(&metrics), "dittofs_operator_mailbox_depth{actor=\"config-hasher\"} 1.0");
    drop(waiting);
    has(&encoded(&metrics), "dittofs_operator_turns_waiting{class=\"other\"} 0.0");
}

#[tokio::test]
async fn no_server_is_named_unless_asked_for_and_its_series_go_with_it() {
    let named = |metrics: &Metrics| encoded(metrics).contains("ns-of-it") || encoded(metrics).contains("files\"");
    assert!(!named(&everything(false)));
    let metrics = everything(true);
    assert!(named(&metrics));
    metrics.server_went(&key("files"));
    // What a job still under way tells comes too late.
    metrics.polled(&key("files"), Instant::now(), PollEnd::Unchanged);
    assert!(!named(&metrics));
}

#[test]
fn the_table_keeps_the_rules_of_names() {
    let mut names = BTreeSet::new();
    for def in TABLE {
        assert!(names.insert(def.name), "{} twice", def.name);
        assert_eq!(def.kind == MetricKind::Counter, def.name.ends_with("_total"), "{}", def.name);
        let base = def.name.trim_end_matches("_total");
        assert!(base.ends_with(def.unit.as_str()), "{}", def.name);
        assert!(["dittofs_operator_", "process_"].iter().any(|prefix| def.name.starts_with(prefix)), "{}", def.name);
        assert!(!def.help.ends_with('.') && !def.help.contains(['"', '\\', '\n']), "{}", def.name);
        assert!(def.when_bad.ends_with('.'), "{}", def.name);
        for label in def.labels {
            assert!(!label.values.is_empty() || !label.meaning.is_empty(), "{} {}", def.name, label.name);
        }
        let says_who = def.labels.iter().any(|label| label.name.starts_with("server"));
        assert_eq!(says_who, def.served == Served::PerServer, "{}", def.name);
    }
}

#[test]
fn the_words_of_the_code_are_those_of_the_table() {
    let status = json!({"phase": "Sleeping", "conditions": [{"type": "Odd", "status": "True"}]});
    assert_eq!(StatusSeen::of(&status), StatusSeen::default());
    let roles = [
        Role::ConfigHasher,
        Role::AdapterPoller,
        Role::ServiceReconciler,
        Role::PortReconciler,
        Role::StatusReporter,
        Role::CrWatcher,
    ];
    assert_eq!(roles.map(Role::as_str), table::ACTORS);
    assert_eq!([Turn::Urgent, Turn::Other].map(Turn::as_str), table::TURNS);
    for status in 100..600 {
        assert!(table::REASONS.contains(&reason_of_status(status)));
    }
}

#[tokio::test]
async fn both_formats_are_served_and_nothing_else() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let address =
        serve::serve("127.0.0.1:0".parse().expect("an address"), everything(false)).await.expect("it listens");
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let ask = async |path: &str, accept: &str| {
        let answer =
            client.get(format!("http://{address}{path}")).header("accept", accept).send().await.expect("answer");
        let kind = answer.headers().get("content-type").map(|kind| kind.to_str().unwrap_or_default().to_owned());
        (answer.status().as_u16(), kind.unwrap_or_default(), answer.text().await.expect("text"))
    };
    let (status, kind, text) = ask("/metrics", "text/plain").await;
    assert_eq!((status, kind.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"));
    assert!(text.contains("# TYPE dittofs_operator_relists_total counter\n") && !text.contains("# EOF"));
    let (status, kind, text) = ask("/metrics", "application/openmetrics-text; version=1.0.0").await;
    assert_eq!((status, kind.as_str()), (200, "application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(text.contains("# TYPE dittofs_operator_relists counter\n") && text.ends_with("# EOF\n"));
    assert_eq!(ask("/", "*/*").await.0, 404);
}
