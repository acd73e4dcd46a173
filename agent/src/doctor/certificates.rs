//! The fleet's authority, this device's certificate and its key: whether they go together, and how long they last.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use super::{Finding, Outcome};
use crate::{
    certificate::{self, Certificate, WARN_DAYS},
    link::tls,
    settings::Settings,
};

const AREA: &str = "certificates";
const DAY: i64 = 86_400;

/// Looks at all three, at this time, Unix seconds.
pub(super) fn examine(settings: &Settings, now: i64) -> Vec<Finding> {
    let broker = &settings.broker;
    vec![
        one("authority", &broker.ca, now, |_| None),
        one("certificate", &broker.cert, now, |read| {
            let name = read.common_name.as_deref().unwrap_or("nobody");
            (name != settings.device.as_str()).then(|| {
                format!(
                    "it is for {name} and this device is {}; the access list that `sanderling provision broker` writes goes by the certificate",
                    settings.device
                )
            })
        }),
        pair(settings),
        key(&broker.key),
    ]
}

/// One certificate; `lacks` is what it lacks beside its dates.
fn one(check: &'static str, path: &Path, now: i64, lacks: impl Fn(&Certificate) -> Option<String>) -> Finding {
    let (outcome, says) = match certificate::load(path) {
        Err(error) => (Outcome::Bad, error.to_string()),
        Ok(read) => {
            let (outcome, dates) = lasts(&read, now);
            match lacks(&read) {
                Some(lack) if outcome == Outcome::Good => (Outcome::Lacking, format!("{}: {lack}", path.display())),
                _ => (outcome, format!("{}: {dates}", path.display())),
            }
        }
    };
    Finding { area: AREA, check, outcome, says }
}

fn lasts(read: &Certificate, now: i64) -> (Outcome, String) {
    let Some(expires) = read.expires() else {
        return (Outcome::Lacking, "when it expires is not written as usual, and was not examined".to_owned());
    };
    let date = read.not_after.as_deref().and_then(day).unwrap_or_default();
    let days = expires.saturating_sub(now).div_euclid(DAY);
    if expires < now {
        (Outcome::Bad, format!("it expired on {date}; renew it, and it is used without a restart"))
    } else if days < WARN_DAYS {
        (Outcome::Lacking, format!("it expires on {date}, in {days} days; renew it, and it is used without a restart"))
    } else {
        (Outcome::Good, format!("until {date}, {days} days"))
    }
}

/// `2031-02-03` of `20310203…`.
fn day(date: &str) -> Option<String> {
    Some(format!("{}-{}-{}", date.get(0..4)?, date.get(4..6)?, date.get(6..8)?))
}

fn pair(settings: &Settings) -> Finding {
    let (outcome, says) = match tls::load(&settings.broker) {
        Ok(_) => {
            (Outcome::Good, "authority, certificate and key can be used, and the key is the certificate's".to_owned())
        }
        Err(error) => (Outcome::Bad, error.to_string()),
    };
    Finding { area: AREA, check: "pair", outcome, says }
}

/// Who may read the key.
fn key(path: &Path) -> Finding {
    let (outcome, says) = match fs::metadata(path) {
        Err(error) => (Outcome::Bad, format!("{} cannot be read: {error}", path.display())),
        Ok(found) if found.mode() & 0o007 != 0 => {
            (Outcome::Lacking, format!("{} is open to every user of this device; `chmod o= {0}`", path.display()))
        }
        Ok(_) => (Outcome::Good, format!("{} is closed to other users", path.display())),
    };
    Finding { area: AREA, check: "key", outcome, says }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(not_after: &str) -> Certificate {
        Certificate { common_name: None, not_after: Some(not_after.to_owned()) }
    }

    #[test]
    fn a_certificate_that_expires_within_30_days_is_told_of_and_one_that_has_expired_is_bad() {
        const END: i64 = 1_927_843_200;
        let lasts = |now| lasts(&of("20310203000000Z"), now);
        assert_eq!(lasts(END - 30 * DAY).0, Outcome::Good);
        let (outcome, says) = lasts(END - 30 * DAY + 1);
        assert!(outcome == Outcome::Lacking && says.contains("2031-02-03, in 29 days"), "{says}");
        assert_eq!(lasts(END).0, Outcome::Lacking);
        let (outcome, says) = lasts(END + 1);
        assert!(outcome == Outcome::Bad && says.contains("expired on 2031-02-03"), "{says}");
    }
}
