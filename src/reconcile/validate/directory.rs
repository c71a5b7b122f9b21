//! `spec.identity.ldap` and `spec.identity.kerberos`. What is not enabled is checked for its form and then left out.

use serde_json::Value;

use super::super::problem::{Field, Reader, shown};
use super::super::{Kerberos, Krb5Conf, Ldap, MachineAccount};
use super::secret_key;
use crate::crd::rules;

/// The directory that the server asks.
pub(super) fn ldap(read: &mut Reader, identity: &Field<'_>) -> Option<Ldap> {
    let ldap = read.object(identity, "ldap");
    ldap.value?;
    let enabled = read.boolean(&ldap.child("enabled"), false);
    let mut needed = |name: &str, remedy: &str, check: fn(&str) -> bool| {
        let field = ldap.child(name);
        if field.value.is_none() {
            read.note(&field.path, "unset", remedy);
        }
        read.text(&field, "", remedy, |text| !enabled || check(text))
    };
    let url = needed("url", rules::LDAP_URL_REMEDY, is_ldap_url);
    let base_dn = needed("baseDN", rules::LDAP_NAME_REMEDY, is_something);
    let bind_dn = needed("bindDN", rules::LDAP_NAME_REMEDY, is_something);
    let checked = Ldap {
        url,
        start_tls: read.boolean(&ldap.child("startTLS"), false),
        allow_plaintext: read.boolean(&ldap.child("allowPlaintext"), false),
        base_dn,
        bind_dn,
        bind_password: secret_key(read, &ldap, "bindPasswordSecretRef"),
        user_attr: given(read, &ldap, "userAttr"),
        realm: given(read, &ldap, "realm"),
        idmap: {
            let same = |name: &'static str| (name, Some(name));
            read.choice(&ldap.child("idmap"), None, &["rfc2307", "rid"].map(same)).map(str::to_owned)
        },
        nested_groups: read.boolean(&ldap.child("nestedGroups"), false),
        ca_cert_file: given(read, &ldap, "caCertFile"),
        ca_secret: secret_key(read, &ldap, "caSecretRef"),
        insecure_skip_verify: read.boolean(&ldap.child("insecureSkipVerify"), false),
    };
    enabled.then_some(checked)
}

/// Kerberos for NFS and SMB.
pub(super) fn kerberos(read: &mut Reader, identity: &Field<'_>) -> Option<Kerberos> {
    let kerberos = read.object(identity, "kerberos");
    let enabled = read.boolean(&kerberos.child("enabled"), false);
    let checked = Kerberos {
        service_principal: given(read, &kerberos, "servicePrincipal"),
        realm: given(read, &kerberos, "realm"),
        netbios_domain: given(read, &kerberos, "netbiosDomain"),
        dns_domain: given(read, &kerberos, "dnsDomain"),
        keytab: secret_key(read, &kerberos, "keytabSecretRef"),
        krb5_conf_secret: secret_key(read, &kerberos, "krb5ConfSecretRef"),
        krb5_conf: given(read, &kerberos, "krb5Conf").map(|text| {
            // No path has a line break or a section, and no krb5.conf is without.
            if text.contains(['\n', '[']) { Krb5Conf::Text(text) } else { Krb5Conf::Path(text) }
        }),
        machine_account: machine_account(read, &kerberos),
    };
    enabled.then_some(checked)
}

fn machine_account(read: &mut Reader, kerberos: &Field<'_>) -> Option<MachineAccount> {
    let account = read.object(kerberos, "machineAccount");
    let enabled = read.boolean(&account.child("enabled"), false);
    let checked = MachineAccount {
        account_name: given(read, &account, "accountName"),
        secret: secret_key(read, &account, "secretRef"),
        keytab: secret_key(read, &account, "keytabSecretRef"),
        dc_address: texts(read, &account.child("dcAddress")),
    };
    enabled.then_some(checked)
}

/// An optional text; an empty one is none.
fn given(read: &mut Reader, parent: &Field<'_>, name: &str) -> Option<String> {
    read.optional_text(&parent.child(name), "use a text, in quotes", |_| true).filter(|text| !text.is_empty())
}

