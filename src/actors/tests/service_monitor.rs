//! ServiceReconciler: a ServiceMonitor is made when the kind is there, and a kind that is not there costs nothing.

use std::sync::atomic::Ordering;

use actix::prelude::*;
use serde_json::json;

use super::observed;
use super::service_reconciler::{last_fact, start, writes_after};
use crate::actors::service_reconciler::ServiceReconciler;
use crate::actors::testing::api::Fault;
use crate::actors::testing::{Bench, changed, pass, run};
use crate::cluster::Kind;
use crate::reconcile::AdapterState::Running;

fn monitored() -> Bench {
    Bench::new().and_server(|spec| spec["metrics"] = json!({"enabled": true, "serviceMonitor": {"enabled": true}}))
}

/// A server without its ServiceMonitor, since the API server did not serve the kind.
async fn without() -> (Bench, Addr<ServiceReconciler>) {
    let bench = Bench::new();
    bench.without_service_monitors.store(true, Ordering::Relaxed);
    bench.deps.caches.service_monitors.set_absent();
    let bench =
        bench.and_server(|spec| spec["metrics"] = json!({"enabled": true, "serviceMonitor": {"enabled": true}}));
    let address = start(&bench);
    address.do_send(observed(&[("nfs", 12049, Running)]));
    pass(60.0).await;
    bench.sync();
    (bench, address)
}

#[test]
fn it_is_made_last_and_goes_when_it_is_switched_off() {
    run(async {
        let bench = monitored();
        let address = start(&bench);
        address.do_send(observed(&[("nfs", 12049, Running)]));
        pass(1.0).await;
        bench.sync();
        assert_eq!(bench.api.writes().last().map(String::as_str), Some("POST ServiceMonitor files-metrics"));
        let before = bench.api.writes().len();
        address.do_send(changed());
        pass(60.0).await;
        assert_eq!(bench.api.writes().len(), before);
        bench.edit(|spec| spec["metrics"]["serviceMonitor"]["enabled"] = json!(false));
        address.do_send(changed());
        pass(1.0).await;
        assert_eq!(writes_after(&bench, before), ["DELETE ServiceMonitor files-metrics"]);
        assert!(bench.api.requests("DELETE")[0].body["preconditions"]["uid"].is_string());
        let told = bench.api.reasons();
        assert_eq!(told, ["AdapterServiceCreated"], "a ServiceMonitor is no adapter's event");
    });
}

#[test]
fn without_the_kind_nothing_is_asked_for_and_all_else_is_done() {
    run(async {
        let (bench, address) = without().await;
        assert_eq!(bench.api.asked().iter().filter(|(name, _)| name.contains("ServiceMonitor")).count(), 0);
        assert_eq!(last_fact(&bench).applied, Some(1));
        assert!(bench.api.find(Kind::Service, "files-metrics").is_some());
        bench.without_service_monitors.store(false, Ordering::Relaxed);
        bench.sync();
        address.do_send(changed());
        pass(1.0).await;
        assert!(bench.api.find(Kind::ServiceMonitor, "files-metrics").is_some(), "it arrived");
    });
}

#[test]
fn a_kind_that_goes_under_our_hands_is_no_failure_and_is_tried_slowly() {
    for code in [404, 405] {
        run(async move {
            let bench = monitored();
            bench.api.fail(usize::MAX, "POST ServiceMonitor", Fault::Status(code, "Gone"));
            let address = start(&bench);
            address.do_send(observed(&[("nfs", 12049, Running)]));
            pass(59.0).await;
            let fact = last_fact(&bench);
            assert_eq!((fact.applied, fact.problems, fact.waiting), (Some(1), vec![], vec![]));
            let attempts = bench.api.count("POST ServiceMonitor");
            assert!((2..=3).contains(&attempts), "{attempts} attempts in a minute");
            assert!(!bench.api.reasons().contains(&"ReconcileFailed".to_owned()));
            bench.api.heal();
            pass(31.0).await;
            assert!(bench.api.find(Kind::ServiceMonitor, "files-metrics").is_some());
        });
    }
}

#[test]
fn one_that_is_refused_is_told_and_stops_no_other() {
    run(async {
        let bench = monitored();
        bench.api.fail(usize::MAX, "POST ServiceMonitor", Fault::Status(403, "Forbidden"));
        let address = start(&bench);
        address.do_send(observed(&[("nfs", 12049, Running)]));
        pass(10.0).await;
        assert!(bench.api.find(Kind::Service, "files-adapter-nfs").is_some());
        let fact = last_fact(&bench);
        assert_eq!((fact.applied, fact.problems.len()), (None, 1));
        assert!(fact.problems[0].starts_with("ServiceMonitor files-metrics: "), "{fact:?}");
        assert!(bench.api.reasons().contains(&"ReconcileFailed".to_owned()));
    });
}
