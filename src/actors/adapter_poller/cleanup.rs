//! What AdapterPoller does before its server is deleted: polling stops, and the operator's account there goes.
//!
//! One attempt for each [`Cleanup`]; when to try again, and when to give up, is the Supervisor's to decide. Every one
//! that can start is answered.

use std::sync::Arc;

use actix::prelude::*;
use reqwest::Url;
use tokio::time::Instant;
use tracing::{Instrument as _, Span, error_span};

use super::AdapterPoller;
use crate::actors::Deps;
use crate::actors::messages::{CauseKind, Cleaned, Cleanup};
use crate::actors::tls_door::TlsDoor;
use crate::actors::vault::SecretVault;
use crate::dittofs::{PollError, VaultError, remove_account};
use crate::reconcile::ValidatedServer;
use crate::reconcile::deletion::{Attempt, Duty};
use crate::telemetry::metrics::doing::Doing;
use crate::telemetry::trace::{decided, failed};

impl Handler<Cleanup> for AdapterPoller {
    type Result = ();
    fn handle(&mut self, message: Cleanup, ctx: &mut Self::Context) {
        crate::fault::hit_for("adapter-poller.cleanup", &self.key.name);
        self.stop(ctx);
        let Cleanup { uid, answer, cause } = message;
        let Some(spec) = self.deps.spec(&self.key).filter(|spec| spec.uid == uid) else { return };
        let cleaned = {
            let (key, uid) = (self.key.clone(), uid);
            move |attempt| Cleaned { key, uid, duty: Duty::Account, attempt }
        };
        let server = match &spec.server {
            Ok(server) => server.clone(),
            Err(invalid) => {
                answer.do_send(cleaned(Attempt::Left(format!("the spec does not say where the API is: {invalid}"))));
                return;
            }
        };
        let Ok(url) = self.deps.template.expand(&self.key, server.api_port, server.api_tls.is_spoken()) else {
            answer.do_send(cleaned(Attempt::Left("the API's URL cannot be made from --api-url-template".to_owned())));
            return;
        };
        let Some(pass) = self.deps.gate.enter() else { return };
        let place = if cause.trace.is_open() { cause.trace.clone() } else { self.deps.tracer.root(&self.key) };
        let span = self.begin(error_span!("clean up"), &place, cause.kind);
        let vault = SecretVault::new(self.deps.clone(), server.clone(), Arc::default());
        let door = self.door.clone();
        let deps = self.deps.clone();
        let doing = Doing::new(deps.metrics.clone(), self.key.clone(), CauseKind::ServerChanged);
        let task = tokio::spawn(
            doing
                .around(async move {
                    let _pass = pass;
                    let attempt = judged(&attempt(&door, &deps, &server, &url, &vault).await);
                    told(&attempt);
                    attempt
                })
                .instrument(span),
        );
        self.farewell = Some(task.abort_handle());
        tokio::spawn(async move {
            match task.await {
                Ok(attempt) => answer.do_send(cleaned(attempt)),
                Err(end) if end.is_panic() => {
                    answer.do_send(cleaned(Attempt::Failed("the attempt panicked".to_owned())));
                }
                // Aborted: the actor is gone, and its successor is asked.
                Err(_) => {}
            }
        });
    }
}

/// One attempt, within the time of a poll.
async fn attempt(
    door: &TlsDoor,
    deps: &Deps,
    server: &ValidatedServer,
    url: &Url,
    vault: &SecretVault,
) -> Result<bool, PollError> {
    let now = Instant::now();
    let http = door.client(deps, server, deps.http.deadline(now)).await?;
    remove_account(&http, url, vault, now).await
}

/// What the end of an attempt means for the next one.
fn judged(result: &Result<bool, PollError>) -> Attempt {
    match result {
        Ok(_) => Attempt::Done,
        // Such as in a namespace that is being deleted: it will not come back.
        Err(
            error @ (PollError::AdminIsOperator
            | PollError::Vault(VaultError::AdminMissing { .. } | VaultError::Read { .. })),
        ) => Attempt::Left(error.to_string()),
        Err(error) if matches!(error.category(), "unauthorized" | "forbidden" | "admin-unauthorized") => {
            Attempt::Refused(error.to_string())
        }
        Err(error) => Attempt::Failed(error.to_string()),
    }
}

/// Puts the outcome on the current span.
fn told(attempt: &Attempt) {
    let span = Span::current();
    match attempt {
        Attempt::Done => decided(&span, "cleaned", "the operator's account at the server is gone"),
        Attempt::Left(why) => decided(&span, "cleaned", &format!("the operator's account is left: {why}")),
        Attempt::Failed(why) | Attempt::Refused(why) => failed(&span, "cleanup", why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dittofs::{ApiError, Operation};

    fn status(operation: Operation, status: u16) -> ApiError {
        ApiError::Status { operation, status, detail: None }
    }

    #[test]
    fn an_attempt_is_judged_by_what_waiting_would_help() {
        let io = || Box::new(std::io::Error::other("x"));
        let secret = || "s".to_owned();
        let timeout = ApiError::Timeout { operation: Operation::AdminLogin };
        let word = |result: Result<bool, PollError>| match judged(&result) {
            Attempt::Done => "done",
            Attempt::Left(_) => "left",
            Attempt::Failed(_) => "failed",
            Attempt::Refused(_) => "refused",
        };
        let table: [(Result<bool, PollError>, &str); 10] = [
            (Ok(true), "done"),
            (Ok(false), "done"),
            (Err(timeout.into()), "failed"),
            (Err(status(Operation::DeleteAccount, 500).into()), "failed"),
            (Err(status(Operation::DeleteAccount, 403).into()), "refused"),
            (Err(PollError::AdminUnauthorized { source: status(Operation::AdminLogin, 401) }), "refused"),
            (Err(PollError::AdminIsOperator), "left"),
            (Err(VaultError::AdminMissing { secret: secret(), problem: secret() }.into()), "left"),
            (Err(VaultError::Read { secret: secret(), source: io() }.into()), "left"),
            (Err(VaultError::Away { secret: secret(), source: io() }.into()), "failed"),
        ];
        for (result, expected) in table {
            let text = format!("{result:?}");
            assert_eq!(word(result), expected, "{text}");
        }
    }
}
