//! The arithmetic of guests: each instruction on each pair of some numbers that are known for trouble, and on others.

use sanderling_guest::frame::FrameHeader;
use sanderling_runtime::LoadSpec;

use crate::{
    expected::{Found, agrees, digest},
    guest::{Rig, bits},
};

/// Operands and results take 64 bits each; the operands lie in turn.
const OPERANDS: usize = 1 << 16;
const RESULTS: usize = 1 << 18;
/// Results in a record.
const A_RECORD: usize = 4096;

const SPECIAL_32: [u32; 26] = [
    0,
    0x8000_0000, // -0
    1,
    0x8000_0001, // the smallest numbers
    0x007f_ffff,
    0x0080_0000, // the largest subnormal and the smallest normal number
    0x7f7f_ffff,
    0xff7f_ffff, // the largest
    0x7f80_0000,
    0xff80_0000, // infinite
    0x7fc0_0000,
    0xffc0_0000, // quiet NaNs: the one of ARM, the one of x86
    0x7f80_0001,
    0xffa5_5aa5, // signalling ones
    0x3f80_0000,
    0xbf80_0000, // 1
    0x3f00_0000,
    0x4020_0000,
    0xc060_0000, // 0.5, 2.5, -3.5: halves are rounded to even
    0x3dcc_cccd,
    0x3eaa_aaab, // 0.1, 1/3
    0x4eff_ffff,
    0x4f00_0000,
    0xcf00_0000, // about the ends of i32
    0x5f00_0000,
    0x5f80_0000, // about the ends of i64 and u64
];

const BINARY: [&str; 13] = ["add", "sub", "mul", "div", "min", "max", "copysign", "eq", "ne", "lt", "gt", "le", "ge"];
const UNARY: [&str; 7] = ["abs", "neg", "sqrt", "ceil", "floor", "trunc", "nearest"];
/// Conversions from the type.
const TO_INTEGER: [&str; 4] = ["i32.trunc_sat_{}_s", "i32.trunc_sat_{}_u", "i64.trunc_sat_{}_s", "i64.trunc_sat_{}_u"];
/// Conversions to the type, of 64 bits that are anything.
const FROM_INTEGER: [&str; 4] = ["{}.convert_i32_s", "{}.convert_i32_u", "{}.convert_i64_s", "{}.convert_i64_u"];

/// An expression for the i64 at an address, as the type.
fn operand(ty: &str, address: &str) -> String {
    match ty {
        "f32" => format!("(f32.load {address})"),
        "f64" => format!("(f64.load {address})"),
        "i32" => format!("(i32.load {address})"),
        _ => format!("(i64.load {address})"),
    }
}

/// An expression of this type, as i64.
fn widened(ty: &str, expression: &str) -> String {
    match ty {
        "f32" => format!("(i64.extend_i32_u (i32.reinterpret_f32 {expression}))"),
        "f64" => format!("(i64.reinterpret_f64 {expression})"),
        "i32" => format!("(i64.extend_i32_u {expression})"),
        _ => expression.to_owned(),
    }
}

/// Every instruction: its name, its operand's type, how many operands it takes, and the type of its result.
fn instructions() -> Vec<(String, &'static str, usize, &'static str)> {
    let mut all = Vec::new();
    for ty in ["f32", "f64"] {
        for (at, name) in BINARY.iter().enumerate() {
            all.push((format!("{ty}.{name}"), ty, 2, if at < 7 { ty } else { "i32" }));
        }
        all.extend(UNARY.map(|name| (format!("{ty}.{name}"), ty, 1, ty)));
        all.extend(
            TO_INTEGER.map(|name| (name.replace("{}", ty), ty, 1, if name.starts_with("i32") { "i32" } else { "i64" })),
        );
        all.extend(
            FROM_INTEGER.map(|name| (name.replace("{}", ty), if name.contains("i32") { "i32" } else { "i64" }, 1, ty)),
        );
    }
    all.push(("f32.demote_f64".into(), "f64", 1, "f32"));
    all.push(("f64.promote_f32".into(), "f32", 1, "f64"));
    all
}

/// A guest that applies an instruction to each two neighbours of a frame, and emits what comes out.
fn module(name: &str, ty: &str, count: usize, result: &str) -> Vec<u8> {
    let first = operand(ty, "(i32.add (i32.const 65536) (i32.shl (local.get $at) (i32.const 3)))");
    let second = operand(ty, "(i32.add (i32.const 65544) (i32.shl (local.get $at) (i32.const 3)))");
    let operands = if count == 2 { format!("{first} {second}") } else { first };
    let value = widened(result, &format!("({name} {operands})"));
    let text = format!(
        r#"(module
            (import "sanderling_v1" "frame_read" (func $frame_read (param i32 i32 i32) (result i32)))
            (import "sanderling_v1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 8)
            (data (i32.const 0) "ok")
            (func (export "sanderling_abi") (result i32) (i32.const 1))
            (func (export "sanderling_frame") (result i32) (local $at i32) (local $count i32)
                (local.set $count (i32.shr_u (call $frame_read (i32.const 0) (i32.const {OPERANDS}) (i32.const 131072)) (i32.const 3)))
                (loop $next
                    (i64.store (i32.add (i32.const {RESULTS}) (i32.shl (local.get $at) (i32.const 3))) {value})
                    (local.set $at (i32.add (local.get $at) (i32.const 1)))
                    (br_if $next (i32.lt_u (i32.add (local.get $at) (i32.const 1)) (local.get $count))))
                (call $emit (i32.const 0) (i32.const 2) (i32.const {RESULTS}) (i32.shl (local.get $at) (i32.const 3)))))"#
    );
    wat::parse_str(text).unwrap()
}

