//! The contract of names: every span and every attribute that the operator exports. `docs/tracing.md` is made of it,
//! and a test holds what a run exports against it.

use std::fmt::Write as _;

use opentelemetry_semantic_conventions::attribute as semconv;

/// Longest attribute value of ours, in bytes; a longer one is cut and ends in `…`.
pub const DIFF_MAX: usize = 1024;

/// Values of `dittofs.decision` that say that nothing had to be done: a trace with only these is not exported.
pub const QUIET_DECISIONS: [&str; 3] = ["nothing", "unchanged", "wait"];

macro_rules! attributes {
    ($($variant:ident, $key:expr, $type:literal, $meaning:literal;)+) => {
        /// An attribute of the contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Attribute {
            $(#[doc = $meaning] $variant,)+
        }

        impl Attribute {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The key at the backend.
            pub const fn key(self) -> &'static str {
                match self { $(Self::$variant => $key,)+ }
            }

            /// Type of its values.
            pub const fn value_type(self) -> &'static str {
                match self { $(Self::$variant => $type,)+ }
            }

            /// What it says.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }
        }
    };
}

attributes! {
    Server, "dittofs.server", "string", "The DittoServer that the trace is about, `namespace/name`; on every span.";
    Cause, "dittofs.cause", "string", "Why the work was done: `start`, `server-changed`, `object-changed`, `secret-changed`, `config-hashed`, `adapters-observed`, `fact`, `resync`, `retry`, `poll`.";
    Actor, "dittofs.actor", "string", "The actor that did it.";
    Decision, "dittofs.decision", "string", "What was decided. `nothing`, `unchanged` and `wait` are the quiet ones; others: `observed`, `provisioned`, `hashed`, `create`, `update`, `delete`, `status`, `start`, `stop`, `restart`, `finalizer`, `cleaned`, `release`, `paused`, `not-owned`, `deferred`, `applied`, `allowed`, `refused`. Several in one run are joined by commas, in this order.";
    Diff, "dittofs.diff", "string", "What differed or was done, in words; at most 1,024 bytes.";
    MailboxTime, "dittofs.queue.mailbox_ms", "double", "Milliseconds between the sending of the first message that caused the work and its handling. Not part of the span's duration.";
    SlotTime, "dittofs.queue.slot_ms", "double", "Milliseconds that it then waited for the run before it to end. Not part of the span's duration.";
    TurnTime, "dittofs.queue.turn_ms", "double", "Milliseconds that it then waited for its turn among the jobs of all servers. Not part of the span's duration.";
    Coalesced, "dittofs.coalesced", "int", "How many causes were answered by this run; those beyond the first are links.";
    Attempt, "dittofs.attempt", "int", "On an event: which attempt of the run met it, counted from 1.";
    Object, "dittofs.object", "string", "The Kubernetes object, `resource/name`; its namespace is `k8s.namespace.name`.";
    WatchEvent, "dittofs.watch.event", "string", "What the watch brought: `changed` or `resync`.";
    Reason, "dittofs.kube.reason", "string", "The API server's reason for a refusal, such as `Conflict`.";
    Operation, "dittofs.operation", "string", "What the call to the DittoFS API is for, such as `login`.";
    Namespace, semconv::K8S_NAMESPACE_NAME, "string", "Namespace of the object that was asked for or written.";
    Method, semconv::HTTP_REQUEST_METHOD, "string", "HTTP method.";
    Status, semconv::HTTP_RESPONSE_STATUS_CODE, "int", "HTTP status; absent when no answer came.";
    ServerAddress, semconv::SERVER_ADDRESS, "string", "Host that was called.";
    ServerPort, semconv::SERVER_PORT, "int", "Port that was called.";
    UrlFull, semconv::URL_FULL, "string", "URL that was called; it never holds credentials.";
    UrlTemplate, semconv::URL_TEMPLATE, "string", "Path that was called, with names in place of values.";
    ErrorType, semconv::ERROR_TYPE, "string", "Static label of what went wrong: `panic`, `timeout`, `conflict`, a status code, an error category.";
}

