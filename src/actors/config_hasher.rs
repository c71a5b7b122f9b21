//! ConfigHasher: renders the configuration, keeps the ConfigMap and the generated Secrets, and computes the hash.
//!
//! The only writer of the ConfigMap, of the generated JWT and admin Secrets, and of the cluster of Percona's operator. It
//! sends the hash; PortReconciler puts it on the pod template. A Secret that is missing or unreadable never changes the
//! hash: it holds the last one.

mod farewell;
mod percona;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use actix::prelude::*;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use tracing::{info, warn};

use self::farewell::{Farewell, Tie};
use super::Deps;
use super::done::{Done, report_changes, report_fights};
use super::flight::{Finished, Flight, Job, Verdict, Worker, finished, poke};
use super::inspect::{Inspect, prefix};
use super::lifeline::Lifeline;
use super::messages::{Cause, CauseKind, ConfigHashed, Fact, Peers, Poke, Report, Resend, Role, Stop, Wire};
use super::trouble::Trouble;
use super::upkeep::Upkeep;
use super::vault::{random_text, secret_bytes, secret_text};
use crate::build::{admin_secret, config_map, hashed_text, jwt_secret, render};
use crate::cluster::{CrRef, Kind, KubeError, Reason, pause};
use crate::reconcile::percona::DatabaseFact;
use crate::reconcile::stateful_set::HashInput;
use crate::reconcile::status::ConfigFact;
use crate::reconcile::{
    Decision, Keys, SecretKey, ServerKey, ValidatedServer, config_hash, decide, disowned, generation_for_hash, meta,
    secrets_used,
};

/// Bytes of a generated JWT signing key; the server asks for 32 characters or more.
const JWT_SECRET_LENGTH: usize = 48;
/// Length of a generated administrator password.
const ADMIN_PASSWORD_LENGTH: usize = 24;

/// See the module.
pub struct ConfigHasher {
    key: ServerKey,
    deps: Arc<Deps>,
    peers: Peers,
    flight: Flight,
    last: Option<Hashed>,
    /// Why the last run came to no hash; None when it did.
    failed: Option<ConfigFact>,
    /// resourceVersion of the ConfigMap and the text that it was seen to hold.
    config_map: Option<(String, String)>,
    upkeep: Upkeep,
    /// The fights that were told last.
    fought: Vec<String>,
    /// The database of Percona's operator, as the last run found it.
    database: Option<DatabaseFact>,
    tie: Tie,
    /// The server is being deleted, and this waits for the next run.
    farewell: Option<Farewell>,
    _lifeline: Lifeline,
}

impl ConfigHasher {
    /// A hasher that has computed nothing.
    pub fn new(key: ServerKey, deps: Arc<Deps>, peers: Peers, lifeline: Lifeline) -> Self {
        let flight = Flight::new(key.clone(), Role::ConfigHasher, &deps);
        let upkeep = Upkeep::new(deps.clone());
        Self {
            key,
            deps,
            peers,
            flight,
            last: None,
            failed: None,
            config_map: None,
            upkeep,
            fought: Vec::new(),
            database: None,
            tie: Tie::default(),
            farewell: None,
            _lifeline: lifeline,
        }
    }

    fn tell_fights(&mut self) {
        let (fights, status) = (self.upkeep.fought(), &self.peers.status);
        report_fights(status, &self.deps.metrics, Role::ConfigHasher, fights, &mut self.fought);
    }

    fn tell(&self) {
        if let Some(last) = &self.last {
            let (generation, hash) = (last.generation, last.hash.clone());
            self.peers.hashed.do_send(ConfigHashed {
                generation,
                hash,
                cause: Cause::here(CauseKind::ConfigHashed).to(&self.deps.metrics, Role::PortReconciler),
            });
        }
        if self.database.is_some() || self.tie == Tie::Loose {
            self.tell_database();
        }
        if let Some(fact) = self.failed.as_ref().or(self.last.as_ref().map(|last| &last.fact)) {
            let cause = Cause::here(CauseKind::Fact);
            self.peers.status.do_send(Report {
                fact: Fact::Config(fact.clone()),
                cause: cause.to(&self.deps.metrics, Role::StatusReporter),
            });
        }
    }

    fn tell_database(&self) {
        let cause = Cause::here(CauseKind::Fact).to(&self.deps.metrics, Role::StatusReporter);
        self.peers.status.do_send(Report { fact: Fact::Database(self.database.clone()), cause });
    }

