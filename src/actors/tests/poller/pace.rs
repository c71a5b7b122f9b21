//! When the server is polled, what of an answer is told, and what ends a poll.

use std::time::Duration;

use dittofs_testbed::dittofs::{Mode, Scope};
use serde_json::json;
use tokio::time::sleep;

use super::{Bed, gaps};
use crate::actors::messages::{Peers, Resend, Role, ServerReachable, Stop, Wire};
use crate::actors::testing::{Probe, eventually, run_in_real_time};
use crate::cluster::Kind;
use crate::reconcile::AdapterState::{Passage, Running, Stopped};
use crate::reconcile::status::PollFact;

#[test]
fn the_period_is_kept_and_unchanged_answers_tell_nothing() {
    run_in_real_time(async {
        let bed = Bed::polling().await;
        bed.server.clear_requests();
        let facts = bed.status.count();
        bed.polls(4).await;
        let gaps = gaps(&bed.server.polls());
        assert!(gaps.iter().all(|gap| (800..1700).contains(gap)), "{gaps:?}");
        let mean = gaps.iter().sum::<u128>() / gaps.len() as u128;
        assert!((900..1300).contains(&mean), "the period does not drift: {gaps:?}");
        assert_eq!((bed.observations(), bed.status.count()), (1, facts));
        assert_eq!(bed.server.requests().len(), bed.server.polls().len(), "one request a poll");
    });
}

#[test]
fn pokes_do_not_hasten_a_poll() {
    run_in_real_time(async {
        let bed = Bed::polling().await;
        bed.server.clear_requests();
        for _ in 0..100 {
            bed.poke();
            sleep(Duration::from_millis(20)).await;
        }
        let polls = bed.server.polls().len();
        assert!((1..=3).contains(&polls), "{polls} polls in 2 s");
    });
}

#[test]
fn a_failing_server_is_retried_with_backoff_that_stays_below_the_period() {
    run_in_real_time(async {
        let bed = Bed::polling().await;
        bed.server.set_mode(Mode::Status(500), Scope::AdaptersList);
        bed.polls(1).await;
        bed.server.clear_requests();
        bed.polls(6).await;
        let gaps = gaps(&bed.server.polls());
        assert!(gaps.iter().all(|gap| (100..1500).contains(gap)), "{gaps:?}");
        assert!(gaps[4] > gaps[0], "they grow: {gaps:?}");
    });
}

#[test]
fn another_interval_takes_effect_without_waiting_out_the_old_one() {
    run_in_real_time(async {
        let bed = Bed::polling().await;
        bed.edit(|spec| spec["adapterDiscovery"]["pollingInterval"] = json!("1h"));
        sleep(Duration::from_millis(1500)).await;
        bed.server.clear_requests();
        sleep(Duration::from_millis(1500)).await;
        assert_eq!(bed.server.polls().len(), 0);
        bed.edit(|spec| spec["adapterDiscovery"]["pollingInterval"] = json!("1s"));
        let start = tokio::time::Instant::now();
        eventually("a poll", || !bed.server.polls().is_empty()).await;
        assert!(start.elapsed() < Duration::from_secs(2), "the period counts from the last poll, which is long ago");
    });
}

