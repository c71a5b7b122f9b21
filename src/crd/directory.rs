//! `spec.identity.ldap` and `spec.identity.kerberos`: where the server finds people and how it believes them.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::database::SecretKeySelector;
use super::rules;

/// An LDAP or Active Directory service that names users and groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::ldap_url("spec.identity.ldap"),
    validation = rules::ldap_name("spec.identity.ldap", "baseDN"),
    validation = rules::ldap_name("spec.identity.ldap", "bindDN")
)]
pub struct LdapSpec {
    /// Whether the server asks the directory. Otherwise the rest has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Address, such as ldaps://dc.example.com:636.
    #[schemars(length(max = 2048))]
    pub url: String,
    /// Turns a connection to ldap:// into an encrypted one.
    #[serde(default, rename = "startTLS", skip_serializing_if = "Option::is_none")]
    pub start_tls: Option<bool>,
    /// Allows ldap:// without encryption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_plaintext: Option<bool>,
    /// Where searches begin, such as DC=example,DC=com.
    #[serde(rename = "baseDN")]
    #[schemars(length(max = 2048))]
    pub base_dn: String,
    /// The account that searches.
    #[serde(rename = "bindDN")]
    #[schemars(length(max = 2048))]
    pub bind_dn: String,
    /// Password of that account; it reaches the server through its environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::secret_key("spec.identity.ldap.bindPasswordSecretRef"))]
    pub bind_password_secret_ref: Option<SecretKeySelector>,
    /// Attribute with the user's name; sAMAccountName when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_attr: Option<String>,
    /// Realm of the directory's users, such as EXAMPLE.COM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// Where uid and gid come from: attributes of RFC 2307 (the server's default), or the RID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idmap: Option<Idmap>,
    /// Whether groups of groups count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nested_groups: Option<bool>,
    /// Path, in the image, of the CA certificates that sign the directory's; `caSecretRef` wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_cert_file: Option<String>,
    /// CA certificates that sign the directory's, mounted for the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::secret_key("spec.identity.ldap.caSecretRef"))]
    pub ca_secret_ref: Option<SecretKeySelector>,
    /// Believes whoever answers at the address. For a laboratory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insecure_skip_verify: Option<bool>,
}

/// Where uid and gid come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Idmap {
    /// Attributes of the directory.
    Rfc2307,
    /// The last part of the SID.
    Rid,
}

/// Kerberos for NFS and SMB.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KerberosSpec {
    /// Whether the server accepts tickets. Otherwise the rest has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Principal of the server, such as nfs/files.example.com@EXAMPLE.COM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_principal: Option<String>,
    /// Realm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// `NetBIOS` name of the domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netbios_domain: Option<String>,
    /// DNS name of the domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_domain: Option<String>,
    /// The keytab, mounted at /kerberos/dittofs.keytab.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::secret_key("spec.identity.kerberos.keytabSecretRef"))]
    pub keytab_secret_ref: Option<SecretKeySelector>,
    /// A krb5.conf, mounted at /kerberos-krb5/krb5.conf; wins over `krb5Conf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::secret_key("spec.identity.kerberos.krb5ConfSecretRef"))]
    pub krb5_conf_secret_ref: Option<SecretKeySelector>,
    /// Path of a krb5.conf in the image, or the text of one (several lines, or a section in brackets), which is then
    /// mounted at /kerberos-krb5/krb5.conf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub krb5_conf: Option<String>,
    /// The server's own account in the domain, through which SMB passes NTLM on to a domain controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_account: Option<MachineAccountSpec>,
}

/// The server's own account in the domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineAccountSpec {
    /// Whether it is used. Otherwise the rest has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Name of the account, such as FILES$.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_name: Option<String>,
    /// Its password; it reaches the server through its environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::secret_key("spec.identity.kerberos.machineAccount.secretRef"))]
    pub secret_ref: Option<SecretKeySelector>,
    /// Its keytab, mounted at /kerberos-machine/machine.keytab.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::secret_key("spec.identity.kerberos.machineAccount.keytabSecretRef"))]
    pub keytab_secret_ref: Option<SecretKeySelector>,
    /// Domain controllers, as host or host:port, in order of preference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dc_address: Option<Vec<String>>,
}
