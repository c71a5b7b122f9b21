//! What Prometheus scrapes: counters and durations as things happen, and what is a state as it is when asked.
//!
//! Owns every number of [`table`] and the [`Fleet`](super::fleet::Fleet) behind the ones about servers. Touches `/proc`
//! when scraped. Guarantees: telling it something takes microseconds, allocates nothing for what is known already, and
//! carries no name of a server unless that was asked for.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use self::family::{Counters, Durations, Value, durations};
use self::table as rows;
use self::text::to_prometheus;
use super::fleet::{Fleet, ServerState};
use crate::actors::messages::{CauseKind, Role};
use crate::cluster::Kind;
use crate::reconcile::{ServerKey, Slot};

mod collect;
pub mod doing;
mod family;
pub mod page;
mod process;
pub mod serve;
pub mod table;
#[cfg(test)]
mod tests;
mod text;
mod words;

pub use text::Format;
pub use words::{Action, Admission, Ended, Outcome, PollEnd, StatusSeen, TokenOutcome, Turn, Verb, reason_of_status};

/// The metrics of the process; a clone counts into the same.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    state: Arc<State>,
    registry: Registry,
    reconcile_duration: Durations<2>,
    reconcile_queue: Durations<1>,
    reconcile_causes: Counters<2>,
    poll_duration: Durations<1>,
    poll_lateness: Histogram,
    poll_to_write: Durations<1>,
    turn_wait: Durations<1>,
    mailbox_wait: Durations<1>,
    actor_restarts: Counters<2>,
    job_panics: Counters<1>,
    kube_requests: Counters<4>,
    kube_request_duration: Durations<2>,
    kube_writes: Counters<3>,
    kube_conflicts: Counters<1>,
    kube_retries: Counters<1>,
    drift_repaired: Counters<2>,
    events_published: Counters<2>,
    watch_events: Counters<2>,
    watch_restarts: Counters<2>,
    relists: Counters<1>,
    dittofs_requests: Counters<2>,
    dittofs_request_duration: Durations<1>,
    token_refreshes: Counters<1>,
    pod_rollouts: Counters<1>,
    certificate_reloads: Counters<2>,
    admission_reviews: Counters<2>,
    admission_duration: Durations<1>,
}

/// Where a lost or exported span is counted.
pub trait SpanCounts: Send + Sync + fmt::Debug {
    /// Spans that the collector took.
    fn exported(&self) -> u64;
    /// Spans lost, by index into [`table::SPAN_LOSSES`].
    fn dropped(&self) -> [u64; table::SPAN_LOSSES.len()];
}

/// What is read when scraped.
#[derive(Debug)]
struct State {
    origin: Instant,
    per_server: bool,
    fleet: Mutex<Fleet>,
    /// For each of `WATCHED`: milliseconds since the origin of the last answer, and whether it was listed.
    heard: [AtomicU64; table::WATCHED.len()],
    synced: [AtomicBool; table::WATCHED.len()],
    heart: AtomicU64,
    turns_waiting: [AtomicI64; table::TURNS.len()],
    mailboxes: [AtomicI64; table::WORKERS.len()],
    /// For each of `PURPOSES`: seconds since 1970.
    certificates: Mutex<[Option<f64>; table::PURPOSES.len()]>,
    spans: Mutex<Option<Arc<dyn SpanCounts>>>,
}

