//! The half of PortReconciler that lets the server's claims grow: the only writer of the size that they ask for.
//!
//! What to ask is decided in [`crate::reconcile::claims`]. The watch's cache answers for the common case, in which nothing
//! is to be asked; a claim is read before it is written, and written only as it was read (uid and resourceVersion).
//! Before a claim is asked to grow its StorageClass is looked at; what is refused is remembered, told once, and tried again
//! only when the server changes or everything is looked at anew. What a claim asks for beyond the spec is taken back only
//! when we asked for it ourselves, which the claim as read tells; what somebody else asked for is left, and said. Neither
//! the StatefulSet nor a pod is touched.

use std::collections::BTreeMap;

use serde_json::Value;
use tracing::{Span, debug, info, warn};

use super::{ATTEMPTS, PAUSE, Run};
use crate::actors::done::retry;
use crate::actors::messages::CauseKind;
use crate::backoff::Backoff;
use crate::cluster::{CrRef, FIELD_MANAGER, Kind, KubeError, Reason};
use crate::reconcile::claims::{self, Standing, Wish, standing, wishes};
use crate::reconcile::status::VolumesFact;
use crate::reconcile::{ValidatedServer, meta, owned_by};
use crate::telemetry::trace::failed;

/// Field of the metadata that changes with every write.
const VERSION: &str = "resourceVersion";

/// What is remembered of the claims from run to run.
#[derive(Clone, Debug, Default)]
pub(super) struct Volumes {
    /// By claim: the size that was refused, and why.
    refused: BTreeMap<&'static str, (String, String)>,
    /// By claim: the size that it had.
    sizes: BTreeMap<&'static str, String>,
    /// StorageClasses that are missing, in words.
    classless: Vec<String>,
    /// By claim that is left as somebody else wished.
    left: BTreeMap<&'static str, Left>,
}

/// A claim that somebody else asked for more than the spec does.
#[derive(Clone, Debug)]
struct Left {
    /// The version of the claim that told so: as long as it is this one, nobody has to read it again.
    version: String,
    /// Who asked.
    by: String,
}

impl Volumes {
    /// What StatusReporter is told.
    pub(super) fn fact(&self) -> VolumesFact {
        VolumesFact {
            refused: self.refused.iter().map(|(claim, (_, why))| (*claim, why.clone())).collect(),
            left: self.left.iter().map(|(claim, left)| (*claim, left.by.clone())).collect(),
            classless: self.classless.clone(),
        }
    }

    /// Whether claims wait for a StorageClass that is missing.
    pub(super) fn lack_a_class(&self) -> bool {
        !self.classless.is_empty()
    }

    /// What is to be remembered after a run that found this of the claims, and this of their classes; None when it found
    /// nothing out.
    pub(super) fn and(&self, found: Option<Self>, classless: Option<Vec<String>>) -> Option<Self> {
        let classless = classless.unwrap_or_else(|| self.classless.clone());
        if found.is_none() && classless == self.classless {
            return None;
        }
        Some(Self { classless, ..found.unwrap_or_else(|| self.clone()) })
    }
}

/// What became of one claim.
enum Asked {
    /// It is as it should be, or on its way.
    Well,
    /// It cannot be had as things are: the size, and why.
    Refused(String, String),
    /// Somebody else asked it for more.
    Left(Left),
}

