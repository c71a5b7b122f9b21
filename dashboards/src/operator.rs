//! *Operator*: actors, queues, API load, memory.

use crate::panel::{Dashboard, Row, Unit, bars, lines, q, stat};

const SECOND: &[(f64, &str)] = &[(1.0, "orange"), (5.0, "red")];

pub(crate) const OPERATOR: Dashboard = Dashboard {
    file: "operator",
    title: "DittoFS: operator",
    description: "Actors, queues, load on the APIs, memory",
    of_one_server: false,
    rows: &[
        Row {
            title: "The process",
            panels: &[
                stat(
                    "Version",
                    Unit::Label,
                    "Which operator this is. Nothing here: none is scraped.",
                    &[q("dittofs_operator_build_info{@}", "{{version}}")],
                )
                .kind(crate::panel::Kind::Words),
                stat(
                    "Runs since",
                    Unit::Seconds,
                    "Time since the process started. Often small: the pod restarts, `kubectl describe pod` says why.",
                    &[q("time() - process_start_time_seconds{@}", "")],
                ),
                stat(
                    "Watches that are filled",
                    Unit::Ratio,
                    "Part of the watched resources that were listed as a whole; nothing is done before all are. \
                     Less than 100 %: see watches below.",
                    &[q("avg(dittofs_operator_watch_synced{@})", "")],
                ),
                stat(
                    "Heartbeat",
                    Unit::Seconds,
                    "Time since the Supervisor's last heartbeat, two of which come each second. Above 10 s Kubernetes \
                     restarts the pod.",
                    &[q("max(dittofs_operator_heartbeat_age_seconds{@})", "")],
                )
                .steps(&[(2.0, "orange"), (10.0, "red")]),
                stat(
                    "Actors restarted, last hour",
                    Unit::Count,
                    "Actors that ended unasked, and jobs that panicked. Each is a bug: the log has the panic.",
                    &[
                        q("sum(increase(dittofs_operator_actor_restarts_total{@}[1h]))", "actors"),
                        q("sum(increase(dittofs_operator_job_panics_total{@}[1h]))", "jobs"),
                    ],
                )
                .steps(&[(0.5, "red")]),
                stat(
                    "Certificate expires in",
                    Unit::Seconds,
                    "Time left of the certificates of the operator and of the servers' APIs; nothing when there are none.",
                    &[q("dittofs_operator_certificate_expiry_timestamp_seconds{@} - time()", "{{purpose}}")],
                ),
                lines(
                    "Memory",
                    Unit::Bytes,
                    "Resident memory and the container's limit. Near the limit the kernel ends the process.",
                    &[
                        q("process_resident_memory_bytes{@}", "resident {{pod}}"),
                        q("dittofs_operator_memory_limit_bytes{@}", "limit {{pod}}"),
                    ],
                ),
                lines(
                    "CPU",
                    Unit::Count,
                    "Cores used by the process, and by the worker threads of its runtime out of so many. 200 quiet \
                     servers take about 1 % of a core.",
                    &[
                        q("rate(process_cpu_seconds_total{@}[$__rate_interval])", "process"),
                        q("rate(dittofs_operator_tokio_worker_busy_seconds_total{@}[$__rate_interval])", "workers busy"),
                        q("dittofs_operator_tokio_workers{@}", "workers"),
                    ],
                ),
                lines(
                    "Tasks, threads, files",
                    Unit::Count,
                    "They follow the number of servers. Growth without more servers is a leak. Tasks that wait: too \
                     little CPU.",
                    &[
                        q("dittofs_operator_tokio_alive_tasks{@}", "tasks"),
                        q("dittofs_operator_tokio_global_queue_depth{@}", "tasks that wait"),
                        q("process_threads{@}", "threads"),
                        q("process_open_fds{@}", "files"),
                    ],
                ),
            ],
        },
        Row {
            title: "Actors and queues",
            panels: &[
                lines(
                    "Reconciles",
                    Unit::PerSecond,
                    "By actor and outcome. `failed` is tried again with backoff; `panicked` is a bug.",
                    &[q(
                        "sum by (actor, outcome) (rate(dittofs_operator_reconcile_duration_seconds_count{@}[$__rate_interval])) > 0",
                        "{{actor}} {{outcome}}",
                    )],
                ),
                lines(
                    "Duration of reconciles",
                    Unit::Seconds,
                    "Without their waiting. Slow ones wait for the Kubernetes API.",
                    &[q(
                        "histogram_quantile(0.99, sum by (le, actor) (rate(dittofs_operator_reconcile_duration_seconds_bucket{@}[$__rate_interval])))",
                        "99 % of {{actor}}",
                    )],
                )
                .steps(SECOND),
                lines(
                    "Waiting before reconciles",
                    Unit::Seconds,
                    "From the first cause to the start of the work: mailbox, running predecessor and turn.",
                    &[q(
                        "histogram_quantile(0.99, sum by (le, actor) (rate(dittofs_operator_reconcile_queue_seconds_bucket{@}[$__rate_interval])))",
                        "99 % of {{actor}}",
                    )],
                )
                .steps(SECOND),
                lines(
                    "Why actors work",
                    Unit::PerSecond,
                    "Causes of reconciles. `object-changed` without anybody's change: somebody writes our objects again \
                     and again.",
                    &[q(
                        "sum by (cause) (rate(dittofs_operator_reconcile_causes_total{@}[$__rate_interval])) > 0",
                        "{{cause}}",
                    )],
                ),
                lines(
                    "Slots",
                    Unit::Count,
                    "Servers that an actor works on or waits for its turn with, and those for which it runs once more \
                     (dirty). High for long: the Kubernetes API is slow.",
                    &[
                        q("sum by (actor) (dittofs_operator_slots_running{@})", "{{actor}}"),
                        q("sum by (actor) (dittofs_operator_slots_dirty{@})", "{{actor}}, dirty"),
                    ],
                ),
                lines(
                    "Turns",
                    Unit::Seconds,
                    "How long jobs wait for their turn. `urgent` are Services.",
                    &[q(
                        "histogram_quantile(0.99, sum by (le, class) (rate(dittofs_operator_turn_wait_seconds_bucket{@}[$__rate_interval])))",
                        "99 % of {{class}}",
                    )],
                )
                .steps(SECOND),
                lines(
                    "Jobs and messages that wait",
                    Unit::Count,
                    "Jobs that wait for a turn, and messages in mailboxes. Handlers take microseconds: hundreds of \
                     messages for more than a moment mean that the actor thread is blocked.",
                    &[
                        q("sum by (class) (dittofs_operator_turns_waiting{@})", "jobs, {{class}}"),
                        q("sum by (actor) (dittofs_operator_mailbox_depth{@})", "messages to {{actor}}"),
                    ],
                )
                .steps(&[(300.0, "red")]),
                lines(
                    "Waiting in mailboxes",
                    Unit::Seconds,
                    "How long messages wait. Above some milliseconds the actor thread is blocked or gets no CPU.",
                    &[q(
                        "histogram_quantile(0.99, sum by (le, actor) (rate(dittofs_operator_mailbox_wait_seconds_bucket{@}[$__rate_interval])))",
                        "99 % of {{actor}}",
                    )],
                )
                .steps(&[(0.1, "orange"), (1.0, "red")]),
                bars(
                    "Restarts and panics",
                    "Actors that were started anew, and jobs that panicked. Six restarts within a minute end the \
                     process.",
                    &[
                        q(
                            "sum by (actor, why) (increase(dittofs_operator_actor_restarts_total{@}[$__rate_interval])) > 0",
                            "{{actor}} {{why}}",
                        ),
                        q(
                            "sum by (actor) (increase(dittofs_operator_job_panics_total{@}[$__rate_interval])) > 0",
                            "{{actor}}, job panicked",
                        ),
                    ],
                ),
            ],
        },
        Row {
            title: "Kubernetes API",
            panels: &[
                lines(
                    "Requests",
                    Unit::PerSecond,
                    "The load that we are to the API server, by verb and resource.",
                    &[q(
                        "sum by (verb, resource) (rate(dittofs_operator_kube_requests_total{@}[$__rate_interval])) > 0",
                        "{{verb}} {{resource}}",
                    )],
                ),
                lines(
                    "Refusals and failures",
                    Unit::PerSecond,
                    "403: RBAC; 429: priority and fairness; 5xx, timeout, unreachable: the API server. 404 on get and \
                     409 on update are part of the work.",
                    &[q(
                        r#"sum by (verb, resource, code, reason) (rate(dittofs_operator_kube_requests_total{@,code!~"[123].."}[$__rate_interval])) > 0"#,
                        "{{verb}} {{resource}}: {{code}} {{reason}}",
                    )],
                ),
                lines(
                    "Duration of requests",
                    Unit::Seconds,
                    "Above 1 s every change of ours is as late.",
                    &[q(
                        "histogram_quantile(0.99, sum by (le, verb) (rate(dittofs_operator_kube_request_duration_seconds_bucket{@}[$__rate_interval])))",
                        "99 % of {{verb}}",
                    )],
                )
                .steps(SECOND),
                bars(
                    "Conflicts and retries",
                    "Writes refused because the object had changed meanwhile, and further attempts within one reconcile. \
                     A steady rate: somebody writes our objects again and again.",
                    &[
                        q(
                            "sum by (resource) (increase(dittofs_operator_kube_conflicts_total{@}[$__rate_interval])) > 0",
                            "conflict on {{resource}}",
                        ),
                        q(
                            "sum by (resource) (increase(dittofs_operator_kube_retries_total{@}[$__rate_interval])) > 0",
                            "retry on {{resource}}",
                        ),
                    ],
                ),
                lines(
                    "Silence of watches",
                    Unit::Seconds,
                    "Time since the API server last answered a watch. Each is opened anew each 50 s: above 60 s the \
                     operator does not see changes.",
                    &[q("max by (resource) (dittofs_operator_watch_silence_seconds{@})", "{{resource}}")],
                )
                .steps(&[(60.0, "orange"), (120.0, "red")]),
                bars(
                    "Watches opened anew, and lists",
                    "`opened` is planned, each 50 s, and one list each ten minutes; the rest is trouble.",
                    &[
                        q(
                            "sum by (resource, why) (increase(dittofs_operator_watch_restarts_total{@}[$__rate_interval])) > 0",
                            "{{resource}} {{why}}",
                        ),
                        q(
                            "sum by (resource) (increase(dittofs_operator_relists_total{@}[$__rate_interval])) > 0",
                            "{{resource}} listed",
                        ),
                    ],
                ),
                lines(
                    "What watches tell",
                    Unit::PerSecond,
                    "Objects that changed. A high rate costs CPU: find who writes them.",
                    &[q(
                        "sum by (resource, type) (rate(dittofs_operator_watch_events_total{@}[$__rate_interval])) > 0",
                        "{{resource}} {{type}}",
                    )],
                ),
                bars(
                    "Events published",
                    "Kubernetes Events about DittoServers. `failed` or `dropped`: only the events are lost.",
                    &[q(
                        "sum by (type, outcome) (increase(dittofs_operator_events_published_total{@}[$__rate_interval])) > 0",
                        "{{type}} {{outcome}}",
                    )],
                ),
            ],
        },
        Row {
            title: "DittoFS API and traces",
            panels: &[
                lines(
                    "Requests to servers",
                    Unit::PerSecond,
                    "401 on a login: the Secrets do not hold what the server knows.",
                    &[q(
                        "sum by (operation, code) (rate(dittofs_operator_dittofs_requests_total{@}[$__rate_interval])) > 0",
                        "{{operation}}: {{code}}",
                    )],
                ),
                lines(
                    "Duration of requests to servers",
                    Unit::Seconds,
                    "To the end of the answer, by what was asked.",
                    &[q(
                        "histogram_quantile(0.99, sum by (le, operation) (rate(dittofs_operator_dittofs_request_duration_seconds_bucket{@}[$__rate_interval])))",
                        "99 % of {{operation}}",
                    )],
                )
                .steps(SECOND),
                bars(
                    "New tokens",
                    "`refused`: see the condition Authenticated. A steady rate of `logged-in`: servers forget their \
                     tokens.",
                    &[q(
                        "sum by (outcome) (increase(dittofs_operator_token_refreshes_total{@}[$__rate_interval])) > 0",
                        "{{outcome}}",
                    )],
                ),
                bars(
                    "Spans",
                    "Spans that the collector took, and those that were lost: then traces have holes, and nothing else \
                     suffers.",
                    &[
                        q("sum(increase(dittofs_operator_spans_exported_total{@}[$__rate_interval]))", "exported"),
                        q(
                            "sum by (reason) (increase(dittofs_operator_spans_dropped_total{@}[$__rate_interval])) > 0",
                            "lost: {{reason}}",
                        ),
                    ],
                ),
            ],
        },
    ],
};
