//! What is wrong with a `DittoServer`, and a reader that collects all of it.
//!
//! A [`Reader`] takes fields out of JSON, fills in defaults and notes a [`Problem`] wherever a value is not what it
//! should be; it never stops at the first. A value that may hold what nobody should read (the environment) is named by
//! its kind only.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

/// Longest value that is repeated to the user.
const VALUE_MAX: usize = 120;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field, such as `spec.ports.nfs`.
    pub field: String,
    /// What it is, as JSON, shortened.
    pub value: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}: {}", self.field, self.value, self.remedy)
    }
}

/// A `DittoServer` that cannot be acted upon, with everything that is wrong with it.
///
/// Permanent: only a change of the object mends it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct SpecInvalid {
    /// In the order of the spec, never empty.
    pub problems: Vec<Problem>,
}

impl SpecInvalid {
    /// What metrics and events call this error.
    pub fn category(&self) -> &'static str {
        "spec-invalid"
    }
}

/// A field that may be there: its path and its value. Null is the same as absent.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    pub(super) path: String,
    pub(super) value: Option<&'a Value>,
}

impl<'a> Field<'a> {
    pub(super) fn root(object: &'a Value, name: &str) -> Self {
        Self { path: name.to_owned(), value: object.get(name).filter(|value| !value.is_null()) }
    }

    pub(super) fn child(&self, name: &str) -> Self {
        Self {
            path: format!("{}.{name}", self.path),
            value: self.value.and_then(|value| value.get(name)).filter(|value| !value.is_null()),
        }
    }
}

/// Takes fields out of JSON and collects problems.
#[derive(Debug, Default)]
pub(super) struct Reader {
    problems: Vec<Problem>,
}

impl Reader {
    pub(super) fn note(&mut self, field: &str, value: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem { field: field.to_owned(), value: value.into(), remedy: remedy.into() });
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    fn wrong_kind(&mut self, field: &Field<'_>, value: &Value, wanted: &str) {
        self.note(&field.path, shown(value), format!("use {wanted}"));
    }

    /// A nested object; one of another kind is noted once, and its fields then read as unset.
    pub(super) fn object<'a>(&mut self, parent: &Field<'a>, name: &str) -> Field<'a> {
        let field = parent.child(name);
        match field.value {
            Some(value) if !value.is_object() => {
                self.wrong_kind(&field, value, "an object");
                Field { path: field.path, value: None }
            }
            _ => field,
        }
    }

    /// A text that passes `check`; anything else is noted and gives `None`.
    pub(super) fn optional_text(
        &mut self,
        field: &Field<'_>,
        remedy: &str,
        check: impl FnOnce(&str) -> bool,
    ) -> Option<String> {
        match field.value? {
            Value::String(text) if check(text) => Some(text.clone()),
            other => {
                self.note(&field.path, shown(other), remedy);
                None
            }
        }
    }

    /// A text with a default; what is noted reads as the default.
    pub(super) fn text(
        &mut self,
        field: &Field<'_>,
        default: &str,
        remedy: &str,
        check: impl FnOnce(&str) -> bool,
    ) -> String {
        self.optional_text(field, remedy, check).unwrap_or_else(|| default.to_owned())
    }

    /// One of some texts.
    pub(super) fn choice<T: Copy>(&mut self, field: &Field<'_>, default: T, choices: &[(&str, T)]) -> T {
        let Some(value) = field.value else { return default };
        if let Some((_, choice)) = choices.iter().find(|(name, _)| value.as_str() == Some(name)) {
            return *choice;
        }
        let names = choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        self.note(&field.path, shown(value), format!("use one of: {names}"));
        default
    }

    /// A whole number within bounds.
    pub(super) fn integer(&mut self, field: &Field<'_>, default: i64, min: i64, max: i64) -> i64 {
        match field.value {
            None => default,
            Some(value) => match value.as_i64() {
                Some(number) if (min..=max).contains(&number) => number,
                _ => {
                    let bounds = if max == i64::MAX { format!("{min} or more") } else { format!("{min} to {max}") };
                    self.note(&field.path, shown(value), format!("use a whole number, {bounds}"));
                    default
                }
            },
        }
    }

    /// A port.
    pub(super) fn port(&mut self, field: &Field<'_>, default: i32) -> u16 {
        let port = self.integer(field, i64::from(default), 1, i64::from(u16::MAX));
        u16::try_from(port).unwrap_or_default()
    }

    /// True or false.
    pub(super) fn boolean(&mut self, field: &Field<'_>, default: bool) -> bool {
        match field.value {
            None => default,
            Some(Value::Bool(value)) => *value,
            Some(other) => {
                self.wrong_kind(field, other, "true or false");
                default
            }
        }
    }

    /// A map of texts.
    pub(super) fn map(&mut self, field: &Field<'_>) -> BTreeMap<String, String> {
        let Some(value) = field.value else { return BTreeMap::new() };
        let Some(map) = value.as_object() else {
            self.wrong_kind(field, value, "an object of texts");
            return BTreeMap::new();
        };
        map.iter()
            .filter_map(|(key, value)| {
                let entry = Field { path: format!("{}[{key}]", field.path), value: Some(value) };
                self.optional_text(&entry, "use a text, in quotes", |_| true).map(|text| (key.clone(), text))
            })
            .collect()
    }

    /// A type of core/v1. The value is not repeated: it may hold what nobody should read.
    pub(super) fn typed<T: DeserializeOwned>(&mut self, field: &Field<'_>, kind: &str) -> Option<T> {
        let value = field.value?;
        let typed = serde_json::from_value(value.clone()).ok();
        if typed.is_none() {
            self.note(&field.path, kind_of(value), format!("use the form of Kubernetes' {kind}"));
        }
        typed
    }
}

/// A value as JSON, shortened.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(VALUE_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list with something else in it",
        Value::Object(_) => "an object with something else in it",
    }
}