    /// Puts what the run found on the span of its work.
    fn trace(&mut self, mut done: Done, news: bool) {
        let (words, problem) = match (&self.failed, &self.last) {
            (Some(ConfigFact::Failed { text, .. }), _) => (String::new(), Some(text.clone())),
            (_, Some(Hashed { fact: ConfigFact::SecretMissing { text, .. }, .. })) => {
                (format!("the hash is held: {text}"), None)
            }
            _ => ("the config hash is new to PortReconciler".to_owned(), None),
        };
        let written = done.has_changes();
        if news {
            done.did("hashed", words);
        }
        let changes = done.tell(problem.as_deref());
        if written {
            report_changes(&self.peers.status, &self.deps.metrics, &changes);
        }
    }
}

/// What the last run that came to a hash found.
struct Hashed {
    generation: i64,
    hash: HashInput,
    fact: ConfigFact,
}

impl Actor for ConfigHasher {
    type Context = Context<Self>;
}

impl Handler<Poke> for ConfigHasher {
    type Result = ();
    fn handle(&mut self, message: Poke, ctx: &mut Self::Context) {
        crate::fault::hit_for("config-hasher.handler", &self.key.name);
        poke(self, ctx, message.0);
    }
}

impl Handler<Resend> for ConfigHasher {
    type Result = ();
    fn handle(&mut self, _: Resend, _: &mut Self::Context) {
        self.tell();
        self.fought.clear();
        self.tell_fights();
    }
}

impl Handler<Wire> for ConfigHasher {
    type Result = ();
    fn handle(&mut self, message: Wire, _: &mut Self::Context) {
        self.peers = message.0;
    }
}

impl Handler<Finished<Outcome>> for ConfigHasher {
    type Result = ();
    fn handle(&mut self, end: Finished<Outcome>, ctx: &mut Self::Context) {
        finished(self, ctx, end);
    }
}

/// What a run found.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing is to be done for this server: gone, being deleted or invalid.
    Idle,
    /// The server is being deleted, and was parted from its database.
    Parted,
    /// Everything that is needed is there, or says what is missing.
    Hashed {
        /// `metadata.generation` of the spec that was hashed.
        generation: i64,
        /// For PortReconciler.
        hash: HashInput,
        /// For StatusReporter.
        fact: ConfigFact,
        /// resourceVersion and text of the ConfigMap.
        config_map: Option<(String, String)>,
        /// The database of Percona's operator, when the server has one.
        database: Option<DatabaseFact>,
        /// Whether a cluster is tied to the server.
        tie: Tie,
        /// Whether a Secret could not be read, which only time may heal.
        retry: bool,
        /// What was written.
        done: Done,
    },
    /// A read or write failed.
    Failed {
        /// For StatusReporter.
        fact: ConfigFact,
        /// What was written before.
        done: Done,
    },
}

impl Worker for ConfigHasher {
    type Outcome = Outcome;
    fn flight(&mut self) -> &mut Flight {
        &mut self.flight
    }
    fn job(&mut self, cause: &Cause) -> Job<Outcome> {
        let run = Run {
            deps: self.deps.clone(),
            key: self.key.clone(),
            known: self.config_map.clone(),
            done: Done::default(),
            trouble: self.flight.trouble(),
            upkeep: self.upkeep.clone(),
            cause: cause.kind,
            foreign: None,
            tie: self.tie,
            farewell: self.farewell.take(),
        };
        Box::pin(async move { Box::pin(run.reconcile()).await })
    }
    fn status(&self) -> Option<&Recipient<Report>> {
        Some(&self.peers.status)
    }
    fn landed(&mut self, outcome: Outcome) -> Verdict {
        self.tell_fights();
        match outcome {
            Outcome::Idle => Verdict::Settled,
            Outcome::Parted => {
                self.tie = Tie::Loose;
                Verdict::Settled
            }
            Outcome::Hashed { generation, hash, fact, config_map, database, tie, retry, done } => {
                // A failure was reported in between: the siblings have to hear that it is over.
                let healed = self.failed.take().is_some();
                let changed = healed
                    || self.last.as_ref().is_none_or(|before| {
                        before.hash != hash || before.generation != generation || before.fact != fact
                    });
                self.config_map = config_map;
                self.last = Some(Hashed { generation, hash, fact });
                self.trace(done, changed);
                // Nobody tells what becomes of the database: it is looked at again and again.
                let again = database.as_ref().map(percona::look_again);
                let before = (std::mem::replace(&mut self.database, database), self.tie);
                self.tie = tie;
                if changed {
                    self.tell();
                } else if before != (self.database.clone(), tie) && (self.database.is_some() || tie == Tie::Loose) {
                    self.tell_database();
                }
                match again {
                    _ if retry => Verdict::Retry,
                    Some(pause) => Verdict::After(pause),
                    None => Verdict::Settled,
                }
            }
            Outcome::Failed { fact, done } => {
                let news = self.failed.as_ref() != Some(&fact);
                self.failed = Some(fact.clone());
                self.trace(done, false);
                if news {
                    self.peers.status.do_send(Report {
                        fact: Fact::Config(fact),
                        cause: Cause::here(CauseKind::Fact).to(&self.deps.metrics, Role::StatusReporter),
                    });
                }
                Verdict::Retry
            }
        }
    }
}

