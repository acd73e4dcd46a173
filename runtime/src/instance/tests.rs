use std::sync::atomic::Ordering;

use sanderling_guest::frame::{Format, FrameHeader, Kind};
use sanderling_protocol::{
    deployment::{Decode, Execution, Limits},
    worker::{FaultCode, InputDecode},
};

use super::*;
use crate::{
    Said,
    exports::{BUFFER, FRAME, INITIALIZE, START, STOP},
    testing::{Rig, module, value_of},
};

const MS: u64 = 1_000_000;
const IDLE: &str = r#"(func (export "sanderling_frame") (result i32) (i32.const 0))"#;
const SPIN: &str = r#"(func (export "sanderling_frame") (result i32) (loop $l (br $l)) (unreachable))"#;

fn limits(edit: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    edit(&mut limits);
    limits
}

fn load_fault(text: &str) -> Fault {
    Rig::load(&wat::parse_str(text).unwrap(), 0, |_| {}).map(|_| ()).unwrap_err()
}

#[test]
fn an_endless_loop_ends_within_a_slice_of_its_deadline() {
    let mut rig = Rig::with(SPIN, MS, |spec| spec.limits = limits(|l| l.deadline_ms = 20)).unwrap();
    rig.guest.start().unwrap();
    let before = rig.clock.mono_ns();
    let fault = rig.frame().unwrap_err();
    let took_ms = (rig.clock.mono_ns() - before) / MS;
    assert_eq!(fault.code, FaultCode::Deadline, "{fault:?}");
    assert!((20..=23).contains(&took_ms), "{took_ms}");
    assert_eq!((fault.export.as_deref(), fault.seq), (Some(FRAME), Some(7)));
    assert!(fault.fuel_used > 0);
    assert_eq!(rig.frame().unwrap_err(), fault, "nothing of it is called again");
}

#[test]
fn fuel_ends_an_endless_loop_on_a_clock_that_stands() {
    let fuel = 12_345_678;
    let mut rig = Rig::with(SPIN, 0, |spec| spec.limits = limits(|l| l.fuel_per_frame = fuel)).unwrap();
    rig.guest.start().unwrap();
    let fault = rig.frame().unwrap_err();
    assert_eq!(fault.code, FaultCode::Fuel);
    assert!((fuel - 100..=fuel).contains(&fault.fuel_used), "{}", fault.fuel_used);
}

#[test]
fn fuel_used_is_the_same_however_it_is_sliced() {
    let count = r#"(func (export "sanderling_frame") (result i32) (local $i i32)
        (loop $l (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 3000000))))
        (i32.const 0))"#;
    let used = |deadline_ms| {
        let mut rig = Rig::with(count, 0, |spec| spec.limits = limits(|l| l.deadline_ms = deadline_ms)).unwrap();
        rig.guest.start().unwrap();
        match rig.frame().unwrap() {
            Outcome::Done(report) => report.fuel,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(used(1), used(600_000));
    assert!(used(1) > 3_000_000);
}

#[test]
fn a_call_that_ends_after_its_deadline_is_a_fault_too() {
    let mut rig = Rig::with(IDLE, 3 * MS, |spec| spec.limits = limits(|l| l.deadline_ms = 2)).unwrap();
    let fault = rig.frame().unwrap_err();
    assert_eq!(fault.code, FaultCode::Deadline);
}

#[test]
fn copying_by_the_host_is_paid_for() {
    let greedy = r#"(func (export "sanderling_frame") (result i32)
        (loop $l (drop (call $frame_read (i32.const 0) (i32.const 0) (i32.const 60000))) (br $l)) (unreachable))"#;
    let mut rig = Rig::with(greedy, 0, |spec| spec.limits = limits(|l| l.fuel_per_frame = 1_000_000)).unwrap();
    rig.guest.start().unwrap();
    let fault = rig.frame_of(&[1; 60_000]).unwrap_err();
    assert_eq!(fault.code, FaultCode::Fuel);
}

#[test]
fn a_stop_request_interrupts_a_running_guest_without_a_fault() {
    let mut rig = Rig::new(SPIN);
    rig.stop.store(true, Ordering::Relaxed);
    assert_eq!(rig.frame(), Ok(Outcome::Stopped));
    assert!(rig.guest.interrupted());
    assert!(rig.guest.stop().is_err(), "what was interrupted is not called again");
}

