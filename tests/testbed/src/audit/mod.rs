//! What the operator did, read from the API server's audit log, and a checker of what it promised never to do.
//!
//! Owns nothing: it reads the log of a cluster, the logs of the operator and what is in the namespaces. The promises are
//! S1–S3 and S5–S9 of the operator's guarantees:
//!
//! | | |
//! |---|---|
//! | S1 | no two writes in flight for one object; which actor wrote it only the spans tell: [`one_actor`] |
//! | S2 | no restart without need: a template changes only with an input, a port change alone is held back |
//! | S3 | what is not ours is not touched; deletes carry the uid |
//! | S5 | absence is not evidence: nothing is removed without a full answer that says so |
//! | S6 | bounded load: no needless list, no write without a difference |
//! | S7 | reads and writes stay in the namespaces of the servers |
//! | S8 | no secret leaves |
//! | S9 | status is true |
//!
//! The judgement is a pure function of [`Facts`], so that the checker can itself be tried.

mod check;
mod entry;
mod history;
mod one_actor;
mod secrets;
mod timeline;

pub use check::{Broken, Promise, judge};
pub use entry::{Entry, Micros, ObjectRef, read, read_about};
pub use one_actor::one_actor;
pub use secrets::Canary;
pub use timeline::timeline;

use crate::cluster::{Cluster, resources, wait_until};
use crate::operator::Operator;
use anyhow::Context as _;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// An adapter in an answer of a DittoFS API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterState {
    /// Its type, such as `nfs`.
    pub adapter_type: String,
    /// `enabled`.
    pub enabled: bool,
    /// `running`.
    pub running: bool,
}

/// A full and valid answer that a DittoFS API gave to the operator.
#[derive(Clone, Debug)]
pub struct Observation {
    /// When it was given.
    pub time: SystemTime,
    /// Namespace of the DittoServer.
    pub namespace: String,
    /// Name of the DittoServer.
    pub server: String,
    /// The adapters in it.
    pub adapters: Vec<AdapterState>,
}

/// What a test states about its run.
#[derive(Clone, Debug)]
pub struct Expect {
    /// At most so many pods were started in the allowed namespaces.
    pub pod_starts: Option<usize>,
    /// Namespaces that the operator may touch; with none, that of its `--namespace`, or those that hold a DittoServer.
    pub allowed_namespaces: Vec<String>,
    /// Strings that must not be found outside Secrets. The values of the Secrets in the allowed namespaces and the
    /// operator's token are looked for without being named here.
    pub canaries: Vec<String>,
    /// Texts to search besides the operator's log and the objects: what they are, and the text.
    pub texts: Vec<(String, String)>,
    /// Every full answer of the DittoFS APIs, oldest first. Without it S5 is not judged.
    pub timeline: Option<Vec<Observation>>,
    /// No write at all between these times; Leases aside.
    pub quiet: Vec<(SystemTime, SystemTime)>,
    /// At most so many writes to one object (its status counts as another).
    pub max_writes_per_object: usize,
    /// Promises that do not apply to this run. Say why where you set it.
    pub skip: Vec<Promise>,
}

impl Default for Expect {
    fn default() -> Self {
        Self {
            pod_starts: None,
            allowed_namespaces: Vec::new(),
            canaries: Vec::new(),
            texts: Vec::new(),
            timeline: None,
            quiet: Vec::new(),
            max_writes_per_object: 60,
            skip: Vec::new(),
        }
    }
}

/// Everything that is judged.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The operator's user.
    pub user: String,
    /// The requests of all users, by the time of their arrival.
    pub entries: Vec<Entry>,
    /// When the operator was started, each time, oldest first.
    pub starts: Vec<Micros>,
    /// Whether it watches the whole cluster.
    pub whole_cluster: bool,
    /// What the test states.
    pub expect: Expect,
    /// Pods started in the allowed namespaces.
    pub pod_starts: Option<usize>,
    /// Texts in which no secret may be: what they are, and the text.
    pub texts: Vec<(String, String)>,
    /// The secrets.
    pub canaries: Vec<Canary>,
}

/// What came out.
#[derive(Debug)]
pub struct Report {
    /// Broken promises.
    pub broken: Vec<Broken>,
    /// How many requests of the operator were judged.
    pub judged: usize,
}

impl Report {
    /// Whether there is nothing to complain of.
    pub fn is_clean(&self) -> bool {
        self.broken.is_empty()
    }

    /// Fails the test when a promise was broken.
    ///
    /// # Panics
    /// Then, with each of them in words.
    pub fn assert_clean(&self) {
        assert!(self.is_clean(), "{self}");
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} broken promises in {} requests", self.broken.len(), self.judged)?;
        self.broken.iter().try_for_each(|broken| write!(f, "{broken}"))
    }
}