impl State {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Place of a word in one of the table's sets.
fn place(set: &[&str], word: &str) -> Option<usize> {
    set.iter().position(|known| *known == word)
}

impl Default for Metrics {
    /// Without series per server.
    fn default() -> Self {
        Self::new(false)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("per_server", &self.0.state.per_server).finish_non_exhaustive()
    }
}

impl Metrics {
    /// Nothing has happened yet. `per_server` adds series that name a server.
    pub fn new(per_server: bool) -> Self {
        let state = Arc::new(State {
            origin: Instant::now(),
            per_server,
            fleet: Mutex::default(),
            heard: Default::default(),
            synced: Default::default(),
            heart: AtomicU64::new(0),
            turns_waiting: Default::default(),
            mailboxes: Default::default(),
            certificates: Mutex::default(),
            spans: Mutex::default(),
        });
        let mut registry = Registry::default();
        let r = &mut registry;
        let mut inner = Inner {
            reconcile_duration: Durations::new(r, &rows::RECONCILE_DURATION),
            reconcile_queue: Durations::new(r, &rows::RECONCILE_QUEUE),
            reconcile_causes: Counters::filled(r, &rows::RECONCILE_CAUSES),
            poll_duration: Durations::new(r, &rows::POLL_DURATION),
            poll_lateness: durations(r, &rows::POLL_LATENESS),
            poll_to_write: Durations::new(r, &rows::POLL_TO_WRITE),
            turn_wait: Durations::new(r, &rows::TURN_WAIT),
            mailbox_wait: Durations::new(r, &rows::MAILBOX_WAIT),
            actor_restarts: Counters::filled(r, &rows::ACTOR_RESTARTS),
            job_panics: Counters::filled(r, &rows::JOB_PANICS),
            kube_requests: Counters::new(r, &rows::KUBE_REQUESTS),
            kube_request_duration: Durations::new(r, &rows::KUBE_REQUEST_DURATION),
            kube_writes: Counters::new(r, &rows::KUBE_WRITES),
            kube_conflicts: Counters::filled(r, &rows::KUBE_CONFLICTS),
            kube_retries: Counters::filled(r, &rows::KUBE_RETRIES),
            drift_repaired: Counters::filled(r, &rows::DRIFT_REPAIRED),
            events_published: Counters::filled(r, &rows::EVENTS_PUBLISHED),
            watch_events: Counters::filled(r, &rows::WATCH_EVENTS),
            watch_restarts: Counters::filled(r, &rows::WATCH_RESTARTS),
            relists: Counters::filled(r, &rows::RELISTS),
            dittofs_requests: Counters::new(r, &rows::DITTOFS_REQUESTS),
            dittofs_request_duration: Durations::new(r, &rows::DITTOFS_REQUEST_DURATION),
            token_refreshes: Counters::filled(r, &rows::TOKEN_REFRESHES),
            pod_rollouts: Counters::filled(r, &rows::POD_ROLLOUTS),
            certificate_reloads: Counters::filled(r, &rows::CERTIFICATE_RELOADS),
            admission_reviews: Counters::filled(r, &rows::ADMISSION_REVIEWS),
            admission_duration: Durations::new(r, &rows::ADMISSION_DURATION),
            state: state.clone(),
            registry: Registry::default(),
        };
        registry.register_collector(Box::new(collect::Collected(state)));
        inner.registry = registry;
        Self(Arc::new(inner))
    }

    /// All of it as text.
    pub fn encode(&self, format: Format) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(32 * 1024);
        prometheus_client::encoding::text::encode(&mut text, &self.0.registry)?;
        Ok(match format {
            Format::OpenMetrics => text,
            Format::Prometheus => to_prometheus(&text),
        })
    }

    fn update(&self, key: &ServerKey, change: impl FnOnce(&mut ServerState)) {
        locked(&self.0.state.fleet).update(key, change);
    }

    fn since(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.0.state.origin)
    }
}

/// Servers, polls and reconciles.
impl Metrics {
    /// A family of actors was started for the server.
    pub fn server_came(&self, key: &ServerKey) {
        locked(&self.0.state.fleet).add(key);
    }

    /// The server is gone, and its series with it.
    pub fn server_went(&self, key: &ServerKey) {
        locked(&self.0.state.fleet).remove(key);
    }

    /// The server's `.status`, as it was derived.
    pub fn status(&self, key: &ServerKey, seen: &StatusSeen) {
        self.update(key, |state| (state.phase, state.conditions) = (seen.phase, seen.conditions));
    }

    /// The server is polled with this period, or no longer.
    pub fn polls_each(&self, key: &ServerKey, interval: Option<Duration>) {
        let now = self.0.state.now();
        self.update(key, |state| state.polls_each(interval, now));
    }

    /// A poll started this much later than planned.
    pub fn poll_late(&self, by: Duration) {
        self.0.poll_lateness.observe(by.as_secs_f64());
    }

