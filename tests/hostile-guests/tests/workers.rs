//! Every guest of the corpus in a real confined worker under the agent's supervision, beside a neighbour that must not notice; and the table
//! of what became of each, `docs/hostile-guests.md`.
//!
//! `SANDERLING_BLESS=1` writes the table anew.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::{fmt::Write as _, fs, time::Duration};

use sanderling_hostile_guests::{Guest, Outcome, corpus, edges};
use sanderling_protocol::worker::FaultCode;
use sanderling_tests::{program, proof, source};
use support::{Bench, Ended, on_one_thread};

/// No machine is so busy that a guest is stopped later than this after its deadline.
const LATE: Duration = Duration::from_secs(2);
/// A worker that is asked to stop is gone by then: two seconds, and the ways of a busy machine.
const STOP: Duration = Duration::from_secs(6);
const TABLE: &str = "docs/hostile-guests.md";
const MIB: u64 = 1 << 20;

#[test]
fn every_guest_is_stopped_and_its_neighbour_loses_no_frame() {
    on_one_thread(async {
        let mut bench = Bench::new(program("sanderling-worker"), |_| {}).await;
        let corpus = corpus();
        // What the program itself takes, tract's code included.
        let honest = corpus.iter().find(|guest| guest.name == "nodes-in-a-row").unwrap();
        let honest = bench.run(honest).await;
        assert_eq!(honest.outcome, Outcome::Survived, "{honest:?}");
        let (mut rows, mut wrong, mut late, mut peak) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for guest in &corpus {
            let ended = bench.run(guest).await;
            wrong.extend(check(guest, &ended, honest.peak));
            peak = peak.max(ended.peak);
            late.extend(ended.late.map(|late| (late, guest.name.clone())));
            println!(
                "{:40} {:55} {:?} peak {} MiB",
                guest.name,
                ended.outcome.to_string(),
                ended.late,
                ended.peak / MIB
            );
            rows.push(row(guest, &ended));
        }
        let frames = bench.hold_neighbour().await;
        bench.end().await;
        late.sort();
        let (worst, by) = late.last().cloned().unwrap_or_default();
        let median = late.get(late.len() / 2).map_or(0, |(late, _)| late.as_millis());
        let note = format!(
            "stopped {median} ms after the deadline (median), {} ms at most ({by}); the neighbour handled {frames} frames and lost none; \
             peak of any worker {} MiB",
            worst.as_millis(),
            peak / MIB
        );
        proof::found("hostile-guests", corpus.len() as u64, wrong.len() as u64, &note);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        hold_table(&rows);
    });
}

/// What is not as it must be.
fn check(guest: &Guest, ended: &Ended, program: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut say = |what: String| wrong.push(format!("{}: {what}", guest.name));
    if !agrees(guest, &ended.outcome) {
        say(format!("{}, not {} ({:?})", ended.outcome, guest.end, ended.fault));
    }
    if ended.late.is_some_and(|late| late > LATE) {
        say(format!("stopped {:?} after its deadline", ended.late));
    }
    if ended.stop > STOP {
        say(format!("gone {:?} after it was asked to stop", ended.stop));
    }
    if ended.peak > ended.most + program {
        say(format!("had {} MiB, of {} and {} for the program", ended.peak / MIB, ended.most / MIB, program / MIB));
    }
    if guest.end == Outcome::Survived {
        let answers = ended.record.as_chunks::<4>().0.iter().map(|word| i32::from_le_bytes(*word));
        let refused = guest.answers.iter().zip(answers).filter(|(call, answer)| !call.holds(*answer));
        refused.for_each(|(call, answer)| say(format!("{} answered {answer}", call.text)));
    }
    wrong
}

/// Whether a guest ended as it must. On a busy machine the agent may be the first to see that a deadline is over, and does not know where the
/// guest was.
fn agrees(guest: &Guest, outcome: &Outcome) -> bool {
    let late = |outcome: &Outcome| matches!(outcome, Outcome::Stopped { code: FaultCode::Deadline, .. });
    let expected = seen_from_outside(guest);
    *outcome == expected || (late(outcome) && late(&expected))
}

/// A guest that faults while it is stopped has stopped.
fn seen_from_outside(guest: &Guest) -> Outcome {
    match &guest.end {
        Outcome::Stopped { place, .. } if place == "sanderling_stop" => Outcome::Survived,
        end => end.clone(),
    }
}

fn row(guest: &Guest, ended: &Ended) -> String {
    let outcome = if agrees(guest, &ended.outcome) { &guest.end } else { &ended.outcome };
    let by = match outcome {
        Outcome::Survived => "–",
        Outcome::Stopped { place, .. } if place == "frame" => "agent",
        Outcome::Stopped { .. } => "worker",
    };
    let (code, place) = match outcome {
        Outcome::Survived => ("survives".to_owned(), "–"),
        Outcome::Stopped { code, trap: Some(trap), place } => (format!("`{code}`, {trap}"), place.as_str()),
        Outcome::Stopped { code, trap: None, place } => (format!("`{code}`"), place.as_str()),
    };
    let place =
        if place.starts_with("sanderling") || place.starts_with('_') { format!("`{place}`") } else { place.to_owned() };
    format!("| {} | {} | {} | {code} | {place} | {by} |", guest.name, guest.tries, guest.end)
}

fn hold_table(rows: &[String]) {
    let path = source().join(TABLE);
    let mut table = format!(
        "# Hostile guests\n\n\
         {} guests and models that try to break out, to take too much or never to end. Each is run twice by the tests of `tests/hostile-guests`: in \
         the runtime as a\nlibrary, but for two that only a process of its own holds, and in a confined worker under the agent's \
         supervision, beside a neighbour that gets a frame every two\nmilliseconds and must handle each. This table is written by that test \
         (`SANDERLING_BLESS=1`), which fails where it is not true any more.\n\n\
         *Must end*: `survives` where the guest does no harm: it is refused, limited or merely strange, and goes on. *Ended by*: the worker itself, \
         between two slices of\nfuel, or the agent, which kills a worker that makes no progress for 80 ms beyond the deadline.\n\n\
         | guest | what it tries | must end | outcome | where | ended by |\n|---|---|---|---|---|---|\n",
        rows.len()
    );
    rows.iter().for_each(|row| writeln!(table, "{row}").unwrap());
    if std::env::var_os("SANDERLING_BLESS").is_some() {
        fs::write(&path, &table).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let differs = table.lines().zip(kept.lines().chain(std::iter::repeat(""))).find(|(new, old)| new != old);
    assert_eq!(differs, None, "{TABLE} is not what is found: run this test with SANDERLING_BLESS=1");
    assert_eq!(table.lines().count(), kept.lines().count(), "{TABLE} has rows of guests that are no more");
}

#[test]
fn the_corpus_covers_every_code_that_a_guest_can_cause() {
    let corpus = corpus();
    let has = |wanted: FaultCode| {
        corpus.iter().any(|guest| matches!(&guest.end, Outcome::Stopped { code, .. } if *code == wanted))
    };
    let codes = [
        FaultCode::Trap,
        FaultCode::Fuel,
        FaultCode::Deadline,
        FaultCode::Memory,
        FaultCode::NativeMemory,
        FaultCode::Init,
        FaultCode::Guest,
    ];
    assert!(codes.into_iter().all(has));
    assert!(!edges::guests().is_empty());
}
