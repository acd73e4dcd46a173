//! TLS towards a broker: an authority, and where the broker asks for one a certificate with its key; ring.
//!
//! Invariants: only the named authority is trusted, never the system's. The crypto provider is named here and not taken from process-wide
//! state.
//! Failure modes: a file that is missing, empty or of another form is a [`CredentialsError`] that names it.
//! Limits: files of 256 KiB; TLS 1.2 and 1.3.

use std::{
    fmt::Display,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use sanderling_protocol::digest::Digest;
use thiserror::Error;

use crate::certificate::{self, Certificate};

/// What the file of the certificate should hold.
pub const CERTIFICATE: &str = "this device's certificate";
const MAX_FILE: u64 = 256 * 1024;

/// A file cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{what} {path}: {problem}", path = path.display())]
pub struct CredentialsError {
    /// What the file should hold.
    pub what: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

/// The files of a connection, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authority that signs the broker's certificate.
    pub ca: PathBuf,
    /// The certificate chain to show, and its private key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// What is made of the files of a connection.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// For the broker.
    pub config: Arc<ClientConfig>,
    /// Of the content of all files.
    pub digest: Digest,
    /// What the certificate to show says of itself; nothing without one.
    pub certificate: Certificate,
}

/// Reads what a connection needs: the authority, and the certificate chain to show with its private key.
///
/// # Errors
/// [`CredentialsError`].
pub fn load(ca: &Path, identity: Option<(&Path, &Path)>) -> Result<Loaded, CredentialsError> {
    let mut roots = RootCertStore::empty();
    let what = "the broker's CA";
    let mut content = read(ca, what)?;
    for authority in certificates(&content, ca, what)? {
        roots.add(authority).map_err(|error| credentials(what, ca, &error))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| credentials(what, ca, &error))?
        .with_root_certificates(roots);
    let Some((cert, key)) = identity else {
        let config = Arc::new(builder.with_no_client_auth());
        return Ok(Loaded { config, digest: Digest::of(&content), certificate: Certificate::default() });
    };
    let chain_pem = read(cert, CERTIFICATE)?;
    let chain = certificates(&chain_pem, cert, CERTIFICATE)?;
    let certificate = chain.first().and_then(|first| certificate::parse(first)).unwrap_or_default();
    let what = "this device's key";
    let key_pem = read(key, what)?;
    let secret = PrivateKeyDer::from_pem_slice(&key_pem)
        .map_err(|error| credentials(what, key, &format!("it holds no private key in PEM ({error})")))?;
    let config = builder
        .with_client_auth_cert(chain, secret)
        .map_err(|error| credentials(what, key, &format!("it does not go with {} ({error})", cert.display())))?;
    content.extend(chain_pem.into_iter().chain(key_pem));
    Ok(Loaded { config: Arc::new(config), digest: Digest::of(&content), certificate })
}

fn certificates(pem: &[u8], path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| credentials(what, path, &error))?;
    if found.is_empty() {
        return Err(credentials(what, path, &"it holds no certificate in PEM"));
    }
    Ok(found)
}

fn read(path: &Path, what: &'static str) -> Result<Vec<u8>, CredentialsError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes))
        .map_err(|error| credentials(what, path, &format!("it cannot be read ({error})")))?;
    Ok(bytes)
}

fn credentials(what: &'static str, path: &Path, problem: &dyn Display) -> CredentialsError {
    CredentialsError { what, path: path.to_owned(), problem: problem.to_string() }
}
