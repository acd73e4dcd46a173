use std::sync::Arc;

use sanderling_protocol::{
    deployment::{Decode, Execution, Limits},
    flight::{Entry, Header, offset},
    worker::{Fault, FaultCode, InputDecode},
};
use sanderling_runtime::{
    FakeClock, Flight, Format, FrameBytes, FrameHeader, Guest, Kind, LoadSpec, Ports, Recorder, Region, SeededRandom,
    Stop, infer::tract::Tract,
};

use super::{frames::DEEPEST, *};

/// What guests of these tests begin with.
const HEAD: &str = r#"
    (import "sanderling_v1" "frame_read" (func $frame_read (param i32 i32 i32) (result i32)))
    (import "sanderling_v1" "now" (func $now (param i32) (result i32)))
    (import "sanderling_v1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
    (memory (export "memory") 1)
    (func (export "sanderling_abi") (result i32) (i32.const 1))"#;

fn module(body: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {HEAD} {body})")).unwrap()
}

/// A module that does `body` in the function `deep` of its frame, and has looked at the frame and at the clock before.
fn deep(body: &str) -> Vec<u8> {
    module(&format!(
        r#"(func $deep (result i32) {body})
        (func $middle (result i32) (i32.add (i32.const 1) (call $deep)))
        (func $handles (export "sanderling_frame") (result i32)
            (drop (call $frame_read (i32.const 0) (i32.const 128) (i32.const 10)))
            (drop (call $now (i32.const 256)))
            (drop (call $middle)) (i32.const 0))"#
    ))
}

fn limits() -> Limits {
    Limits { fuel_per_frame: 1_000_000, deadline_ms: 50, memory_mib: 4, ..Limits::default() }
}

fn spec_of(module: &[u8], execution: Execution) -> ReplaySpec<'_> {
    ReplaySpec { module, inputs: Vec::new(), limits: limits(), execution }
}

struct Recording {
    record: Vec<u8>,
    fault: Option<Fault>,
}

/// Records a module that is given these frames, on a clock that moves by `step` nanoseconds at each look.
fn record_frames(spec: &ReplaySpec<'_>, step: u64, frames: impl Iterator<Item = (FrameHeader, Vec<u8>)>) -> Recording {
    let ports = Ports {
        clock: Arc::new(FakeClock::with_step(step)),
        output: Box::new(Recorder::default()),
        random: Box::new(SeededRandom::new(7)),
        stop: Box::new(|| false),
    };
    let ReplaySpec { module, inputs, limits, execution } = spec.clone();
    let load = LoadSpec { module, inputs, limits, execution, ..LoadSpec::default() };
    let flight = Flight::new(Region::owned(256 * 1024));
    let mut guest = Guest::load_recorded(flight, Arc::new(Tract::new(&limits)), load, ports).unwrap();
    let mut fault = guest.start().err();
    for (header, content) in frames {
        if fault.is_some() {
            break;
        }
        fault = guest.frame(&header, FrameBytes::Owned(content)).err();
    }
    guest.seal();
    Recording { record: guest.flight().unwrap().recorded().to_vec(), fault }
}

fn record(spec: &ReplaySpec<'_>, frames: u64) -> Recording {
    let frames = (1..=frames).map(|seq| {
        let content = format!("frame {seq:04}").into_bytes();
        (FrameHeader { seq, ..FrameHeader::new("cam0", 10) }, content)
    });
    record_frames(spec, 0, frames)
}

fn names(backtrace: &Backtrace) -> Vec<&str> {
    backtrace.places.iter().map(|place| place.name.as_deref().unwrap_or("?")).collect()
}

/// Records one frame in each execution that has `sanderling_frame`; the fault, and where it was.
fn faults(module: &[u8]) -> Vec<(Fault, Backtrace)> {
    let both = [Execution::Reactor, Execution::Isolated];
    let of = |execution| {
        let spec = spec_of(module, execution);
        let Recording { record, fault } = record(&spec, 1);
        (fault.unwrap(), backtrace(&record, &spec, None).unwrap())
    };
    both.map(of).into()
}

