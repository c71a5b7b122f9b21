//! The alerts: few, on symptoms, each with a runbook page of its name in `docs/runbooks/`.
//!
//! Durations in expressions and in `for` are scaled together, so that a test can see in minutes what takes an hour.
//! An expression writes such a duration as `<10m>`: within brackets it is a range, elsewhere a number of seconds.
//! Thresholds that follow from a pace of the operator's own (a watch is opened anew each 50 s) are plain numbers.
//!
//! There is no alert "no leader" yet: there is no Lease yet.

use crate::REPOSITORY;

/// Who is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Users are cut off, or nothing works for them any more: now.
    Critical,
    /// Somebody has to look, today.
    Warning,
    /// Nobody; it silences another alert.
    Info,
}

impl Severity {
    /// The value of label `severity`, as the stock rules of kube-prometheus have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// One alert.
#[derive(Debug)]
pub struct Alert {
    /// Its name, and that of its runbook page.
    pub name: &'static str,
    /// Who is told.
    pub severity: Severity,
    /// PromQL with `<10m>` for durations that are scaled.
    pub source: &'static str,
    /// Seconds that it must hold before it fires.
    pub hold: u64,
    /// One line, with labels and value filled in.
    pub summary: &'static str,
    /// What users notice and where to look first.
    pub description: &'static str,
}

const MINUTE: u64 = 60;

/// All of them.
pub const ALERTS: &[Alert] = &[
    Alert {
        name: "DittofsOperatorAbsent",
        severity: Severity::Critical,
        source: "absent(dittofs_operator_build_info)",
        hold: 5 * MINUTE,
        summary: "No DittoFS operator is scraped.",
        description: "Running file servers go on, but no change of an adapter, a DittoServer or a Secret is followed. \
                      Either the operator does not run or Prometheus does not find it.",
    },
    Alert {
        name: "DittofsAdapterServiceLate",
        severity: Severity::Critical,
        source: "max by (namespace, job) (dittofs_operator_adapter_services_late) > 0",
        hold: MINUTE,
        summary: "{{ $value }} adapter Services have lagged for more than three polling intervals.",
        description: "Clients cannot reach an adapter that runs, or are led to a port where none does. The operator has \
                      seen the adapters and could not write the Services.",
    },
    Alert {
        name: "DittofsServerApiFailing",
        severity: Severity::Warning,
        source: "max by (namespace, job, problem) (dittofs_operator_poll_failing_oldest_seconds) > <10m>",
        hold: MINUTE,
        summary: "The API of a DittoFS server has failed for {{ $value | humanizeDuration }} ({{ $labels.problem }}).",
        description: "Its Services stay as they were: an adapter that starts has no Service, one that stops keeps it. \
                      unreachable: no answer; refused: the operator cannot log in; bad-answer: not a list of adapters.",
    },
    Alert {
        name: "DittofsReconcileFailing",
        severity: Severity::Warning,
        source: "max by (namespace, job, actor) (dittofs_operator_reconcile_failing_oldest_seconds) > <10m>",
        hold: MINUTE,
        summary: "{{ $labels.actor }} has failed on a server for {{ $value | humanizeDuration }}.",
        description: "What that actor keeps (Services, StatefulSet, configuration or status) does not follow for that \
                      server. The server's events and conditions say what is refused.",
    },
    Alert {
        name: "DittofsDriftFought",
        severity: Severity::Warning,
        source: "sum by (namespace, job, resource, manager) (increase(dittofs_operator_drift_repaired_total[<10m>])) > 0",
        hold: 30 * MINUTE,
        summary: "{{ $labels.manager }} changes our {{ $labels.resource }} again and again.",
        description: "Somebody writes fields that the operator keeps, it sets them back, and so on. Between the two \
                      writes clients meet the other's values.",
    },
    Alert {
        name: "DittofsActorRestarts",
        severity: Severity::Warning,
        source: "sum by (namespace, job, actor) (increase(dittofs_operator_actor_restarts_total[<15m>])) > 2 \
                 or sum by (namespace, job, actor) (increase(dittofs_operator_job_panics_total[<15m>])) > 2",
        hold: 0,
        summary: "{{ $labels.actor }} ended unasked or panicked {{ $value | humanize }} times.",
        description: "A bug. It is healed each time, but the server that sets it off is followed late or not at all. Six \
                      restarts within a minute end the process.",
    },
    Alert {
        name: "DittofsWatchStale",
        severity: Severity::Warning,
        source: "max by (namespace, job, resource) (dittofs_operator_watch_silence_seconds) > 120",
        hold: MINUTE,
        summary: "The operator has heard nothing of {{ $labels.resource }} for {{ $value | humanizeDuration }}.",
        description: "Changes of these objects are not seen. Each watch is opened anew each 50 s: the API server, the \
                      network between, or RBAC.",
    },
    Alert {
        name: "DittofsNearMemoryLimit",
        severity: Severity::Warning,
        source: "max by (namespace, job, pod) (process_resident_memory_bytes / dittofs_operator_memory_limit_bytes) > 0.9",
        hold: 15 * MINUTE,
        summary: "The operator uses {{ $value | humanizePercentage }} of the memory that it may take.",
        description: "Soon the kernel ends the process. It comes back and repairs what was missed, but may end again.",
    },
    Alert {
        name: "DittofsCertificateExpiring",
        severity: Severity::Warning,
        source: "min by (namespace, job, purpose) (dittofs_operator_certificate_expiry_timestamp_seconds) - time() < 604800",
        hold: 60 * MINUTE,
        summary: "The certificate for {{ $labels.purpose }} expires in {{ $value | humanizeDuration }}.",
        description: "After that, whoever asks the operator over TLS refuses it: no metrics, or no changes of DittoServers \
                      where a webhook asks it; with a certificate of a server's API, its adapters are not followed.",
    },
    Alert {
        name: "DittofsPortRolloutHeld",
        severity: Severity::Info,
        source: r#"max by (namespace, statefulset) (kube_statefulset_annotations{annotation_dittofs_io_held_template!=""} or label_replace(label_replace(dittofs_operator_server_held_port_rollout == 1, "namespace", "$1", "server_namespace", "(.*)"), "statefulset", "$1", "server", "(.*)"))"#,
        hold: 0,
        summary: "{{ $labels.namespace }}/{{ $labels.statefulset }}: a change of container ports waits for the pod's next rollout.",
        description: "On purpose: nothing is wrong. It is there to inhibit the stock alert KubeStatefulSetUpdateNotRolledOut, \
                      which takes a held-back revision for a rollout that is stuck; the runbook has Alertmanager's rule.",
    },
];

impl Alert {
    /// The expression with each scaled duration divided by `factor`, at least one second.
    pub fn expr(&self, factor: u64) -> String {
        let mut expr = String::new();
        let mut rest = self.source;
        while let Some((before, after)) = rest.split_once('<') {
            expr.push_str(before);
            let found = after.split_once('>').and_then(|(word, rest)| Some((seconds(word)?, rest)));
            let Some((seconds, after)) = found else {
                expr.push('<');
                rest = after;
                continue;
            };
            let scaled = (seconds / factor).max(1);
            expr.push_str(&if expr.ends_with('[') { duration(scaled) } else { scaled.to_string() });
            rest = after;
        }
        expr + rest
    }

