//! `cargo xtask prove`: the long forms of the proofs, counted and timed, as a table.

mod list;

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader},
    num::NonZeroUsize,
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    build,
    clock::timed,
    process::{cargo, step, target_dir},
    setup,
};
use list::{PROOFS, Proof};

/// By which the long form is asked for; `sanderling_tests::proof` reads it.
const CASES: &str = "SANDERLING_PROOF_CASES";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only proofs whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// How many cases each, instead of its long form.
    #[arg(long)]
    cases: Option<u64>,
    /// How many proofs run at a time. Most of them wait more than they compute: three take less than half as long as one after
    /// another.
    #[arg(long, default_value = "1")]
    jobs: NonZeroUsize,
    /// Print one JSON object a proof.
    #[arg(long)]
    json: bool,
}

/// What a proof found.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    cases: u64,
    failures: u64,
    note: String,
}

/// Runs the proofs and prints a table, in the order of the list.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::for_building()?;
    setup::for_testing()?;
    let guests = build::guests()?;
    build::tests()?;
    let wanted = |proof: &&Proof| arguments.only.as_ref().is_none_or(|only| proof.name.contains(only));
    let proofs: Vec<&Proof> = PROOFS.iter().filter(wanted).collect();
    let mut results = prove_all(&proofs, arguments, &guests);
    results.sort_by_key(|(at, ..)| *at);
    let mut table = String::from("| proof | what | cases | failures | seconds | |\n|---|---|---|---|---|---|\n");
    let mut failed = Vec::new();
    for ((_, found, seconds), proof) in results.into_iter().zip(&proofs) {
        let found = found?;
        if found.failures > 0 {
            failed.push(proof.name);
        }
        row(&mut table, proof, &found, seconds);
    }
    if !arguments.json {
        print!("{table}");
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// The place of a proof, what it found, and how long it took.
type Proved = (usize, Result<Found>, Duration);

/// Runs the proofs, some at a time, each result said as soon as it is there.
fn prove_all(proofs: &[&Proof], arguments: &Arguments, guests: &Path) -> Vec<Proved> {
    let waiting = Mutex::new(proofs.iter().enumerate());
    let (give, take) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.get() {
            let (waiting, give) = (&waiting, give.clone());
            scope.spawn(move || {
                while let Some((at, proof)) = next(waiting) {
                    let cases = arguments.cases.unwrap_or(proof.cases);
                    step(&format!("{}: {cases} cases", proof.name));
                    let (found, seconds) = timed(|| prove(proof, cases, guests));
                    if let (Ok(found), true) = (&found, arguments.json) {
                        println!("{}", json(proof, found, seconds));
                    }
                    if give.send((at, found, seconds)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(give);
        take.into_iter().collect()
    })
}

/// The next of what waits; the lock is held for no longer than that.
fn next<T>(waiting: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).next()
}

/// Runs one proof to its end.
fn prove(proof: &Proof, cases: u64, guests: &Path) -> Result<Found> {
    let mut command = cargo();
    command.args(build::TEST).arg("--quiet").args(proof.program);
    command.args(["--", "--exact", "--nocapture", "--include-ignored", proof.test]);
    command.env(CASES, cases.to_string());
    command.env("SANDERLING_GUESTS", guests).env("SANDERLING_PROGRAMS", target_dir().join("debug"));
    command.env("SANDERLING_PYTHON", setup::python());
    let (found, passed) = watch(&mut command).with_context(|| format!("the proof {}", proof.name))?;
    Ok(match found {
        Some(found) if passed => found,
        Some(found) => Found { failures: found.failures.max(1), ..found },
        None if passed => bail!("the proof {} ran no test: {} is not in {}", proof.name, proof.test, proof.package),
        None => Found { cases, failures: 1, note: "ended before its count; its output stands above".into() },
    })
}

/// Passes on what the command prints and picks the proof's line out of it.
fn watch(command: &mut Command) -> Result<(Option<Found>, bool)> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("could not start cargo test")?;
    let output = child.stdout.take().context("cargo test has no output")?;
    let mut found = None;
    for line in BufReader::new(output).lines() {
        let line = line.context("could not read what cargo test prints")?;
        eprintln!("{line}");
        found = read(&line).or(found);
    }
    Ok((found, child.wait().context("cargo test did not end")?.success()))
}

/// Reads `proof: <name> | <n> cases | <n> failures | <note>`, which may stand behind what the test runner printed.
fn read(line: &str) -> Option<Found> {
    let (_, rest) = line.split_once("proof: ")?;
    let mut fields = rest.splitn(4, " | ");
    let _name = fields.next()?;
    let cases = fields.next()?.strip_suffix(" cases")?.parse().ok()?;
    let failures = fields.next()?.strip_suffix(" failures")?.parse().ok()?;
    Some(Found { cases, failures, note: fields.next().unwrap_or_default().trim().to_owned() })
}

fn row(table: &mut String, proof: &Proof, found: &Found, seconds: Duration) {
    let Found { cases, failures, note } = found;
    let _ =
        writeln!(table, "| {} | {} | {cases} | {failures} | {} | {note} |", proof.name, proof.what, seconds.as_secs());
}

fn json(proof: &Proof, found: &Found, seconds: Duration) -> String {
    serde_json::json!({
        "proof": proof.name,
        "what": proof.what,
        "cases": found.cases,
        "failures": found.failures,
        "seconds": seconds.as_secs_f64(),
        "note": found.note,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_line_of_a_proof() {
        let found = read("test cuts ... proof: power-cut | 10000 cases | 2 failures | seeds 7 and 9");
        assert_eq!(found, Some(Found { cases: 10_000, failures: 2, note: "seeds 7 and 9".into() }));
        assert_eq!(read("proof: power-cut"), None);
        assert_eq!(read("test result: ok. 3 passed; 0 failed"), None);
    }
}
