//! What drives kube's watcher: see [`watch`](super::watch()) for what it guarantees.
//!
//! Owns: the state of one watch. Touches: the API server, through kube's watcher and the discovery of one group.
//! Guarantees: kube's watcher is polled only when the request that it is about to send is allowed. It announces each
//! LIST by `Event::Init` before it sends it, which is where the wait between two LISTs sits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, mem};

use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::core::Status;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::deadline::{DeadlineExceeded, is_watch};
use super::error::{category_of_status, chain, cut, find_in_chain, root_cause};
use super::kind::Kind;
use super::raw::Raw;
use super::watch::{WatchEvent, WatchPolicy, WatchScope};
use crate::backoff::Backoff;
use crate::telemetry::metrics::{Metrics, Verb, reason_of_status};

/// Longest text of a trouble, in bytes.
const ERROR_MAX: usize = 400;

type Inner = BoxStream<'static, Result<Event<Value>, watcher::Error>>;

/// One watch.
pub(super) struct Driver {
    client: Client,
    paced: Client,
    /// Told when the server has opened a watch.
    opened: Arc<Notify>,
    scope: WatchScope,
    policy: WatchPolicy,
    backoff: Backoff,
    rng: SmallRng,
    inner: Option<Inner>,
    list: List,
    last_list: Option<Instant>,
    /// The start before that, to fall back to when a LIST has not reached any server.
    list_before: Option<Instant>,
    not_before: Option<Instant>,
    last_error: Option<Instant>,
    resync_at: Instant,
    presence: Presence,
    troubled: bool,
    ready: VecDeque<WatchEvent>,
    metrics: Metrics,
}

/// Where kube's watcher stands with its list.
enum List {
    /// There is one, and a watch from it.
    Complete,
    /// It will be asked for when kube's watcher is polled next.
    Due,
    /// This much of it has come.
    Filling(Vec<Value>),
}

/// Whether the API server serves the kind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Unknown,
    Served,
    /// It does not, and that has been reported.
    Missing,
}

/// What the wait for the next thing to do ended with.
enum Step {
    Item(Option<Result<Event<Value>, watcher::Error>>),
    Opened,
    Resync,
}

impl Driver {
    pub(super) fn new(client: Client, scope: WatchScope, policy: WatchPolicy, seed: u64, metrics: Metrics) -> Self {
        let opened = Arc::new(Notify::new());
        let mut driver = Self {
            paced: paced(client.clone(), scope.kind, &policy, seed ^ 1, &opened, metrics.clone()),
            client,
            opened,
            backoff: Backoff::new(policy.backoff_initial, policy.backoff_cap, seed),
            rng: SmallRng::seed_from_u64(seed),
            inner: None,
            list: List::Complete,
            last_list: None,
            list_before: None,
            not_before: None,
            last_error: None,
            resync_at: Instant::now(),
            presence: if scope.kind.is_custom() { Presence::Unknown } else { Presence::Served },
            troubled: false,
            ready: VecDeque::new(),
            scope,
            policy,
            metrics,
        };
        driver.plan_resync();
        driver
    }

