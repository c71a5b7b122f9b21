//! Generated manifests and pages are what the code says. `make generate` renews them.

use std::path::Path;

/// Compares a file with what the code prints; with `UPDATE_GOLDEN` set it writes the file instead.
fn assert_current(name: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    assert!(generated.len() > 200 && generated.ends_with('\n'), "{name} is generated empty or without a last newline");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, generated).expect("the file can be written");
        return;
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some((number, (old, new))) =
        stored.lines().chain([""]).zip(generated.lines().chain([""])).enumerate().find(|(_, (old, new))| old != new)
    {
        panic!(
            "{name} is out of date from line {}: it says {old:?}, the code {new:?}. Run `make generate` and \
             commit the result.",
            number + 1
        );
    }
    assert_eq!(stored.len(), generated.len(), "{name} is out of date. Run `make generate` and commit the result.");
}

#[test]
fn the_crd_manifest_is_what_the_types_say() {
    assert_current("deploy/crd.yaml", &dittofs_operator::crd::crd_yaml());
}

#[test]
fn the_rbac_manifest_is_what_the_code_says() {
    assert_current("deploy/rbac.yaml", &dittofs_operator::build::rbac_yaml());
}

#[test]
fn the_webhooks_manifest_is_what_the_code_says() {
    assert_current("deploy/webhook/webhook.yaml", &dittofs_operator::build::webhook_yaml());
}

#[test]
fn the_page_about_metrics_is_what_the_table_says() {
    assert_current("docs/metrics.md", &dittofs_operator::telemetry::metrics::page::markdown());
}

#[test]
fn the_page_about_traces_is_what_the_table_says() {
    assert_current("docs/tracing.md", &dittofs_operator::telemetry::table::markdown());
}

#[test]
fn the_page_about_events_is_what_the_reasons_say() {
    assert_current("docs/events.md", &dittofs_operator::cluster::events_markdown());
}

#[test]
fn the_page_about_status_is_what_the_reasons_say() {
    assert_current("docs/status.md", &dittofs_operator::reconcile::status::reasons::markdown());
}

#[test]
fn dashboards_and_monitoring_manifests_are_what_their_tables_say() {
    for (path, text) in dittofs_dashboards::files() {
        assert_current(&path, &text);
    }
}
