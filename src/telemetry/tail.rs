//! Which traces are exported: those in which something was found, changed or went wrong. The many in which all was as
//! it should be (a poll that answered the same, a resync that repaired nothing) cost the backend nothing.
//!
//! A trace's spans wait in its [`Scope`], which every span and every message of the trace holds. The first span of
//! interest sends all that waited to the exporter, with their true starts, and all that follow at once. When the last
//! holder is gone without one, what waited is dropped. Bounded: at most [`WAITING_MAX`] spans wait in all traces.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use opentelemetry::trace::{Span as _, Status, TraceId};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};

use super::table::{Attribute, QUIET_DECISIONS};

/// Spans that wait for the decision about their trace, in all traces together.
pub const WAITING_MAX: usize = 512;

/// Traces that are open at once in a fleet at rest, at most; room for more is given back.
const OPEN_USUAL: usize = 256;

/// So many waiting spans of one trace have room for just themselves.
const FEW: usize = 4;

/// Where chosen spans go; a queue that drops rather than waits.
pub trait Sink: Send + Sync + fmt::Debug {
    /// Takes one finished span.
    fn take(&self, span: SpanData);
    /// Counts a span that was lost for want of room.
    fn lost(&self);
}

/// The traces under way.
#[derive(Debug)]
pub struct Tail {
    sink: Arc<dyn Sink>,
    /// Exports quiet traces too.
    keep_all: bool,
    open: Mutex<HashMap<TraceId, Weak<Scope>>>,
    waiting: AtomicUsize,
}

impl Tail {
    /// Chosen spans go to `sink`; all of them when `keep_all`.
    pub fn new(sink: Arc<dyn Sink>, keep_all: bool) -> Self {
        Self { sink, keep_all, open: Mutex::default(), waiting: AtomicUsize::new(0) }
    }

    fn scope(&self, id: TraceId) -> Option<Arc<Scope>> {
        locked(&self.open).get(&id).and_then(Weak::upgrade)
    }

    fn forget(&self, id: &TraceId) {
        let mut open = locked(&self.open);
        open.remove(id);
        // A fleet that starts has thousands open at once, and few ever after.
        if open.capacity() > OPEN_USUAL && open.len() < open.capacity() / 8 {
            let room = open.len() * 2;
            open.shrink_to(room);
        }
    }
}

/// One trace: what waits, and whether it is kept.
#[derive(Debug)]
pub struct Scope {
    server: Arc<str>,
    tail: Arc<Tail>,
    id: OnceLock<TraceId>,
    kept: AtomicBool,
    waiting: Mutex<Vec<SpanData>>,
    /// Traces that spans of this one link to.
    linked: Mutex<Vec<Weak<Scope>>>,
    /// Traces with a span that links to this one. Both ways weak: two traces can link to each other.
    linkers: Mutex<Vec<Weak<Scope>>>,
}

impl Scope {
    /// A trace about `server` that has no span yet.
    pub fn new(server: &str, tail: Arc<Tail>) -> Self {
        let kept = AtomicBool::new(tail.keep_all);
        Self {
            server: server.into(),
            tail,
            id: OnceLock::new(),
            kept,
            waiting: Mutex::default(),
            linked: Mutex::default(),
            linkers: Mutex::default(),
        }
    }

    /// When this trace is kept, so is `other`, which one of its spans links to.
    pub fn keep_with(self: &Arc<Self>, other: &Arc<Self>) {
        if Arc::ptr_eq(self, other) {
            return;
        }
        locked(&other.linkers).push(Arc::downgrade(self));
        locked(&self.linked).push(Arc::downgrade(other));
        if self.kept.load(Ordering::Acquire) {
            other.keep();
        }
    }

    fn keep(&self) {
        // Under the lock: a span that ends meanwhile either waits before this or is sent after it.
        let waited = {
            let mut waiting = locked(&self.waiting);
            if self.kept.swap(true, Ordering::AcqRel) {
                return;
            }
            std::mem::take(&mut *waiting)
        };
        self.send(waited);
        let linked = std::mem::take(&mut *locked(&self.linked));
        for other in linked.iter().filter_map(Weak::upgrade) {
            other.keep();
        }
    }

    fn send(&self, waited: Vec<SpanData>) {
        self.tail.waiting.fetch_sub(waited.len(), Ordering::Relaxed);
        for span in waited {
            self.tail.sink.take(span);
        }
    }

    /// What waited in a trace that is over and that this one links to shares this one's fate.
    fn inherit(&self, mut waited: Vec<SpanData>) {
        let mut waiting = locked(&self.waiting);
        if self.kept.load(Ordering::Acquire) {
            drop(waiting);
            self.send(waited);
        } else {
            waiting.append(&mut waited);
        }
    }

    fn take(&self, span: SpanData) {
        if is_of_interest(&span) {
            self.keep();
        }
        let mut waiting = locked(&self.waiting);
        if self.kept.load(Ordering::Acquire) {
            drop(waiting);
            self.tail.sink.take(span);
        } else if self.tail.waiting.fetch_add(1, Ordering::Relaxed) < WAITING_MAX {
            // Most traces have one or two, of half a kilobyte each; a list that grows by itself begins with room for four.
            if waiting.len() < FEW {
                waiting.reserve_exact(1);
            }
            waiting.push(span);
        } else {
            self.tail.waiting.fetch_sub(1, Ordering::Relaxed);
            self.tail.sink.lost();
        }
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        if let Some(id) = self.id.get() {
            self.tail.forget(id);
        }
        let waited = std::mem::take(&mut *locked(&self.waiting));
        if waited.is_empty() {
            return;
        }
        let linker = locked(&self.linkers).iter().find_map(Weak::upgrade);
        match linker {
            Some(linker) => linker.inherit(waited),
            None => {
                self.tail.waiting.fetch_sub(waited.len(), Ordering::Relaxed);
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a trace with this span is worth a place at the backend.
fn is_of_interest(span: &SpanData) -> bool {
    let value = |attribute: Attribute| {
        span.attributes.iter().rev().find(|pair| pair.key.as_str() == attribute.key()).map(|pair| pair.value.as_str())
    };
    if matches!(span.status, Status::Error { .. }) {
        return true;
    }
    value(Attribute::Decision).is_some_and(|decision| !QUIET_DECISIONS.contains(&decision.as_ref()))
}

/// The [`Tail`] as the SDK sees it.
#[derive(Debug)]
pub struct TailProcessor(pub Arc<Tail>);

impl SpanProcessor for TailProcessor {
    fn on_start(&self, span: &mut Span, parent: &Context) {
        let Some(scope) = parent.get::<Arc<Scope>>() else { return };
        let id = span.span_context().trace_id();
        if scope.id.set(id).is_ok() {
            locked(&self.0.open).insert(id, Arc::downgrade(scope));
        }
        span.set_attribute(KeyValue::new(Attribute::Server.key(), scope.server.clone()));
    }

    fn on_end(&self, mut span: SpanData) {
        // It may wait for long, beside hundreds of others.
        span.attributes.shrink_to_fit();
        match self.0.scope(span.span_context.trace_id()) {
            Some(scope) => scope.take(span),
            None => self.0.sink.take(span),
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn set_resource(&mut self, _: &Resource) {}
}

#[cfg(test)]
#[path = "tail_tests.rs"]
mod tests;