    /// The next event, whenever it comes.
    pub(super) async fn next(&mut self) -> WatchEvent {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            if let Some(at) = self.not_before.take() {
                sleep_until(at).await;
            }
            if matches!(self.list, List::Due) {
                self.clear_to_list().await;
                if matches!(self.list, List::Due) {
                    continue;
                }
            }
            let inner = self.inner.get_or_insert_with(|| open(&self.paced, &self.scope, &self.policy));
            let quiet = matches!(self.list, List::Complete);
            let step = tokio::select! {
                biased;
                item = inner.next() => Step::Item(item),
                () = self.opened.notified(), if self.troubled && quiet => Step::Opened,
                () = sleep_until(self.resync_at), if quiet => Step::Resync,
            };
            match step {
                Step::Item(Some(Ok(event))) => self.take(event),
                Step::Item(Some(Err(error))) => self.fail(&error),
                Step::Item(None) => self.inner = None,
                Step::Opened => self.healthy(),
                Step::Resync => {
                    self.plan_resync();
                    self.inner = None;
                }
            }
        }
    }

    fn take(&mut self, event: Event<Value>) {
        match event {
            Event::Init => self.list = List::Due,
            Event::InitApply(object) => {
                if let List::Filling(objects) = &mut self.list {
                    objects.push(self.scope.whole(object));
                }
            }
            Event::InitDone => {
                if let List::Filling(objects) = mem::replace(&mut self.list, List::Complete) {
                    // Counted from its end: what one request takes longer on its way than the next does not bring
                    // them nearer to each other at the API server.
                    self.last_list = Some(Instant::now());
                    self.plan_resync();
                    self.metrics.relisted(self.scope.kind);
                    self.ready.push_back(WatchEvent::Listed(objects));
                    self.healthy();
                }
            }
            Event::Apply(object) => {
                self.metrics.watch_event(self.scope.kind, false);
                self.ready.push_back(WatchEvent::Applied(self.scope.whole(object)));
                self.healthy();
            }
            Event::Delete(object) => {
                self.metrics.watch_event(self.scope.kind, true);
                self.ready.push_back(WatchEvent::Deleted(self.scope.whole(object)));
                self.healthy();
            }
        }
    }

    /// Waits until a LIST may be sent, and lets it be sent; leaves it due when there is something to report or to
    /// wait for first.
    async fn clear_to_list(&mut self) {
        if self.presence != Presence::Served {
            let kind = self.scope.kind;
            match is_served(self.client.clone(), kind, &self.metrics).await {
                Ok(true) => self.presence = Presence::Served,
                Ok(false) => {
                    self.not_before = Some(Instant::now() + self.policy.crd_poll);
                    if self.presence != Presence::Missing {
                        self.presence = Presence::Missing;
                        let version = kind.api_version();
                        let error = format!("the API server does not serve {kind} ({version}): is its CRD installed?");
                        self.report(error, "crd-missing");
                    }
                    return;
                }
                Err((error, category)) => {
                    self.back_off();
                    self.report(error, category);
                    return;
                }
            }
        }
        if let Some(last) = self.last_list {
            sleep_until(last + self.policy.min_list_interval).await;
        }
        self.list_before = self.last_list.replace(Instant::now());
        self.list = List::Filling(Vec::new());
    }

    fn fail(&mut self, error: &watcher::Error) {
        self.list = List::Complete;
        let kind = self.scope.kind;
        let (what, (text, category)) = match error {
            watcher::Error::InitialListFailed(source) => {
                if is_refused_connection(source) {
                    // No server has seen this LIST: it does not count.
                    self.last_list = self.list_before;
                }
                if kind.is_custom() && matches!(source, kube::Error::Api(s) if s.code == 404) {
                    self.presence = Presence::Unknown;
                }
                ("list", describe(source))
            }
            watcher::Error::WatchStartFailed(source) => {
                if matches!(source, kube::Error::Api(s) if s.code == 410) {
                    // kube would ask for the same lost version for ever.
                    self.inner = None;
                }
                if kind.is_custom() && matches!(source, kube::Error::Api(s) if s.code == 404) {
                    self.presence = Presence::Unknown;
                    self.inner = None;
                }
                ("watch", describe(source))
            }
            watcher::Error::WatchFailed(source) => {
                if matches!(source, kube::Error::SerdeError(_) | kube::Error::Api(_)) {
                    // A line has come and nobody knows what it said. (kube takes any JSON object that is no event for
                    // a `Status`, one of code 0 mostly.)
                    self.inner = None;
                }
                ("watch", describe(source))
            }
            watcher::Error::WatchError(status) => ("watch", describe_status(status)),
            watcher::Error::NoResourceVersion => ("watch", ("no resourceVersion".to_owned(), "malformed")),
        };
        // The message of a refused call is the server's; it has no need to speak of a Secret's contents, and we
        // have none to pass it on.
        let text = if kind == Kind::Secret { category.to_owned() } else { text };
        self.back_off();
        self.report(cut(&format!("cannot {what} {kind}: {text}"), ERROR_MAX), category);
    }

    fn report(&mut self, error: String, category: &'static str) {
        self.troubled = true;
        self.metrics.watch_restarted(self.scope.kind, category);
        // An opening from before the trouble says nothing about its end.
        let _ = self.opened.notified().now_or_never();
        self.ready.push_back(WatchEvent::Trouble { error, category });
    }

    fn healthy(&mut self) {
        if self.troubled {
            self.troubled = false;
            self.ready.push_back(WatchEvent::Recovered);
        }
    }

    fn back_off(&mut self) {
        let now = Instant::now();
        if self.last_error.is_none_or(|last| now - last >= self.policy.healthy_after) {
            self.backoff.reset();
        }
        let at = now + self.backoff.next();
        self.last_error = Some(at);
        self.not_before = Some(at);
    }

    fn plan_resync(&mut self) {
        self.resync_at = Instant::now() + self.policy.resync.mul_f64(self.rng.random_range(0.9..=1.1));
    }
}