impl Run {
    /// Looks at the claims. None when nothing is known about them; otherwise what is to be remembered, and whether a call
    /// failed that may succeed later.
    pub(super) async fn volumes(&mut self, server: &ValidatedServer) -> Option<(Volumes, bool)> {
        if server.deleting || !self.deps.caches.claims.is_synced() {
            return None;
        }
        let names = server.names();
        let set = self.deps.caches.stateful_sets.get(&self.key.namespace, &names.stateful_set());
        let set = set.filter(|set| owned_by(set, &server.uid))?;
        let before = self.volumes.clone();
        let mut after = Volumes::default();
        let mut again = false;
        for wish in wishes(server).iter().filter(|wish| claims::has_template(&set, wish.volume)) {
            let claim = wish.volume.claim();
            let cached = self.deps.caches.claims.get(&self.key.namespace, &wish.name);
            self.grown(server, wish, cached.as_deref(), before.sizes.get(claim));
            if crate::fault::on("delete-claim")
                && let Some(claim) = &cached
            {
                let uid = meta(claim, "uid");
                let _ = self.deps.cluster.delete(Kind::Claim, &self.key.namespace, &wish.name, uid).await;
            }
            if let Some(size) = cached.as_deref().and_then(claims::size_of) {
                after.sizes.insert(claim, size.to_owned());
            }
            let left = before.left.get(claim);
            let to = match cached.as_deref().map(|claim| standing(claim, &wish.size)) {
                Some(Standing::Ask { grows: false, .. })
                    if left.map(|left| left.version.as_str())
                        == cached.as_deref().map(|known| meta(known, VERSION)) =>
                {
                    after.left.extend(left.map(|left| (claim, left.clone())));
                    continue;
                }
                Some(Standing::Ask { to, .. }) => to,
                Some(Standing::Growing { has, asks, how, failed: true }) => {
                    let note = format!(
                        "it does not grow from {has} to {asks} ({how}); see kubectl describe pvc {}",
                        wish.name
                    );
                    self.cannot(server, wish, &note);
                    continue;
                }
                // One without our labels is in no cache; it is in the way only of a size that differs.
                None if has_pod(&set) && claims::template_size(&set, wish.volume) != Some(&wish.size) => {
                    wish.size.clone()
                }
                _ => continue,
            };
            let known = before.refused.get(claim).filter(|(size, _)| *size == to);
            let asked = match known {
                Some((size, why)) if !self.looks_anew() => Ok(Asked::Refused(size.clone(), why.clone())),
                _ => self.ask(server, wish).await,
            };
            match asked {
                Ok(Asked::Well) => {}
                Ok(Asked::Left(found)) => {
                    if left.map(|left| &left.by) != Some(&found.by) {
                        self.leaves(wish, &found.by);
                    }
                    after.left.insert(claim, found);
                }
                Ok(Asked::Refused(size, why)) => {
                    self.cannot(server, wish, &why);
                    after.refused.insert(claim, (size, why));
                }
                Err(error) => {
                    let what = format!("Claim {}", wish.name);
                    if let Some(again) = self.trouble.failed(&what) {
                        warn!(namespace = self.key.namespace, name = self.key.name, claim = wish.name, error = %error, "a claim cannot be looked at or resized{again}");
                    }
                    failed(&Span::current(), error.category(), &error.to_string());
                    again = true;
                }
            }
        }
        Some((after, again))
    }

    /// Whether what was refused is tried again: somebody changed the server, or everything is looked at anew.
    fn looks_anew(&self) -> bool {
        matches!(self.cause, CauseKind::Start | CauseKind::ServerChanged | CauseKind::Resync)
    }

    /// Tells of a claim that has more than it had.
    fn grown(&mut self, server: &ValidatedServer, wish: &Wish, claim: Option<&Value>, before: Option<&String>) {
        let (Some(size), Some(before)) = (claim.and_then(claims::size_of), before) else { return };
        if !claims::is_more(size, before) {
            return;
        }
        info!(
            namespace = self.key.namespace,
            name = self.key.name,
            claim = wish.name,
            from = before,
            to = size,
            "a claim has grown"
        );
        let note = format!("Claim {} has grown from {before} to {size}", wish.name);
        let related = Some((Kind::Claim, wish.name.clone()));
        self.deps.event(&self.about(server), Reason::VolumeExpanded, "ResizeClaim", note, related);
    }

    /// Tells why a claim does not get its size, as often as failures are told.
    fn cannot(&mut self, server: &ValidatedServer, wish: &Wish, why: &str) {
        if let Some(again) = self.trouble.failed(&format!("Claim {}", wish.name)) {
            warn!(
                namespace = self.key.namespace,
                name = self.key.name,
                claim = wish.name,
                why,
                "a claim cannot get its size{again}"
            );
            let note = format!("Claim {}: {why}", wish.name);
            let related = Some((Kind::Claim, wish.name.clone()));
            let (about, reason) = (self.about(server), Reason::VolumeExpansionFailed);
            self.deps.event_again(&about, reason, "ResizeClaim", note, related, again.times);
        }
    }

