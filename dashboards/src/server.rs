//! *One server*: polls, adapters, Services, ports, rollouts.
//!
//! Most of it needs the series of `--metrics-per-server`. Without them the last two rows still answer: the server's
//! traces (its name can be typed), and what the whole fleet did meanwhile.

use crate::panel::{Dashboard, Kind, Panel, Row, Unit, bars, lines, q, stat};

pub(crate) const SERVER: Dashboard = Dashboard {
    file: "server",
    title: "DittoFS: one server",
    description: "Polls, adapters, Services, ports and rollouts of one server, and its traces",
    of_one_server: true,
    rows: &[
        Row {
            title: "$namespace/$server now",
            panels: &[
                stat(
                    "Phase",
                    Unit::Label,
                    "As in `.status.phase`. Only with --metrics-per-server.",
                    &[q("dittofs_operator_server_phase{@server} == 1", "{{phase}}")],
                )
                .kind(Kind::Words),
                stat(
                    "Conditions that are not True",
                    Unit::Label,
                    "`kubectl describe dittoserver` says why, in words. PortsRolledOut is False while a change of ports \
                     is held back on purpose. Only with --metrics-per-server.",
                    &[q(
                        r#"dittofs_operator_server_condition{@server,status!="True",condition!~"Progressing|Warnings"} == 1"#,
                        "{{condition}}={{status}}",
                    )],
                )
                .kind(Kind::Words)
                .wide(8),
                stat(
                    "Adapters that run",
                    Unit::Count,
                    "By the server's last full answer. Only with --metrics-per-server.",
                    &[q("dittofs_operator_server_adapters_active{@server}", "{{type}}")],
                ),
                stat(
                    "Lag of its Services",
                    Unit::Seconds,
                    "How long its Services have lagged behind its adapters; 0 when they follow. Only with \
                     --metrics-per-server.",
                    &[q("dittofs_operator_server_adapter_services_lag_seconds{@server}", "")],
                )
                .steps(&[(30.0, "orange"), (90.0, "red")]),
                stat(
                    "Ports held back",
                    Unit::Count,
                    "1 while new container ports wait for the pod's next rollout. Only with --metrics-per-server.",
                    &[q("dittofs_operator_server_held_port_rollout{@server}", "")],
                )
                .steps(&[(1.0, "blue")]),
            ],
        },
        Row {
            title: "Polls",
            panels: &[
                bars(
                    "Polls",
                    "What its polls found. Only with --metrics-per-server.",
                    &[q(
                        "sum by (result) (increase(dittofs_operator_server_polls_total{@server}[$__rate_interval])) > 0",
                        "{{result}}",
                    )],
                ),
                lines(
                    "Age of its last answer, in polling intervals",
                    Unit::Count,
                    "Below about 1 all is well; above 3 what the operator believes of the server is old. Only with \
                     --metrics-per-server.",
                    &[q(
                        "dittofs_operator_server_observation_age_seconds{@server} / dittofs_operator_server_polling_interval_seconds{@server}",
                        "intervals",
                    )],
                )
                .steps(&[(3.0, "red")]),
                lines(
                    "Duration and failure of polls",
                    Unit::Seconds,
                    "How long its last poll took, and for how long its polls have failed, by what is wrong. Only with \
                     --metrics-per-server.",
                    &[
                        q("dittofs_operator_server_last_poll_duration_seconds{@server}", "last poll"),
                        q("dittofs_operator_server_poll_failing_seconds{@server}", "failing: {{problem}}"),
                    ],
                ),
            ],
        },
        Row {
            title: "Adapters and Services",
            panels: &[
                lines(
                    "Adapters",
                    Unit::Count,
                    "When did which adapter come or go? Only with --metrics-per-server.",
                    &[q("dittofs_operator_server_adapters_active{@server}", "{{type}}")],
                ),
                lines(
                    "Delay",
                    Unit::Seconds,
                    "How long its Services lag, and how long the last change took from the poll's start to its last \
                     write. Only with --metrics-per-server.",
                    &[
                        q("dittofs_operator_server_adapter_services_lag_seconds{@server}", "lag"),
                        q("dittofs_operator_server_last_poll_to_write_seconds{@server}", "last change"),
                    ],
                )
                .steps(&[(90.0, "red")]),
                bars(
                    "Writes",
                    "What was written for it, by resource. The traces say what differed. Only with \
                     --metrics-per-server.",
                    &[q(
                        "sum by (resource) (increase(dittofs_operator_server_writes_total{@server}[$__rate_interval])) > 0",
                        "{{resource}}",
                    )],
                ),
            ],
        },
        Row {
            title: "Ports and rollouts",
            panels: &[
                bars(
                    "Rollouts of its pod",
                    "Each one cut all its NFS and SMB sessions. Only with --metrics-per-server.",
                    &[q("increase(dittofs_operator_server_pod_rollouts_total{@server}[$__rate_interval])", "rollouts")],
                ),
                lines(
                    "Ports held back, over time",
                    Unit::Count,
                    "1 while new container ports wait for the pod's next rollout. Only with --metrics-per-server.",
                    &[q("dittofs_operator_server_held_port_rollout{@server}", "held back")],
                ),
                lines(
                    "Reconciles that fail",
                    Unit::Seconds,
                    "How long its reconcile by each actor has failed; nothing is good. Only with --metrics-per-server.",
                    &[q("dittofs_operator_server_reconcile_failing_seconds{@server}", "{{actor}}")],
                )
                .steps(&[(600.0, "red")]),
            ],
        },
        Row {
            title: "Its traces",
            panels: &[
                Panel {
                    kind: Kind::Traces,
                    title: "Traces",
                    description: "What happened to the server: each trace is one cause and all that followed from it. \
                                  Polls that found nothing new have none.",
                    unit: Unit::Label,
                    width: 12,
                    steps: &[],
                    queries: &[q(r#"dittofs.server="$namespace/$server""#, "")],
                },
                Panel {
                    kind: Kind::Traces,
                    title: "Traces of removals",
                    description: "Why did a Service go away? The trace begins with what the operator saw and ends in the \
                                  DELETE.",
                    unit: Unit::Label,
                    width: 12,
                    steps: &[],
                    queries: &[q(r#"dittofs.server="$namespace/$server" dittofs.decision=delete"#, "")],
                },
            ],
        },
        Row {
            title: "The whole fleet meanwhile",
            panels: &[
                bars(
                    "Polls of all servers",
                    "Is it this server alone? The same results here mean that all suffer alike.",
                    &[q(
                        "sum by (result) (increase(dittofs_operator_poll_duration_seconds_count{@}[$__rate_interval])) > 0",
                        "{{result}}",
                    )],
                ),
                lines(
                    "From a poll to the last write, all servers",
                    Unit::Seconds,
                    "Is the operator late for everybody? The promise is one polling cycle.",
                    &[q(
                        "histogram_quantile(0.99, sum by (le, resource) (rate(dittofs_operator_poll_to_write_seconds_bucket{@}[$__rate_interval])))",
                        "99 % of {{resource}}",
                    )],
                ),
                lines(
                    "Failures of all servers",
                    Unit::Count,
                    "Servers whose API fails, and servers on which a reconcile fails.",
                    &[
                        q("sum by (problem) (dittofs_operator_poll_failing{@})", "API: {{problem}}"),
                        q("sum by (actor) (dittofs_operator_reconcile_failing{@})", "{{actor}}"),
                    ],
                ),
            ],
        },
    ],
};
