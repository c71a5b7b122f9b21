//! Supervisor: owns one family of actors per DittoServer and the watcher, and starts anew what panicked.
//!
//! actix does not restart an actor that panicked; the child's [`Lifeline`] says that it ended, and it is started again
//! after jittered backoff, with its siblings told of its new address and asked to repeat their last facts. A child that
//! ends too often (`budget`) ends the process: Kubernetes restarts it, and all state is rebuilt from the watches. The
//! only one who touches a DittoServer's finalizers (`finalizer`), and so the one who lets it go.

mod budget;
mod family;
mod finalizer;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;
use tracing::{Span, error, error_span, info, warn};

use self::budget::Budget;
use self::family::{Family, Print, peers, print_of};
use self::finalizer::Hold;
use super::Deps;
use super::adapter_poller::AdapterPoller;
use super::config_hasher::ConfigHasher;
use super::cr_watcher::{CrWatcher, Watching};
use super::heart::{HEARTBEAT, Heart, ROUND};
use super::inspect::Census;
use super::lifeline::Lifeline;
use super::messages::{
    Cause, CauseKind, ChildEnded, CredentialsTouched, Poke, Role, Seen, ServerReachable, Sighting, Stop,
};
use super::port_reconciler::PortReconciler;
use super::service_reconciler::ServiceReconciler;
use super::specs::Spec;
use super::status_reporter::StatusReporter;
use crate::cluster::Kind;
use crate::reconcile::{ServerKey, secrets_used};
use crate::telemetry::TraceContext;
use crate::telemetry::metrics::Ended;
use crate::telemetry::table::Attribute;
use crate::telemetry::trace::{begin, decided, describe, failed, milliseconds, set};

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
    secrets: HashMap<(String, String), Vec<ServerKey>>,
    budget: Budget,
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
            budget: Budget::default(),
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
    fn look(&mut self, key: &ServerKey, cause: &Cause, at_start: bool, ctx: &mut Context<Self>) {
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
        let paused = self.families.get_mut(key).map(|family| std::mem::replace(&mut family.paused, spec.paused));
        match (paused.unwrap_or(false), spec.paused) {
            (false, true) => {
                info!(namespace = key.namespace, name = key.name, "the server is paused: only its status is written");
            }
            (true, false) => info!(namespace = key.namespace, name = key.name, "the pause is over"),
            _ => {}
        }
        let print = print_of(&spec);
        if let Some(family) = self.families.get(key).filter(|family| family.print == print) {
            family.status.0.do_send(Poke(cause.to(&self.deps.metrics, Role::StatusReporter)));
            self.tend(key, ctx);
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
        // Its actors know first that it is being deleted.
        self.tend(key, ctx);
    }

    fn start(&mut self, key: &ServerKey, spec: &Spec, print: Print, at_start: bool, ctx: &Context<Self>) -> Family {
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
            paused: spec.paused,
            hold: Hold::new(&self.deps),
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
        self.budget.forget(key);
        self.secrets.retain(|_, users| {
            users.retain(|user| user != key);
            !users.is_empty()
        });
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
                users.retain(|user| user != key);
            }
            !users.is_empty()
        });
        for name in watched {
            let users = self.secrets.entry((key.namespace.clone(), name)).or_default();
            if !users.contains(key) {
                users.push(key.clone());
            }
        }
    }

    fn resync(&mut self, cause: &Cause, ctx: &mut Context<Self>) {
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

    fn stateful_set_changed(&mut self, key: &ServerKey, cause: &Cause, ctx: &mut Context<Self>) {
        let Some(family) = self.families.get_mut(key) else { return };
        let set = self.deps.caches.stateful_sets.get(&key.namespace, &key.name);
        let ready = set.and_then(|set| set.pointer("/status/readyReplicas")?.as_i64()).unwrap_or(0) > 0;
        if ready && !std::mem::replace(&mut family.ready, ready) {
            family.poller.0.do_send(ServerReachable);
        }
        family.ready = ready;
        family.ports.0.do_send(Poke(cause.to(&self.deps.metrics, Role::PortReconciler)));
        family.status.0.do_send(Poke(cause.to(&self.deps.metrics, Role::StatusReporter)));
        // The API of a server without a pod is waited for no more.
        if family.hold.is_deleting() {
            self.tend(key, ctx);
        }
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

    /// The kind came, went, or was listed anew: each server may want one, or want to say that it cannot have one.
    fn service_monitors_seen(&self, cause: &Cause) {
        for (key, family) in &self.families {
            let span = self.watched(Kind::ServiceMonitor, key, cause);
            let _within = span.enter();
            let cause = Cause::here(CauseKind::Resync);
            family.services.0.do_send(Poke(cause.to(&self.deps.metrics, Role::ServiceReconciler)));
            family.status.0.do_send(Poke(cause.to(&self.deps.metrics, Role::StatusReporter)));
        }
    }

    /// The root of a trace: what a watch brought about a server. Its queue time is that of the sighting.
    fn watched(&self, kind: Kind, key: &ServerKey, cause: &Cause) -> Span {
        let span = error_span!("watch", otel.name = %format_args!("watch {}", kind.plural()));
        let span = begin(span, &self.deps.tracer.root(key), &[]);
        describe(&span, || {
            let event = if cause.kind == CauseKind::Resync { "resync" } else { "changed" };
            [
                (Attribute::Cause, cause.kind.as_str().into()),
                (Attribute::Namespace, key.namespace.clone().into()),
                (Attribute::WatchEvent, event.into()),
                (Attribute::MailboxTime, milliseconds(cause.at.elapsed()).into()),
            ]
        });
        span
    }

    /// Starts one child anew and makes it known to its siblings.
    fn respawn(&mut self, end: &ChildEnded, ctx: &mut Context<Self>) {
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
        family.hold.actor_is_new(end.role, self.deps.origin.elapsed());
        self.tend(key, ctx);
    }
}

/// A share of the period, from a seed.
fn spread(seed: u64) -> f64 {
    use rand::{Rng as _, SeedableRng as _};
    rand::rngs::SmallRng::seed_from_u64(seed).random_range(0.0..1.0)
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
            Sighting::NetworkPolicy(key) => (Kind::NetworkPolicy, key),
            Sighting::ServiceMonitor(key) => (Kind::ServiceMonitor, key),
            Sighting::ServiceMonitors => return self.service_monitors_seen(&cause),
            Sighting::Claim(key) => (Kind::Claim, key),
            // Of many starting at once each says a few things: they make no trace of their own when nobody listens.
            Sighting::Pod(key) if !self.families.contains_key(&key) => return,
            Sighting::Pod(key) => (Kind::Pod, key),
        };
        let span = self.watched(kind, &key, &cause);
        let _within = span.enter();
        let cause = Cause { trace: TraceContext::current(), ..cause };
        match (kind, self.families.get(&key)) {
            (Kind::DittoServer, _) => self.look(&key, &cause, false, ctx),
            (Kind::StatefulSet, _) => self.stateful_set_changed(&key, &cause, ctx),
            (Kind::Service, Some(family)) => {
                family.services.0.do_send(Poke(cause.to(&self.deps.metrics, Role::ServiceReconciler)));
                family.status.0.do_send(Poke(cause.to(&self.deps.metrics, Role::StatusReporter)));
            }
            (Kind::NetworkPolicy | Kind::ServiceMonitor, Some(family)) => {
                family.services.0.do_send(Poke(cause.to(&self.deps.metrics, Role::ServiceReconciler)));
            }
            (Kind::Claim, Some(family)) => {
                family.ports.0.do_send(Poke(cause.to(&self.deps.metrics, Role::PortReconciler)));
                family.status.0.do_send(Poke(cause.to(&self.deps.metrics, Role::StatusReporter)));
            }
            (Kind::Pod, Some(family)) => {
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
        let child = (end.key.clone(), end.role);
        let Some(delay) = self.budget.spend(child, self.deps.next_seed(), Instant::now()) else {
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
