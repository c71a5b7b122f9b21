//! What is in the story's namespace, and what is new there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dittofs_testbed::cluster::{Namespace, POLL, Resource, resources};
use serde_json::Value;

use crate::SERVER;
use crate::teller::{Mark, Teller};

/// How long any step may take.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// What is in the namespace now.
#[derive(Default)]
pub(crate) struct Seen {
    server: Value,
    stateful_set: Value,
    services: Vec<Value>,
    /// What is worth a line, by what it is about.
    facts: BTreeMap<String, String>,
}

impl Seen {
    pub(crate) fn ready(&self) -> bool {
        let conditions = self.server["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    }

    pub(crate) fn adapters(&self) -> Vec<(&str, u16)> {
        let label = |service: &Value| service["metadata"]["labels"]["dittofs.io/adapter-service"] == "true";
        let mut found: Vec<(&str, u16)> = self
            .services
            .iter()
            .filter(|service| label(service))
            .map(|service| {
                let port = service["spec"]["ports"][0]["port"].as_u64().and_then(|port| u16::try_from(port).ok());
                (service["metadata"]["labels"]["dittofs.io/adapter-type"].as_str().unwrap_or("?"), port.unwrap_or(0))
            })
            .collect();
        found.sort_unstable();
        found
    }

    pub(crate) fn container_ports(&self) -> Vec<(String, u64)> {
        let ports = self.stateful_set["spec"]["template"]["spec"]["containers"][0]["ports"].as_array();
        let port = |port: &Value| {
            (port["name"].as_str().unwrap_or("?").to_owned(), port["containerPort"].as_u64().unwrap_or(0))
        };
        ports.into_iter().flatten().map(port).collect()
    }
}

/// Watches the namespace and tells what is new.
pub(crate) struct Scene<'a> {
    namespace: &'a Namespace,
    teller: &'a Teller,
    known: BTreeMap<String, String>,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(namespace: &'a Namespace, teller: &'a Teller) -> Self {
        Self { namespace, teller, known: BTreeMap::new() }
    }

    pub(crate) async fn until(&mut self, what: &str, come: impl Fn(&Seen) -> bool) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let seen = self.look().await?;
            self.tell_news(&seen.facts);
            if come(&seen) {
                return Ok(());
            }
            anyhow::ensure!(begun.elapsed() < PATIENCE, "after {} s still not true: {what}", PATIENCE.as_secs());
            tokio::time::sleep(POLL).await;
        }
    }

    fn tell_news(&mut self, facts: &BTreeMap<String, String>) {
        for (about, fact) in facts {
            match self.known.get(about) {
                Some(before) if before == fact => {}
                Some(before) => self.teller.line(Mark::Changed, &format!("{about}  {before} → {fact}")),
                None => self.teller.line(Mark::New, &format!("{about}  {fact}")),
            }
        }
        for (about, _) in self.known.iter().filter(|(about, _)| !facts.contains_key(*about)) {
            self.teller.line(Mark::Gone, about);
        }
        self.known.clone_from(facts);
    }

    async fn look(&self) -> anyhow::Result<Seen> {
        let server = self.namespace.get(resources::SERVERS, SERVER).await?.unwrap_or_default();
        let mut seen = Seen { server, ..Seen::default() };
        let list = async |kind: Resource| self.namespace.list(kind, "").await;
        for service in list(resources::SERVICES).await? {
            let ports: Vec<String> = service["spec"]["ports"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|port| format!("{} {}", port["name"].as_str().unwrap_or("?"), port["port"]))
                .collect();
            let address = service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str();
            let address = address.map_or_else(String::new, |ip| format!(" at {ip}"));
            seen.facts.insert(format!("Service {}", name(&service)), format!("{}{address}", ports.join(", ")));
            seen.services.push(service);
        }
        for set in list(resources::STATEFUL_SETS).await? {
            let ready = set["status"]["readyReplicas"].as_u64().unwrap_or(0);
            seen.facts
                .insert(format!("StatefulSet {}", name(&set)), format!("{ready} of {} ready", set["spec"]["replicas"]));
            seen.stateful_set = set;
        }
        for kind in [resources::CONFIG_MAPS, resources::SECRETS] {
            for object in list(kind).await?.iter().filter(|object| name(object).starts_with(SERVER)) {
                seen.facts.insert(format!("{} {}", kind.kind, name(object)), "is there".to_owned());
            }
        }
        for condition in seen.server["status"]["conditions"].as_array().into_iter().flatten() {
            let text = |field: &str| condition[field].as_str().unwrap_or("?").to_owned();
            seen.facts
                .insert(format!("condition {}", text("type")), format!("{} ({})", text("status"), text("reason")));
        }
        Ok(seen)
    }
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or("?")
}