impl WatchScope {
    /// `object` with `apiVersion` and `kind`, which the API server leaves out of the items of a list.
    fn whole(&self, mut object: Value) -> Value {
        if let Some(fields) = object.as_object_mut()
            && !self.metadata_only
        {
            fields.entry("apiVersion").or_insert_with(|| self.kind.api_version().into());
            fields.entry("kind").or_insert_with(|| self.kind.name().into());
        }
        object
    }
}

/// Asks discovery for the kind, which costs the server next to nothing. A server that will not tell is taken to
/// serve it: the LIST will show.
async fn is_served(client: Client, kind: Kind, metrics: &Metrics) -> Result<bool, (String, &'static str)> {
    let told = |error: &kube::Error| {
        let (text, category) = describe(error);
        (format!("cannot look for {kind}: {text}"), category)
    };
    let request = Request::get(kind.discovery_path())
        .body(Body::empty())
        .map_err(|error| told(&kube::Error::HttpError(error)))?;
    let answer = counted(&client, request, Verb::Get, "discovery", metrics).await.map_err(|error| told(&error))?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(|error| told(&error))?.to_bytes();
    match status {
        StatusCode::OK => {
            let resources: Value = serde_json::from_slice(&body).unwrap_or_default();
            let mut named = resources["resources"].as_array().into_iter().flatten().map(|r| &r["name"]);
            Ok(named.any(|name| name == kind.plural()))
        }
        StatusCode::NOT_FOUND => Ok(false),
        StatusCode::FORBIDDEN => Ok(true),
        other => {
            let code = other.as_u16();
            Err((format!("cannot look for {kind}: {code}"), category_of_status(code)))
        }
    }
}

/// A watcher of kube's that has sent nothing yet.
fn open(client: &Client, scope: &WatchScope, policy: &WatchPolicy) -> Inner {
    let seconds = u32::try_from(policy.watch_timeout.as_secs()).unwrap_or(u32::MAX).max(1);
    let mut config = watcher::Config::default().timeout(seconds);
    config.label_selector.clone_from(&scope.label_selector);
    if scope.metadata_only { open_as::<true>(client, scope, config) } else { open_as::<false>(client, scope, config) }
}

fn open_as<const METADATA_ONLY: bool>(client: &Client, scope: &WatchScope, config: watcher::Config) -> Inner {
    let resource = scope.kind.api_resource();
    let api: Api<Raw<METADATA_ONLY>> = match &scope.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let value = |event| match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(raw) => Event::InitApply(Raw::<METADATA_ONLY>::into_value(raw)),
        Event::Apply(raw) => Event::Apply(raw.into_value()),
        Event::Delete(raw) => Event::Delete(raw.into_value()),
    };
    watcher::watcher(api, config).map(move |item| item.map(value)).boxed()
}

