//! PortReconciler: how a write meets conflicts, refusals and an API server with its own words.

use std::time::Duration;

use serde_json::json;

use super::observed;
use super::port_reconciler::{at_rest, hashed, last_fact, start, template_hash};
use crate::actors::testing::api::Fault;
use crate::actors::testing::{Bench, changed, pass, run};
use crate::cluster::Kind;
use crate::reconcile::AdapterState::{Running, Stopped};

fn conflict() -> Fault {
    Fault::Status(409, "Conflict")
}

#[test]
fn a_conflict_once_or_thrice_is_overcome_within_the_run() {
    for conflicts in [1, 3] {
        run(async move {
            let (bench, address) = at_rest().await;
            bench.api.fail(conflicts, "PUT StatefulSet", conflict());
            let reads = bench.api.count("GET StatefulSet");
            address.do_send(observed(&[("nfs", 12049, Running)]));
            pass(3.0).await;
            assert_eq!(bench.api.count("PUT StatefulSet files"), conflicts + 1);
            assert_eq!(bench.api.count("GET StatefulSet") - reads, conflicts + 1, "each attempt reads it again");
            assert_eq!(bench.api.reasons(), ["Created", "ContainerPortsUpdated"], "nobody is alarmed");
            assert_eq!(last_fact(&bench).problem, None);
        });
    }
}

#[test]
fn a_conflict_for_ever_ends_each_run_after_five_attempts_and_runs_follow_by_backoff() {
    run(async {
        let (bench, address) = at_rest().await;
        bench.api.fail(usize::MAX, "PUT StatefulSet", conflict());
        address.do_send(observed(&[("nfs", 12049, Running)]));
        pass(60.0).await;
        let at: Vec<Duration> = bench.api.requests("PUT StatefulSet").iter().map(|asked| asked.at).collect();
        // Within a run the pauses are below 0.4 s in sum; from run to run they grow.
        let runs: Vec<&[Duration]> = at.chunks(5).collect();
        assert!((5..12).contains(&runs.len()), "{} runs in a minute", runs.len());
        for attempts in &runs[..runs.len() - 1] {
            let span = attempts[4].saturating_sub(attempts[0]);
            assert!(span > Duration::from_millis(100) && span < Duration::from_millis(400), "{span:?}");
        }
        let pause = |n: usize| runs[n][0].saturating_sub(runs[n - 1][4]);
        assert!(pause(4) > pause(1) * 2, "{:?} {:?}", pause(1), pause(4));
        assert!(last_fact(&bench).problem.is_some_and(|text| text.contains("409")));
        assert_eq!(bench.api.reasons()[1], "ReconcileFailed");
        bench.api.heal();
        pass(31.0).await;
        assert_eq!(last_fact(&bench).problem, None);
        assert_eq!(bench.api.reasons().last().map(String::as_str), Some("ContainerPortsUpdated"));
    });
}

