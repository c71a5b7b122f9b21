//! Every metric, in one table: name, type, unit, labels, meaning, and what to do when it is bad.
//!
//! Owns: the names. Touches nothing. Guarantees: what is registered, what `docs/metrics.md` says and what dashboards and
//! alerts may use is this table; a test compares it with what `/metrics` really serves, in both directions.
//!
//! Rules: base units (seconds, bytes); `_total` on counters; ages and lags are computed when scraped, so that a thing
//! that no longer happens shows as one that grows; no label takes a value from a user's object, but for
//! `server_namespace` and `server` of the series that `--metrics-per-server` adds.

/// What a metric is to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// It only grows; zero at the start of the process.
    Counter,
    /// A value of now.
    Gauge,
    /// `_bucket`, `_sum` and `_count`.
    Histogram,
    /// Always 1; the labels are what it says.
    Info,
}

impl MetricKind {
    /// As `# TYPE` has it in OpenMetrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

/// The unit that the name ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricUnit {
    /// A number of things, or none.
    None,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

impl MetricUnit {
    /// The word in the name; empty for none.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
        }
    }
}

/// A label and what it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelDef {
    /// Its name.
    pub name: &'static str,
    /// All its values; empty where the set is not ours to list.
    pub values: &'static [&'static str],
    /// What it says, where the values do not say it themselves.
    pub meaning: &'static str,
}

/// Who is given the series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// Everybody who asks for metrics.
    Always,
    /// Whoever started the operator with `--metrics-per-server`.
    PerServer,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricDef {
    /// The full name as a query has it; a histogram without `_bucket`.
    pub name: &'static str,
    /// Its type.
    pub kind: MetricKind,
    /// Its unit.
    pub unit: MetricUnit,
    /// Its labels, in the order in which they are served.
    pub labels: &'static [LabelDef],
    /// When it is served.
    pub served: Served,
    /// What it counts or says.
    pub help: &'static str,
    /// What is bad, and what to do then.
    pub when_bad: &'static str,
}

