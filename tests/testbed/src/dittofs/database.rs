//! What one server stores: accounts, adapters, NFS settings, shares. Pure: no clock, no I/O, and nothing of HTTP.
//! Passwords are kept as they are and shown to nobody (no `Debug`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::adapter::Adapters;
use super::clock::Now;
use super::policy::Policy;
use super::token::Role;

/// The shortest password that the server can hash; a shorter one fails with a 500, as recorded.
const SHORTEST_PASSWORD: usize = 8;

/// An account as a test sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserView {
    /// The name to log in with.
    pub username: String,
    /// What it may do.
    pub role: Role,
    /// It has logged in at least once.
    pub has_logged_in: bool,
}

/// Why an account was not made or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AccountError {
    Exists,
    TooShort,
    Unknown,
}

/// One account.
pub(super) struct User {
    pub(super) id: String,
    pub(super) username: String,
    pub(super) role: Role,
    password: String,
    /// The first admin: the one that the server makes for itself.
    seeded: bool,
    created: Timestamp,
    last_login: Option<Timestamp>,
}

impl User {
    /// The account as the API shows it; fields that are empty are left out, as recorded.
    pub(super) fn json(&self) -> Value {
        let mut shown = Map::new();
        shown.insert("id".into(), json!(self.id));
        shown.insert("username".into(), json!(self.username));
        shown.insert("role".into(), json!(self.role));
        shown.insert("enabled".into(), json!(true));
        shown.insert("must_change_password".into(), json!(false));
        shown.insert("created_at".into(), json!(self.created.to_string()));
        if self.seeded {
            shown.insert("display_name".into(), json!("Administrator"));
            shown.insert("uid".into(), json!(0));
            shown.insert("groups".into(), json!(["admins"]));
        }
        if let Some(at) = self.last_login {
            shown.insert("last_login".into(), json!(at.to_string()));
        }
        Value::Object(shown)
    }
}

/// Everything that a server loses with its volume.
pub(super) struct Database {
    users: BTreeMap<String, User>,
    pub(super) adapters: Adapters,
    nfs_settings: Map<String, Value>,
    /// Share name to its snapshot policy.
    shares: BTreeMap<String, Option<Policy>>,
}

impl Database {
    /// A fresh one: two adapters, no account (the admin is seeded when its credentials are known).
    pub(super) fn fresh(now: Now) -> Self {
        Self {
            users: BTreeMap::new(),
            adapters: Adapters::fresh(now),
            nfs_settings: fresh_nfs_settings(),
            shares: BTreeMap::new(),
        }
    }

    /// The first account was made; its credentials are not read again.
    pub(super) fn is_seeded(&self) -> bool {
        self.users.values().any(|user| user.seeded)
    }

    /// Makes the first admin, once: a database that has one keeps it.
    pub(super) fn seed(&mut self, username: &str, password: &str, now: Now) {
        if !self.is_seeded() {
            self.insert(username, password, Role::Admin, true, now);
        }
    }

    pub(super) fn user(&self, username: &str) -> Option<&User> {
        self.users.get(username)
    }

    /// Who that is, when the password is right; notes the login.
    pub(super) fn log_in(&mut self, username: &str, password: &str, now: Now) -> Option<&User> {
        let user = self.users.get_mut(username).filter(|user| user.password == password)?;
        user.last_login = Some(now.wall);
        Some(user)
    }

    pub(super) fn create_user(
        &mut self,
        username: &str,
        password: &str,
        role: Role,
        now: Now,
    ) -> Result<&User, AccountError> {
        if self.users.contains_key(username) {
            return Err(AccountError::Exists);
        }
        if password.len() < SHORTEST_PASSWORD {
            return Err(AccountError::TooShort);
        }
        Ok(self.insert(username, password, role, false, now))
    }

    fn insert(&mut self, username: &str, password: &str, role: Role, seeded: bool, now: Now) -> &User {
        let user = User {
            id: uuid::Uuid::new_v4().to_string(),
            username: username.to_owned(),
            role,
            password: password.to_owned(),
            seeded,
            created: now.wall,
            last_login: None,
        };
        self.users.entry(username.to_owned()).insert_entry(user).into_mut()
    }

    pub(super) fn set_password(&mut self, username: &str, password: &str) -> Result<(), AccountError> {
        let user = self.users.get_mut(username).ok_or(AccountError::Unknown)?;
        if password.len() < SHORTEST_PASSWORD {
            return Err(AccountError::TooShort);
        }
        password.clone_into(&mut user.password);
        Ok(())
    }

