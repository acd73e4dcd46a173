//! Mutual TLS: the fleet's authority, this device's certificate and key, ring.
//!
//! Invariants: only the configured CA is trusted, never the system's. The crypto provider is named here and not taken
//! from process-wide state.
//! Failure modes: a file that is missing, empty or of another form is a [`LinkError::Credentials`] that names it. The
//! files are read anew for every connection; when is a matter of `credentials`.
//! Limits: files of 256 KiB; TLS 1.2 and 1.3.

use std::{fs::File, io::Read, path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use sanderling_protocol::digest::Digest;

use super::LinkError;
use crate::{certificate, settings::BrokerSettings};

const MAX_FILE: u64 = 256 * 1024;
/// What the file of the certificate should hold.
pub(super) const CERTIFICATE: &str = "this device's certificate";

/// What is made of the files of authority, certificate and key.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// For the broker in the settings.
    pub config: Arc<ClientConfig>,
    /// Of the content of all three.
    pub digest: Digest,
    /// The common name of the certificate.
    pub common_name: Option<String>,
    /// When the certificate expires, Unix seconds.
    pub expires: Option<i64>,
}

/// Reads what the settings name for TLS with the broker.
///
/// # Errors
/// [`LinkError::Credentials`].
pub fn load(broker: &BrokerSettings) -> Result<Loaded, LinkError> {
    let mut roots = RootCertStore::empty();
    let what = "the broker's CA";
    let authority = read(&broker.ca, what)?;
    for authority in certificates(&authority, &broker.ca, what)? {
        roots.add(authority).map_err(|error| credentials(what, &broker.ca, &error))?;
    }
    let certificate = read(&broker.cert, CERTIFICATE)?;
    let chain = certificates(&certificate, &broker.cert, CERTIFICATE)?;
    let told = chain.first().and_then(|first| certificate::parse(first)).unwrap_or_default();
    let what = "this device's key";
    let private = read(&broker.key, what)?;
    let key = PrivateKeyDer::from_pem_slice(&private)
        .map_err(|error| credentials(what, &broker.key, &format!("it holds no private key in PEM ({error})")))?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_root_certificates(roots).with_client_auth_cert(chain, key))
        .map_err(|error| {
            credentials(what, &broker.key, &format!("it does not go with {} ({error})", broker.cert.display()))
        })?;
    let digest = Digest::of(&[authority, certificate, private].concat());
    let expires = told.expires();
    Ok(Loaded { config: Arc::new(config), digest, common_name: told.common_name, expires })
}

fn certificates(pem: &[u8], path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, LinkError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| credentials(what, path, &error))?;
    if found.is_empty() {
        return Err(credentials(what, path, &"it holds no certificate in PEM"));
    }
    Ok(found)
}

fn read(path: &Path, what: &'static str) -> Result<Vec<u8>, LinkError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes))
        .map_err(|error| credentials(what, path, &format!("it cannot be read ({error})")))?;
    Ok(bytes)
}

fn credentials(what: &'static str, path: &Path, problem: &dyn std::fmt::Display) -> LinkError {
    LinkError::Credentials { what, path: path.to_owned(), problem: problem.to_string() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{fs, path::PathBuf, time::Duration};

    use sanderling_protocol::topics::Topics;

    use super::*;

    fn settings(folder: &Path) -> BrokerSettings {
        BrokerSettings {
            host: "localhost".to_owned(),
            port: 8883,
            ca: folder.join("ca.pem"),
            cert: folder.join("cert.pem"),
            key: folder.join("key.pem"),
            topics: Topics::default(),
            keep_alive: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            reload: Duration::from_secs(5),
        }
    }

    fn refused(broker: &BrokerSettings) -> (PathBuf, String) {
        match load(broker).unwrap_err() {
            LinkError::Credentials { path, problem, .. } => (path, problem),
            other => panic!("{other}"),
        }
    }

    #[test]
    #[allow(clippy::panic)]
    fn names_the_file_that_cannot_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let broker = settings(folder.path());
        let key = rcgen::KeyPair::generate().unwrap();
        let other = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::new(vec!["x".to_owned()]).unwrap().self_signed(&key).unwrap();
        assert_eq!(refused(&broker).0, broker.ca);
        fs::write(&broker.ca, "nothing").unwrap();
        assert_eq!(refused(&broker), (broker.ca.clone(), "it holds no certificate in PEM".to_owned()));
        fs::write(&broker.ca, made.pem()).unwrap();
        assert_eq!(refused(&broker).0, broker.cert);
        fs::write(&broker.cert, made.pem()).unwrap();
        assert_eq!(refused(&broker).0, broker.key);
        fs::write(&broker.key, other.serialize_pem()).unwrap();
        let (path, problem) = refused(&broker);
        assert!(path == broker.key && problem.contains("does not go with"), "{problem}");
        fs::write(&broker.key, key.serialize_pem()).unwrap();
        let loaded = load(&broker).unwrap();
        assert!(loaded.expires.is_some());
    }
}
