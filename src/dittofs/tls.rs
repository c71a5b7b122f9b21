//! TLS with a server's API: what is trusted there, what is shown, and what a failure means.
//!
//! Verification is always on: there is no switch. Trusted is what the server's Secrets say and nothing else, not the
//! system's roots; the name in the certificate has to be the host of the API's URL. A key is in no error, no `Debug` and
//! no log. One HTTP client is made for each distinct setting and shared while somebody holds it; it speaks HTTP/1.1, as
//! the plain one.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use k8s_openapi::jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use sha2::{Digest as _, Sha256};

use super::error::excerpt;

/// What the Secrets of one server say about TLS with its API.
#[derive(Clone)]
pub struct TlsMaterial {
    /// What is trusted.
    pub trusted: Pem,
    /// What is shown when the server asks for it: the certificate, and its key.
    pub shown: Option<(Pem, Pem)>,
    /// Whether the server is set up to let in only clients with a certificate.
    pub mutual: bool,
}

/// One key of a Secret, in PEM.
#[derive(Clone)]
pub struct Pem {
    /// Name of the Secret.
    pub secret: String,
    /// The field of `spec.controlPlane` that names it.
    pub field: &'static str,
    /// The key.
    pub key: &'static str,
    /// Its value.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pem").field("secret", &self.secret).field("key", &self.key).finish_non_exhaustive()
    }
}

impl fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsMaterial")
            .field("trusted", &self.trusted)
            .field("shown", &self.shown)
            .finish_non_exhaustive()
    }
}

/// No TLS connection can be tried: a Secret does not say what it should.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It is missing, or what stands in it cannot be used.
    #[error("Secret {secret}, named in spec.controlPlane.{field}: {problem}")]
    Secret {
        /// Name of the Secret.
        secret: String,
        /// The field of `spec.controlPlane` that names it.
        field: &'static str,
        /// What is wrong, and what to do about it.
        problem: String,
    },
    /// It could not be read.
    #[error("cannot read Secret {secret}: {source}")]
    Read {
        /// Name of the Secret.
        secret: String,
        /// Whether trying again may help: the API server is away, or too busy.
        transient: bool,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The time of the poll was up first.
    #[error("the Secrets for TLS were not read within the poll's time")]
    Timeout,
    /// The client refused its settings.
    #[error("cannot make the HTTPS client: {cause}")]
    Client {
        /// The innermost cause.
        cause: String,
    },
}

impl Pem {
    fn bad(&self, problem: &str) -> TlsError {
        let problem = format!("its {} {problem}", self.key);
        TlsError::Secret { secret: self.secret.clone(), field: self.field, problem }
    }

    /// At least one certificate.
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        let found = found.ok().filter(|found| !found.is_empty() && found.iter().all(|der| expiry(der).is_some()));
        found.ok_or_else(|| self.bad("holds no readable certificate; put certificates in PEM there"))
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        // The parser's own words could quote what it found.
        PrivateKeyDer::from_pem_slice(&self.bytes)
            .map_err(|_| self.bad("holds no readable private key; put an unencrypted key in PEM there"))
    }
}

impl TlsMaterial {
    /// What tells one setting from another.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        let shown = self.shown.iter().flat_map(|(certificate, key)| [certificate, key]);
        for pem in [&self.trusted].into_iter().chain(shown) {
            hasher.update((pem.bytes.len() as u64).to_be_bytes());
            hasher.update(&pem.bytes);
        }
        hasher.finalize().into()
    }

    /// The settings of a client, and when the certificate that it shows expires.
    pub(super) fn config(&self) -> Result<(ClientConfig, Option<i64>), TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.trusted.certificates()? {
            roots.add(certificate).map_err(|_| self.trusted.bad("holds a certificate that cannot be trusted"))?;
        }
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let Some((certificate, key)) = &self.shown else { return Ok((builder.with_no_client_auth(), None)) };
        let chain = certificate.certificates()?;
        let expires = chain.first().and_then(|leaf| expiry(leaf));
        let config = builder.with_client_auth_cert(chain, key.private_key()?);
        let config =
            config.map_err(|_| key.bad("does not belong to its tls.crt, or is of a kind that is not known"))?;
        Ok((config, expires))
    }
}

/// When a certificate expires, in seconds since 1970; None for what is no certificate.
pub(crate) fn expiry(der: &[u8]) -> Option<i64> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

/// The clients that somebody holds, by their setting.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared(Arc<Mutex<HashMap<[u8; 32], Weak<reqwest::Client>>>>);

impl Shared {
    /// The client of a setting; `make` makes it when nobody holds one.
    pub(super) fn get<E>(
        &self,
        setting: [u8; 32],
        make: impl FnOnce() -> Result<reqwest::Client, E>,
    ) -> Result<Arc<reqwest::Client>, E> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = held.get(&setting).and_then(Weak::upgrade) {
            return Ok(client);
        }
        let client = Arc::new(make()?);
        held.retain(|_, client| client.strong_count() > 0);
        held.insert(setting, Arc::downgrade(&client));
        Ok(client)
    }
}

/// What a connection has to know to say why it failed.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    /// What is trusted, in words.
    pub(super) trusts: String,
    /// The Secret with what is shown.
    pub(super) shows: Option<String>,
    /// See [`TlsMaterial::mutual`].
    pub(super) mutual: bool,
}

