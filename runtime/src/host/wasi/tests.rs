use sanderling_protocol::deployment::Execution;

use crate::{
    Outcome, Said,
    testing::{Rig, program, value_of},
};

const BADF: i32 = 8;
const FAULT: i32 = 21;
const INVAL: i32 = 28;
const NOSYS: i32 = 52;
const NOTSOCK: i32 = 57;
const SPIPE: i32 = 70;
const MS: u64 = 1_000_000;

/// Runs the body of `_start` as a command with this configuration; what it left at 1024 comes back, so many bytes.
fn left(config: &str, body: &str, count: usize) -> Vec<u8> {
    let text = format!(
        r#"(data (i32.const 0) "left") (func (export "_start") {body}
            (drop (call $emit (i32.const 0) (i32.const 4) (i32.const 1024) (i32.const {count}))))"#
    );
    let mut rig = Rig::load(&program(&text), 0, |spec| {
        spec.execution = Execution::Command;
        spec.config = config.to_owned();
        spec.grants = vec!["emit:left".parse().unwrap()];
    })
    .unwrap();
    rig.done();
    match rig.said.take().as_slice() {
        [Said::Emit { payload, .. }] => payload.clone(),
        other => panic!("{other:?}"),
    }
}

fn word(bytes: &[u8], index: usize) -> u32 {
    u32::from_le_bytes(bytes[index * 4..][..4].try_into().unwrap())
}

const SIZES: &str = "(drop (call $environ_sizes_get (i32.const 1024) (i32.const 1028)))
    (drop (call $args_sizes_get (i32.const 1032) (i32.const 1036)))";

#[test]
fn arguments_and_environment_come_out_of_the_configuration() {
    let config = r#"{ "env": { "A": "text", "B": "new\nline=" }, "args": ["-x", "two words"] }"#;
    let sizes = left(config, SIZES, 16);
    let words: Vec<u32> = (0..4).map(|index| word(&sizes, index)).collect();
    assert_eq!(words, [2, 7 + 12, 3, 7 + 3 + 10]);
    let environment = left(config, "(drop (call $environ_get (i32.const 1024) (i32.const 1032)))", 27);
    assert_eq!((word(&environment, 0), word(&environment, 1)), (1032, 1039));
    assert_eq!(&environment[8..], b"A=text\0B=new\nline=\0");
    let arguments = left(config, "(drop (call $args_get (i32.const 1024) (i32.const 1036)))", 32);
    assert_eq!(&arguments[12..], b"module\0-x\0two words\0");
    assert_eq!(word(&arguments, 2), 1036 + 10);
}

#[test]
fn what_is_no_environment_and_no_arguments_gives_none() {
    for config in [
        "null",
        "{}",
        r#"{ "env": ["A"], "args": "x" }"#,
        r#"{ "env": { "A": 1 }, "args": [1] }"#,
        r#"{ "env": { "": "x", "A=B": "x", "N": "a\u0000b" } }"#,
    ] {
        let sizes = left(config, SIZES, 16);
        let words: Vec<u32> = (0..4).map(|index| word(&sizes, index)).collect();
        assert_eq!(words, [0, 0, 1, 7], "{config}");
    }
}

#[test]
fn strings_are_written_inside_of_memory_or_not_at_all() {
    for (pointers, bytes) in [(65534, 0), (0, 65534), (-4, 0), (0, -1)] {
        let call = format!("(call $args_get (i32.const {pointers}) (i32.const {bytes}))");
        assert_eq!(value_of(&call), FAULT, "{call}");
    }
}

#[test]
fn standard_descriptors_are_devices_that_cannot_be_sought() {
    for fd in 0..3 {
        assert_eq!(
            value_of(&format!("(call $fd_seek (i32.const {fd}) (i64.const 0) (i32.const 0) (i32.const 0))")),
            SPIPE
        );
        assert_eq!(value_of(&format!("(call $fd_tell (i32.const {fd}) (i32.const 0))")), SPIPE);
        assert_eq!(value_of(&format!("(call $fd_sync (i32.const {fd}))")), NOSYS);
        assert_eq!(value_of(&format!("(call $sock_shutdown (i32.const {fd}) (i32.const 1))")), NOTSOCK);
        let filetype =
            format!("(drop (call $fd_filestat_get (i32.const {fd}) (i32.const 1024))) (i32.load8_u (i32.const 1040))");
        assert_eq!(value_of(&filetype), 2, "a character device");
    }
    for fd in [3, 4, -1, i32::MIN, i32::MAX] {
        for call in [
            format!("(call $fd_seek (i32.const {fd}) (i64.const 0) (i32.const 0) (i32.const 0))"),
            format!("(call $fd_filestat_get (i32.const {fd}) (i32.const 0))"),
            format!("(call $fd_fdstat_get (i32.const {fd}) (i32.const 0))"),
            format!("(call $fd_sync (i32.const {fd}))"),
            format!("(call $sock_shutdown (i32.const {fd}) (i32.const 1))"),
            format!("(call $fd_read (i32.const {fd}) (i32.const 0) (i32.const 1) (i32.const 8))"),
        ] {
            assert_eq!(value_of(&call), BADF, "{call}");
        }
    }
    assert_eq!(value_of("(call $proc_raise (i32.const 3))"), NOSYS);
    assert_eq!(value_of("(call $fd_filestat_get (i32.const 1) (i32.const 65500))"), FAULT);
}

