//! Dashboards and alerts ask for nothing that the operator does not serve, leave out nothing that it serves, and say
//! what each panel shows and what each alert wants to be done. Without a Prometheus; `alerts.rs` has one.

use std::collections::BTreeSet;
use std::path::Path;

use dittofs_dashboards::alerts::ALERTS;
use dittofs_dashboards::panel::{Kind, Unit};
use dittofs_dashboards::{DASHBOARDS, Panel};
use dittofs_operator::telemetry::metrics::table::{MetricDef, MetricKind, Served, TABLE};
use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{self, Expr, LabelModifier};
use serde::Deserialize as _;
use serde_json::Value;

/// Labels that Prometheus adds to what it scrapes.
const TARGET_LABELS: [&str; 4] = ["job", "namespace", "pod", "instance"];

/// Series of others, and what is asked of their labels: kube-state-metrics, with the annotation in its allow-list.
const FOREIGN: [(&str, &[&str]); 1] =
    [("kube_statefulset_annotations", &["namespace", "statefulset", "annotation_dittofs_io_held_template"])];

/// Served, and of no use to look at.
const NOT_SHOWN: [&str; 5] = [
    "process_virtual_memory_bytes",
    "process_max_fds",
    // Of the webhook, which is off unless it is asked for.
    "dittofs_operator_certificate_reloads_total",
    "dittofs_operator_admission_reviews_total",
    "dittofs_operator_admission_duration_seconds",
];

/// What an expression asks for.
#[derive(Default)]
struct Asked {
    metrics: BTreeSet<String>,
    /// Labels that its series have.
    labels: BTreeSet<String>,
    /// Labels by which it groups or joins.
    grouped: BTreeSet<String>,
    wrong: Vec<String>,
}

fn row_of(name: &str) -> Option<(&'static MetricDef, bool)> {
    if let Some(row) = TABLE.iter().find(|row| row.name == name) {
        return (row.kind != MetricKind::Histogram).then_some((row, false));
    }
    let (base, bucket) = match name.strip_suffix("_bucket") {
        Some(base) => (base, true),
        None => (name.strip_suffix("_count").or_else(|| name.strip_suffix("_sum"))?, false),
    };
    let row = TABLE.iter().find(|row| row.name == base && row.kind == MetricKind::Histogram)?;
    Some((row, bucket))
}

impl Asked {
    fn of(expr: &str) -> Self {
        let mut asked = Self::default();
        // Grafana's words for a range are filled in before Prometheus sees them.
        match parser::parse(&expr.replace("$__rate_interval", "5m")) {
            Ok(tree) => asked.walk(&tree),
            Err(error) => asked.wrong.push(error),
        }
        let known: BTreeSet<_> = asked.labels.iter().map(String::as_str).chain(TARGET_LABELS).collect();
        for label in &asked.grouped {
            if !known.contains(label.as_str()) {
                asked.wrong.push(format!("no series has the label {label}"));
            }
        }
        asked
    }

    fn walk(&mut self, expr: &Expr) {
        match expr {
            Expr::Aggregate(aggregate) => {
                self.modifier(aggregate.modifier.as_ref());
                self.walk(&aggregate.expr);
                if let Some(parameter) = &aggregate.param {
                    self.walk(parameter);
                }
            }
            Expr::Unary(unary) => self.walk(&unary.expr),
            Expr::Binary(binary) => {
                self.modifier(binary.modifier.as_ref().and_then(|modifier| modifier.matching.as_ref()));
                self.walk(&binary.lhs);
                self.walk(&binary.rhs);
            }
            Expr::Paren(inner) => self.walk(&inner.expr),
            Expr::Subquery(inner) => self.walk(&inner.expr),
            Expr::VectorSelector(selector) => self.selector(selector.name.as_deref(), &selector.matchers.matchers),
            Expr::MatrixSelector(selector) => {
                self.selector(selector.vs.name.as_deref(), &selector.vs.matchers.matchers);
            }
            Expr::Call(call) => {
                call.args.args.iter().for_each(|argument| self.walk(argument));
                // label_replace(v, made, …) makes a label.
                if let ("label_replace", Some(Expr::StringLiteral(made))) =
                    (call.func.name, call.args.args.get(1).map(AsRef::as_ref))
                {
                    self.labels.insert(made.val.clone());
                }
            }
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
        }
    }

    fn modifier(&mut self, modifier: Option<&LabelModifier>) {
        if let Some(modifier) = modifier {
            self.grouped.extend(modifier.labels().labels.iter().cloned());
        }
    }

