//! Certificates that the operator's tool would not make.

use std::fs;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use crate::Fleet;

/// The name of the fleet's authority, as its certificate has it.
const AUTHORITY: &str = "Sanderling fleet authority";

/// The certificate of an authority of the same name that is not the fleet's, PEM.
pub fn foreign_authority() -> String {
    let key = KeyPair::generate().unwrap();
    authority().self_signed(&key).unwrap().pem()
}

/// A client certificate of the fleet's authority that expired in 2021, and its key, PEM.
pub fn expired_client(fleet: &Fleet, name: &str) -> (String, String) {
    let authority_key = KeyPair::from_pem(&fs::read_to_string(fleet.path("authority/ca.key")).unwrap()).unwrap();
    let issuer = Issuer::new(authority(), authority_key);
    let mut params = named(name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
}

/// A new client certificate of the fleet's authority and its key, PEM. `unit` is a second name in it, by which a broker may tell it
/// from an earlier one.
pub fn renewed_client(fleet: &Fleet, name: &str, unit: &str) -> (String, String) {
    let authority_key = KeyPair::from_pem(&fs::read_to_string(fleet.path("authority/ca.key")).unwrap()).unwrap();
    let issuer = Issuer::new(authority(), authority_key);
    let mut params = named(name);
    params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_after = date_time_ymd(2037, 1, 1);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
}

fn authority() -> CertificateParams {
    let mut params = named(AUTHORITY);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