/// The log, cut behind the last entry that `wanted` picks.
fn cut_behind(mut record: Vec<u8>, wanted: fn(&Entry<'_>) -> bool) -> Vec<u8> {
    let header = Header::read(&record, record.len()).unwrap().unwrap();
    let log = &record[header.snapshot_end..header.log_end];
    let (mut rest, mut cut) = (log, 0);
    while let Some(entry) = Entry::take(&mut rest).unwrap() {
        if wanted(&entry) {
            cut = log.len() - rest.len();
        }
    }
    let end = u32::try_from(header.snapshot_end + cut).unwrap();
    record[offset::LOG_END..offset::LOG_END + 4].copy_from_slice(&end.to_le_bytes());
    record
}

#[test]
fn a_trap_is_told_with_the_functions_that_led_to_it() {
    for (body, trap) in [
        ("(unreachable)", "unreachable"),
        ("(i32.div_u (i32.const 1) (i32.const 0))", "integer_division_by_zero"),
        ("(i32.div_s (i32.const 0x80000000) (i32.const -1))", "integer_overflow"),
        ("(i32.trunc_f32_s (f32.const nan))", "bad_conversion_to_integer"),
        ("(i32.load (i32.const 65533))", "memory_out_of_bounds"),
        ("(i64.store (i32.const -1) (i64.const 1)) (i32.const 0)", "memory_out_of_bounds"),
        ("(memory.fill (i32.const 65530) (i32.const 1) (i32.const 7)) (i32.const 0)", "memory_out_of_bounds"),
        ("(call_indirect (result i32) (i32.const 9))", "table_out_of_bounds"),
        ("(call_indirect (result i32) (i32.const 1))", "indirect_call_to_null"),
        ("(call_indirect (result f32) (i32.const 0)) (i32.trunc_f32_s)", "bad_signature"),
    ] {
        let module = deep(&format!("{body}) (table 2 funcref) (elem (i32.const 0) $middle"));
        for (fault, found) in faults(&module) {
            assert_eq!(fault.trap.as_deref(), Some(trap), "{body}");
            assert_eq!(found.end, End::Fault(fault), "{body}");
            assert_eq!(names(&found), ["deep", "middle", "handles"], "{body}");
            assert_eq!((found.about, found.same_state), (false, Some(true)), "{body}");
        }
    }
}

#[test]
fn a_trap_after_a_snapshot_is_told_from_that_state_on() {
    let module = module(
        r#"(global $count (mut i32) (i32.const 0)) (global $wide (mut f64) (f64.const 7))
        (func $sums (param i32) (result i32) (i32.div_u (i32.const 100) (i32.sub (i32.const 1500) (local.get 0))))
        (func (export "sanderling_frame") (result i32)
            (global.set $count (i32.add (global.get $count) (i32.const 1)))
            (global.set $wide (f64.add (global.get $wide) (f64.const 0.5)))
            (if (i32.eq (global.get $count) (i32.const 3)) (then (drop (memory.grow (i32.const 2)))))
            (drop (call $frame_read (i32.const 0) (i32.add (i32.const 70000) (global.get $count)) (i32.const 10)))
            (drop (call $sums (global.get $count))) (i32.const 0))"#,
    );
    let spec = spec_of(&module, Execution::Reactor);
    let Recording { record, fault } = record(&spec, 2000);
    assert_eq!(fault.as_ref().and_then(|fault| fault.seq), Some(1500));
    assert!(Script::read(&record).unwrap().snapshot.is_some());
    let found = backtrace(&record, &spec, None).unwrap();
    assert_eq!((names(&found)[0], found.same_state), ("sums", Some(true)), "{found:?}");
    assert_eq!(found.end, End::Fault(fault.unwrap()));
    assert_eq!(found.places[1].index, 6, "the export has no name of its own: {found:?}");
}

#[test]
fn a_trap_in_a_start_section_and_in_a_start_function_has_its_place_too() {
    let start = module(
        r#"(func $begins (drop (call $now (i32.const 64))) (call $fails)) (func $fails (unreachable)) (start $begins)
        (func (export "sanderling_frame") (result i32) (i32.const 0))"#,
    );
    let spec = spec_of(&start, Execution::Isolated);
    // Such a module is loaded nowhere; so the record is one of the same module whose start section does not fail.
    let fine = module(
        r#"(func $begins (drop (call $now (i32.const 64))) (call $fails)) (func $fails) (start $begins)
        (func (export "sanderling_frame") (result i32) (i32.const 0))"#,
    );
    let Recording { record, .. } = record(&spec_of(&fine, Execution::Isolated), 1);
    let found = backtrace(&record, &spec, None).unwrap();
    assert_eq!(names(&found), ["fails", "begins"], "{found:?}");
    let End::Stopped(Stop::Diverged { did, .. }) = &found.end else { panic!("{found:?}") };
    assert!(did.starts_with("a trap"), "{did}");

    let starts = module(
        r#"(func $fails (unreachable)) (func $starts (export "sanderling_start") (result i32) (call $fails) (i32.const 0))
        (func (export "sanderling_frame") (result i32) (i32.const 0))"#,
    );
    for (fault, found) in faults(&starts) {
        assert_eq!(fault.export.as_deref(), Some("sanderling_start"));
        assert_eq!((names(&found), found.same_state), (vec!["fails", "starts"], Some(true)));
    }
}

#[test]
fn a_program_is_told_where_it_trapped_and_where_it_ended_itself() {
    let program = |body: &str| {
        let text = format!(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32))) (memory (export "memory") 1)
            (func $main {body}) (func (export "_start") (call $main)))"#
        );
        wat::parse_str(text).unwrap()
    };
    for body in ["(unreachable)", "(call $proc_exit (i32.const 3))"] {
        let program = program(body);
        let spec = spec_of(&program, Execution::Command);
        let Recording { record, fault } = record(&spec, 1);
        let found = backtrace(&record, &spec, None).unwrap();
        assert_eq!((names(&found)[0], found.about, found.same_state), ("main", false, Some(true)), "{body}: {found:?}");
        assert_eq!(found.end, End::Fault(fault.unwrap()));
    }
    let fine = program("(call $proc_exit (i32.const 0))");
    let spec = spec_of(&fine, Execution::Command);
    let found = backtrace(&record(&spec, 1).record, &spec, None).unwrap();
    assert_eq!((&found.end, found.places.len()), (&End::Finished, 0));
}