    fn selector(&mut self, name: Option<&str>, matchers: &[Matcher]) {
        let Some(name) = name else {
            self.wrong.push("a selector without a name".to_owned());
            return;
        };
        self.metrics.insert(name.to_owned());
        if let Some((_, labels)) = FOREIGN.iter().find(|(foreign, _)| *foreign == name) {
            self.labels.extend(labels.iter().map(|label| (*label).to_owned()));
            for matcher in matchers.iter().filter(|matcher| !labels.contains(&matcher.name.as_str())) {
                self.wrong.push(format!("{name} has no label {}", matcher.name));
            }
            return;
        }
        let Some((row, bucket)) = row_of(name) else {
            self.wrong.push(format!("there is no {name}"));
            return;
        };
        self.labels.extend(row.labels.iter().map(|label| label.name.to_owned()));
        if bucket {
            self.labels.insert("le".to_owned());
        }
        for matcher in matchers.iter().filter(|matcher| !TARGET_LABELS.contains(&matcher.name.as_str())) {
            let Some(label) = row.labels.iter().find(|label| label.name == matcher.name) else {
                self.wrong.push(format!("{name} has no label {}", matcher.name));
                continue;
            };
            let words: Vec<&str> = match matcher.op {
                MatchOp::Equal | MatchOp::NotEqual => vec![&matcher.value],
                MatchOp::Re(_) | MatchOp::NotRe(_) => matcher.value.split('|').collect(),
            };
            for word in words {
                if !label.values.is_empty() && !label.values.contains(&word) {
                    self.wrong.push(format!("{name} has no {}={word}", matcher.name));
                }
            }
        }
    }
}

fn panels() -> impl Iterator<Item = (&'static str, &'static Panel)> {
    DASHBOARDS.iter().flat_map(|board| board.rows.iter().flat_map(|row| row.panels).map(|panel| (board.file, panel)))
}

/// Every PromQL expression: where it stands, and its text.
fn expressions() -> Vec<(String, String)> {
    let of_panels = panels().filter(|(_, panel)| panel.kind != Kind::Traces).flat_map(|(board, panel)| {
        panel.queries.iter().map(move |query| (format!("{board}: {}", panel.title), query.expr()))
    });
    let of_alerts = ALERTS
        .iter()
        .flat_map(|alert| [1, 60].map(|factor| (format!("alert {} over {factor}", alert.name), alert.expr(factor))));
    of_panels.chain(of_alerts).collect()
}

fn words_in_braces(text: &str) -> impl Iterator<Item = &str> {
    text.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")).map(|(word, _)| word.trim())
}

