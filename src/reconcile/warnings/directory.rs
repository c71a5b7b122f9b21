//! What is doubtful about `spec.identity.ldap` and `spec.identity.kerberos`. The server itself refuses some of it; the
//! Go operator accepts it all, so that it is no reason to refuse a manifest.

use super::Warning;
use crate::reconcile::{Kerberos, Ldap, ValidatedServer};

/// Advice about `ldap://` without encryption that nobody allowed.
const PLAINTEXT: &str =
    "the server refuses to start with it; use ldaps://, or set startTLS, or allowPlaintext where that is meant";
/// Advice about `ldap://` without encryption that was allowed.
const PLAINTEXT_ALLOWED: &str =
    "the account's password crosses the network in the clear; use ldaps://, or set startTLS";

/// Appends what is doubtful.
pub(super) fn warn(server: &ValidatedServer, found: &mut Vec<Warning>) {
    if let Some(ldap) = &server.ldap {
        warn_ldap(ldap, found);
    }
    if let Some(kerberos) = &server.kerberos {
        warn_kerberos(kerberos, found);
    }
}

fn warn_ldap(ldap: &Ldap, found: &mut Vec<Warning>) {
    let mut add = |field: &str, value: &str, advice: &str| {
        found.push(Warning::new(&format!("spec.identity.ldap.{field}"), &value, advice));
    };
    if ldap.is_plaintext() {
        add("url", &ldap.url, if ldap.allow_plaintext { PLAINTEXT_ALLOWED } else { PLAINTEXT });
    }
    if ldap.bind_password.is_none() {
        add("bindPasswordSecretRef", "unset", "the account binds without a password, which most directories refuse");
    }
    if let (Some(path), Some(_)) = (&ldap.ca_cert_file, &ldap.ca_secret) {
        add("caCertFile", path, "caSecretRef is set too and wins; take one of them out");
    }
    if ldap.insecure_skip_verify {
        let advice = "whoever answers at the directory's address is believed; name its CA in caSecretRef instead";
        add("insecureSkipVerify", "true", advice);
    }
}

fn warn_kerberos(kerberos: &Kerberos, found: &mut Vec<Warning>) {
    let mut add = |field: &str, value: &str, advice: &str| {
        found.push(Warning::new(&format!("spec.identity.kerberos.{field}"), &value, advice));
    };
    if kerberos.keytab.is_none() {
        add("keytabSecretRef", "unset", "the server has no key with which to accept tickets; name the keytab's Secret");
    }
    if kerberos.krb5_conf.is_some() && kerberos.krb5_conf_secret.is_some() {
        add("krb5Conf", "set", "krb5ConfSecretRef is set too and wins; take one of them out");
    }
    if let Some(account) = &kerberos.machine_account
        && account.secret.is_none()
        && account.keytab.is_none()
    {
        add("machineAccount", "enabled", "it has neither secretRef nor keytabSecretRef; name one of them");
    }
}
