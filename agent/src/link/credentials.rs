//! Certificate, key and authority, as they are renewed under a link that stands.
//!
//! Purpose: whoever renews a certificate writes files and does nothing else. They are read anew for each connection, and looked at while
//! one stands: when they have changed, can be used and have been left alone for one look, the connection is to be made anew with them.
//!
//! Invariants: what cannot be used (a file that is gone, a key that does not go with the certificate, as while only one of the two is written, a
//! certificate of another device) never takes the place of what can: that goes on being used, and what is wrong is told once. What
//! the broker refuses gives way to what it took before, until the files change again.
//!
//! Failure modes: without anything that worked before, an error is the [`LinkError`] of the connection.
//!
//! Limits: a change is recognised by inode, size and times of a file, those of what a symbolic link leads to; looked for every
//! `[broker] reload_s`. The common name must stay what it is; to become another device, the agent is restarted.

use std::{fs, os::unix::fs::MetadataExt, path::Path, sync::Arc};

use rustls::ClientConfig;
use sanderling_protocol::digest::Digest;

use super::{LinkError, tls};
use crate::{
    settings::BrokerSettings,
    tls::{CERTIFICATE, Loaded},
};

/// What lies at a path, without reading it: device, inode, size, and when content or inode changed last.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// What is told of this device's certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// When the one that is used expires, Unix seconds.
    pub(super) expires: Option<i64>,
    /// Why the one in the files is not used.
    pub(super) refused: Option<LinkError>,
}

/// The files, and what was made of them.
#[derive(Debug)]
pub(super) struct Credentials {
    /// What a connection stood with.
    good: Option<Loaded>,
    /// What the connection under way is made with.
    used: Option<Loaded>,
    /// What the broker did not take.
    rejected: Option<(Digest, LinkError)>,
    stamps: [Stamp; 3],
    /// What lies there was judged.
    judged: bool,
    news: News,
    told: Option<News>,
}

impl Credentials {
    pub(super) fn new() -> Self {
        Self {
            good: None,
            used: None,
            rejected: None,
            stamps: [None; 3],
            judged: false,
            news: News::default(),
            told: None,
        }
    }

    /// What the next connection is made with.
    ///
    /// # Errors
    /// [`LinkError`] where the files cannot be used and nothing worked before.
    pub(super) fn choose(&mut self, broker: &BrokerSettings) -> Result<Arc<ClientConfig>, LinkError> {
        // Before the files are read: what is written meanwhile is then a change.
        self.stamps = stamps(broker);
        self.judged = true;
        let chosen = match (self.read(broker), &self.good) {
            (Ok(loaded), _) => {
                self.news.refused = None;
                loaded
            }
            (Err(error), Some(good)) => {
                self.news.refused = Some(error);
                good.clone()
            }
            (Err(error), None) => return Err(error),
        };
        self.news.expires = chosen.certificate.expires();
        Ok(self.used.insert(chosen).config.clone())
    }

    /// The connection stands.
    pub(super) fn stood(&mut self) {
        self.good.clone_from(&self.used);
    }

    /// The connection could not be made, or broke.
    pub(super) fn failed(&mut self, error: &LinkError) {
        let Some(used) = &self.used else { return };
        if !matches!(error, LinkError::DeviceCertificate { .. } | LinkError::WrongAuthority { .. }) {
            return;
        }
        let is_good = self.good.as_ref().is_some_and(|good| good.digest == used.digest);
        // Where the broker does not take what it took before either, what lies there is as good.
        self.rejected = (!is_good).then(|| (used.digest, error.clone()));
    }