/// What the instruction makes of each two neighbours.
fn apply(module: &[u8], operands: &[u64]) -> Vec<u64> {
    let spec = LoadSpec { module, grants: vec!["emit:ok".parse().unwrap()], ..LoadSpec::default() };
    let mut rig = Rig::load(spec, None);
    let content: Vec<u8> = operands.iter().flat_map(|operand| operand.to_le_bytes()).collect();
    let header = FrameHeader { seq: 1, ..FrameHeader::new("line", u32::try_from(content.len()).unwrap()) };
    let records = rig.frame(&header, &content).unwrap();
    let results: Vec<u64> =
        records.concat().as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
    assert_eq!(results.len() + 1, operands.len());
    results
}

/// Operands such that each pair of the special ones, and many others, are neighbours.
fn operands(ty: &str) -> Vec<u64> {
    let wide = |bits: u32| match ty {
        "f64" => f64::from(f32::from_bits(bits)).to_bits(),
        _ => u64::from(bits),
    };
    let mut special: Vec<u64> = SPECIAL_32.iter().map(|bits| wide(*bits)).collect();
    if ty == "f64" {
        // What widening does not reach, and NaNs as they are.
        special.extend([1, 0x000f_ffff_ffff_ffff, 0x0010_0000_0000_0000, f64::MAX.to_bits(), 0x7ff0_0000_0000_0001]);
        special.extend([0x7ff8_0000_0000_0000, 0xfff8_0000_0000_0000, 0x3fb9_9999_9999_999a, 0x3810_0000_0000_0000]);
    }
    let mut all: Vec<u64> = special.iter().flat_map(|one| special.iter().flat_map(|other| [*one, *other])).collect();
    all.extend(bits(11).take(400));
    // Near each other, so that sums and quotients are numbers.
    all.extend(bits(12).take(400).map(|bits| match ty {
        "f64" => bits & 0x800f_ffff_ffff_ffff | 0x3fe0_0000_0000_0000 | (bits >> 50 & 7) << 52,
        _ => bits & 0x807f_ffff | 0x3f00_0000 | (bits >> 40 & 7) << 23,
    }));
    assert!(all.len() <= A_RECORD);
    all
}

#[test]
fn every_instruction_on_floats_gives_the_same_bits() {
    let mut found = Found::new();
    for (name, ty, count, result) in instructions() {
        let results = apply(&module(&name, ty, count, result), &operands(ty));
        let bytes: Vec<u8> = results.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        found.insert(name, digest(&bytes));
    }
    agrees("floats", &found);
}

/// A few by hand, so that the others are not merely the same everywhere.
#[test]
fn nans_zeros_and_halves_are_those_of_the_specification() {
    let nan = u64::from(0x7fc0_0000_u32);
    let f32s: [(&str, usize, [u32; 2], u64); 14] = [
        ("f32.div", 2, [0, 0], nan),
        ("f32.sub", 2, [0x7f80_0000, 0x7f80_0000], nan),
        ("f32.mul", 2, [0, 0xff80_0000], nan),
        ("f32.sqrt", 1, [0xbf80_0000, 0], nan),
        // A NaN that comes in with bits of its own goes out as the canonical one.
        ("f32.add", 2, [0xffa5_5aa5, 0x3f80_0000], nan),
        ("f32.min", 2, [0x7f80_0001, 0x3f80_0000], nan),
        ("f32.max", 2, [0x3f80_0000, 0xffc0_0000], nan),
        ("f32.min", 2, [0, 0x8000_0000], 0x8000_0000),
        ("f32.max", 2, [0x8000_0000, 0], 0),
        // Not arithmetic: the bits stay.
        ("f32.neg", 1, [0x7f80_0001, 0], 0xff80_0001),
        ("f32.copysign", 2, [0xffa5_5aa5, 0], 0x7fa5_5aa5),
        ("f32.nearest", 1, [0x4020_0000, 0], 0x4000_0000),
        ("f32.nearest", 1, [0xbf00_0000, 0], 0x8000_0000),
        // Half of the smallest number, rounded to even.
        ("f32.mul", 2, [1, 0x3f00_0000], 0),
    ];
    for (name, count, operands, wanted) in f32s {
        let is = apply(&module(name, "f32", count, "f32"), &operands.map(u64::from));
        assert_eq!(is, [wanted], "{name} of {operands:x?} is {is:x?}, not {wanted:x}");
    }
    let saturated = [("i32.trunc_sat_f32_s", "i32", 0x7fff_ffff), ("i64.trunc_sat_f32_u", "i64", u64::MAX)];
    for (name, result, wanted) in saturated {
        let of = |bits: u32| apply(&module(name, "f32", 1, result), &[u64::from(bits), 0]);
        assert_eq!((of(0x7f80_0000), of(0x7fc0_0000)), (vec![wanted], vec![0]), "{name}");
    }
}
