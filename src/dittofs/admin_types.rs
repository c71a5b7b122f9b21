//! What only an administrator is answered, read strictly where it decides and leniently where it is only compared.
//!
//! The errors say what is wrong and never quote a value.

use serde::Deserialize;
use serde_json::Value;

use super::error::excerpt;
use crate::reconcile::{ListedPolicy, NfsPorts, parse_interval, parse_ttl};

/// More policies than this are no sane answer: ten times what a spec can have.
const POLICIES_MAX: usize = 1000;

fn json(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|_| "the answer is no JSON".to_owned())
}

/// Reads the answer to `GET /api/v1/adapters/nfs/settings`: half of an answer decides nothing.
pub(super) fn parse_nfs_settings(body: &[u8]) -> Result<NfsPorts, String> {
    let settings = json(body)?;
    let flag = |name: &str| {
        settings.get(name).and_then(Value::as_bool).ok_or_else(|| format!("{name} is missing or not true or false"))
    };
    let enabled = flag("portmapper_enabled")?;
    let port = settings.get("portmapper_port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    let portmapper = match port.filter(|port| *port > 0) {
        Some(port) if enabled => Some(port),
        None if enabled => return Err("portmapper_port is missing or no port".to_owned()),
        _ => None,
    };
    Ok(NfsPorts { portmapper, udp: flag("udp_enabled")? })
}

/// Reads the answer to `GET /api/v1/snapshot-policies`. A policy that reads only in part differs from every wish.
pub(super) fn parse_policies(body: &[u8]) -> Result<Vec<ListedPolicy>, String> {
    #[derive(Deserialize)]
    struct Wire {
        share: String,
        #[serde(default)]
        interval: Value,
        #[serde(default)]
        keep_last: Value,
        #[serde(default)]
        ttl: Value,
        #[serde(default)]
        enabled: Value,
        #[serde(default)]
        name_prefix: Value,
    }
    let listed: Vec<Wire> =
        serde_json::from_value(json(body)?).map_err(|_| "the answer is no list of policies".to_owned())?;
    if listed.len() > POLICIES_MAX {
        return Err(format!("{} policies in one answer, more than {POLICIES_MAX}", listed.len()));
    }
    // What is left out is empty or 0, as the server writes it.
    let text = |value: &Value| if value.is_null() { Some(String::new()) } else { value.as_str().map(str::to_owned) };
    let read = |policy: Wire| ListedPolicy {
        share: policy.share,
        interval: policy.interval.as_str().and_then(parse_interval),
        keep_last: if policy.keep_last.is_null() { Some(0) } else { policy.keep_last.as_u64() },
        ttl: text(&policy.ttl).as_deref().and_then(parse_ttl),
        enabled: policy.enabled.as_bool(),
        name_prefix: text(&policy.name_prefix),
    };
    Ok(listed.into_iter().map(read).collect())
}

/// The number of shares in an answer to `GET /health/ready`.
pub(super) fn parse_shares(body: &[u8]) -> Option<u64> {
    json(body).ok()?.pointer("/data/shares")?.as_u64()
}

