//! Workers that were taken over, against the agent's real supervision: each is ended with the right fault, what it says is bounded, and
//! its neighbour does not notice.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::time::Duration;

use sanderling_hostile_guests::{CHANNEL, Guest, limits};
use sanderling_protocol::{deployment::Limits, worker::FaultCode};
use support::{Bench, on_one_thread, peak};

/// What a supervisor may grow by, whatever all of these workers do, in bytes.
const GROWTH: u64 = 48 << 20;

const CRASH: FaultCode = FaultCode::Crash;
const CONTRACT: &str = "broke the contract";

/// What the worker does, the fault, and a word of its message.
const CASES: [(&str, FaultCode, &str); 33] = [
    ("silence", FaultCode::Init, "not loaded within"),
    ("garbage", CRASH, CONTRACT),
    ("huge length", CRASH, CONTRACT),
    ("no length", CRASH, CONTRACT),
    ("half a message", CRASH, "exit status 0"),
    ("deep json", CRASH, CONTRACT),
    ("wide json", CRASH, CONTRACT),
    ("long name", CRASH, CONTRACT),
    ("long fault", FaultCode::Guest, "m"),
    ("drip", FaultCode::Deadline, "start function"),
    ("last words", CRASH, "exit status 3"),
    ("closed socket", CRASH, "closed its socket"),
    ("early running", CRASH, CONTRACT),
    ("ready for ever", CRASH, CONTRACT),
    ("running twice", CRASH, CONTRACT),
    ("stopped unasked", CRASH, CONTRACT),
    ("answer to nothing", CRASH, CONTRACT),
    ("answer twice", CRASH, CONTRACT),
    ("refusal of nothing", CRASH, CONTRACT),
    ("foreign channel", CRASH, "secrets"),
    ("record flood", FaultCode::Deadline, "no progress"),
    ("line flood", FaultCode::Deadline, "no progress"),
    ("denied flood", FaultCode::Deadline, "no progress"),
    ("lines for ever, before it is ready", FaultCode::Init, "not loaded within"),
    ("lines for ever, while it starts", FaultCode::Deadline, "start function"),
    ("lines for ever", FaultCode::Deadline, "no progress"),
    ("last words for ever", FaultCode::Deadline, "no progress"),
    ("ring of lies", CRASH, "ring"),
    ("ring that is never read", FaultCode::Deadline, "no progress"),
    ("sleeps always", FaultCode::Deadline, "no progress"),
    ("ends", CRASH, "exit status 0"),
    ("no program at all", CRASH, "exit status 101"),
    ("", CRASH, "exit status 101"),
];

#[test]
fn a_worker_that_was_taken_over_is_ended_and_its_neighbour_loses_no_frame() {
    on_one_thread(async {
        let mut bench = Bench::new(env!("CARGO_BIN_EXE_hostile-worker").into(), |options| {
            options.load = Duration::from_secs(2);
            options.start = Duration::from_secs(2);
        })
        .await;
        let before = peak(std::process::id());
        for (word, code, message) in CASES {
            let mut guest = Guest::new(word, "", word.as_bytes().to_vec(), "survives");
            guest.grants = vec![format!("emit:{CHANNEL}")];
            guest.limits = Limits { deadline_ms: 300, emit_per_s: 5, ..limits() };
            let ended = bench.run(&guest).await;
            let fault = ended.fault.unwrap_or_else(|| panic!("{word}: no fault"));
            assert!(fault.code == code && fault.message.contains(message), "{word}: {fault}");
            // Long texts are cut, and nothing in them moves a terminal.
            let texts = [Some(&fault.message), fault.trap.as_ref(), fault.export.as_ref()];
            assert!(texts.into_iter().flatten().all(|text| text.len() <= 2048 && !text.chars().any(char::is_control)));
            assert!(ended.report.denied.len() <= 32, "{word}");
            let excess = ended.report.excess;
            match word {
                "record flood" => assert!(excess.records > 0, "{excess:?}"),
                "line flood" => assert!(excess.log_lines > 0 || ended.late.is_some(), "{excess:?}"),
                _ => {}
            }
            assert!(ended.stop < Duration::from_secs(6), "{word}: gone after {:?}", ended.stop);
            bench.hold_neighbour().await;
        }
        let grown = peak(std::process::id()).saturating_sub(before);
        assert!(grown < GROWTH, "the supervisor grew by {} MiB", grown >> 20);
        bench.end().await;
    });
}
