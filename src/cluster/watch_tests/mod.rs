//! Each trap of a watch on a scripted server, under a paused clock: what was asked, how often, and what came of it.

mod contents;
mod requests;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::scripted::{Asked, Reply, Server, event, failure, list};
use super::{Cache, Kind, WatchEvent, WatchPolicy, WatchScope, watch};
use crate::telemetry::metrics::Metrics;

const HOUR: Duration = Duration::from_hours(1);
const S: Duration = Duration::from_secs(1);

fn scope(kind: Kind) -> WatchScope {
    WatchScope { kind, namespace: None, label_selector: None, metadata_only: false }
}

/// A policy whose resync does not come into the way.
fn no_resync() -> WatchPolicy {
    WatchPolicy { resync: 100 * HOUR, ..WatchPolicy::default() }
}

fn object(name: &str, version: u32) -> Value {
    json!({"metadata": {"namespace": "ns", "name": name, "resourceVersion": version.to_string(), "uid": name}})
}

/// A watch that the server ends after the time that it was asked for, as the real one does.
fn quiet() -> Reply {
    let bookmark = json!({"metadata": {"resourceVersion": "900"}, "kind": "Service", "apiVersion": "v1"});
    Reply::Events(vec![(50 * S, event("BOOKMARK", &bookmark))])
}

/// Events with the time since the start at which each came.
async fn run(server: &Server, scope: WatchScope, policy: WatchPolicy, time: Duration) -> Vec<(Duration, WatchEvent)> {
    let start = Instant::now();
    let mut seen = Vec::new();
    let stream = watch(server.client(), scope, policy, 7, Metrics::default());
    let mut stream = std::pin::pin!(stream);
    while let Ok(event) = tokio::time::timeout_at(start + time, stream.next()).await {
        seen.push((start.elapsed(), event.expect("a watch never ends")));
        assert!(seen.len() < 20_000, "a storm");
    }
    seen
}

fn troubles(seen: &[(Duration, WatchEvent)]) -> Vec<&'static str> {
    let category = |e: &WatchEvent| if let WatchEvent::Trouble { category, .. } = e { Some(*category) } else { None };
    seen.iter().filter_map(|(_, e)| category(e)).collect()
}

fn listed(seen: &[(Duration, WatchEvent)]) -> Vec<(Duration, usize)> {
    let count = |e: &WatchEvent| if let WatchEvent::Listed(o) = e { Some(o.len()) } else { None };
    seen.iter().filter_map(|(at, e)| count(e).map(|n| (*at, n))).collect()
}

fn gaps(asked: &[Asked]) -> Vec<Duration> {
    asked.windows(2).map(|w| w[1].at.saturating_sub(w[0].at)).collect()
}

fn assert_lists_are_30_s_apart(server: &Server) {
    let lists = server.lists();
    assert!(gaps(&lists).iter().all(|gap| *gap >= 30 * S), "{:?}", gaps(&lists));
}