    /// Looks at the files while a connection stands; `true` where it is to be made anew.
    pub(super) fn look(&mut self, broker: &BrokerSettings) -> bool {
        let stamps = stamps(broker);
        if stamps != self.stamps {
            // Somebody writes; another look tells whether that is over.
            (self.stamps, self.judged) = (stamps, false);
            return false;
        }
        if std::mem::replace(&mut self.judged, true) {
            return false;
        }
        match self.read(broker) {
            Ok(loaded) => {
                self.news.refused = None;
                self.used.as_ref().is_none_or(|used| used.digest != loaded.digest)
            }
            Err(error) => {
                self.news.refused = Some(error);
                false
            }
        }
    }

    /// What was not told yet.
    pub(super) fn news(&mut self) -> Option<News> {
        if self.told.as_ref() == Some(&self.news) {
            return None;
        }
        self.told = Some(self.news.clone());
        self.told.clone()
    }

    /// What lies there, if it can be used.
    fn read(&self, broker: &BrokerSettings) -> Result<Loaded, LinkError> {
        let loaded = tls::load(broker)?;
        if let Some((digest, error)) = &self.rejected
            && *digest == loaded.digest
            && self.good.is_some()
        {
            return Err(error.clone());
        }
        match &self.good {
            Some(good) if good.certificate.common_name != loaded.certificate.common_name => {
                let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "nobody".to_owned());
                let problem = format!(
                    "it is for {} and this device is {}; restart the agent to make it another device",
                    name(&loaded.certificate.common_name),
                    name(&good.certificate.common_name)
                );
                Err(LinkError::Credentials { what: CERTIFICATE, path: broker.cert.clone(), problem })
            }
            _ => Ok(loaded),
        }
    }
}

fn stamps(broker: &BrokerSettings) -> [Stamp; 3] {
    [&broker.ca, &broker.cert, &broker.key].map(|path| stamp(path))
}

fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use sanderling_protocol::topics::Topics;
    use tempfile::TempDir;

    use super::*;

    struct Files {
        folder: TempDir,
        broker: BrokerSettings,
    }

    /// A certificate and its key.
    struct Pair {
        cert: String,
        key: String,
    }

    fn pair(name: &str) -> Pair {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        Pair { cert: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
    }

    impl Files {
        fn new(first: &Pair) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let at = |name: &str| folder.path().join(name);
            let broker = BrokerSettings {
                host: "localhost".to_owned(),
                port: 8883,
                ca: at("ca.pem"),
                cert: at("cert.pem"),
                key: at("key.pem"),
                topics: Topics::default(),
                keep_alive: Duration::from_secs(30),
                connect_timeout: Duration::from_secs(5),
                backoff_min: Duration::from_secs(1),
                backoff_max: Duration::from_secs(60),
                reload: Duration::from_secs(5),
            };
            fs::write(&broker.ca, pair("authority").cert).unwrap();
            let files = Self { folder, broker };
            files.put(&first.cert, &files.broker.cert);
            files.put(&first.key, &files.broker.key);
            files
        }

        /// As a file is replaced by those who do it well.
        fn put(&self, text: &str, path: &Path) {
            let new = self.folder.path().join("new");
            fs::write(&new, text).unwrap();
            fs::rename(new, path).unwrap();
        }

        /// What a link does whose connection stands, and what it was told.
        fn standing(&self) -> Credentials {
            let mut credentials = Credentials::new();
            credentials.choose(&self.broker).unwrap();
            credentials.stood();
            assert_eq!(credentials.news().unwrap().expires, Some(1_927_843_200));
            assert_eq!(credentials.news(), None, "once");
            credentials
        }

        /// What two looks see: one that something changed, and one that it is left alone.
        fn looked_at(&self, credentials: &mut Credentials) -> bool {
            assert!(!credentials.look(&self.broker), "what may still be written is not read");
            credentials.look(&self.broker)
        }
    }

    fn rejection(files: &Files) -> LinkError {
        LinkError::DeviceCertificate { cert: files.broker.cert.clone(), alert: "UnknownCA".to_owned() }
    }

    #[test]
    fn files_that_stay_as_they_are_or_are_only_touched_change_nothing() {
        let first = pair("gw-1");
        let files = Files::new(&first);
        let mut credentials = files.standing();
        assert!(!credentials.look(&files.broker) && !credentials.look(&files.broker));
        files.put(&first.cert, &files.broker.cert);
        assert!(!files.looked_at(&mut credentials), "the same content again");
        assert_eq!(credentials.news(), None);
    }

    #[test]
    fn a_new_pair_is_used_when_both_halves_are_there_and_a_half_is_told_of_once() {
        let files = Files::new(&pair("gw-1"));
        let mut credentials = files.standing();
        let next = pair("gw-1");
        files.put(&next.cert, &files.broker.cert);
        assert!(!files.looked_at(&mut credentials));
        let told = credentials.news().unwrap().refused.unwrap().to_string();
        assert!(told.contains("does not go with"), "{told}");
        assert!(!credentials.look(&files.broker) && credentials.news().is_none());
        // A connection that breaks meanwhile is made with what worked.
        let used = credentials.used.as_ref().unwrap().digest;
        credentials.choose(&files.broker).unwrap();
        assert_eq!(credentials.used.as_ref().unwrap().digest, used);
        files.put(&next.key, &files.broker.key);
        assert!(files.looked_at(&mut credentials));
        credentials.choose(&files.broker).unwrap();
        assert_ne!(credentials.used.as_ref().unwrap().digest, used);
        assert_eq!(credentials.news().unwrap().refused, None);
    }

    #[test]
    fn a_new_authority_alone_is_a_change_too() {
        let files = Files::new(&pair("gw-1"));
        let mut credentials = files.standing();
        files.put(&pair("another authority").cert, &files.broker.ca);
        assert!(files.looked_at(&mut credentials));
    }

    #[test]
    fn files_that_are_gone_or_of_another_device_take_the_place_of_nothing() {
        let files = Files::new(&pair("gw-1"));
        let mut credentials = files.standing();
        let other = pair("gw-2");
        files.put(&other.cert, &files.broker.cert);
        files.put(&other.key, &files.broker.key);
        assert!(!files.looked_at(&mut credentials));
        let told = credentials.news().unwrap().refused.unwrap().to_string();
        assert!(told.contains("it is for gw-2 and this device is gw-1"), "{told}");
        fs::remove_file(&files.broker.key).unwrap();
        assert!(!files.looked_at(&mut credentials));
        let told = credentials.news().unwrap().refused.unwrap().to_string();
        assert!(told.contains("cannot be read"), "{told}");
        assert!(credentials.choose(&files.broker).is_ok());
        assert!(Credentials::new().choose(&files.broker).is_err(), "there is nothing that worked");
    }

    #[test]
    fn what_the_broker_does_not_take_gives_way_to_what_it_took() {
        let files = Files::new(&pair("gw-1"));
        let mut credentials = files.standing();
        let good = credentials.used.as_ref().unwrap().digest;
        let next = pair("gw-1");
        files.put(&next.cert, &files.broker.cert);
        files.put(&next.key, &files.broker.key);
        assert!(files.looked_at(&mut credentials));
        credentials.choose(&files.broker).unwrap();
        // A broker that is merely away says nothing of the certificate.
        credentials.failed(&LinkError::Host("x".to_owned()));
        credentials.choose(&files.broker).unwrap();
        let fresh = credentials.used.as_ref().unwrap().digest;
        assert_ne!(fresh, good);
        credentials.failed(&rejection(&files));
        credentials.choose(&files.broker).unwrap();
        assert_eq!(credentials.used.as_ref().unwrap().digest, good);
        assert_eq!(credentials.news().unwrap().refused, Some(rejection(&files)));
        credentials.stood();
        assert!(!credentials.look(&files.broker), "it is not tried again and again");
        // Nor is the old one, where the broker does not take that either.
        credentials.failed(&rejection(&files));
        credentials.choose(&files.broker).unwrap();
        assert_eq!(credentials.used.as_ref().unwrap().digest, fresh);
    }
}