    /// A poll that started at `started` ended.
    pub fn polled(&self, key: &ServerKey, started: Instant, end: PollEnd) {
        self.0.poll_duration.observe([end.as_str().into()], started.elapsed());
        let (started, now) = (self.since(started), self.0.state.now());
        self.update(key, |state| state.polled(started, end.problem(), now));
    }

    /// What runs by a full answer that was asked for at `started`; `changed` Services have to follow it.
    pub fn observed<'a>(
        &self,
        key: &ServerKey,
        started: Instant,
        running: impl IntoIterator<Item = &'a str>,
        changed: usize,
    ) {
        let mut adapters = [0; table::ADAPTERS.len()];
        for adapter in running {
            let known = place(table::ADAPTERS, adapter).unwrap_or(table::ADAPTERS.len() - 1);
            adapters[known] += 1;
        }
        let started = self.since(started);
        self.update(key, |state| {
            state.adapters = adapters;
            if changed > 0 {
                state.services_lag(u32::try_from(changed).unwrap_or(u32::MAX), started);
            }
        });
    }

    /// After a run of ServiceReconciler: so many adapters' Services still do not follow.
    pub fn services_lag(&self, key: &ServerKey, lagging: usize) {
        let now = self.0.state.now();
        self.update(key, |state| state.services_lag(u32::try_from(lagging).unwrap_or(u32::MAX), now));
    }

    /// The last write that a poll caused is done; `since` the poll started.
    pub fn poll_to_write(&self, key: &ServerKey, kind: Kind, since: Duration) {
        self.0.poll_to_write.observe([kind.plural().into()], since);
        self.update(key, |state| state.poll_to_write = Some(since));
    }

    /// A change of container ports is held back from the pod, or is not.
    pub fn ports_held(&self, key: &ServerKey, held: bool) {
        self.update(key, |state| state.held = held);
    }

    /// A StatefulSet was written so that its pod rolls.
    pub fn pod_rolls(&self, key: &ServerKey, cause: CauseKind) {
        self.0.pod_rollouts.inc([cause.as_str().into()]);
        self.update(key, |state| state.rollouts += 1);
    }

    /// A cause asked an actor for a reconcile.
    pub fn caused(&self, role: Role, cause: CauseKind) {
        if table::RECONCILERS.contains(&role.as_str()) {
            self.0.reconcile_causes.inc([role.as_str().into(), cause.as_str().into()]);
        }
    }

    /// A reconcile begins its work; its first cause came `queued` ago.
    pub fn reconcile_begins(&self, role: Role, queued: Duration) {
        self.0.reconcile_queue.observe([role.as_str().into()], queued);
    }

    /// A reconcile ended after `worked`.
    pub fn reconciled(&self, key: &ServerKey, role: Role, outcome: Outcome, worked: Duration) {
        self.0.reconcile_duration.observe([role.as_str().into(), outcome.as_str().into()], worked);
        if outcome == Outcome::Panicked {
            self.job_panicked(role);
        }
        let now = self.0.state.now();
        if let Some(actor) = place(table::RECONCILERS, role.as_str()) {
            let failed = match outcome {
                Outcome::Settled => Some(false),
                // Neither good nor bad: it has not come to its end.
                Outcome::Deferred => None,
                Outcome::Failed | Outcome::Panicked => Some(true),
            };
            self.update(key, |state| {
                if let Some(failed) = failed {
                    state.reconciled(actor, failed, now);
                }
            });
        }
    }

    /// The slot of an actor is now this.
    pub fn slot(&self, key: &ServerKey, role: Role, slot: Slot) {
        if let Some(actor) = place(table::RECONCILERS, role.as_str()) {
            self.update(key, |state| state.slots[actor] = slot);
        }
    }
}

/// Actors, their turns and their mailboxes.
impl Metrics {
    /// A job (a reconcile, a poll) panicked.
    pub fn job_panicked(&self, role: Role) {
        self.0.job_panics.inc([role.as_str().into()]);
    }

    /// An actor ended unasked.
    pub fn actor_ended(&self, role: Role, how: Ended) {
        self.0.actor_restarts.inc([role.as_str().into(), how.as_str().into()]);
    }

