//! A service account with the rights of `deploy/rbac.yaml`, its token, and a kubeconfig for it.
//!
//! Only the rules of that file are taken: its own accounts and bindings name an installed operator. What is bound is
//! unique to the account, so that operators of parallel tests do not share rights.

use crate::cluster::{Cluster, Resource, deploy, resources};
use anyhow::Context as _;
use serde::Deserialize as _;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Where an operator's rights come from.
#[derive(Clone, Debug, Default)]
pub enum Rights {
    /// `deploy/rbac.yaml`.
    #[default]
    Deployed,
    /// Another file of that form.
    File(PathBuf),
    /// These rules (of an `rbac.authorization.k8s.io` role): for what an operator does that lacks a right.
    Rules(Vec<Value>),
}

/// A service account of one operator.
pub struct Account {
    namespace: String,
    name: String,
    server: String,
    ca: String,
    token: String,
}

impl Account {
    /// Makes the account in `home` and binds its rights: in the namespace `scope`, or in the whole cluster.
    ///
    /// # Errors
    /// When the rules cannot be read or the API server refuses something.
    pub async fn create(cluster: &Cluster, home: &str, scope: Option<&str>, rights: &Rights) -> anyhow::Result<Self> {
        let rules = rules(rights)?;
        let name = format!("operator-{:06x}", rand::random::<u32>() & 0xff_ffff);
        cluster.create(resources::SERVICE_ACCOUNTS, home, &json!({"metadata": {"name": name}})).await?;
        let role_name = format!("{home}-{name}");
        let role = json!({"metadata": {"name": role_name}, "rules": rules});
        cluster.create(resources::CLUSTER_ROLES, "", &role).await.context("the rights of the operator")?;
        let (kind, namespace): (Resource, &str) = match scope {
            Some(namespace) => (resources::ROLE_BINDINGS, namespace),
            None => (resources::CLUSTER_ROLE_BINDINGS, ""),
        };
        let binding = json!({
            "metadata": {"name": role_name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role_name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": home}],
        });
        cluster.create(kind, namespace, &binding).await?;
        let mut account = Self {
            namespace: home.to_owned(),
            name,
            server: cluster.server().to_owned(),
            ca: cluster.ca()?,
            token: String::new(),
        };
        account.renew(cluster).await?;
        Ok(account)
    }

    /// Asks for another token.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn renew(&mut self, cluster: &Cluster) -> anyhow::Result<()> {
        let path = format!("{}/{}/token", resources::SERVICE_ACCOUNTS.path(&self.namespace), self.name);
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": 7200},
        });
        let answer = cluster.request(http::Method::POST, &path, "application/json", Some(&body)).await?;
        answer["status"]["token"].as_str().context("a TokenRequest without a token")?.clone_into(&mut self.token);
        Ok(())
    }

    /// Its user name, as the audit log has it.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }

    /// Its token: a secret that the operator must not let out either.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Writes `kubeconfig`, `token` and `ca.crt` into a directory.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_kubeconfig(&self, directory: &Path, through: Option<&str>) -> anyhow::Result<()> {
        let ca = directory.join("ca.crt");
        std::fs::write(&ca, &self.ca)?;
        self.write_token(directory)?;
        let cluster = match through {
            // Another API server of the same authority.
            Some(url) if url.starts_with("https:") => json!({"server": url, "certificate-authority": ca}),
            Some(url) => json!({"server": url}),
            None => json!({"server": self.server, "certificate-authority": ca}),
        };
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"tokenFile": directory.join("token")}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": self.namespace}}],
        });
        std::fs::write(directory.join("kubeconfig"), serde_json::to_vec_pretty(&kubeconfig)?)?;
        Ok(())
    }

    pub(super) fn write_token(&self, directory: &Path) -> anyhow::Result<()> {
        // Renamed into place: the operator never reads half a token.
        let new = directory.join("token.new");
        std::fs::write(&new, &self.token)?;
        Ok(std::fs::rename(new, directory.join("token"))?)
    }
}

fn rules(rights: &Rights) -> anyhow::Result<Vec<Value>> {
    let path = match rights {
        Rights::Rules(rules) => return Ok(rules.clone()),
        Rights::Deployed => deploy("rbac.yaml"),
        Rights::File(path) => path.clone(),
    };
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let rules = rules_of(&text).with_context(|| path.display().to_string())?;
    anyhow::ensure!(!rules.is_empty(), "{} has no role with rules", path.display());
    Ok(rules)
}

/// The rules of every `ClusterRole` and `Role` in a manifest of several documents.
fn rules_of(manifest: &str) -> anyhow::Result<Vec<Value>> {
    let mut rules = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(manifest) {
        let document = Value::deserialize(document)?;
        if matches!(document["kind"].as_str(), Some("ClusterRole" | "Role")) {
            rules.extend(document["rules"].as_array().into_iter().flatten().cloned());
        }
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_come_from_roles_alone() {
        let manifest = "kind: ServiceAccount\n---\nkind: ClusterRole\nrules:\n- verbs: [get]\n---\n\
                        kind: Role\nrules:\n- verbs: [list]\n---\nkind: ClusterRoleBinding\nrules: [x]\n";
        let rules = rules_of(manifest).unwrap();
        assert_eq!(rules, [json!({"verbs": ["get"]}), json!({"verbs": ["list"]})]);
    }
}
