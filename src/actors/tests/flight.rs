//! Single flight, coalescing, backoff and the end of a worker, tried on one whose jobs a test scripts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::prelude::*;
use tokio::time::{Instant, sleep};

use crate::actors::flight::{Finished, Flight, Job, Verdict, Worker, finished, poke};
use crate::actors::gate::Gate;
use crate::actors::messages::{Cause, CauseKind, Poke, Role, Stop};
use crate::actors::testing::{Bench, changed, key, pass, run};

/// What a job of the worker under test does.
#[derive(Clone, Copy, Debug)]
enum Act {
    Settle,
    Fail,
    Panic,
    After(Duration),
}

/// What was seen of its jobs.
#[derive(Default)]
struct Seen {
    starts: Mutex<Vec<(Instant, CauseKind)>>,
    under_way: AtomicUsize,
    most: AtomicUsize,
    ends: AtomicUsize,
}

impl Seen {
    fn runs(&self) -> usize {
        self.starts.lock().expect("no panic").len()
    }
    fn causes(&self) -> Vec<CauseKind> {
        self.starts.lock().expect("no panic").iter().map(|(_, cause)| *cause).collect()
    }
    /// Time between the starts.
    fn gaps(&self) -> Vec<Duration> {
        self.starts.lock().expect("no panic").windows(2).map(|pair| pair[1].0.duration_since(pair[0].0)).collect()
    }
}

struct Puppet {
    flight: Flight,
    seen: Arc<Seen>,
    /// What each job does; the last for ever.
    acts: Arc<Mutex<Vec<Act>>>,
    takes: Duration,
}

impl Actor for Puppet {
    type Context = Context<Self>;
}

impl Handler<Poke> for Puppet {
    type Result = ();
    fn handle(&mut self, message: Poke, ctx: &mut Self::Context) {
        poke(self, ctx, message.0);
    }
}

impl Handler<Finished<Act>> for Puppet {
    type Result = ();
    fn handle(&mut self, end: Finished<Act>, ctx: &mut Self::Context) {
        finished(self, ctx, end);
    }
}

