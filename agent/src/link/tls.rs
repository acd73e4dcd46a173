//! Mutual TLS with the fleet's broker: its authority, this device's certificate and key ([`crate::tls`]).
//!
//! Failure modes: a file that cannot be used is a [`LinkError::Credentials`] that names it. The files are read anew for every connection;
//! when is a matter of `credentials`.

use super::LinkError;
use crate::{
    settings::BrokerSettings,
    tls::{self, CredentialsError, Loaded},
};

/// Reads what the settings name for TLS with the broker.
///
/// # Errors
/// [`LinkError::Credentials`].
pub fn load(broker: &BrokerSettings) -> Result<Loaded, LinkError> {
    let refused = |CredentialsError { what, path, problem }| LinkError::Credentials { what, path, problem };
    tls::load(&broker.ca, Some((&broker.cert, &broker.key))).map_err(refused)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
        time::Duration,
    };

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
        assert!(loaded.certificate.expires().is_some());
    }
}