/// One span of the contract.
#[derive(Clone, Copy, Debug)]
pub struct SpanSpec {
    /// Its name; a part in braces stands for one of few values.
    pub name: &'static str,
    /// OpenTelemetry's kind.
    pub kind: &'static str,
    /// Whether it can begin a trace.
    pub root: bool,
    /// What it spans.
    pub meaning: &'static str,
    /// What it carries beyond `dittofs.server`; `error.type` can be on any.
    pub attributes: &'static [Attribute],
}

const WORK: &[Attribute] = &[
    Attribute::Cause,
    Attribute::Actor,
    Attribute::Decision,
    Attribute::Diff,
    Attribute::MailboxTime,
    Attribute::SlotTime,
    Attribute::TurnTime,
    Attribute::Coalesced,
];

/// All spans.
pub const SPANS: &[SpanSpec] = &[
    SpanSpec {
        name: "poll adapters",
        kind: "internal",
        root: true,
        meaning: "AdapterPoller asked the server for its adapters, with all logins that this took, and compared the answer with the last one. Exported when the answer was new or the poll failed.",
        attributes: &[Attribute::Cause, Attribute::Actor, Attribute::Decision, Attribute::Diff],
    },
    SpanSpec {
        name: "administer",
        kind: "internal",
        root: true,
        meaning: "AdapterPoller opened a short session as the server's administrator, for the snapshot policies and the NFS adapter's settings. Exported when something was applied or read anew, or it failed.",
        attributes: &[Attribute::Cause, Attribute::Actor, Attribute::Decision, Attribute::Diff],
    },
    SpanSpec {
        name: "watch {resource}",
        kind: "internal",
        root: true,
        meaning: "The Supervisor took in what a watch brought about an object of the server and told the actors that it concerns.",
        attributes: &[
            Attribute::Cause,
            Attribute::WatchEvent,
            Attribute::Decision,
            Attribute::Diff,
            Attribute::MailboxTime,
        ],
    },
    SpanSpec {
        name: "restart actor",
        kind: "internal",
        root: true,
        meaning: "The Supervisor started an actor anew that had ended; an error when it had panicked.",
        attributes: &[Attribute::Actor, Attribute::Decision, Attribute::Diff],
    },
    SpanSpec {
        name: "hash config",
        kind: "internal",
        root: true,
        meaning: "ConfigHasher rendered the configuration, kept ConfigMap and generated Secrets, and computed the hash.",
        attributes: WORK,
    },
    SpanSpec {
        name: "reconcile services",
        kind: "internal",
        root: true,
        meaning: "ServiceReconciler compared the server's Services with what they have to be, and wrote those that differ.",
        attributes: WORK,
    },
    SpanSpec {
        name: "reconcile ports",
        kind: "internal",
        root: true,
        meaning: "PortReconciler compared the StatefulSet with what it has to be, and wrote it when it differs.",
        attributes: WORK,
    },
    SpanSpec {
        name: "report status",
        kind: "internal",
        root: true,
        meaning: "StatusReporter derived `.status` from the facts of the others and wrote it when it differs.",
        attributes: WORK,
    },
    SpanSpec {
        name: "set finalizer",
        kind: "internal",
        root: true,
        meaning: "The Supervisor set the operator's finalizer on a DittoServer that lacked it.",
        attributes: &[Attribute::Decision, Attribute::Diff],
    },
    SpanSpec {
        name: "clean up",
        kind: "internal",
        root: true,
        meaning: "AdapterPoller removed the operator's account at a server that is being deleted, or tried to.",
        attributes: &[Attribute::Cause, Attribute::Actor, Attribute::Decision, Attribute::Diff],
    },
    SpanSpec {
        name: "release finalizer",
        kind: "internal",
        root: true,
        meaning: "The Supervisor took the operator's finalizer off a DittoServer that is being deleted.",
        attributes: &[Attribute::Decision, Attribute::Diff],
    },
    SpanSpec {
        name: "admit",
        kind: "server",
        root: true,
        meaning: "The admission webhook looked at a change of a DittoServer and let it through or refused it.",
        attributes: &[Attribute::Namespace, Attribute::Decision, Attribute::Diff],
    },
    SpanSpec {
        name: "kube {method} {resource}",
        kind: "client",
        root: false,
        meaning: "One request to the Kubernetes API for one object. Writes carry `dittofs.decision`.",
        attributes: &[
            Attribute::Method,
            Attribute::Status,
            Attribute::Namespace,
            Attribute::Object,
            Attribute::ServerAddress,
            Attribute::ServerPort,
            Attribute::UrlTemplate,
            Attribute::Decision,
            Attribute::Diff,
            Attribute::Reason,
        ],
    },
    SpanSpec {
        name: "dittofs {method} {path}",
        kind: "client",
        root: false,
        meaning: "One request to the DittoFS API; it carries the trace in `traceparent`.",
        attributes: &[
            Attribute::Method,
            Attribute::Status,
            Attribute::ServerAddress,
            Attribute::ServerPort,
            Attribute::UrlFull,
            Attribute::UrlTemplate,
            Attribute::Operation,
        ],
    },
];

