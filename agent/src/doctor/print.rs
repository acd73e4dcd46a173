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
    for (area, outcome) in [
        ("confinement", found.outcome_of(|area| area == "confinement")),
        ("", found.outcome_of(|area| area != "confinement")),
    ] {
        if outcome != Outcome::Good {
            writeln!(f, "\n{}", advice(area, outcome))?;
        }
    }
    if found.outcome() == Outcome::Good { writeln!(f, "\nNothing is missing.") } else { Ok(()) }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Good => "good",
        Outcome::Lacking => "lacking",
        Outcome::Bad => "BAD",
    }
}

fn advice(area: &str, outcome: Outcome) -> &'static str {
    match (area, outcome) {
        ("confinement", Outcome::Bad) => {
            "Modules are not run on this device. Where its kernel cannot be changed and its modules are trusted, \
             `[workloads] confinement = \"report\"` lets them run with less."
        }
        ("confinement", _) => {
            "Modules are run without what is lacking of their confinement, and it is reported with each of them. \
             `[workloads] confinement = \"all\"` demands it."
        }
        (_, Outcome::Bad) => "What is bad keeps the agent from its work; each line says what to do.",
        _ => "The agent works without what is lacking; each line says what to do.",
    }
}