#[test]
fn only_a_command_has_something_to_read() {
    assert_eq!(value_of("(call $fd_read (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8))"), BADF);
    let read =
        "(i32.store (i32.const 1024) (call $fd_read (i32.const 0) (i32.const 64) (i32.const 2) (i32.const 1028)))
        (i32.store (i32.const 64) (i32.const 1032)) (i32.store (i32.const 68) (i32.const 3))
        (i32.store (i32.const 72) (i32.const 1035)) (i32.store (i32.const 76) (i32.const 20))
        (i32.store (i32.const 1024) (call $fd_read (i32.const 0) (i32.const 64) (i32.const 2) (i32.const 1028)))";
    let bytes = left("null", read, 18);
    assert_eq!((word(&bytes, 0), word(&bytes, 1), &bytes[8..]), (0, 10, crate::testing::CONTENT));
}

#[test]
fn reading_refuses_bad_pointers() {
    for call in [
        "(call $fd_read (i32.const 0) (i32.const -4) (i32.const 1) (i32.const 8))",
        "(call $fd_read (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 65533))",
        "(i32.store (i32.const 64) (i32.const -1)) (i32.store (i32.const 68) (i32.const 2))
            (call $fd_read (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 8))",
    ] {
        let answer = left("null", &format!("(i32.store (i32.const 1024) (block (result i32) {call}))"), 4);
        assert_eq!(word(&answer, 0), FAULT.unsigned_abs(), "{call}");
    }
    let negative =
        "(i32.store (i32.const 1024) (call $fd_read (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 8)))";
    assert_eq!(word(&left("null", negative, 4), 0), INVAL.unsigned_abs());
}

#[test]
fn a_closed_descriptor_stays_closed_until_the_next_instance() {
    let body = r#"(func (export "_start")
        (if (call $fd_close (i32.const 1)) (then (unreachable)))
        (if (i32.ne (call $fd_close (i32.const 1)) (i32.const 8)) (then (unreachable)))
        (if (i32.ne (call $fd_write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 8)) (i32.const 8)) (then (unreachable)))
        (if (i32.ne (call $fd_fdstat_get (i32.const 1) (i32.const 64)) (i32.const 8)) (then (unreachable)))
        (if (call $fd_write (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 8)) (then (unreachable))))"#;
    let mut rig = Rig::load(&program(body), 0, |spec| spec.execution = Execution::Command).unwrap();
    rig.done();
    rig.done();
}

/// Opens `/dev/stdin` (its name at 64, a buffer of 4 bytes at 1040 described at 80) with these flags and rights.
fn open(flags: i32, rights: i64) -> String {
    format!(
        "(i64.store (i32.const 64) (i64.const {})) (i32.store (i32.const 80) (i32.const 1040)) (i32.store (i32.const 84) (i32.const 4))
        (call $path_open (i32.const 3) (i32.const 1) (i32.const 64) (i32.const 5) (i32.const {flags}) (i64.const {rights})
            (i64.const 0) (i32.const 0) (i32.const 1032))",
        i64::from_le_bytes(*b"stdin\0\0\0")
    )
}

/// What a command's `call` answers, given that `before` is done, and the 24 bytes from 1032 on.
fn answers(before: &str, call: &str) -> (u32, Vec<u8>) {
    let bytes = left("null", &format!("{before} (i32.store (i32.const 1024) {call})"), 32);
    (word(&bytes, 0), bytes[8..].to_vec())
}

