//! Small guests, honest and hostile, written as text and assembled here.

/// Where a guest keeps the frame's header.
const HEADER: &str = "(call $frame_info (i32.const 0))";

/// The channel on which [`ticks`] emits.
pub const TICKS: &str = "ticks";

/// Emits for each frame its number, its time of capture and `tag`: see [`crate::Tick`]. Says `first frame` in the log.
pub fn ticks(tag: u8) -> Vec<u8> {
    module(&frame(tag, ""))
}

/// As [`ticks`], but its `n`th frame traps.
pub fn traps_at(n: u32, tag: u8) -> Vec<u8> {
    module(&frame(tag, &format!("(if (i32.eq (global.get $count) (i32.const {n})) (then (unreachable)))")))
}

/// As [`ticks`], but its `n`th frame never ends.
pub fn hangs_at(n: u32, tag: u8) -> Vec<u8> {
    module(&frame(tag, &format!("(if (i32.eq (global.get $count) (i32.const {n})) (then (loop (br 0))))")))
}

/// Keeps in its memory what it has seen of each frame and emits as [`ticks`] does; its `n`th frame ends with `end`.
pub fn sums_up(n: u32, end: &str) -> Vec<u8> {
    let sum = "(i64.store (i32.const 4096) (i64.add (i64.load (i32.const 4096)) (i64.load (i32.const 0))))";
    let mark =
        "(i32.store8 (i32.add (i32.const 8192) (i32.and (global.get $count) (i32.const 16383))) (global.get $count))";
    let ends = format!("(if (i32.eq (global.get $count) (i32.const {n})) (then {end}))");
    module(&frame(b'r', &format!("(drop {HEADER}) {sum} {mark} {ends}")))
}

/// Emits for each frame what [`ticks`] emits and then how many frames were dropped before it, after it has counted to `spins`: see
/// [`crate::Handled`].
pub fn counts(tag: u8, spins: u32) -> Vec<u8> {
    module(&format!(
        r#"(data (i32.const 128) "ticks")
        (func (export "sanderling_frame") (result i32) (local $i i32)
            (loop $spin
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br_if $spin (i32.lt_u (local.get $i) (i32.const {spins}))))
            (drop {HEADER})
            (i32.store8 (i32.const 16) (i32.const {tag}))
            (i32.store (i32.const 17) (i32.load (i32.const 52)))
            (call $emit (i32.const 128) (i32.const 5) (i32.const 0) (i32.const 21)))"#
    ))
}

/// Counts frames in its state, and emits for each one the count where [`ticks`] emits the frame's number.
pub fn remembers(tag: u8) -> Vec<u8> {
    stateful(tag, "")
}

/// As [`remembers`], but it counts in millions, and its `n`th frame traps.
pub fn spoils(n: u32, tag: u8) -> Vec<u8> {
    stateful(
        tag,
        &format!(
            r#"(i64.store (i32.const 0) (i64.add (i64.load (i32.const 0)) (i64.const 1000000)))
            (global.set $count (i32.add (global.get $count) (i32.const 1)))
            (if (i32.eq (global.get $count) (i32.const {n})) (then (unreachable)))"#
        ),
    )
}

/// Keeps eight bytes more with each frame, and emits for each one the answer negated where [`ticks`] emits the frame's number.
pub fn fills(tag: u8) -> Vec<u8> {
    keeping(&format!(
        r#"(func (export "sanderling_frame") (result i32)
            (drop {HEADER})
            (i64.store (i32.const 0) (i64.sub (i64.const 0)
                (i64.extend_i32_s (call $state_set (i32.const 0) (i32.const 8) (i32.const 0) (i32.const 0)))))
            (i32.store8 (i32.const 16) (i32.const {tag}))
            (call $emit (i32.const 128) (i32.const 5) (i32.const 0) (i32.const 17)))"#
    ))
}

