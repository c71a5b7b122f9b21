//! What Prometheus' query API answers, as values. Pure.

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

type Labels = BTreeMap<String, String>;

/// One series' value at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Labels, `__name__` among them.
    pub labels: Labels,
    /// The value; NaN and infinities are possible.
    pub value: f64,
    /// Seconds since 1970.
    pub at: f64,
}

/// One series' values over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Labels, `__name__` among them.
    pub labels: Labels,
    /// Seconds since 1970 and the value then.
    pub points: Vec<(f64, f64)>,
}

/// An alert that is pending or firing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alert {
    /// Label `alertname`.
    pub name: String,
    /// The other labels.
    pub labels: Labels,
    /// Annotations, templates filled in.
    pub annotations: Labels,
    /// Whether it fires; else it is pending.
    pub firing: bool,
    /// Since when its expression holds, RFC 3339.
    pub active_at: String,
}

/// A rule that is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Its group.
    pub group: String,
    /// Name of the alert or of the series that it records.
    pub name: String,
    /// Whether it is an alert; else it records.
    pub alerting: bool,
    /// Its expression.
    pub query: String,
    /// `ok`, `err`, or `unknown` before the first evaluation.
    pub health: String,
    /// Why the last evaluation failed.
    pub last_error: String,
    /// `inactive`, `pending` or `firing`; empty for one that records.
    pub state: String,
}

/// A place that is scraped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Label `job`.
    pub job: String,
    /// Its URL.
    pub url: String,
    /// All its labels.
    pub labels: Labels,
    /// `up`, `down`, or `unknown` before the first scrape.
    pub health: String,
    /// Why the last scrape failed.
    pub last_error: String,
}

pub(super) fn samples(data: &Value) -> anyhow::Result<Vec<Sample>> {
    let result = &data["result"];
    match data["resultType"].as_str() {
        Some("vector") => result
            .as_array()
            .context("a vector that is no list")?
            .iter()
            .map(|series| {
                let (at, value) = point(&series["value"])?;
                Ok(Sample { labels: Labels::deserialize(&series["metric"])?, value, at })
            })
            .collect(),
        Some("scalar") => {
            let (at, value) = point(result)?;
            Ok(vec![Sample { labels: Labels::new(), value, at }])
        }
        other => bail!("neither a vector nor a scalar: {other:?}"),
    }
}

pub(super) fn series(data: &Value) -> anyhow::Result<Vec<Series>> {
    let list = data["result"].as_array().context("a matrix that is no list")?;
    list.iter()
        .map(|series| {
            let points = series["values"].as_array().context("a series without values")?;
            Ok(Series {
                labels: Labels::deserialize(&series["metric"])?,
                points: points.iter().map(point).collect::<anyhow::Result<_>>()?,
            })
        })
        .collect()
}

/// `[seconds, "value"]`.
fn point(value: &Value) -> anyhow::Result<(f64, f64)> {
    let at = value[0].as_f64().with_context(|| format!("no time: {value}"))?;
    let number = value[1].as_str().with_context(|| format!("no value: {value}"))?;
    // Rust reads `NaN`, `+Inf` and `-Inf` as Prometheus writes them.
    Ok((at, number.parse().with_context(|| format!("no number: {value}"))?))
}

pub(super) fn alerts(data: &Value) -> anyhow::Result<Vec<Alert>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Wire {
        labels: Labels,
        annotations: Labels,
        state: String,
        active_at: String,
    }
    let wire = Vec::<Wire>::deserialize(&data["alerts"])?;
    let alert = |Wire { mut labels, annotations, state, active_at }: Wire| Alert {
        name: labels.remove("alertname").unwrap_or_default(),
        labels,
        annotations,
        firing: state == "firing",
        active_at,
    };
    Ok(wire.into_iter().map(alert).collect())
}

pub(super) fn rules(data: &Value) -> anyhow::Result<Vec<Rule>> {
    #[derive(Deserialize)]
    struct Group {
        name: String,
        rules: Vec<Wire>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Wire {
        name: String,
        query: String,
        health: String,
        #[serde(default)]
        last_error: String,
        #[serde(default)]
        state: String,
        r#type: String,
    }
    let mut rules = Vec::new();
    for group in Vec::<Group>::deserialize(&data["groups"])? {
        rules.extend(group.rules.into_iter().map(|wire| Rule {
            group: group.name.clone(),
            name: wire.name,
            alerting: wire.r#type == "alerting",
            query: wire.query,
            health: wire.health,
            last_error: wire.last_error,
            state: wire.state,
        }));
    }
    Ok(rules)
}

pub(super) fn targets(data: &Value) -> anyhow::Result<Vec<Target>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Wire {
        labels: Labels,
        scrape_url: String,
        health: String,
        last_error: String,
    }
    let wire = Vec::<Wire>::deserialize(&data["activeTargets"])?;
    let target = |Wire { labels, scrape_url, health, last_error }: Wire| Target {
        job: labels.get("job").cloned().unwrap_or_default(),
        url: scrape_url,
        labels,
        health,
        last_error,
    };
    Ok(wire.into_iter().map(target).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn vectors_and_scalars_are_samples() {
        let vector = json!({"resultType": "vector", "result": [{"metric": {"a": "b"}, "value": [1.5, "+Inf"]}]});
        let found = samples(&vector).unwrap();
        assert_eq!((found[0].labels["a"].as_str(), found[0].at), ("b", 1.5));
        assert!(found[0].value.is_infinite() && found[0].value > 0.0);
        let scalar = json!({"resultType": "scalar", "result": [2, "-3e2"]});
        assert_eq!(samples(&scalar).unwrap(), [Sample { labels: Labels::new(), value: -300.0, at: 2.0 }]);
        assert!(samples(&json!({"resultType": "string", "result": [2, "x"]})).is_err());
        assert!(samples(&json!({"resultType": "scalar", "result": [2, "x"]})).is_err());
    }

    #[test]
    fn a_matrix_is_series() {
        let matrix = json!({"resultType": "matrix", "result": [{"metric": {}, "values": [[1, "2"], [3, "4"]]}]});
        assert_eq!(series(&matrix).unwrap()[0].points, [(1.0, 2.0), (3.0, 4.0)]);
    }
}
