//! The webhook's certificate: read from a mounted Secret, and read again while the process runs.
//!
//! Owns what is presented to those who connect. Touches two files, `tls.crt` and `tls.key`, each [`EVERY`]. Guarantees: a
//! new certificate is presented from the next connection on, without a restart; one that cannot be used changes nothing but
//! a count and a line of the log; both files are of one version of the Secret, since the kubelet changes a mounted one by
//! one link; a key is in no log, no error and no `Debug`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sha2::{Digest as _, Sha256};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::dittofs::expiry;
use crate::telemetry::metrics::Metrics;

/// Between two looks at the files; a kubelet takes up to a minute to bring a new Secret.
const EVERY: Duration = Duration::from_secs(2);
/// Most that is read of a file.
const FILE_MAX: u64 = 256 * 1024;
/// What metrics call it.
const PURPOSE: &str = "webhook";
/// The link that the kubelet turns.
const VERSION: &str = "..data";

/// What is presented to those who connect; nothing before a certificate was loaded, and their handshake fails.
#[derive(Default)]
pub(super) struct Presented(RwLock<Option<Arc<CertifiedKey>>>);

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Why files cannot be used; nothing of what they hold is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {}: {why}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's word for it.
        why: String,
    },
    /// There is no certificate in it.
    #[error("tls.crt holds no readable certificate; put certificates in PEM there, the server's own first")]
    NoCertificate,
    /// There is no key in it.
    #[error("tls.key holds no readable private key; put an unencrypted key in PEM there")]
    NoKey,
    /// They are of two pairs, or of a kind that is not known.
    #[error("tls.key does not belong to tls.crt, or is of a kind that is not known; put both of one pair there")]
    Mismatch,
}

/// The bytes of both files.
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Files {
    fn read(directory: &Path) -> Result<Self, CertificateError> {
        // Through the link once: a turn of it between the two reads would give a certificate and another one's key.
        let version = directory.join(VERSION).canonicalize().unwrap_or_else(|_| directory.to_owned());
        let read = |name: &str| {
            let path = version.join(name);
            read_file(&path)
                .map_err(|error| CertificateError::Read { path: directory.join(name), why: error.to_string() })
        };
        Ok(Self { certificate: read("tls.crt")?, key: read("tls.key")? })
    }

    fn digest(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        for bytes in [&self.certificate, &self.key] {
            hasher.update((bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        }
        hasher.finalize().into()
    }

    /// The pair, and when its first certificate expires, in seconds since 1970.
    fn pair(&self) -> Result<(CertifiedKey, i64), CertificateError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate).collect();
        let chain = chain.map_err(|_| CertificateError::NoCertificate)?;
        let expires = chain.first().and_then(|leaf| expiry(leaf)).ok_or(CertificateError::NoCertificate)?;
        // The parser's own words could quote what it found.
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| CertificateError::NoKey)?;
        let pair = CertifiedKey::from_der(chain, key, &default_provider()).map_err(|_| CertificateError::Mismatch)?;
        Ok((pair, expires))
    }
}

fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What was tried last: what is tried again and comes out the same is not told again.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tried {
    Bytes([u8; 32]),
    Unread(CertificateError),
}

/// Looks at the files again and again.
pub(super) struct Reloader {
    directory: PathBuf,
    presented: Arc<Presented>,
    metrics: Metrics,
    tried: Option<Tried>,
}

impl Reloader {
    /// One that has read nothing.
    pub(super) fn new(directory: PathBuf, presented: Arc<Presented>, metrics: Metrics) -> Self {
        Self { directory, presented, metrics, tried: None }
    }

    /// Looks for as long as the process lives.
    pub(super) async fn follow(mut self) {
        loop {
            sleep(EVERY).await;
            self.reload().await;
        }
    }