    /// False when there is no such account.
    pub(super) fn delete_user(&mut self, username: &str) -> bool {
        self.users.remove(username).is_some()
    }

    pub(super) fn users(&self) -> Vec<UserView> {
        let view = |user: &User| UserView {
            username: user.username.clone(),
            role: user.role,
            has_logged_in: user.last_login.is_some(),
        };
        self.users.values().map(view).collect()
    }

    pub(super) fn nfs_settings(&self) -> Value {
        Value::Object(self.nfs_settings.clone())
    }

    /// Takes over the settings that the server knows, and counts the version up.
    pub(super) fn patch_nfs_settings(&mut self, changes: &Map<String, Value>) {
        for (key, value) in changes {
            if key != "version"
                && let Some(setting) = self.nfs_settings.get_mut(key)
            {
                setting.clone_from(value);
            }
        }
        let version = self.nfs_settings.get("version").and_then(Value::as_u64).unwrap_or(0);
        self.nfs_settings.insert("version".into(), json!(version + 1));
    }

    pub(super) fn add_share(&mut self, name: &str) {
        self.shares.entry(name.to_owned()).or_default();
    }

    /// False when there is no such share.
    pub(super) fn set_snapshot_policy(&mut self, share: &str, policy: Policy) -> bool {
        let Some(stored) = self.shares.get_mut(share) else { return false };
        *stored = Some(policy);
        true
    }

    pub(super) fn snapshot_policy(&self, share: &str) -> Option<&Policy> {
        self.shares.get(share)?.as_ref()
    }

    /// All policies, as the API shows them.
    pub(super) fn snapshot_policies(&self) -> Value {
        let policies = self.shares.iter().filter_map(|(share, policy)| Some(policy.as_ref()?.shown(share)));
        Value::Array(policies.collect())
    }

    pub(super) fn share_count(&self) -> usize {
        self.shares.len()
    }
}

fn fresh_nfs_settings() -> Map<String, Value> {
    let settings = json!({
        "min_version": "3",
        "max_version": "4.1",
        "lease_time": 90,
        "grace_period": 90,
        "delegation_recall_timeout": 90,
        "callback_timeout": 5,
        "lease_break_timeout": 35,
        "max_connections": 0,
        "max_clients": 10000,
        "max_compound_ops": 50,
        "max_read_size": 1_048_576,
        "max_write_size": 1_048_576,
        "preferred_transfer_size": 1_048_576,
        "delegations_enabled": true,
        "max_delegations": 10000,
        "dir_deleg_batch_window_ms": 50,
        "v4_min_minor_version": 0,
        "v4_max_minor_version": 2,
        "v4_max_connections_per_session": 16,
        "blocked_operations": [],
        "portmapper_enabled": false,
        "portmapper_port": 10111,
        "portmapper_register_with_system": false,
        "udp_enabled": false,
        "mdns_enabled": false,
        "version": 1,
    });
    match settings {
        Value::Object(settings) => settings,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_is_seeded_once() {
        let now = Now::read();
        let mut database = Database::fresh(now);
        database.seed("admin", "first-password", now);
        database.seed("admin", "second-password", now);
        database.seed("root", "second-password", now);
        assert!(database.log_in("admin", "first-password", now).is_some());
        assert!(database.log_in("admin", "second-password", now).is_none());
        assert_eq!(database.users().len(), 1);
    }

    #[test]
    fn a_password_that_was_reset_replaces_the_one_before() {
        let now = Now::read();
        let mut database = Database::fresh(now);
        assert!(database.create_user("k8s-operator", "password-1", Role::Operator, now).is_ok());
        assert_eq!(database.set_password("k8s-operator", "short"), Err(AccountError::TooShort));
        assert_eq!(database.set_password("nobody", "password-2"), Err(AccountError::Unknown));
        assert!(database.log_in("k8s-operator", "password-1", now).is_some());
        assert_eq!(database.set_password("k8s-operator", "password-2"), Ok(()));
        assert!(database.log_in("k8s-operator", "password-1", now).is_none());
        assert!(database.log_in("k8s-operator", "password-2", now).is_some());
    }

    #[test]
    fn a_patch_changes_what_is_known_and_counts_up() {
        let mut database = Database::fresh(Now::read());
        let Value::Object(changes) = json!({"portmapper_enabled": true, "unknown": 1, "version": 9}) else { panic!() };
        database.patch_nfs_settings(&changes);
        let settings = database.nfs_settings();
        assert_eq!(settings["portmapper_enabled"], true);
        assert_eq!(settings["version"], 2);
        assert_eq!(settings.get("unknown"), None);
    }
}
