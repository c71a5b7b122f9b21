//! Every way in which a server can answer wrongly, before its first valid answer and after it.

use std::time::Duration;

use dittofs_testbed::dittofs::{Mode, Scope};
use futures::future::join_all;

use super::Bed;
use crate::actors::messages::Fact;
use crate::actors::testing::{eventually, run_in_real_time};
use crate::reconcile::AdapterState::Running;
use crate::reconcile::status::PollFact;

/// What the status has to say about a mode of the list of adapters.
#[derive(Clone, Copy, Debug)]
enum Says {
    Unreachable,
    Refused,
    BadAnswer,
}

fn wrong_answers() -> Vec<(Mode, Says)> {
    vec![
        (Mode::Status(500), Says::BadAnswer),
        (Mode::Status(404), Says::BadAnswer),
        (Mode::Garbage, Says::BadAnswer),
        (Mode::EmptyBody, Says::BadAnswer),
        (Mode::Null, Says::BadAnswer),
        (Mode::HalfBody, Says::BadAnswer),
        (Mode::Reset, Says::Unreachable),
        (Mode::Unauthorized, Says::Refused),
        (Mode::Forbidden, Says::Refused),
        (Mode::Redirect("http://127.0.0.1:9/api/v1/adapters".to_owned()), Says::BadAnswer),
        (Mode::Huge(2 << 20), Says::BadAnswer),
        (Mode::Endless, Says::BadAnswer),
        (Mode::UnknownShape, Says::BadAnswer),
        (Mode::DuplicateType, Says::BadAnswer),
        (Mode::GzipBomb, Says::BadAnswer),
        (Mode::DeepNesting, Says::BadAnswer),
    ]
}

fn fits(fact: &PollFact, says: Says) -> bool {
    matches!(
        (fact, says),
        (PollFact::Unreachable(_), Says::Unreachable)
            | (PollFact::Refused(_), Says::Refused)
            | (PollFact::BadAnswer(_), Says::BadAnswer)
    )
}

#[test]
fn before_the_first_valid_answer_a_wrong_one_is_reported_and_nothing_is_observed() {
    run_in_real_time(join_all(wrong_answers().into_iter().map(|(mode, says)| async move {
        let bed = Bed::new().await;
        bed.server.set_mode(mode.clone(), Scope::AdaptersList);
        bed.poke();
        eventually("a fact", || bed.fact().is_some()).await;
        let fact = bed.fact().expect("a fact");
        assert!(fits(&fact, says), "{mode:?} gives {fact:?}, not {says:?}");
        bed.polls(1).await;
        assert_eq!(bed.observations(), 0, "{mode:?}");
        bed.server.heal();
        eventually("it heals by itself", || bed.answered() && bed.observations() == 1).await;
        assert_eq!(bed.states(), [("nfs".to_owned(), Running), ("smb".to_owned(), Running)]);
    })));
}

#[test]
fn after_a_valid_answer_a_wrong_one_keeps_what_is_known() {
    run_in_real_time(join_all(wrong_answers().into_iter().map(|(mode, says)| async move {
        let bed = Bed::polling().await;
        bed.server.set_mode(mode.clone(), Scope::AdaptersList);
        let what = format!("{mode:?} is reported as {says:?}");
        eventually(&what, || bed.fact().is_some_and(|fact| fits(&fact, says))).await;
        bed.polls(1).await;
        assert_eq!(bed.observations(), 1, "{mode:?}");
        bed.server.heal();
        eventually("it heals by itself", || bed.answered()).await;
        assert_eq!(bed.observations(), 1, "the same adapters are no news");
        let adapters = bed.status.facts().iter().filter(|fact| matches!(fact, Fact::Adapters(_))).count();
        assert_eq!(adapters, 1);
    })));
}

#[test]
fn a_hanging_server_costs_ten_seconds_and_is_polled_by_one_request_at_a_time() {
    run_in_real_time(async {
        let bed = Bed::polling().await;
        bed.server.set_mode(Mode::Hang, Scope::AdaptersList);
        bed.server.clear_requests();
        eventually("the poll gave up", || matches!(bed.fact(), Some(PollFact::Unreachable(_)))).await;
        let polls = bed.server.polls();
        let time = polls[0].at.elapsed();
        assert!(time >= Duration::from_millis(9_900) && time < Duration::from_secs(14), "{time:?}");
        assert_eq!(bed.server.most_polls_in_flight(), 1);
        assert_eq!(bed.observations(), 1);
        bed.server.heal();
        eventually("it heals by itself", || bed.answered()).await;
    });
}

#[test]
fn an_empty_array_is_an_answer() {
    run_in_real_time(async {
        let bed = Bed::polling().await;
        bed.server.delete_adapter("nfs");
        bed.server.delete_adapter("smb");
        eventually("it is observed", || bed.observations() >= 2).await;
        eventually("nothing runs", || bed.states().is_empty()).await;
        assert!(bed.answered());
    });
}

#[test]
fn a_poll_that_takes_longer_than_the_period_keeps_the_ticks_and_overlaps_with_none() {
    run_in_real_time(async {
        let bed = Bed::polling().await;
        bed.server.set_mode(Mode::Slow(Duration::from_millis(1300)), Scope::AdaptersList);
        bed.polls(1).await;
        bed.server.clear_requests();
        bed.polls(3).await;
        let polls = bed.server.polls();
        assert_eq!(bed.server.most_polls_in_flight(), 1);
        for gap in super::gaps(&polls) {
            assert!((1900..2900).contains(&gap), "every second tick: {gap} ms");
        }
        assert_eq!(bed.observations(), 1);
    });
}
