//! The conditions that one actor's fact, or the StatefulSet alone, decides.

use serde_json::Value;

use super::adapters::active;
use super::{Coming, Condition, ConfigFact, Observed, PollFact, Truth, carried, carried_or_unknown, condition};
use crate::crd::annotations::PAUSED;
use crate::reconcile::percona::DatabaseFact;

pub(super) fn available_condition(wanted: i64, available: i64) -> Condition {
    if wanted == 0 {
        condition("Available", Truth::No, "Stopped", "spec.replicas is 0")
    } else if available >= wanted {
        condition(
            "Available",
            Truth::Yes,
            "MinimumReplicasAvailable",
            format!("{available} of {wanted} replicas available"),
        )
    } else {
        condition("Available", Truth::No, "NoReplicasAvailable", format!("{available} of {wanted} replicas available"))
    }
}

pub(super) fn config_condition(seen: &Observed<'_>) -> Condition {
    match (seen.server, seen.config) {
        (Err(problem), _) => condition("ConfigReady", Truth::No, "SpecInvalid", problem),
        (_, None) => carried(seen, "ConfigReady").unwrap_or_else(|| {
            condition("ConfigReady", Truth::Unknown, "ConfigMissing", "The configuration was not rendered yet")
        }),
        (_, Some(ConfigFact::Valid { .. })) => {
            condition("ConfigReady", Truth::Yes, "ConfigValid", "ConfigMap and Secrets are in place")
        }
        (_, Some(ConfigFact::SecretMissing { text, .. })) => {
            condition("ConfigReady", Truth::No, "SecretMissing", text.clone())
        }
        (_, Some(ConfigFact::Failed { reason, text })) => condition("ConfigReady", Truth::No, reason, text.clone()),
    }
}

/// Only of a server whose database Percona's operator runs.
pub(super) fn database_condition(seen: &Observed<'_>) -> Option<Condition> {
    const KIND: &str = "DatabaseReady";
    seen.server.ok()?.percona.as_ref()?;
    Some(match seen.database {
        None => carried_or_unknown(seen, KIND, "NotReconciledYet", "The database was not looked at yet"),
        Some(DatabaseFact { cluster, problem: None }) => {
            condition(KIND, Truth::Yes, "PerconaReady", format!("PerconaPGCluster {cluster} is ready"))
        }
        Some(DatabaseFact { problem: Some((reason, text)), .. }) => condition(KIND, Truth::No, reason, text.clone()),
    })
}

pub(super) fn progressing_condition(seen: &Observed<'_>, coming: &Coming, wanted: i64, replicas: i64) -> Condition {
    let Some(set) = seen.stateful_set else {
        let reason = if seen.server.is_ok() { "StatefulSetUpdating" } else { "ReconcileComplete" };
        let truth = if seen.server.is_ok() { Truth::Yes } else { Truth::No };
        return condition("Progressing", truth, reason, "There is no StatefulSet yet");
    };
    // Told by the StatefulSet alone: a port change that only waits to be written holds no rollout back, and under a
    // partition nothing rolls, also before the controller has seen the change that was just held.
    let held = set.pointer("/spec/updateStrategy/rollingUpdate/partition").and_then(Value::as_i64).unwrap_or(0) > 0;
    let text = |field: &str| set.get("status").and_then(|status| status.get(field)?.as_str());
    let stale = set.pointer("/status/observedGeneration") != set.pointer("/metadata/generation");
    if !held && (stale || text("currentRevision") != text("updateRevision")) {
        // Before its controller has seen the change it still names the revision before.
        let revision = text("updateRevision").filter(|_| !stale).unwrap_or("a new revision");
        let stands = coming.trouble.as_ref().map(|trouble| format!("; {}", trouble.detail)).unwrap_or_default();
        condition("Progressing", Truth::Yes, "StatefulSetUpdating", format!("Rolling to {revision}{stands}"))
    } else if replicas != wanted {
        condition("Progressing", Truth::Yes, "ScalingReplicas", format!("{replicas} of {wanted} replicas exist"))
    } else {
        condition("Progressing", Truth::No, "ReconcileComplete", "Nothing is rolling")
    }
}

