//! What can go wrong in a call to the Kubernetes API.
//!
//! Owns: the classification of failures, decided once. Touches nothing. Guarantees: no text of an error has a body in
//! it; of a refused call on a Secret not even the server's message is kept, only code and reason.

use std::error::Error as StdError;
use std::fmt;

use kube::core::Status;

use super::deadline::DeadlineExceeded;
use super::kind::Kind;

/// Longest message of the API server that is kept, in bytes.
const MESSAGE_MAX: usize = 400;

/// What the API server says of a kind whose CRD is being deleted.
const CRD_IS_GOING: &str = "custom resource definition is terminating";

/// The cause that the API server gives when it refuses a create because the namespace is being deleted.
const NAMESPACE_IS_GOING: &str = "NamespaceTerminating";

/// The verb of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// GET of one object.
    Get,
    /// GET of a collection.
    List,
    /// POST.
    Create,
    /// PUT.
    Replace,
    /// DELETE.
    Delete,
    /// PATCH of the status subresource.
    PatchStatus,
    /// PATCH that adds one finalizer.
    AddFinalizer,
    /// PATCH that removes one finalizer.
    RemoveFinalizer,
    /// PATCH of the size that a claim asks for.
    ResizeClaim,
}

impl Operation {
    /// Static label for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Create => "create",
            Self::Replace => "replace",
            Self::Delete => "delete",
            Self::PatchStatus => "patch-status",
            Self::AddFinalizer => "add-finalizer",
            Self::RemoveFinalizer => "remove-finalizer",
            Self::ResizeClaim => "resize-claim",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Create => "create",
            Self::Replace => "replace",
            Self::Delete => "delete",
            Self::PatchStatus => "patch the status of",
            Self::AddFinalizer => "add the finalizer of",
            Self::RemoveFinalizer => "remove the finalizer of",
            Self::ResizeClaim => "resize",
        })
    }
}

/// What was asked of which object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The verb.
    pub operation: Operation,
    /// The kind of object.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {} {}/{}", self.operation, self.kind, self.namespace, self.name)
    }
}

