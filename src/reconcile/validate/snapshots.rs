//! `spec.snapshotPolicies`, checked as the CEL rules check it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::problem::{Field, Reader, shown};
use super::super::snapshots::{SnapshotPolicy, parse_interval, parse_ttl, share_name};
use crate::crd::rules;

/// Longest duration in characters.
const DURATION_MAX: usize = 64;
/// Longest beginning of a snapshot's name in characters.
const PREFIX_MAX: usize = 64;

/// The policies, each share once.
pub(super) fn snapshot_policies(read: &mut Reader, spec: &Field<'_>) -> Vec<SnapshotPolicy> {
    let field = spec.child("snapshotPolicies");
    let entries: &[Value] = match field.value {
        None => &[],
        Some(Value::Array(entries)) => entries,
        Some(other) => {
            read.note(&field.path, shown(other), "use a list of policies");
            &[]
        }
    };
    if entries.len() > rules::POLICIES_MAX {
        let remedy = format!("use at most {}", rules::POLICIES_MAX);
        read.note(&field.path, format!("a list of {} policies", entries.len()), remedy);
        return Vec::new();
    }
    let mut shares: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut policies = Vec::with_capacity(entries.len());
    for entry in entries {
        let entry = Field { path: format!("{}[]", field.path), value: Some(entry) };
        if entry.value.is_some_and(|value| !value.is_object()) {
            read.note(&entry.path, entry.value.map(shown).unwrap_or_default(), "use an object with share and interval");
            continue;
        }
        let share = required(read, &entry.child("share"), rules::SHARE_REMEDY, is_share);
        let interval = required(read, &entry.child("interval"), rules::SNAPSHOT_INTERVAL_REMEDY, |text| {
            fits(text, DURATION_MAX) && parse_interval(text).is_some()
        });
        let keep_last = read.integer(&entry.child("keepLast"), 0, 0, i64::from(i32::MAX));
        let ttl = read.text(&entry.child("ttl"), "", rules::SNAPSHOT_TTL_REMEDY, |text| {
            fits(text, DURATION_MAX) && parse_ttl(text).is_some()
        });
        let enabled = read.boolean(&entry.child("enabled"), true);
        let name_prefix = read.text(&entry.child("namePrefix"), "", rules::NAME_PREFIX_REMEDY, is_prefix);
        let (Some(share), Some(interval)) = (share, interval) else { continue };
        shares.entry(share_name(&share)).or_default().push(share.clone());
        policies.push(SnapshotPolicy {
            share: share_name(&share),
            interval,
            keep_last: u32::try_from(keep_last).unwrap_or_default(),
            ttl,
            enabled,
            name_prefix,
        });
    }
    for given in shares.into_values().filter(|given| given.len() > 1) {
        let value = format!("a list that has several policies for {}", given.join(", "));
        read.note(&field.path, value, rules::ONE_POLICY_REMEDY);
    }
    policies
}

/// A text that has to be there.
fn required(read: &mut Reader, field: &Field<'_>, remedy: &str, check: impl FnOnce(&str) -> bool) -> Option<String> {
    if field.value.is_none() {
        read.note(&field.path, "unset", remedy);
    }
    read.optional_text(field, remedy, check)
}

fn fits(text: &str, max: usize) -> bool {
    text.chars().count() <= max
}

fn is_share(name: &str) -> bool {
    let plain = name.strip_prefix('/').unwrap_or(name);
    fits(name, rules::SHARE_MAX)
        && !plain.is_empty()
        && !plain.starts_with(['/', ' '])
        && !plain.bytes().any(|byte| byte.is_ascii_control())
}

fn is_prefix(prefix: &str) -> bool {
    fits(prefix, PREFIX_MAX) && prefix.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}
