//! The values that must not be found outside Secrets.

use super::entry::Entry;
use crate::cluster::{Cluster, resources};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// A value that must not leave a Secret.
#[derive(Clone)]
pub struct Canary {
    /// Where it belongs.
    pub origin: String,
    /// The value itself: never printed.
    pub value: String,
}

impl std::fmt::Debug for Canary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Canary({})", self.origin)
    }
}

/// Keys whose values are no secrets.
const PUBLIC_KEYS: [&str; 10] =
    ["username", "user", "server-url", "host", "port", "database", "sslmode", "ca.crt", "tls.crt", "namespace"];

/// Shorter values are found by chance.
const SHORTEST: usize = 8;

/// The secret values in a namespace.
pub(super) async fn canaries(cluster: &Cluster, namespace: &str) -> anyhow::Result<Vec<Canary>> {
    Ok(cluster.list(resources::SECRETS, namespace, "").await?.iter().flat_map(values_of).collect())
}

/// The secret values that were written to these namespaces, as the log shows them.
pub(super) fn canaries_in(entries: &[Entry], namespaces: &[String]) -> Vec<Canary> {
    entries
        .iter()
        .filter(|entry| entry.object.resource == "secrets" && namespaces.contains(&entry.object.namespace))
        .filter_map(Entry::result)
        .flat_map(values_of)
        .collect()
}

fn values_of(secret: &Value) -> Vec<Canary> {
    let name = secret["metadata"]["name"].as_str().unwrap_or_default();
    let data = secret["data"].as_object().into_iter().flatten();
    data.filter(|(key, _)| !PUBLIC_KEYS.contains(&key.as_str()))
        .filter_map(|(key, value)| {
            let value = String::from_utf8(STANDARD.decode(value.as_str()?).ok()?).ok()?;
            Some((format!("Secret {name}, key {key}"), value))
        })
        .flat_map(|(origin, value)| {
            parts(&value).into_iter().map(move |value| Canary { origin: origin.clone(), value })
        })
        .collect()
}

/// The value, and each line of a private key: a part of one is as bad as the whole.
fn parts(value: &str) -> Vec<String> {
    let lines = value.lines().filter(|line| !line.starts_with("-----"));
    let key = value.starts_with("-----BEGIN") && value.contains("PRIVATE KEY");
    let all = [value].into_iter().chain(lines.filter(|_| key));
    all.filter(|part| part.len() >= SHORTEST).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_of_secret_keys_are_canaries_and_names_are_not() {
        let secret = json!({"metadata": {"name": "s"}, "data": {
            "password": STANDARD.encode("hunter2hunter2"), "username": STANDARD.encode("administrator"),
            "short": STANDARD.encode("abc"),
        }});
        let found = values_of(&secret);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].origin.as_str(), found[0].value.as_str()), ("Secret s, key password", "hunter2hunter2"));
        assert!(!format!("{found:?}").contains("hunter2"));
    }

    #[test]
    fn each_line_of_a_private_key_is_a_canary() {
        let pem = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqG\nSM49AgEGCCqGSM49\n-----END PRIVATE KEY-----\n";
        let found = values_of(&json!({"metadata": {"name": "s"}, "data": {"tls.key": STANDARD.encode(pem)}}));
        let values: Vec<&str> = found.iter().map(|canary| canary.value.as_str()).collect();
        assert_eq!(values, [pem, "MIGHAgEAMBMGByqG", "SM49AgEGCCqGSM49"]);
    }
}