const fn label(name: &'static str, values: &'static [&'static str], meaning: &'static str) -> LabelDef {
    LabelDef { name, values, meaning }
}

/// Values of `actor` for the five that work on one server.
pub const WORKERS: &[&str] =
    &["config-hasher", "adapter-poller", "service-reconciler", "port-reconciler", "status-reporter"];
/// Values of `actor` for those that the Supervisor starts anew.
pub const ACTORS: &[&str] =
    &["config-hasher", "adapter-poller", "service-reconciler", "port-reconciler", "status-reporter", "cr-watcher"];
/// Values of `actor` for those that reconcile by single flight.
pub const RECONCILERS: &[&str] = &["config-hasher", "service-reconciler", "port-reconciler", "status-reporter"];
/// Values of `outcome` of a reconcile.
pub const OUTCOMES: &[&str] = &["settled", "deferred", "failed", "panicked"];
/// Values of `cause`.
pub const CAUSES: &[&str] = &[
    "start",
    "server-changed",
    "object-changed",
    "secret-changed",
    "config-hashed",
    "adapters-observed",
    "fact",
    "resync",
    "retry",
    "poll",
];
/// Values of `result` of a poll.
pub const POLL_RESULTS: &[&str] = &[
    "unchanged",
    "changed",
    "unreachable",
    "timeout",
    "unauthorized",
    "forbidden",
    "bad-answer",
    "admin-unauthorized",
    "admin-secret-missing",
    "vault",
    "tls-secret",
    "tls-untrusted",
    "tls-expired",
    "tls-wrong-name",
    "tls-client-certificate",
    "tls-not-spoken",
    "tls-failed",
    "panicked",
];
/// Values of `problem` of a server whose polls fail.
pub const PROBLEMS: &[&str] = &["unreachable", "refused", "bad-answer"];
/// Values of `phase`.
pub const PHASES: &[&str] = &["Pending", "Running", "Failed", "Stopped", "Deleting"];
/// Values of `condition`.
pub const CONDITIONS: &[&str] = &[
    "Ready",
    "Available",
    "ConfigReady",
    "DatabaseReady",
    "Progressing",
    "Authenticated",
    "AdaptersDiscovered",
    "PortsRolledOut",
    "Warnings",
    "VolumesReady",
    "SnapshotPoliciesApplied",
];
/// Values of `status` of a condition.
pub const TRUTHS: &[&str] = &["True", "False", "Unknown"];
/// Values of `resource` of what is watched.
pub const WATCHED: &[&str] = &[
    "dittoservers",
    "statefulsets",
    "services",
    "configmaps",
    "secrets",
    "networkpolicies",
    "servicemonitors",
    "pods",
    "persistentvolumeclaims",
];
/// Values of `resource` of what is asked of the Kubernetes API.
pub const RESOURCES: &[&str] = &[
    "dittoservers",
    "statefulsets",
    "services",
    "configmaps",
    "secrets",
    "networkpolicies",
    "servicemonitors",
    "pods",
    "persistentvolumeclaims",
    "storageclasses",
    "events",
    "discovery",
    "perconapgclusters",
];
/// Values of `resource` of what is written.
pub const WRITTEN: &[&str] = &[
    "dittoservers",
    "statefulsets",
    "services",
    "configmaps",
    "secrets",
    "networkpolicies",
    "servicemonitors",
    "perconapgclusters",
    "persistentvolumeclaims",
];
/// Values of `verb`.
pub const VERBS: &[&str] = &["get", "list", "watch", "create", "update", "patch", "delete"];
/// Values of `action` of a write.
pub const ACTIONS: &[&str] = &["create", "update", "patch", "delete"];
/// Values of `reason` of an answer of the Kubernetes API.
pub const REASONS: &[&str] = &[
    "",
    "AlreadyExists",
    "BadRequest",
    "Conflict",
    "Expired",
    "Forbidden",
    "Gone",
    "InternalError",
    "Invalid",
    "NotFound",
    "ServerTimeout",
    "ServiceUnavailable",
    "Timeout",
    "TooManyRequests",
    "Unauthorized",
    "other",
];
/// Values of `manager` of a field that somebody else wrote.
pub const MANAGERS: &[&str] = &["kubectl", "helm", "argocd", "flux", "kustomize", "kubernetes", "other", "unknown"];
/// Values of `operation` of a request to a DittoFS server.
pub const OPERATIONS: &[&str] = &[
    "list-adapters",
    "login",
    "admin-login",
    "refresh",
    "create-account",
    "reset-password",
    "health",
    "count-shares",
    "nfs-settings",
    "list-policies",
    "put-policy",
    "delete-account",
];
/// Values of `outcome` of getting new tokens.
pub const TOKEN_OUTCOMES: &[&str] = &["refreshed", "logged-in", "refused", "failed"];
/// Values of `type` of an adapter.
pub const ADAPTERS: &[&str] = &["nfs", "smb", "other"];
/// Values of `reason` of a lost span.
pub const SPAN_LOSSES: &[&str] = &["queue-full", "export-failed", "undecided"];
/// Values of `why` of a restart.
pub const ENDS: &[&str] = &["panicked", "ended"];
/// Values of `type` of an Event.
pub const EVENT_TYPES: &[&str] = &["Normal", "Warning"];
/// Values of `outcome` of publishing one.
pub const EVENT_OUTCOMES: &[&str] = &["published", "failed", "dropped"];
/// Values of `type` of what a watch told.
pub const WATCH_EVENT_TYPES: &[&str] = &["applied", "deleted"];
/// Values of `why` of a watch that was opened anew or failed.
pub const WATCH_WHYS: &[&str] =
    &["opened", "ended-early", "refused", "unreachable", "timeout", "expired", "malformed", "crd-missing"];
/// Values of `purpose` of a certificate.
pub const PURPOSES: &[&str] = &["webhook", "metrics", "api", "api-client"];
/// Those of them that are certificates of servers.
pub const SERVER_PURPOSES: [&str; 2] = ["api", "api-client"];
/// Values of `result` of a server's polls.
pub const SERVER_RESULTS: &[&str] = &["unchanged", "changed", "failed"];
/// Values of `operation` of a review.
pub const REVIEWED: &[&str] = &["create", "update", "other"];
/// Values of `verdict` of a review.
pub const VERDICTS: &[&str] = &["nothing", "allowed", "refused", "unknown", "busy", "unreadable"];
/// Values of `purpose` of a certificate that is read again.
pub const RELOADED: &[&str] = &["webhook"];
/// Values of `outcome` of reading one.
pub const RELOAD_OUTCOMES: &[&str] = &["loaded", "failed"];
/// Values of `class` of a turn.
pub const TURNS: &[&str] = &["urgent", "other"];

const ACTOR_OF_FIVE: LabelDef = label("actor", WORKERS, "");
const ACTOR_OF_SIX: LabelDef = label("actor", ACTORS, "");
const ACTOR: LabelDef = label("actor", RECONCILERS, "");
const CAUSE: LabelDef = label("cause", CAUSES, "why it was done");
const WATCHED_RESOURCE: LabelDef = label("resource", WATCHED, "");
const KUBE_RESOURCE: LabelDef = label("resource", RESOURCES, "");
const WRITTEN_RESOURCE: LabelDef = label("resource", WRITTEN, "");
const VERB: LabelDef = label("verb", VERBS, "");
const KUBE_CODE: LabelDef =
    label("code", &[], "HTTP status; without an answer `timeout`, `unreachable` or `malformed`");
const KUBE_REASON: LabelDef = label("reason", REASONS, "`reason` of the API server's Status; empty on success");
const DITTOFS_OPERATION: LabelDef = label("operation", OPERATIONS, "");
const DITTOFS_CODE: LabelDef =
    label("code", &[], "HTTP status; without a whole answer `timeout`, `unreachable`, `broken` or `too-large`");
const TURN: LabelDef = label("class", TURNS, "`urgent`: Services, `other`: the rest");
const PROBLEM: LabelDef = label(
    "problem",
    PROBLEMS,
    "`unreachable`: no answer; `refused`: the server or its Secrets do not let us in; `bad-answer`: no list of adapters",
);
const SERVER: [LabelDef; 2] =
    [label("server_namespace", &[], "namespace of the DittoServer"), label("server", &[], "name of the DittoServer")];

const fn row(
    name: &'static str,
    kind: MetricKind,
    unit: MetricUnit,
    labels: &'static [LabelDef],
    help: &'static str,
    when_bad: &'static str,
) -> MetricDef {
    MetricDef { name, kind, unit, labels, served: Served::Always, help, when_bad }
}

const fn per_server(
    name: &'static str,
    kind: MetricKind,
    unit: MetricUnit,
    labels: &'static [LabelDef],
    help: &'static str,
    when_bad: &'static str,
) -> MetricDef {
    MetricDef { name, kind, unit, labels, served: Served::PerServer, help, when_bad }
}

macro_rules! table {
    ($($constant:ident = $row:expr;)*) => {
        $(#[doc = concat!("Row `", stringify!($constant), "`.")] pub const $constant: MetricDef = $row;)*
        /// All rows, in the order of the reference page.
        pub const TABLE: &[MetricDef] = &[$($constant),*];
    };
}

use MetricKind::{Counter, Gauge, Histogram, Info};
use MetricUnit::{Bytes, None as Plain, Seconds};

table! {
    // What users get: servers, adapters, lateness.
    SERVERS = row("dittofs_operator_servers", Gauge, Plain, &[label("phase", PHASES, "as in `.status.phase`")],
        "DittoServers by phase",
        "`Failed`: the spec is invalid; `Pending` for long: the pod does not come up. `kubectl get dittoservers -A`, then the conditions of the one that stands out.");
    SERVERS_CONDITION = row("dittofs_operator_servers_condition", Gauge, Plain,
        &[label("condition", CONDITIONS, "as in `.status.conditions`"), label("status", TRUTHS, "")],
        "DittoServers by condition and its status",
        "`kubectl get dittoservers -A -o wide` and `kubectl describe` say which server and why, in words.");
    ADAPTERS_ACTIVE = row("dittofs_operator_adapters_active", Gauge, Plain, &[label("type", ADAPTERS, "")],
        "Adapters that run, by the last full answer of each server",
        "A drop that nobody ordered: a server lost its adapters; its own log says why.");
    ADAPTER_SERVICES_LATE = row("dittofs_operator_adapter_services_late", Gauge, Plain, &[],
        "Adapters whose Service has lagged behind the observed adapters for more than three polling intervals",
        "Users cannot mount, or are led to a dead port. Look at kube_requests_total for refusals, then at the server's events.");
    ADAPTER_SERVICES_OLDEST_LAG = row("dittofs_operator_adapter_services_oldest_lag_seconds", Gauge, Seconds, &[],
        "How long the Service that lags longest has lagged behind the observed adapters; 0 when all follow",
        "See adapter_services_late.");
    OLDEST_OBSERVATION = row("dittofs_operator_oldest_observation_age_seconds", Gauge, Seconds, &[],
        "Age of the last full answer of the server that was heard longest ago, over all that are polled; 0 when none is",
        "What the operator believes of that server is this old. Its condition AdaptersDiscovered says why.");
    OBSERVATIONS_LATE = row("dittofs_operator_observations_late", Gauge, Plain, &[],
        "Servers that are polled and have given no full answer for more than three polling intervals",
        "With poll_failing at 0 the poller itself is late: look at turns, tokio and the CPU limit. Else see poll_failing.");
    POLL_FAILING = row("dittofs_operator_poll_failing", Gauge, Plain, &[PROBLEM],
        "Servers whose last poll failed, by what is wrong",
        "`unreachable`: pod, Service or NetworkPolicy; `refused`: the credentials Secrets; `bad-answer`: the server's version or health. Services stay as they are meanwhile.");
    POLL_FAILING_OLDEST = row("dittofs_operator_poll_failing_oldest_seconds", Gauge, Seconds, &[PROBLEM],
        "How long the polls of the server that fails longest have failed; 0 when none does",
        "See poll_failing.");
    HELD_PORT_ROLLOUTS = row("dittofs_operator_held_port_rollouts", Gauge, Plain, &[],
        "Servers whose new container ports are held back from the running pod until its next rollout",
        "Not bad in itself: the ports are information. `kubectl rollout restart` or onPortChange: Immediate rolls them.");
    POD_ROLLOUTS = row("dittofs_operator_pod_rollouts_total", Counter, Plain, &[CAUSE],
        "Writes of a StatefulSet that made its pod roll",
        "Each one cut all NFS and SMB sessions of a server. The log line `replaced the StatefulSet` says what differed.");

    // Polls.
    POLL_DURATION = row("dittofs_operator_poll_duration_seconds", Histogram, Seconds,
        &[label("result", POLL_RESULTS, "`unchanged` and `changed` are full answers; the others are failures")],
        "Duration of a poll of one server, logins and all, by its result",
        "Slow answers delay every change by as much. Ask the server itself: `time curl …/api/v1/adapters`.");
    POLL_LATENESS = row("dittofs_operator_poll_lateness_seconds", Histogram, Seconds, &[],
        "How much later than planned a poll started",
        "Above 0.1 s the process gets too little CPU, or its runtime is blocked: see the tokio metrics.");
    POLL_TO_WRITE = row("dittofs_operator_poll_to_write_seconds", Histogram, Seconds,
        &[label("resource", &["services", "statefulsets"], "")],
        "From the start of a poll that found a change to the end of the last write that it caused",
        "The promise is one polling cycle. Compare poll_duration, reconcile_queue, turn_wait and kube_request_duration: one of them holds the time.");

    // Actors.
    RECONCILE_DURATION = row("dittofs_operator_reconcile_duration_seconds", Histogram, Seconds,
        &[ACTOR, label("outcome", OUTCOMES, "`deferred`: it comes again by itself after a set time; `failed`: it is tried again with backoff")],
        "Duration of a reconcile without its waiting, by actor and outcome",
        "`failed`: see reconcile_failing. Slow: see kube_request_duration.");
    RECONCILE_QUEUE = row("dittofs_operator_reconcile_queue_seconds", Histogram, Seconds, &[ACTOR],
        "From the first cause of a reconcile to the start of its work: mailbox, running predecessor and turn",
        "Work piles up: see slots, turns_waiting and kube_request_duration.");
    RECONCILE_CAUSES = row("dittofs_operator_reconcile_causes_total", Counter, Plain, &[ACTOR, CAUSE],
        "Causes that asked an actor for a reconcile; several can share one run",
        "A steady rate of `object-changed` without anybody's change: somebody writes our objects again and again.");
    RECONCILE_FAILING = row("dittofs_operator_reconcile_failing", Gauge, Plain, &[ACTOR],
        "Servers whose last reconcile by this actor failed",
        "The server's events and conditions say what; kube_requests_total by code says whether all fail alike.");
    RECONCILE_FAILING_OLDEST = row("dittofs_operator_reconcile_failing_oldest_seconds", Gauge, Seconds, &[ACTOR],
        "How long the reconcile that fails longest has failed; 0 when none does",
        "See reconcile_failing.");
    SLOTS_RUNNING = row("dittofs_operator_slots_running", Gauge, Plain, &[ACTOR],
        "Servers on which this actor works or waits for its turn",
        "High for long: the Kubernetes API is slow, or turns are too few.");
    SLOTS_DIRTY = row("dittofs_operator_slots_dirty", Gauge, Plain, &[ACTOR],
        "Servers for which a cause came while the actor was at work, so that it runs once more",
        "High for long: changes come faster than they are worked off.");
    TURNS_WAITING = row("dittofs_operator_turns_waiting", Gauge, Plain, &[TURN],
        "Jobs that wait for their turn",
        "Normal for seconds after a start; for longer the Kubernetes API is slow.");
    TURN_WAIT = row("dittofs_operator_turn_wait_seconds", Histogram, Seconds, &[TURN],
        "How long a job waited for its turn",
        "See turns_waiting.");
    MAILBOX_DEPTH = row("dittofs_operator_mailbox_depth", Gauge, Plain, &[ACTOR_OF_FIVE],
        "Messages that were sent to this actor and not handled yet, over all servers",
        "Handlers take microseconds: more than a few hundred for more than a moment means that the actor thread is blocked.");
    MAILBOX_WAIT = row("dittofs_operator_mailbox_wait_seconds", Histogram, Seconds, &[ACTOR_OF_FIVE],
        "How long a message waited in a mailbox",
        "See mailbox_depth.");
    ACTOR_RESTARTS = row("dittofs_operator_actor_restarts_total", Counter, Plain,
        &[ACTOR_OF_SIX, label("why", ENDS, "")],
        "Actors that ended unasked and were started anew",
        "A bug: report the panic in the log. Six within a minute end the process.");
    JOB_PANICS = row("dittofs_operator_job_panics_total", Counter, Plain, &[ACTOR_OF_FIVE],
        "Jobs (a reconcile, a poll) that panicked; the actor lives on and tries again",
        "A bug: report the panic in the log.");
    HEARTBEAT_AGE = row("dittofs_operator_heartbeat_age_seconds", Gauge, Seconds, &[],
        "Time since the Supervisor's last heartbeat; it beats twice a second",
        "Above 10 s /healthz fails and Kubernetes restarts the pod: the actor thread is blocked.");

    // Kubernetes.
    KUBE_REQUESTS = row("dittofs_operator_kube_requests_total", Counter, Plain,
        &[VERB, KUBE_RESOURCE, KUBE_CODE, KUBE_REASON],
        "Requests to the Kubernetes API by what became of them",
        "403: RBAC (`dittofs-operator rbac`); 429: priority and fairness; 5xx, `timeout`, `unreachable`: the API server. 404 on get and 409 on update are part of the work.");
    KUBE_REQUEST_DURATION = row("dittofs_operator_kube_request_duration_seconds", Histogram, Seconds,
        &[VERB, KUBE_RESOURCE],
        "Duration of a request to the Kubernetes API; of a watch, and of a list in pages, to the head of the answer",
        "Above 1 s the API server or the way to it is slow; every change of ours is as late.");
    KUBE_WRITES = row("dittofs_operator_kube_writes_total", Counter, Plain,
        &[WRITTEN_RESOURCE, label("action", ACTIONS, ""), label("reason", CAUSES, "the cause of the reconcile that wrote")],
        "Writes that the Kubernetes API took",
        "Nothing is written without a difference: a steady rate means that somebody else writes, see drift_repaired_total.");
    KUBE_CONFLICTS = row("dittofs_operator_kube_conflicts_total", Counter, Plain, &[WRITTEN_RESOURCE],
        "Writes refused because the object had changed meanwhile; it is read again",
        "A few are normal after a change by others; a steady rate: somebody writes our objects again and again.");
    KUBE_RETRIES = row("dittofs_operator_kube_retries_total", Counter, Plain, &[WRITTEN_RESOURCE],
        "Further attempts within one reconcile, after a conflict or a write that another one overtook",
        "See kube_conflicts_total.");
    DRIFT_REPAIRED = row("dittofs_operator_drift_repaired_total", Counter, Plain,
        &[WRITTEN_RESOURCE, label("manager", MANAGERS, "who owned the field that differed, by `managedFields`; `unknown` when nobody does, as of one that was taken out")],
        "Fields of ours that somebody else had changed and that were set back",
        "Again and again: two managers fight. `kubectl get … -o yaml --show-managed-fields` names the other; take the field out of its manifest, or change the DittoServer instead.");
    EVENTS_PUBLISHED = row("dittofs_operator_events_published_total", Counter, Plain,
        &[label("type", EVENT_TYPES, ""), label("outcome", EVENT_OUTCOMES, "`dropped`: it waited too long for its turn")],
        "Kubernetes Events about DittoServers",
        "`failed` or `dropped`: the events API is slow or refuses; nothing but the events is lost.");

    // Watches.
    WATCH_EVENTS = row("dittofs_operator_watch_events_total", Counter, Plain,
        &[WATCHED_RESOURCE, label("type", WATCH_EVENT_TYPES, "")],
        "Objects that a watch told of",
        "A high rate costs CPU: find who writes those objects.");
    WATCH_RESTARTS = row("dittofs_operator_watch_restarts_total", Counter, Plain,
        &[WATCHED_RESOURCE, label("why", WATCH_WHYS, "`opened`: as planned, each 50 s; `refused`: an error of the API server")],
        "Watches that were opened anew, or failed and are tried again",
        "`refused` with 403: RBAC; `expired`: the API server lost the version, a new list heals it; `crd-missing`: install the CRD.");
    RELISTS = row("dittofs_operator_relists_total", Counter, Plain, &[WATCHED_RESOURCE],
        "Complete lists that were taken in, the first one among them",
        "One each ten minutes is planned; more: see watch_restarts_total.");
    WATCH_SILENCE = row("dittofs_operator_watch_silence_seconds", Gauge, Seconds, &[WATCHED_RESOURCE],
        "Time since the API server last answered this watch: an object, a list, or its opening (each 50 s)",
        "Above 60 s the operator does not see changes of that resource: the API server, the network, or RBAC.");
    WATCH_SYNCED = row("dittofs_operator_watch_synced", Gauge, Plain, &[WATCHED_RESOURCE],
        "1 once the resource was listed as a whole, or, of a kind that can be done without, was found not to be served; nothing is done before",
        "0: see watch_restarts_total; /readyz says the same.");

    // The servers' API.
    DITTOFS_REQUESTS = row("dittofs_operator_dittofs_requests_total", Counter, Plain, &[DITTOFS_OPERATION, DITTOFS_CODE],
        "Requests to DittoFS servers by what became of them",
        "401 on `login` or `admin-login`: the Secrets do not hold what the server knows.");
    DITTOFS_REQUEST_DURATION = row("dittofs_operator_dittofs_request_duration_seconds", Histogram, Seconds, &[DITTOFS_OPERATION],
        "Duration of a request to a DittoFS server, to the end of its answer",
        "See poll_duration_seconds.");
    TOKEN_REFRESHES = row("dittofs_operator_token_refreshes_total", Counter, Plain,
        &[label("outcome", TOKEN_OUTCOMES, "`refreshed`: by the refresh token; `logged-in`: by the password")],
        "Attempts to get new tokens from a server",
        "`refused`: see the condition Authenticated. A steady rate of `logged-in`: the server forgets its tokens.");

    // Telemetry itself.
    SPANS_EXPORTED = row("dittofs_operator_spans_exported_total", Counter, Plain, &[],
        "Spans that the collector took",
        "It stands still with an endpoint set: see spans_dropped_total.");
    SPANS_DROPPED = row("dittofs_operator_spans_dropped_total", Counter, Plain,
        &[label("reason", SPAN_LOSSES, "`queue-full`: before the collector; `undecided`: too many traces under way")],
        "Spans that were lost",
        "Traces have holes; nothing else suffers. The collector is slow or down: the log has one line a minute about it; check the OTEL_EXPORTER_OTLP_* variables.");
    CERTIFICATE_EXPIRY = row("dittofs_operator_certificate_expiry_timestamp_seconds", Gauge, Seconds,
        &[label("purpose", PURPOSES, "`webhook`, `metrics`: the operator's own; `api`: shown by a server's API; `api-client`: shown to one")],
        "When a certificate expires, the first of a purpose, in seconds since 1970; no series without one",
        "Renew it: `- time()` says how long is left.");

    CERTIFICATE_RELOADS = row("dittofs_operator_certificate_reloads_total", Counter, Plain,
        &[label("purpose", RELOADED, ""), label("outcome", RELOAD_OUTCOMES, "")],
        "Times that a mounted certificate of the operator had changed and was read",
        "`failed`: the old one is kept; the log says what is wrong with the new one. See certificate_expiry_timestamp_seconds.");

    // The optional webhook.
    ADMISSION_REVIEWS = row("dittofs_operator_admission_reviews_total", Counter, Plain,
        &[label("operation", REVIEWED, ""), label("verdict", VERDICTS, "`nothing`: there was nothing to decide; `unknown`: let through, though not all could be looked at; `busy`, `unreadable`: not answered")],
        "Reviews that the admission webhook was asked for; none without --webhook",
        "`unknown` or `busy`: the Kubernetes API is slow, see kube_request_duration_seconds; nothing is refused meanwhile. `unreadable`: somebody else asks.");
    ADMISSION_DURATION = row("dittofs_operator_admission_duration_seconds", Histogram, Seconds,
        &[label("verdict", VERDICTS, "")],
        "Duration of a review, to its answer",
        "Near 3 s look-ups are given up; whoever changes a DittoServer waits as long.");

    // The process.
    BUILD = row("dittofs_operator_build_info", Info, Plain, &[label("version", &[], "of the operator")],
        "Always 1: which operator this is",
        "Absent: the operator does not run, or is not scraped.");
    MEMORY_LIMIT = row("dittofs_operator_memory_limit_bytes", Gauge, Bytes, &[],
        "Memory that the container may take; no series without a limit",
        "process_resident_memory_bytes near it: raise the limit before the kernel kills the process.");
    TOKIO_WORKERS = row("dittofs_operator_tokio_workers", Gauge, Plain, &[],
        "Worker threads of the runtime", "It is fixed.");
    TOKIO_ALIVE_TASKS = row("dittofs_operator_tokio_alive_tasks", Gauge, Plain, &[],
        "Tasks that were started and have not ended",
        "It follows the number of servers; growth without more servers is a leak: report it.");
    TOKIO_GLOBAL_QUEUE = row("dittofs_operator_tokio_global_queue_depth", Gauge, Plain, &[],
        "Tasks that wait for a worker thread",
        "Above 100 for long: the process gets too little CPU.");
    TOKIO_BUSY = row("dittofs_operator_tokio_worker_busy_seconds_total", Counter, Seconds, &[],
        "Time that all worker threads together were busy",
        "A rate near tokio_workers: the process gets too little CPU, or works too much.");
    PROCESS_CPU = row("process_cpu_seconds_total", Counter, Seconds, &[],
        "CPU time of the process, user and system",
        "200 quiet servers take about 1 % of a core; more: see kube_requests_total and watch_events_total.");
    PROCESS_RESIDENT = row("process_resident_memory_bytes", Gauge, Bytes, &[],
        "Resident memory of the process", "See memory_limit_bytes.");
    PROCESS_VIRTUAL = row("process_virtual_memory_bytes", Gauge, Bytes, &[],
        "Virtual memory of the process", "No limit is set on it.");
    PROCESS_OPEN_FDS = row("process_open_fds", Gauge, Plain, &[],
        "Open file descriptors", "Near process_max_fds new connections fail; it follows the number of servers.");
    PROCESS_MAX_FDS = row("process_max_fds", Gauge, Plain, &[],
        "Most file descriptors that may be open", "See process_open_fds.");
    PROCESS_THREADS = row("process_threads", Gauge, Plain, &[],
        "Threads of the process", "It is fixed, but for a few that resolve names.");
    PROCESS_START = row("process_start_time_seconds", Gauge, Seconds, &[],
        "When the process started, in seconds since 1970",
        "It changes often: the pod restarts; `kubectl describe pod` says why.");

    // One server, on request.
    SERVER_PHASE = per_server("dittofs_operator_server_phase", Gauge, Plain,
        &[SERVER[0], SERVER[1], label("phase", PHASES, "")],
        "1 for the phase that the server is in", "See servers.");
    SERVER_CONDITION = per_server("dittofs_operator_server_condition", Gauge, Plain,
        &[SERVER[0], SERVER[1], label("condition", CONDITIONS, ""), label("status", TRUTHS, "")],
        "1 for the status that each condition of the server has", "See servers_condition.");
    SERVER_ADAPTERS = per_server("dittofs_operator_server_adapters_active", Gauge, Plain,
        &[SERVER[0], SERVER[1], label("type", ADAPTERS, "")],
        "Adapters of the server that run", "See adapters_active.");
    SERVER_POLLING_INTERVAL = per_server("dittofs_operator_server_polling_interval_seconds", Gauge, Seconds, &SERVER,
        "Period of the server's polls; no series while it is not polled", "As its spec says.");
    SERVER_OBSERVATION_AGE = per_server("dittofs_operator_server_observation_age_seconds", Gauge, Seconds, &SERVER,
        "Age of the server's last full answer; no series while it is not polled", "See oldest_observation_age_seconds.");
    SERVER_POLLS = per_server("dittofs_operator_server_polls_total", Counter, Plain,
        &[SERVER[0], SERVER[1], label("result", SERVER_RESULTS, "")],
        "Polls of the server", "See poll_failing.");
    SERVER_POLL_DURATION = per_server("dittofs_operator_server_last_poll_duration_seconds", Gauge, Seconds, &SERVER,
        "Duration of the server's last poll", "See poll_duration_seconds.");
    SERVER_POLL_FAILING = per_server("dittofs_operator_server_poll_failing_seconds", Gauge, Seconds, &[SERVER[0], SERVER[1], PROBLEM],
        "How long the server's polls have failed; no series when they do not", "See poll_failing.");
    SERVER_SERVICES_LAG = per_server("dittofs_operator_server_adapter_services_lag_seconds", Gauge, Seconds, &SERVER,
        "How long the server's Services have lagged behind its adapters; 0 when they follow", "See adapter_services_late.");
    SERVER_POLL_TO_WRITE = per_server("dittofs_operator_server_last_poll_to_write_seconds", Gauge, Seconds, &SERVER,
        "From the start of the server's last poll that found a change to the last write that it caused",
        "See poll_to_write_seconds.");
    SERVER_HELD = per_server("dittofs_operator_server_held_port_rollout", Gauge, Plain, &SERVER,
        "1 while a change of container ports is held back from the server's pod", "See held_port_rollouts.");
    SERVER_ROLLOUTS = per_server("dittofs_operator_server_pod_rollouts_total", Counter, Plain, &SERVER,
        "Writes of the server's StatefulSet that made its pod roll", "See pod_rollouts_total.");
    SERVER_WRITES = per_server("dittofs_operator_server_writes_total", Counter, Plain,
        &[SERVER[0], SERVER[1], WRITTEN_RESOURCE],
        "Writes for the server that the Kubernetes API took", "See kube_writes_total.");
    SERVER_RECONCILE_FAILING = per_server("dittofs_operator_server_reconcile_failing_seconds", Gauge, Seconds,
        &[SERVER[0], SERVER[1], ACTOR],
        "How long the server's reconcile by this actor has failed; no series when it does not", "See reconcile_failing.");
}
