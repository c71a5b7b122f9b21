//! *Fleet*: is everything served, how late are we, what changed?

use crate::panel::{Dashboard, Kind, Panel, Row, Unit, bars, lines, q, stat};

const RED_ABOVE_0: &[(f64, &str)] = &[(1.0, "red")];
const ORANGE_ABOVE_0: &[(f64, &str)] = &[(1.0, "orange")];

pub(crate) const FLEET: Dashboard = Dashboard {
    file: "fleet",
    title: "DittoFS: fleet",
    description: "Is everything served, how late are we, what changed?",
    of_one_server: false,
    rows: &[
        Row {
            title: "Is everything served?",
            panels: &[
                stat(
                    "Servers",
                    Unit::Count,
                    "DittoServers that the operator knows. Nothing here: no operator is scraped, see the alert \
                     DittofsOperatorAbsent.",
                    &[q("sum(dittofs_operator_servers{@})", "")],
                ),
                stat(
                    "Servers that are not Ready",
                    Unit::Count,
                    "Servers whose condition Ready is not True. A server that starts is among them for a moment; \
                     `kubectl get dittoservers -A` says which, its conditions say why.",
                    &[q(r#"sum(dittofs_operator_servers_condition{@,condition="Ready",status!="True"})"#, "")],
                )
                .steps(ORANGE_ABOVE_0),
                stat(
                    "Adapters that run",
                    Unit::Count,
                    "Protocol adapters that run, by the last full answer of each server. A drop that nobody ordered: \
                     users of that protocol are cut off.",
                    &[q("sum by (type) (dittofs_operator_adapters_active{@})", "{{type}}")],
                ),
                stat(
                    "Services that are late",
                    Unit::Count,
                    "Adapters whose Service has lagged for more than three polling intervals: clients cannot reach what \
                     runs, or are led to a port where nothing does.",
                    &[q("sum(dittofs_operator_adapter_services_late{@})", "")],
                )
                .steps(RED_ABOVE_0),
                stat(
                    "Servers whose API fails",
                    Unit::Count,
                    "Servers whose last poll failed. Their Services stay as they are meanwhile.",
                    &[q("sum by (problem) (dittofs_operator_poll_failing{@})", "{{problem}}")],
                )
                .steps(ORANGE_ABOVE_0),
                stat(
                    "Reconciles that fail",
                    Unit::Count,
                    "Servers on which some actor's last reconcile failed; it is tried again with backoff.",
                    &[q("sum(dittofs_operator_reconcile_failing{@})", "")],
                )
                .steps(ORANGE_ABOVE_0),
                lines(
                    "Servers by phase",
                    Unit::Count,
                    "As in `.status.phase`. Failed: the spec is wrong or the pod cannot run; Pending for long: the pod \
                     does not come up.",
                    &[q("sum by (phase) (dittofs_operator_servers{@})", "{{phase}}")],
                )
                .kind(Kind::Areas),
                lines(
                    "Conditions that are not True",
                    Unit::Count,
                    "Servers by condition that is False or Unknown. PortsRolledOut is False while a change of ports is \
                     held back on purpose.",
                    &[q(
                        r#"sum by (condition, status) (dittofs_operator_servers_condition{@,status!="True",condition!~"Progressing|Warnings"})"#,
                        "{{condition}}={{status}}",
                    )],
                ),
                lines(
                    "Adapters that run, over time",
                    Unit::Count,
                    "When did which protocol go away, and did others go with it.",
                    &[q("sum by (type) (dittofs_operator_adapters_active{@})", "{{type}}")],
                ),
            ],
        },
        Row {
            title: "How late are we?",
            panels: &[
                lines(
                    "From a poll to the last write that it caused",
                    Unit::Seconds,
                    "From the start of a poll that found a change to the end of the last write. Users see the change up \
                     to one polling interval and this much later. Above some seconds, look at *Operator*: queues, turns, \
                     requests.",
                    &[
                        q(
                            "histogram_quantile(0.5, sum by (le, resource) (rate(dittofs_operator_poll_to_write_seconds_bucket{@}[$__rate_interval])))",
                            "half of {{resource}}",
                        ),
                        q(
                            "histogram_quantile(0.99, sum by (le, resource) (rate(dittofs_operator_poll_to_write_seconds_bucket{@}[$__rate_interval])))",
                            "99 % of {{resource}}",
                        ),
                    ],
                )
                .steps(&[(5.0, "orange"), (30.0, "red")]),
                lines(
                    "Longest lag of a Service",
                    Unit::Seconds,
                    "How long the Service that lags longest has lagged behind the adapters that were seen. 0 is as it \
                     should be.",
                    &[q("max(dittofs_operator_adapter_services_oldest_lag_seconds{@})", "longest lag")],
                )
                .steps(&[(30.0, "orange"), (90.0, "red")]),
                lines(
                    "Age of what we know",
                    Unit::Seconds,
                    "Age of the last full answer of the server that was heard longest ago, and how long polls have \
                     failed, by what is wrong. The first follows the polling interval when all is well.",
                    &[
                        q("max(dittofs_operator_oldest_observation_age_seconds{@})", "oldest answer"),
                        q("max by (problem) (dittofs_operator_poll_failing_oldest_seconds{@})", "failing: {{problem}}"),
                    ],
                )
                .steps(&[(120.0, "orange"), (600.0, "red")]),
                lines(
                    "Servers that were not heard for three intervals",
                    Unit::Count,
                    "With no server whose API fails, the poller itself is late: too little CPU.",
                    &[
                        q("sum(dittofs_operator_observations_late{@})", "not heard"),
                        q("sum(dittofs_operator_poll_failing{@})", "of these, at most: API fails"),
                    ],
                ),
                lines(
                    "Start of polls after their time",
                    Unit::Seconds,
                    "How much later than planned polls start. Above 0.1 s the process gets too little CPU.",
                    &[q(
                        "histogram_quantile(0.99, sum by (le) (rate(dittofs_operator_poll_lateness_seconds_bucket{@}[$__rate_interval])))",
                        "99 % of polls",
                    )],
                )
                .steps(&[(0.1, "orange"), (1.0, "red")]),
                lines(
                    "Duration of polls",
                    Unit::Seconds,
                    "How long servers take to answer, logins and all, by what came of it. A slow answer delays what \
                     follows from it by as much.",
                    &[q(
                        "histogram_quantile(0.99, sum by (le, result) (rate(dittofs_operator_poll_duration_seconds_bucket{@}[$__rate_interval])))",
                        "99 % of {{result}}",
                    )],
                )
                .steps(&[(1.0, "orange"), (5.0, "red")]),
            ],
        },
        Row {
            title: "What changed?",
            panels: &[
                bars(
                    "Writes",
                    "Writes that the Kubernetes API took, by resource and action. Nothing is written without a \
                     difference.",
                    &[q(
                        "sum by (resource, action) (increase(dittofs_operator_kube_writes_total{@}[$__rate_interval])) > 0",
                        "{{action}} {{resource}}",
                    )],
                ),
                bars(
                    "Why it was written",
                    "The same writes by the cause of the reconcile that made them: `adapters-observed` is a poll that \
                     found something, `server-changed` somebody's change of a DittoServer, `object-changed` the repair of \
                     what somebody else changed.",
                    &[q(
                        "sum by (reason) (increase(dittofs_operator_kube_writes_total{@}[$__rate_interval])) > 0",
                        "{{reason}}",
                    )],
                ),
                bars(
                    "Pod rollouts",
                    "Writes of a StatefulSet that made its pod roll, by cause. Each one cuts all NFS and SMB sessions of \
                     a server.",
                    &[q(
                        "sum by (cause) (increase(dittofs_operator_pod_rollouts_total{@}[$__rate_interval])) > 0",
                        "{{cause}}",
                    )],
                ),
                bars(
                    "What polls found",
                    "Polls by result. `unchanged` is the quiet one; everything but it and `changed` is a failure.",
                    &[q(
                        "sum by (result) (increase(dittofs_operator_poll_duration_seconds_count{@}[$__rate_interval])) > 0",
                        "{{result}}",
                    )],
                ),
                bars(
                    "Drift that was repaired",
                    "Fields of ours that somebody else had changed and that were set back, by who owned them. Again and \
                     again: two managers fight, see the alert DittofsDriftFought.",
                    &[q(
                        "sum by (resource, manager) (increase(dittofs_operator_drift_repaired_total{@}[$__rate_interval])) > 0",
                        "{{resource}}, changed by {{manager}}",
                    )],
                ),
                lines(
                    "Port rollouts that are held back",
                    Unit::Count,
                    "Servers whose new container ports wait for the pod's next rollout. Not bad in itself: ports are \
                     information. It sets off the stock alert KubeStatefulSetUpdateNotRolledOut, see \
                     docs/runbooks/DittofsPortRolloutHeld.md.",
                    &[q("sum(dittofs_operator_held_port_rollouts{@})", "held back")],
                ),
            ],
        },
        Row {
            title: "Which server? (needs --metrics-per-server)",
            panels: &[
                Panel {
                    kind: Kind::Servers,
                    title: "Servers and their phase",
                    description: "One line a server. Its name leads to *One server* and to its traces in Jaeger. Only \
                                  with --metrics-per-server.",
                    unit: Unit::Label,
                    width: 12,
                    steps: &[],
                    queries: &[q("dittofs_operator_server_phase{@} == 1", "")],
                },
                Panel {
                    kind: Kind::Servers,
                    title: "Servers with something wrong",
                    description: "Servers by what is False: Ready, Available, ConfigReady, Authenticated, \
                                  AdaptersDiscovered. Empty is good. Only with --metrics-per-server.",
                    unit: Unit::Label,
                    width: 12,
                    steps: &[],
                    queries: &[q(
                        r#"dittofs_operator_server_condition{@,status="False",condition=~"Ready|Available|ConfigReady|Authenticated|AdaptersDiscovered"} == 1"#,
                        "",
                    )],
                },
            ],
        },
    ],
};