#[test]
fn a_change_of_somebody_else_that_made_the_conflict_is_kept() {
    run(async {
        let (bench, address) = at_rest().await;
        let foreign = Fault::Raced(Box::new(|set| {
            set["metadata"]["annotations"]["example.com/mine"] = json!("kept");
            set["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] = json!("now");
            let containers = set["spec"]["template"]["spec"]["containers"].as_array_mut().expect("containers");
            containers.push(json!({"name": "sidecar", "image": "proxy:1", "newerThanUs": {"a": 1}}));
        }));
        bench.api.fail(1, "PUT StatefulSet", foreign);
        bench.edit(|spec| spec["image"] = json!("dittofs:2"));
        address.do_send(hashed(2, "h2"));
        pass(5.0).await;
        let set = bench.api.get(Kind::StatefulSet, "files");
        assert_eq!(bench.api.count("PUT StatefulSet"), 2, "the first met the conflict");
        assert_eq!(set["metadata"]["annotations"]["example.com/mine"], "kept");
        let template = &set["spec"]["template"];
        assert_eq!(template["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"], "now");
        let sidecar =
            template["spec"]["containers"].as_array().and_then(|all| all.iter().find(|c| c["name"] == "sidecar"));
        assert_eq!(sidecar.map(|container| &container["newerThanUs"]["a"]), Some(&json!(1)));
        assert_eq!(template_hash(&set), "h2");
    });
}

#[test]
fn a_creation_that_somebody_came_before_reads_what_is_there() {
    run(async {
        let bench = Bench::with_server();
        bench.api.fail(1, "POST StatefulSet", Fault::Status(409, "AlreadyExists"));
        let address = start(&bench);
        address.do_send(hashed(1, "h1"));
        pass(5.0).await;
        assert_eq!(bench.api.writes(), ["POST StatefulSet files"; 2]);
        assert_eq!(last_fact(&bench).applied, Some(1));
    });
}

#[test]
fn a_write_that_the_api_server_puts_in_its_own_words_is_not_repeated() {
    run(async {
        let bench = Bench::with_server();
        bench.api.on_write(Kind::StatefulSet, |set| {
            let container = &mut set["spec"]["template"]["spec"]["containers"][0];
            let image = container["image"].as_str().unwrap_or_default().trim_start_matches("mirror/").to_owned();
            container["image"] = json!(format!("mirror/{image}"));
        });
        let address = start(&bench);
        address.do_send(hashed(1, "h1"));
        pass(30.0).await;
        let writes = bench.api.writes();
        assert_eq!(writes, ["POST StatefulSet files", "PUT StatefulSet files"], "one look at what became of it");
        for _ in 0..20 {
            bench.sync();
            address.do_send(changed());
            pass(5.0).await;
        }
        assert_eq!(bench.api.writes(), writes);
        assert_eq!(last_fact(&bench).applied, Some(1));
        // Another wish is written, once.
        address.do_send(observed(&[("nfs", 12049, Running), ("smb", 1445, Stopped)]));
        pass(30.0).await;
        assert_eq!(bench.api.writes().len(), writes.len() + 1);
    });
}

#[test]
fn what_the_api_server_refuses_is_reported_and_tried_again() {
    run(async {
        let bench = Bench::with_server();
        bench.api.fail(3, "POST StatefulSet", Fault::Status(403, "Forbidden"));
        let address = start(&bench);
        address.do_send(hashed(1, "h1"));
        pass(0.1).await;
        assert!(last_fact(&bench).problem.is_some_and(|text| text.contains("403")));
        pass(10.0).await;
        assert_eq!(bench.api.count("POST StatefulSet"), 4);
        assert_eq!(last_fact(&bench), crate::reconcile::status::PortsFact { applied: Some(1), ..Default::default() });
    });
}

#[test]
fn a_write_that_hangs_ends_at_its_deadline_and_a_poke_meanwhile_starts_no_second_one() {
    run(async {
        let bench = Bench::with_server();
        bench.api.fail(1, "POST StatefulSet", Fault::Hang);
        let address = start(&bench);
        address.do_send(hashed(1, "h1"));
        pass(1.0).await;
        for _ in 0..5 {
            address.do_send(changed());
            pass(1.0).await;
        }
        assert_eq!(bench.api.count("POST StatefulSet"), 1);
        pass(6.0).await;
        assert_eq!(bench.api.count("POST StatefulSet"), 2);
        assert_eq!(last_fact(&bench).applied, Some(1));
    });
}

#[test]
fn a_write_whose_answer_was_lost_is_found_done_and_not_repeated() {
    run(async {
        let bench = Bench::with_server();
        bench.api.fail(1, "POST StatefulSet", Fault::Late(Duration::from_mins(1)));
        let address = start(&bench);
        address.do_send(hashed(1, "h1"));
        pass(15.0).await;
        assert_eq!(bench.api.writes(), ["POST StatefulSet files"]);
        assert_eq!(last_fact(&bench).applied, Some(1));
    });
}