#[test]
fn every_trap_has_its_kind_and_names_the_export() {
    let cases = [
        ("(unreachable)", "unreachable"),
        ("(i32.load (i32.const -4))", "memory_out_of_bounds"),
        ("(i32.div_u (i32.const 1) (i32.const 0))", "integer_division_by_zero"),
        ("(i32.div_s (i32.const 0x80000000) (i32.const -1))", "integer_overflow"),
        ("(i32.trunc_f32_s (f32.const nan))", "bad_conversion_to_integer"),
        ("(call_indirect (result i32) (i32.const 9))", "table_out_of_bounds"),
        ("(call_indirect (result i32) (i32.const 0))", "indirect_call_to_null"),
        ("(call_indirect (result i32) (i32.const 1))", "bad_signature"),
    ];
    for (expression, kind) in cases {
        let trapping = format!(
            r#"(table 2 funcref) (func $other) (elem (i32.const 1) $other)
            (func (export "sanderling_frame") (result i32) {expression})"#
        );
        let fault = Rig::new(&trapping).frame().unwrap_err();
        assert_eq!((fault.code, fault.trap.as_deref()), (FaultCode::Trap, Some(kind)), "{fault:?}");
        assert_eq!((fault.export.as_deref(), fault.seq, fault.memory_bytes), (Some(FRAME), Some(7), 65536));
    }
}

#[test]
fn a_trap_in_each_export_names_it() {
    for (name, signature) in
        [(INITIALIZE, ""), (START, "(result i32)"), (BUFFER, "(param i32) (result i32)"), (STOP, "")]
    {
        let body = format!("{IDLE} (func (export \"{name}\") {signature} (unreachable))");
        let mut rig = Rig::with(&body, 0, |_| {}).unwrap();
        let started = rig.guest.start();
        let fault = started.and_then(|()| rig.frame().map(|_| ())).and_then(|()| rig.guest.stop()).unwrap_err();
        assert_eq!((fault.code, fault.export.as_deref()), (FaultCode::Trap, Some(name)));
    }
}

#[test]
fn endless_recursion_is_a_memory_fault() {
    let deep = r#"(func $f (export "sanderling_frame") (result i32) (i32.add (call $f) (i32.const 1)))"#;
    let fault = Rig::new(deep).frame().unwrap_err();
    assert_eq!(fault.code, FaultCode::Memory);
    assert!(fault.message.contains("recursion"), "{}", fault.message);
}

#[test]
fn growing_beyond_the_limit_answers_minus_one_and_a_later_trap_says_so() {
    let grow = r#"(func (export "sanderling_frame") (result i32)
        (if (i32.ne (memory.grow (i32.const 15)) (i32.const 1)) (then (return (i32.const 1))))
        (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then (return (i32.const 2))))
        (unreachable))"#;
    let mut rig = Rig::with(grow, 0, |spec| spec.limits = limits(|l| l.memory_mib = 1)).unwrap();
    let fault = rig.frame().unwrap_err();
    assert_eq!((fault.code, fault.memory_bytes), (FaultCode::Trap, 1 << 20), "{fault:?}");
    assert!(fault.message.contains("memory_mib"), "{}", fault.message);
}

#[test]
fn growing_again_and_again_takes_no_native_stack() {
    for grow in ["(memory.grow (i32.const 70000))", "(table.grow 0 (ref.null func) (i32.const 70000000))"] {
        let body = format!(
            r#"(table 0 funcref) (func (export "sanderling_frame") (result i32) (local $i i32)
            (loop $l (drop {grow})
                (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 500000))))
            (i32.const 0))"#
        );
        // The native stack of a test is a quarter of a worker's.
        Rig::new(&body).done();
    }
}

