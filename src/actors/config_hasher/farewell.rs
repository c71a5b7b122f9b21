//! How a server parts with the cluster of Percona's operator: when it is deleted, and when `spec.percona` is switched off
//! in one that stays. What to do is decided in [`crate::reconcile::percona`].
//!
//! Writes nothing but the cluster's owner reference, by which the garbage collector takes it with the server or leaves it;
//! deletes nothing. A deletion waits for it: each [`Cleanup`] is one attempt, answered exactly once, by a run that begins
//! after it came, so that no run before it can still make a cluster; when to try again, and when to give up, is the
//! Supervisor's to decide. Where our finalizer is gone and others still hold the server, it is done unasked.

use actix::prelude::*;
use tracing::{info, warn};

use super::{ConfigHasher, Outcome, Run};
use crate::actors::done::retry;
use crate::actors::flight::poke;
use crate::actors::messages::{Cleaned, Cleanup};
use crate::actors::specs::Spec;
use crate::cluster::{CrRef, Kind, KubeError, Reason};
use crate::reconcile::deletion::{Attempt, Duty, has_finalizer};
use crate::reconcile::percona::{Leaver, Parting, part_with_cluster};
use crate::reconcile::status::ConfigFact;
use crate::reconcile::{Names, ServerKey, owned_by};

const KIND: Kind = Kind::PerconaPgCluster;

/// How often one attempt reads the cluster anew because somebody was faster: its own operator writes it, too.
const READS: u32 = 4;

/// Whether the server has a cluster that is tied to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tie {
    /// Not looked at by this process.
    #[default]
    Unknown,
    /// It uses one, or one goes with it.
    Bound,
    /// What there was is let go, and that was told.
    Loose,
}

/// Who waits for the end of a parting. Told once: at the latest when it is dropped, with the run or the actor.
pub(super) struct Farewell {
    key: ServerKey,
    uid: String,
    answer: Recipient<Cleaned>,
    ended: Option<Attempt>,
}

impl Farewell {
    fn ended(mut self, attempt: Attempt) {
        self.ended = Some(attempt);
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        let unfinished = || Attempt::Failed("the attempt ended before it was done".to_owned());
        let attempt = self.ended.take().unwrap_or_else(unfinished);
        let (key, uid) = (self.key.clone(), self.uid.clone());
        self.answer.do_send(Cleaned { key, uid, duty: Duty::Database, attempt });
    }
}

impl Handler<Cleanup> for ConfigHasher {
    type Result = ();
    fn handle(&mut self, message: Cleanup, ctx: &mut Self::Context) {
        crate::fault::hit_for("config-hasher.cleanup", &self.key.name);
        let Cleanup { uid, answer, cause } = message;
        self.farewell = Some(Farewell { key: self.key.clone(), uid, answer, ended: None });
        poke(self, ctx, cause);
    }
}

/// How a parting ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parted {
    /// There is no cluster of ours.
    Nothing,
    /// The cluster stays.
    Stays,
    /// The cluster goes with the server.
    Goes,
}

impl Run {
    /// The last look at the cluster of a server that is being deleted.
    pub(super) async fn leave(mut self, spec: &Spec) -> Outcome {
        crate::fault::hit_for("config-hasher.farewell", &self.key.name);
        let farewell = self.farewell.take().filter(|farewell| farewell.uid == spec.uid);
        // While our finalizer is on, the Supervisor asks for it.
        if farewell.is_none() && (has_finalizer(&spec.object) || self.tie == Tie::Loose) {
            return Outcome::Idle;
        }
        let mut leaver = Leaver::of(&spec.object);
        if (!leaver.had_cluster() && self.tie != Tie::Bound) || crate::fault::on("keep-tie") {
            if let Some(farewell) = farewell {
                farewell.ended(Attempt::Done);
            }
            return Outcome::Idle;
        }
        match (self.part(&mut leaver).await, farewell) {
            (Ok(parted), farewell) => {
                self.tell_parted(&leaver, parted);
                self.done.tell(None);
                if let Some(farewell) = farewell {
                    farewell.ended(Attempt::Done);
                }
                Outcome::Parted
            }
            (Err(error), Some(farewell)) => {
                self.done.tell(Some(&error.to_string()));
                farewell.ended(match &error {
                    KubeError::InvalidName { .. } => Attempt::Left(error.to_string()),
                    _ => Attempt::Failed(error.to_string()),
                });
                Outcome::Idle
            }
            (Err(error), None) => {
                let fact = ConfigFact::Failed { reason: "ConfigMapNotFound", text: error.to_string() };
                Outcome::Failed { fact, done: self.done }
            }
        }
    }

