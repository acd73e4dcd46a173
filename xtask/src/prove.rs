//! `cargo xtask prove`: the long forms of the proofs, counted and timed, as a table.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    build,
    clock::timed,
    process::{cargo, step, target_dir},
    setup,
};

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
    /// Print one JSON object a proof.
    #[arg(long)]
    json: bool,
}

/// A proof: a test that counts cases, and how many make its long form.
struct Proof {
    name: &'static str,
    what: &'static str,
    package: &'static str,
    /// Arguments of `cargo test` that select its program.
    program: &'static [&'static str],
    /// The test's whole name.
    test: &'static str,
    cases: u64,
}

const PROOFS: &[Proof] = &[
    Proof {
        name: "power-cut",
        what: "the power goes at any change of a simulated disk that loses, tears and reorders what was not synced: every transition is old or new, blobs are whole, stored records are there",
        package: "sanderling-agent",
        program: &["--lib"],
        test: "driver::keeper::durability::cuts::a_power_cut_leaves_the_old_or_the_new_and_every_stored_record",
        cases: 20_000,
    },
    Proof {
        name: "disk-faults",
        what: "ENOSPC, EROFS and EIO at each change of an install and of the outbox, once and lasting: reported, nothing lost, on without a restart",
        package: "sanderling-agent",
        program: &["--lib"],
        test: "driver::keeper::durability::faults::a_disk_that_fails_is_reported_loses_nothing_and_recovers_without_a_restart",
        cases: 5_000,
    },
    Proof {
        name: "bit-flips",
        what: "flips, zeroed sectors, wrong lengths and folders in the place of every file of the state directory: refused or rebuilt, counted, the agent's store runs",
        package: "sanderling-agent",
        program: &["--lib"],
        test: "driver::keeper::durability::flips::flipped_bits_are_refused_or_repaired_counted_and_the_agent_runs",
        cases: 20_000,
    },
    Proof {
        name: "delta",
        what: "version B of a 1 MB set of models with a changed layer pulls at most 35 % of the bytes of a full pull",
        package: "sanderling",
        program: &["--test", "delta"],
        test: "a_changed_layer_pulls_a_third_of_the_set_at_most",
        cases: 5,
    },
    Proof {
        name: "kill-matrix",
        what: "the real agent gets kill -9 at each system call of an update that writes, syncs, renames, unlinks or sends: a version runs, the update ends, nothing that was there is pulled again",
        package: "sanderling-tests",
        program: &["--test", "kill_matrix"],
        test: "a_kill_at_any_call_of_an_update_leaves_a_version_running_and_ends_in_the_new_one",
        cases: 600,
    },
    Proof {
        name: "disk-faults-agent",
        what: "ENOSPC, EROFS and EIO given to the real agent at each system call of an update and its outbox: told, nothing lost, the update ends when the disk works again",
        package: "sanderling-tests",
        program: &["--test", "full_disk"],
        test: "a_disk_that_fails_at_any_call_of_an_update_is_told_and_holds_it_up_only_while_it_fails",
        cases: 300,
    },
    Proof {
        name: "disk-faults-start",
        what: "the same while the real agent starts",
        package: "sanderling-tests",
        program: &["--test", "full_disk"],
        test: "a_disk_that_fails_while_the_agent_starts_is_told_and_the_start_after_it_is_whole",
        cases: 60,
    },
    Proof {
        name: "hand-over",
        what: "updates under 200 frames a second, of modules that keep up, that do not, and that want the newest alone: each frame is handled once by the one version or the other, or was dropped by its policy and counted",
        package: "sanderling-tests",
        program: &["--test", "handover"],
        test: "an_update_under_load_neither_loses_nor_doubles_a_frame",
        cases: 100,
    },
    Proof {
        name: "boot-loop",
        what: "the agent gets kill -9 whenever a deployment is on probation: at the third start the one before it runs, and the cause is reported",
        package: "sanderling-tests",
        program: &["--test", "boot_loop"],
        test: "a_deployment_with_which_the_agent_dies_in_probation_is_given_up_at_the_third_start",
        cases: 50,
    },
    Proof {
        name: "bit-flips-agent",
        what: "flips, erased blocks, wrong lengths and the loss of each file of a stopped device: the real agent runs what it should, counts it, and takes the next update",
        package: "sanderling-tests",
        program: &["--test", "bit_flips"],
        test: "a_damaged_file_is_refused_or_rebuilt_and_the_device_runs_what_it_should",
        cases: 500,
    },
    Proof {
        name: "hostile-broker",
        what: "a broker with a valid certificate changes, cuts, replays, withholds, floods, and answers absurdly or oversize: nothing is taken, what runs runs on, versions never fall, memory and disk are bounded, the honest version arrives afterwards in the same process",
        package: "sanderling-tests",
        program: &["--test", "hostile_broker"],
        test: "whatever_a_broker_sends_nothing_is_taken_and_the_honest_version_arrives_afterwards",
        cases: 300,
    },
    Proof {
        name: "broker-restarts",
        what: "Mosquitto gets kill -9 and is started again while a guest emits 100 records a second: each record is acknowledged, repeats are counted, no file and no memory is left behind",
        package: "sanderling-tests",
        program: &["--test", "flapping"],
        test: "a_broker_that_is_killed_again_and_again_costs_no_record",
        cases: 1_000,
    },
    Proof {
        name: "link-cuts",
        what: "the link is cut at any packet, in any handshake and within packets, under the same load: no record lost, waits bounded and spread, as many files open as before",
        package: "sanderling-tests",
        program: &["--test", "flapping"],
        test: "a_link_that_is_cut_again_and_again_leaves_nothing_behind",
        cases: 1_000,
    },
    Proof {
        name: "tuf-conformance",
        what: "the public conformance suite of The Update Framework on the agent's trust code (TUF_CONFORMANCE names a checkout)",
        package: "sanderling-tests",
        program: &["--test", "tuf_conformance"],
        test: "the_whole_suite_passes_but_for_what_is_listed",
        cases: 113,
    },
    Proof {
        name: "metadata-mutations",
        what: "mutated metadata in the place of each message of a refresh (bytes, JSON, signatures, versions, digests, other roles and times, stolen keys short of the threshold): none is accepted unless it says what was signed",
        package: "sanderling-fuzz",
        program: &["--test", "metadata"],
        test: "no_mutated_metadata_is_accepted",
        cases: 1_000_000,
    },
    Proof {
        name: "metadata-thief",
        what: "mutated metadata that the right keys sign: held to versions, listings, digests and expiry",
        package: "sanderling-fuzz",
        program: &["--test", "metadata"],
        test: "what_a_thief_of_the_right_keys_signs_is_held_to_versions_listings_and_expiry",
        cases: 100_000,
    },
    Proof {
        name: "metadata-disk",
        what: "stored metadata, damaged: what was trusted comes back, or nothing, and it is said",
        package: "sanderling-fuzz",
        program: &["--test", "metadata"],
        test: "what_a_damaged_disk_gives_back_is_what_was_trusted_or_nothing",
        cases: 100_000,
    },
    Proof {
        name: "decoders",
        what: "mutated messages to every decoder of what crosses a network or a process boundary: no panic, bounds kept, written as read (cases: for each of ten)",
        package: "sanderling-fuzz",
        program: &["--test", "smoke"],
        test: "the_targets_hold_for_seeds_and_mutations",
        cases: 100_000,
    },
];

