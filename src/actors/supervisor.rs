//! Supervisor: owns one family of actors per DittoServer and the watcher, and starts anew what panicked.
//!
//! actix does not restart an actor that panicked; the child's [`Lifeline`] says that it ended, and it is started again
//! after jittered backoff, with its siblings told of its new address and asked to repeat their last facts. More than
//! [`BUDGET`] ends of one child within [`BUDGET_WINDOW`] end the process: Kubernetes restarts it, and all state is
//! rebuilt from the watches. The only one who touches a DittoServer's finalizers.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;
use tracing::{Instrument as _, Span, error, error_span, info, warn};

use super::Deps;
use super::adapter_poller::AdapterPoller;
use super::config_hasher::ConfigHasher;
use super::cr_watcher::{CrWatcher, Watching};
use super::heart::{HEARTBEAT, Heart, Pulse, ROUND};
use super::inspect::{Census, Member};
use super::lifeline::Lifeline;
use super::messages::{
    Cause, CauseKind, ChildEnded, CredentialsTouched, Peers, Poke, Resend, Role, Seen, ServerReachable, Sighting, Stop,
    Wire,
};
use super::port_reconciler::PortReconciler;
use super::service_reconciler::ServiceReconciler;
use super::specs::Spec;
use super::status_reporter::StatusReporter;
use super::trouble::Trouble;
use crate::backoff::Backoff;
use crate::cluster::Kind;
use crate::reconcile::{ServerKey, secrets_used};
use crate::telemetry::TraceContext;
use crate::telemetry::metrics::doing::Doing;
use crate::telemetry::metrics::{Ended, Metrics};
use crate::telemetry::table::Attribute;
use crate::telemetry::trace::{begin, decided, failed, milliseconds, set, started};

/// Ends of one child that are survived within the window.
const BUDGET: usize = 5;
/// The window.
const BUDGET_WINDOW: Duration = Duration::from_mins(1);
/// First and longest delay before a child is started anew.
const RESPAWN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// The finalizer that the Go operator sets.
const GO_FINALIZER: &str = "dittofs.dittofs.com/finalizer";

/// Why the process has to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fatal {
    /// A child ended more often than the budget allows.
    BudgetSpent(String),
    /// The Supervisor itself panicked.
    SupervisorEnded,
}

/// See the module.
pub struct Supervisor {
    deps: Arc<Deps>,
    client: kube::Client,
    watching: Watching,
    families: HashMap<ServerKey, Family>,
    /// Which servers name a Secret: (namespace, name) to their keys.
    secrets: HashMap<(String, String), BTreeSet<ServerKey>>,
    restarts: HashMap<(Option<ServerKey>, Role), Restarts>,
    watcher: Option<(Addr<CrWatcher>, u64)>,
    /// Families are started once every cache was filled.
    synced: bool,
    /// An end is no surprise any more.
    shutting_down: bool,
    lives: u64,
    heart: Arc<Heart>,
    beats: u64,
    fatal: UnboundedSender<Fatal>,
}

/// The actors of one DittoServer.
struct Family {
    uid: String,
    /// What the last fan-out was about: a change of status alone is no reason for another.
    print: (i64, bool, Value, Value),
    ready: bool,
    metrics: Metrics,
    pulse: Arc<Pulse>,
    hasher: (Addr<ConfigHasher>, u64),
    poller: (Addr<AdapterPoller>, u64),
    services: (Addr<ServiceReconciler>, u64),
    ports: (Addr<PortReconciler>, u64),
    status: (Addr<StatusReporter>, u64),
}

struct Restarts {
    recent: VecDeque<Instant>,
    backoff: Backoff,
}

impl Supervisor {
    /// A Supervisor without families. `heart` beats with it and has the pulse of its children; `fatal`
    /// tells the process why it has to end.
    pub fn new(
        deps: Arc<Deps>,
        client: kube::Client,
        watching: Watching,
        heart: Arc<Heart>,
        fatal: UnboundedSender<Fatal>,
    ) -> Self {
        Self {
            deps,
            client,
            watching,
            families: HashMap::new(),
            secrets: HashMap::new(),
            restarts: HashMap::new(),
            watcher: None,
            synced: false,
            shutting_down: false,
            lives: 0,
            heart,
            beats: 0,
            fatal,
        }
    }

