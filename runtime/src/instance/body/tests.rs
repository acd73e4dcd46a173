use std::sync::{Arc, atomic::Ordering};

use sanderling_protocol::{
    deployment::Execution,
    worker::{FaultCode, MAX_RECORD},
};

use crate::{
    Clock, LoadSpec, NamedModel, Outcome, Said,
    infer::fake::FakeInference,
    testing::{Rig, module, program},
};

const MS: u64 = 1_000_000;

fn isolated(body: &str) -> Rig {
    let mut rig = Rig::with(body, 0, |spec| spec.execution = Execution::Isolated).unwrap();
    rig.guest.start().unwrap();
    rig
}

fn as_command(spec: &mut LoadSpec<'_>) {
    spec.execution = Execution::Command;
    spec.grants = vec!["emit:stdout".parse().unwrap()];
}

fn command(body: &str) -> Rig {
    command_with(body, |_| {})
}

fn command_with(body: &str, edit: impl FnOnce(&mut LoadSpec<'_>)) -> Rig {
    let edit = |spec: &mut LoadSpec<'_>| {
        as_command(spec);
        edit(spec);
    };
    let mut rig = Rig::load(&program(body), 0, edit).unwrap();
    rig.guest.start().unwrap();
    rig
}

fn emits(said: Vec<Said>) -> Vec<Vec<u8>> {
    said.into_iter()
        .filter_map(|said| match said {
            Said::Emit { payload, .. } => Some(payload),
            _ => None,
        })
        .collect()
}

fn lines(said: Vec<Said>) -> Vec<String> {
    emits(said).into_iter().map(|payload| String::from_utf8(payload).unwrap()).collect()
}

