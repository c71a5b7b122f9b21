//! The rows of the table whose values are found when they are scraped.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::family::{Value, info, scrape};
use super::process::Process;
use super::table as rows;
use super::table::{
    ADAPTERS, CONDITIONS, MetricDef, PHASES, PROBLEMS, PURPOSES, RECONCILERS, SERVER_PURPOSES, SERVER_RESULTS,
    SPAN_LOSSES, TRUTHS, TURNS, WATCHED, WORKERS, WRITTEN,
};
use super::{State, locked};
use crate::reconcile::ServerKey;
use crate::telemetry::fleet::ServerState;

/// Everything that is not counted as it happens.
#[derive(Debug)]
pub(super) struct Collected(pub(super) Arc<State>);

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let e = &mut encoder;
        self.fleet(e)?;
        self.operator(e)?;
        Self::runtime(e)?;
        process(e)?;
        if self.0.per_server { self.servers(e) } else { Ok(()) }
    }
}

fn one(encoder: &mut DescriptorEncoder<'_>, def: &'static MetricDef, value: f64) -> fmt::Result {
    scrape::<0>(encoder, def, [([], value)])
}

/// One series for each word of the row's only label.
fn by_word(
    encoder: &mut DescriptorEncoder<'_>,
    def: &'static MetricDef,
    words: &[&'static str],
    values: impl IntoIterator<Item = f64>,
) -> fmt::Result {
    scrape(encoder, def, words.iter().zip(values).map(|(word, value)| ([Value::Word(word)], value)))
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
fn count(number: u64) -> f64 {
    number as f64
}

fn seconds(times: impl IntoIterator<Item = Duration>) -> impl Iterator<Item = f64> {
    times.into_iter().map(|time| time.as_secs_f64())
}

impl Collected {
    fn fleet(&self, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let sums = locked(&self.0.fleet).sums(self.0.now());
        by_word(e, &rows::SERVERS, PHASES, sums.phases.map(f64::from))?;
        let conditions = CONDITIONS.iter().zip(sums.conditions).flat_map(|(condition, truths)| {
            TRUTHS.iter().zip(truths).map(|(truth, number)| ([(*condition).into(), (*truth).into()], number.into()))
        });
        scrape(e, &rows::SERVERS_CONDITION, conditions)?;
        by_word(e, &rows::ADAPTERS_ACTIVE, ADAPTERS, sums.adapters.map(f64::from))?;
        one(e, &rows::ADAPTER_SERVICES_LATE, sums.services_late.into())?;
        one(e, &rows::ADAPTER_SERVICES_OLDEST_LAG, sums.oldest_lag.as_secs_f64())?;
        one(e, &rows::OLDEST_OBSERVATION, sums.oldest_observation.as_secs_f64())?;
        one(e, &rows::OBSERVATIONS_LATE, sums.observations_late.into())?;
        by_word(e, &rows::POLL_FAILING, PROBLEMS, sums.poll_failing.map(f64::from))?;
        by_word(e, &rows::POLL_FAILING_OLDEST, PROBLEMS, seconds(sums.poll_failing_oldest))?;
        one(e, &rows::HELD_PORT_ROLLOUTS, sums.held.into())?;
        by_word(e, &rows::RECONCILE_FAILING, RECONCILERS, sums.failing.map(f64::from))?;
        by_word(e, &rows::RECONCILE_FAILING_OLDEST, RECONCILERS, seconds(sums.failing_oldest))?;
        by_word(e, &rows::SLOTS_RUNNING, RECONCILERS, sums.running.map(f64::from))?;
        by_word(e, &rows::SLOTS_DIRTY, RECONCILERS, sums.dirty.map(f64::from))
    }

    fn operator(&self, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let state = &self.0;
        let now = state.now();
        let age = |at: u64| now.saturating_sub(Duration::from_millis(at)).as_secs_f64();
        let length = |number: i64| count(u64::try_from(number).unwrap_or(0));
        let waiting = state.turns_waiting.iter().map(|number| length(number.load(Ordering::Relaxed)));
        by_word(e, &rows::TURNS_WAITING, TURNS, waiting)?;
        let depths = state.mailboxes.iter().map(|number| length(number.load(Ordering::Relaxed)));
        by_word(e, &rows::MAILBOX_DEPTH, WORKERS, depths)?;
        one(e, &rows::HEARTBEAT_AGE, age(state.heart.load(Ordering::Relaxed)))?;
        by_word(e, &rows::WATCH_SILENCE, WATCHED, state.heard.iter().map(|at| age(at.load(Ordering::Relaxed))))?;
        let synced = state.synced.iter().map(|synced| f64::from(u8::from(synced.load(Ordering::Relaxed))));
        by_word(e, &rows::WATCH_SYNCED, WATCHED, synced)?;
        let spans = locked(&state.spans).clone();
        one(e, &rows::SPANS_EXPORTED, count(spans.as_ref().map_or(0, |spans| spans.exported())))?;
        let dropped = spans.map_or([0; SPAN_LOSSES.len()], |spans| spans.dropped());
        by_word(e, &rows::SPANS_DROPPED, SPAN_LOSSES, dropped.map(count))?;
        let certificates = *locked(&state.certificates);
        let own = PURPOSES.iter().copied().zip(certificates);
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
        let of_servers = locked(&state.fleet).sums(now).certificates.map(|at| at.map(|at| at as f64));
        let all = own.chain(SERVER_PURPOSES.into_iter().zip(of_servers));
        let expiries = all.filter_map(|(purpose, at)| Some(([purpose.into()], at?)));
        scrape(e, &rows::CERTIFICATE_EXPIRY, expiries)?;
        info(e, &rows::BUILD, [env!("CARGO_PKG_VERSION").into()])
    }

    fn runtime(e: &mut DescriptorEncoder<'_>) -> fmt::Result {
        // Scraped outside of a runtime there is none to tell of.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return Ok(()) };
        let metrics = runtime.metrics();
        let busy: Duration = (0..metrics.num_workers()).map(|worker| metrics.worker_total_busy_duration(worker)).sum();
        one(e, &rows::TOKIO_WORKERS, count(metrics.num_workers() as u64))?;
        one(e, &rows::TOKIO_ALIVE_TASKS, count(metrics.num_alive_tasks() as u64))?;
        one(e, &rows::TOKIO_GLOBAL_QUEUE, count(metrics.global_queue_depth() as u64))?;
        one(e, &rows::TOKIO_BUSY, busy.as_secs_f64())
    }

    fn servers(&self, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let now = self.0.now();
        let fleet = locked(&self.0.fleet);
        let all = &fleet.sorted();
        let age = |since: Duration| now.saturating_sub(since).as_secs_f64();
        each_word(e, &rows::SERVER_PHASE, all, |state| state.phase.map(|phase| (PHASES[phase], 1.0)))?;
        let conditions = all.iter().flat_map(|(key, state)| {
            CONDITIONS.iter().zip(state.conditions).filter_map(|(condition, truth)| {
                let [namespace, name] = named(key);
                Some(([namespace, name, (*condition).into(), TRUTHS[truth?].into()], 1.0))
            })
        });
        scrape(e, &rows::SERVER_CONDITION, conditions)?;
        each_word(e, &rows::SERVER_ADAPTERS, all, |state| words(ADAPTERS, state.adapters.map(u64::from)))?;
        each(e, &rows::SERVER_POLLING_INTERVAL, all, |state| {
            state.polling.map(|(interval, _)| interval.as_secs_f64())
        })?;
        each(e, &rows::SERVER_OBSERVATION_AGE, all, |state| state.observation_age(now).map(|age| age.as_secs_f64()))?;
        each_word(e, &rows::SERVER_POLLS, all, |state| words(SERVER_RESULTS, state.polls))?;
        each(e, &rows::SERVER_POLL_DURATION, all, |state| state.last_poll.map(|took| took.as_secs_f64()))?;
        each_word(e, &rows::SERVER_POLL_FAILING, all, |state| {
            state.poll_failing.map(|(problem, since)| (PROBLEMS[problem], age(since)))
        })?;
        each(e, &rows::SERVER_SERVICES_LAG, all, |state| {
            Some(state.services_lag.map_or(0.0, |(_, since)| age(since)))
        })?;
        each(e, &rows::SERVER_POLL_TO_WRITE, all, |state| state.poll_to_write.map(|took| took.as_secs_f64()))?;
        each(e, &rows::SERVER_HELD, all, |state| Some(f64::from(u8::from(state.held))))?;
        each(e, &rows::SERVER_ROLLOUTS, all, |state| Some(count(state.rollouts)))?;
        each_word(e, &rows::SERVER_WRITES, all, |state| words(WRITTEN, state.writes))?;
        each_word(e, &rows::SERVER_RECONCILE_FAILING, all, |state| {
            RECONCILERS.iter().zip(state.failing).filter_map(|(actor, since)| Some((*actor, age(since?))))
        })
    }
}

type Servers<'a> = [(&'a ServerKey, &'a ServerState)];

fn named(key: &ServerKey) -> [Value<'_>; 2] {
    [key.namespace.as_str().into(), key.name.as_str().into()]
}

fn words<const N: usize>(set: &'static [&'static str], values: [u64; N]) -> impl Iterator<Item = (&'static str, f64)> {
    set.iter().copied().zip(values.map(count))
}

/// At most one series for each server.
fn each(
    encoder: &mut DescriptorEncoder<'_>,
    def: &'static MetricDef,
    servers: &Servers<'_>,
    value: impl Fn(&ServerState) -> Option<f64>,
) -> fmt::Result {
    scrape(encoder, def, servers.iter().filter_map(|(key, state)| Some((named(key), value(state)?))))
}

/// For each server as many series as there are words.
fn each_word<I: IntoIterator<Item = (&'static str, f64)>>(
    encoder: &mut DescriptorEncoder<'_>,
    def: &'static MetricDef,
    servers: &Servers<'_>,
    values: impl Fn(&ServerState) -> I,
) -> fmt::Result {
    let series = servers.iter().flat_map(|(key, state)| {
        let [namespace, name] = named(key);
        values(state).into_iter().map(move |(word, value)| ([namespace, name, word.into()], value))
    });
    scrape(encoder, def, series)
}

fn process(e: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let process = Process::look();
    for (def, value) in [
        (&rows::PROCESS_CPU, process.cpu_seconds),
        (&rows::PROCESS_RESIDENT, process.resident_bytes),
        (&rows::PROCESS_VIRTUAL, process.virtual_bytes),
        (&rows::PROCESS_OPEN_FDS, process.open_fds),
        (&rows::PROCESS_MAX_FDS, process.max_fds),
        (&rows::PROCESS_THREADS, process.threads),
        (&rows::PROCESS_START, process.start_seconds),
        (&rows::MEMORY_LIMIT, process.memory_limit_bytes),
    ] {
        scrape::<0>(e, def, value.map(|value| ([], value)))?;
    }
    Ok(())
}
