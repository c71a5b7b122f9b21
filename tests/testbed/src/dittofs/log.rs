//! What every server was asked: one record a request, from its head to the end of its answer. Owns the counters that
//! show two polls of one server overlapping. No token, password or body is ever kept.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use anyhow::bail;
use http::Method;
use tokio::sync::watch;

use super::adapter::AdapterView;
use super::{ADAPTERS, locked};

/// Records kept for one server; the oldest go first.
const KEPT: usize = 50_000;

/// Who asked, by the token that came along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// No Authorization header.
    None,
    /// A valid token of the role admin.
    Admin,
    /// A valid token of the role operator.
    Operator,
    /// Another role, or a token that is expired or not ours.
    Other,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Record {
    /// When its head was read.
    pub at: Instant,
    /// The same moment on the wall clock.
    pub wall: SystemTime,
    /// The method.
    pub method: Method,
    /// The path on the server, without the stand-in's prefix and without the query.
    pub path: String,
    /// Who asked.
    pub caller: Caller,
    /// The W3C trace context that came along.
    pub traceparent: Option<String>,
    /// A fault was switched on for it.
    pub faulty: bool,
    /// What was answered; none while nothing was, and for ever when nothing is (hang, reset).
    pub status: Option<u16>,
    /// When the answer was written or the connection gone; none while in flight.
    pub ended: Option<Instant>,
    /// What a full and true answer to a poll said, and when it was made.
    pub adapters: Option<(SystemTime, Vec<AdapterView>)>,
}

impl Record {
    /// It asked for the list of adapters.
    pub fn is_poll(&self) -> bool {
        is_poll(&self.method, &self.path)
    }

    /// It tried to log in.
    pub fn is_login(&self) -> bool {
        self.method == Method::POST && self.path == super::LOGIN
    }
}

fn is_poll(method: &Method, path: &str) -> bool {
    method == Method::GET && path == ADAPTERS
}

#[derive(Default)]
struct Inner {
    records: VecDeque<Record>,
    /// The number of the first record that is kept.
    first: u64,
    polls_in_flight: usize,
    most_polls_in_flight: usize,
}

impl Inner {
    fn get(&mut self, number: u64) -> Option<&mut Record> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.records.get_mut(index)
    }
}

/// The records of one server.
pub(super) struct RequestLog {
    inner: Mutex<Inner>,
    changed: watch::Sender<()>,
}

impl RequestLog {
    pub(super) fn new() -> Self {
        Self { inner: Mutex::default(), changed: watch::Sender::new(()) }
    }

    /// Notes a request; it is in flight until the answer to this is dropped.
    pub(super) fn begin(self: &Arc<Self>, record: Record) -> Flight {
        let mut inner = locked(&self.inner);
        let is_poll = record.is_poll();
        if is_poll {
            inner.polls_in_flight += 1;
            inner.most_polls_in_flight = inner.most_polls_in_flight.max(inner.polls_in_flight);
        }
        if inner.records.len() == KEPT {
            inner.records.pop_front();
            inner.first += 1;
        }
        inner.records.push_back(record);
        let number = inner.first + inner.records.len() as u64 - 1;
        drop(inner);
        self.changed.send_replace(());
        Flight { log: Arc::clone(self), number, is_poll }
    }

    pub(super) fn records(&self) -> Vec<Record> {
        locked(&self.inner).records.iter().cloned().collect()
    }

    pub(super) fn polls(&self) -> Vec<Record> {
        locked(&self.inner).records.iter().filter(|record| record.is_poll()).cloned().collect()
    }

    pub(super) fn polls_in_flight(&self) -> usize {
        locked(&self.inner).polls_in_flight
    }

    pub(super) fn most_polls_in_flight(&self) -> usize {
        locked(&self.inner).most_polls_in_flight
    }

    /// Forgets the records; what is in flight stays counted.
    pub(super) fn clear(&self) {
        let mut inner = locked(&self.inner);
        inner.first += inner.records.len() as u64;
        inner.records.clear();
        inner.most_polls_in_flight = inner.polls_in_flight;
    }

    pub(super) async fn wait_for(
        &self,
        mut condition: impl FnMut(&[Record]) -> bool,
        timeout: Duration,
    ) -> anyhow::Result<()> {
        let mut changed = self.changed.subscribe();
        let holds = async {
            while !condition(locked(&self.inner).records.make_contiguous()) && changed.changed().await.is_ok() {}
        };
        if tokio::time::timeout(timeout, holds).await.is_err() {
            bail!("not so within {timeout:?}; the last requests were:\n{}", self.tail());
        }
        Ok(())
    }

    fn tail(&self) -> String {
        let inner = locked(&self.inner);
        let mut tail = String::new();
        for Record { method, path, caller, status, ended, .. } in inner.records.iter().rev().take(20).rev() {
            let ended = if ended.is_some() { "" } else { " in flight" };
            let status = status.map_or_else(|| "-".to_owned(), |status| status.to_string());
            let _ = writeln!(tail, "  {method} {path} by {caller:?}: {status}{ended}");
        }
        tail
    }
}

/// A request under way.
pub(super) struct Flight {
    log: Arc<RequestLog>,
    number: u64,
    is_poll: bool,
}

impl Flight {
    pub(super) fn answered(&self, status: u16) {
        if let Some(record) = locked(&self.log.inner).get(self.number) {
            record.status = Some(status);
        }
    }

    /// Notes what a full and true answer to a poll says.
    pub(super) fn told(&self, adapters: Vec<AdapterView>) {
        if let Some(record) = locked(&self.log.inner).get(self.number) {
            record.adapters = Some((SystemTime::now(), adapters));
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut inner = locked(&self.log.inner);
        if self.is_poll {
            inner.polls_in_flight -= 1;
        }
        if let Some(record) = inner.get(self.number) {
            record.ended = Some(Instant::now());
        }
        drop(inner);
        self.log.changed.send_replace(());
    }
}