#[test]
fn every_expression_parses_and_asks_for_what_is_served() {
    let wrong: Vec<String> = expressions()
        .iter()
        .filter_map(|(place, expr)| {
            let asked = Asked::of(expr);
            (!asked.wrong.is_empty()).then(|| format!("{place}: {:?} in {expr}", asked.wrong))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_asked_for_is_checked() {
    for (expr, reason) in [
        ("sum(dittofs_operator_server)", "there is no"),
        ("sum(dittofs_operator_servers{phases=\"Failed\"})", "no label phases"),
        ("sum(dittofs_operator_servers{phase=~\"Failed|Gone\"})", "no phase=Gone"),
        ("sum by (actor) (dittofs_operator_servers)", "label actor"),
        ("rate(dittofs_operator_poll_duration_seconds[5m])", "there is no"),
        ("sum by (le) (rate(dittofs_operator_poll_duration_seconds_count[5m]))", "label le"),
        ("dittofs_operator_servers * on (pdo) dittofs_operator_servers", "label pdo"),
        ("sum(", ""),
    ] {
        let wrong = Asked::of(expr).wrong.join(", ");
        assert!(!wrong.is_empty() && wrong.contains(reason), "{expr}: {wrong:?}");
    }
}

#[test]
fn every_metric_is_shown_somewhere() {
    let asked: BTreeSet<String> = expressions().iter().flat_map(|(_, expr)| Asked::of(expr).metrics).collect();
    for row in TABLE {
        let shown = asked.iter().any(|name| row_of(name).is_some_and(|(asked, _)| asked.name == row.name));
        assert_ne!(shown, NOT_SHOWN.contains(&row.name), "{}", row.name);
    }
}

#[test]
fn every_panel_says_what_it_shows_and_in_which_unit() {
    let mut titles = BTreeSet::new();
    for (board, panel) in panels() {
        let place = format!("{board}: {}", panel.title);
        assert!(!panel.title.is_empty() && panel.description.len() > 25 && panel.description.ends_with('.'), "{place}");
        assert!(titles.insert(place.clone()), "{place} is there twice");
        assert!(!panel.queries.is_empty() && (1..=24).contains(&panel.width), "{place}");
        let mut served = BTreeSet::new();
        for query in panel.queries.iter().filter(|_| panel.kind != Kind::Traces) {
            let asked = Asked::of(&query.expr());
            for word in words_in_braces(query.legend) {
                let known = asked.labels.contains(word) || TARGET_LABELS.contains(&word);
                let kept = asked.grouped.is_empty() || asked.grouped.contains(word);
                assert!(known && kept, "{place}: no label {word} in {:?}", query.legend);
            }
            for name in &asked.metrics {
                let Some((row, _)) = row_of(name) else { continue };
                served.insert(row.served == Served::PerServer);
            }
            let seconds =
                asked.metrics.iter().any(|name| name.ends_with("_seconds") || name.ends_with("_seconds_bucket"));
            assert!(!(panel.unit == Unit::Bytes && seconds), "{place}: seconds as bytes");
        }
        // Who looks at an empty panel reads there which flag is missing.
        let told = panel.description.contains("Only with --metrics-per-server");
        assert_eq!(told, served.contains(&true), "{place}: per server or not?");
    }
}

#[test]
fn every_alert_has_a_page_that_says_what_to_do() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for alert in ALERTS {
        let page = std::fs::read_to_string(root.join(alert.runbook())).unwrap_or_default();
        let mut rest = page.as_str();
        let headings = [
            "# ",
            "\n## What it means\n",
            "\n## What users notice\n",
            "\n## How to find the cause\n",
            "\n## What to do\n",
        ];
        for heading in headings {
            let heading = if heading == "# " { format!("# {}\n", alert.name) } else { heading.to_owned() };
            let (text, after) =
                rest.split_once(&heading).unwrap_or_else(|| panic!("{}: no {heading:?}", alert.runbook()));
            assert!(text.is_empty() || text.trim().len() > 40, "{}: nothing before {heading:?}", alert.runbook());
            rest = after;
        }
        assert!(rest.trim().len() > 40, "{}: nothing to do", alert.runbook());
        assert!(!alert.summary.is_empty() && alert.description.len() > 40, "{}", alert.name);
        let labels = words_in_braces(alert.summary).filter_map(|word| word.strip_prefix("$labels."));
        for label in labels.map(|label| label.split_whitespace().next().unwrap_or_default()) {
            let asked = Asked::of(&alert.expr(1));
            assert!(asked.grouped.contains(label), "{}: {label} is not kept", alert.name);
        }
    }
    let pages = std::fs::read_dir(root.join("docs/runbooks")).expect("the runbooks");
    let pages: BTreeSet<String> =
        pages.map(|page| page.expect("a page").file_name().to_string_lossy().into_owned()).collect();
    let wanted: BTreeSet<String> = ALERTS.iter().map(|alert| format!("{}.md", alert.name)).collect();
    assert_eq!(pages, wanted, "a page of no alert");
}

#[test]
fn prometheus_finds_the_operator_that_is_deployed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents = |file: &str| -> Vec<Value> {
        let text = std::fs::read_to_string(root.join(file)).expect("a manifest");
        let documents = serde_yaml_ng::Deserializer::from_str(&text);
        documents.map(|document| Value::deserialize(document).expect("YAML")).collect()
    };
    let deployment = documents("deploy/deployment.yaml").remove(0);
    let pod = &deployment["spec"]["template"];
    let container = &pod["spec"]["containers"][0];
    let ports = container["ports"].as_array().expect("ports");
    let port =
        ports.iter().find(|port| port["name"] == "metrics").expect("a port for metrics")["containerPort"].clone();
    let words = container["args"].to_string();
    assert!(words.contains(&format!(r#""--metrics-addr","0.0.0.0:{port}""#)), "{words}");

    let monitor = documents("deploy/monitoring/podmonitor.yaml").remove(0);
    let by_service = documents("deploy/monitoring/servicemonitor.yaml");
    let (service, service_monitor) = (&by_service[0], &by_service[1]);
    assert_eq!(monitor["spec"]["podMetricsEndpoints"][0]["port"], "metrics");
    assert_eq!(service_monitor["spec"]["endpoints"][0]["port"], service["spec"]["ports"][0]["name"]);
    assert_eq!(
        (&service["spec"]["ports"][0]["targetPort"], &service["spec"]["ports"][0]["port"]),
        (&"metrics".into(), &port)
    );
    for (selector, labels) in [
        (&monitor["spec"]["selector"]["matchLabels"], &pod["metadata"]["labels"]),
        (&service["spec"]["selector"], &pod["metadata"]["labels"]),
        (&service_monitor["spec"]["selector"]["matchLabels"], &service["metadata"]["labels"]),
    ] {
        for (label, value) in selector.as_object().expect("labels") {
            assert_eq!(&labels[label], value, "{label}");
        }
    }
    for object in [&monitor, service, service_monitor] {
        assert_eq!(object["metadata"]["namespace"], deployment["metadata"]["namespace"]);
    }
}