/// One event on a span.
#[derive(Clone, Copy, Debug)]
pub struct EventSpec {
    /// Its name.
    pub name: &'static str,
    /// What it tells.
    pub meaning: &'static str,
    /// What it carries.
    pub attributes: &'static [Attribute],
}

/// Name of the event of a retry.
pub const RETRY: &str = "retry";

/// All events on spans; the log lines of a run are no events.
pub const EVENTS: &[EventSpec] = &[EventSpec {
    name: RETRY,
    meaning: "A write was refused because the object had changed; it is read again and planned anew.",
    attributes: &[Attribute::Attempt, Attribute::Object, Attribute::ErrorType, Attribute::Diff],
}];

/// The specification of a span of this name.
pub fn span_of(name: &str) -> Option<&'static SpanSpec> {
    SPANS.iter().find(|spec| {
        let fixed = spec.name.split('{').next().unwrap_or_default();
        if spec.name.contains('{') { name.starts_with(fixed) } else { name == spec.name }
    })
}

/// The reference page, as Markdown.
pub fn markdown() -> String {
    let mut page = String::from(include_str!("tracing_intro.md"));
    page.push_str("\n## Spans\n\n| span | kind | begins a trace | what it spans |\n|---|---|---|---|\n");
    for span in SPANS {
        let root = if span.root { "yes" } else { "no" };
        let _ = writeln!(page, "| `{}` | {} | {root} | {} |", span.name, span.kind, span.meaning);
    }
    page.push_str(
        "\n## Attributes of each span\n\n`dittofs.server` is on every span; `error.type` on every one that failed.\n\n",
    );
    for span in SPANS {
        let keys: Vec<String> = span.attributes.iter().map(|key| format!("`{}`", key.key())).collect();
        let _ = writeln!(page, "- `{}`: {}", span.name, keys.join(", "));
    }
    page.push_str("\n## Events on spans\n\n| event | what it tells | attributes |\n|---|---|---|\n");
    for event in EVENTS {
        let keys: Vec<String> = event.attributes.iter().map(|key| format!("`{}`", key.key())).collect();
        let _ = writeln!(page, "| `{}` | {} | {} |", event.name, event.meaning, keys.join(", "));
    }
    page.push_str("\n## Attributes\n\n| attribute | type | meaning |\n|---|---|---|\n");
    for attribute in Attribute::ALL {
        let _ = writeln!(page, "| `{}` | {} | {} |", attribute.key(), attribute.value_type(), attribute.meaning());
    }
    page
}
