//! The adapters of one server: enabled, running, port, and how they pass from one state to the next. Pure: every
//! change and every view is given its moment.
//!
//! Enabled with running false is a passage: after a start of the server, after an adapter was made, and while one
//! that moves drains its clients. A stop stores enabled false at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::clock::Now;

/// How long the answer of a health check is repeated before the adapter is asked again.
const CHECK_LASTS: Duration = Duration::from_secs(5);

/// An adapter as a test sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterView {
    /// `nfs`, `smb`.
    pub kind: String,
    /// Stored: it should run.
    pub enabled: bool,
    /// It does run.
    pub running: bool,
    /// The stored port.
    pub port: u16,
}

#[derive(Clone, Copy)]
enum Run {
    Stopped,
    Running,
    /// Not running now, and running from then on.
    From(Instant),
}

struct Check {
    healthy: bool,
    at: Timestamp,
}

struct Adapter {
    id: String,
    enabled: bool,
    port: u16,
    run: Run,
    created: Timestamp,
    updated: Timestamp,
    check: Check,
}

impl Adapter {
    fn new(enabled: bool, port: u16, run: Run, now: Now) -> Self {
        let mut adapter = Self {
            id: uuid::Uuid::new_v4().to_string(),
            enabled,
            port,
            run,
            created: now.wall,
            updated: now.wall,
            check: Check { healthy: false, at: now.wall },
        };
        adapter.check(now);
        adapter
    }

    fn running(&self, now: Now) -> bool {
        match self.run {
            Run::Stopped => false,
            Run::Running => true,
            Run::From(then) => now.instant >= then,
        }
    }

    fn check(&mut self, now: Now) {
        self.check = Check { healthy: self.running(now), at: now.wall };
    }

    fn view(&self, kind: &str, now: Now) -> AdapterView {
        AdapterView { kind: kind.to_owned(), enabled: self.enabled, running: self.running(now), port: self.port }
    }

    fn json(&self, kind: &str, now: Now) -> Value {
        let mut status = if self.check.healthy {
            json!({"status": "healthy"})
        } else {
            let message = format!("{} adapter has not started yet", kind.to_uppercase());
            json!({"status": "unknown", "message": message})
        };
        status["checked_at"] = json!(self.check.at.to_string());
        json!({
            "id": self.id,
            "type": kind,
            "enabled": self.enabled,
            "running": self.running(now),
            "port": self.port,
            "created_at": self.created.to_string(),
            "updated_at": self.updated.to_string(),
            "status": status,
        })
    }
}

fn running_after(delay: Duration, now: Now) -> Run {
    if delay.is_zero() { Run::Running } else { Run::From(now.instant + delay) }
}

/// All adapters of one server, by type.
pub(super) struct Adapters(BTreeMap<String, Adapter>);

impl Adapters {
    /// What a fresh server runs: nfs on 12049, smb on 1445.
    pub(super) fn fresh(now: Now) -> Self {
        let adapter = |kind: &str, port| (kind.to_owned(), Adapter::new(true, port, Run::Running, now));
        Self(BTreeMap::from([adapter("nfs", 12049), adapter("smb", 1445)]))
    }

    /// The list as `GET /api/v1/adapters` answers it: a check that is older than 5 s is made again.
    pub(super) fn list(&mut self, now: Now) -> Value {
        for adapter in self.0.values_mut() {
            if now.wall.duration_since(adapter.check.at).unsigned_abs() >= CHECK_LASTS {
                adapter.check(now);
            }
        }
        self.0.iter().map(|(kind, adapter)| adapter.json(kind, now)).collect()
    }

    /// One adapter, as the answers to its changes show it.
    pub(super) fn one(&self, kind: &str, now: Now) -> Option<Value> {
        self.0.get(kind).map(|adapter| adapter.json(kind, now))
    }

    /// The list as `GET /api/v1/adapters/ports` answers it.
    pub(super) fn ports(&self, now: Now) -> Value {
        let port = |view: AdapterView| json!({"type": view.kind, "port": view.port, "enabled": view.enabled, "running": view.running});
        self.views(now).into_iter().map(port).collect()
    }

    pub(super) fn views(&self, now: Now) -> Vec<AdapterView> {
        self.0.iter().map(|(kind, adapter)| adapter.view(kind, now)).collect()
    }

    pub(super) fn has(&self, kind: &str) -> bool {
        self.0.contains_key(kind)
    }

    /// Makes an adapter (or replaces the one of that type); one that is enabled runs after `delay`, and answers
    /// running false at this moment whatever the delay.
    pub(super) fn create(&mut self, kind: &str, enabled: bool, port: u16, delay: Duration, now: Now) -> Value {
        let mut adapter = Adapter::new(enabled, port, Run::Stopped, now);
        let made = adapter.json(kind, now);
        if enabled {
            adapter.run = running_after(delay, now);
        }
        self.0.insert(kind.to_owned(), adapter);
        made
    }