/// When the server last opened a watch, and how long to wait when it keeps ending them at once.
struct Pace {
    opened_at: Option<Instant>,
    backoff: Backoff,
}

/// `client`, with a wait before each watch that follows a very short one: kube's watcher opens the next one in the
/// same poll in which one ends, so that nothing outside of it can hold it back.
fn paced(
    client: Client,
    kind: Kind,
    policy: &WatchPolicy,
    seed: u64,
    opened: &Arc<Notify>,
    metrics: Metrics,
) -> Client {
    let pace = Pace { opened_at: None, backoff: Backoff::new(policy.backoff_initial, policy.backoff_cap, seed) };
    let pace = Arc::new(Mutex::new(pace));
    let opened = Arc::clone(opened);
    let short = policy.short_watch;
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, pace, opened) = (client.clone(), Arc::clone(&pace), Arc::clone(&opened));
        let metrics = metrics.clone();
        async move {
            if !is_watch(&request) {
                return counted(&client, request, Verb::List, kind.plural(), &metrics).await;
            }
            let wait = {
                let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
                if pace.opened_at.is_some_and(|at| at.elapsed() < short) {
                    Some(pace.backoff.next())
                } else {
                    pace.backoff.reset();
                    None
                }
            };
            if let Some(wait) = wait {
                metrics.watch_restarted(kind, "ended-early");
                sleep(wait).await;
            }
            let answer = counted(&client, request, Verb::Watch, kind.plural(), &metrics).await?;
            if answer.status().is_success() {
                metrics.watch_restarted(kind, "opened");
                metrics.watch_heard(kind);
                pace.lock().unwrap_or_else(PoisonError::into_inner).opened_at = Some(Instant::now());
                opened.notify_one();
            }
            Ok(answer)
        }
    });
    Client::new(service, namespace)
}

/// `client`, counting each request that the publisher of events sends with it.
pub fn count_events(client: Client, metrics: Metrics) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, metrics) = (client.clone(), metrics.clone());
        async move {
            let verb = match *request.method() {
                http::Method::PATCH => Verb::Patch,
                http::Method::GET => Verb::List,
                _ => Verb::Create,
            };
            counted(&client, request, verb, "events", &metrics).await
        }
    });
    Client::new(service, namespace)
}

/// Sends a request and counts what became of it.
pub(super) async fn counted(
    client: &Client,
    request: Request<Body>,
    verb: Verb,
    resource: &'static str,
    metrics: &Metrics,
) -> Result<Response<Body>, kube::Error> {
    let start = Instant::now();
    let answer = client.send(request).await;
    match &answer {
        Ok(answer) => {
            let status = answer.status().as_u16();
            metrics.kube_answered(verb, resource, status, reason_of_status(status), start.elapsed());
        }
        Err(error) => metrics.kube_unanswered(verb, resource, describe(error).1, start.elapsed()),
    }
    answer
}

/// Text and category of a failed request; never a body.
fn describe(error: &kube::Error) -> (String, &'static str) {
    match error {
        kube::Error::Api(status) => describe_status(status),
        // A parser's text may quote what it found.
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => ("unreadable answer".to_owned(), "malformed"),
        other => match find_in_chain::<DeadlineExceeded>(other) {
            Some(deadline) => (deadline.to_string(), "timeout"),
            None => (root_cause(other), "unreachable"),
        },
    }
}

fn describe_status(status: &Status) -> (String, &'static str) {
    if status.code == 0 {
        return ("unreadable answer".to_owned(), "malformed");
    }
    (format!("{} {}: {}", status.code, status.reason, status.message), category_of_status(status.code))
}

/// Nobody listens there: the API server restarts.
pub(super) fn is_refused_connection(error: &kube::Error) -> bool {
    let refused = |e: &io::Error| e.kind() == io::ErrorKind::ConnectionRefused;
    chain(error).any(|e| e.downcast_ref::<io::Error>().is_some_and(refused))
}
