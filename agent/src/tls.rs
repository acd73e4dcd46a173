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
use thiserror::Error;

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

/// The configuration that these files make. They are read anew each time, so that a renewed certificate needs no restart.
///
/// # Errors
/// [`CredentialsError`].
pub fn client_config(ca: &Path, identity: Option<(&Path, &Path)>) -> Result<Arc<ClientConfig>, CredentialsError> {
    let mut roots = RootCertStore::empty();
    let what = "the broker's CA";
    for authority in certificates(ca, what)? {
        roots.add(authority).map_err(|error| credentials(what, ca, &error))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| credentials(what, ca, &error))?
        .with_root_certificates(roots);
    let Some((cert, key)) = identity else { return Ok(Arc::new(builder.with_no_client_auth())) };
    let chain = certificates(cert, "this device's certificate")?;
    let what = "this device's key";
    let secret = PrivateKeyDer::from_pem_slice(&read(key, what)?)
        .map_err(|error| credentials(what, key, &format!("it holds no private key in PEM ({error})")))?;
    let config = builder
        .with_client_auth_cert(chain, secret)
        .map_err(|error| credentials(what, key, &format!("it does not go with {} ({error})", cert.display())))?;
    Ok(Arc::new(config))
}

fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(&read(path, what)?)
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