#[test]
fn a_table_that_grows_when_its_slice_of_fuel_ends_is_a_fault_and_nothing_is_resumed() {
    let burn = |rounds: u32| {
        format!(
            r#"(table 0 funcref) (global $left (mut i32) (i32.const {rounds}))
            (func (export "sanderling_frame") (result i32)
                (loop $l (br_if $l (global.get $left) (global.set $left (i32.sub (global.get $left) (i32.const 1)))))
                (i32.add (table.grow 0 (ref.null func) (i32.const 100000)) (i32.const 0)))"#
        )
    };
    Rig::new(&burn(1)).done();
    let fault = Rig::new(&burn(7_000)).frame().unwrap_err();
    assert_eq!(fault.code, FaultCode::Fuel, "{fault:?}");
    assert!(fault.message.contains("table"), "{fault}");
}

#[test]
fn what_a_module_says_does_not_make_a_message_longer_than_it_may_be() {
    let name = "\\01\\ff".replace("ff", "02").repeat(30_000);
    for text in [
        format!("(module (import \"{name}\" \"{name}\" (func)))"),
        format!("(module (func $f) (export \"{name}\" (func $f)) (export \"{name}\" (func $f)))"),
        format!("(module (import \"sanderling_v1\" \"now\" (func (param {}))))", "i64 ".repeat(900)),
    ] {
        let fault = load_fault(&text);
        assert!(fault.code == FaultCode::Init && fault.message.len() < 2200, "{}", fault.message.len());
        assert!(!fault.message.chars().any(char::is_control));
    }
}

#[test]
fn memories_and_tables_that_begin_above_the_limit_are_memory_faults() {
    for text in [
        r#"(module (memory (export "memory") 17))"#,
        r#"(module (memory (export "memory") 9) (memory 9))"#,
        r#"(module (memory (export "memory") 1) (table 1000000 funcref))"#,
    ] {
        let module = wat::parse_str(text).unwrap();
        let fault = Rig::load(&module, 0, |spec| spec.limits = limits(|l| l.memory_mib = 1)).map(|_| ()).unwrap_err();
        assert_eq!(fault.code, FaultCode::Memory, "{text}: {fault:?}");
    }
}

#[test]
fn missing_and_mistyped_exports_are_named() {
    let memory = r#"(memory (export "memory") 1)"#;
    let abi = r#"(func (export "sanderling_abi") (result i32) (i32.const 1))"#;
    let cases = [
        ("(module)".to_owned(), "memory"),
        (format!("(module {memory})"), "sanderling_abi"),
        (format!("(module {memory} {abi})"), "sanderling_frame"),
        (format!("(module {memory} {abi} (func (export \"sanderling_frame\")))"), "sanderling_frame"),
        (format!("(module {memory} {abi} {IDLE} (global (export \"_initialize\") i32 (i32.const 0)))"), "_initialize"),
        (
            format!("(module {memory} (func (export \"sanderling_abi\") (result i32) (i32.const 2)) {IDLE})"),
            "sanderling_abi",
        ),
    ];
    for (text, name) in cases {
        let fault = load_fault(&text);
        assert_eq!((fault.code, fault.export.as_deref()), (FaultCode::Init, Some(name)), "{fault:?}");
    }
}