/// Reads the history of one operator and judges it.
///
/// # Panics
/// When the history cannot be read: the test has shown nothing then.
pub async fn check(cluster: &Cluster, operator: &Operator, expect: Expect) -> Report {
    let facts = gather(cluster, operator, expect).await.expect("the history of the operator");
    let judged = facts.entries.iter().filter(|entry| entry.user == facts.user).count();
    Report { broken: judge(&facts), judged }
}

/// The facts of one operator's run.
///
/// # Errors
/// When something cannot be read.
pub async fn gather(cluster: &Cluster, operator: &Operator, expect: Expect) -> anyhow::Result<Facts> {
    settle(cluster).await?;
    let whole_cluster = operator.options().namespace.is_none();
    let mut expect = expect;
    let mut words = vec![];
    if !whole_cluster {
        words.push(operator.user());
        words.extend(operator.options().namespace.clone());
        words.extend(expect.allowed_namespaces.iter().cloned());
    }
    let entries = read_about(cluster.audit_log(), &words).context("the audit log")?;
    if expect.allowed_namespaces.is_empty() {
        expect.allowed_namespaces = match &operator.options().namespace {
            Some(namespace) => vec![namespace.clone()],
            None => servers_of(&entries),
        };
    }
    let mut canaries: Vec<Canary> = expect
        .canaries
        .iter()
        .enumerate()
        .map(|(number, value)| Canary { origin: format!("canary {number} of the test"), value: value.clone() })
        .collect();
    canaries
        .push(Canary { origin: "the operator's own token".to_owned(), value: operator.account().token().to_owned() });
    let mut texts = expect.texts.clone();
    texts.push(("the operator's log".to_owned(), operator.logs().join("\n")));
    let mut starts = 0;
    for namespace in &expect.allowed_namespaces {
        canaries.extend(secrets::canaries(cluster, namespace).await?);
        texts.extend(published(cluster, namespace).await?);
        starts += cluster.pod_starts(namespace).await?.total;
    }
    // Secrets that are gone by now.
    canaries.extend(secrets::canaries_in(&entries, &expect.allowed_namespaces));
    Ok(Facts {
        user: operator.user(),
        entries,
        starts: operator.starts().into_iter().map(Micros::from).collect(),
        whole_cluster,
        expect,
        pod_starts: Some(starts),
        texts,
        canaries,
    })
}

/// Waits until the log has everything that was answered by now: its lines are in the order of the answers' ends, so a
/// request of our own marks the place.
async fn settle(cluster: &Cluster) -> anyhow::Result<()> {
    let mark = format!("mark-{:016x}", rand::random::<u64>());
    let from = std::fs::metadata(cluster.audit_log())?.len();
    cluster.delete(resources::CONFIG_MAPS, "default", &mark).await?;
    wait_until("our mark in the audit log", Duration::from_secs(20), async || {
        // All that was written since: others may have written much after the mark already.
        let since = read_from(cluster.audit_log(), from).map_err(|error| error.to_string())?;
        if String::from_utf8_lossy(&since).contains(&mark) { Ok(()) } else { Err("not there".to_owned()) }
    })
    .await
}

fn read_from(file: &Path, position: u64) -> std::io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(file)?;
    file.seek(SeekFrom::Start(position))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn servers_of(entries: &[Entry]) -> Vec<String> {
    let namespaces: HashSet<_> = entries
        .iter()
        .filter(|entry| entry.object.resource == "dittoservers" && entry.is_write() && entry.succeeded())
        .map(|entry| entry.object.namespace.clone())
        .collect();
    namespaces.into_iter().collect()
}

/// Everything that anybody may read in a namespace.
async fn published(cluster: &Cluster, namespace: &str) -> anyhow::Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    let kinds = [
        resources::SERVERS,
        resources::STATEFUL_SETS,
        resources::REVISIONS,
        resources::SERVICES,
        resources::CONFIG_MAPS,
        resources::PODS,
        resources::EVENTS,
    ];
    for kind in kinds {
        match cluster.list(kind, namespace, "").await {
            Ok(items) => {
                for item in items {
                    let mut what = String::new();
                    let _ = write!(what, "{} {namespace}/{}", kind.kind, item["metadata"]["name"]);
                    texts.push((what, item.to_string()));
                }
            }
            Err(error) if error.code() == 404 => {}
            Err(error) => return Err(error).context(kind.plural),
        }
    }
    Ok(texts)
}