    /// The Supervisor's heart beat.
    pub fn heartbeat(&self) {
        self.0.state.heart.store(milliseconds(self.0.state.now()), Ordering::Relaxed);
    }

    /// A job begins to wait for its turn; what is returned is dropped when it has it, or gives up.
    pub fn waits_for_turn(&self, turn: Turn) -> Waiting {
        self.0.state.turns_waiting[turn as usize].fetch_add(1, Ordering::Relaxed);
        Waiting { metrics: self.clone(), turn, since: Instant::now() }
    }

    /// A message is sent to an actor; what is returned goes with it, and is dropped when it is handled.
    pub fn posted(&self, role: Role) -> Posted {
        let mailbox = place(table::WORKERS, role.as_str());
        if let Some(mailbox) = mailbox {
            self.0.state.mailboxes[mailbox].fetch_add(1, Ordering::Relaxed);
        }
        Posted { metrics: self.clone(), role, mailbox, since: Instant::now() }
    }
}

/// A job that waits for its turn.
#[derive(Debug)]
pub struct Waiting {
    metrics: Metrics,
    turn: Turn,
    since: Instant,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let inner = &self.metrics.0;
        inner.state.turns_waiting[self.turn as usize].fetch_sub(1, Ordering::Relaxed);
        inner.turn_wait.observe([self.turn.as_str().into()], self.since.elapsed());
    }
}

/// A message on its way.
#[derive(Debug)]
pub struct Posted {
    metrics: Metrics,
    role: Role,
    mailbox: Option<usize>,
    since: Instant,
}

impl Drop for Posted {
    fn drop(&mut self) {
        let Some(mailbox) = self.mailbox else { return };
        let inner = &self.metrics.0;
        inner.state.mailboxes[mailbox].fetch_sub(1, Ordering::Relaxed);
        inner.mailbox_wait.observe([self.role.as_str().into()], self.since.elapsed());
    }
}

/// The Kubernetes API.
impl Metrics {
    /// A request was answered with an HTTP status and the `reason` of its Status object (empty on success).
    pub fn kube_answered(&self, verb: Verb, resource: &'static str, status: u16, reason: &str, took: Duration) {
        let reason = place(table::REASONS, reason).map_or("other", |known| table::REASONS[known]);
        self.kube(verb, resource, Value::Status(status), reason, took);
    }

    /// A request got no whole answer: `timeout`, `unreachable` or `malformed`.
    pub fn kube_unanswered(&self, verb: Verb, resource: &'static str, why: &'static str, took: Duration) {
        self.kube(verb, resource, why.into(), "", took);
    }

    fn kube(&self, verb: Verb, resource: &'static str, code: Value<'static>, reason: &'static str, took: Duration) {
        let verb = verb.as_str().into();
        self.0.kube_requests.inc([verb, resource.into(), code, reason.into()]);
        self.0.kube_request_duration.observe([verb, resource.into()], took);
    }

    /// The API server took a write.
    pub fn kube_wrote(&self, key: &ServerKey, kind: Kind, action: Action, cause: CauseKind) {
        self.0.kube_writes.inc([kind.plural().into(), action.as_str().into(), cause.as_str().into()]);
        if let Some(resource) = place(table::WRITTEN, kind.plural()) {
            self.update(key, |state| state.writes[resource] += 1);
        }
    }

    /// The object had changed since it was read.
    pub fn kube_conflict(&self, kind: Kind) {
        self.0.kube_conflicts.inc([kind.plural().into()]);
    }

    /// Another attempt within one reconcile.
    pub fn kube_retry(&self, kind: Kind) {
        self.0.kube_retries.inc([kind.plural().into()]);
    }

    /// A field of ours that `manager` (of [`table::MANAGERS`]) had changed was set back.
    pub fn drift_repaired(&self, kind: Kind, manager: &'static str) {
        self.0.drift_repaired.inc([kind.plural().into(), manager.into()]);
    }

    /// An Event was published, or was not: `published`, `failed` or `dropped`.
    pub fn event_published(&self, warning: bool, outcome: &'static str) {
        self.0.events_published.inc([table::EVENT_TYPES[usize::from(warning)].into(), outcome.into()]);
    }

