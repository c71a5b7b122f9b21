//! An answer before it is sent: the four shapes that a DittoFS server uses. Pure.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";
const TEXT: &str = "text/plain; charset=utf-8";

/// Status, content type, body.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) content_type: Option<&'static str>,
    pub(super) body: Bytes,
}

impl Reply {
    pub(super) fn json(status: StatusCode, body: &Value) -> Self {
        Self { status, content_type: Some(JSON), body: line(body) }
    }

    /// 200 under the type of JSON, with these bytes.
    pub(super) fn raw(body: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::OK, content_type: Some(JSON), body: body.into() }
    }

    /// An error as RFC 7807 writes it.
    pub(super) fn problem(status: StatusCode, detail: &str) -> Self {
        let title = status.canonical_reason().unwrap_or_default();
        let body = json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail});
        Self { status, content_type: Some(PROBLEM), body: line(&body) }
    }

    /// A line of text, as the token checks answer.
    pub(super) fn text(status: StatusCode, text: &str) -> Self {
        Self { status, content_type: Some(TEXT), body: Bytes::from(format!("{text}\n")) }
    }

    pub(super) fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, content_type: None, body: Bytes::new() }
    }

    pub(super) fn unauthorized() -> Self {
        Self::text(StatusCode::UNAUTHORIZED, "Invalid or expired token")
    }

    pub(super) fn forbidden() -> Self {
        Self::text(StatusCode::FORBIDDEN, "Admin access required")
    }
}

fn line(body: &Value) -> Bytes {
    Bytes::from(format!("{body}\n"))
}
