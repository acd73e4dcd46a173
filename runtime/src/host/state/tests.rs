use sanderling_guest::errno::{E2BIG, EACCES, EFAULT, EINVAL, ENODATA, ENOENT, ENOSPC};
use sanderling_protocol::worker::{MAX_STATE_KEY, MAX_STATE_KEYS, MAX_STATE_VALUE, State};

use super::MemoryState;
use crate::{Outcome, Said, testing::Rig};

/// Pointer and length pairs that do not lie in one page of memory.
const OUTSIDE: [(i64, i64); 8] = [
    (65536, 1),
    (65535, 2),
    (65537, 0),
    (-1, 1),
    (0, -1),
    (-1, -1),
    (0x7fff_ffff, 0x7fff_ffff),
    (-0x8000_0000, -0x8000_0000),
];

/// A guest around `body` with a quota, that keeps its state in memory.
fn rig(body: &str, quota: u64, kept: &[(&str, &str)]) -> (Rig, MemoryState) {
    let mut rig = Rig::with(body, 0, |spec| spec.grants.push(format!("state:{quota}").parse().unwrap())).unwrap();
    let state: State = kept.iter().map(|(key, value)| (key.as_bytes().into(), value.as_bytes().into())).collect();
    let port = MemoryState::new(state.clone());
    rig.guest.restore(state, Box::new(port.clone()));
    rig.guest.start().unwrap();
    (rig, port)
}

fn entries(port: &MemoryState) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    port.get().iter().map(|(key, value)| (text(key), text(value))).collect()
}

fn pair(key: &str, value: &str) -> (String, String) {
    (key.into(), value.into())
}

/// What the expression yields during `sanderling_frame`, where `k` is kept as `value`.
fn value_of(expression: &str) -> i32 {
    let body = format!("(data (i32.const 0) \"k\") (func (export \"sanderling_frame\") (result i32) {expression})");
    let (mut rig, _) = rig(&body, 100, &[("k", "value")]);
    match rig.frame() {
        Ok(outcome) => {
            assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
            0
        }
        Err(fault) => fault.guest_code.unwrap(),
    }
}

#[test]
fn every_pointer_and_length_is_held_to_memory() {
    for (ptr, len) in OUTSIDE {
        for call in [
            format!("(call $state_get (i32.const {ptr}) (i32.const {len}) (i32.const 0) (i32.const 8))"),
            format!("(call $state_get (i32.const 0) (i32.const 1) (i32.const {ptr}) (i32.const {len}))"),
            format!("(call $state_set (i32.const {ptr}) (i32.const {len}) (i32.const 0) (i32.const 8))"),
            format!("(call $state_set (i32.const 0) (i32.const 1) (i32.const {ptr}) (i32.const {len}))"),
            format!("(call $state_delete (i32.const {ptr}) (i32.const {len}))"),
        ] {
            assert_eq!(value_of(&call), -EFAULT, "{call}");
        }
    }
}

#[test]
fn the_edges_of_memory_are_inside() {
    let key = "(i32.store8 (i32.const 65535) (i32.const 107))";
    assert_eq!(
        value_of(&format!("{key} (call $state_get (i32.const 65535) (i32.const 1) (i32.const 65531) (i32.const 5))")),
        5
    );
    let set = "(call $state_set (i32.const 0) (i32.const 1) (i32.const 65526) (i32.const 10))";
    assert_eq!(value_of(set), 0);
    assert_eq!(value_of("(call $state_set (i32.const 0) (i32.const 1) (i32.const 65536) (i32.const 0))"), 0);
    assert_eq!(value_of(&format!("{key} (call $state_delete (i32.const 65535) (i32.const 1))")), 0);
}

#[test]
fn answers_keys_that_are_none_and_values_that_are_too_long() {
    let get = |len: usize| format!("(call $state_get (i32.const 0) (i32.const {len}) (i32.const 0) (i32.const 8))");
    assert_eq!(value_of(&get(0)), -EINVAL);
    assert_eq!(value_of(&get(MAX_STATE_KEY + 1)), -E2BIG);
    assert_eq!(value_of(&get(MAX_STATE_KEY)), -ENOENT);
    assert_eq!(value_of("(call $state_delete (i32.const 0) (i32.const 2))"), -ENOENT);
    let body = format!(
        r#"(data (i32.const 0) "k") (func (export "sanderling_start") (result i32) (drop (memory.grow (i32.const 2))) (i32.const 0))
        (func (export "sanderling_frame") (result i32)
            (drop (call $state_set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const {MAX_STATE_VALUE})))
            (call $state_set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const {})))"#,
        MAX_STATE_VALUE + 1
    );
    let (mut rig, port) = rig(&body, 1 << 20, &[]);
    assert_eq!(rig.frame().unwrap_err().guest_code, Some(-E2BIG));
    assert!(port.get().is_empty(), "the frame ended with a fault");
}