/// What a create has to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeavingFirst {
    /// The old object of its name, which waits for its finalizers.
    Object,
    /// The namespace, which is being deleted.
    Namespace,
}

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum KubeError {
    /// The API server answered with an error.
    #[error("{call}: {code} {reason}{}{message}", if message.is_empty() { "" } else { ": " })]
    Refused {
        /// The call.
        call: Box<Call>,
        /// HTTP status.
        code: u16,
        /// Machine-readable reason (`AlreadyExists`); may be empty.
        reason: String,
        /// The server's message, cut; empty for Secrets.
        message: String,
        /// What stands in the way and goes by itself.
        leaving: Option<LeavingFirst>,
    },
    /// No complete answer in time. A write may or may not have happened.
    #[error("{call}: {source}")]
    Timeout {
        /// The call.
        call: Box<Call>,
        /// The deadline that passed.
        source: DeadlineExceeded,
    },
    /// The connection failed. A write may or may not have happened.
    #[error("{call}: {}", root_cause(&**source))]
    Unreachable {
        /// The call.
        call: Box<Call>,
        /// What the client says.
        source: Box<kube::Error>,
    },
    /// The answer was no JSON object. The text says where it broke off, never what it held.
    #[error("{call}: unreadable answer: {source}")]
    Malformed {
        /// The call.
        call: Box<Call>,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// It was not sent: the server that it is for is paused.
    #[error("{call}: the server is paused")]
    Paused {
        /// The call.
        call: Box<Call>,
    },
    /// It was not sent: the API server said of another create lately that the namespace is being deleted.
    #[error("{call}: the namespace is being deleted")]
    NamespaceLeaving {
        /// The call.
        call: Box<Call>,
    },
    /// The call could not be made of its arguments: a name that no object can have.
    #[error("{call}: not a valid name")]
    InvalidName {
        /// The call.
        call: Box<Call>,
    },
}

impl KubeError {
    /// The error for an answer of status `code` with this body.
    pub(super) fn refused(call: Call, code: u16, body: &[u8]) -> Self {
        let status: Status = serde_json::from_slice(body).unwrap_or_default();
        let leaving = match code {
            409 if status.message.starts_with("object is being deleted") => Some(LeavingFirst::Object),
            403 if is_namespace_leaving(&status) => Some(LeavingFirst::Namespace),
            _ => None,
        };
        let message = if call.kind == Kind::Secret { String::new() } else { cut(&status.message, MESSAGE_MAX) };
        Self::Refused { call: Box::new(call), code, reason: cut(&status.reason, 60), message, leaving }
    }

    /// The error for a call that got no answer, or not the whole of it.
    pub(super) fn unanswered(call: Call, source: kube::Error) -> Self {
        match find_in_chain::<DeadlineExceeded>(&source) {
            Some(deadline) => Self::Timeout { call: Box::new(call), source: *deadline },
            None => Self::Unreachable { call: Box::new(call), source: Box::new(source) },
        }
    }

    /// What was asked of which object.
    pub fn call(&self) -> &Call {
        match self {
            Self::Refused { call, .. }
            | Self::Timeout { call, .. }
            | Self::Unreachable { call, .. }
            | Self::Malformed { call, .. }
            | Self::Paused { call }
            | Self::NamespaceLeaving { call }
            | Self::InvalidName { call } => call,
        }
    }

    /// The API server's reason for a refusal, such as `Conflict`.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Refused { reason, .. } if !reason.is_empty() => Some(reason),
            _ => None,
        }
    }

    /// HTTP status when the server answered.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Static label for metrics and events.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Refused { leaving: Some(LeavingFirst::Object), .. } => "being-deleted",
            Self::Refused { leaving: Some(LeavingFirst::Namespace), .. } | Self::NamespaceLeaving { .. } => {
                "namespace-leaving"
            }
            Self::Refused { code, .. } if self.is_conflict() && *code != 409 => "conflict",
            Self::Refused { code, reason, .. } if *code == 409 && reason == "AlreadyExists" => "already-exists",
            Self::Refused { code, .. } => category_of_status(*code),
            Self::Timeout { .. } => "timeout",
            Self::Unreachable { .. } => "unreachable",
            Self::Malformed { .. } => "malformed",
            Self::Paused { .. } => "paused",
            Self::InvalidName { .. } => "invalid",
        }
    }

    /// The object is not what it was when it was read: read it again and decide again.
    pub fn is_conflict(&self) -> bool {
        match self {
            // A JSON patch whose `test` fails is answered 422; an object that does not validate, too, and says so.
            Self::Refused { call, code: 422, message, .. } => {
                matches!(call.operation, Operation::AddFinalizer | Operation::RemoveFinalizer)
                    && !message.contains(" is invalid: ")
            }
            Self::Refused { code: 409, reason, leaving: None, .. } => reason != "AlreadyExists",
            _ => false,
        }
    }

    /// There is no such object.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// The API server does not know the kind: of an object that is missing it says `NotFound`, of a path that nobody
    /// serves nothing that can be read. Or not any more: while the CRD goes, a create is answered 403, with words only.
    pub fn is_unserved(&self) -> bool {
        if !self.call().kind.is_custom() {
            return false;
        }
        let going = matches!(self, Self::Refused { code: 403, message, .. } if message.contains(CRD_IS_GOING));
        going || (self.is_not_found() && self.reason() != Some("NotFound"))
    }

    /// A create met an object of that name, one that is not on its way out.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::Refused { code: 409, reason, leaving: None, .. } if reason == "AlreadyExists")
    }

    /// A create met an object of that name that is gone once its finalizers are.
    pub fn is_being_deleted(&self) -> bool {
        matches!(self, Self::Refused { leaving: Some(LeavingFirst::Object), .. })
    }

    /// A create in a namespace that is being deleted: nothing can be made there any more.
    pub fn is_namespace_leaving(&self) -> bool {
        matches!(self, Self::Refused { leaving: Some(LeavingFirst::Namespace), .. } | Self::NamespaceLeaving { .. })
    }

    /// The server does not let us: no verb in the RBAC rules, or no valid token.
    pub fn is_forbidden(&self) -> bool {
        matches!(self.code(), Some(401 | 403))
    }

    /// No complete answer in time.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout { .. })
    }

    /// The same call, made again later, may succeed without anybody changing anything: the token may have rotated
    /// (401), the server may be busy or starting, the old object may be gone.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused { code, leaving, .. } => {
                leaving.is_some() || self.is_conflict() || matches!(code, 401 | 408 | 429 | 500..=599)
            }
            Self::Timeout { .. }
            | Self::Unreachable { .. }
            | Self::Malformed { .. }
            | Self::NamespaceLeaving { .. } => true,
            Self::Paused { .. } | Self::InvalidName { .. } => false,
        }
    }
}