/// One run.
struct Run {
    deps: Arc<Deps>,
    key: ServerKey,
    known: Option<(String, String)>,
    done: Done,
    trouble: Trouble,
    upkeep: Upkeep,
    cause: CauseKind,
    /// The ConfigMap's name, when it is somebody else's.
    foreign: Option<String>,
    tie: Tie,
    /// Who waits for the server to part with its database.
    farewell: Option<Farewell>,
}

/// The values that a Secret contributes, or why it cannot.
enum Values {
    Found(BTreeMap<SecretKey, Vec<u8>>),
    Missing(String),
    Unreadable(String),
}

impl Run {
    async fn reconcile(mut self) -> Outcome {
        crate::fault::hit_for("config-hasher.job", &self.key.name);
        let Some(spec) = self.deps.spec(&self.key) else { return Outcome::Idle };
        if spec.deleting {
            return self.leave(&spec).await;
        }
        let Ok(server) = spec.server.clone() else { return Outcome::Idle };
        let about = CrRef { key: self.key.clone(), uid: server.uid.clone() };
        if crate::fault::on("foreign-namespace") {
            let _ = self.deps.cluster.get(Kind::Secret, "default", &server.names().jwt_secret()).await;
        }
        let yaml = render(&server);
        let config_map = match self.keep_config_map(&about, &server, &yaml).await {
            Ok(known) => known,
            // What the hash would be is told all the same.
            Err(_) if pause::was_refused() => None,
            Err(fact) => return self.failed(&about, fact),
        };
        let mut read = match self.keep_secrets(&about, &server).await {
            Ok(read) => read,
            Err(fact) => return self.failed(&about, fact),
        };
        let mut retry = false;
        let database = if let Some(wanted) = &server.percona {
            self.tie = Tie::Bound;
            Some(self.keep_database(&about, &server, wanted).await)
        } else {
            retry = self.let_go(&spec).await;
            None
        };
        let waits = database.as_ref().is_some_and(|database| database.problem.is_some());
        let mut values = BTreeMap::new();
        let mut missing = Vec::new();
        for used in secrets_used(&server) {
            match self.secret_values(&used.name, &used.keys, &mut read).await {
                Values::Found(found) => values.extend(found),
                Values::Missing(why) => {
                    missing.push(format!("{} ({why}), needed for {} ({})", used.name, used.purpose, used.field));
                }
                Values::Unreadable(why) => {
                    retry = true;
                    missing.push(format!(
                        "{} cannot be read ({why}), needed for {} ({})",
                        used.name, used.purpose, used.field
                    ));
                }
            }
        }
        let generation = server.generation;
        let (hash, mut fact) = if missing.is_empty() {
            let mut hash = config_hash(&hashed_text(&server, &yaml), &values, generation_for_hash(&server));
            if crate::fault::on("hash-of-the-process") {
                hash.replace_range(..8, &format!("{:08x}", std::process::id()));
            }
            // What it is made of is all there; the pod waits for its database alone.
            (if waits { HashInput::Held } else { HashInput::Hash(hash) }, ConfigFact::Valid { generation })
        } else {
            let text = format!("Secret {}; the server is left as it is until it is there", missing.join("; Secret "));
            if let Some(again) = self.trouble.failed("Secrets") {
                let why = &text;
                warn!(namespace = self.key.namespace, name = self.key.name, why, "the config hash is held{again}");
            }
            (HashInput::Held, ConfigFact::SecretMissing { generation, text })
        };
        if pause::was_refused() {
            fact = ConfigFact::Failed { reason: "Paused", text: "the server is paused".to_owned() };
        }
        Outcome::Hashed { generation, hash, fact, config_map, database, tie: self.tie, retry, done: self.done }
    }

