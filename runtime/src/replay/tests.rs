use sanderling_protocol::flight::{Basis, Entry, Header};

use super::*;
use crate::{Flight, Observed, Recorder, Region, Said, infer::tract::Tract, testing::module};

/// Counts frames in memory and in a global, sums their bytes, looks at the clock and draws chance into its state; emits the
/// sum. Traps at the frame whose number its configuration has.
const ADDS_UP: &str = r#"
    (global $count (mut i32) (i32.const 0))
    (data (i32.const 0) "ok")
    (func $note (param $at i32)
        (i64.store (local.get $at) (i64.add (i64.load (local.get $at)) (i64.load (i32.const 128)))))
    (func (export "sanderling_start") (result i32)
        (drop (call $config (i32.const 4096) (i32.const 8)))
        (call $random_get (i32.const 64) (i32.const 16)))
    (func (export "sanderling_frame") (result i32)
        (global.set $count (i32.add (global.get $count) (i32.const 1)))
        (drop (call $frame_read (i32.const 0) (i32.const 128) (i32.const 10)))
        (call $note (i32.const 256))
        (drop (call $now (i32.const 128)))
        (call $note (i32.const 264))
        (drop (call $clock_time_get (i32.const 0) (i64.const 1) (i32.const 128)))
        (call $note (i32.const 272))
        (i32.store8 (i32.add (i32.const 70000) (i32.mul (global.get $count) (i32.const 7))) (global.get $count))
        (if (i32.eq (global.get $count) (i32.load (i32.const 4096))) (then END))
        (drop (call $emit (i32.const 0) (i32.const 2) (i32.const 256) (i32.const 24)))
        (i32.const 0))"#;

struct Recording {
    record: Vec<u8>,
    fault: Option<Fault>,
    said: Vec<Said>,
    reports: Vec<crate::FrameReport>,
}

fn spec_of<'a>(module: &'a [u8], execution: Execution) -> ReplaySpec<'a> {
    let limits = Limits { fuel_per_frame: 1_000_000, deadline_ms: 50, emit_per_s: 1_000_000, ..Limits::default() };
    ReplaySpec { module, inputs: Vec::new(), limits, execution }
}

/// Records frames of a module until it faults or they are over.
fn record(spec: &ReplaySpec<'_>, region: usize, config: &str, frames: u64, step: u64) -> Recording {
    let said = Recorder::default();
    let ports = Ports {
        clock: Arc::new(FakeClock::with_step(step)),
        output: Box::new(said.clone()),
        random: Box::new(SeededRandom::new(7)),
        stop: Box::new(|| false),
    };
    let load = LoadSpec {
        config: config.to_owned(),
        grants: vec!["emit:ok".parse().unwrap(), "emit:stdout".parse().unwrap()],
        ..load_spec(spec)
    };
    let flight = Flight::new(Region::owned(region));
    let mut guest = Guest::load_recorded(flight, Arc::new(Tract::new(&spec.limits)), load, ports).unwrap();
    let (mut fault, mut reports) = (guest.start().err(), Vec::new());
    for seq in 1..=frames {
        if fault.is_some() {
            break;
        }
        let content = format!("frame {seq:04}");
        let header = FrameHeader { seq, ..FrameHeader::new("cam0", 10) };
        match guest.frame(&header, FrameBytes::Owned(content.into_bytes())) {
            Ok(Outcome::Done(report)) => reports.push(report),
            Ok(other) => panic!("{other:?}"),
            Err(ended) => fault = Some(ended),
        }
    }
    if fault.is_none() {
        fault = guest.stop().err();
    }
    guest.seal();
    let record = guest.flight().unwrap().recorded().to_vec();
    Recording { record, fault, said: said.take(), reports }
}

fn four(number: u32) -> String {
    // The configuration is JSON; the guest takes its first four bytes for a number.
    format!("{number:04}")
}