    fn lifeline(&mut self, ctx: &Context<Self>, key: Option<&ServerKey>, role: Role) -> (Lifeline, u64) {
        self.lives += 1;
        (Lifeline::new(ctx.address().recipient(), key.cloned(), role, self.lives), self.lives)
    }

    fn start_watcher(&mut self, ctx: &Context<Self>) {
        let (lifeline, life) = self.lifeline(ctx, None, Role::CrWatcher);
        let watcher = CrWatcher::new(
            self.deps.clone(),
            self.client.clone(),
            self.watching.clone(),
            ctx.address().recipient(),
            lifeline,
        );
        self.watcher = Some((watcher.start(), life));
        self.heart.watcher().reset(Role::CrWatcher);
    }

    fn beat(&mut self, ctx: &mut Context<Self>) {
        self.heart.beat();
        self.feel_pulses();
        self.deps.metrics.heartbeat();
        ctx.run_later(HEARTBEAT, Self::beat);
    }

    /// Asks the children of every [`ROUND`]th family, and the watcher once a round, whether they live.
    fn feel_pulses(&mut self) {
        self.beats += 1;
        let part = self.beats % ROUND;
        for (_, family) in (0..ROUND).cycle().zip(self.families.values()).filter(|(number, _)| *number == part) {
            family.feel_pulse(&self.heart);
        }
        if part == 0
            && let Some((watcher, _)) = &self.watcher
            && let Some(beat) = self.heart.ask(&self.heart.watcher(), Role::CrWatcher)
        {
            watcher.do_send(beat);
        }
    }

    /// Looks at one server: starts its family, stops it, starts another for another uid, or tells it of the change.
    fn look(&mut self, key: &ServerKey, cause: &Cause, at_start: bool, ctx: &Context<Self>) {
        let Some(spec) = self.deps.spec(key) else {
            if self.families.contains_key(key) {
                info!(namespace = key.namespace, name = key.name, "the server is gone; its actors stop");
                decided(&Span::current(), "stop", "the server is gone; its actors stop");
                self.stop(key);
            }
            return;
        };
        if self.families.get(key).is_some_and(|family| family.uid != spec.uid) {
            self.stop(key);
        }
        if spec.deleting {
            self.release(key, &spec);
        }
        let print = print_of(&spec);
        if let Some(family) = self.families.get(key).filter(|family| family.print == print) {
            family.status.0.do_send(Poke(cause.to(&self.deps.metrics, Role::StatusReporter)));
            return;
        }
        self.index_secrets(key, &spec);
        if let Some(family) = self.families.get_mut(key) {
            family.print = print;
            family.poke_all(cause);
        } else {
            let family = self.start(key, &spec, print, at_start, ctx);
            family.poke_all(&Cause::of(CauseKind::Start, cause.trace.clone()));
            decided(&Span::current(), "start", "its actors start");
            self.families.insert(key.clone(), family);
        }
    }

    fn start(
        &mut self,
        key: &ServerKey,
        spec: &Spec,
        print: (i64, bool, Value, Value),
        at_start: bool,
        ctx: &Context<Self>,
    ) -> Family {
        info!(namespace = key.namespace, name = key.name, "a server came; its actors start");
        let (deps, own) = (self.deps.clone(), Some(key));
        deps.metrics.server_came(key);
        let (lifeline, life) = self.lifeline(ctx, own, Role::StatusReporter);
        let status = (StatusReporter::new(key.clone(), deps.clone(), lifeline).start(), life);
        let reports = || status.0.clone().recipient();
        let (lifeline, life) = self.lifeline(ctx, own, Role::PortReconciler);
        let ports = (PortReconciler::new(key.clone(), deps.clone(), reports(), lifeline).start(), life);
        let (lifeline, life) = self.lifeline(ctx, own, Role::ServiceReconciler);
        let services = (ServiceReconciler::new(key.clone(), deps.clone(), reports(), lifeline).start(), life);
        let peers = peers(&ports.0, &services.0, &status.0);
        let (lifeline, life) = self.lifeline(ctx, own, Role::ConfigHasher);
        let hasher = (ConfigHasher::new(key.clone(), deps.clone(), peers.clone(), lifeline).start(), life);
        // After a restart of the operator the first polls of many servers are spread over the period.
        let phase = if at_start { spread(deps.next_seed()) } else { 0.0 };
        let (lifeline, life) = self.lifeline(ctx, own, Role::AdapterPoller);
        let poller = (AdapterPoller::new(key.clone(), deps, peers, phase, lifeline).start(), life);
        let pulse = self.heart.family(key);
        Family {
            uid: spec.uid.clone(),
            print,
            ready: false,
            pulse,
            metrics: self.deps.metrics.clone(),
            hasher,
            poller,
            services,
            ports,
            status,
        }
    }

