//! `spec.metrics.serviceMonitor`: an interval that Prometheus reads.

use crate::crd::rules;
use crate::reconcile::ServiceMonitorSettings;
use crate::reconcile::problem::{Field, Reader};

pub(super) fn read(read: &mut Reader, spec: &Field<'_>) -> ServiceMonitorSettings {
    // That metrics is an object is noted by whoever reads the rest of it.
    let metrics = spec.child("metrics");
    let monitor = if metrics.value.is_some_and(serde_json::Value::is_object) {
        read.object(&metrics, "serviceMonitor")
    } else {
        Field { path: String::new(), value: None }
    };
    let interval =
        read.optional_text(&monitor.child("interval"), rules::PROMETHEUS_DURATION_REMEDY, is_prometheus_duration);
    ServiceMonitorSettings {
        enabled: read.boolean(&monitor.child("enabled"), false),
        interval: interval.filter(|interval| !interval.is_empty()),
        labels: read.map(&monitor.child("labels")),
    }
}

/// Numbers with units, each unit at most once and the largest first; `0` and nothing at all, too.
fn is_prometheus_duration(text: &str) -> bool {
    const UNITS: [&str; 7] = ["y", "w", "d", "h", "m", "s", "ms"];
    if text == "0" {
        return true;
    }
    let (mut rest, mut next) = (text, 0);
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let unit = rest[digits..].len() - rest[digits..].trim_start_matches(|c: char| c.is_ascii_lowercase()).len();
        let found = UNITS[next..].iter().position(|known| *known == &rest[digits..digits + unit]);
        match found {
            Some(place) if digits > 0 => next += place + 1,
            _ => return false,
        }
        rest = &rest[digits + unit..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::is_prometheus_duration;

    #[test]
    fn an_interval_is_a_prometheus_duration() {
        for good in ["", "0", "30s", "1m", "1h30m", "500ms", "1y2w3d4h5m6s7ms", "90m"] {
            assert!(is_prometheus_duration(good), "{good}");
        }
        for bad in ["30", "s", "1.5m", "30s1m", "1m1m", "-30s", "30 s", "1µs", "30S", "often", "00"] {
            assert!(!is_prometheus_duration(bad), "{bad}");
        }
    }
}