#[test]
fn a_server_that_becomes_reachable_is_polled_at_once_and_one_that_answers_is_not() {
    run_in_real_time(async {
        let bed = Bed::new().await;
        bed.bench.edit(|spec| spec["adapterDiscovery"]["pollingInterval"] = json!("1h"));
        bed.server.refuse_connections(true);
        bed.poke();
        // Backoff grows to minutes; seven attempts take about half a minute, three are enough here.
        eventually("attempts", || bed.server.requests().len() >= 3).await;
        bed.server.heal();
        bed.address.do_send(ServerReachable);
        let start = tokio::time::Instant::now();
        eventually("the first observation", || bed.observations() == 1).await;
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        bed.server.clear_requests();
        for _ in 0..10 {
            bed.address.do_send(ServerReachable);
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(bed.server.polls().len(), 0);
    });
}

#[test]
fn a_stopped_server_is_not_polled_and_the_poll_under_way_is_aborted() {
    run_in_real_time(async {
        let bed = Bed::polling().await;
        bed.server.set_mode(Mode::Hang, Scope::AdaptersList);
        eventually("a poll hangs", || bed.server.polls_in_flight() == 1).await;
        bed.edit(|spec| spec["replicas"] = json!(0));
        eventually("it is aborted", || bed.server.polls_in_flight() == 0).await;
        assert_eq!(bed.fact(), Some(PollFact::Stopped));
        bed.server.heal();
        bed.server.clear_requests();
        bed.address.do_send(ServerReachable);
        bed.poke();
        sleep(Duration::from_millis(1500)).await;
        assert_eq!(bed.server.requests().len(), 0);
        bed.edit(|spec| spec["replicas"] = json!(1));
        eventually("it is polled again", || bed.answered()).await;
        assert_eq!(bed.observations(), 1, "with nothing new to tell");
    });
}

#[test]
fn a_passage_counts_as_stopped_after_its_grace_and_a_stop_of_the_server_ends_it() {
    run_in_real_time(async {
        let bed = Bed::polling().await;
        bed.edit(|spec| spec["adapterDiscovery"]["stopGracePeriod"] = json!("3s"));
        bed.server.set_running("smb", false);
        eventually("a passage", || bed.states()[1].1 == Passage).await;
        let start = tokio::time::Instant::now();
        eventually("it lasted too long", || bed.states()[1].1 == Stopped).await;
        assert!(start.elapsed() >= Duration::from_millis(2900), "{:?}", start.elapsed());
        bed.server.set_running("smb", true);
        eventually("it runs again", || bed.states()[1].1 == Running).await;

        bed.server.set_running("smb", false);
        eventually("another passage", || bed.states()[1].1 == Passage).await;
        bed.edit(|spec| spec["replicas"] = json!(0));
        sleep(Duration::from_millis(3200)).await;
        let told = bed.observations();
        bed.edit(|spec| spec["replicas"] = json!(1));
        eventually("polled again", || bed.answered()).await;
        assert_eq!(bed.observations(), told, "its grace starts anew with the server: {:?}", bed.states());
    });
}

#[test]
fn a_stop_while_a_poll_hangs_ends_the_request() {
    run_in_real_time(async {
        let bed = Bed::new().await;
        bed.server.set_mode(Mode::Hang, Scope::All);
        bed.poke();
        eventually("a request hangs", || bed.server.requests().iter().any(|request| request.ended.is_none())).await;
        bed.address.do_send(Stop);
        eventually("it is aborted", || bed.server.requests().iter().all(|request| request.ended.is_some())).await;
        let asked = bed.server.requests().len();
        bed.poke();
        bed.address.do_send(ServerReachable);
        sleep(Duration::from_millis(1200)).await;
        assert_eq!(bed.server.requests().len(), asked);
        assert_eq!(bed.bench.ended.last().map(|end| (end.role, end.panicked)), Some((Role::AdapterPoller, false)));
        assert!(bed.bench.deps.gate.drained(Duration::ZERO).await, "nothing is left under way");
    });
}

#[test]
fn whoever_is_new_is_told_the_last_observation_again() {
    run_in_real_time(async {
        let bed = Bed::polling().await;
        let (first, second, status) = (Probe::new(), Probe::new(), Probe::new());
        let hashes = Probe::new();
        bed.address.do_send(Wire(Peers {
            hashed: hashes.recipient(),
            observed: vec![first.recipient(), second.recipient()],
            status: status.recipient(),
        }));
        bed.address.do_send(Resend);
        eventually("all of it", || first.count() == 1 && second.count() == 1 && status.count() == 2).await;
        assert_eq!(first.last().map(|told| told.adapters), bed.observed.last().map(|told| told.adapters));
        assert_eq!(bed.observations(), 1, "the one before hears no more");

        let fresh = Bed::new().await;
        fresh.address.do_send(Resend);
        sleep(Duration::from_millis(100)).await;
        assert_eq!((fresh.observed.count(), fresh.status.count()), (0, 0), "nothing known, nothing told");
    });
}

#[test]
fn an_invalid_spec_stops_the_polls_and_a_valid_one_starts_them_again() {
    run_in_real_time(async {
        let bed = Bed::polling().await;
        bed.edit(|spec| spec["adapterDiscovery"]["stopGracePeriod"] = json!("soon"));
        sleep(Duration::from_millis(200)).await;
        bed.server.clear_requests();
        sleep(Duration::from_millis(1500)).await;
        assert_eq!(bed.server.polls().len(), 0);
        bed.edit(|spec| spec["adapterDiscovery"]["stopGracePeriod"] = json!("5s"));
        bed.polls(2).await;

        // Invalid when the timer fires, valid again before the poller hears of it.
        bed.bench.edit(|spec| spec["adapterDiscovery"]["stopGracePeriod"] = json!("soon"));
        sleep(Duration::from_millis(1500)).await;
        bed.edit(|spec| spec["adapterDiscovery"]["stopGracePeriod"] = json!("5s"));
        bed.polls(2).await;

        bed.bench.api.remove(Kind::DittoServer, "files");
        bed.bench.sync();
        bed.poke();
        sleep(Duration::from_millis(200)).await;
        bed.server.clear_requests();
        sleep(Duration::from_millis(1500)).await;
        assert_eq!(bed.server.requests().len(), 0, "a server that is gone is not asked");
    });
}