fn logged(said: &[Said]) -> Vec<&str> {
    said.iter()
        .filter_map(|said| match said {
            Said::Log { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

/// Emits how much of an earlier frame it finds, in seven bytes: in its memory, in what memory it may have besides, in a global, in a
/// table, in its execution contexts (two), in its descriptors. Then it leaves the frame in each of these places.
const SEARCHER: &str = r#"
    (import "wasi_ephemeral_nn" "load_by_name" (func $load (param i32 i32 i32) (result i32)))
    (import "wasi_ephemeral_nn" "init_execution_context" (func $open (param i32 i32) (result i32)))
    (import "wasi_ephemeral_nn" "set_input" (func $set (param i32 i32 i32) (result i32)))
    (import "wasi_ephemeral_nn" "compute" (func $compute (param i32) (result i32)))
    (import "wasi_ephemeral_nn" "get_output" (func $get (param i32 i32 i32 i32 i32) (result i32)))
    (import "sanderling_v1" "frame_read" (func $frame_read (param i32 i32 i32) (result i32)))
    (import "sanderling_v1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (table $table 4 8 funcref)
    (elem declare func $abi)
    (global $kept (mut i64) (i64.const 0))
    ;; A tensor of one float at 64: its dimensions, and its data, which is the frame.
    (data (i32.const 0) "ok") (data (i32.const 8) "m") (data (i32.const 32) "\01\00\00\00")
    (data (i32.const 64) "\20\00\00\00\01\00\00\00\01\00\00\00\00\04\00\00\04\00\00\00")
    (data (i32.const 96) "\00\04\00\00\04\00\00\00")
    (func $abi (export "sanderling_abi") (result i32) (i32.const 1))
    (func $holds (param $from i32) (param $to i32) (result i32)
        (loop $next
            (if (i32.ge_u (local.get $from) (local.get $to)) (then (return (i32.const 0))))
            (if (i32.load8_u (local.get $from)) (then (return (i32.const 1))))
            (local.set $from (i32.add (local.get $from) (i32.const 1)))
            (br $next))
        (unreachable))
    (func (export "sanderling_frame") (result i32) (local $end i32)
        (local.set $end (i32.mul (memory.size) (i32.const 65536)))
        (i32.store8 (i32.const 16) (call $holds (i32.const 128) (local.get $end)))
        (drop (memory.grow (i32.const 3)))
        (i32.store8 (i32.const 17) (call $holds (local.get $end) (i32.mul (memory.size) (i32.const 65536))))
        (i32.store8 (i32.const 18) (i64.ne (global.get $kept) (i64.const 0)))
        (i32.store8 (i32.const 19) (i32.or
            (i32.ne (table.size $table) (i32.const 4))
            (i32.eqz (ref.is_null (table.get $table (i32.const 1))))))
        (i32.store8 (i32.const 20) (i32.eqz (call $get (i32.const 0) (i32.const 0) (i32.const 40) (i32.const 4) (i32.const 48))))
        (i32.store8 (i32.const 21) (i32.eqz (call $set (i32.const 0) (i32.const 0) (i32.const 64))))
        (i32.store8 (i32.const 22) (i32.ne (call $fd_close (i32.const 0)) (i32.const 0)))
        (drop (call $frame_read (i32.const 0) (i32.const 1024) (i32.const 16)))
        (memory.copy (i32.sub (local.get $end) (i32.const 16)) (i32.const 1024) (i32.const 16))
        (memory.copy (local.get $end) (i32.const 1024) (i32.const 16))
        (global.set $kept (i64.load (i32.const 1024)))
        (table.set $table (i32.const 1) (ref.func $abi))
        (drop (table.grow $table (ref.func $abi) (i32.const 2)))
        (drop (call $load (i32.const 8) (i32.const 1) (i32.const 40)))
        (drop (call $open (i32.load (i32.const 40)) (i32.const 44)))
        (drop (call $set (i32.load (i32.const 44)) (i32.const 0) (i32.const 64)))
        (drop (call $compute (i32.load (i32.const 44))))
        (drop (call $fd_write (i32.const 2) (i32.const 96) (i32.const 1) (i32.const 52)))
        (call $emit (i32.const 0) (i32.const 2) (i32.const 16) (i32.const 7)))"#;

/// What the searcher found in the second and third of three frames, and what it wrote to the log.
fn found(execution: Execution) -> (Vec<Vec<u8>>, usize, usize) {
    let inference = FakeInference::default();
    let module = wat::parse_str(format!("(module {SEARCHER})")).unwrap();
    let mut rig = Rig::load_on(Arc::new(inference.clone()), &module, 0, |spec| {
        spec.execution = execution;
        spec.grants.push("infer".parse().unwrap());
        spec.models.push(NamedModel { name: "m".into(), bytes: [1].as_slice().into() });
    })
    .unwrap();
    rig.guest.start().unwrap();
    for _ in 0..3 {
        let outcome = rig.frame_of(b"confidential 16!");
        assert!(matches!(outcome, Ok(Outcome::Done(_))), "{outcome:?}");
    }
    let said = rig.said.take();
    // Beside them stands, once, why there is nothing to get and to set before the first context.
    let lines = logged(&said).into_iter().filter(|line| *line == "conf").count();
    (emits(said).split_off(1), lines, inference.parsed.load(Ordering::Relaxed))
}

#[test]
fn a_fresh_instance_finds_nothing_of_the_frame_before() {
    let (found, lines, parsed) = found(Execution::Isolated);
    assert_eq!(found, [[0; 7]; 2]);
    assert_eq!(lines, 3, "what a frame began to write is not the beginning of the next frame's line");
    assert_eq!(parsed, 1, "the model is parsed once for all instances");
}

#[test]
fn a_reactor_finds_all_of_the_frame_before() {
    // Memory that the second frame grows into is new; the third finds what the second left there.
    let (found, lines, _) = found(Execution::Reactor);
    assert_eq!(found, [[1, 0, 1, 1, 1, 1, 1], [1, 0, 1, 1, 1, 1, 1]]);
    assert_eq!(lines, 0);
}

#[test]
fn the_start_functions_run_in_every_fresh_instance_and_stop_in_none() {
    let body = r#"(data (i32.const 0) "ok") (global $count (mut i32) (i32.const 0))
        (func $more (global.set $count (i32.add (global.get $count) (i32.const 1))))
        (func (export "_initialize") (call $more))
        (func (export "sanderling_start") (result i32) (call $more) (i32.const 0))
        (func $emit_count (param $with i32)
            (i32.store8 (i32.const 16) (i32.add (global.get $count) (local.get $with)))
            (drop (call $emit (i32.const 0) (i32.const 2) (i32.const 16) (i32.const 1))))
        (func (export "sanderling_frame") (result i32) (call $more) (call $emit_count (i32.const 0)) (i32.const 0))
        (func (export "sanderling_stop") (call $emit_count (i32.const 100)))"#;
    let mut rig = isolated(body);
    assert_eq!(rig.said.take(), [], "nothing runs before the first frame");
    rig.done();
    rig.done();
    rig.guest.stop().unwrap();
    assert_eq!(emits(rig.said.take()), [[3], [3]]);
}

#[test]
fn the_start_functions_and_the_frame_have_one_budget() {
    let spin =
        "(loop $l (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 100000))))";
    let start = format!(r#"(func (export "sanderling_start") (result i32) (local $i i32) {spin} (i32.const 0))"#);
    let frame = format!(r#"(func (export "sanderling_frame") (result i32) (local $i i32) {spin} (i32.const 0))"#);
    let end = |body: &str, fuel_per_frame| {
        let mut rig = Rig::with(body, 0, |spec| {
            spec.execution = Execution::Isolated;
            spec.limits.fuel_per_frame = fuel_per_frame;
        })
        .unwrap();
        rig.frame().map_err(|fault| fault.code)
    };
    let Ok(Outcome::Done(alone)) = end(&frame, 1 << 30) else { panic!("the frame alone runs") };
    let both = start + &frame;
    assert_eq!(end(&both, alone.fuel * 3 / 2), Err(FaultCode::Fuel));
    assert!(matches!(end(&both, alone.fuel * 3), Ok(Outcome::Done(report)) if report.fuel > alone.fuel * 3 / 2));
}

#[test]
fn rates_counters_and_refusals_go_on_from_instance_to_instance() {
    let body = r#"(data (i32.const 0) "okno") (func (export "sanderling_frame") (result i32)
        (drop (call $emit (i32.const 0) (i32.const 2) (i32.const 0) (i32.const 1)))
        (drop (call $emit (i32.const 2) (i32.const 2) (i32.const 0) (i32.const 1))) (i32.const 0))"#;
    let mut rig = Rig::with(body, 0, |spec| {
        spec.execution = Execution::Isolated;
        spec.limits.emit_per_s = 2;
    })
    .unwrap();
    (0..3).for_each(|_| rig.done());
    let said = rig.said.take();
    assert_eq!(said.iter().filter(|said| **said == Said::Denied("emit")).count(), 1);
    assert_eq!(emits(said).len(), 2);
    assert_eq!(rig.guest.denied().get("emit"), Some(&3));
    let counters = rig.guest.counters();
    assert_eq!((counters.emitted, counters.emit_refused), (2, 1));
}

#[test]
fn a_frame_for_which_a_fresh_instance_has_no_room_is_refused_and_the_next_is_handled() {
    let body = r#"(func (export "sanderling_buffer") (param $len i32) (result i32)
            (select (i32.const 0) (i32.const 1024) (i32.gt_u (local.get $len) (i32.const 10))))
        (func (export "sanderling_frame") (result i32) (i32.sub (i32.load8_u (i32.const 1024)) (i32.const 48)))"#;
    let mut rig = isolated(body);
    assert!(matches!(rig.frame_of(&[48; 11]), Ok(Outcome::Refused(_))));
    rig.done();
    assert_eq!(rig.frame_of(b"1").unwrap_err().guest_code, Some(1));
    assert!(rig.frame().is_err(), "after a fault the guest is over, as everywhere");
}

#[test]
fn a_start_function_that_refuses_ends_the_guest_at_its_first_frame() {
    let body = r#"(func (export "sanderling_start") (result i32) (i32.const 7))
        (func (export "sanderling_frame") (result i32) (i32.const 0))"#;
    let fault = isolated(body).frame().unwrap_err();
    assert_eq!((fault.code, fault.guest_code, fault.seq), (FaultCode::Init, Some(7), Some(7)));
    assert_eq!(fault.export.as_deref(), Some("sanderling_start"));
}

#[test]
fn isolated_guests_are_held_to_memory_and_deadline_too() {
    let frame = |execution, body: &str, step| {
        let mut rig = Rig::with(body, step, |spec| {
            spec.execution = execution;
            spec.limits.memory_mib = 1;
        })
        .unwrap();
        rig.frame()
    };
    let spin = r#"(func (export "sanderling_frame") (result i32) (loop $l (br $l)) (unreachable))"#;
    assert_eq!(frame(Execution::Isolated, spin, MS).unwrap_err().code, FaultCode::Deadline);
    let grow = r#"(func (export "sanderling_frame") (result i32)
        (i32.add (memory.grow (i32.const 16)) (i32.add (memory.grow (i32.const 15)) (i32.const 0))))"#;
    for _ in 0..3 {
        assert!(
            matches!(frame(Execution::Isolated, grow, 0), Ok(Outcome::Done(report)) if report.memory_bytes == 1 << 20)
        );
    }
}

/// Copies standard input to standard output, a few bytes at a time, as C programs do.
const CAT: &str = r#"(data (i32.const 0) "\00\01\00\00\05\00\00\00")
    (func (export "_start")
        (loop $more
            (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)) (then (unreachable)))
            (if (i32.eqz (i32.load (i32.const 16))) (then (return)))
            (i32.store (i32.const 8) (i32.const 256)) (i32.store (i32.const 12) (i32.load (i32.const 16)))
            (if (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 20)) (then (unreachable)))
            (br $more)))"#;

#[test]
fn a_command_reads_the_frame_and_each_line_that_it_writes_is_a_record() {
    let mut rig = command(CAT);
    for content in ["one\nand two\n\nthree without an end", "four\n", ""] {
        assert!(matches!(rig.frame_of(content.as_bytes()), Ok(Outcome::Done(_))));
    }
    let said = rig.said.take();
    assert_eq!(said[0], Said::Emit { seq: 7, channel: "stdout".into(), payload: b"one".to_vec() });
    assert_eq!(lines(said), ["one", "and two", "three without an end", "four"]);
}

#[test]
fn standard_error_of_a_command_is_logged() {
    let body = r#"(data (i32.const 0) "\08\00\00\00\06\00\00\00oh\0a my")
        (func (export "_start") (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 64))))"#;
    let mut rig = command(body);
    rig.done();
    assert_eq!(logged(&rig.said.take()), ["oh", " my"]);
}