/// A module that ends at frame `n` as `end` says.
fn ends(n: u32, end: &str) -> (Vec<u8>, String) {
    let body = ADDS_UP.replace("END", end);
    let wanted = u32::from_le_bytes(four(n).into_bytes().try_into().unwrap());
    let body = body.replace(
        "(i32.load (i32.const 4096))",
        &format!("(i32.add (i32.const {n}) (i32.sub (i32.load (i32.const 4096)) (i32.const {wanted})))"),
    );
    let text = body.replace("70000", "20000");
    (module(&text), four(n))
}

fn basis(record: &[u8]) -> Basis {
    Header::read(record, record.len()).unwrap().unwrap().basis
}

#[test]
fn a_fault_comes_again_from_the_beginning_of_the_instance() {
    for (end, code) in [
        ("(unreachable)", FaultCode::Trap),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", FaultCode::Trap),
        ("(drop (i32.load (i32.const -4)))", FaultCode::Trap),
        ("(loop (br 0))", FaultCode::Fuel),
        ("(return (i32.const 77))", FaultCode::Guest),
        ("(call $proc_exit (i32.const 3))", FaultCode::Guest),
    ] {
        let (module, config) = ends(5, end);
        let spec = spec_of(&module, Execution::Reactor);
        let recording = record(&spec, 256 * 1024, &config, 10, 0);
        let fault = recording.fault.unwrap();
        assert_eq!((fault.code, fault.seq), (code, Some(5)), "{end}: {fault}");
        assert!(fault.host_calls >= 3 && fault.frame.is_some(), "{fault:?}");
        assert_eq!(basis(&recording.record), Basis::Instance);
        let replayed = replay(&recording.record, &spec, None).unwrap();
        assert!(replayed.is_same(), "{end}: {replayed:#?}");
        assert_eq!((replayed.frames, replayed.recorded), (5, Some(fault)), "{end}");
        assert!(replayed.state.is_some() && replayed.state == replayed.recorded_state, "{end}");
    }
}

#[test]
fn a_fault_comes_again_from_a_snapshot_after_thousands_of_frames() {
    let (module, config) = ends(3001, "(unreachable)");
    let spec = spec_of(&module, Execution::Reactor);
    let recording = record(&spec, 256 * 1024, &config, 4000, 0);
    assert_eq!(basis(&recording.record), Basis::Snapshot);
    let replayed = replay(&recording.record, &spec, None).unwrap();
    assert!(replayed.is_same(), "{replayed:#?}");
    assert_eq!(replayed.recorded.unwrap().seq, Some(3001));
    assert!((1..500).contains(&replayed.frames), "{} frames", replayed.frames);
    assert!(replayed.state.is_some() && replayed.state == replayed.recorded_state);
}

#[test]
fn a_fault_by_time_comes_again_at_the_same_instruction() {
    let (module, config) = ends(5, "(loop (br 0))");
    let mut spec = spec_of(&module, Execution::Reactor);
    spec.limits.fuel_per_frame = u64::from(u32::MAX);
    let recording = record(&spec, 256 * 1024, &config, 10, 1_000_000);
    let fault = recording.fault.unwrap();
    assert_eq!(fault.code, FaultCode::Deadline);
    let replayed = replay(&recording.record, &spec, None).unwrap();
    assert!(replayed.is_same(), "{replayed:#?}");
    assert!(replayed.state.is_some() && replayed.state == replayed.recorded_state);
}

#[test]
fn an_endless_loop_of_a_worker_that_was_killed_is_followed_no_further_than_it_can_have_come() {
    let (module, config) = ends(5, "(loop (br 0))");
    let mut spec = spec_of(&module, Execution::Reactor);
    let recording = record(&spec, 256 * 1024, &config, 10, 1_000_000);
    let mut record = recording.record;
    let header = Header::read(&record, record.len()).unwrap().unwrap();
    let log = record[header.snapshot_end..header.log_end].to_vec();
    let (mut rest, mut end) = (&log[..], header.snapshot_end);
    while let Some(entry) = Entry::take(&mut rest).unwrap() {
        if matches!(entry, Entry::Fault(_)) {
            break;
        }
        end = header.log_end - rest.len();
    }
    record[16..20].copy_from_slice(&u32::try_from(end).unwrap().to_le_bytes());
    let replayed = replay(&record, &spec, None).unwrap();
    assert_eq!(replayed.end, End::Stopped(Stop::End));
    assert!(replayed.fuel <= spec.limits.fuel_per_frame, "{}", replayed.fuel);
    spec.limits.fuel_per_frame = 1 << 50;
    assert_eq!(Script::read(&record).unwrap().last_fuel(&spec.limits), Some(1050 * 2_000_000));
}

