//! Every NetworkPolicy that comes and goes with the Services, and none that goes without evidence.

use serde_json::json;

use super::*;
use crate::fixtures::{everything, server};
use crate::reconcile::plan_services;

fn running(adapters: &[(&str, u16)]) -> Vec<ObservedAdapter> {
    adapters.iter().map(|(name, port)| adapter(name, *port, AdapterState::Running)).collect()
}

fn adapter(adapter_type: &str, port: u16, state: AdapterState) -> ObservedAdapter {
    ObservedAdapter { adapter_type: adapter_type.to_owned(), port, state }
}

/// What is wanted, as the API server has it.
fn stored(ensure: &[Ensure]) -> Vec<Arc<Value>> {
    let store = |ensure: &Ensure| {
        let mut object = ensure.desired.clone();
        object["metadata"]["uid"] = json!(format!("uid-of-{}", ensure.name));
        Arc::new(object)
    };
    ensure.iter().map(store).collect()
}

/// Services and policies of a server that runs these adapters.
struct Standing {
    server: ValidatedServer,
    services: Vec<Arc<Value>>,
    policies: Vec<Arc<Value>>,
}

impl Standing {
    fn new(server: ValidatedServer, adapters: &[(&str, u16)]) -> Self {
        let mut standing = Self { server, services: vec![], policies: vec![] };
        let adapters = running(adapters);
        standing.policies = stored(&standing.plan(Some(&adapters)).ensure);
        standing.services = stored(&plan_services(&standing.server, Some(&adapters), None, &[], false).ensure);
        standing
    }

    fn plan(&self, adapters: Option<&[ObservedAdapter]>) -> ServicePlan {
        let services = plan_services(&self.server, adapters, None, &self.services, false);
        let published = Published {
            services: &services,
            live_services: &self.services,
            adapters,
            operator_namespace: Some("operators"),
        };
        plan_network_policies(&self.server, published, &self.policies)
    }
}

fn names(plan: &[Ensure]) -> Vec<&str> {
    plan.iter().map(|ensure| ensure.name.as_str()).collect()
}

fn gone(plan: &ServicePlan) -> Vec<(&str, &str)> {
    plan.remove.iter().map(|remove| (remove.name.as_str(), remove.why)).collect()
}

/// Each port that a policy lets in, as text.
fn let_in(policy: &Value) -> Vec<String> {
    let rules = policy["spec"]["ingress"].as_array().into_iter().flatten();
    rules.flat_map(|rule| rule["ports"].as_array().into_iter().flatten()).map(|port| port["port"].to_string()).collect()
}

#[test]
fn each_service_that_is_planned_has_its_ports_let_in() {
    let standing = Standing::new(server("files").build(), &[]);
    let adapters = running(&[("nfs", 12049), ("s3", 9000)]);
    let plan = standing.plan(Some(&adapters));
    assert_eq!(names(&plan.ensure), ["files-baseline", "files-adapter-nfs", "files-adapter-s3"]);
    assert_eq!(let_in(&plan.ensure[0].desired), ["\"api\"", "12049", "445"], "nfs was found, smb was not");
    assert_eq!(let_in(&plan.ensure[2].desired), ["9000"]);
    assert_eq!(plan.remove, []);
    let full = Standing::new(everything("files"), &[]);
    assert!(let_in(&full.plan(None).ensure[0].desired).contains(&"\"metrics\"".to_owned()));
}