fn stateful(tag: u8, then: &str) -> Vec<u8> {
    keeping(&format!(
        r#"(global $count (mut i32) (i32.const 0)) (data (i32.const 144) "count")
        (func (export "sanderling_frame") (result i32)
            (drop {HEADER})
            (i64.store (i32.const 0) (i64.const 0))
            (drop (call $state_get (i32.const 144) (i32.const 5) (i32.const 0) (i32.const 8)))
            (i64.store (i32.const 0) (i64.add (i64.load (i32.const 0)) (i64.const 1)))
            {then}
            (i32.store8 (i32.const 16) (i32.const {tag}))
            (drop (call $emit (i32.const 128) (i32.const 5) (i32.const 0) (i32.const 17)))
            (call $state_set (i32.const 144) (i32.const 5) (i32.const 0) (i32.const 8)))"#
    ))
}

fn keeping(body: &str) -> Vec<u8> {
    assemble(&format!(
        r#"(module
            (import "sanderling_v1" "frame_info" (func $frame_info (param i32) (result i32)))
            (import "sanderling_v1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
            (import "sanderling_v1" "state_get" (func $state_get (param i32 i32 i32 i32) (result i32)))
            (import "sanderling_v1" "state_set" (func $state_set (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1) (data (i32.const 128) "ticks")
            (func (export "sanderling_abi") (result i32) (i32.const 1))
            {body})"#
    ))
}

/// Emits for each frame `{"found": n}`, n being 1 where it finds anything in its memory or in a global before it takes the frame, and 0 where it
/// does not; then it leaves the frame there.
pub fn hoards() -> Vec<u8> {
    assemble(
        r#"(module
        (import "sanderling_v1" "frame_read" (func $frame_read (param i32 i32 i32) (result i32)))
        (import "sanderling_v1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "sanderling_abi") (result i32) (i32.const 1))
        (global $kept (mut i32) (i32.const 0))
        (data (i32.const 0) "found{\"found\":0}")
        (func (export "sanderling_frame") (result i32) (local $at i32) (local $found i32)
            (local.set $found (i32.ne (global.get $kept) (i32.const 0)))
            (local.set $at (i32.const 64))
            (loop $next
                (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then (local.set $found (i32.const 1))))
                (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 65536))))
            (i32.store8 (i32.const 14) (i32.add (i32.const 48) (local.get $found)))
            (drop (call $frame_read (i32.const 0) (i32.const 64) (i32.const 65472)))
            (global.set $kept (i32.load (i32.const 64)))
            (call $emit (i32.const 0) (i32.const 5) (i32.const 5) (i32.const 11))))"#,
    )
}

/// Emits each frame as it is, up to four kilobytes of it.
pub fn echoes(channel: &str) -> Vec<u8> {
    let length = channel.len();
    assemble(&format!(
        r#"(module
            (import "sanderling_v1" "frame_read" (func $frame_read (param i32 i32 i32) (result i32)))
            (import "sanderling_v1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "{channel}")
            (func (export "sanderling_abi") (result i32) (i32.const 1))
            (func (export "sanderling_frame") (result i32)
                (call $emit (i32.const 0) (i32.const {length}) (i32.const 256)
                    (call $frame_read (i32.const 0) (i32.const 256) (i32.const 4096)))))"#
    ))
}