    /// Lets go of the cluster of a server that stays and has Percona switched off. What `deleteWithServer` ties to the
    /// server stays tied. Says whether to try again soon.
    pub(super) async fn let_go(&mut self, spec: &Spec) -> bool {
        let mut leaver = Leaver::of(&spec.object);
        if self.tie == Tie::Loose || (!leaver.had_cluster() && self.tie != Tie::Bound) || spec.paused {
            return false;
        }
        match self.part(&mut leaver).await {
            Ok(Parted::Goes) => self.tie = Tie::Bound,
            Ok(parted) => {
                self.tie = Tie::Loose;
                self.tell_parted(&leaver, parted);
            }
            Err(error) => {
                self.tie = Tie::Bound;
                if let Some(again) = self.trouble.failed("database") {
                    warn!(
                        namespace = self.key.namespace,
                        name = self.key.name,
                        error = %error,
                        "the database's cluster cannot be let go{again}"
                    );
                }
                return true;
            }
        }
        false
    }

    /// Sees to it that the garbage collector takes the cluster with its server exactly when the spec says so: the owner
    /// reference may be older than the spec, or the Go operator's.
    async fn part(&mut self, leaver: &mut Leaver) -> Result<Parted, KubeError> {
        let (namespace, name) = (self.key.namespace.clone(), leaver.cluster());
        let mut read = 0;
        loop {
            read += 1;
            let live = match self.deps.cluster.get(KIND, &namespace, &name).await {
                Err(error) if error.is_unserved() => return Ok(Parted::Nothing),
                live => live?,
            };
            let (object, parted) = match part_with_cluster(leaver, live.as_ref()) {
                Parting::Nothing => return Ok(Parted::Nothing),
                Parting::Orphaned => return Ok(Parted::Stays),
                Parting::Taken | Parting::Claim(_) if self.was_left_behind(leaver).await? => {
                    leaver.orphans = true;
                    continue;
                }
                Parting::Taken => return Ok(Parted::Goes),
                Parting::Release(object) => (object, Parted::Stays),
                Parting::Claim(object) => (object, Parted::Goes),
            };
            match self.deps.cluster.replace(KIND, &namespace, &name, &object).await {
                Ok(_) => {}
                Err(error) if error.is_not_found() => return Ok(Parted::Nothing),
                Err(error) if error.is_conflict() && read < READS => {
                    retry(&self.deps.metrics, read, &format!("{}/{name}", KIND.plural()), &error);
                    continue;
                }
                Err(error) => return Err(error),
            }
            let goes = parted == Parted::Goes;
            self.follows_the_spec(&name, if goes { "goes with the server" } else { "outlives the server" });
            return Ok(parted);
        }
    }

    /// Whether the garbage collector has already let go of what the server owned, as `--cascade=orphan` asks: the
    /// finalizer that says so is gone by then, and our ConfigMap has no owner any more. A kind that has just come, as
    /// the cluster's may have, is one that the garbage collector does not know yet.
    async fn was_left_behind(&self, leaver: &Leaver) -> Result<bool, KubeError> {
        if !leaver.deleting {
            return Ok(false);
        }
        let name = Names::new(&leaver.key.name).config_map();
        let map = self.deps.cluster.get(Kind::ConfigMap, &self.key.namespace, &name).await?;
        Ok(map.is_some_and(|map| !owned_by(&map, &leaver.uid)))
    }

    /// The owner reference was written.
    pub(super) fn follows_the_spec(&mut self, cluster: &str, how: &str) {
        info!(
            namespace = self.key.namespace,
            name = self.key.name,
            cluster,
            how,
            "the fate of the database's cluster follows the spec"
        );
        self.done.did("update", format!("updated {KIND} {cluster}: it {how}"));
    }

    fn tell_parted(&self, leaver: &Leaver, parted: Parted) {
        let (reason, note) = match parted {
            Parted::Nothing => return,
            Parted::Stays => (Reason::PerconaOrphaned, leaver.stays_note()),
            Parted::Goes => (Reason::PerconaDeleted, leaver.goes_note()),
        };
        let about = CrRef { key: self.key.clone(), uid: leaver.uid.clone() };
        self.deps.event(&about, reason, "PartWithDatabase", note, Some((KIND, leaver.cluster())));
    }
}
