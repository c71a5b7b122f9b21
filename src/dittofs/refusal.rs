//! What keeps the operator from hammering a server that does not let it in.
//!
//! A server that has refused both the operator's password and the administrator's help is asked for neither until a
//! pause is over that doubles each time, or until one of them holds something else, or the server was started anew.

use std::time::Duration;

use tokio::time::Instant;

use super::error::{ApiError, Operation, PollError};
use super::vault::{AdminAccount, Sensitive};

/// First and longest pause.
const PAUSE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(5));

/// A refusal that stands.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The password of the operator's account that is not good.
    pub(super) password: Sensitive,
    /// The administrator who did not help.
    pub(super) admin: AdminAccount,
    /// When the server had started that refused.
    pub(super) started: Option<String>,
    until: Instant,
    times: u32,
    operation: Operation,
    status: u16,
    detail: Option<String>,
}

impl Refusal {
    /// `error` refused `admin` or the account that he has just set up; None when it refused nobody.
    pub(super) fn new(
        before: Option<&Self>,
        now: Instant,
        password: &Sensitive,
        admin: &AdminAccount,
        error: &ApiError,
    ) -> Option<Self> {
        let ApiError::Status { operation, status: status @ (401 | 403), detail } = error else { return None };
        let times = before.map_or(1, |before| before.times.saturating_add(1));
        let factor = 1_u32.checked_shl(times - 1).unwrap_or(u32::MAX);
        Some(Self {
            password: password.clone(),
            admin: admin.clone(),
            started: None,
            until: now + PAUSE.0.saturating_mul(factor).min(PAUSE.1),
            times,
            operation: *operation,
            status: *status,
            detail: detail.clone(),
        })
    }

    /// Whether nobody is to be asked at `now` with this password.
    pub(super) fn stands(&self, now: Instant, password: &Sensitive) -> bool {
        now < self.until && self.password == *password
    }

    /// The pause is over; the next one will be longer all the same.
    pub(super) fn end(&mut self, now: Instant) {
        self.until = now;
    }

    /// The error once more, in the same words.
    pub(super) fn error(&self) -> PollError {
        let source = ApiError::Status { operation: self.operation, status: self.status, detail: self.detail.clone() };
        if self.operation == Operation::AdminLogin { PollError::AdminUnauthorized { source } } else { source.into() }
    }
}