    fn stop(&mut self, key: &ServerKey) {
        // Dropping the addresses ends actors that nothing else holds; those with a timer are told.
        if let Some(family) = self.families.remove(key) {
            family.stop();
            self.deps.metrics.server_went(key);
            self.heart.forget(key);
        }
        self.restarts.retain(|(owner, _), _| owner.as_ref() != Some(key));
        for users in self.secrets.values_mut() {
            users.remove(key);
        }
        self.secrets.retain(|_, users| !users.is_empty());
    }

    /// The Secrets whose change concerns this server.
    fn index_secrets(&mut self, key: &ServerKey, spec: &Spec) {
        let Ok(server) = &spec.server else { return };
        let names = server.names();
        let mut watched: BTreeSet<String> = secrets_used(server).into_iter().map(|used| used.name).collect();
        watched.extend(server.api_tls.read_by_operator().map(str::to_owned));
        watched.insert(names.credentials_secret());
        watched.insert(names.legacy_admin_secret());
        self.secrets.retain(|(namespace, name), users| {
            if *namespace == key.namespace && !watched.contains(name) {
                users.remove(key);
            }
            !users.is_empty()
        });
        for name in watched {
            self.secrets.entry((key.namespace.clone(), name)).or_default().insert(key.clone());
        }
    }

    /// The Go operator's finalizer has nobody else to release it.
    fn release(&self, key: &ServerKey, spec: &Spec) {
        let listed = spec.object.pointer("/metadata/finalizers").and_then(Value::as_array);
        let finalizers: Vec<String> =
            listed.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        if !finalizers.iter().any(|finalizer| finalizer == GO_FINALIZER) {
            return;
        }
        let Some(pass) = self.deps.gate.enter() else { return };
        let (deps, key, uid) = (self.deps.clone(), key.clone(), spec.uid.clone());
        let doing = Doing::new(deps.metrics.clone(), key.clone(), CauseKind::ServerChanged);
        let span = error_span!("release finalizer");
        started(&span);
        let work = async move {
            let _pass = pass;
            let mut backoff = Backoff::new(RESPAWN.0, RESPAWN.1, deps.next_seed());
            let trouble = Trouble::new(deps.origin);
            while deps.spec(&key).is_some_and(|spec| spec.uid == uid) {
                match deps.cluster.remove_finalizer(&key, &uid, GO_FINALIZER, &finalizers).await {
                    Ok(()) => {
                        info!(namespace = key.namespace, name = key.name, "released the finalizer of the Go operator");
                        decided(&Span::current(), "release", GO_FINALIZER);
                        return;
                    }
                    // Somebody else changed the list; the watch brings it, and with it another attempt.
                    Err(error) if error.is_conflict() => return,
                    Err(error) => {
                        if let Some(again) = trouble.failed("finalizer") {
                            warn!(namespace = key.namespace, name = key.name, error = %error, "the finalizer cannot be released{again}");
                        }
                    }
                }
                tokio::time::sleep(backoff.next()).await;
            }
        };
        tokio::spawn(doing.around(work).instrument(span));
    }

    fn resync(&mut self, cause: &Cause, ctx: &Context<Self>) {
        if !self.deps.caches.are_synced() {
            return;
        }
        let at_start = !std::mem::replace(&mut self.synced, true);
        for server in self.deps.caches.servers.all() {
            let key =
                ServerKey::new(crate::reconcile::meta(&server, "namespace"), crate::reconcile::meta(&server, "name"));
            let span = self.watched(Kind::DittoServer, &key, cause);
            let _within = span.enter();
            self.look(&key, &Cause { trace: TraceContext::current(), ..cause.clone() }, at_start, ctx);
            if !at_start && let Some(family) = self.families.get(&key) {
                family.poke_all(&Cause::here(CauseKind::Resync));
            }
        }
        let gone: Vec<ServerKey> = self.families.keys().filter(|key| self.deps.spec(key).is_none()).cloned().collect();
        for key in gone {
            self.stop(&key);
        }
    }

