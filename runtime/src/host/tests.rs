use sanderling_guest::{errno, frame::FrameHeader};
use sanderling_protocol::worker::{MAX_LOG_LINE, MAX_RECORD};

use super::{FUEL_PER_HOST_CALL, known_imports};
use crate::{
    Outcome, Said,
    testing::{IMPORTS, Rig, value_of},
};

const S: u64 = 1_000_000_000;
const FAULT: i32 = -errno::EFAULT;
/// WASI's number.
const WASI_FAULT: i32 = 21;

/// Pointer and length pairs that do not lie in one page of memory.
const OUTSIDE: [(i64, i64); 9] = [
    (65536, 1),
    (65535, 2),
    (0, 65537),
    (-1, 1),
    (-1, 2),
    (0, -1),
    (-1, -1),
    (0x7fff_ffff, 0x7fff_ffff),
    (-0x8000_0000, -0x8000_0000),
];

/// Pointers at which no record of more than three bytes lies in one page of memory.
const OUT_OF_REACH: [i64; 5] = [65533, 65536, -1, -4, 0x7fff_ffff];

#[test]
fn every_known_import_is_linked() {
    for module in ["sanderling_v1", "wasi_ephemeral_nn", "wasi_snapshot_preview1"] {
        for name in known_imports(module) {
            let text = format!("(module (import \"{module}\" \"{name}\" (func (param f64 f64))))");
            let fault = Rig::load(&wat::parse_str(text).unwrap(), 0, |_| {}).map(|_| ()).unwrap_err();
            assert!(!fault.message.contains("does not have"), "{}", fault.message);
        }
    }
}

/// The fuel of a frame in which the expression is computed a hundred times, on a clock that stands still.
fn fuel_of_a_hundred(expression: &str) -> u64 {
    let body = format!(
        r#"(func (export "sanderling_frame") (result i32) (local $i i32)
        (loop $l (drop {expression})
            (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 100))))
        (i32.const 0))"#
    );
    let mut rig = Rig::with(&body, 0, |spec| spec.grants.push("state:100".parse().unwrap())).unwrap();
    rig.guest.start().unwrap();
    match rig.frame() {
        Ok(Outcome::Done(report)) => report.fuel,
        other => panic!("{expression}: {other:?}"),
    }
}

#[test]
fn no_host_call_is_free() {
    let nothing = fuel_of_a_hundred("(i32.const 0)");
    for import in IMPORTS.lines().filter(|line| line.contains("(result i32)")) {
        let (_, function) = import.split_once("(func ").unwrap();
        let (name, signature) = function.split_once(' ').unwrap();
        let arguments = signature.split([' ', ')']).take_while(|word| *word != "(result");
        let arguments: String =
            arguments.filter(|word| word.len() == 3).map(|kind| format!("({kind}.const 0)")).collect();
        let fuel = fuel_of_a_hundred(&format!("(call {name} {arguments})"));
        assert!(fuel >= nothing + 100 * FUEL_PER_HOST_CALL, "{name}: {fuel}, and {nothing} without it");
    }
}

#[test]
fn what_a_guest_asks_for_and_does_not_get_is_not_charged() {
    let refused =
        fuel_of_a_hundred("(call $state_get (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0x80000000))");
    assert!(refused < 100 * 200, "{refused}");
}

#[test]
fn each_line_of_a_program_is_charged() {
    // A buffer of 100 bytes at 64, with nothing but ends of lines, or but for the last none.
    let write = |fill: u8| {
        fuel_of_a_hundred(&format!(
            "(memory.fill (i32.const 64) (i32.const {fill}) (i32.const 100)) (i32.store (i32.const 0) (i32.const 64))
            (i32.store (i32.const 4) (i32.const 100)) (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8))"
        ))
    };
    let (lines, text) = (write(b'\n'), write(b'x'));
    assert!(lines >= text + 100 * 99 * 50, "{lines} with a hundred lines, {text} with one");
}

#[test]
fn frame_info_refuses_bad_pointers() {
    for ptr in OUT_OF_REACH.into_iter().chain([65536 - 95]) {
        assert_eq!(value_of(&format!("(call $frame_info (i32.const {ptr}))")), FAULT, "{ptr}");
    }
    assert_eq!(value_of(&format!("(call $frame_info (i32.const {}))", 65536 - 96)), 0);
}