#[test]
fn unknown_imports_are_named_with_what_exists() {
    let fault = load_fault(r#"(module (import "sanderling_v1" "emitt" (func)))"#);
    assert_eq!(fault.code, FaultCode::Init);
    assert!(fault.message.contains("sanderling_v1.emitt") && fault.message.contains("frame_read"), "{fault:?}");
    let fault = load_fault(r#"(module (import "env" "abort" (func)))"#);
    assert!(fault.message.contains("env.abort") && fault.message.contains("wasi_snapshot_preview1"), "{fault:?}");
    let fault = load_fault(r#"(module (import "sanderling_v1" "now" (func)))"#);
    assert!(fault.message.contains("now"), "{fault:?}");
    let fault = load_fault(r#"(module (import "sanderling_v1" "memory" (memory 1)))"#);
    assert_eq!(fault.code, FaultCode::Init);
}

#[test]
fn an_endless_start_section_ends_within_a_slice_of_its_deadline_or_by_fuel() {
    let module =
        wat::parse_str(r#"(module (memory (export "memory") 1) (func $f (loop $l (br $l))) (start $f))"#).unwrap();
    let code = |step, fuel| {
        let limits = limits(|l| l.fuel_per_frame = fuel);
        Rig::load(&module, step, |spec| spec.limits = limits).map(|_| ()).unwrap_err().code
    };
    assert_eq!(code(0, 1_000_000), FaultCode::Fuel);
    assert_eq!(code(100 * MS, 1 << 50), FaultCode::Deadline);
    let text = r#"(module (memory (export "memory") 1) (func $f unreachable) (start $f))"#;
    let fault = load_fault(text);
    assert_eq!((fault.code, fault.trap.as_deref()), (FaultCode::Trap, Some("unreachable")));
}

#[test]
fn a_start_section_may_call_the_host() {
    let body = format!(
        "{IDLE} (func $f (drop (call $now (i32.const 0))) (drop (call $log (i32.const 2) (i32.const 0) (i32.const 1)))) (start $f)"
    );
    let rig = Rig::with(&body, 0, |_| {}).unwrap();
    assert_eq!(rig.said.take().len(), 1);
}

#[test]
fn start_runs_initialize_first_and_its_number_is_an_init_fault() {
    let body = format!(
        r#"{IDLE} (global $g (mut i32) (i32.const 0))
        (func (export "_initialize") (global.set $g (i32.const 41)))
        (func (export "sanderling_start") (result i32) (i32.add (global.get $g) (i32.const 1)))"#
    );
    let fault = Rig::with(&body, 0, |_| {}).unwrap().guest.start().unwrap_err();
    assert_eq!((fault.code, fault.guest_code, fault.export.as_deref()), (FaultCode::Init, Some(42), Some(START)));
}

#[test]
fn initialize_runs_once_and_before_anything_else() {
    let module = r#"(module (memory (export "memory") 1) (global $calls (mut i32) (i32.const 0))
        (func (export "_initialize") (global.set $calls (i32.add (global.get $calls) (i32.const 1))))
        (func (export "sanderling_abi") (result i32) (global.get $calls))
        (func (export "sanderling_start") (result i32) (i32.sub (global.get $calls) (i32.const 1)))
        (func (export "sanderling_frame") (result i32) (i32.sub (global.get $calls) (i32.const 1))))"#;
    for execution in [Execution::Reactor, Execution::Isolated] {
        let loaded = Rig::load(&wat::parse_str(module).unwrap(), 0, |spec| spec.execution = execution);
        let mut rig = loaded.unwrap();
        rig.guest.start().unwrap();
        rig.done();
    }
}

#[test]
fn the_guests_own_number_and_its_exit_are_guest_faults() {
    let fault = Rig::new(r#"(func (export "sanderling_frame") (result i32) (i32.const 9))"#).frame().unwrap_err();
    assert_eq!((fault.code, fault.guest_code), (FaultCode::Guest, Some(9)));
    let exits = r#"(func (export "sanderling_frame") (result i32) (call $proc_exit (i32.const 3)) (unreachable))"#;
    let fault = Rig::new(exits).frame().unwrap_err();
    assert_eq!((fault.code, fault.guest_code), (FaultCode::Guest, Some(3)));
    // After a slice has ended, the exit comes out of a resumed call.
    let late = r#"(func (export "sanderling_frame") (result i32) (local $i i32)
        (loop $l (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 3000000))))
        (call $proc_exit (i32.const 4)) (unreachable))"#;
    assert_eq!(Rig::new(late).frame().unwrap_err().guest_code, Some(4));
}

const BUFFERED: &str = r#"
    (global $asked (mut i32) (i32.const 0))
    (data (i32.const 0) "ok")
    (func (export "sanderling_buffer") (param $len i32) (result i32)
        (global.set $asked (i32.add (global.get $asked) (i32.const 1)))
        (if (i32.eq (local.get $len) (i32.const 3)) (then (return (i32.const 0))))
        (if (i32.eq (local.get $len) (i32.const 4)) (then (return (i32.const 65533))))
        (if (i32.eq (local.get $len) (i32.const 5)) (then (return (i32.const -1))))
        (i32.const 1024))
    (func (export "sanderling_frame") (result i32)
        (i32.store8 (i32.const 1023) (global.get $asked))
        (call $emit (i32.const 0) (i32.const 2) (i32.const 1023) (i32.const 3)))"#;

fn emitted(rig: &Rig) -> Vec<Vec<u8>> {
    rig.said
        .take()
        .into_iter()
        .filter_map(|said| match said {
            Said::Emit { payload, .. } => Some(payload),
            _ => None,
        })
        .collect()
}

#[test]
fn a_guest_is_asked_for_a_place_once_per_size() {
    let mut rig = Rig::new(BUFFERED);
    for content in [b"abcdef", b"ghijkl"] {
        rig.frame_of(content).unwrap();
    }
    rig.frame_of(b"mnopqrs").unwrap();
    assert_eq!(emitted(&rig), [b"\x01ab", b"\x01gh", b"\x02mn"]);
}

#[test]
fn a_frame_that_has_no_place_is_refused_and_the_guest_goes_on() {
    let mut rig = Rig::new(BUFFERED);
    for content in [&b"123"[..], b"1234", b"12345"] {
        let outcome = rig.frame_of(content).unwrap();
        assert!(matches!(&outcome, Outcome::Refused(why) if why.contains(&content.len().to_string())), "{outcome:?}");
    }
    rig.frame_of(b"123456").unwrap();
    assert_eq!(emitted(&rig), [b"\x0412"]);
}

#[test]
fn a_frame_shorter_than_its_header_says_is_refused() {
    let mut rig = Rig::new(IDLE);
    let outcome = rig.guest.frame(&FrameHeader::new("cam0", 5), FrameBytes::Static(b"1234")).unwrap();
    assert!(matches!(outcome, Outcome::Refused(_)));
    assert!(matches!(rig.guest.frame_from(&FrameHeader::new("cam0", 4), b"1234"), Ok(Outcome::Done(_))));
}

#[test]
fn compressed_frames_are_decoded_for_the_sensors_that_ask_for_it() {
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, 3, 2);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&[1, 2, 3, 4, 5, 6]).unwrap();
    let len = u32::try_from(png.len()).unwrap();
    let header =
        FrameHeader { kind: Kind::Image, format: Format::Png, width: 3, height: 2, ..FrameHeader::new("cam0", len) };
    let echo = r#"(data (i32.const 0) "ok") (func (export "sanderling_frame") (result i32)
        (call $emit (i32.const 0) (i32.const 2) (i32.const 64) (call $frame_read (i32.const 0) (i32.const 64) (i32.const 9999))))"#;
    let input = |decode| vec![InputDecode { sensor: "cam0".into(), decode }];
    let mut rig = Rig::with(echo, 0, |spec| spec.inputs = input(Decode::Gray8)).unwrap();
    for _ in 0..2 {
        rig.guest.frame(&header, FrameBytes::Owned(png.clone())).unwrap();
    }
    let other = FrameHeader { sensor: FrameHeader::new("cam1", 0).sensor, ..header };
    rig.guest.frame(&other, FrameBytes::Owned(png.clone())).unwrap();
    assert_eq!(emitted(&rig), [vec![1, 2, 3, 4, 5, 6], vec![1, 2, 3, 4, 5, 6], png]);
    let broken = rig.guest.frame(&FrameHeader { len: 4, ..header }, FrameBytes::Static(b"\x89PNG")).unwrap();
    assert!(matches!(broken, Outcome::Refused(_)));
}

#[test]
fn stop_runs_the_export_and_ends_open_lines() {
    let body = format!(
        r#"{IDLE} (data (i32.const 0) "\10\00\00\00\03\00\00\00bye") (data (i32.const 16) "bye")
        (func (export "sanderling_stop") (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32))))"#
    );
    let mut rig = Rig::new(&body);
    rig.done();
    rig.guest.stop().unwrap();
    assert_eq!(rig.said.take(), [Said::Log { level: 2, text: "bye".into() }]);
}

#[test]
fn loading_tells_memory_and_counts_nothing_yet() {
    let rig = Rig::load(&module(IDLE), 1000, |_| {}).unwrap();
    assert_eq!(rig.guest.loaded().memory_bytes, 65536);
    assert!(rig.guest.loaded().module_us > 0);
    assert_eq!(rig.guest.counters(), Counters::default());
    assert_eq!(value_of("(i32.const 5)"), 5);
}