/// Takes no frames, and has nothing to do.
pub fn idles() -> Vec<u8> {
    module(r#"(func (export "sanderling_frame") (result i32) (i32.const 0))"#)
}

/// Emits for each frame what [`ticks`] emits, and from its `n`th frame on runs the model `costly` too, on a column of `side` zeros.
pub fn infers(tag: u8, side: u32, n: u32) -> Vec<u8> {
    let pages = (side * 4).div_ceil(65536) + 1;
    assemble(&format!(
        r#"(module
            (import "sanderling_v1" "frame_info" (func $frame_info (param i32) (result i32)))
            (import "sanderling_v1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
            (import "wasi_ephemeral_nn" "load_by_name" (func $load (param i32 i32 i32) (result i32)))
            (import "wasi_ephemeral_nn" "init_execution_context" (func $context (param i32 i32) (result i32)))
            (import "wasi_ephemeral_nn" "set_input" (func $set_input (param i32 i32 i32) (result i32)))
            (import "wasi_ephemeral_nn" "compute" (func $compute (param i32) (result i32)))
            (memory (export "memory") {pages})
            (data (i32.const 128) "ticks") (data (i32.const 160) "costly")
            (global $count (mut i32) (i32.const 0))
            (func (export "sanderling_abi") (result i32) (i32.const 1))
            (func (export "sanderling_start") (result i32)
                ;; The dims, and the tensor that has them: two of them, f32, with its data on the next page.
                (i32.store (i32.const 192) (i32.const {side}))
                (i32.store (i32.const 196) (i32.const 1))
                (i32.store (i32.const 208) (i32.const 192))
                (i32.store (i32.const 212) (i32.const 2))
                (i32.store (i32.const 216) (i32.const 1))
                (i32.store (i32.const 220) (i32.const 65536))
                (i32.store (i32.const 224) (i32.const {length}))
                (if (call $load (i32.const 160) (i32.const 6) (i32.const 240)) (then (return (i32.const 1))))
                (call $context (i32.load (i32.const 240)) (i32.const 244)))
            (func (export "sanderling_frame") (result i32)
                (drop {HEADER})
                (i32.store8 (i32.const 16) (i32.const {tag}))
                (drop (call $emit (i32.const 128) (i32.const 5) (i32.const 0) (i32.const 17)))
                (global.set $count (i32.add (global.get $count) (i32.const 1)))
                (if (i32.lt_u (global.get $count) (i32.const {n})) (then (return (i32.const 0))))
                (if (call $set_input (i32.load (i32.const 244)) (i32.const 0) (i32.const 208)) (then (return (i32.const 2))))
                (call $compute (i32.load (i32.const 244)))))"#,
        length = side * 4,
    ))
}

/// Asks for so much memory at once, in pages of 64 KiB.
pub fn wants_memory(pages: u32) -> Vec<u8> {
    assemble(&format!(
        r#"(module (memory (export "memory") {pages})
            (func (export "sanderling_abi") (result i32) (i32.const 1))
            (func (export "sanderling_frame") (result i32) (i32.const 0)))"#
    ))
}

/// Its start function says no.
pub fn refuses_to_start() -> Vec<u8> {
    module(&format!("{} (func (export \"sanderling_start\") (result i32) (i32.const 7))", frame(b'r', "")))
}

/// Imports a function that no host has.
pub fn imports_something_unknown() -> Vec<u8> {
    assemble(
        r#"(module (import "sanderling_v1" "launch" (func)) (memory (export "memory") 1)
            (func (export "sanderling_abi") (result i32) (i32.const 1))
            (func (export "sanderling_frame") (result i32) (i32.const 0)))"#,
    )
}

/// Has nothing that a host could call.
pub fn exports_nothing() -> Vec<u8> {
    assemble("(module)")
}

/// A WebAssembly component, not a core module.
pub fn component() -> Vec<u8> {
    assemble("(component)")
}

/// A guest that is longer by about so many bytes that do not compress, in a section that nobody reads.
pub fn padded(mut wasm: Vec<u8>, bytes: u32, seed: u8) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let mut noise = || {
        // A linear congruential generator (Knuth): any bytes will do that zstd makes no shorter.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    let mut section = vec![3, b'p', b'a', b'd'];
    section.extend((0..bytes).map(|_| noise()));
    wasm.push(0);
    let mut length = section.len();
    while length >= 128 {
        wasm.push((length % 128) as u8 | 128);
        length /= 128;
    }
    wasm.push(length as u8);
    wasm.extend(section);
    wasm
}

fn frame(tag: u8, then: &str) -> String {
    format!(
        r#"(global $count (mut i32) (i32.const 0))
        (data (i32.const 128) "ticks") (data (i32.const 144) "first frame")
        (func (export "sanderling_frame") (result i32)
            (global.set $count (i32.add (global.get $count) (i32.const 1)))
            (if (i32.eq (global.get $count) (i32.const 1))
                (then (drop (call $log (i32.const 2) (i32.const 144) (i32.const 11)))))
            {then}
            (drop {HEADER})
            (i32.store8 (i32.const 16) (i32.const {tag}))
            (call $emit (i32.const 128) (i32.const 5) (i32.const 0) (i32.const 17)))"#
    )
}

fn module(body: &str) -> Vec<u8> {
    assemble(&format!(
        r#"(module
            (import "sanderling_v1" "frame_info" (func $frame_info (param i32) (result i32)))
            (import "sanderling_v1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
            (import "sanderling_v1" "log" (func $log (param i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (func (export "sanderling_abi") (result i32) (i32.const 1))
            {body})"#
    ))
}

fn assemble(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}