/// What a proof found.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    cases: u64,
    failures: u64,
    note: String,
}

/// Runs the proofs one after another, the whole machine to each, and prints a table.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::for_testing()?;
    let built = build::all(build::Profile::Dev)?;
    let wanted = |proof: &&Proof| arguments.only.as_ref().is_none_or(|only| proof.name.contains(only));
    let mut table = String::from("| proof | what | cases | failures | seconds | |\n|---|---|---|---|---|---|\n");
    let mut failed = Vec::new();
    for proof in PROOFS.iter().filter(wanted) {
        let cases = arguments.cases.unwrap_or(proof.cases);
        step(&format!("{}: {cases} cases", proof.name));
        let (found, seconds) = timed(|| prove(proof, cases, &built));
        let found = found?;
        if found.failures > 0 {
            failed.push(proof.name);
        }
        if arguments.json {
            println!("{}", json(proof, &found, seconds));
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

/// Runs one proof to its end.
fn prove(proof: &Proof, cases: u64, built: &build::Built) -> Result<Found> {
    let mut command = cargo();
    command.args(["test", "--quiet", "--all-features", "-p", proof.package]).args(proof.program);
    command.args(["--", "--exact", "--nocapture", "--include-ignored", proof.test]);
    command.env(CASES, cases.to_string());
    command.env("SANDERLING_GUESTS", &built.guests).env("SANDERLING_PROGRAMS", target_dir().join("debug"));
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