#[test]
fn before_the_first_answer_every_service_that_stands_has_its_policy_and_none_is_removed() {
    let mut standing = Standing::new(server("files").build(), &[("nfs", 12049), ("s3", 9000)]);
    assert_eq!(names(&standing.plan(None).ensure), ["files-baseline", "files-adapter-nfs", "files-adapter-s3"]);
    // Of a server from before there were policies, whose ports are those that its Services have.
    standing.policies.clear();
    let plan = standing.plan(None);
    assert_eq!(names(&plan.ensure), ["files-baseline", "files-adapter-nfs", "files-adapter-s3"]);
    assert_eq!(let_in(&plan.ensure[0].desired), ["\"api\"", "12049", "445"]);
    assert_eq!(let_in(&plan.ensure[2].desired), ["9000"]);
    // The Service that went meanwhile: nobody knows whether its adapter runs.
    let mut halved = Standing::new(server("files").build(), &[("nfs", 12049), ("s3", 9000)]);
    halved.services.retain(|service| meta(service, "name") != "files-adapter-s3");
    assert_eq!(halved.plan(None).remove, []);
}

#[test]
fn a_policy_goes_with_the_stop_of_its_adapter_and_by_its_uid_and_stays_through_a_passage() {
    let standing = Standing::new(server("files").build(), &[("nfs", 12049), ("s3", 9000)]);
    let nfs = || adapter("nfs", 12049, AdapterState::Running);
    let stopped = [nfs(), adapter("s3", 9000, AdapterState::Stopped)];
    let plan = standing.plan(Some(&stopped));
    assert_eq!(gone(&plan), [("files-adapter-s3", "the adapter is stopped")]);
    assert_eq!(
        (plan.remove[0].uid.as_str(), plan.remove[0].adapter.as_deref()),
        ("uid-of-files-adapter-s3", Some("s3"))
    );
    assert_eq!(names(&plan.ensure), ["files-baseline", "files-adapter-nfs"]);
    assert_eq!(gone(&standing.plan(Some(&[nfs()]))), [("files-adapter-s3", "the server no longer lists the adapter")]);
    // On its way to another port: what the Service has still is let in.
    let passage = [nfs(), adapter("s3", 9001, AdapterState::Passage)];
    let plan = standing.plan(Some(&passage));
    assert_eq!((gone(&plan), let_in(&plan.ensure[2].desired)), (vec![], vec!["9000".to_owned()]));
    let mut without = Standing::new(server("files").build(), &[("nfs", 12049), ("s3", 9000)]);
    without.services.retain(|service| meta(service, "name") != "files-adapter-s3");
    assert_eq!(gone(&without.plan(Some(&passage))), [], "without its Service, too");
}

#[test]
fn switched_off_ours_go_and_nobody_elses() {
    let mut standing = Standing::new(server("files").build(), &[("nfs", 12049)]);
    let mut decoy = (*standing.policies[1]).clone();
    decoy["metadata"]["name"] = json!("decoy");
    decoy["metadata"]["ownerReferences"] = json!([{"uid": "another", "controller": true}]);
    let mut unlabelled = (*standing.policies[0]).clone();
    unlabelled["metadata"]["name"] = json!("made-by-hand-for-the-server");
    unlabelled["metadata"]["labels"] = json!({"app": "dittofs-server"});
    standing.policies.extend([Arc::new(decoy), Arc::new(unlabelled)]);
    standing.server.network_policy.enabled = false;
    let why = "spec.networkPolicy.enabled is false";
    for adapters in [None, Some(running(&[("nfs", 12049)]))] {
        let plan = standing.plan(adapters.as_deref());
        assert_eq!(gone(&plan), [("files-baseline", why), ("files-adapter-nfs", why)]);
        assert_eq!(plan.ensure, []);
    }
    standing.server.deleting = true;
    assert_eq!(standing.plan(None), ServicePlan::default(), "the garbage collector takes what a server owned");
}

#[test]
fn what_is_already_on_its_way_out_is_not_deleted_again() {
    let mut standing = Standing::new(server("files").build(), &[("nfs", 12049)]);
    for policy in &mut standing.policies {
        Arc::make_mut(policy)["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    assert_eq!(standing.plan(Some(&[])).remove, []);
    standing.server.network_policy.enabled = false;
    assert_eq!(standing.plan(Some(&[])).remove, []);
}