    /// Tells that somebody else asked a claim for more than the spec does.
    fn leaves(&self, wish: &Wish, by: &str) {
        let (namespace, name, size) = (&self.key.namespace, &self.key.name, &wish.size);
        info!(namespace, name, claim = wish.name, spec = size, by, "a claim is left as somebody else asked for it");
    }

    pub(super) fn about(&self, server: &ValidatedServer) -> CrRef {
        CrRef { key: self.key.clone(), uid: server.uid.clone() }
    }

    /// Reads one claim and asks it for the size that is wanted.
    async fn ask(&mut self, server: &ValidatedServer, wish: &Wish) -> Result<Asked, KubeError> {
        let mut pause = Backoff::new(PAUSE.0, PAUSE.1, self.seed);
        let mut attempt = 1;
        loop {
            let Some(claim) = self.deps.cluster.get(Kind::Claim, &self.key.namespace, &wish.name).await? else {
                return Ok(Asked::Well);
            };
            if !claims::is_claim_of(&claim, &self.key.name, wish.volume) {
                return Ok(Asked::Refused(wish.size.clone(), foreign(&self.key.name)));
            }
            let Standing::Ask { has, asks, to, grows } = standing(&claim, &wish.size) else { return Ok(Asked::Well) };
            if !grows && let Some(by) = claims::wished_by_other(&claim, FIELD_MANAGER) {
                return Ok(Asked::Left(Left { version: meta(&claim, VERSION).to_owned(), by }));
            }
            if grows && let Some(why) = self.class_refuses(&claim).await? {
                return Ok(Asked::Refused(to, why));
            }
            match self.deps.cluster.resize_claim(&claim, &to).await {
                Ok(_) => {
                    self.asked(server, wish, &has, &asks, &to, grows);
                    return Ok(Asked::Well);
                }
                // Gone, or told by the condition Paused.
                Err(error) if error.is_not_found() || matches!(error, KubeError::Paused { .. }) => {
                    return Ok(Asked::Well);
                }
                Err(error) if error.is_conflict() && attempt < ATTEMPTS => {
                    debug!(claim = wish.name, attempt, "the claim changed meanwhile; reading it again");
                    retry(&self.deps.metrics, attempt, &format!("persistentvolumeclaims/{}", wish.name), &error);
                }
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => return Ok(Asked::Refused(to, refusal(&error))),
            }
            attempt += 1;
            tokio::time::sleep(pause.next()).await;
        }
    }

    /// Why the claim's StorageClass does not let it grow. An operator that may not look at classes leaves it to the API
    /// server.
    async fn class_refuses(&self, claim: &Value) -> Result<Option<String>, KubeError> {
        let Some(name) = claims::class_name(claim) else { return Ok(claims::class_refuses(claim, None)) };
        match self.deps.cluster.get(Kind::StorageClass, "", name).await {
            Ok(class) => Ok(claims::class_refuses(claim, class.as_ref())),
            Err(error) if error.is_forbidden() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn asked(&mut self, server: &ValidatedServer, wish: &Wish, has: &str, asks: &str, to: &str, grows: bool) {
        let name = &wish.name;
        let cause = self.cause.as_str();
        info!(
            namespace = self.key.namespace,
            name = self.key.name,
            claim = name,
            has,
            from = asks,
            to,
            cause,
            "resized a claim"
        );
        let note = if grows {
            format!("Claim {name} is asked to grow from {has} to {to}")
        } else {
            format!("Claim {name} asks for {to} instead of {asks} again; it has {has}")
        };
        self.done.did("update", format!("resized claim {name}: {asks} to {to}"));
        let related = Some((Kind::Claim, name.clone()));
        self.deps.event(&self.about(server), Reason::VolumeExpanding, "ResizeClaim", note, related);
    }
}

/// Whether there is a pod, and with it a claim of each template.
fn has_pod(set: &Value) -> bool {
    set.pointer("/status/replicas").and_then(Value::as_i64).unwrap_or(0) > 0
}

fn foreign(server: &str) -> String {
    format!(
        "it does not carry the labels app=dittofs-server, instance={server} of this server's claims and is left alone; \
         label it, or resize it yourself"
    )
}

fn refusal(error: &KubeError) -> String {
    format!("{error}; it keeps its size")
}
