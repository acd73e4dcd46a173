//! What this device gives to Sanderling, found out by trying: `sanderling-agent doctor`.
//!
//! Purpose: an operator learns before a deployment does what is missing, and a script learns it from JSON and the exit status. Each area that is
//! examined is a function that gives [`Finding`]s; what they say is put into words here.
//!
//! Invariants: nothing is changed on the device, and nothing is taken from what a version or a configuration says.
//!
//! Failure modes: what cannot be tried is a finding too.

mod confinement;
mod print;

use std::{fmt, io, path::Path};

use serde::Serialize;

/// The schema of an [`Examination`] as JSON.
pub const SCHEMA: &str = "sanderling.doctor/1";

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it belongs to.
    pub area: &'static str,
    /// Its name, which stays the same.
    pub check: &'static str,
    /// What was found.
    pub outcome: Outcome,
    /// For people: what is in force, or what was seen instead.
    pub says: String,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As it should be.
    Good,
    /// Not there; the device does without.
    Lacking,
    /// Not there, and modules are not run without it unless the configuration says so.
    Bad,
}

/// Everything that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Examination {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The agent's version.
    pub agent: &'static str,
    /// System, release and machine, as the kernel names them.
    pub system: String,
    /// What was found, by area.
    pub findings: Vec<Finding>,
}

impl Examination {
    /// The worst of what was found.
    pub fn outcome(&self) -> Outcome {
        let is = |outcome| self.findings.iter().any(|finding| finding.outcome == outcome);
        match (is(Outcome::Bad), is(Outcome::Lacking)) {
            (true, _) => Outcome::Bad,
            (false, true) => Outcome::Lacking,
            (false, false) => Outcome::Good,
        }
    }

    /// As one line of JSON.
    ///
    /// # Errors
    /// None that a finding can bring about.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

/// For people, a line for each finding.
impl fmt::Display for Examination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print::examination(self, f)
    }
}

/// Examines this device; `worker` is the program that runs modules.
///
/// # Errors
/// What the system says where not even a runtime can be made.
pub fn examine(worker: &Path) -> io::Result<Examination> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let findings = runtime.block_on(confinement::examine(worker));
    let system = rustix::system::uname();
    let part = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let system = [part(system.sysname()), part(system.release()), part(system.machine())].join(" ");
    Ok(Examination { schema: SCHEMA, agent: env!("CARGO_PKG_VERSION"), system, findings })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn finding(check: &'static str, outcome: Outcome) -> Finding {
        Finding { area: "confinement", check, outcome, says: format!("words on {check}") }
    }

    fn examination(findings: Vec<Finding>) -> Examination {
        Examination { schema: SCHEMA, agent: "1.2.3", system: "Linux 6.1 armv7l".into(), findings }
    }

    #[test]
    fn the_worst_finding_decides() {
        use Outcome::{Bad, Good, Lacking};
        for (outcomes, worst) in
            [(vec![], Good), (vec![Good, Good], Good), (vec![Good, Lacking], Lacking), (vec![Bad, Lacking, Good], Bad)]
        {
            let findings = outcomes.into_iter().map(|outcome| finding("files", outcome)).collect();
            assert_eq!(examination(findings).outcome(), worst);
        }
    }

    #[test]
    fn scripts_and_people_are_told_the_same() {
        let found = examination(vec![finding("files", Outcome::Lacking), finding("session", Outcome::Good)]);
        let json: serde_json::Value = serde_json::from_str(&found.to_json().unwrap()).unwrap();
        assert_eq!(json["schema"], "sanderling.doctor/1");
        assert_eq!(json["findings"][0]["check"], "files");
        assert_eq!(json["findings"][0]["outcome"], "lacking");
        let text = found.to_string();
        for words in ["Linux 6.1 armv7l", "confinement", "lacking  files", "good     session", "words on session"] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
}