    fn stateful_set_changed(&mut self, key: &ServerKey, cause: &Cause) {
        let Some(family) = self.families.get_mut(key) else { return };
        let set = self.deps.caches.stateful_sets.get(&key.namespace, &key.name);
        let ready = set.and_then(|set| set.pointer("/status/readyReplicas")?.as_i64()).unwrap_or(0) > 0;
        if ready && !std::mem::replace(&mut family.ready, ready) {
            family.poller.0.do_send(ServerReachable);
        }
        family.ready = ready;
        family.ports.0.do_send(Poke(cause.to(&self.deps.metrics, Role::PortReconciler)));
        family.status.0.do_send(Poke(cause.to(&self.deps.metrics, Role::StatusReporter)));
    }

    /// Each server that uses the Secret gets a trace of its own.
    fn secret_changed(&self, namespace: &str, name: &str, cause: &Cause) {
        let Some(users) = self.secrets.get(&(namespace.to_owned(), name.to_owned())) else { return };
        for (key, family) in users.iter().filter_map(|key| Some((key, self.families.get(key)?))) {
            let span = self.watched(Kind::Secret, key, cause);
            let _within = span.enter();
            set(&span, Attribute::Object, format!("secrets/{name}"));
            family
                .hasher
                .0
                .do_send(Poke(Cause::here(CauseKind::SecretChanged).to(&self.deps.metrics, Role::ConfigHasher)));
            family.poller.0.do_send(CredentialsTouched);
        }
    }

    /// The root of a trace: what a watch brought about a server. Its queue time is that of the sighting.
    fn watched(&self, kind: Kind, key: &ServerKey, cause: &Cause) -> Span {
        let span = error_span!("watch", otel.name = %format_args!("watch {}", kind.plural()));
        let span = begin(span, &self.deps.tracer.root(key), &[]);
        set(&span, Attribute::Cause, cause.kind.as_str());
        set(&span, Attribute::Namespace, key.namespace.clone());
        let event = if cause.kind == CauseKind::Resync { "resync" } else { "changed" };
        set(&span, Attribute::WatchEvent, event);
        set(&span, Attribute::MailboxTime, milliseconds(cause.at.elapsed()));
        span
    }

    /// Whether a child may be started anew, and after what delay.
    fn respawn_delay(&mut self, end: &ChildEnded) -> Option<Duration> {
        let seed = self.deps.next_seed();
        let restarts = self
            .restarts
            .entry((end.key.clone(), end.role))
            .or_insert_with(|| Restarts { recent: VecDeque::new(), backoff: Backoff::new(RESPAWN.0, RESPAWN.1, seed) });
        let now = Instant::now();
        while restarts.recent.front().is_some_and(|first| now.duration_since(*first) > BUDGET_WINDOW) {
            restarts.recent.pop_front();
        }
        if restarts.recent.is_empty() {
            restarts.backoff.reset();
        }
        restarts.recent.push_back(now);
        (restarts.recent.len() <= BUDGET).then(|| restarts.backoff.next())
    }

    /// Starts one child anew and makes it known to its siblings.
    fn respawn(&mut self, end: &ChildEnded, ctx: &Context<Self>) {
        let Some(key) = &end.key else {
            self.start_watcher(ctx);
            return;
        };
        if self.families.get(key).is_none_or(|family| family.life(end.role) != end.life) {
            return;
        }
        let span = begin(error_span!("restart actor"), &self.deps.tracer.root(key), &[]);
        let _within = span.enter();
        set(&span, Attribute::Actor, end.role.as_str());
        decided(&span, "restart", "its siblings repeat their last facts to it");
        if end.panicked {
            failed(&span, "panic", "the actor panicked");
        }
        let (lifeline, life) = self.lifeline(ctx, Some(key), end.role);
        let deps = self.deps.clone();
        let Some(family) = self.families.get_mut(key) else { return };
        let status = family.status.0.clone().recipient();
        let peers = peers(&family.ports.0, &family.services.0, &family.status.0);
        match end.role {
            Role::ConfigHasher => {
                family.hasher = (ConfigHasher::new(key.clone(), deps, peers, lifeline).start(), life);
            }
            Role::AdapterPoller => {
                family.poller = (AdapterPoller::new(key.clone(), deps, peers, 0.0, lifeline).start(), life);
            }
            Role::ServiceReconciler => {
                family.services = (ServiceReconciler::new(key.clone(), deps, status, lifeline).start(), life);
            }
            Role::PortReconciler => {
                family.ports = (PortReconciler::new(key.clone(), deps, status, lifeline).start(), life);
            }
            Role::StatusReporter => {
                family.status = (StatusReporter::new(key.clone(), deps, lifeline).start(), life);
            }
            Role::CrWatcher => {}
        }
        family.pulse.reset(end.role);
        family.rewire();
        family.poke_all(&Cause::here(CauseKind::Start));
    }
}