/// Whether a refusal says that the namespace is being deleted.
pub(super) fn is_namespace_leaving(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == NAMESPACE_IS_GOING)
}

/// Static label of an HTTP status.
pub(super) fn category_of_status(code: u16) -> &'static str {
    match code {
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not-found",
        408 | 504 => "timeout",
        409 => "conflict",
        410 => "expired",
        429 => "throttled",
        400..=499 => "invalid",
        _ => "server-error",
    }
}

/// The first error of type `E` in the chain of sources, `error` itself included.
pub(super) fn find_in_chain<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    chain(error).find_map(|e| e.downcast_ref::<E>())
}

/// The text of the innermost error: `Connection refused` rather than four wrappings of it.
pub(super) fn root_cause(error: &(dyn StdError + 'static)) -> String {
    cut(&chain(error).last().map(ToString::to_string).unwrap_or_default(), MESSAGE_MAX)
}

pub(super) fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    // The bound is for a `source` that leads in a circle.
    std::iter::from_fn(move || {
        let current = next?;
        next = current.source();
        Some(current)
    })
    .take(16)
}

/// `text`, at most `max` bytes of it, cut between characters.
pub(crate) fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let mut end = max.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(operation: Operation, kind: Kind) -> Call {
        Call { operation, kind, namespace: "ns".into(), name: "a".into() }
    }

    fn refused(operation: Operation, kind: Kind, code: u16, reason: &str, message: &str) -> KubeError {
        let body = serde_json::json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message});
        KubeError::refused(call(operation, kind), code, body.to_string().as_bytes())
    }

    #[test]
    fn the_three_conflicts_are_told_apart() {
        let stale = refused(Operation::Replace, Kind::Service, 409, "Conflict", "the object has been modified");
        let exists = refused(Operation::Create, Kind::Service, 409, "AlreadyExists", "services \"a\" already exists");
        let leaving = refused(
            Operation::Create,
            Kind::Service,
            409,
            "AlreadyExists",
            "object is being deleted: services \"a\" already exists",
        );
        let seen = |e: &KubeError| (e.is_conflict(), e.is_already_exists(), e.is_being_deleted(), e.is_transient());
        assert_eq!(seen(&stale), (true, false, false, true));
        assert_eq!(seen(&exists), (false, true, false, false));
        assert_eq!(seen(&leaving), (false, false, true, true));
        assert_eq!(
            [stale.category(), exists.category(), leaving.category()],
            ["conflict", "already-exists", "being-deleted"]
        );
    }

    #[test]
    fn a_kind_is_unserved_without_its_path_and_while_its_crd_goes() {
        let going = "servicemonitors.monitoring.coreos.com \"a\" is forbidden: create not allowed while custom resource \
                     definition is terminating";
        let create =
            |kind, code, reason, message| refused(Operation::Create, kind, code, reason, message).is_unserved();
        assert!(create(Kind::ServiceMonitor, 404, "", "404 page not found"));
        assert!(create(Kind::ServiceMonitor, 403, "Forbidden", going));
        assert!(!create(Kind::ServiceMonitor, 403, "Forbidden", "servicemonitors is forbidden: no verb create"));
        assert!(!create(Kind::ServiceMonitor, 404, "NotFound", "namespaces \"team\" not found"));
        assert!(!create(Kind::Service, 403, "Forbidden", going));
    }

    #[test]
    fn a_namespace_that_is_being_deleted_is_told_from_missing_rights_by_its_cause() {
        let status = |causes: serde_json::Value| {
            let message = "configmaps \"a\" is forbidden: unable to create new content in namespace ns because it is being terminated";
            serde_json::json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden",
                "message": message, "details": {"kind": "configmaps", "name": "a", "causes": causes}})
        };
        let of = |causes| {
            let body = status(causes).to_string();
            KubeError::refused(call(Operation::Create, Kind::Secret), 403, body.as_bytes())
        };
        let going =
            of(serde_json::json!([{"reason": "NamespaceTerminating", "message": "m", "field": "metadata.namespace"}]));
        assert!(going.is_namespace_leaving() && going.is_transient() && !going.is_being_deleted());
        assert_eq!(going.category(), "namespace-leaving");
        let other = of(serde_json::json!([]));
        assert!(!other.is_namespace_leaving() && !other.is_transient());
        assert_eq!(other.category(), "forbidden");
    }

    #[test]
    fn a_failed_test_of_a_json_patch_is_a_conflict_and_a_refused_replace_is_not() {
        for operation in [Operation::AddFinalizer, Operation::RemoveFinalizer] {
            let conflict = |message| refused(operation, Kind::DittoServer, 422, "Invalid", message).is_conflict();
            assert!(conflict("the server rejected our request due to an error in our request"));
            assert!(!conflict("DittoServer.dittofs.dittofs.com \"a\" is invalid: spec.image: too long"));
        }
        let invalid = refused(Operation::Replace, Kind::Service, 422, "Invalid", "spec.ports: required");
        assert!(!invalid.is_conflict() && !invalid.is_transient());
        assert_eq!(invalid.category(), "invalid");
    }

    #[test]
    fn transience_follows_the_status() {
        for code in [401, 408, 429, 500, 503, 504] {
            assert!(refused(Operation::Get, Kind::Pod, code, "", "").is_transient(), "{code}");
        }
        for code in [400, 403, 404, 405, 413, 422] {
            assert!(!refused(Operation::Get, Kind::Pod, code, "", "").is_transient(), "{code}");
        }
    }

    #[test]
    fn the_text_names_call_and_reason_and_never_a_secrets_message() {
        let error = refused(Operation::Replace, Kind::StatefulSet, 422, "Invalid", "spec: forbidden");
        assert_eq!(error.to_string(), "cannot replace StatefulSet ns/a: 422 Invalid: spec: forbidden");
        let error = refused(Operation::Create, Kind::Secret, 422, "Invalid", "stringData: canary-4711");
        assert_eq!(error.to_string(), "cannot create Secret ns/a: 422 Invalid");
        assert!(!format!("{error:?}").contains("canary-4711"));
    }

    #[test]
    fn an_answer_that_is_no_status_keeps_nothing_of_its_body() {
        let error = KubeError::refused(call(Operation::Get, Kind::Service), 502, b"<html>canary-4711</html>");
        assert_eq!(error.to_string(), "cannot get Service ns/a: 502 ");
        assert!(!format!("{error:?}").contains("canary-4711"));
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        assert_eq!(cut("häßlich", 20), "häßlich");
        let long = "ß".repeat(900);
        let short = cut(&long, MESSAGE_MAX);
        assert!(short.len() <= MESSAGE_MAX && short.ends_with('…'));
    }
}
