//! What this device gives to Sanderling, found out by trying: `sanderling-agent doctor`.
//!
//! Purpose: an operator learns before a deployment does what is missing, and a script learns it from JSON and the exit status. Each area that is
//! examined is a function that gives [`Finding`]s; what they say is put into words here.
//!
//! Invariants: nothing is changed on the device, and nothing is taken from what a version or a configuration says. An agent that runs is not
//! disturbed.
//!
//! Failure modes: what cannot be tried is a finding too. Without a configuration that can be read, what it would name is left out, and the rest is
//! examined.

mod broker;
mod certificates;
mod clock;
mod configuration;
mod confinement;
mod disk;
mod print;
mod sensors;
mod session;
mod synchronised;

use std::{fmt, io, path::Path};

use serde::Serialize;

use crate::{
    clock::{Clock, SystemClock, floor},
    settings::{Settings, default_worker},
};
use session::Session;

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
    /// Not as it should be; the device does without, or will not for long.
    Lacking,
    /// The agent, or what it is for, does not work with it.
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
        self.outcome_of(|_| true)
    }

    /// The worst of what was found in these areas.
    fn outcome_of(&self, areas: impl Fn(&str) -> bool) -> Outcome {
        let is = |outcome| self.findings.iter().any(|finding| areas(finding.area) && finding.outcome == outcome);
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

/// Examines this device: what this configuration says, and what is there of it. `worker` is the program that runs modules, where another is to be
/// tried than the configuration names.
///
/// # Errors
/// What the system says where not even a runtime can be made.
pub fn examine(configuration: &Path, worker: Option<&Path>) -> io::Result<Examination> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let findings = runtime.block_on(all(configuration, worker, &SystemClock::new()));
    // A name that is still being resolved is not waited for.
    runtime.shutdown_background();
    let system = rustix::system::uname();
    let part = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let system = [part(system.sysname()), part(system.release()), part(system.machine())].join(" ");
    Ok(Examination { schema: SCHEMA, agent: env!("CARGO_PKG_VERSION"), system, findings })
}

/// Every area, as far as it can be examined without the ones before.
async fn all(configuration: &Path, worker: Option<&Path>, clock: &dyn Clock) -> Vec<Finding> {
    let read = Settings::load(configuration);
    let mut findings = configuration::examine(configuration, &read);
    let settings = read.ok();
    let session = settings.as_ref().map(|settings| Session::look(&settings.paths.state));
    let saved = session.as_ref().and_then(Session::saved_time);
    let agent_runs = session.as_ref().is_some_and(Session::runs);
    let database = session.as_ref().map(Session::finding);
    // What it holds is not needed any more, and an agent may want to start.
    drop(session);
    if let Some(settings) = &settings {
        findings.extend(certificates::examine(settings, floor(clock.wall(), saved)));
        findings.extend(broker::examine(settings).await);
    }
    findings.extend(clock::examine(clock.wall(), saved, synchronised::ask()));
    if let Some(settings) = &settings {
        findings.extend(disk::examine(settings));
    }
    findings.extend(database);
    let named = settings.as_ref().map_or_else(default_worker, |settings| settings.paths.worker.clone());
    findings.extend(confinement::examine(worker.unwrap_or(&named)).await);
    if let Some(settings) = &settings {
        findings.extend(sensors::examine(settings, agent_runs));
    }
    findings
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
