//! Condition `Ready`: everything that speaks against it, in words.

use super::{Coming, Condition, Observed, Truth, carried, condition, observed_generation};
use crate::reconcile::AdapterState;
use crate::reconcile::object::meta;

pub(super) fn ready_condition(
    seen: &Observed<'_>,
    others: &[Condition],
    coming: &Coming,
    wanted: i64,
    ready: i64,
    served: &str,
) -> Condition {
    let mut missing: Vec<String> = Vec::new();
    if seen.deleting {
        let waits = seen.deletion.map(|text| format!("; {text}")).unwrap_or_default();
        missing.push(format!("the server is being deleted{waits}"));
    } else if let Err(problem) = seen.server {
        return condition("Ready", Truth::No, "SpecInvalid", problem);
    }
    if wanted == 0 {
        missing.push("spec.replicas is 0".into());
    }
    if ready < wanted {
        missing.extend(coming.trouble.as_ref().map(ToString::to_string));
        missing.push(format!("{ready} of {wanted} replicas ready"));
    }
    if observed_generation(seen) != Some(seen.generation) {
        missing.push(format!("generation {} is not applied yet", seen.generation));
    }
    for other in others {
        let must = match other.kind {
            "ConfigReady" | "DatabaseReady" | "Available" | "Authenticated" | "AdaptersDiscovered" => Truth::Yes,
            "Progressing" => Truth::No,
            // Unknown only until the claims were listed.
            "VolumesReady" if other.truth == Truth::No => Truth::Yes,
            _ => continue,
        };
        if other.truth != must {
            missing.push(format!("{} is {} ({})", other.kind, other.truth.as_str(), other.reason));
        }
    }
    // What was just observed may not have reached ServiceReconciler: the Services themselves tell.
    if let (Ok(server), Some(adapters)) = (seen.server, seen.adapters) {
        let names = server.names();
        for adapter in adapters.iter().filter(|adapter| adapter.state == AdapterState::Running) {
            let name = names.adapter_service(&adapter.adapter_type);
            if !seen.live_services.iter().any(|service| meta(service, "name") == name) {
                missing.push(format!("Service {name} is not there yet"));
            }
        }
    }
    if let Some(problem) = seen.ports.and_then(|ports| ports.problem.as_deref()) {
        missing.push(problem.to_owned());
    }
    if let Some(services) = seen.services {
        missing.extend(services.problems.iter().cloned());
        missing.extend(services.waiting.iter().map(|object| format!("{object} is being deleted")));
    }
    // Nothing speaks against it, but not everyone has spoken: a restarted operator reports what its predecessor saw.
    if missing.is_empty() && (seen.services.is_none() || seen.ports.is_none()) {
        return carried(seen, "Ready").filter(|before| before.truth == Truth::Yes).unwrap_or_else(|| {
            condition("Ready", Truth::No, "ConditionsNotMet", "the server's objects were not reconciled yet")
        });
    }
    if missing.is_empty() {
        condition("Ready", Truth::Yes, "AllConditionsMet", format!("The server runs as specified; {served}"))
    } else {
        // The phase and its reason are one answer.
        let failed = coming.failed().filter(|_| !seen.deleting && ready == 0);
        let reason = failed.map_or("ConditionsNotMet", |why| why.as_str());
        condition("Ready", Truth::No, reason, missing.join("; "))
    }
}
