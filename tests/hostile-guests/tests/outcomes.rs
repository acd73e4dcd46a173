//! Every guest of the corpus in the runtime as a library: it ends as it must, within its time, and none panics.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use sanderling_hostile_guests::{Guest, MODEL, Outcome, corpus, edges, frame};
use sanderling_runtime::{
    Clock, FrameBytes, Guest as Loaded, LoadSpec, NamedModel, Ports, Recorder, Said, SeededRandom,
};

/// Of the kernel, since a guest that does not end must come to its deadline.
struct SystemClock;

impl Clock for SystemClock {
    fn wall_ns(&self) -> i64 {
        sanderling_tests::unix_nanos()
    }

    fn mono_ns(&self) -> u64 {
        sanderling_tests::unix_nanos().unsigned_abs()
    }

    fn pause(&self, ns: u64) {
        std::thread::sleep(std::time::Duration::from_nanos(ns));
    }
}

/// What only a process of its own holds: native code that does not end, and an allocation that is refused.
const CONFINED_ONLY: [&str; 2] = ["model-without-end", "range-of-trillions"];
/// Frames that each guest is given.
const FRAMES: u64 = 4;

fn run(guest: &Guest, grants: &[String], said: &Recorder) -> Outcome {
    let ports = Ports {
        clock: Arc::new(SystemClock),
        output: Box::new(said.clone()),
        random: Box::new(SeededRandom::new(1)),
        stop: Box::new(|| false),
    };
    let models = guest.model.iter().map(|bytes| NamedModel { name: MODEL.to_owned(), bytes: bytes.as_slice().into() });
    let spec = LoadSpec {
        module: &guest.module,
        models: models.collect(),
        config: r#"{"a":1}"#.to_owned(),
        grants: grants.iter().map(|grant| grant.parse().unwrap()).collect(),
        limits: guest.limits,
        ..LoadSpec::default()
    };
    let mut loaded = match Loaded::load(spec, ports) {
        Ok(loaded) => loaded,
        Err(fault) => return Outcome::of(&fault, "load"),
    };
    if let Err(fault) = loaded.start() {
        return Outcome::of(&fault, "start");
    }
    for seq in 0..FRAMES {
        let (header, content) = frame(seq);
        if let Err(fault) = loaded.frame(&header, FrameBytes::Owned(content)) {
            return Outcome::of(&fault, "frame");
        }
    }
    let most = u64::from(guest.limits.memory_mib) << 20;
    assert!(loaded.memory_bytes() <= most, "{} has {} bytes of memory", guest.name, loaded.memory_bytes());
    match loaded.stop() {
        Ok(()) => Outcome::Survived,
        Err(fault) => Outcome::of(&fault, "stop"),
    }
}

/// What the calls answered.
fn answers(said: &Recorder) -> Vec<i32> {
    let last = said.take().into_iter().rev().find_map(|said| match said {
        Said::Emit { payload, .. } => Some(payload),
        _ => None,
    });
    last.map_or(Vec::new(), |record| record.as_chunks::<4>().0.iter().map(|w| i32::from_le_bytes(*w)).collect())
}

#[test]
fn every_guest_ends_as_it_must() {
    let mut wrong = Vec::new();
    for guest in corpus().into_iter().filter(|guest| !CONFINED_ONLY.contains(&guest.name.as_str())) {
        let said = Recorder::default();
        let ended = catch_unwind(AssertUnwindSafe(|| run(&guest, &guest.grants, &said)));
        match ended {
            Ok(outcome) if outcome == guest.end => {}
            Ok(outcome) => wrong.push(format!("{}: {outcome}, not {}", guest.name, guest.end)),
            Err(_) => wrong.push(format!("{}: a panic", guest.name)),
        }
        let answers = answers(&said);
        let returns = guest.end == Outcome::Survived && !guest.answers.is_empty();
        if returns && answers.len() != guest.answers.len() {
            wrong.push(format!("{}: {} of {} answers", guest.name, answers.len(), guest.answers.len()));
        }
        let refused = guest.answers.iter().zip(answers).filter(|(call, answer)| !call.holds(*answer));
        wrong.extend(
            refused.map(|(call, answer)| format!("{} {}: {answer}, must {:?}", guest.name, call.text, call.must)),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_host_function_panics_or_traps_for_a_guest_without_grants() {
    for guest in edges::guests() {
        let outcome = run(&guest, &[], &Recorder::default());
        assert_eq!(outcome, guest.end, "{}", guest.name);
    }
}

#[test]
fn every_host_function_has_a_row() {
    assert_eq!(edges::without_row(), Vec::<String>::new(), "add a row to src/edges/rows.rs");
}
