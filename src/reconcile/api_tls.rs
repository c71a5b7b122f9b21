//! TLS of the server's REST API, as `spec.controlPlane` asks for it: who speaks it, and which Secrets are for whom.
//!
//! The pod gets the server's certificate and the CA of its clients; the operator alone reads what it trusts and what it
//! shows. An empty name is none.

/// The fields of `spec.controlPlane` about TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiTls {
    /// `tls`: never true without `cert_secret`.
    pub enabled: bool,
    /// `certSecretName`.
    pub cert_secret: Option<String>,
    /// `clientCASecretName`.
    pub client_ca_secret: Option<String>,
    /// `clientCertSecretName`.
    pub client_cert_secret: Option<String>,
    /// `caSecretName`.
    pub ca_secret: Option<String>,
}

impl ApiTls {
    /// Keys of a certificate's Secret, as of type `kubernetes.io/tls`.
    pub const CERTIFICATE: &str = "tls.crt";
    /// The private key.
    pub const KEY: &str = "tls.key";
    /// Certificates of a CA.
    pub const CA: &str = "ca.crt";

    /// The Secret with the certificate of a server that speaks TLS itself.
    pub fn native(&self) -> Option<&str> {
        self.cert_secret.as_deref().filter(|_| self.enabled)
    }

    /// The Secret with the CA of a server that asks its clients for certificates.
    pub fn mutual(&self) -> Option<&str> {
        self.client_ca_secret.as_deref().filter(|_| self.enabled)
    }

    /// Whether the API's address speaks TLS: the server, or what stands before it.
    pub fn is_spoken(&self) -> bool {
        self.enabled || self.ca_secret.is_some()
    }

    /// The Secret with the certificate that the operator shows.
    pub fn shown(&self) -> Option<&str> {
        self.client_cert_secret.as_deref().filter(|_| self.is_spoken())
    }

    /// The Secret with what the operator trusts, and its field: `caSecretName` before the server's own certificate.
    pub fn trusted(&self) -> Option<(&str, &'static str)> {
        let ca = self.ca_secret.as_deref().map(|name| (name, "caSecretName"));
        ca.or_else(|| self.native().map(|name| (name, "certSecretName")))
    }

    /// The Secrets that the operator itself reads.
    pub fn read_by_operator(&self) -> impl Iterator<Item = &str> {
        self.trusted().map(|(name, _)| name).into_iter().chain(self.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(enabled: bool) -> ApiTls {
        let name = |name: &str| Some(name.to_owned());
        ApiTls {
            enabled,
            cert_secret: name("cert"),
            client_ca_secret: name("client-ca"),
            client_cert_secret: name("client-cert"),
            ca_secret: name("ca"),
        }
    }

    #[test]
    fn without_tls_of_its_own_the_pod_gets_nothing_and_the_operator_trusts_what_it_was_told() {
        let tls = all(false);
        assert_eq!((tls.native(), tls.mutual(), tls.is_spoken()), (None, None, true));
        assert_eq!(tls.trusted(), Some(("ca", "caSecretName")));
        assert_eq!(tls.read_by_operator().collect::<Vec<_>>(), ["ca", "client-cert"]);
    }

    #[test]
    fn the_servers_own_secret_is_trusted_only_where_no_other_is_named() {
        let tls = all(true);
        assert_eq!((tls.native(), tls.mutual(), tls.is_spoken()), (Some("cert"), Some("client-ca"), true));
        assert_eq!(tls.trusted(), Some(("ca", "caSecretName")));
        let tls = ApiTls { ca_secret: None, ..tls };
        assert_eq!(tls.trusted(), Some(("cert", "certSecretName")));
        assert_eq!(tls.read_by_operator().collect::<Vec<_>>(), ["cert", "client-cert"]);
    }

    #[test]
    fn names_alone_switch_nothing_on() {
        let tls = ApiTls { ca_secret: None, ..all(false) };
        assert_eq!((tls.is_spoken(), tls.trusted(), tls.shown()), (false, None, None));
        assert_eq!(tls.read_by_operator().count(), 0);
    }
}