#[test]
fn what_a_guest_emitted_can_be_seen_again_and_takes_the_same_fuel() {
    let (module, config) = ends(9000, "(unreachable)");
    let spec = spec_of(&module, Execution::Reactor);
    let recording = record(&spec, 256 * 1024, &config, 20, 0);
    assert_eq!(recording.fault, None);
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let into = Arc::clone(&seen);
    let observer = move |call: &Observed<'_>| {
        if call.name == "emit" {
            let [ptr, len] = [2, 3].map(|index| call.arguments[index] as usize);
            into.lock().unwrap().push(call.memory[ptr..ptr + len].to_vec());
        }
    };
    let replayed = replay(&recording.record, &spec, Some(Box::new(observer))).unwrap();
    assert_eq!(replayed.end, End::Finished);
    assert!(replayed.is_same());
    assert_eq!(replayed.fuel, recording.reports.last().unwrap().fuel);
    let emitted = recording.said.into_iter().filter_map(|said| match said {
        Said::Emit { payload, .. } => Some(payload),
        _ => None,
    });
    assert_eq!(*seen.lock().unwrap(), emitted.collect::<Vec<_>>());
}

#[test]
fn another_module_is_told_with_the_first_call_that_differs() {
    let (module, config) = ends(5, "(unreachable)");
    let spec = spec_of(&module, Execution::Reactor);
    let recording = record(&spec, 256 * 1024, &config, 10, 0);
    let (other, _) = ends(5, "(drop (call $frame_read (i32.const 3) (i32.const 128) (i32.const 4)))");
    let replayed = replay(&recording.record, &spec_of(&other, Execution::Reactor), None).unwrap();
    let End::Stopped(Stop::Diverged { did, recorded }) = &replayed.end else { panic!("{replayed:#?}") };
    assert_eq!(did, "sanderling_v1.frame_read(0x3, 0x80, 0x4)");
    assert_eq!(recorded, "a fault");
    assert!(!replayed.is_same());
}

#[test]
fn a_record_that_breaks_off_in_a_host_call_ends_there() {
    let (module, config) = ends(5, "(unreachable)");
    let spec = spec_of(&module, Execution::Reactor);
    let mut record = record(&spec, 256 * 1024, &config, 10, 0).record;
    let header = Header::read(&record, record.len()).unwrap().unwrap();
    let log = record[header.snapshot_end..header.log_end].to_vec();
    // Cut behind the last call, before its return.
    let (mut rest, mut cut) = (&log[..], 0);
    while let Some(entry) = Entry::take(&mut rest).unwrap() {
        if matches!(entry, Entry::Call { .. }) {
            cut = log.len() - rest.len();
        }
    }
    let end = u32::try_from(header.snapshot_end + cut).unwrap();
    record[16..20].copy_from_slice(&end.to_le_bytes());
    let replayed = replay(&record, &spec, None).unwrap();
    let End::Stopped(Stop::Unanswered { call }) = &replayed.end else { panic!("{replayed:#?}") };
    assert!(call.starts_with("wasi_snapshot_preview1.clock_time_get("), "{call}");
}