/// When the server started, in an answer to `GET /health`.
pub(super) fn parse_started(body: &[u8]) -> Option<String> {
    Some(excerpt(json(body).ok()?.pointer("/data/started_at")?.as_str()?, &[]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn recorded(name: &str) -> Value {
        let text = include_str!("../../tests/fixtures/dittofs/exchanges.json");
        let exchanges: Vec<Value> = serde_json::from_str(text).expect("the fixture");
        exchanges.into_iter().find(|one| one["name"] == name).expect(name)["response"]["body"].clone()
    }

    fn bytes(value: &Value) -> Vec<u8> {
        value.to_string().into_bytes()
    }

    #[test]
    fn what_was_recorded_is_read() {
        let settings = |name: &str| parse_nfs_settings(&bytes(&recorded(name))).expect(name);
        assert_eq!(settings("nfs-settings-admin"), NfsPorts { portmapper: None, udp: false });
        assert_eq!(settings("nfs-portmapper-patch-admin"), NfsPorts { portmapper: Some(10111), udp: false });
        assert_eq!(parse_shares(&bytes(&recorded("ready"))), Some(0));
        assert_eq!(parse_started(&bytes(&recorded("health"))).as_deref(), Some("2026-11-21T14:36:45Z"));
    }

    #[test]
    fn settings_that_do_not_say_all_say_nothing() {
        let good = json!({"portmapper_enabled": true, "portmapper_port": 10111, "udp_enabled": true});
        assert_eq!(parse_nfs_settings(&bytes(&good)), Ok(NfsPorts { portmapper: Some(10111), udp: true }));
        for (key, value) in [
            ("portmapper_enabled", json!(null)),
            ("portmapper_enabled", json!("canary")),
            ("portmapper_port", json!(0)),
            ("portmapper_port", json!(65536)),
            ("portmapper_port", json!(-1)),
            ("portmapper_port", json!("canary")),
            ("udp_enabled", json!(1)),
            ("udp_enabled", json!(null)),
        ] {
            let mut bad = good.clone();
            bad[key] = value;
            let error = parse_nfs_settings(&bytes(&bad)).expect_err(key);
            assert!(error.contains(key) && !error.contains("canary"), "{error}");
        }
        for body in ["", "null", "[]", "canary", "{}", "{\"portmapper_enabled\":tr"] {
            assert!(!parse_nfs_settings(body.as_bytes()).expect_err(body).contains("canary"));
        }
        let off = json!({"portmapper_enabled": false, "udp_enabled": false});
        assert_eq!(parse_nfs_settings(&bytes(&off)), Ok(NfsPorts::default()), "no port is needed when it is off");
    }

    #[test]
    fn policies_are_read_and_a_list_that_is_none_is_an_error() {
        let body = json!([
            {"share": "/a", "enabled": true, "interval": "24h0m0s", "keep_last": 7, "ttl": "720h0m0s",
             "name_prefix": "auto", "created_at": "2026-11-21T14:36:45Z"},
            {"share": "/b", "enabled": false, "interval": "1h0m0s", "keep_last": 0},
            {"share": "/c", "enabled": "yes", "interval": 5, "keep_last": -1, "ttl": "soon", "name_prefix": 1},
        ]);
        let policies = parse_policies(&bytes(&body)).expect("policies");
        let hours = std::time::Duration::from_hours;
        let policy = |share: &str, interval, keep_last, ttl, enabled, name_prefix: Option<&str>| ListedPolicy {
            share: share.to_owned(),
            interval,
            keep_last,
            ttl,
            enabled,
            name_prefix: name_prefix.map(str::to_owned),
        };
        assert_eq!(
            policies,
            [
                policy("/a", Some(hours(24)), Some(7), Some(hours(720)), Some(true), Some("auto")),
                policy("/b", Some(hours(1)), Some(0), Some(hours(0)), Some(false), Some("")),
                policy("/c", None, None, None, None, None),
            ]
        );
        assert_eq!(parse_policies(b"[]"), Ok(vec![]));
        for body in ["", "null", "{}", "canary", "[{}]", "[{\"share\":1}]", "[{\"share\":\"canary\"}"] {
            assert!(!parse_policies(body.as_bytes()).expect_err(body).contains("canary"));
        }
        let many = Value::Array(vec![json!({"share": "/a"}); POLICIES_MAX + 1]);
        assert!(parse_policies(&bytes(&many)).expect_err("many").contains("1001"));
    }

    #[test]
    fn what_is_not_said_is_not_known() {
        for body in ["", "null", "{}", r#"{"data":{"shares":-1,"started_at":5}}"#, r#"{"data":null}"#] {
            assert_eq!((parse_shares(body.as_bytes()), parse_started(body.as_bytes())), (None, None), "{body}");
        }
    }
}
