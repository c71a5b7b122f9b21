//! The closed sets that callers speak in, each with its word in the [`table`](super::table).

use serde_json::Value;

use super::table::{CONDITIONS, PHASES, PROBLEMS, TRUTHS};
use super::{place, table};
use crate::cluster::Operation;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$each])* $variant,)* }
        impl $name {
            /// Static label.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

words! {
    /// How a reconcile ended.
    Outcome {
        /// It came true, or only a change of the world can help.
        Settled = "settled",
        /// It comes again by itself.
        Deferred = "deferred",
        /// It is tried again with backoff.
        Failed = "failed",
        /// It panicked.
        Panicked = "panicked",
    }
}

words! {
    /// Among whom a job waits for its turn; in the order of [`table::TURNS`].
    Turn {
        /// Services.
        Urgent = "urgent",
        /// The rest.
        Other = "other",
    }
}

words! {
    /// How an actor ended unasked.
    Ended {
        /// By a panic.
        Panicked = "panicked",
        /// Otherwise.
        Quietly = "ended",
    }
}

words! {
    /// What became of a review; in the words of [`table::VERDICTS`].
    Admission {
        /// There was nothing to decide.
        Nothing = "nothing",
        /// It was let through.
        Allowed = "allowed",
        /// It was refused.
        Refused = "refused",
        /// It was let through although not all could be looked at.
        Unknown = "unknown",
        /// Its turn did not come in time.
        Busy = "busy",
        /// It was no review, or not a whole one.
        Unreadable = "unreadable",
    }
}

words! {
    /// A verb of the Kubernetes API.
    Verb {
        /// One object, or discovery.
        Get = "get",
        /// All objects.
        List = "list",
        /// Their changes.
        Watch = "watch",
        /// POST.
        Create = "create",
        /// PUT.
        Update = "update",
        /// PATCH.
        Patch = "patch",
        /// DELETE.
        Delete = "delete",
    }
}

impl Verb {
    /// The verb of a call on one object.
    pub fn of(operation: Operation) -> Self {
        match operation {
            Operation::Get => Self::Get,
            Operation::List => Self::List,
            Operation::Create => Self::Create,
            Operation::Replace => Self::Update,
            Operation::Delete => Self::Delete,
            Operation::PatchStatus | Operation::AddFinalizer | Operation::RemoveFinalizer | Operation::ResizeClaim => {
                Self::Patch
            }
        }
    }
}

words! {
    /// What a write did.
    Action {
        /// A new object.
        Create = "create",
        /// An object replaced by another version of it.
        Update = "update",
        /// A part of an object changed.
        Patch = "patch",
        /// An object deleted.
        Delete = "delete",
    }
}

words! {
    /// What became of asking a server for tokens.
    TokenOutcome {
        /// New ones by the refresh token.
        Refreshed = "refreshed",
        /// New ones by the password.
        LoggedIn = "logged-in",
        /// The server does not take what it was given.
        Refused = "refused",
        /// No usable answer.
        Failed = "failed",
    }
}

/// How a poll ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollEnd {
    /// In a full answer that says what the one before said.
    Unchanged,
    /// In a full answer with news.
    Changed,
    /// In an error of this category, which says this about the server.
    Failed(&'static str, crate::dittofs::Problem),
    /// In a panic.
    Panicked,
}

impl PollEnd {
    /// Static label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Changed => "changed",
            Self::Failed(category, _) => category,
            Self::Panicked => "panicked",
        }
    }

    /// Ok with whether there are news, or the index into [`PROBLEMS`].
    pub(super) fn problem(self) -> Result<bool, usize> {
        use crate::dittofs::Problem;
        let word = match self {
            Self::Unchanged => return Ok(false),
            Self::Changed => return Ok(true),
            Self::Failed(_, Problem::Unreachable) => "unreachable",
            Self::Failed(_, Problem::Auth) => "refused",
            Self::Failed(_, Problem::BadAnswer) | Self::Panicked => "bad-answer",
        };
        Err(place(PROBLEMS, word).unwrap_or_default())
    }
}

/// What `.status` says, by index into the table's sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusSeen {
    /// Into [`PHASES`].
    pub phase: Option<usize>,
    /// For each of [`CONDITIONS`] into [`TRUTHS`].
    pub conditions: [Option<usize>; CONDITIONS.len()],
}

impl StatusSeen {
    /// Of a `.status` object.
    pub fn of(status: &Value) -> Self {
        let mut seen = Self { phase: status["phase"].as_str().and_then(|word| place(PHASES, word)), ..Self::default() };
        for condition in status["conditions"].as_array().into_iter().flatten() {
            let at = |field: &str, set: &[&str]| condition[field].as_str().and_then(|word| place(set, word));
            if let (Some(kind), Some(truth)) = (at("type", CONDITIONS), at("status", TRUTHS)) {
                seen.conditions[kind] = Some(truth);
            }
        }
        seen
    }
}

/// `reason` of an answer whose body is not read, by its HTTP status; empty on success.
pub fn reason_of_status(status: u16) -> &'static str {
    let word = match status {
        200..=299 => "",
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "other",
    };
    debug_assert!(table::REASONS.contains(&word));
    word
}