fn peers(ports: &Addr<PortReconciler>, services: &Addr<ServiceReconciler>, status: &Addr<StatusReporter>) -> Peers {
    Peers {
        hashed: ports.clone().recipient(),
        observed: vec![services.clone().recipient(), ports.clone().recipient()],
        status: status.clone().recipient(),
    }
}

/// What of a server its writers act upon: generation, deletion, finalizers and annotations.
fn print_of(spec: &Spec) -> (i64, bool, Value, Value) {
    let field = |name: &str| spec.object.get("metadata").and_then(|meta| meta.get(name)).cloned().unwrap_or_default();
    (spec.generation, spec.deleting, field("finalizers"), field("annotations"))
}

/// A share of the period, from a seed.
fn spread(seed: u64) -> f64 {
    use rand::{Rng as _, SeedableRng as _};
    rand::rngs::SmallRng::seed_from_u64(seed).random_range(0.0..1.0)
}

impl Family {
    fn feel_pulse(&self, heart: &Heart) {
        let ask = |role| heart.ask(&self.pulse, role);
        if let Some(beat) = ask(Role::ConfigHasher) {
            self.hasher.0.do_send(beat);
        }
        if let Some(beat) = ask(Role::AdapterPoller) {
            self.poller.0.do_send(beat);
        }
        if let Some(beat) = ask(Role::ServiceReconciler) {
            self.services.0.do_send(beat);
        }
        if let Some(beat) = ask(Role::PortReconciler) {
            self.ports.0.do_send(beat);
        }
        if let Some(beat) = ask(Role::StatusReporter) {
            self.status.0.do_send(beat);
        }
    }

    fn members(&self, key: &ServerKey) -> [Member; 5] {
        [
            (Role::ConfigHasher, self.hasher.0.clone().recipient()),
            (Role::AdapterPoller, self.poller.0.clone().recipient()),
            (Role::ServiceReconciler, self.services.0.clone().recipient()),
            (Role::PortReconciler, self.ports.0.clone().recipient()),
            (Role::StatusReporter, self.status.0.clone().recipient()),
        ]
        .map(|(role, address)| Member { key: key.clone(), role, address })
    }

    fn poke_all(&self, cause: &Cause) {
        self.hasher.0.do_send(Poke(cause.to(&self.metrics, Role::ConfigHasher)));
        self.poller.0.do_send(Poke(cause.to(&self.metrics, Role::AdapterPoller)));
        self.services.0.do_send(Poke(cause.to(&self.metrics, Role::ServiceReconciler)));
        self.ports.0.do_send(Poke(cause.to(&self.metrics, Role::PortReconciler)));
        self.status.0.do_send(Poke(cause.to(&self.metrics, Role::StatusReporter)));
    }

    fn rewire(&self) {
        let peers = peers(&self.ports.0, &self.services.0, &self.status.0);
        self.hasher.0.do_send(Wire(peers.clone()));
        self.poller.0.do_send(Wire(peers.clone()));
        self.services.0.do_send(Wire(peers.clone()));
        self.ports.0.do_send(Wire(peers));
        self.hasher.0.do_send(Resend);
        self.poller.0.do_send(Resend);
        self.services.0.do_send(Resend);
        self.ports.0.do_send(Resend);
    }

    fn life(&self, role: Role) -> u64 {
        match role {
            Role::ConfigHasher => self.hasher.1,
            Role::AdapterPoller => self.poller.1,
            Role::ServiceReconciler => self.services.1,
            Role::PortReconciler => self.ports.1,
            Role::StatusReporter => self.status.1,
            Role::CrWatcher => 0,
        }
    }