#[test]
fn a_command_may_open_its_frame_as_a_file_and_read_it_from_any_position() {
    let opened = format!("(drop (block (result i32) {})) (drop (block (result i32) {}))", open(0, 2), open(0, 2));
    let read = "(call $fd_read (i32.const 4) (i32.const 80) (i32.const 1) (i32.const 1036))";
    let (errno, bytes) = answers(&opened, read);
    assert_eq!((errno, word(&bytes, 0), word(&bytes, 1)), (0, 5, 4), "the second file, and how much was read");
    assert_eq!(&bytes[8..12], b"0123");
    // Its position is its own; the other file and standard input have theirs.
    let seek = |offset: i64, whence: i32| {
        format!("(call $fd_seek (i32.const 4) (i64.const {offset}) (i32.const {whence}) (i32.const 1040))")
    };
    let after = format!("{opened} (drop {read})");
    for (offset, whence, position) in [(3, 0, 3), (3, 1, 7), (-2, 2, 8), (90, 0, 90)] {
        let (errno, bytes) = answers(&after, &seek(offset, whence));
        assert_eq!((errno, word(&bytes, 2)), (0, position), "{offset} {whence}");
    }
    for (offset, whence) in [(-1, 0), (-5, 1), (i64::MAX, 1), (0, 3)] {
        assert_eq!(answers(&after, &seek(offset, whence)).0, INVAL.unsigned_abs(), "{offset} {whence}");
    }
    let far = format!("{opened} (drop {})", seek(8, 0));
    let (_, bytes) = answers(&far, read);
    assert_eq!((word(&bytes, 1), &bytes[8..10]), (2, b"89".as_slice()), "up to the end");
    let (_, bytes) = answers(&after, &read.replace("fd_read (i32.const 4)", "fd_read (i32.const 5)"));
    assert_eq!(&bytes[8..12], b"0123");
    let (_, bytes) = answers(&after, &read.replace("fd_read (i32.const 4)", "fd_read (i32.const 0)"));
    assert_eq!(&bytes[8..12], b"0123");
    let at = "(call $fd_pread (i32.const 4) (i32.const 80) (i32.const 1) (i64.const 5) (i32.const 1036))";
    assert_eq!(&answers(&after, at).1[8..12], b"5678");
    let (_, bytes) = answers(&after, "(call $fd_tell (i32.const 4) (i32.const 1040))");
    assert_eq!(word(&bytes, 2), 4, "reading at a position moves nothing");
}

#[test]
fn the_frame_as_a_file_says_how_long_it_is() {
    let opened = format!("(drop (block (result i32) {}))", open(0, 2));
    for call in [
        "(call $fd_filestat_get (i32.const 4) (i32.const 960))",
        "(call $path_filestat_get (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 5) (i32.const 960))",
    ] {
        let before = format!(
            "{opened} (drop {call}) (i64.store (i32.const 1032) (i64.load (i32.const 976))) (i64.store (i32.const 1040) (i64.load (i32.const 992)))"
        );
        let (_, bytes) = answers(&before, "(i32.const 0)");
        assert_eq!((word(&bytes, 0), word(&bytes, 2)), (4, 10), "a regular file of ten bytes: {call}");
    }
}

#[test]
fn there_is_one_file_and_it_can_only_be_read() {
    let (acces, exist, isdir, mfile, noent, notdir) = (2, 20, 31, 33, 44, 54);
    let errno = |before: &str, call: &str| answers(before, call).0;
    let other = open(0, 2).replace("(i32.const 5) (i32.const 0)", "(i32.const 4) (i32.const 0)");
    for (call, wanted) in [
        (open(1 | 4, 2), exist),
        (open(2, 2), notdir),
        (open(8, 2), acces),
        (open(0, 64), acces),
        (other.clone(), noent),
        (other.replace("(i32.const 4) (i32.const 0)", "(i32.const 4) (i32.const 1)"), acces),
        (open(0, 2).replace("path_open (i32.const 3)", "path_open (i32.const 0)"), notdir),
        (open(0, 2).replace("path_open (i32.const 3)", "path_open (i32.const 4)"), 8),
        (open(0, 2).replace("(i32.const 1032))", "(i32.const 65533))"), 21),
        ("(call $path_unlink_file (i32.const 3) (i32.const 64) (i32.const 5))".to_owned(), 52),
        ("(call $fd_seek (i32.const 3) (i64.const 0) (i32.const 0) (i32.const 64))".to_owned(), isdir),
        ("(call $fd_read (i32.const 3) (i32.const 64) (i32.const 0) (i32.const 64))".to_owned(), isdir),
        ("(call $fd_prestat_dir_name (i32.const 3) (i32.const 64) (i32.const 3))".to_owned(), 28),
        ("(call $fd_prestat_dir_name (i32.const 3) (i32.const 65533) (i32.const 4))".to_owned(), 21),
        ("(call $fd_prestat_get (i32.const 4) (i32.const 64))".to_owned(), 8),
    ] {
        assert_eq!(errno("", &format!("(block (result i32) {call})")), wanted, "{call}");
    }
    let many = format!("(drop (block (result i32) {}))", open(0, 2)).repeat(8);
    assert_eq!(errno(&many, &format!("(block (result i32) {})", open(0, 2))), mfile);
    let write = "(call $fd_write (i32.const 4) (i32.const 80) (i32.const 1) (i32.const 1036))";
    assert_eq!(errno(&many, write), BADF.unsigned_abs());
    let closed = format!("{many} (drop (call $fd_close (i32.const 6)))");
    let (errno, bytes) = answers(&closed, &format!("(block (result i32) {})", open(0, 2)));
    assert_eq!((errno, word(&bytes, 0)), (0, 6), "what was closed is given out again");
    let (_, bytes) = answers(
        "(drop (call $fd_prestat_get (i32.const 3) (i32.const 1032)))
        (drop (call $fd_prestat_dir_name (i32.const 3) (i32.const 1040) (i32.const 9)))",
        "(i32.const 0)",
    );
    assert_eq!((word(&bytes, 0), word(&bytes, 1), &bytes[8..12]), (0, 4, b"/dev".as_slice()));
    assert_eq!(value_of(&format!("(block (result i32) {})", open(0, 2))), BADF, "a reactor has none");
}

