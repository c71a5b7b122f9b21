//! The checked `spec.identity.ldap` and `spec.identity.kerberos`. Only what is enabled is here.

use super::SecretKey;

/// An LDAP directory that the server asks.
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the server's configuration")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ldap {
    /// `ldap://…` or `ldaps://…`, with a host.
    pub url: String,
    /// Whether a connection to `ldap://` is turned into an encrypted one.
    pub start_tls: bool,
    /// Whether `ldap://` without encryption is meant.
    pub allow_plaintext: bool,
    /// Where searches begin, not blank.
    pub base_dn: String,
    /// The account that searches, not blank.
    pub bind_dn: String,
    /// Its password.
    pub bind_password: Option<SecretKey>,
    /// Attribute with the user's name; the server's default when unset.
    pub user_attr: Option<String>,
    /// Realm of the directory's users.
    pub realm: Option<String>,
    /// `rfc2307` or `rid`; the server's default when unset.
    pub idmap: Option<String>,
    /// Whether groups of groups count.
    pub nested_groups: bool,
    /// Path in the image; [`ca_secret`](Self::ca_secret) wins.
    pub ca_cert_file: Option<String>,
    /// CA certificates that are mounted.
    pub ca_secret: Option<SecretKey>,
    /// Whether the directory's certificate is believed unseen.
    pub insecure_skip_verify: bool,
}

impl Ldap {
    /// Whether the account's password would cross the network as it is.
    pub fn is_plaintext(&self) -> bool {
        self.url.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("ldap://")) && !self.start_tls
    }
}

/// Kerberos for NFS and SMB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kerberos {
    /// Principal of the server.
    pub service_principal: Option<String>,
    /// Realm.
    pub realm: Option<String>,
    /// `NetBIOS` name of the domain.
    pub netbios_domain: Option<String>,
    /// DNS name of the domain.
    pub dns_domain: Option<String>,
    /// The keytab.
    pub keytab: Option<SecretKey>,
    /// A krb5.conf; wins over [`krb5_conf`](Self::krb5_conf).
    pub krb5_conf_secret: Option<SecretKey>,
    /// A krb5.conf that is no Secret.
    pub krb5_conf: Option<Krb5Conf>,
    /// The server's own account in the domain.
    pub machine_account: Option<MachineAccount>,
}

impl Kerberos {
    /// The text of the krb5.conf that is mounted from the ConfigMap.
    pub fn inline_krb5_conf(&self) -> Option<&str> {
        match (&self.krb5_conf_secret, &self.krb5_conf) {
            (None, Some(Krb5Conf::Text(text))) => Some(text),
            _ => None,
        }
    }
}

/// A krb5.conf that is no Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Krb5Conf {
    /// A file that the image brings. The only form that the Go operator knows.
    Path(String),
    /// The text itself.
    Text(String),
}

/// The server's own account in the domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineAccount {
    /// Name of the account.
    pub account_name: Option<String>,
    /// Its password.
    pub secret: Option<SecretKey>,
    /// Its keytab.
    pub keytab: Option<SecretKey>,
    /// Domain controllers, in order of preference, none blank.
    pub dc_address: Vec<String>,
}