    fn failed(self, about: &CrRef, fact: ConfigFact) -> Outcome {
        if let ConfigFact::Failed { text, .. } = &fact
            && let Some(again) = self.trouble.failed("config")
        {
            let error = text;
            warn!(
                namespace = self.key.namespace,
                name = self.key.name,
                error,
                "the config cannot be reconciled{again}"
            );
            if let Some(name) = self.foreign {
                let related = Some((Kind::ConfigMap, name));
                self.deps.event_again(about, Reason::NotOwned, "KeepConfigMap", text.clone(), related, again.times);
            }
        }
        Outcome::Failed { fact, done: self.done }
    }

    async fn keep_config_map(
        &mut self,
        about: &CrRef,
        server: &ValidatedServer,
        yaml: &str,
    ) -> Result<Option<(String, String)>, ConfigFact> {
        let names = server.names();
        let (namespace, name) = (&self.key.namespace.clone(), names.config_map());
        let cached = self.deps.caches.config_maps.get(namespace, &name);
        if let (Some((version, known)), Some(cached)) = (&self.known, &cached)
            && *known == hashed_text(server, yaml)
            && meta(cached, "resourceVersion") == version
            && !crate::fault::on("rewrite-config-map")
        {
            return Ok(self.known.clone());
        }
        let desired = serde_json::to_value(config_map(server, yaml)).unwrap_or_default();
        let failed = |error: &KubeError| ConfigFact::Failed { reason: "ConfigMapNotFound", text: error.to_string() };
        let live = self.deps.cluster.get(Kind::ConfigMap, namespace, &name).await.map_err(|error| failed(&error))?;
        let written = match decide(live.as_ref(), &desired, &server.uid) {
            Decision::Nothing if crate::fault::on("rewrite-config-map") => {
                let live = live.unwrap_or_default();
                self.deps.cluster.replace(Kind::ConfigMap, namespace, &name, &live).await
            }
            Decision::Nothing => Ok(live.unwrap_or_default()),
            Decision::Create(object) => {
                let missing = self.upkeep.missing(Kind::ConfigMap, &name);
                if let Some(rest) = self.upkeep.rest(Kind::ConfigMap, &name, &missing, self.cause) {
                    return Err(ConfigFact::Failed { reason: "ConfigMapNotFound", text: rest.why });
                }
                let made = self.deps.cluster.create(Kind::ConfigMap, namespace, &object).await;
                if made.is_ok() {
                    self.upkeep.repaired(about, Kind::ConfigMap, &name, &missing, "");
                    self.done.did("create", format!("created ConfigMap {name}"));
                }
                made
            }
            Decision::Replace(object, changes) => {
                let changes = changes.join(", ");
                let drift = self.deps.drift(live.as_ref(), &object, self.cause);
                if let Some(rest) = self.upkeep.rest(Kind::ConfigMap, &name, &drift, self.cause) {
                    return Err(ConfigFact::Failed { reason: "ConfigMapNotFound", text: rest.why });
                }
                info!(namespace, name = self.key.name, config_map = name, changes, "the ConfigMap follows the spec");
                let written = self.deps.cluster.replace(Kind::ConfigMap, namespace, &name, &object).await;
                if written.is_ok() {
                    self.upkeep.repaired(about, Kind::ConfigMap, &name, &drift, &changes);
                    self.done.did("update", format!("updated ConfigMap {name}: {changes}"));
                }
                written
            }
            Decision::BeingDeleted => {
                let text = format!("ConfigMap {name} is being deleted; it is made again when it is gone");
                return Err(ConfigFact::Failed { reason: "ConfigMapNotFound", text });
            }
            Decision::NotOwned => {
                let text = format!("ConfigMap {name} belongs to somebody else; rename or remove it");
                self.foreign = Some(name);
                return Err(ConfigFact::Failed { reason: "ConfigMapNotFound", text });
            }
        };
        let written = written.map_err(|error| failed(&error))?;
        self.upkeep.saw(Kind::ConfigMap, &name);
        Ok(Some((meta(&written, "resourceVersion").to_owned(), hashed_text(server, yaml).into_owned())))
    }

