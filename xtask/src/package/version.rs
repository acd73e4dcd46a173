//! The version of a package, and the day of it.

use std::{fmt, process::Command};

use anyhow::{Context, Result, bail};

use crate::process::{output, root};

/// A version as Debian counts it, of a commit's time, so that the same commit makes the same package.
pub(super) struct Version {
    text: String,
    epoch: i64,
}

impl Version {
    /// # Errors
    /// A revision that Debian does not allow, and a time that neither `SOURCE_DATE_EPOCH` nor git tells.
    pub(super) fn new(cargo: &str, revision: &str) -> Result<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "+.~".contains(c);
        if revision.is_empty() || !revision.chars().all(allowed) {
            bail!("the revision {revision:?} is none: letters, digits, `+`, `.` and `~` are allowed");
        }
        Ok(Self { text: format!("{}-{revision}", debian(cargo)), epoch: epoch()? })
    }

    /// The version of a package that would follow this one.
    pub(super) fn next(&self) -> Self {
        Self { text: format!("{}+next", self.text), epoch: self.epoch }
    }

    /// Seconds since 1970, as `SOURCE_DATE_EPOCH` has them.
    pub(super) fn date(&self) -> String {
        self.epoch.to_string()
    }

    /// The time as Debian's changelogs have it.
    pub(super) fn date_of_changelog(&self) -> Result<String> {
        self.date_as("-R")
    }

    /// The time as a bill of materials has it.
    pub(super) fn date_of_bill(&self) -> Result<String> {
        self.date_as("+%Y-%m-%dT%H:%M:%SZ")
    }

    fn date_as(&self, format: &str) -> Result<String> {
        let mut date = Command::new("date");
        date.args(["--utc", "-d", &format!("@{}", self.epoch), format]).env("LC_ALL", "C");
        Ok(output(&mut date)?.trim().to_owned())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Debian's sign for what comes before a release is the tilde, and a hyphen begins the revision.
fn debian(cargo: &str) -> String {
    cargo.replacen('-', "~", 1).replace('-', ".")
}

fn epoch() -> Result<i64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => output(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(root()))
            .context("the time of this commit is unknown; set SOURCE_DATE_EPOCH")?,
    };
    text.trim().parse().with_context(|| format!("SOURCE_DATE_EPOCH is {text:?}; seconds since 1970 are allowed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_before_a_release_sorts_before_it() {
        assert_eq!(debian("0.1.0"), "0.1.0");
        assert_eq!(debian("1.0.0-rc.1"), "1.0.0~rc.1");
        assert_eq!(debian("1.0.0-rc-1"), "1.0.0~rc.1");
    }

    #[test]
    fn a_revision_is_one_word() {
        for wrong in ["", "1-2", "a b", "1:2"] {
            assert!(Version::new("0.1.0", wrong).is_err(), "{wrong}");
        }
    }
}