pub(super) fn authenticated_condition(seen: &Observed<'_>) -> Condition {
    const KIND: &str = "Authenticated";
    match seen.poll {
        None => carried_or_unknown(seen, KIND, "APIUnreachable", "The server was not polled yet"),
        Some(PollFact::Answered | PollFact::BadAnswer(_)) => {
            condition(KIND, Truth::Yes, "AuthenticationSucceeded", "Logged in to the server's API")
        }
        Some(PollFact::Unreachable(text)) => condition(KIND, Truth::No, "APIUnreachable", text.clone()),
        Some(PollFact::Refused(text)) => condition(KIND, Truth::No, "AuthenticationFailed", text.clone()),
        Some(PollFact::Stopped) => condition(KIND, Truth::Unknown, "Stopped", "A stopped server is not polled"),
    }
}

pub(super) fn discovered_condition(seen: &Observed<'_>) -> Condition {
    const KIND: &str = "AdaptersDiscovered";
    let kept = if seen.adapters.is_some() { "; the last known adapters are kept" } else { "" };
    match seen.poll {
        None => carried_or_unknown(seen, KIND, "NotPolledYet", "The server was not polled yet"),
        Some(PollFact::Answered) => {
            let count = active(seen.adapters).count();
            condition(KIND, Truth::Yes, "AdaptersListed", format!("{count} adapters run"))
        }
        Some(PollFact::Unreachable(text)) => condition(KIND, Truth::No, "APIUnreachable", format!("{text}{kept}")),
        Some(PollFact::Refused(text)) => condition(KIND, Truth::No, "AuthenticationFailed", format!("{text}{kept}")),
        Some(PollFact::BadAnswer(text)) => condition(KIND, Truth::No, "BadAnswer", format!("{text}{kept}")),
        Some(PollFact::Stopped) => condition(KIND, Truth::Unknown, "Stopped", "A stopped server is not polled"),
    }
}

pub(super) fn ports_condition(seen: &Observed<'_>) -> Condition {
    match seen.ports {
        Some(ports) if ports.deferred => condition(
            "PortsRolledOut",
            Truth::No,
            "Deferred",
            "The container ports of the running pod differ from its adapters until the next rollout; \
             nothing that clients use depends on them (kubectl rollout restart applies them now)",
        ),
        Some(_) => condition("PortsRolledOut", Truth::Yes, "RolledOut", "The pod declares its adapters' ports"),
        None => {
            carried_or_unknown(seen, "PortsRolledOut", "NotReconciledYet", "The StatefulSet was not reconciled yet")
        }
    }
}

pub(super) fn warnings_condition(seen: &Observed<'_>) -> Condition {
    // Before the first poll the warnings about adapters are not known; those of the same spec stand.
    let same_spec =
        seen.previous.and_then(|status| status.get("observedGeneration")?.as_i64()) == Some(seen.generation);
    if seen.adapters.is_none()
        && same_spec
        && let Some(before) = carried(seen, "Warnings")
    {
        return before;
    }
    if seen.warnings.is_empty() {
        condition("Warnings", Truth::No, "NoWarnings", "Nothing doubtful in the spec")
    } else {
        condition("Warnings", Truth::Yes, "Doubtful", seen.warnings.join("; "))
    }
}

/// Only there while the server is paused.
pub(super) fn paused_condition(held: &[String]) -> Condition {
    let waits =
        if held.is_empty() { "nothing waits to be done".to_owned() } else { format!("it would {}", held.join("; ")) };
    let message = format!("Nothing but this status is written while the annotation {PAUSED} is \"true\"; {waits}");
    condition("Paused", Truth::Yes, "PausedByAnnotation", message)
}
