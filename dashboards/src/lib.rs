//! What an SRE looks at, as tables: panels of three Grafana dashboards, alerts, and how Prometheus finds the operator.
//!
//! Owns `dashboards/*.json` and `deploy/monitoring/*.yaml`: both are generated from here (`make generate`), and a test
//! compares. Touches nothing. Guarantees: the same text every time; every expression uses metrics and labels of the
//! operator's table (`src/telemetry/metrics/table.rs`) alone, which `tests/dashboards.rs` checks.
//!
//! ```text
//! fleet, server, operator ──panel::Dashboard──> grafana ──> dashboards/*.json
//! alerts ──────────────────alerts::Alert──────> manifests > deploy/monitoring/*.yaml
//! ```

#![warn(clippy::unwrap_used, clippy::expect_used)]

pub mod alerts;
mod fleet;
mod grafana;
mod manifests;
mod operator;
pub mod panel;
mod server;

pub use manifests::rules;
pub use panel::{Dashboard, Panel, Query, Row};

use serde_json::Value;

/// Where the repository is; runbooks are linked from alerts by it.
pub const REPOSITORY: &str = "https://github.com/dittofs/dittofs-operator";

/// First lines of each generated YAML file.
const HEADER: &str = "# Generated from dashboards/src by `make generate`; do not edit.\n";

/// The three dashboards.
pub const DASHBOARDS: [&Dashboard; 3] = [&fleet::FLEET, &server::SERVER, &operator::OPERATOR];

/// Every generated file: its path in the repository and its text, which ends with a newline.
pub fn files() -> Vec<(String, String)> {
    let boards = DASHBOARDS.iter().map(|board| (format!("dashboards/{}.json", board.file), grafana::json(board)));
    boards.chain(manifests::files()).collect()
}

/// The same value with the keys of every object in order, whatever a feature of `serde_json` makes of them elsewhere in
/// the workspace.
fn sorted(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            fields.sort_by(|left, right| left.0.cmp(&right.0));
            fields.into_iter().collect()
        }
        other => other,
    }
}