impl Terms {
    pub(super) fn of(material: &TlsMaterial) -> Self {
        let Pem { secret, key, .. } = &material.trusted;
        Self {
            trusts: format!("{key} of Secret {secret}"),
            shows: material.shown.as_ref().map(|(certificate, _)| certificate.secret.clone()),
            mutual: material.mutual,
        }
    }
}

/// Why there is no TLS connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// The server's certificate is signed by nothing that is trusted.
    Untrusted,
    /// It is not valid now.
    Expired,
    /// It is for other names.
    WrongName,
    /// The server wants another certificate of the operator, or one at all.
    ClientCertificate,
    /// What answers does not speak TLS.
    NotSpoken,
    /// Anything else.
    Other,
}

impl TlsFault {
    /// For metrics and events.
    pub fn category(self) -> &'static str {
        match self {
            Self::Untrusted => "tls-untrusted",
            Self::Expired => "tls-expired",
            Self::WrongName => "tls-wrong-name",
            Self::ClientCertificate => "tls-client-certificate",
            Self::NotSpoken => "tls-not-spoken",
            Self::Other => "tls-failed",
        }
    }
}

/// What kind of failure of TLS with `host` this is, and what to do about it; None when it is none of TLS.
pub(super) fn fault(error: &reqwest::Error, host: &str, terms: Option<&Terms>) -> Option<(TlsFault, String)> {
    let host = excerpt(host, &[]);
    let Some(cause) = find(error) else {
        // A server of TLS 1.3 looks at the client's certificate after the client is done: its alert can get lost.
        let bare = terms.is_some_and(|terms| terms.mutual && terms.shows.is_none());
        return (bare && !error.is_connect()).then(|| (TlsFault::ClientCertificate, no_certificate()));
    };
    let day = |time: &UnixTime| {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        Timestamp::from_second(seconds).map_or_else(|_| "an unknown day".to_owned(), |at| at.strftime("%F").to_string())
    };
    let trusts = terms.map_or("the system's CAs", |terms| &terms.trusts);
    Some(match cause {
        rustls::Error::InvalidCertificate(why) => match why {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => (
                TlsFault::Untrusted,
                format!(
                    "the certificate of {host} is not signed by what is trusted ({trusts}); put the CA that signed it \
                     there, or name a Secret with its ca.crt in spec.controlPlane.caSecretName"
                ),
            ),
            CertificateError::Expired => {
                (TlsFault::Expired, format!("the certificate of {host} has expired; renew it"))
            }
            CertificateError::ExpiredContext { not_after, .. } => {
                (TlsFault::Expired, format!("the certificate of {host} expired on {}; renew it", day(not_after)))
            }
            CertificateError::NotValidYet => {
                (TlsFault::Expired, format!("the certificate of {host} is not valid yet; look at the clocks"))
            }
            CertificateError::NotValidYetContext { not_before, .. } => (
                TlsFault::Expired,
                format!("the certificate of {host} is not valid before {}; look at the clocks", day(not_before)),
            ),
            CertificateError::NotValidForName => {
                (TlsFault::WrongName, format!("the certificate is not for {host}; issue it for that name"))
            }
            CertificateError::NotValidForNameContext { presented, .. } => {
                let names = presented.iter().map(|name| bare_name(name)).collect::<Vec<_>>().join(", ");
                let names = if names.is_empty() { "no name".to_owned() } else { excerpt(&names, &[]) };
                let text = format!("the certificate is not for {host} (it is for {names}); issue it for that name");
                (TlsFault::WrongName, text)
            }
            // Of webpki, whose errors are not told apart here.
            other if format!("{other:?}").contains("CaUsedAsEndEntity") => (
                TlsFault::Untrusted,
                format!("the certificate of {host} is a CA's (CA:TRUE) and not a server's; issue one for the server"),
            ),
            other => (
                TlsFault::Other,
                format!("the certificate of {host} cannot be used: {}", excerpt(&other.to_string(), &[])),
            ),
        },
        rustls::Error::AlertReceived(alert) if is_about_our_certificate(*alert) => {
            let text = match terms.and_then(|terms| terms.shows.as_deref()) {
                None => no_certificate(),
                Some(secret) => format!(
                    "the server does not take the operator's certificate of Secret {secret} ({alert:?}); it has to be \
                     valid, and signed by the CA of spec.controlPlane.clientCASecretName"
                ),
            };
            (TlsFault::ClientCertificate, text)
        }
        rustls::Error::InvalidMessage(_) => (
            TlsFault::NotSpoken,
            format!(
                "{host} does not speak TLS; a server whose spec.controlPlane.tls was just set does after its start"
            ),
        ),
        other => (TlsFault::Other, format!("no TLS connection with {host}: {}", excerpt(&other.to_string(), &[]))),
    })
}

fn no_certificate() -> String {
    "the server asks for a client certificate and the operator has none; name a Secret with tls.crt and tls.key in \
     spec.controlPlane.clientCertSecretName"
        .to_owned()
}

fn is_about_our_certificate(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
            | Alert::NoCertificate
    )
}

/// `DnsName("files")` as rustls shows it, without what is around it.
fn bare_name(shown: &str) -> &str {
    shown.split_once('(').map_or(shown, |(_, rest)| rest.trim_end_matches(')')).trim_matches('"')
}

/// The error of the TLS library inside; an I/O error shows it by no `source`.
fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        let wrapped = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => inner.source(),
        };
    }
    None
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