impl Handler<Stop> for Puppet {
    type Result = ();
    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

impl Worker for Puppet {
    type Outcome = Act;
    fn flight(&mut self) -> &mut Flight {
        &mut self.flight
    }
    fn job(&mut self, cause: &Cause) -> Job<Act> {
        self.seen.starts.lock().expect("no panic").push((Instant::now(), cause.kind));
        let (seen, takes) = (self.seen.clone(), self.takes);
        let mut acts = self.acts.lock().expect("no panic");
        let act = if acts.len() > 1 { acts.remove(0) } else { acts[0] };
        Box::pin(async move {
            let now = seen.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            seen.most.fetch_max(now, Ordering::SeqCst);
            sleep(takes).await;
            seen.under_way.fetch_sub(1, Ordering::SeqCst);
            assert!(!matches!(act, Act::Panic), "as scripted");
            seen.ends.fetch_add(1, Ordering::SeqCst);
            act
        })
    }
    fn landed(&mut self, act: Act) -> Verdict {
        match act {
            Act::Settle | Act::Panic => Verdict::Settled,
            Act::Fail => Verdict::Retry,
            Act::After(delay) => Verdict::After(delay),
        }
    }
}

const JOB: Duration = Duration::from_millis(10);

struct Setup {
    address: Addr<Puppet>,
    seen: Arc<Seen>,
    acts: Arc<Mutex<Vec<Act>>>,
    gate: Gate,
}

fn puppet(acts: &[Act]) -> Setup {
    let (seen, deps) = (Arc::new(Seen::default()), Bench::new().deps);
    let gate = deps.gate.clone();
    let flight = Flight::new(key(), Role::PortReconciler, &deps);
    let acts = Arc::new(Mutex::new(acts.to_vec()));
    let address = Puppet { flight, seen: seen.clone(), acts: acts.clone(), takes: JOB }.start();
    Setup { address, seen, acts, gate }
}

#[test]
fn a_hundred_pokes_give_two_runs_one_after_the_other() {
    run(async {
        let puppet = puppet(&[Act::Settle]);
        for _ in 0..100 {
            puppet.address.do_send(changed());
        }
        pass(1.0).await;
        assert_eq!((puppet.seen.runs(), puppet.seen.most.load(Ordering::SeqCst)), (2, 1));
        puppet.address.do_send(changed());
        pass(1.0).await;
        assert_eq!(puppet.seen.runs(), 3, "and it is idle again afterwards");
    });
}

#[test]
fn two_jobs_are_never_under_way_at_once_whatever_comes_when() {
    run(async {
        let puppet = puppet(&[Act::Settle, Act::Fail, Act::Panic, Act::Settle, Act::Fail]);
        for i in 0..500_u64 {
            puppet.address.do_send(changed());
            sleep(Duration::from_micros(i * 7919 % 4000)).await;
        }
        pass(5.0).await;
        assert_eq!(puppet.seen.most.load(Ordering::SeqCst), 1);
        assert!(puppet.seen.runs() > 50, "{}", puppet.seen.runs());
    });
}

#[test]
fn a_failed_job_is_retried_with_growing_delays_that_start_anew_after_a_success() {
    run(async {
        let puppet = puppet(&[Act::Fail]);
        puppet.address.do_send(changed());
        pass(150.0).await;
        let delays: Vec<f64> = puppet.seen.gaps().iter().map(|gap| gap.saturating_sub(JOB).as_secs_f64()).collect();
        let mut plain = 0.2_f64;
        for delay in &delays {
            assert!(*delay >= plain / 2.0 && *delay <= plain + 0.002, "{delay} for {plain} in {delays:?}");
            plain = (plain * 2.0).min(30.0);
        }
        assert!(delays.len() > 8, "{delays:?}");
        *puppet.acts.lock().expect("no panic") = vec![Act::Settle, Act::Fail];
        pass(31.0).await;
        let settled = puppet.seen.runs();
        pass(100.0).await;
        assert_eq!(puppet.seen.runs(), settled, "nothing is retried after a success");
        puppet.address.do_send(changed());
        pass(0.3).await;
        assert_eq!(puppet.seen.runs(), settled + 2, "the first delay is short again");
        assert_eq!(puppet.seen.causes()[1], CauseKind::Retry);
    });
}

#[test]
fn a_poke_runs_at_once_and_takes_the_place_of_the_retry_that_waits() {
    run(async {
        let puppet = puppet(&[Act::After(Duration::from_secs(20)), Act::Settle]);
        puppet.address.do_send(changed());
        pass(1.0).await;
        puppet.address.do_send(changed());
        pass(1.0).await;
        assert_eq!(puppet.seen.runs(), 2);
        pass(60.0).await;
        assert_eq!(puppet.seen.runs(), 2, "the retry was cancelled");
    });
}

#[test]
fn a_wanted_delay_is_kept_exactly() {
    run(async {
        let puppet = puppet(&[Act::After(Duration::from_secs(20)), Act::Settle]);
        puppet.address.do_send(changed());
        pass(60.0).await;
        let gaps = puppet.seen.gaps();
        assert_eq!(gaps.len(), 1);
        assert!(gaps[0] >= Duration::from_secs(20) && gaps[0] < Duration::from_millis(20_050), "{gaps:?}");
    });
}

#[test]
fn a_panic_in_a_job_is_retried_and_the_actor_lives() {
    run(async {
        let puppet = puppet(&[Act::Panic, Act::Panic, Act::Settle]);
        puppet.address.do_send(changed());
        pass(5.0).await;
        assert_eq!((puppet.seen.runs(), puppet.seen.ends.load(Ordering::SeqCst)), (3, 1));
        assert!(puppet.address.connected());
        puppet.address.do_send(changed());
        pass(1.0).await;
        assert_eq!(puppet.seen.runs(), 4);
    });
}

#[test]
fn messages_after_stop_do_nothing_and_the_job_under_way_is_aborted() {
    run(async {
        let puppet = puppet(&[Act::Settle]);
        puppet.address.do_send(changed());
        sleep(JOB / 2).await;
        puppet.address.do_send(Stop);
        puppet.address.do_send(changed());
        pass(5.0).await;
        assert_eq!((puppet.seen.runs(), puppet.seen.ends.load(Ordering::SeqCst)), (1, 0));
        assert!(!puppet.address.connected());
        assert!(puppet.gate.drained(Duration::ZERO).await, "the aborted job gave its pass back");
    });
}

#[test]
fn a_stopped_worker_retries_nothing() {
    run(async {
        let Setup { address, seen, .. } = puppet(&[Act::Fail]);
        address.do_send(changed());
        pass(0.05).await;
        address.do_send(Stop);
        pass(60.0).await;
        assert_eq!(seen.runs(), 1);
    });
}

#[test]
fn behind_a_closed_gate_nothing_starts_and_the_job_under_way_is_waited_for() {
    run(async {
        let puppet = puppet(&[Act::Settle]);
        puppet.address.do_send(changed());
        puppet.address.do_send(changed());
        sleep(JOB / 2).await;
        puppet.gate.close();
        assert!(!puppet.gate.drained(Duration::ZERO).await);
        assert!(puppet.gate.drained(JOB).await);
        pass(5.0).await;
        assert_eq!((puppet.seen.runs(), puppet.seen.ends.load(Ordering::SeqCst)), (1, 1));
    });
}
