//! The messages. Each carries its cause and the trace that it belongs to, never a copy of a Kubernetes object; a fact
//! that exists nowhere else (a hash, an observation) carries its value, and the newest replaces the one before.

use std::fmt;
use std::sync::Arc;

use actix::prelude::*;
use tokio::time::Instant;

use crate::reconcile::deletion::{Attempt, Duty};
use crate::reconcile::percona::DatabaseFact;
use crate::reconcile::stateful_set::HashInput;
use crate::reconcile::status::{ConfigFact, PollFact, PortsFact, ServicesFact, SnapshotsFact, VolumesFact};
use crate::reconcile::{NfsPorts, ObservedAdapter, ServerKey};
use crate::telemetry::TraceContext;
use crate::telemetry::metrics::{Metrics, Posted};

/// Why something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CauseKind {
    /// The family was started.
    Start,
    /// The DittoServer changed.
    ServerChanged,
    /// An object that it owns changed.
    ObjectChanged,
    /// A Secret that it names changed.
    SecretChanged,
    /// ConfigHasher computed a hash.
    ConfigHashed,
    /// A poll brought something new.
    AdaptersObserved,
    /// Something to report.
    Fact,
    /// The full resync.
    Resync,
    /// An attempt before this one failed.
    Retry,
    /// The polling interval, or the backoff of a poll, is over.
    Poll,
}

impl CauseKind {
    /// Of several causes that one run answers, the one with the highest rank is what the run is traced to: news
    /// before looks, looks before repetition.
    pub fn rank(self) -> u8 {
        match self {
            Self::AdaptersObserved | Self::Poll => 5,
            Self::ServerChanged | Self::SecretChanged => 4,
            Self::ConfigHashed | Self::Fact => 3,
            Self::ObjectChanged | Self::Start => 2,
            Self::Retry => 1,
            Self::Resync => 0,
        }
    }

    /// Static label for logs and spans.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::ServerChanged => "server-changed",
            Self::ObjectChanged => "object-changed",
            Self::SecretChanged => "secret-changed",
            Self::ConfigHashed => "config-hashed",
            Self::AdaptersObserved => "adapters-observed",
            Self::Fact => "fact",
            Self::Resync => "resync",
            Self::Retry => "retry",
            Self::Poll => "poll",
        }
    }
}

/// A cause and its place in a trace: the trace goes where the message goes, since actix carries none.
#[derive(Clone, Debug)]
pub struct Cause {
    /// What happened.
    pub kind: CauseKind,
    /// Where.
    pub trace: TraceContext,
    /// When; what follows may have to wait.
    pub at: Instant,
    /// Counted as waiting in a mailbox, while it does.
    pub mail: Mail,
}

/// That a message is on its way; a copy is not.
#[derive(Debug, Default)]
pub struct Mail {
    _posted: Option<Posted>,
}

impl Clone for Mail {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Cause {
    /// A cause in the current span.
    pub fn here(kind: CauseKind) -> Self {
        Self::of(kind, TraceContext::current())
    }

    /// The same, on its way to an actor.
    #[must_use]
    pub fn to(&self, metrics: &Metrics, role: Role) -> Self {
        Self { mail: Mail { _posted: Some(metrics.posted(role)) }, ..self.clone() }
    }

    /// The same, handled.
    #[must_use]
    pub fn delivered(self) -> Self {
        Self { mail: Mail::default(), ..self }
    }

    /// A cause at a place in a trace.
    pub fn of(kind: CauseKind, trace: TraceContext) -> Self {
        Self { kind, trace, at: Instant::now(), mail: Mail::default() }
    }
}

/// Something about the server changed: look again.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Poke(pub Cause);

/// ConfigHasher to PortReconciler: what the template's hash has to be.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct ConfigHashed {
    /// `metadata.generation` of the spec that was hashed.
    pub generation: i64,
    /// The hash, or that it is held.
    pub hash: HashInput,
    /// Why.
    pub cause: Cause,
}

/// AdapterPoller to PortReconciler and ServiceReconciler: a full, valid answer of the server.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct AdaptersObserved {
    /// Sorted by type.
    pub adapters: Arc<Vec<ObservedAdapter>>,
    /// The further ports of the NFS adapter; None while they are not known.
    pub nfs: Option<NfsPorts>,
    /// Start of the poll that found them changed; None when they are only told again.
    pub polled_at: Option<Instant>,
    /// Why.
    pub cause: Cause,
}

/// Any worker to StatusReporter.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Report {
    /// What was found or done.
    pub fact: Fact,
    /// Why.
    pub cause: Cause,
}

