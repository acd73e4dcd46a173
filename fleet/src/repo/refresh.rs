//! Renewing what online keys sign, for a timer: the timestamp always, the snapshot before it grows old. Nothing that is staged is
//! signed here, and no offline key is asked for: roles that need one are named while there is time.

use anyhow::Result;
use sanderling_protocol::tuf::{Root, Signed as Metadata, Snapshot, Targets, UnixTime, author};

use super::{
    State,
    sign::{Expiry, Signing},
};
use crate::{home::Home, keys::SigningRole};

const DAY: i64 = 86_400;

/// What is renewed, and how early is warned.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct RefreshOptions {
    /// Days until snapshot and timestamp expire. The snapshot is renewed when half of them are gone.
    #[arg(long, default_value_t = Expiry::default().timestamp_days)]
    pub(crate) timestamp_days: u32,
    /// Warn of roles with offline keys that expire within so many days.
    #[arg(long, default_value_t = 30)]
    pub(crate) warn_days: u32,
}

/// A role that must be signed anew soon, with keys that no timer has.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Expiring {
    /// The role.
    pub(crate) role: &'static str,
    /// Its version.
    pub(crate) version: u64,
    /// When it expires, unix seconds.
    pub(crate) expires: i64,
    /// Whole days until then; negative where that is past.
    pub(crate) days_left: i64,
}

/// Signs the timestamp anew, and the snapshot where half of its time is gone. Gives the roles with their new versions.
pub(crate) fn refresh(home: &Home, options: RefreshOptions, now: i64) -> Result<Vec<(String, u64)>> {
    let expiry = Expiry { timestamp_days: options.timestamp_days, ..Expiry::default() };
    let mut signing = Signing::open(home, expiry, now)?;
    let snapshot: Snapshot = author::read(&signing.state.read_signed(home, "snapshot")?)?;
    let half = expiry.seconds(SigningRole::Snapshot) / 2;
    signing.sign_snapshot(is_near(snapshot.expires(), half, now))?;
    signing.sign_timestamp()?;
    signing.state.save(home)?;
    Ok(signing.made)
}

fn is_near(expires: i64, margin: i64, now: i64) -> bool {
    expires.saturating_sub(now) < margin
}

/// The roles with offline keys that expire within so many days, the first to expire first.
pub(crate) fn expiring(home: &Home, days: u32, now: i64) -> Result<Vec<Expiring>> {
    let state = State::load(home)?;
    let mut found = Vec::new();
    for role in [SigningRole::Root, SigningRole::Targets, SigningRole::Releases, SigningRole::Deployments] {
        let bytes = state.read_signed(home, role.name())?;
        let expires = match role {
            SigningRole::Root => author::read::<Root>(&bytes)?.expires(),
            _ => author::read::<Targets>(&bytes)?.expires(),
        };
        if is_near(expires, i64::from(days) * DAY, now) {
            let days_left = expires.saturating_sub(now).div_euclid(DAY);
            found.push(Expiring { role: role.name(), version: state.version(role.name()), expires, days_left });
        }
    }
    found.sort_by_key(|role| role.expires);
    Ok(found)
}

impl std::fmt::Display for Expiring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { role, version, expires, days_left } = self;
        let when = UnixTime(*expires);
        match days_left {
            ..0 => write!(f, "{role} version {version} expired at {when}: devices take nothing new")?,
            days => write!(f, "{role} version {version} expires at {when}, in {days} days")?,
        }
        write!(f, "; sign it anew with `sanderling repo renew {role}` where its keys are, and publish")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_is_less_than_the_margin_and_all_that_is_past() {
        assert!(!is_near(1000, 100, 900));
        assert!(is_near(1000, 100, 901));
        assert!(is_near(1000, 100, i64::MAX));
        assert!(!is_near(i64::MAX, 100, i64::MIN));
    }

    #[test]
    fn a_warning_names_role_time_and_cure() {
        let mut role = Expiring { role: "releases", version: 3, expires: 86_400, days_left: 1 };
        let said = role.to_string();
        assert!(said.contains("releases version 3 expires at 1970-01-02T00:00:00Z, in 1 days"), "{said}");
        assert!(said.contains("repo renew releases"), "{said}");
        role.days_left = -1;
        assert!(role.to_string().contains("expired at"));
    }
}