    /// A watch told of an object.
    pub fn watch_event(&self, kind: Kind, deleted: bool) {
        self.0.watch_events.inc([kind.plural().into(), table::WATCH_EVENT_TYPES[usize::from(deleted)].into()]);
        self.watch_heard(kind);
    }

    /// The API server answered a watch with anything good.
    pub fn watch_heard(&self, kind: Kind) {
        if let Some(watch) = place(table::WATCHED, kind.plural()) {
            self.0.state.heard[watch].store(milliseconds(self.0.state.now()), Ordering::Relaxed);
        }
    }

    /// The API server does not serve a kind that the operator does without: there is nothing to wait for.
    pub fn watch_done_without(&self, kind: Kind) {
        if let Some(watch) = place(table::WATCHED, kind.plural()) {
            self.0.state.synced[watch].store(true, Ordering::Relaxed);
        }
        self.watch_heard(kind);
    }

    /// A watch was opened anew, or failed: `why` is a category of a trouble, or one of [`table::WATCH_WHYS`].
    pub fn watch_restarted(&self, kind: Kind, why: &'static str) {
        let why = place(table::WATCH_WHYS, why).map_or("refused", |known| table::WATCH_WHYS[known]);
        self.0.watch_restarts.inc([kind.plural().into(), why.into()]);
    }

    /// A complete list was taken in.
    pub fn relisted(&self, kind: Kind) {
        self.0.relists.inc([kind.plural().into()]);
        if let Some(watch) = place(table::WATCHED, kind.plural()) {
            self.0.state.synced[watch].store(true, Ordering::Relaxed);
        }
        self.watch_heard(kind);
    }
}

/// The servers' API, certificates and spans.
impl Metrics {
    /// A server answered a request with a status.
    pub fn dittofs_answered(&self, operation: &'static str, status: u16, took: Duration) {
        self.0.dittofs_requests.inc([operation.into(), Value::Status(status)]);
        self.0.dittofs_request_duration.observe([operation.into()], took);
    }

    /// A server gave no whole answer: `timeout`, `unreachable`, `broken` or `too-large`.
    pub fn dittofs_unanswered(&self, operation: &'static str, why: &'static str, took: Duration) {
        self.0.dittofs_requests.inc([operation.into(), why.into()]);
        self.0.dittofs_request_duration.observe([operation.into()], took);
    }

    /// New tokens were asked for.
    pub fn token_refreshed(&self, outcome: TokenOutcome) {
        self.0.token_refreshes.inc([outcome.as_str().into()]);
    }

    /// A certificate of this purpose (of [`table::PURPOSES`]) is served and expires then, in seconds since 1970.
    pub fn certificate(&self, purpose: &str, expires: f64) {
        if let Some(purpose) = place(table::PURPOSES, purpose) {
            locked(&self.0.state.certificates)[purpose] = Some(expires);
        }
    }

    /// A mounted certificate (of [`table::RELOADED`]) had changed and was read, or could not be used.
    pub fn certificate_reloaded(&self, purpose: &'static str, loaded: bool) {
        let outcome = table::RELOAD_OUTCOMES[usize::from(!loaded)];
        self.0.certificate_reloads.inc([purpose.into(), outcome.into()]);
    }

    /// A review of `operation` (of [`table::REVIEWED`]) had this end.
    pub fn admission(&self, operation: &'static str, verdict: Admission, took: Duration) {
        self.0.admission_reviews.inc([operation.into(), verdict.as_str().into()]);
        self.0.admission_duration.observe([verdict.as_str().into()], took);
    }

    /// What is known of the certificates of a server's API, in the order of [`table::SERVER_PURPOSES`].
    pub fn api_certificates(&self, key: &ServerKey, expire: [Option<i64>; table::SERVER_PURPOSES.len()]) {
        locked(&self.0.state.fleet).update(key, |state| state.certificates = expire);
    }

    /// Where spans are counted from now on.
    pub fn count_spans_of(&self, counts: Arc<dyn SpanCounts>) {
        *locked(&self.0.state.spans) = Some(counts);
    }
}