    /// Takes up what the files hold now, when that is new and can be used.
    pub(super) async fn reload(&mut self) {
        let directory = self.directory.clone();
        let read = tokio::task::spawn_blocking(move || Files::read(&directory)).await;
        let read = read.unwrap_or(Err(CertificateError::NoCertificate));
        let tried = match &read {
            Ok(files) => Tried::Bytes(files.digest()),
            Err(error) => Tried::Unread(error.clone()),
        };
        if self.tried.replace(tried.clone()) == Some(tried) {
            return;
        }
        match read.and_then(|files| files.pair()) {
            Ok((pair, expires)) => {
                *self.presented.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(pair));
                self.metrics.certificate_reloaded(PURPOSE, true);
                #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are exact in it for ages")]
                self.metrics.certificate(PURPOSE, expires as f64);
                let until = Timestamp::from_second(expires).map_or_else(|_| "?".to_owned(), |time| time.to_string());
                info!(until, "the webhook's certificate was loaded");
            }
            Err(error) => {
                self.metrics.certificate_reloaded(PURPOSE, false);
                let kept = self.presented.0.read().unwrap_or_else(PoisonError::into_inner).is_some();
                warn!(%error, kept, "the webhook's certificate cannot be loaded");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use dittofs_testbed::certs::{Authority, Issued};

    use super::*;
    use crate::telemetry::metrics::Format;

    struct Mounted {
        directory: tempfile::TempDir,
        versions: u32,
    }

    impl Mounted {
        fn new() -> Self {
            Self { directory: tempfile::tempdir().unwrap(), versions: 0 }
        }

        /// As the kubelet changes a mounted Secret: another directory, and one link that turns.
        fn put(&mut self, certificate: &str, key: &str) {
            let root = self.directory.path();
            self.versions += 1;
            let version = format!("..{}", self.versions);
            std::fs::create_dir(root.join(&version)).unwrap();
            std::fs::write(root.join(&version).join("tls.crt"), certificate).unwrap();
            std::fs::write(root.join(&version).join("tls.key"), key).unwrap();
            symlink(&version, root.join("..data_tmp")).unwrap();
            std::fs::rename(root.join("..data_tmp"), root.join(VERSION)).unwrap();
            for name in ["tls.crt", "tls.key"] {
                let _ = symlink(Path::new(VERSION).join(name), root.join(name));
            }
        }

        fn issue(&mut self, issued: &Issued) {
            self.put(&issued.certificate, &issued.key);
        }
    }

    fn shown(presented: &Presented) -> Option<Vec<u8>> {
        let pair = presented.0.read().unwrap().clone();
        pair.map(|pair| pair.cert[0].to_vec())
    }

    fn counted(metrics: &Metrics, outcome: &str) -> u32 {
        let text = metrics.encode(Format::Prometheus).unwrap();
        let name = format!("dittofs_operator_certificate_reloads_total{{purpose=\"webhook\",outcome=\"{outcome}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap()
    }

    #[tokio::test]
    async fn a_new_pair_is_taken_up_and_what_cannot_be_used_leaves_the_old_one() {
        let (ca, mut mounted) = (Authority::new("ca"), Mounted::new());
        let (presented, metrics) = (Arc::new(Presented::default()), Metrics::default());
        let mut reloader = Reloader::new(mounted.directory.path().to_owned(), presented.clone(), metrics.clone());
        let counts = || (counted(&metrics, "loaded"), counted(&metrics, "failed"));
        for _ in 0..3 {
            reloader.reload().await;
        }
        assert_eq!((shown(&presented), counts()), (None, (0, 1)), "nothing is mounted, which is told once");
        let (first, second) = (ca.server(&["localhost"]), ca.server(&["localhost"]));
        mounted.issue(&first);
        for _ in 0..3 {
            reloader.reload().await;
        }
        let old = shown(&presented);
        assert!(old.is_some());
        assert_eq!(counts(), (1, 1));
        for (certificate, key) in [
            (first.certificate.as_str(), second.key.as_str()),
            ("", first.key.as_str()),
            ("-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n-----END CERTIFICATE-----\n", first.key.as_str()),
            (second.certificate.as_str(), "-----BEGIN PRIVATE KEY-----\ncanary"),
        ] {
            mounted.put(certificate, key);
            reloader.reload().await;
            reloader.reload().await;
            assert_eq!(shown(&presented), old);
        }
        assert_eq!(counts(), (1, 5));
        mounted.issue(&second);
        reloader.reload().await;
        assert!(shown(&presented) != old);
        assert_eq!(counts(), (2, 5));
        let text = metrics.encode(Format::Prometheus).unwrap();
        let expiry = "dittofs_operator_certificate_expiry_timestamp_seconds{purpose=\"webhook\"} 20512";
        assert!(text.contains(expiry), "{text}");
    }

    #[test]
    fn an_error_names_the_file_and_nothing_that_is_in_it() {
        let mut mounted = Mounted::new();
        let path = mounted.directory.path().to_owned();
        let said = |path: &Path| match Files::read(path).and_then(|files| files.pair()) {
            Ok(_) => panic!("no such pair"),
            Err(error) => format!("{error} {error:?}"),
        };
        assert!(said(&path).contains("tls.crt"), "{}", said(&path));
        mounted.put(&Authority::new("ca").server(&["a"]).certificate, "canary-4711");
        assert!(said(&path).starts_with("tls.key holds no readable private key") && !said(&path).contains("canary"));
        assert_eq!(format!("{:?}", Presented::default()), "Presented { .. }");
    }

    #[test]
    fn both_files_are_of_one_version() {
        let mut mounted = Mounted::new();
        mounted.put("one", "one");
        let at = mounted.directory.path().join(VERSION).canonicalize().unwrap();
        mounted.put("two", "two");
        let files = Files::read(mounted.directory.path()).unwrap();
        assert_eq!((files.certificate.as_slice(), files.key.as_slice()), (&b"two"[..], &b"two"[..]));
        assert!(at.join("tls.crt").exists());
    }
}
