//! The model test: random histories of one device, held to a reference model.
//!
//! The reference knows what the operator signed last, and what is wrong with broker, disk, clock and modules. The machine runs in
//! [`super::world`], which holds the invariants after every single step: a committed deployment runs or is being restarted, or one
//! on probation runs in its place; nothing unsigned is stored or started; versions never fall; what was rejected is not started
//! again; only what passed its probation is committed; nothing that is needed is collected; nothing that is held is pulled; what
//! is under way is bounded. At the end of each history the faults stop, and the device must come to what the reference says
//! within a bounded number of ticks.
//!
//! A history that fails is made shorter, printed, and kept in `proptest-regressions/`; it is the first to be tried from then on.

mod machine;
mod reference;

use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};

use machine::Machine;
use reference::Reference;

/// The histories of the short form; `SANDERLING_PROOF_CASES` asks for another number.
const CASES: u32 = 300;
/// Steps of a history.
const STEPS: std::ops::Range<usize> = 1..60;

#[test]
#[allow(clippy::print_stdout, reason = "the result that `cargo xtask prove` reads")]
fn every_history_keeps_the_invariants_and_ends_with_what_is_wanted() {
    let asked = std::env::var("SANDERLING_PROOF_CASES").ok().and_then(|text| text.parse().ok());
    let cases = asked.unwrap_or(CASES);
    let kept = FileFailurePersistence::WithSource("regressions");
    let config =
        Config { cases, failure_persistence: Some(Box::new(kept)), source_file: Some(file!()), ..Config::default() };
    let histories = Reference::sequential_strategy(STEPS);
    let result = TestRunner::new(config.clone()).run(&histories, |(begin, steps, seen)| {
        Machine::test_sequential(config.clone(), begin, steps, seen);
        Ok(())
    });
    let failures = u32::from(result.is_err());
    println!(
        "proof: sync-model | {cases} cases | {failures} failures | histories of up to 60 steps, seed kept where one fails"
    );
    if let Err(error) = result {
        panic!("{error}");
    }
}