#[test]
fn frame_read_refuses_bad_pointers_and_stays_in_the_frame() {
    for (ptr, len) in OUTSIDE {
        let call = format!("(call $frame_read (i32.const 0) (i32.const {ptr}) (i32.const {len}))");
        assert_eq!(value_of(&call), FAULT, "{ptr} {len}");
    }
    for (offset, copied) in [(0, 10), (4, 6), (10, 0), (11, 0), (-1, 0), (0x7fff_ffff, 0)] {
        let call = format!("(call $frame_read (i32.const {offset}) (i32.const 0) (i32.const 65536))");
        assert_eq!(value_of(&call), copied, "{offset}");
    }
}

#[test]
fn frame_functions_have_no_data_outside_of_a_frame() {
    let body = r#"(func (export "sanderling_frame") (result i32) (i32.const 0))
        (func (export "sanderling_start") (result i32)
            (i32.mul (call $frame_info (i32.const 0)) (call $frame_read (i32.const 0) (i32.const 0) (i32.const 1))))"#;
    let fault = Rig::with(body, 0, |_| {}).unwrap().guest.start().unwrap_err();
    assert_eq!(fault.guest_code, Some(errno::ENODATA * errno::ENODATA));
}

#[test]
fn the_guest_sees_header_and_content() {
    let body = r#"(data (i32.const 0) "ok")
        (func (export "sanderling_frame") (result i32)
            (drop (call $frame_info (i32.const 16)))
            (drop (call $frame_read (i32.const 2) (i32.const 112) (i32.const 5)))
            (call $emit (i32.const 0) (i32.const 2) (i32.const 16) (i32.const 101)))"#;
    let mut rig = Rig::new(body);
    rig.done();
    let header = FrameHeader { seq: 7, ..FrameHeader::new("cam0", 10) };
    let payload = [&header.to_bytes()[..], b"23456"].concat();
    assert_eq!(rig.said.take(), [Said::Emit { seq: 7, channel: "ok".into(), payload }]);
}

#[test]
fn emit_refuses_bad_pointers_for_channel_and_record() {
    for (ptr, len) in OUTSIDE {
        let call = format!("(call $emit (i32.const {ptr}) (i32.const {len}) (i32.const 0) (i32.const 1))");
        assert_eq!(value_of(&call), FAULT, "{ptr} {len}");
        let call = format!("(call $emit (i32.const 0) (i32.const 2) (i32.const {ptr}) (i32.const {len}))");
        assert_eq!(value_of(&call), FAULT, "{ptr} {len}");
    }
    assert_eq!(value_of("(call $emit (i32.const 0) (i32.const 65) (i32.const 0) (i32.const 1))"), -errno::E2BIG);
}

#[test]
fn emit_without_its_grant_is_denied_counted_and_reported_once() {
    let body = r#"(data (i32.const 0) "nok") (func (export "sanderling_frame") (result i32)
        (i32.add (call $emit (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 1)) (i32.const 13)))"#;
    let mut rig = Rig::new(body);
    rig.done();
    rig.done();
    assert_eq!(rig.said.take(), [Said::Denied("emit")]);
    assert_eq!(rig.guest.denied().get("emit"), Some(&2));
    assert_eq!(rig.guest.counters().emitted, 0);
}

#[test]
fn emit_holds_records_to_their_length() {
    let call = |len: usize| {
        let body = format!(
            r#"(memory 0) (data (i32.const 0) "ok") (func (export "sanderling_start") (result i32) (drop (memory.grow (i32.const 1))) (i32.const 0))
            (func (export "sanderling_frame") (result i32)
                (call $emit (i32.const 0) (i32.const 2) (i32.const 0) (i32.const {len})))"#
        );
        let mut rig = Rig::new(&body);
        rig.frame().map_err(|fault| fault.guest_code)
    };
    assert!(matches!(call(MAX_RECORD), Ok(Outcome::Done(_))));
    assert_eq!(call(MAX_RECORD + 1), Err(Some(-errno::E2BIG)));
}

