//! The server's answers as types, read strictly: what is not exactly an answer is an error.
//!
//! Only a full, valid list of adapters is an observation, for it can remove Services. The errors say what is wrong
//! and where; they never quote a value, since the answers to logins hold tokens.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::error::excerpt;
use super::vault::Sensitive;
use crate::reconcile::ReportedAdapter;

/// More adapters than this are no sane answer.
const ADAPTERS_MAX: usize = 256;
/// Longest adapter type in characters.
const TYPE_MAX: usize = 253;
/// Longest token in bytes; it has to fit a request header.
const TOKEN_MAX: usize = 16 << 10;

/// What a login or refresh gives.
#[derive(Debug)]
pub(super) struct Tokens {
    pub(super) access: Sensitive,
    /// Not every server has to give a new one.
    pub(super) refresh: Option<Sensitive>,
    /// How long the access token is good, when the server says so.
    pub(super) lifetime: Option<Duration>,
}

/// Whether `token` can be sent: visible ASCII of a sane length.
pub(super) fn is_token(token: &str) -> bool {
    !token.is_empty() && token.len() <= TOKEN_MAX && token.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Reads the answer to a login or refresh.
pub(super) fn parse_tokens(body: &[u8]) -> Result<Tokens, String> {
    #[derive(Deserialize)]
    struct Wire {
        access_token: String,
        refresh_token: Option<String>,
        expires_in: Option<i64>,
    }
    let wire: Wire = serde_json::from_slice(body).map_err(|error| json_problem(&error))?;
    let refresh = wire.refresh_token.filter(|token| !token.is_empty());
    if !is_token(&wire.access_token) || !refresh.as_deref().is_none_or(is_token) {
        return Err("the answer holds a token that cannot be used".to_owned());
    }
    Ok(Tokens {
        access: Sensitive::new(wire.access_token),
        refresh: refresh.map(Sensitive::new),
        lifetime: wire.expires_in.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0).map(Duration::from_secs),
    })
}

/// Reads the answer to `GET /api/v1/adapters`.
pub(super) fn parse_adapters(body: &[u8]) -> Result<Vec<ReportedAdapter>, String> {
    let list: List = serde_json::from_slice(body).map_err(|error| json_problem(&error))?;
    if list.length > ADAPTERS_MAX {
        return Err(format!("{} adapters in one answer, more than {ADAPTERS_MAX}", list.length));
    }
    let mut adapters = Vec::with_capacity(list.entries.len());
    let mut seen = HashSet::new();
    for (index, entry) in list.entries.into_iter().enumerate() {
        let adapter = entry.check().map_err(|problem| format!("adapter {} of the answer: {problem}", index + 1))?;
        if !seen.insert(adapter.adapter_type.clone()) {
            return Err(format!("adapter type \"{}\" is listed twice", excerpt(&adapter.adapter_type, &[])));
        }
        adapters.push(adapter);
    }
    Ok(adapters)
}

/// What is wrong with a JSON text, without a word of it.
fn json_problem(error: &serde_json::Error) -> String {
    let problem = match error.classify() {
        serde_json::error::Category::Eof => "ends too early",
        serde_json::error::Category::Data => "has an unknown shape",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "is no JSON",
    };
    format!("the answer {problem} (line {}, column {})", error.line(), error.column())
}

/// The array; entries past the limit are counted and not kept.
struct List {
    entries: Vec<Entry>,
    length: usize,
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Array;
        impl<'de> Visitor<'de> for Array {
            type Value = List;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of adapters")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<List, A::Error> {
                let mut entries = Vec::new();
                while entries.len() < ADAPTERS_MAX {
                    match array.next_element()? {
                        Some(entry) => entries.push(entry),
                        None => return Ok(List { length: entries.len(), entries }),
                    }
                }
                let mut length = entries.len();
                while array.next_element::<IgnoredAny>()?.is_some() {
                    length += 1;
                }
                Ok(List { entries, length })
            }
        }
        deserializer.deserialize_seq(Array)
    }
}

/// One adapter, unchecked. A key that comes twice is an error of the JSON reader, other keys are ignored.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    adapter_type: Option<Scalar>,
    enabled: Option<Scalar>,
    running: Option<Scalar>,
    port: Option<Scalar>,
}

impl Entry {
    fn check(self) -> Result<ReportedAdapter, String> {
        let Some(Scalar::Text(adapter_type)) = self.adapter_type else {
            return Err("type is missing or no text".to_owned());
        };
        if adapter_type.is_empty() || adapter_type.chars().count() > TYPE_MAX {
            return Err(format!("type is not 1 to {TYPE_MAX} characters long"));
        }
        // It reaches status, events and terminals; no server has such a type.
        if adapter_type.chars().any(char::is_control) {
            return Err(format!("type has a control character ({})", excerpt(&adapter_type, &[])));
        }
        let named = |problem: &str| format!("{problem} ({})", excerpt(&adapter_type, &[]));
        let Some(Scalar::Bool(enabled)) = self.enabled else {
            return Err(named("enabled is missing or not true or false"));
        };
        let Some(Scalar::Bool(running)) = self.running else {
            return Err(named("running is missing or not true or false"));
        };
        let Some(Scalar::Number(Some(port))) = self.port else {
            return Err(named("port is missing or no whole number"));
        };
        let port = u16::try_from(port).map_err(|_| named("port is above 65535"))?;
        if port == 0 && (enabled || running) {
            return Err(named("port is 0"));
        }
        Ok(ReportedAdapter { adapter_type, port, enabled, running })
    }
}

/// A JSON value of which only what an adapter can hold is kept.
enum Scalar {
    Bool(bool),
    /// `None`: negative, or with a fraction.
    Number(Option<u64>),
    Text(String),
    Other,
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar::Bool(value))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar::Number(Some(value)))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar::Number(u64::try_from(value).ok()))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Scalar, E> {
                Ok(Scalar::Number(None))
            }
            fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(value.to_owned()))
            }
            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Scalar, A::Error> {
                while array.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Scalar, A::Error> {
                while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
#[path = "types_tests.rs"]
mod tests;