#[test]
fn a_command_without_the_grant_is_told_so_once_and_goes_on() {
    let mut rig = command_with(CAT, |spec| spec.grants = vec!["emit:other".parse().unwrap()]);
    rig.frame_of(b"one\ntwo\n").unwrap();
    rig.frame_of(b"three\n").unwrap();
    let said = rig.said.take();
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(said[0], Said::Denied("stdout"));
    assert!(logged(&said)[0].contains("emit:stdout"), "{said:?}");
    assert_eq!(rig.guest.denied().get("stdout"), Some(&3));
}

#[test]
fn a_line_that_is_longer_than_a_record_is_left_out_whole_and_the_next_is_not() {
    let mut rig = command(CAT);
    let mut content = vec![b'x'; MAX_RECORD];
    content.extend_from_slice(b"\n");
    content.extend(vec![b'y'; MAX_RECORD + 1]);
    content.extend_from_slice(b"\nshort\n");
    assert!(matches!(rig.frame_of(&content), Ok(Outcome::Done(_))));
    let said = rig.said.take();
    assert!(logged(&said)[0].contains("65537 bytes"), "{:?}", logged(&said));
    let lengths: Vec<usize> = emits(said).iter().map(Vec::len).collect();
    assert_eq!(lengths, [MAX_RECORD, 5]);
}