/// A list of texts, without the empty ones.
fn texts(read: &mut Reader, field: &Field<'_>) -> Vec<String> {
    let items = match field.value {
        None => return Vec::new(),
        Some(Value::Array(items)) => items,
        Some(other) => {
            read.note(&field.path, shown(other), "use a list of texts");
            return Vec::new();
        }
    };
    let numbered = items.iter().enumerate();
    numbered
        .filter_map(|(at, item)| {
            let item = Field { path: format!("{}[{at}]", field.path), value: Some(item) };
            read.optional_text(&item, "use a text, in quotes", |_| true).filter(|text| !text.is_empty())
        })
        .collect()
}

fn is_ldap_url(url: &str) -> bool {
    let host = url
        .split_once("://")
        .filter(|(scheme, _)| ["ldap", "ldaps"].iter().any(|known| scheme.eq_ignore_ascii_case(known)));
    host.is_some_and(|(_, rest)| !rest.is_empty() && !rest.starts_with('/') && !rest.contains([' ', '\t', '\r', '\n']))
}

fn is_something(text: &str) -> bool {
    text.contains(|c| ![' ', '\t', '\r', '\n'].contains(&c))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::reconcile::{SecretKey, ValidatedServer, validate};

    fn with(identity: &Value) -> ValidatedServer {
        let spec = json!({"storage": {"metadataSize": "1Gi"}, "identity": identity});
        validate(&json!({"metadata": {"name": "a", "namespace": "b", "uid": "c"}, "spec": spec})).unwrap()
    }

    fn key(name: &str, key: &str) -> SecretKey {
        SecretKey { name: name.to_owned(), key: key.to_owned() }
    }

    fn everything(enabled: bool) -> Value {
        json!({
            "ldap": {
                "enabled": enabled, "url": "LDAP://dc:389", "startTLS": true, "allowPlaintext": true,
                "baseDN": "DC=x", "bindDN": "CN=y", "bindPasswordSecretRef": {"name": "n1", "key": "k1"},
                "userAttr": "uid", "realm": "R1", "idmap": "rid", "nestedGroups": true, "caCertFile": "/ca.pem",
                "caSecretRef": {"name": "n2", "key": "k2"}, "insecureSkipVerify": true,
            },
            "kerberos": {
                "enabled": enabled, "servicePrincipal": "nfs/x", "realm": "R2", "netbiosDomain": "NB",
                "dnsDomain": "dns", "keytabSecretRef": {"name": "n3", "key": "k3"},
                "krb5ConfSecretRef": {"name": "n4", "key": "k4"}, "krb5Conf": "/etc/krb5.conf",
                "machineAccount": {
                    "enabled": true, "accountName": "X$", "secretRef": {"name": "n5", "key": "k5"},
                    "keytabSecretRef": {"name": "n6", "key": "k6"}, "dcAddress": ["dc1", "", "dc2:445"],
                },
            },
        })
    }

    #[test]
    fn each_value_arrives_where_it_belongs() {
        let server = with(&everything(true));
        assert_eq!(
            server.ldap,
            Some(Ldap {
                url: "LDAP://dc:389".to_owned(),
                start_tls: true,
                allow_plaintext: true,
                base_dn: "DC=x".to_owned(),
                bind_dn: "CN=y".to_owned(),
                bind_password: Some(key("n1", "k1")),
                user_attr: Some("uid".to_owned()),
                realm: Some("R1".to_owned()),
                idmap: Some("rid".to_owned()),
                nested_groups: true,
                ca_cert_file: Some("/ca.pem".to_owned()),
                ca_secret: Some(key("n2", "k2")),
                insecure_skip_verify: true,
            })
        );
        assert_eq!(
            server.kerberos,
            Some(Kerberos {
                service_principal: Some("nfs/x".to_owned()),
                realm: Some("R2".to_owned()),
                netbios_domain: Some("NB".to_owned()),
                dns_domain: Some("dns".to_owned()),
                keytab: Some(key("n3", "k3")),
                krb5_conf_secret: Some(key("n4", "k4")),
                krb5_conf: Some(Krb5Conf::Path("/etc/krb5.conf".to_owned())),
                machine_account: Some(MachineAccount {
                    account_name: Some("X$".to_owned()),
                    secret: Some(key("n5", "k5")),
                    keytab: Some(key("n6", "k6")),
                    dc_address: vec!["dc1".to_owned(), "dc2:445".to_owned()],
                }),
            })
        );
    }

    #[test]
    fn what_is_not_enabled_is_as_if_it_were_not_there() {
        assert_eq!(with(&everything(false)), with(&json!({})));
        let unused =
            json!({"ldap": {"url": "", "baseDN": "", "bindDN": ""}, "kerberos": {"machineAccount": {"enabled": true}}});
        assert_eq!(with(&unused), with(&json!({})), "enabled is false when it is not said");
    }

    #[test]
    fn a_krb5_conf_is_a_path_as_in_the_go_operator_or_the_text_itself() {
        let of = |text: &str| with(&json!({"kerberos": {"enabled": true, "krb5Conf": text}})).kerberos.unwrap();
        for path in ["/etc/krb5.conf", "krb5.conf"] {
            assert_eq!(of(path).krb5_conf, Some(Krb5Conf::Path(path.to_owned())));
            assert_eq!(of(path).inline_krb5_conf(), None);
        }
        for text in ["[libdefaults]\n", "# nothing\n"] {
            assert_eq!(of(text).inline_krb5_conf(), Some(text));
        }
        assert_eq!(of("").krb5_conf, None);
        let both = with(&json!({"kerberos": {
            "enabled": true, "krb5Conf": "[libdefaults]\n", "krb5ConfSecretRef": {"name": "n", "key": "k"},
        }}));
        assert_eq!(both.kerberos.unwrap().inline_krb5_conf(), None, "the Secret wins");
    }

    #[test]
    fn plaintext_is_what_neither_the_scheme_nor_start_tls_encrypts() {
        for (url, start_tls, plaintext) in [
            ("ldap://dc", false, true),
            ("LDAP://dc", false, true),
            ("ldap://dc", true, false),
            ("ldaps://dc", false, false),
        ] {
            let identity = json!({"ldap": {
                "enabled": true, "url": url, "startTLS": start_tls, "baseDN": "x", "bindDN": "y",
            }});
            assert_eq!(with(&identity).ldap.unwrap().is_plaintext(), plaintext, "{url} {start_tls}");
        }
    }

    #[test]
    fn fields_of_another_kind_are_each_told() {
        let spec = json!({"storage": {"metadataSize": "1Gi"}, "identity": {
            "ldap": {"enabled": true, "url": 7, "bindDN": " ", "idmap": "x", "nestedGroups": "yes"},
            "kerberos": {"realm": [], "machineAccount": {"dcAddress": "dc1"}},
        }});
        let object = json!({"metadata": {"name": "a", "namespace": "b", "uid": "c"}, "spec": spec});
        let fields: Vec<String> =
            validate(&object).unwrap_err().problems.into_iter().map(|problem| problem.field).collect();
        assert_eq!(
            fields,
            [
                "spec.identity.ldap.url",
                "spec.identity.ldap.baseDN",
                "spec.identity.ldap.bindDN",
                "spec.identity.ldap.idmap",
                "spec.identity.ldap.nestedGroups",
                "spec.identity.kerberos.realm",
                "spec.identity.kerberos.machineAccount.dcAddress",
            ]
        );
        let list = json!({"kerberos": {"machineAccount": {"dcAddress": ["dc1", 7]}}});
        let spec = json!({"storage": {"metadataSize": "1Gi"}, "identity": list});
        let object = json!({"metadata": {"name": "a", "namespace": "b", "uid": "c"}, "spec": spec});
        let problem = validate(&object).unwrap_err().problems.remove(0);
        assert_eq!(problem.field, "spec.identity.kerberos.machineAccount.dcAddress[1]");
    }
}
