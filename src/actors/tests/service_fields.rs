//! ServiceReconciler: what Kubernetes does not let change of a Service is said, and everything else follows.

use serde_json::{Value, json};

use super::service_reconciler::{at_rest, last_fact, writes_after};
use crate::actors::testing::api::Fault;
use crate::actors::testing::{Bench, changed, pass, run};
use crate::cluster::Kind;

/// The bodies of all PUTs of a Service.
fn puts(bench: &Bench, name: &str) -> Vec<Value> {
    bench.api.requests(&format!("PUT Service {name}")).into_iter().map(|asked| asked.body).collect()
}

fn events(bench: &Bench, reason: &str) -> Vec<String> {
    bench.api.events().into_iter().filter(|(is, _)| is == reason).map(|(_, note)| note).collect()
}

#[test]
fn a_changed_class_is_said_once_and_never_sent_and_other_fields_follow() {
    run(async {
        let (bench, address) = at_rest().await;
        let before = bench.api.get(Kind::Service, "files-adapter-nfs");
        let writes = bench.api.writes().len();
        bench.edit(|spec| spec["adapterServices"] = json!({"loadBalancerClass": "example.com/b"}));
        for _ in 0..10 {
            address.do_send(changed());
            pass(5.0).await;
            bench.sync();
        }
        assert_eq!(writes_after(&bench, writes), [""; 0], "nothing to write");
        let fact = last_fact(&bench);
        assert_eq!((fact.applied, fact.problems.len()), (None, 2), "{fact:?}");
        assert!(fact.problems[0].contains("Service files-adapter-nfs: loadBalancerClass stays unset"), "{fact:?}");
        assert_eq!(events(&bench, "AdapterServiceFailed").len(), 2, "once a Service: {:?}", bench.api.events());

        bench.edit(|spec| {
            spec["adapterServices"] = json!({"loadBalancerClass": "example.com/b", "labels": {"team": "x"}});
        });
        address.do_send(changed());
        pass(5.0).await;
        let after = bench.api.get(Kind::Service, "files-adapter-nfs");
        assert_eq!((&after["metadata"]["labels"]["team"], after["spec"].get("loadBalancerClass")), (&json!("x"), None));
        assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
        assert_eq!(bench.api.count("DELETE"), 0);

        // Over a type that has no class, it is taken up.
        for kind in ["ClusterIP", "LoadBalancer"] {
            bench.sync();
            bench.edit(|spec| {
                spec["adapterServices"] = json!({"type": kind, "loadBalancerClass": "example.com/b"});
            });
            address.do_send(changed());
            pass(5.0).await;
        }
        assert_eq!(bench.api.get(Kind::Service, "files-adapter-nfs")["spec"]["loadBalancerClass"], "example.com/b");
        let fact = last_fact(&bench);
        assert!(fact.applied.is_some() && fact.problems.is_empty(), "{fact:?}");
    });
}

#[test]
fn a_refused_change_of_families_stops_no_other_change_and_is_seldom_asked_for_again() {
    run(async {
        let (bench, address) = at_rest().await;
        let asked = |bench: &Bench| {
            puts(bench, "files-api").iter().filter(|put| put["spec"]["ipFamilyPolicy"].is_string()).count()
        };
        let refuse = || {
            let fault = Fault::Status(422, "Invalid: spec.ipFamilyPolicy: not configured");
            bench.api.fail(1, "PUT Service files-api", fault);
        };
        refuse();
        bench.edit(|spec| spec["apiService"] = json!({"ipFamilyPolicy": "RequireDualStack", "labels": {"team": "x"}}));
        for _ in 0..100 {
            address.do_send(changed());
            pass(5.0).await;
            bench.sync();
        }
        let service = bench.api.get(Kind::Service, "files-api");
        assert_eq!(service["metadata"]["labels"]["team"], "x", "the other change");
        assert_eq!((asked(&bench), puts(&bench, "files-api").len()), (1, 2), "asked once in 500 s");
        let fact = last_fact(&bench);
        assert_eq!(fact.applied, None);
        assert!(
            fact.problems.len() == 1
                && fact.problems[0].contains("ipFamilyPolicy and ipFamilies stay as they are")
                && fact.problems[0].contains("not configured"),
            "{fact:?}"
        );
        assert!(!events(&bench, "ReconcileFailed").is_empty());

        // Another wish is asked for at once, the same one after ten minutes.
        bench.edit(|spec| spec["apiService"] = json!({"ipFamilyPolicy": "PreferDualStack", "labels": {"team": "x"}}));
        refuse();
        address.do_send(changed());
        pass(5.0).await;
        bench.sync();
        assert_eq!(asked(&bench), 2);
        for _ in 0..20 {
            pass(31.0).await;
        }
        assert_eq!(asked(&bench), 3, "and by itself");
        bench.sync();
        address.do_send(changed());
        pass(5.0).await;
        assert_eq!(bench.api.get(Kind::Service, "files-api")["spec"]["ipFamilyPolicy"], "PreferDualStack");
        assert!(last_fact(&bench).applied.is_some());
    });
}
