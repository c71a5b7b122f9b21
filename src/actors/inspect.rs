//! What the actors are doing, for `/debug/state`: each says it of itself, nobody waits for it. No secret is in it: a hash
//! is cut, an error text has none.

use actix::prelude::*;
use serde_json::{Value, json};

use super::flight::Flight;
use super::messages::Role;
use super::trouble::Trouble;
use crate::reconcile::{ServerKey, Slot};

/// To a child: what are you doing? The answer is a JSON object.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Value")]
pub struct Inspect;

/// To the Supervisor: who is there?
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Vec<Member>")]
pub struct Census;

/// One child.
pub struct Member {
    /// Whose.
    pub key: ServerKey,
    /// What it is.
    pub role: Role,
    /// Where it is asked.
    pub address: Recipient<Inspect>,
}

impl Flight {
    /// The slot, what waits for it, and what fails.
    pub(super) fn state(&self) -> Value {
        let slot = match self.slot() {
            Slot::Idle => "idle",
            Slot::Running => "running",
            Slot::RunningDirty => "running-dirty",
        };
        json!({
            "slot": slot,
            "causesWaiting": self.waiting(),
            "retryPending": self.is_retrying(),
            "nextBackoffAtMostSeconds": self.backoff().upcoming().as_secs_f64(),
            "failing": failing(&self.trouble()),
        })
    }
}

/// What fails now.
pub(super) fn failing(trouble: &Trouble) -> Value {
    trouble.failing().into_iter().map(|(what, times)| json!({"what": what, "times": times})).collect()
}

/// As much of a hash as tells it from others.
pub(super) fn prefix(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}