    /// `for`, divided by `factor`.
    pub fn hold(&self, factor: u64) -> String {
        duration(self.hold.div_ceil(factor))
    }

    /// Where its page is, in the repository.
    pub fn runbook(&self) -> String {
        format!("docs/runbooks/{}.md", self.name)
    }

    /// Where its page is, for who is called.
    pub fn runbook_url(&self) -> String {
        format!("{REPOSITORY}/blob/main/{}", self.runbook())
    }
}

/// `10m` in seconds; `None` when it is no such word.
fn seconds(word: &str) -> Option<u64> {
    let (number, unit) = word.split_at_checked(word.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => MINUTE,
        "h" => 60 * MINUTE,
        _ => return None,
    };
    Some(number.parse::<u64>().ok()? * unit)
}

fn duration(seconds: u64) -> String {
    match seconds {
        0 => "0s".to_owned(),
        _ if seconds.is_multiple_of(60 * MINUTE) => format!("{}h", seconds / (60 * MINUTE)),
        _ if seconds.is_multiple_of(MINUTE) => format!("{}m", seconds / MINUTE),
        _ => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_scaled_and_nothing_else_is() {
        let alert =
            |source| Alert { name: "", severity: Severity::Info, source, hold: 1800, summary: "", description: "" };
        assert_eq!(alert("rate(a[<10m>]) > <1h> < 7").expr(1), "rate(a[10m]) > 3600 < 7");
        assert_eq!(alert("rate(a[<10m>]) > <1h> < 7").expr(60), "rate(a[10s]) > 60 < 7");
        assert_eq!((alert("").hold(1), alert("").hold(60)), ("30m".to_owned(), "30s".to_owned()));
    }
}