    /// Stores what is given. One that becomes enabled runs at once; one that runs and gets another port drains first.
    /// False when there is no such adapter.
    pub(super) fn change(
        &mut self,
        kind: &str,
        enabled: Option<bool>,
        port: Option<u16>,
        drain: Duration,
        now: Now,
    ) -> bool {
        let Some(adapter) = self.0.get_mut(kind) else { return false };
        let was_enabled = adapter.enabled;
        adapter.enabled = enabled.unwrap_or(was_enabled);
        let moves = port.is_some_and(|port| port != adapter.port);
        adapter.port = port.unwrap_or(adapter.port);
        adapter.updated = now.wall;
        adapter.run = match (adapter.enabled, was_enabled) {
            (false, _) => Run::Stopped,
            (true, false) => Run::Running,
            (true, true) if moves => running_after(drain, now),
            (true, true) => adapter.run,
        };
        true
    }

    /// Whether it runs, whatever is stored. False when there is no such adapter.
    pub(super) fn set_running(&mut self, kind: &str, running: bool) -> bool {
        let Some(adapter) = self.0.get_mut(kind) else { return false };
        adapter.run = if running { Run::Running } else { Run::Stopped };
        true
    }

    /// False when there is no such adapter.
    pub(super) fn delete(&mut self, kind: &str) -> bool {
        self.0.remove(kind).is_some()
    }

    /// The server has just started: what is enabled runs after `delay`, and was not checked yet.
    pub(super) fn restart(&mut self, delay: Duration, now: Now) {
        for adapter in self.0.values_mut() {
            adapter.run = if adapter.enabled { running_after(delay, now) } else { Run::Stopped };
            adapter.check(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smb(adapters: &Adapters, now: Now) -> AdapterView {
        adapters.views(now).into_iter().find(|view| view.kind == "smb").unwrap()
    }

    fn view(enabled: bool, running: bool, port: u16) -> AdapterView {
        AdapterView { kind: "smb".to_owned(), enabled, running, port }
    }

    #[test]
    fn a_move_stores_the_port_at_once_and_runs_again_after_the_drain() {
        let now = Now::read();
        let mut adapters = Adapters::fresh(now);
        let drain = Duration::from_secs(10);
        assert!(adapters.change("smb", None, Some(2445), drain, now));
        assert_eq!(smb(&adapters, now), view(true, false, 2445));
        assert_eq!(smb(&adapters, now.later(Duration::from_millis(9999))), view(true, false, 2445));
        assert_eq!(smb(&adapters, now.later(drain)), view(true, true, 2445));
    }

    #[test]
    fn a_stop_during_a_drain_is_final() {
        let now = Now::read();
        let mut adapters = Adapters::fresh(now);
        adapters.change("smb", None, Some(2445), Duration::from_secs(10), now);
        adapters.change("smb", Some(false), None, Duration::ZERO, now);
        assert_eq!(smb(&adapters, now.later(Duration::from_mins(1))), view(false, false, 2445));
    }

    #[test]
    fn the_port_that_it_has_already_drains_nobody() {
        let now = Now::read();
        let mut adapters = Adapters::fresh(now);
        adapters.change("smb", Some(true), Some(1445), Duration::from_secs(10), now);
        assert_eq!(smb(&adapters, now), view(true, true, 1445));
    }

    #[test]
    fn a_created_adapter_answers_running_false_and_runs_after_its_delay() {
        let now = Now::read();
        let mut adapters = Adapters::fresh(now);
        adapters.delete("smb");
        let made = adapters.create("smb", true, 1445, Duration::from_secs(1), now);
        assert_eq!(made["running"], false);
        assert!(!smb(&adapters, now).running);
        assert!(smb(&adapters, now.later(Duration::from_secs(1))).running);
    }

    #[test]
    fn a_restart_starts_what_is_enabled_and_nothing_else() {
        let now = Now::read();
        let mut adapters = Adapters::fresh(now);
        adapters.change("nfs", Some(false), None, Duration::ZERO, now);
        adapters.restart(Duration::from_secs(1), now);
        let running = |now| adapters.views(now).into_iter().map(|view| view.running).collect::<Vec<_>>();
        assert_eq!(running(now), [false, false]);
        assert_eq!(running(now.later(Duration::from_secs(2))), [false, true]);
    }

    #[test]
    fn a_check_is_repeated_for_five_seconds() {
        let now = Now::read();
        let mut adapters = Adapters::fresh(now);
        adapters.set_running("smb", false);
        let status = |list: Value| list[1]["status"]["status"].as_str().map(str::to_owned);
        assert_eq!(status(adapters.list(now.later(Duration::from_secs(4)))).as_deref(), Some("healthy"));
        assert_eq!(status(adapters.list(now.later(Duration::from_secs(5)))).as_deref(), Some("unknown"));
    }
}