#[test]
fn a_guest_that_changes_its_tables_is_recorded_from_the_beginning_until_the_region_is_full() {
    let body = r#"(table 4 funcref) (elem declare func $f) (func $f)
        (global $count (mut i32) (i32.const 0))
        (func (export "sanderling_frame") (result i32)
            (table.set (i32.const 1) (ref.func $f))
            (global.set $count (i32.add (global.get $count) (i32.const 1)))
            (if (i32.eq (global.get $count) (i32.const FRAME)) (then (unreachable)))
            (i32.const 0))"#;
    let early = module(&body.replace("FRAME", "20"));
    let spec = spec_of(&early, Execution::Reactor);
    let recording = record(&spec, 64 * 1024, "1", 5000, 0);
    assert!(replay(&recording.record, &spec, None).unwrap().is_same());
    let late = module(&body.replace("FRAME", "3000"));
    let spec = spec_of(&late, Execution::Reactor);
    let recording = record(&spec, 64 * 1024, "1", 5000, 0);
    assert_eq!(recording.fault.unwrap().seq, Some(3000));
    let error = replay(&recording.record, &spec, None).unwrap_err();
    assert!(matches!(error, ReplayError::Partial { .. }), "{error}");
}

#[test]
fn a_region_that_is_too_small_for_the_guest_says_how_large_it_should_be() {
    let fills = module(
        r#"(global $count (mut i32) (i32.const 0))
        (func (export "sanderling_frame") (result i32)
            (memory.fill (i32.const 0) (i32.const 7) (i32.const 65536))
            (global.set $count (i32.add (global.get $count) (i32.const 1)))
            (if (i32.eq (global.get $count) (i32.const 2000)) (then (unreachable)))
            (i32.const 0))"#,
    );
    let spec = spec_of(&fills, Execution::Reactor);
    let small = record(&spec, 48 * 1024, "1", 5000, 0);
    let Err(ReplayError::Partial { wanted }) = replay(&small.record, &spec, None) else { panic!("not partial") };
    assert!(wanted > 65_536, "{wanted}");
    let header = Header::read(&small.record, small.record.len()).unwrap().unwrap();
    let (at, length) = header.frame.unwrap();
    assert_eq!(&small.record[at..at + length], b"frame 2000", "the frame at hand is there at least");
    let large = record(&spec, usize::try_from(wanted).unwrap() + 65_536, "1", 5000, 0);
    assert!(replay(&large.record, &spec, None).unwrap().is_same());
}

#[test]
fn instances_of_their_own_are_run_again_by_themselves() {
    let (module, config) = ends(1, "(unreachable)");
    let spec = spec_of(&module, Execution::Isolated);
    let recording = record(&spec, 256 * 1024, &config, 10, 0);
    let replayed = replay(&recording.record, &spec, None).unwrap();
    assert!(replayed.is_same(), "{replayed:#?}");
    assert_eq!(replayed.frames, 1);
    assert!(replayed.state.is_some() && replayed.state == replayed.recorded_state);
}

#[test]
fn a_program_is_run_again_with_the_same_input() {
    let program = wat::parse_str(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (func (export "_start")
                (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 10))
                (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
                (if (i32.eq (i32.load8_u (i32.const 73)) (i32.const 0x33)) (then (unreachable)))
                (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#,
    )
    .unwrap();
    let spec = spec_of(&program, Execution::Command);
    let recording = record(&spec, 256 * 1024, "null", 10, 0);
    assert_eq!(recording.fault.as_ref().unwrap().seq, Some(3));
    let replayed = replay(&recording.record, &spec, None).unwrap();
    assert!(replayed.is_same(), "{replayed:#?}");
}

#[test]
fn no_change_of_a_record_panics() {
    let (module, config) = ends(3, "(unreachable)");
    let spec = spec_of(&module, Execution::Reactor);
    let good = record(&spec, 64 * 1024, &config, 10, 0).record;
    for at in (0..good.len()).step_by(7) {
        for value in [0, 1, 0x7f, 0xff] {
            let mut changed = good.clone();
            changed[at] = value;
            let _ = replay(&changed, &spec, None);
        }
    }
    for end in (0..good.len()).step_by(11) {
        let _ = replay(&good[..end], &spec, None);
    }
}