/// A subscription to a clock at `at`, as instructions.
fn clock(at: u32, id: u32, ns: u64, flags: u32) -> String {
    format!(
        "(i64.store (i32.const {at}) (i64.const {at})) (i32.store (i32.const {}) (i32.const {id}))
        (i64.store (i32.const {}) (i64.const {ns})) (i32.store16 (i32.const {}) (i32.const {flags}))",
        at + 16,
        at + 24,
        at + 40
    )
}

/// A subscription to a descriptor at `at`, as instructions.
fn descriptor(at: u32, kind: u32, fd: i32) -> String {
    format!(
        "(i64.store (i32.const {at}) (i64.const {at})) (i32.store8 (i32.const {}) (i32.const {kind}))
        (i32.store (i32.const {}) (i32.const {fd}))",
        at + 8,
        at + 16
    )
}

/// The events of a poll: userdata, errno, kind and bytes of each.
fn events(subscriptions: &str, count: u32) -> Vec<(u64, u16, u8, u64)> {
    let body = format!(
        "{subscriptions} (if (call $poll_oneoff (i32.const 128) (i32.const 1028) (i32.const {count}) (i32.const 1024))
            (then (unreachable)))"
    );
    let bytes = left("null", &body, 4 + 32 * count as usize);
    let event = |index: usize| {
        let event = &bytes[4 + 32 * index..][..32];
        let u64_at = |at: usize| u64::from_le_bytes(event[at..][..8].try_into().unwrap());
        (u64_at(0), u16::from_le_bytes([event[8], event[9]]), event[10], u64_at(16))
    };
    (0..word(&bytes, 0) as usize).map(event).collect()
}

#[test]
fn a_poll_tells_what_is_over_and_nothing_else() {
    let two = clock(128, 1, 5 * MS, 0) + &clock(176, 0, 3 * MS, 0);
    assert_eq!(events(&two, 2), [(176, 0, 0, 0)]);
    let at_once = clock(128, 1, 5 * MS, 0) + &descriptor(176, 2, 1) + &descriptor(224, 1, 0);
    assert_eq!(events(&at_once, 3), [(176, 0, 2, 0), (224, 0, 1, 10)]);
    let wrong = descriptor(128, 1, 5) + &descriptor(176, 2, 0) + &descriptor(224, 9, 1) + &clock(272, 2, 0, 0);
    assert_eq!(events(&wrong, 4), [(128, 8, 1, 0), (176, 8, 2, 0), (224, 28, 9, 0), (272, 28, 0, 0)]);
    let moments = clock(128, 1, 0, 1) + &clock(176, 0, 0, 1);
    assert_eq!(events(&moments, 2), [(128, 0, 0, 0), (176, 0, 0, 0)]);
}

#[test]
fn a_poll_refuses_bad_pointers_and_counts_before_it_waits() {
    let forever = clock(128, 1, u64::MAX, 0);
    for (subscriptions, events, count, out, errno) in [
        (-4, 1024, 1, 1024, FAULT),
        (65500, 1024, 1, 1024, FAULT),
        (128, 65520, 1, 1024, FAULT),
        (128, 1024, 1, 65533, FAULT),
        (128, 1024, 0, 1024, INVAL),
        (128, 1024, -1, 1024, INVAL),
        (128, 1024, 257, 1024, INVAL),
    ] {
        let call = format!(
            "{forever} (call $poll_oneoff (i32.const {subscriptions}) (i32.const {events}) (i32.const {count}) (i32.const {out}))"
        );
        assert_eq!(value_of(&call), errno, "{call}");
    }
}

#[test]
fn sleeping_works_in_a_reactor_too() {
    let body = format!(
        r#"(func (export "sanderling_frame") (result i32) {}
            (call $poll_oneoff (i32.const 128) (i32.const 256) (i32.const 1) (i32.const 512)))"#,
        clock(128, 1, 7 * MS, 0)
    );
    let mut rig = Rig::new(&body);
    assert!(matches!(rig.frame(), Ok(Outcome::Done(report)) if report.took_ns == 7 * MS));
}