#[test]
fn a_number_that_the_guest_returned_leaves_no_function() {
    let module = module(r#"(func (export "sanderling_frame") (result i32) (i32.const 77))"#);
    for (fault, found) in faults(&module) {
        assert_eq!(fault.guest_code, Some(77));
        assert_eq!((&found.end, found.same_state), (&End::Fault(fault), Some(true)));
        assert!(found.places.is_empty());
    }
}

#[test]
fn an_endless_loop_is_ended_by_the_fuel_that_it_had_used() {
    let module = deep("(loop (br 0)) (unreachable)");
    for (fault, found) in faults(&module) {
        assert_eq!(fault.code, FaultCode::Fuel);
        assert_eq!((&found.end, found.about), (&End::Fault(fault), true));
        assert_eq!(names(&found), ["deep", "middle", "handles"]);
    }
}

#[test]
fn what_took_too_long_and_would_have_come_to_an_end_is_told_where_it_was() {
    let counts = |to: u32| {
        format!(
            "(local $i i32) (loop (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br_if 0 (i32.lt_u (local.get $i) (i32.const {to}))))"
        )
    };
    let body = format!(
        r#"(func $first {}) (func $second {})
        (func $handles (export "sanderling_frame") (result i32)
            (drop (call $now (i32.const 256))) (call $first) (call $second) (i32.const 0))"#,
        counts(100_000),
        counts(100_000)
    );
    let module = module(&body);
    for (fuel, wanted) in [(300_000, "first"), (1_000_000, "second")] {
        let limits = Limits { fuel_per_frame: fuel, ..limits() };
        let spec = ReplaySpec { limits, ..spec_of(&module, Execution::Reactor) };
        let Recording { record, fault } = record(&spec, 1);
        let Some(fault) = fault else { panic!("{fuel} units are enough") };
        assert_eq!(fault.code, FaultCode::Fuel);
        let found = backtrace(&record, &spec, None).unwrap();
        assert_eq!((names(&found), found.about), (vec![wanted, "handles"], true), "{fuel}: {fault:?}");
    }
}

#[test]
fn a_fault_by_time_is_told_where_it_was_and_so_is_one_between_host_calls() {
    let module = deep("(loop (drop (call $now (i32.const 256))) (br 0)) (unreachable)");
    let limits = Limits { fuel_per_frame: 1 << 40, ..limits() };
    let spec = ReplaySpec { limits, ..spec_of(&module, Execution::Reactor) };
    let header = FrameHeader { seq: 1, ..FrameHeader::new("cam0", 10) };
    let Recording { record, fault } = record_frames(&spec, 1_000_000, [(header, b"frame 0001".to_vec())].into_iter());
    let fault = fault.unwrap();
    assert_eq!(fault.code, FaultCode::Deadline);
    let found = backtrace(&record, &spec, None).unwrap();
    assert_eq!((&found.end, found.about), (&End::Fault(fault), true));
    assert_eq!(names(&found), ["deep", "middle", "handles"]);
}

#[test]
fn recursion_without_an_end_is_told_by_its_innermost_functions() {
    let module = deep("(call $middle)");
    for (fault, found) in faults(&module) {
        assert_eq!((fault.code, fault.trap.as_deref()), (FaultCode::Memory, None));
        assert_eq!((&found.end, found.about), (&End::Fault(fault), true));
        assert_eq!(found.places.len(), DEEPEST);
        assert!(names(&found).iter().all(|name| ["deep", "middle"].contains(name)), "{found:?}");
    }
}

#[test]
fn a_host_call_without_a_return_is_told_with_who_made_it() {
    let module = deep("(call $emit (i32.const 0) (i32.const 2) (i32.const 256) (i32.const 24)) (unreachable)");
    let spec = spec_of(&module, Execution::Reactor);
    let cut = cut_behind(record(&spec, 1).record, |entry| matches!(entry, Entry::Call { .. }));
    let found = backtrace(&cut, &spec, None).unwrap();
    let End::Stopped(Stop::Unanswered { call }) = &found.end else { panic!("{found:?}") };
    assert!(call.starts_with("sanderling_v1.emit("), "{call}");
    assert_eq!((names(&found), found.about), (vec!["deep", "middle", "handles"], false));
}

#[test]
fn a_worker_that_was_killed_in_a_loop_is_told_about_where() {
    let module = deep("(loop (br 0)) (unreachable)");
    let spec = spec_of(&module, Execution::Reactor);
    let cut = cut_behind(record(&spec, 1).record, |entry| matches!(entry, Entry::Return(_)));
    let found = backtrace(&cut, &spec, None).unwrap();
    assert_eq!((&found.end, found.about), (&End::Stopped(Stop::End), true));
    assert_eq!(names(&found), ["deep", "middle", "handles"]);
}

#[test]
fn a_record_without_a_fault_comes_to_its_end() {
    let module = deep("(i32.const 0)");
    let spec = spec_of(&module, Execution::Reactor);
    let found = backtrace(&record(&spec, 3).record, &spec, None).unwrap();
    assert_eq!((&found.end, found.places.len()), (&End::Finished, 0));
}

#[test]
fn another_module_is_told_with_the_host_call_that_differs_and_its_place() {
    let module = deep("(unreachable)");
    let spec = spec_of(&module, Execution::Reactor);
    let record = record(&spec, 1).record;
    let other = deep("(call $frame_read (i32.const 3) (i32.const 128) (i32.const 4))");
    let found = backtrace(&record, &spec_of(&other, Execution::Reactor), None).unwrap();
    let End::Stopped(Stop::Diverged { did, recorded }) = &found.end else { panic!("{found:?}") };
    assert_eq!((did.as_str(), recorded.as_str()), ("sanderling_v1.frame_read(0x3, 0x80, 0x4)", "a fault"));
    assert_eq!(names(&found), ["deep", "middle", "handles"]);
    let fine = deep("(i32.const 0)");
    let found = backtrace(&record, &spec_of(&fine, Execution::Reactor), None).unwrap();
    let End::Stopped(Stop::Diverged { did, .. }) = &found.end else { panic!("{found:?}") };
    assert_eq!(did, "a return from sanderling_frame");
}

#[test]
fn nans_have_the_same_bits_in_both_engines() {
    // A signalling NaN with a payload, read from memory, of which each operation makes the one that there is; and one out of nothing.
    let module = deep(
        r#"(i64.store (i32.const 512) (i64.const 0x7ff4000000000123))
        (if (i64.ne (i64.reinterpret_f64 (f64.add (f64.load (i32.const 512)) (f64.const 1))) (i64.const 0x7ff8000000000000))
            (then (call $other)))
        (if (i32.ne (i32.reinterpret_f32 (f32.div (f32.load (i32.const 600)) (f32.load (i32.const 600)))) (i32.const 0x7fc00000))
            (then (call $other)))
        (f32.store (i32.const 700) (f32.sqrt (f32.const -1)))
        (f64.store (i32.const 704) (f64.promote_f32 (f32.const nan:0x200001)))
        (i32.store (i32.const 720) (i32.reinterpret_f32 (f32.demote_f64 (f64.load (i32.const 512)))))
        (call $canonical)) (func $other (drop (i32.div_u (i32.const 1) (i32.const 0)))) (func $canonical (result i32) (unreachable)"#,
    );
    for (fault, found) in faults(&module) {
        assert_eq!(fault.trap.as_deref(), Some("unreachable"), "wasmi makes other NaNs");
        assert_eq!((&found.end, names(&found)[0], found.same_state), (&End::Fault(fault), "canonical", Some(true)));
    }
}

#[test]
fn memory_is_refused_where_it_was_refused() {
    let module = deep(
        r#"(local $pages i32)
        (block (loop (br_if 1 (i32.eq (memory.grow (i32.const 1)) (i32.const -1)))
            (local.set $pages (i32.add (local.get $pages) (i32.const 1))) (br 0)))
        (i32.store (i32.const 512) (local.get $pages))
        (i32.store (i32.const 516) (table.grow (ref.null func) (i32.const 100000))) (unreachable)) (table 2 funcref"#,
    );
    for (fault, found) in faults(&module) {
        assert_eq!(fault.memory_bytes, 63 << 16, "the table takes from the last page");
        assert_eq!((&found.end, found.same_state), (&End::Fault(fault), Some(true)));
    }
}

#[test]
fn frames_lie_where_the_guest_wants_them_as_it_saw_them() {
    let module = module(
        r#"(global $calls (mut i32) (i32.const 0))
        (func (export "sanderling_buffer") (param i32) (result i32)
            (global.set $calls (i32.add (global.get $calls) (i32.const 1024))) (i32.add (i32.const 1000) (global.get $calls)))
        (func $reads (export "sanderling_frame") (result i32)
            (drop (call $frame_read (i32.const 1) (i32.const 128) (i32.const 3)))
            (if (i32.eq (i32.load8_u (i32.const 130)) (i32.const 9)) (then (unreachable))) (i32.const 0))"#,
    );
    let image = |last: u8| {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 2, 2);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.write_header().unwrap().write_image_data(&[1, 2, 3, last]).unwrap();
        let len = u32::try_from(bytes.len()).unwrap();
        let header = FrameHeader {
            kind: Kind::Image,
            format: Format::Png,
            width: 2,
            height: 2,
            ..FrameHeader::new("cam0", len)
        };
        (header, bytes)
    };
    let cut = (FrameHeader { len: 9, ..image(1).0 }, b"no image!".to_vec());
    let plain = (FrameHeader::new("other", 7), b"content".to_vec());
    let frames = [image(4), cut, plain, image(9)];
    for (execution, frames) in [(Execution::Reactor, &frames[..]), (Execution::Isolated, &frames[3..])] {
        let inputs = vec![InputDecode { sensor: "cam0".into(), decode: Decode::Gray8 }];
        let spec = ReplaySpec { inputs, ..spec_of(&module, execution) };
        let Recording { record, fault } = record_frames(&spec, 0, frames.iter().cloned());
        let found = backtrace(&record, &spec, None).unwrap();
        assert_eq!(found.end, End::Fault(fault.unwrap()));
        assert_eq!((names(&found), found.same_state), (vec!["reads"], Some(true)));
    }
}

