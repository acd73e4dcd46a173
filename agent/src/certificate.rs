//! Reads the two things of this device's certificate that the agent tells people: its common name and its last day.
//!
//! Invariant: nothing here is trusted; the broker judges the certificate, and rustls the broker's.
//! Failure modes: [`CertificateError`]; a name that is not UTF-8 or a date of another form reads as absent.
//! Limits: files of 64 KiB; the first certificate of the file.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use rustls_pki_types::{CertificateDer, pem::PemObject};
use thiserror::Error;

/// A certificate that expires within so many days is to be renewed.
pub const WARN_DAYS: i64 = 30;

const MAX_FILE: u64 = 64 * 1024;

/// Why there is nothing to tell of a certificate.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CertificateError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: String,
    },
    /// There is no certificate in it.
    #[error("{path} holds no certificate in PEM ({cause})")]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
}

/// What is told of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// The last common name of the subject.
    pub common_name: Option<String>,
    /// The last second of its validity as `YYYYMMDDHHMMSSZ`.
    pub not_after: Option<String>,
}

impl Certificate {
    /// The last second of its validity, Unix seconds; `None` where it is of another form.
    pub fn expires(&self) -> Option<i64> {
        let text = self.not_after.as_deref()?;
        let (digits, "Z") = text.split_at_checked(14)? else { return None };
        if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let number = |from: usize, to: usize| digits.get(from..to)?.parse::<i64>().ok();
        let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
        let seconds = number(8, 10)? * 3600 + number(10, 12)? * 60 + number(12, 14)?;
        if !(1..=12).contains(&month) {
            return None;
        }
        // Days since 1970-01-01 of a year that begins in March, so that its leap day is its last.
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
        Some(days * 86_400 + seconds)
    }
}

/// Reads the first certificate of a PEM file.
///
/// # Errors
/// [`CertificateError`].
pub fn load(path: &Path) -> Result<Certificate, CertificateError> {
    let failed = |error: std::io::Error| CertificateError::Read { path: path.to_owned(), cause: error.to_string() };
    let mut pem = Vec::new();
    File::open(path).map_err(failed)?.take(MAX_FILE).read_to_end(&mut pem).map_err(failed)?;
    let form = |cause: String| CertificateError::Form { path: path.to_owned(), cause };
    let der = CertificateDer::from_pem_slice(&pem).map_err(|error| form(error.to_string()))?;
    parse(&der).ok_or_else(|| form("its content is not X.509".to_owned()))
}

/// `Certificate ::= SEQUENCE { SEQUENCE { [0] version, serial, algorithm, issuer, validity, subject, … }, … }` (RFC 5280, 4.1)
pub(crate) fn parse(der: &[u8]) -> Option<Certificate> {
    let (_, certificate, _) = element(der)?;
    let (_, mut rest, _) = element(certificate)?;
    if rest.first() == Some(&0xa0) {
        rest = element(rest)?.2;
    }
    for _ in ["serial", "algorithm", "issuer"] {
        rest = element(rest)?.2;
    }
    let (_, validity, rest) = element(rest)?;
    let (_, subject, _) = element(rest)?;
    let (tag, not_after, _) = element(element(validity)?.2)?;
    Some(Certificate { common_name: common_name(subject), not_after: date(tag, not_after) })
}

fn common_name(mut subject: &[u8]) -> Option<String> {
    const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
    let mut found = None;
    while let Some((_, set, rest)) = element(subject) {
        let (_, attribute, _) = element(set)?;
        let (_, kind, value) = element(attribute)?;
        if kind == COMMON_NAME {
            found = String::from_utf8(element(value)?.1.to_vec()).ok();
        }
        subject = rest;
    }
    found
}

/// UTCTime has two digits for the year, 50 to 49 (RFC 5280, 4.1.2.5.1).
fn date(tag: u8, content: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(content).ok()?;
    match tag {
        0x17 => Some(format!("{}{text}", if text < "50" { "20" } else { "19" })),
        0x18 => Some(text.to_owned()),
        _ => None,
    }
}

/// Tag, content and what follows of a DER element.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) =
            rest.split_at_checked(usize::from(first & 0x7f)).filter(|(digits, _)| digits.len() <= 3)?;
        (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn made(name: &str) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "line");
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().pem().into_bytes()
    }

    #[test]
    fn reads_name_and_last_day() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cert.pem");
        std::fs::write(&path, made("gw-1")).unwrap();
        let read = load(&path).unwrap();
        assert_eq!(read.common_name.as_deref(), Some("gw-1"));
        assert_eq!(read.not_after.as_deref(), Some("20310203000000Z"));
        assert_eq!(read.expires(), Some(1_927_843_200));
    }

    #[test]
    fn knows_the_second_of_every_date() {
        let expires = |text: &str| Certificate { common_name: None, not_after: Some(text.to_owned()) }.expires();
        for (text, seconds) in [
            ("19700101000000Z", 0),
            ("20000229235959Z", 951_868_799),
            ("20380119031408Z", 1 << 31),
            ("99991231235959Z", 253_402_300_799),
        ] {
            assert_eq!(expires(text), Some(seconds), "{text}");
        }
        for damaged in ["", "2031", "20311303000000Z", "20310203000000", "20310203000000+", "2031x203000000Z"] {
            assert_eq!(expires(damaged), None, "{damaged}");
        }
    }

    #[test]
    fn refuses_what_is_no_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cert.pem");
        assert!(matches!(load(&path), Err(CertificateError::Read { .. })));
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(matches!(load(&path), Err(CertificateError::Form { .. })));
    }

    #[test]
    fn a_certificate_that_is_cut_anywhere_is_refused_or_read_but_never_panics() {
        let der = CertificateDer::from_pem_slice(&made("gw-1")).unwrap();
        for length in 0..der.len() {
            assert_eq!(parse(&der[..length]), None, "{length}");
        }
        assert_eq!(element(&[0x30, 0x84, 1, 2, 3, 4]), None);
        assert_eq!(element(&[0x30, 0x81, 0xff]), None);
    }
}