#[test]
fn without_the_grant_each_function_is_denied() {
    let body = r#"(func (export "sanderling_frame") (result i32) (i32.add (i32.const 39) (i32.add
        (call $state_delete (i32.const -1) (i32.const -1))
        (i32.add (call $state_get (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1))
            (call $state_set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1))))))"#;
    let mut rig = Rig::new(body);
    rig.done();
    rig.done();
    assert_eq!(EACCES, 13);
    assert_eq!(rig.said.take(), ["state_delete", "state_get", "state_set"].map(Said::Denied));
}

#[test]
fn is_not_known_before_the_start_functions() {
    let body = r#"(global $answer (mut i32) (i32.const 0))
        (func $init (global.set $answer (call $state_get (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 8))))
        (start $init)
        (func (export "sanderling_start") (result i32)
            (i32.sub (call $state_get (i32.const 0) (i32.const 1) (i32.const 8) (i32.const 8)) (i32.const 5)))
        (data (i32.const 0) "k") (func (export "sanderling_frame") (result i32) (global.get $answer))"#;
    let (mut rig, _) = rig(body, 100, &[("k", "value")]);
    assert_eq!(rig.frame().unwrap_err().guest_code, Some(-ENODATA));
}

#[test]
fn what_is_set_is_seen_at_once_and_kept_when_the_frame_ends_well() {
    // Copies the value of `a` to `b`, cut to four bytes, and deletes `a`.
    let body = r#"(data (i32.const 0) "ab") (func (export "sanderling_frame") (result i32)
        (if (i32.ne (call $state_get (i32.const 0) (i32.const 1) (i32.const 16) (i32.const 4)) (i32.const 6))
            (then (return (i32.const 1))))
        (drop (call $state_set (i32.const 1) (i32.const 1) (i32.const 16) (i32.const 8)))
        (drop (call $state_delete (i32.const 0) (i32.const 1)))
        (if (i32.ne (call $state_get (i32.const 0) (i32.const 1) (i32.const 16) (i32.const 4)) (i32.const -2))
            (then (return (i32.const 2))))
        (i32.sub (call $state_get (i32.const 1) (i32.const 1) (i32.const 32) (i32.const 9)) (i32.const 8)))"#;
    let (mut rig, port) = rig(body, 100, &[("a", "twelve"), ("c", "")]);
    rig.done();
    assert_eq!(entries(&port), [pair("b", "twel\0\0\0\0"), pair("c", "")]);
    assert_eq!(rig.guest.state().unwrap().size(), port.get().size());
}

#[test]
fn a_frame_that_faults_changes_nothing_and_its_beginning_can_be_read() {
    for end in ["(i32.const 3)", "(unreachable)", "(loop $l (br $l)) (i32.const 0)"] {
        let body = format!(
            r#"(data (i32.const 0) "k") (func (export "sanderling_frame") (result i32)
            (drop (call $state_set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1))) {end})"#
        );
        let (mut rig, port) = rig(&body, 100, &[("k", "value")]);
        rig.frame().unwrap_err();
        assert_eq!(entries(&port), [pair("k", "value")], "{end}");
        let state = rig.guest.state().unwrap();
        assert_eq!((state.iter().len(), state.size().bytes), (1, 6), "{end}");
    }
}

#[test]
fn a_frame_that_is_refused_changes_nothing() {
    let body = r#"(data (i32.const 0) "k") (func (export "sanderling_frame") (result i32) (i32.const 0))
        (func (export "sanderling_buffer") (param i32) (result i32)
            (drop (call $state_delete (i32.const 0) (i32.const 1))) (i32.const 0))"#;
    let (mut rig, port) = rig(body, 100, &[("k", "value")]);
    assert!(matches!(rig.frame(), Ok(Outcome::Refused(_))));
    assert_eq!(entries(&port), [pair("k", "value")]);
}