/// What StatusReporter gathers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// From ConfigHasher.
    Config(ConfigFact),
    /// From ConfigHasher: the database that Percona's operator runs; None when there is none.
    Database(Option<DatabaseFact>),
    /// From AdapterPoller: the result of the last poll.
    Poll(PollFact),
    /// From AdapterPoller: the adapters of the last valid answer.
    Adapters(Arc<Vec<ObservedAdapter>>),
    /// From PortReconciler.
    Ports(PortsFact),
    /// From PortReconciler: claims that cannot grow.
    Volumes(VolumesFact),
    /// From ServiceReconciler.
    Services(ServicesFact),
    /// From a worker: what its last run would have written, were the server not paused, in words.
    Held(Role, Vec<String>),
    /// From the Supervisor: what its deletion waits for, in words.
    Deletion(String),
    /// From AdapterPoller: what became of the snapshot policies.
    Snapshots(SnapshotsFact),
    /// From whoever wrote an object: what changed, in words.
    Changed(String),
    /// From a writer: which fields of its objects are fought over, in words.
    Fought(Role, Vec<String>),
}

/// Whoever listens to you is new and knows nothing: say your last fact again.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Resend;

/// Your siblings' addresses, after one of them was started anew.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub struct Wire(pub Peers);

/// Where a family's facts go.
#[derive(Clone)]
pub struct Peers {
    /// PortReconciler.
    pub hashed: Recipient<ConfigHashed>,
    /// PortReconciler and ServiceReconciler.
    pub observed: Vec<Recipient<AdaptersObserved>>,
    /// StatusReporter.
    pub status: Recipient<Report>,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("observed", &self.observed.len()).finish_non_exhaustive()
    }
}

/// To AdapterPoller: a Secret of the server was changed by somebody; it may be the one with its credentials, the
/// administrator's, or one with a certificate.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct CredentialsTouched;

/// Supervisor to AdapterPoller and ConfigHasher: the server is being deleted; what is theirs to do before it goes is to
/// be done once.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub struct Cleanup {
    /// `metadata.uid` of the server.
    pub uid: String,
    /// Who waits for the [`Cleaned`].
    pub answer: Recipient<Cleaned>,
    /// Why.
    pub cause: Cause,
}

impl fmt::Debug for Cleanup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cleanup").field("uid", &self.uid).finish_non_exhaustive()
    }
}

/// To the Supervisor: how the attempt at a duty before a deletion ended.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Cleaned {
    /// Whose.
    pub key: ServerKey,
    /// `metadata.uid` of the server.
    pub uid: String,
    /// Which duty.
    pub duty: Duty,
    /// How it ended.
    pub attempt: Attempt,
}

/// To AdapterPoller: the server's pod became ready; it is worth a poll at once.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct ServerReachable;

/// To a test or a dump: what the actor is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Watches the Kubernetes API.
    CrWatcher,
    /// Config and hash.
    ConfigHasher,
    /// Adapters of the server.
    AdapterPoller,
    /// Services.
    ServiceReconciler,
    /// StatefulSet.
    PortReconciler,
    /// `.status`.
    StatusReporter,
}

impl Role {
    /// All children.
    pub const ALL: [Self; 6] = [
        Self::CrWatcher,
        Self::ConfigHasher,
        Self::AdapterPoller,
        Self::ServiceReconciler,
        Self::PortReconciler,
        Self::StatusReporter,
    ];

    /// Name of the span of its work.
    pub fn work(self) -> &'static str {
        match self {
            Self::CrWatcher => "watch",
            Self::ConfigHasher => "hash config",
            Self::AdapterPoller => "poll adapters",
            Self::ServiceReconciler => "reconcile services",
            Self::PortReconciler => "reconcile ports",
            Self::StatusReporter => "report status",
        }
    }

    /// Static label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CrWatcher => "cr-watcher",
            Self::ConfigHasher => "config-hasher",
            Self::AdapterPoller => "adapter-poller",
            Self::ServiceReconciler => "service-reconciler",
            Self::PortReconciler => "port-reconciler",
            Self::StatusReporter => "status-reporter",
        }
    }
}

/// To the Supervisor: a child's actor is no more.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct ChildEnded {
    /// Whose family; None for the watcher.
    pub key: Option<ServerKey>,
    /// Which child.
    pub role: Role,
    /// Which life of it: an end that the Supervisor itself asked for is of a life it no longer knows.
    pub life: u64,
    /// Whether it ended in a panic.
    pub panicked: bool,
}

/// CrWatcher to Supervisor: something was seen.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Seen {
    /// What.
    pub what: Sighting,
    /// Where the event is traced.
    pub cause: Cause,
}

/// What CrWatcher saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// A DittoServer came, changed or went.
    Server(ServerKey),
    /// A StatefulSet, with the server that owns it, or the one of its name.
    StatefulSet(ServerKey),
    /// A Service of this server.
    Service(ServerKey),
    /// A ConfigMap of this server.
    ConfigMap(ServerKey),
    /// A NetworkPolicy of this server.
    NetworkPolicy(ServerKey),
    /// A ServiceMonitor of this server.
    ServiceMonitor(ServerKey),
    /// All ServiceMonitors were listed, or their kind is not served.
    ServiceMonitors,
    /// A claim of the StatefulSet of this server.
    Claim(ServerKey),
    /// A pod of this server's StatefulSet.
    Pod(ServerKey),
    /// A Secret: namespace and name.
    Secret(String, String),
    /// Everything was listed anew.
    Resync,
}

/// End, in order: what is under way is dropped.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Stop;