    fn stop(&self) {
        self.hasher.0.do_send(Stop);
        self.poller.0.do_send(Stop);
        self.services.0.do_send(Stop);
        self.ports.0.do_send(Stop);
        self.status.0.do_send(Stop);
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.beat(ctx);
        self.start_watcher(ctx);
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.fatal.send(Fatal::SupervisorEnded);
        }
    }
}

impl Handler<Seen> for Supervisor {
    type Result = ();
    fn handle(&mut self, message: Seen, ctx: &mut Self::Context) {
        crate::fault::hit("supervisor.handler");
        let Seen { what, cause } = message;
        let (kind, key) = match what {
            Sighting::Resync => return self.resync(&cause, ctx),
            _ if !self.synced => return,
            Sighting::Secret(namespace, name) => return self.secret_changed(&namespace, &name, &cause),
            Sighting::Server(key) => (Kind::DittoServer, key),
            Sighting::StatefulSet(key) => (Kind::StatefulSet, key),
            Sighting::Service(key) => (Kind::Service, key),
            Sighting::ConfigMap(key) => (Kind::ConfigMap, key),
            Sighting::Claim(key) => (Kind::Claim, key),
        };
        let span = self.watched(kind, &key, &cause);
        let _within = span.enter();
        let cause = Cause { trace: TraceContext::current(), ..cause };
        match (kind, self.families.get(&key)) {
            (Kind::DittoServer, _) => self.look(&key, &cause, false, ctx),
            (Kind::StatefulSet, _) => self.stateful_set_changed(&key, &cause),
            (Kind::Service, Some(family)) => {
                family.services.0.do_send(Poke(cause.to(&self.deps.metrics, Role::ServiceReconciler)));
                family.status.0.do_send(Poke(cause.to(&self.deps.metrics, Role::StatusReporter)));
            }
            (Kind::Claim, Some(family)) => {
                family.ports.0.do_send(Poke(cause.to(&self.deps.metrics, Role::PortReconciler)));
                family.status.0.do_send(Poke(cause.to(&self.deps.metrics, Role::StatusReporter)));
            }
            (Kind::ConfigMap, Some(family)) => {
                family.hasher.0.do_send(Poke(cause.to(&self.deps.metrics, Role::ConfigHasher)));
            }
            _ => {}
        }
    }
}

impl Handler<ChildEnded> for Supervisor {
    type Result = ();
    fn handle(&mut self, end: ChildEnded, ctx: &mut Self::Context) {
        let known = match &end.key {
            None => self.watcher.as_ref().is_some_and(|(_, life)| *life == end.life),
            Some(key) => self.families.get(key).is_some_and(|family| family.life(end.role) == end.life),
        };
        if !known || self.shutting_down {
            return;
        }
        let server = end.key.as_ref().map(ToString::to_string).unwrap_or_default();
        let Some(delay) = self.respawn_delay(&end) else {
            error!(server, actor = end.role.as_str(), "the actor ends again and again; the process gives up");
            let _ = self.fatal.send(Fatal::BudgetSpent(format!("{} {server}", end.role.as_str())));
            return;
        };
        let how = if end.panicked { Ended::Panicked } else { Ended::Quietly };
        self.deps.metrics.actor_ended(end.role, how);
        warn!(
            server,
            actor = end.role.as_str(),
            panicked = end.panicked,
            delay_ms = delay.as_millis(),
            "the actor ended; it is started anew"
        );
        ctx.run_later(delay, move |supervisor, ctx| supervisor.respawn(&end, ctx));
    }
}

impl Handler<Census> for Supervisor {
    type Result = MessageResult<Census>;
    fn handle(&mut self, _: Census, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.families.iter().flat_map(|(key, family)| family.members(key)).collect())
    }
}

/// Ends all actors in order: the watcher and the pollers first, so that nothing new begins.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Shutdown;

impl Handler<Shutdown> for Supervisor {
    type Result = ();
    fn handle(&mut self, _: Shutdown, _: &mut Self::Context) {
        self.shutting_down = true;
        if let Some((watcher, _)) = self.watcher.take() {
            watcher.do_send(Stop);
        }
        for family in self.families.values() {
            family.poller.0.do_send(Stop);
        }
        self.deps.gate.close();
    }
}

#[cfg(test)]
#[path = "tests/supervisor.rs"]
mod tests;
