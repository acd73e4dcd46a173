//! What this kernel gives of a worker's confinement.
//!
//! Each measure is tried by a process of the worker program that takes it and does what it forbids; at last a worker that is confined as all are
//! loads a module of a few bytes.

use std::path::Path;

use sanderling_protocol::worker::Measure;

use super::{Finding, Outcome};
use crate::workload::trial;

const AREA: &str = "confinement";

/// Tries every measure, and a whole worker.
pub(super) async fn examine(worker: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    for measure in Measure::ALL {
        findings.push(tried(worker, measure).await);
    }
    findings.push(whole(worker).await);
    findings
}

async fn tried(worker: &Path, measure: Measure) -> Finding {
    let (outcome, says) = match trial::try_measure(worker, measure).await {
        Ok(Ok(())) => (Outcome::Good, in_force(measure).to_owned()),
        Ok(Err(why)) => (missing(measure), why),
        Err(error) => (Outcome::Bad, format!("{} cannot be started: {error}", worker.display())),
    };
    Finding { area: AREA, check: measure.name(), outcome, says }
}

fn missing(measure: Measure) -> Outcome {
    if measure.is_essential() { Outcome::Bad } else { Outcome::Lacking }
}

async fn whole(worker: &Path) -> Finding {
    let (outcome, says) = match trial::try_worker(worker).await {
        Ok(ready) => (Outcome::Good, format!("a confined worker loaded a module in {} us", ready.module_us)),
        Err(fault) => (Outcome::Bad, format!("a confined worker did not load a module: {fault}")),
    };
    Finding { area: AREA, check: "worker", outcome, says }
}

/// What a measure that is in force does.
fn in_force(measure: Measure) -> &'static str {
    match measure {
        Measure::SystemCalls => "a system call that is not on the short list ends the worker (seccomp)",
        Measure::NoNewPrivileges => "no program gives it more privileges than it has",
        Measure::Capabilities => "it has no capabilities, even where the agent runs as root",
        Measure::ParentDeath => "it ends when the agent does",
        Measure::AddressSpace => "it gets no more address space than its module may use",
        Measure::Descriptors => "it opens nothing more",
        Measure::CoreDumps => "nothing of it is written into a core dump",
        Measure::Inherited => "it changes neither the ring's size nor the files of module and models",
        Measure::Session => "no signal to the agent's session or group reaches it",
        Measure::Environment => "it sees nothing of the agent's environment",
        Measure::Files => "no path of the file system is open to it (landlock)",
        Measure::Network => "it neither connects nor listens (landlock)",
        Measure::Scopes => "it reaches no abstract socket and no other process (landlock)",
        Measure::OomScore => "where memory runs out, the kernel ends it before the agent",
    }
}