#[test]
fn a_fresh_instance_for_each_frame_finds_what_the_one_before_kept() {
    let body = r#"(data (i32.const 0) "k") (func (export "sanderling_frame") (result i32)
        (drop (call $state_get (i32.const 0) (i32.const 1) (i32.const 8) (i32.const 1)))
        (i32.store8 (i32.const 8) (i32.add (i32.load8_u (i32.const 8)) (i32.const 1)))
        (drop (call $state_set (i32.const 0) (i32.const 1) (i32.const 8) (i32.const 1)))
        (if (result i32) (i32.eq (i32.load8_u (i32.const 8)) (i32.const 51)) (then (unreachable)) (else (i32.const 0))))"#;
    let mut rig = Rig::with(body, 0, |spec| {
        spec.grants.push("state:9".parse().unwrap());
        spec.execution = sanderling_protocol::deployment::Execution::Isolated;
    })
    .unwrap();
    let port = MemoryState::new(State::from_iter([(b"k"[..].into(), b"0"[..].into())]));
    rig.guest.restore(port.get(), Box::new(port.clone()));
    rig.guest.start().unwrap();
    rig.done();
    rig.done();
    assert_eq!(entries(&port), [pair("k", "2")]);
    rig.frame().unwrap_err();
    assert_eq!(entries(&port), [pair("k", "2")], "the frame that faulted");
}

#[test]
fn the_start_and_stop_functions_keep_what_they_change() {
    let body = r#"(data (i32.const 0) "ab") (func (export "sanderling_frame") (result i32) (i32.const 0))
        (func (export "_initialize") (drop (call $state_set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1))))
        (func (export "sanderling_start") (result i32)
            (call $state_set (i32.const 1) (i32.const 1) (i32.const 0) (i32.const 2)))
        (func (export "sanderling_stop") (drop (call $state_delete (i32.const 0) (i32.const 1))))"#;
    let (mut rig, port) = rig(body, 100, &[]);
    assert_eq!(entries(&port), [pair("a", "a"), pair("b", "ab")]);
    rig.guest.stop().unwrap();
    assert_eq!(entries(&port), [pair("b", "ab")]);
}

#[test]
fn the_quota_holds_over_keys_and_values_and_what_is_deleted_makes_room() {
    // Sets `k` to as many bytes as the frame has; then, where there are none, sets `l` to nine.
    let body = r#"(data (i32.const 0) "kl") (func (export "sanderling_frame") (result i32) (local $len i32)
        (local.set $len (call $frame_read (i32.const 0) (i32.const 64) (i32.const 1000)))
        (if (i32.eqz (local.get $len)) (then
            (drop (call $state_delete (i32.const 0) (i32.const 1)))
            (return (call $state_set (i32.const 1) (i32.const 1) (i32.const 64) (i32.const 9)))))
        (call $state_set (i32.const 0) (i32.const 1) (i32.const 64) (local.get $len)))"#;
    let (mut small, port) = rig(body, 10, &[]);
    assert!(matches!(small.frame_of(&[b'v'; 9]), Ok(Outcome::Done(_))));
    assert!(matches!(small.frame_of(&[]), Ok(Outcome::Done(_))), "what was deleted makes room");
    assert_eq!(port.get().size().bytes, 10);
    assert_eq!(small.frame_of(b"v").unwrap_err().guest_code, Some(-ENOSPC));
    let (mut above, port) = rig(body, 9, &[]);
    assert_eq!(above.frame_of(&[b'v'; 9]).unwrap_err().guest_code, Some(-ENOSPC));
    assert!(port.get().is_empty());
}

#[test]
fn the_number_of_keys_is_bounded() {
    let body = format!(
        r#"(func (export "sanderling_frame") (result i32) (local $i i32)
        (loop $l (i32.store (i32.const 0) (local.get $i))
            (drop (call $state_set (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 0)))
            (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {MAX_STATE_KEYS}))))
        (i32.store (i32.const 0) (local.get $i))
        (i32.add (call $state_set (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 0)) (i32.const {ENOSPC})))"#
    );
    let (mut rig, port) = rig(&body, 1 << 20, &[]);
    rig.done();
    assert_eq!(port.get().size().keys, MAX_STATE_KEYS);
}

#[test]
fn what_comes_and_goes_within_a_call_is_no_change() {
    let body = r#"(data (i32.const 0) "k") (func (export "sanderling_frame") (result i32)
        (drop (call $state_set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1)))
        (call $state_delete (i32.const 0) (i32.const 1)))"#;
    struct Never;
    impl super::Keep for Never {
        fn keep(&mut self, changes: &super::StateChanges) {
            assert!(changes.is_empty(), "{changes:?}");
        }
    }
    let mut rig = Rig::with(body, 0, |spec| spec.grants.push("state:9".parse().unwrap())).unwrap();
    rig.guest.restore(State::default(), Box::new(Never));
    rig.guest.start().unwrap();
    rig.done();
    rig.done();
}