#[test]
fn what_wasmi_runs_is_taken() {
    let module = deep(
        r#"(i32.store 1 (i32.const 8) (i32.const 5))
        (table.set 1 (i32.const 0) (ref.null extern)) (return_call $tail (i32.load 1 (i32.const 8))))
        (memory 1) (table 1 funcref) (table 1 externref)
        (func $tail (param i32) (result i32) (unreachable)"#,
    );
    let spec = spec_of(&module, Execution::Isolated);
    let found = backtrace(&record(&spec, 1).record, &spec, None).unwrap();
    assert_eq!((names(&found), found.same_state), (vec!["tail", "middle", "handles"], Some(true)), "{found:?}");
}

#[test]
fn a_module_with_as_many_data_segments_as_go_makes_is_taken() {
    let segments: String = (0..70_000).map(|at| format!("(data (i32.const {}) \"x\")", 1000 + at % 60_000)).collect();
    let module = deep(&format!("(unreachable)) {segments} (func"));
    for (fault, found) in faults(&module) {
        assert_eq!((&found.end, found.same_state), (&End::Fault(fault), Some(true)));
    }
}

#[test]
fn a_record_without_its_beginning_is_refused_and_no_change_of_one_panics() {
    let module = deep("(unreachable)");
    let spec = spec_of(&module, Execution::Reactor);
    let good = record(&spec, 2).record;
    assert!(matches!(backtrace(&[0; 64], &spec, None), Err(BacktraceError::Record(ReplayError::Empty))));
    let end = Header::read(&good, good.len()).unwrap().unwrap().log_end;
    for at in (0..end).step_by(5) {
        for value in [0, 0x7f, 0xff] {
            let mut changed = good.clone();
            changed[at] = value;
            let _ = backtrace(&changed, &spec, None);
        }
    }
}