    /// Creates the Secrets that the user did not give, once; what is there is taken up as it is. Returns them by name,
    /// so that each is read once a run.
    async fn keep_secrets(
        &mut self,
        about: &CrRef,
        server: &ValidatedServer,
    ) -> Result<BTreeMap<String, Value>, ConfigFact> {
        let names = server.names();
        let failed = |error: KubeError| ConfigFact::Failed { reason: "SecretMissing", text: error.to_string() };
        let mut read = BTreeMap::new();
        if server.jwt.secret.is_none() {
            let name = names.jwt_secret();
            let secret = match self.secret(&name).await.map_err(failed)? {
                Some(found) => self.set_free(server, found).await.map_err(failed)?,
                None => self
                    .create_secret(about, jwt_secret(server, &random_text(JWT_SECRET_LENGTH)))
                    .await
                    .map_err(failed)?,
            };
            self.upkeep.saw(Kind::Secret, &name);
            read.insert(name, secret);
        }
        if server.admin.password.is_none() {
            let name = names.admin_secret();
            let secret = if let Some(found) = self.secret(&name).await.map_err(failed)? {
                self.set_free(server, found).await.map_err(failed)?
            } else {
                // An existing server never seeds its administrator again: a password that an older release made stays.
                let legacy = self.secret(&names.legacy_admin_secret()).await.map_err(failed)?;
                let password = legacy
                    .and_then(|secret| secret_text(&secret, "password"))
                    .filter(|password| !password.is_empty())
                    .unwrap_or_else(|| random_text(ADMIN_PASSWORD_LENGTH));
                self.create_secret(about, admin_secret(server, &server.admin.username, &password))
                    .await
                    .map_err(failed)?
            };
            self.upkeep.saw(Kind::Secret, &name);
            read.insert(name, secret);
        }
        Ok(read)
    }

    /// A generated Secret does not go with its DittoServer: the one that another operator made is freed of its owner.
    async fn set_free(&mut self, server: &ValidatedServer, secret: Value) -> Result<Value, KubeError> {
        let Some(free) = disowned(&secret, &server.uid) else { return Ok(secret) };
        let name = meta(&free, "name").to_owned();
        let kept = self.deps.cluster.replace(Kind::Secret, &self.key.namespace, &name, &free).await?;
        self.done.did("update", format!("Secret {name} outlives the server: its owner reference is gone"));
        Ok(kept)
    }

    async fn secret(&self, name: &str) -> Result<Option<Value>, KubeError> {
        self.deps.cluster.get(Kind::Secret, &self.key.namespace, name).await
    }

    /// Creates a Secret, or reads the one that somebody made meanwhile: theirs counts.
    async fn create_secret(&mut self, about: &CrRef, secret: Secret) -> Result<Value, KubeError> {
        let name = secret.metadata.name.clone().unwrap_or_default();
        let made = serde_json::to_value(secret).unwrap_or_default();
        match self.deps.cluster.create(Kind::Secret, &self.key.namespace, &made).await {
            Err(error) if error.is_already_exists() => Ok(self.secret(&name).await?.unwrap_or_default()),
            made => {
                if made.is_ok() {
                    let missing = self.upkeep.missing(Kind::Secret, &name);
                    self.upkeep.repaired(about, Kind::Secret, &name, &missing, "");
                    self.done.did("create", format!("created Secret {name}"));
                }
                made
            }
        }
    }

    /// A Secret that several fields name is read once a run.
    async fn secret_values(&self, name: &str, keys: &Keys, read: &mut BTreeMap<String, Value>) -> Values {
        let secret = match read.entry(name.to_owned()) {
            Entry::Occupied(known) => &*known.into_mut(),
            Entry::Vacant(place) => match self.secret(name).await {
                Ok(Some(secret)) => &*place.insert(secret),
                Ok(None) => return Values::Missing("it does not exist".to_owned()),
                Err(error) => return Values::Unreadable(error.category().to_owned()),
            },
        };
        let mut found = BTreeMap::new();
        let mut take = |key: &str| {
            let value = secret_bytes(secret, key);
            let there = value.is_some();
            if let Some(value) = value {
                found.insert(SecretKey { name: name.to_owned(), key: key.to_owned() }, value);
            }
            there
        };
        match keys {
            Keys::All => {
                let all: Vec<String> =
                    secret["data"].as_object().into_iter().flat_map(|data| data.keys().cloned()).collect();
                for key in all {
                    take(&key);
                }
            }
            Keys::Named(named) => {
                for wanted in named {
                    if !take(&wanted.key) && wanted.required {
                        return Values::Missing(format!("it has no key {}", wanted.key));
                    }
                }
            }
        }
        Values::Found(found)
    }
}

impl Handler<Inspect> for ConfigHasher {
    type Result = MessageResult<Inspect>;
    fn handle(&mut self, _: Inspect, _: &mut Self::Context) -> Self::Result {
        let mut state = self.flight.state();
        if let Some(Hashed { generation, hash, .. }) = &self.last {
            let hash = match hash {
                HashInput::Hash(hash) => prefix(hash),
                HashInput::Held => "held",
                HashInput::Pending => "pending",
            };
            state["last"] = json!({"generation": generation, "hash": hash});
        }
        MessageResult(state)
    }
}

impl Handler<Stop> for ConfigHasher {
    type Result = ();
    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
