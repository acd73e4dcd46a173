//! Certificates made for one test, in a folder of its own.

use std::{fs, path::PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
};
use tempfile::TempDir;

pub(crate) struct Pki {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Each CA has a name of its own, as fleets do.
        let name = format!("fleet {}", folder.path().display());
        params.distinguished_name.push(DnType::CommonName, name);
        fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Certificate and key of a device.
    pub(crate) fn device(&self, id: &str) -> (PathBuf, PathBuf) {
        self.make(id, &[], false)
    }

    /// Certificate and key of a device that is years too late.
    pub(crate) fn expired_device(&self, id: &str) -> (PathBuf, PathBuf) {
        self.make(id, &[], true)
    }

    /// Certificate and key of a broker for these host names.
    pub(crate) fn broker(&self, hosts: &[&str], expired: bool) -> (PathBuf, PathBuf) {
        self.make("broker", hosts, expired)
    }

    fn make(&self, name: &str, hosts: &[&str], expired: bool) -> (PathBuf, PathBuf) {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if expired {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let kind = if expired { "expired" } else { "good" };
        let paths = (
            self.folder.path().join(format!("{name}.{kind}.pem")),
            self.folder.path().join(format!("{name}.{kind}.key")),
        );
        fs::write(&paths.0, cert.pem()).unwrap();
        fs::write(&paths.1, key.serialize_pem()).unwrap();
        paths
    }
}
