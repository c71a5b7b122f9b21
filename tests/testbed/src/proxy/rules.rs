//! What a proxy can be told to do with a request.

use super::{Hook, Seen};
use futures::future::BoxFuture;
use http::Method;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Where an operator is cut off. Writes are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The API server never sees the n-th write.
    BeforeWrite(usize),
    /// The API server has answered the n-th write; nobody hears the answer.
    AfterWrite(usize),
}

/// What happens to all requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They pass.
    #[default]
    Normal,
    /// They wait, and open watches fall silent.
    Hang,
    /// Connections are closed at once.
    Refuse,
}

/// What happens to a request that a rule matches.
#[derive(Clone)]
pub enum Action {
    /// It waits for as long as the connection lives.
    Hang,
    /// Its connection is closed.
    Refuse,
    /// It waits, then passes.
    Delay(Duration),
    /// It is answered in the API server's place.
    Answer(u16, Value),
    /// Work of the test runs first, then it passes: an object that the test writes here meets a true conflict.
    Before(Hook),
}

impl Action {
    /// [`Action::Before`] of a closure.
    pub fn before(hook: impl Fn(Seen) -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Self {
        Self::Before(Arc::new(hook))
    }

    /// An answer as the API server gives it: a `Status` object.
    pub fn status(code: u16, reason: &str, message: &str) -> Self {
        let body = serde_json::json!({
            "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
            "code": code, "reason": reason, "message": message,
        });
        Self::Answer(code, body)
    }
}

type Matches = Box<dyn Fn(&Method, &str) -> bool + Send + Sync>;

/// A rule for some of the requests.
pub struct Rule {
    matches: Matches,
    action: Action,
    left: Option<usize>,
}

impl Rule {
    /// A rule for the requests that `matches` accepts by method, and path with query.
    pub fn new(matches: impl Fn(&Method, &str) -> bool + Send + Sync + 'static, action: Action) -> Self {
        Self { matches: Box::new(matches), action, left: None }
    }

    /// For so many requests only.
    #[must_use]
    pub fn times(mut self, count: usize) -> Self {
        self.left = Some(count);
        self
    }

    /// The action for a request, when the rule is for it and not used up.
    pub(super) fn take(&mut self, method: &Method, path: &str) -> Option<Action> {
        if self.left == Some(0) || !(self.matches)(method, path) {
            return None;
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        Some(self.action.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_used_up() {
        let mut rule = Rule::new(|method, path| method == Method::PUT && path.contains("/x"), Action::Hang).times(2);
        assert!(rule.take(&Method::GET, "/x").is_none());
        assert!(rule.take(&Method::PUT, "/x").is_some());
        assert!(rule.take(&Method::PUT, "/y").is_none());
        assert!(rule.take(&Method::PUT, "/x").is_some());
        assert!(rule.take(&Method::PUT, "/x").is_none());
    }
}