#[test]
fn emit_is_held_to_its_rate() {
    let body = r#"(data (i32.const 0) "ok") (func (export "sanderling_frame") (result i32) (local $i i32)
        (loop $l (drop (call $emit (i32.const 0) (i32.const 2) (i32.const 0) (i32.const 1)))
            (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 9))))
        (i32.add (call $emit (i32.const 0) (i32.const 2) (i32.const 0) (i32.const 1)) (i32.const 11)))"#;
    let mut rig = Rig::with(body, 0, |spec| spec.limits.emit_per_s = 4).unwrap();
    rig.done();
    assert_eq!(rig.said.take().len(), 4);
    rig.done();
    assert_eq!(rig.said.take().len(), 0);
    rig.clock.advance(S / 2);
    rig.done();
    assert_eq!(rig.said.take().len(), 2);
    assert_eq!((rig.guest.counters().emitted, rig.guest.counters().emit_refused), (6, 24));
}

#[test]
fn log_refuses_bad_pointers_and_takes_any_level_and_bytes() {
    for (ptr, len) in OUTSIDE {
        assert_eq!(value_of(&format!("(call $log (i32.const 2) (i32.const {ptr}) (i32.const {len}))")), FAULT);
    }
    let body = r#"(data (i32.const 0) "a\ffb") (func (export "sanderling_frame") (result i32)
        (drop (call $log (i32.const -5) (i32.const 0) (i32.const 3)))
        (call $log (i32.const 1) (i32.const 0) (i32.const 65536)))"#;
    let mut rig = Rig::new(body);
    rig.done();
    let said = rig.said.take();
    assert_eq!(said[0], Said::Log { level: 4, text: "a\u{fffd}b".into() });
    assert!(matches!(&said[1], Said::Log { level: 1, text } if text.len() <= MAX_LOG_LINE));
}

#[test]
fn log_is_held_to_its_rate_and_says_what_it_dropped() {
    let body = r#"(func (export "sanderling_frame") (result i32) (local $i i32)
        (loop $l (drop (call $log (i32.const 2) (i32.const 0) (i32.const 1)))
            (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 150))))
        (i32.const 0))"#;
    let mut rig = Rig::new(body);
    rig.done();
    assert_eq!(rig.said.take().len(), 100);
    rig.clock.advance(S);
    rig.done();
    let said = rig.said.take();
    assert!(matches!(&said[0], Said::Log { level: 1, text } if text.starts_with("50 lines")), "{:?}", said[0]);
    assert_eq!(said.len(), 101);
    assert_eq!(rig.guest.counters().log_dropped, 100);
}

#[test]
fn config_refuses_bad_pointers_and_copies_what_fits() {
    for (ptr, len) in OUTSIDE {
        assert_eq!(value_of(&format!("(call $config (i32.const {ptr}) (i32.const {len}))")), FAULT);
    }
    let body = r#"(data (i32.const 0) "ok......") (func (export "sanderling_frame") (result i32)
        (if (i32.ne (call $config (i32.const 2) (i32.const 4)) (i32.const 7)) (then (return (i32.const 1))))
        (call $emit (i32.const 0) (i32.const 2) (i32.const 0) (i32.const 8)))"#;
    let mut rig = Rig::new(body);
    rig.done();
    assert_eq!(rig.said.take(), [Said::Emit { seq: 7, channel: "ok".into(), payload: br#"ok{"a".."#.to_vec() }]);
}

#[test]
fn now_refuses_bad_pointers_and_writes_both_times() {
    for ptr in OUT_OF_REACH.into_iter().chain([65536 - 15]) {
        assert_eq!(value_of(&format!("(call $now (i32.const {ptr}))")), FAULT, "{ptr}");
    }
    let body = r#"(data (i32.const 0) "ok") (func (export "sanderling_frame") (result i32)
        (drop (call $now (i32.const 16)))
        (call $emit (i32.const 0) (i32.const 2) (i32.const 16) (i32.const 16)))"#;
    let mut rig = Rig::new(body);
    rig.clock.advance(0x0102);
    rig.done();
    let payload = [2, 1, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0].to_vec();
    assert_eq!(rig.said.take(), [Said::Emit { seq: 7, channel: "ok".into(), payload }]);
}

#[test]
fn wasi_functions_refuse_bad_pointers() {
    for ptr in OUT_OF_REACH {
        for call in [
            format!("(call $clock_time_get (i32.const 1) (i64.const 0) (i32.const {ptr}))"),
            format!("(call $fd_fdstat_get (i32.const 1) (i32.const {ptr}))"),
            format!("(call $environ_sizes_get (i32.const {ptr}) (i32.const 0))"),
            format!("(call $environ_sizes_get (i32.const 0) (i32.const {ptr}))"),
            format!("(call $fd_write (i32.const 1) (i32.const {ptr}) (i32.const 1) (i32.const 0))"),
            format!("(call $fd_write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const {ptr}))"),
        ] {
            assert_eq!(value_of(&call), WASI_FAULT, "{call}");
        }
    }
    for (ptr, len) in OUTSIDE {
        assert_eq!(value_of(&format!("(call $random_get (i32.const {ptr}) (i32.const {len}))")), WASI_FAULT);
        let write = format!(
            "(i32.store (i32.const 0) (i32.const {ptr})) (i32.store (i32.const 4) (i32.const {len}))
            (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))"
        );
        assert_eq!(value_of(&write), WASI_FAULT, "{ptr} {len}");
    }
}

