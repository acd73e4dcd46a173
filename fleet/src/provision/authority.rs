//! The fleet's certificate authority: ECDSA on P-256, which every TLS library has.

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::home::{self, Home};

/// A certificate and its private key, as PEM.
pub(crate) struct Issued {
    /// The certificate.
    pub(crate) cert: String,
    /// The private key.
    pub(crate) key: String,
}

/// Signs certificates for broker, devices and operator.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The authority's certificate, as PEM.
    pub(crate) cert: String,
}

impl Authority {
    /// Opens the fleet's authority, and makes it when it is not there yet.
    pub(crate) fn open(home: &Home) -> Result<Self> {
        let (cert_file, key_file) = (home.path("authority/ca.pem"), home.path("authority/ca.key"));
        if !key_file.exists() {
            let key = KeyPair::generate()?;
            let cert = params("Sanderling fleet authority", None)?.self_signed(&key)?;
            home::write_secret(&key_file, key.serialize_pem().as_bytes())?;
            home::write(&cert_file, cert.pem().as_bytes())?;
        }
        let key = KeyPair::from_pem(&home::read_text(&key_file)?)
            .with_context(|| format!("{} is not usable", key_file.display()))?;
        let cert = home::read_text(&cert_file)?;
        Ok(Self { issuer: Issuer::new(params("Sanderling fleet authority", None)?, key), cert })
    }

    /// A certificate for a client; its common name is its identity.
    pub(crate) fn client(&self, name: &str) -> Result<Issued> {
        self.issue(params(name, Some(ExtendedKeyUsagePurpose::ClientAuth))?)
    }

    /// A certificate for a server that is reached under these names and addresses.
    pub(crate) fn server(&self, names: &[String]) -> Result<Issued> {
        let mut params =
            params(names.first().map_or("broker", String::as_str), Some(ExtendedKeyUsagePurpose::ServerAuth))?;
        params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
        self.issue(params)
    }

    fn issue(&self, params: CertificateParams) -> Result<Issued> {
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok(Issued { cert: cert.pem(), key: key.serialize_pem() })
    }
}

/// Parameters of an authority, or of a leaf for one purpose. Validity is rcgen's: 1975 to 4096, since a gateway may boot in 1970-something
/// and nobody visits it to renew; a stolen device is locked out by the broker's access list and revocation list.
fn params(name: &str, purpose: Option<ExtendedKeyUsagePurpose>) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    match purpose {
        None => {
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        }
        Some(purpose) => {
            params.use_authority_key_identifier_extension = true;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![purpose];
        }
    }
    Ok(params)
}