#[test]
fn lines_above_the_rate_are_dropped_counted_and_mentioned() {
    let mut rig = command_with(CAT, |spec| spec.limits.emit_per_s = 2);
    rig.frame_of(b"1\n2\n3\n4\n5\n").unwrap();
    let said = rig.said.take();
    assert!(logged(&said)[0].starts_with("3 lines"), "{said:?}");
    assert_eq!(lines(said), ["1", "2"]);
    assert_eq!(rig.guest.counters().emit_refused, 3);
}

#[test]
fn a_command_ends_well_with_status_0_and_faults_with_any_other() {
    let exit = |status: i32| {
        let body = format!(r#"(func (export "_start") (call $proc_exit (i32.const {status})) (unreachable))"#);
        command(&body).frame()
    };
    assert!(matches!(exit(0), Ok(Outcome::Done(_))));
    for status in [1, 33, -1] {
        let fault = exit(status).unwrap_err();
        assert_eq!((fault.code, fault.guest_code, fault.seq), (FaultCode::Guest, Some(status), Some(7)));
        assert_eq!(fault.export.as_deref(), Some("_start"));
    }
    let trap = command(r#"(func (export "_start") (unreachable))"#).frame().unwrap_err();
    assert_eq!((trap.code, trap.export.as_deref()), (FaultCode::Trap, Some("_start")));
}

#[test]
fn what_a_command_wrote_before_it_failed_is_kept() {
    let body = r#"(data (i32.const 0) "\08\00\00\00\04\00\00\00half")
        (func (export "_start")
            (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64))) (unreachable))"#;
    let mut rig = command(body);
    assert!(rig.frame().is_err());
    assert_eq!(lines(rig.said.take()), ["half"]);
}

