//! An examination in words.

use std::fmt;

use super::{Examination, Outcome};

/// Writes a line for each finding under the name of its area, and then what follows from all of them.
pub(super) fn examination(found: &Examination, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "sanderling-agent {} on {}", found.agent, found.system)?;
    let mut area = "";
    for finding in &found.findings {
        if finding.area != area {
            area = finding.area;
            writeln!(f, "\n{area}")?;
        }
        writeln!(f, "  {:<8} {:<18} {}", word(finding.outcome), finding.check, finding.says)?;
    }
    writeln!(f, "\n{}", advice(found.outcome()))
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Good => "good",
        Outcome::Lacking => "lacking",
        Outcome::Bad => "BAD",
    }
}

fn advice(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Good => "Nothing is missing.",
        Outcome::Lacking => {
            "Modules are run without what is lacking, and it is reported with each of them. \
             `[workloads] confinement = \"all\"` demands it."
        }
        Outcome::Bad => {
            "Modules are not run on this device. Where its kernel cannot be changed and its modules are trusted, \
             `[workloads] confinement = \"report\"` lets them run with less."
        }
    }
}