#[test]
fn wasi_has_no_files() {
    let (badf, inval, spipe) = (8, 28, 70);
    let open = "(call $path_open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0))";
    assert_eq!(value_of(open), badf);
    assert_eq!(value_of("(call $fd_write (i32.const 3) (i32.const 0) (i32.const 1) (i32.const 8))"), badf);
    assert_eq!(value_of("(call $fd_write (i32.const 1) (i32.const 0) (i32.const -1) (i32.const 8))"), inval);
    assert_eq!(value_of("(call $fd_close (i32.const 3))"), badf);
    assert_eq!(value_of("(call $fd_close (i32.const 1))"), 0);
    assert_eq!(value_of("(call $fd_seek (i32.const 1) (i64.const 0) (i32.const 0) (i32.const 0))"), spipe);
    assert_eq!(value_of("(call $clock_time_get (i32.const 2) (i64.const 0) (i32.const 0))"), inval);
}

#[test]
fn wasi_output_becomes_log_lines() {
    let body = r#"(data (i32.const 0) "\20\00\00\00\06\00\00\00\30\00\00\00\03\00\00\00")
        (data (i32.const 32) "one\0atw") (data (i32.const 48) "o\0a\0a")
        (func (export "sanderling_frame") (result i32)
            (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64)))
            (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 64)))
            (drop (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 64)))
            (i32.sub (i32.load (i32.const 64)) (i32.const 3)))"#;
    let mut rig = Rig::new(body);
    rig.done();
    let line = |level, text: &str| Said::Log { level, text: text.into() };
    assert_eq!(rig.said.take(), [line(2, "one"), line(1, "one"), line(2, "two")]);
}

#[test]
fn wasi_lines_without_end_are_cut_at_the_limit() {
    let body = r#"(data (i32.const 0) "\00\00\00\00\00\10\00\00") (func (export "sanderling_frame") (result i32)
        (memory.fill (i32.const 8) (i32.const 120) (i32.const 8192))
        (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16384)))"#;
    let mut rig = Rig::new(body);
    rig.done();
    rig.guest.stop().unwrap();
    let said = rig.said.take();
    assert_eq!(said.len(), 4);
    assert!(said.iter().all(|said| matches!(said, Said::Log { text, .. } if text.len() == MAX_LOG_LINE)));
}

#[test]
fn randomness_without_end_ends_at_the_deadline() {
    let body = r#"(func (export "sanderling_frame") (result i32)
        (drop (memory.grow (i32.const 100)))
        (drop (call $random_get (i32.const 0) (i32.const 6000000)))
        (call $emit (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))"#;
    let mut rig = Rig::with(body, S / 20, |_| {}).unwrap();
    let fault = rig.frame().unwrap_err();
    assert_eq!(fault.code, sanderling_protocol::worker::FaultCode::Deadline, "{fault}");
    assert_eq!(rig.said.take(), [], "it ended in the call");
}

#[test]
fn wasi_randomness_comes_from_the_port() {
    let body = r#"(data (i32.const 0) "ok") (func (export "sanderling_frame") (result i32)
        (drop (call $random_get (i32.const 16) (i32.const 8)))
        (call $emit (i32.const 0) (i32.const 2) (i32.const 16) (i32.const 8)))"#;
    let mut rig = Rig::new(body);
    rig.done();
    let mut expected = [0; 8];
    crate::Random::fill(&mut crate::SeededRandom::new(7), &mut expected);
    assert_eq!(rig.said.take(), [Said::Emit { seq: 7, channel: "ok".into(), payload: expected.to_vec() }]);
}