#[test]
fn a_command_that_exits_after_its_deadline_has_overrun_it() {
    let body = r#"(func (export "_start") (call $proc_exit (i32.const 0)))"#;
    let edit = |spec: &mut LoadSpec<'_>| {
        as_command(spec);
        spec.limits.deadline_ms = 2;
    };
    let mut rig = Rig::load(&program(body), 3 * MS, edit).unwrap();
    assert_eq!(rig.frame().unwrap_err().code, FaultCode::Deadline);
}

#[test]
fn modules_are_told_which_execution_they_are_made_for() {
    let load = |module: &[u8], execution| {
        let fault = Rig::load(module, 0, |spec| spec.execution = execution).map(|_| ()).unwrap_err();
        assert_eq!(fault.code, FaultCode::Init);
        fault.message
    };
    let frame = r#"(func (export "sanderling_frame") (result i32) (i32.const 0))"#;
    let message = load(&module(frame), Execution::Command);
    assert!(message.contains("_start") && message.contains("reactor or isolated"), "{message}");
    for execution in [Execution::Reactor, Execution::Isolated] {
        let message = load(&program(CAT), execution);
        assert!(message.contains("sanderling_abi") && message.contains("command"), "{message}");
    }
}

/// Sleeps for so many nanoseconds.
fn sleeper(ns: u64) -> String {
    format!(
        r#"(func (export "_start")
            (i32.store (i32.const 16) (i32.const 1)) (i64.store (i32.const 24) (i64.const {ns}))
            (if (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)) (then (unreachable)))
            (if (i32.ne (i32.load (i32.const 128)) (i32.const 1)) (then (unreachable))))"#
    )
}

#[test]
fn a_command_may_sleep_within_its_deadline_and_pays_no_fuel_for_it() {
    let mut rig = command(&sleeper(100 * MS));
    let before = rig.clock.mono_ns();
    match rig.frame() {
        Ok(Outcome::Done(report)) => assert!(report.fuel < 1000 && report.took_ns == 100 * MS, "{report:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.clock.mono_ns() - before, 100 * MS);
}

#[test]
fn a_guest_that_would_sleep_beyond_its_deadline_ends_at_it() {
    for ns in [201 * MS, u64::MAX] {
        let mut rig = command(&sleeper(ns));
        let before = rig.clock.mono_ns();
        let fault = rig.frame().unwrap_err();
        assert_eq!((fault.code, fault.export.as_deref()), (FaultCode::Deadline, Some("_start")));
        assert_eq!(rig.clock.mono_ns() - before, 200 * MS);
    }
}

#[test]
fn a_stop_request_rouses_a_guest_that_sleeps() {
    let mut rig = command(&sleeper(100 * MS));
    rig.stop.store(true, Ordering::Relaxed);
    assert_eq!(rig.frame(), Ok(Outcome::Stopped));
    assert_eq!(rig.clock.mono_ns(), 0);
}

#[test]
fn a_start_section_that_sleeps_is_held_to_the_deadline_too() {
    let body = sleeper(201 * MS).replace(r#"(export "_start")"#, "$nap") + r#"(start $nap) (func (export "_start"))"#;
    let mut rig = command(&body);
    let fault = rig.frame().unwrap_err();
    assert_eq!((fault.code, fault.export.as_deref()), (FaultCode::Deadline, Some("(start section)")));
}
