//! What somebody changes or deletes: set back at once, told with field and manager, and more slowly when it is a fight.

use serde_json::{Value, json};

use super::service_reconciler::at_rest;
use crate::actors::messages::{Cause, CauseKind, Fact, Poke, Role};
use crate::actors::testing::{Bench, changed, pass, run};
use crate::cluster::Kind;
use crate::reconcile::status::ServicesFact;

/// As somebody with `kubectl edit` does, and as a watch tells it.
fn edit(bench: &Bench, name: &str, to: &str) -> Poke {
    bench.api.change(Kind::Service, name, |service| {
        service["spec"]["type"] = json!(to);
        service["metadata"]["managedFields"] =
            json!([{"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:type": {}}}}]);
    });
    seen(bench)
}

fn seen(bench: &Bench) -> Poke {
    bench.sync();
    Poke(Cause::here(CauseKind::ObjectChanged))
}

fn kind(bench: &Bench, name: &str) -> Value {
    bench.api.get(Kind::Service, name)["spec"]["type"].clone()
}

fn notes(bench: &Bench, reason: &str) -> Vec<String> {
    bench.api.events().into_iter().filter(|(known, _)| known == reason).map(|(_, note)| note).collect()
}

#[test]
fn an_edit_is_set_back_at_once_with_an_event_that_names_field_and_manager() {
    run(async {
        let (bench, address) = at_rest().await;
        address.do_send(edit(&bench, "files-api", "NodePort"));
        pass(1.0).await;
        assert_eq!(kind(&bench, "files-api"), "LoadBalancer");
        let told = notes(&bench, "DriftRepaired");
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("Service files-api: set back spec.type (kubectl-edit); change the DittoServer"));
        assert!(notes(&bench, "DriftFought").is_empty());
        bench.api.remove(Kind::Service, "files-file");
        address.do_send(seen(&bench));
        pass(1.0).await;
        assert!(bench.api.find(Kind::Service, "files-file").is_some());
        assert_eq!(
            bench.api.events().last().map(|(_, note)| note.as_str()),
            Some("Service files-file was deleted by somebody, and was made again")
        );
    });
}

#[test]
fn a_fight_is_fought_ever_more_slowly_and_said_and_nothing_else_waits_for_it() {
    run(async {
        let (bench, address) = at_rest().await;
        for _ in 0..3 {
            address.do_send(edit(&bench, "files-api", "NodePort"));
            pass(0.5).await;
            assert_eq!(kind(&bench, "files-api"), "LoadBalancer", "at once");
            bench.sync();
        }
        address.do_send(edit(&bench, "files-api", "NodePort"));
        pass(3.5).await;
        assert_eq!(kind(&bench, "files-api"), "NodePort", "it rests");
        assert!(last_fact_of_services(&bench).problems[0].contains("Service files-api is changed again and again"));
        // Another Service, and another field of the same one.
        address.do_send(edit(&bench, "files-file", "NodePort"));
        pass(0.5).await;
        assert_eq!((kind(&bench, "files-file"), kind(&bench, "files-api")), (json!("LoadBalancer"), json!("NodePort")));
        pass(1.0).await;
        assert_eq!(kind(&bench, "files-api"), "LoadBalancer", "5 s after the repair before");
        bench.sync();
        address.do_send(edit(&bench, "files-api", "NodePort"));
        pass(9.0).await;
        assert_eq!(kind(&bench, "files-api"), "NodePort");
        pass(1.5).await;
        assert_eq!(kind(&bench, "files-api"), "LoadBalancer", "10 s now");
        let told = notes(&bench, "DriftFought");
        assert!(
            told[0].starts_with("spec.type of Service files-api is changed again and again by kubectl-edit"),
            "{told:?}"
        );
        let fights = bench.status.facts().into_iter().filter_map(|fact| match fact {
            Fact::Fought(Role::ServiceReconciler, fights) => Some(fights),
            _ => None,
        });
        assert!(fights.last().is_some_and(|fights| fights.len() == 1));
        // A wish is no drift: it is not kept waiting.
        address.do_send(edit(&bench, "files-api", "NodePort"));
        pass(0.5).await;
        assert_eq!(kind(&bench, "files-api"), "NodePort");
        address.do_send(changed());
        pass(0.5).await;
        assert_eq!(kind(&bench, "files-api"), "LoadBalancer");
    });
}

fn last_fact_of_services(bench: &Bench) -> ServicesFact {
    let facts = bench.status.facts();
    let fact = facts.into_iter().rev().find_map(|fact| match fact {
        Fact::Services(fact) => Some(fact),
        _ => None,
    });
    fact.expect("a fact about Services")
}
