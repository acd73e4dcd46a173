//! Guests that wasm-smith makes up: they import our host functions and call them with whatever comes.

use std::sync::{Arc, LazyLock};

use arbitrary::Unstructured;
use sanderling_hostile_guests::{
    CHANNEL, MODEL, binary,
    edges::rows,
    frame,
    signatures::{self, Signature},
};
use sanderling_protocol::{
    deployment::Limits,
    worker::{Fault, FaultCode, MAX_LOG_LINE, MAX_RECORD},
};
use sanderling_runtime::{FakeClock, FrameBytes, Guest, LoadSpec, NamedModel, Ports, Recorder, Said, SeededRandom};
use wasm_smith::{Config, InstructionKind, InstructionKinds, Module};

/// Frames that each guest is given.
const FRAMES: u64 = 3;
/// How far the clock goes at each look, in nanoseconds.
const STEP: u64 = 50_000;
/// Host calls in the frame function of each guest.
const CALLS: usize = 40;
/// Dice for them.
const CALL_DICE: usize = 800;
const TYPE_SECTION: u8 = 1;
const IMPORT_SECTION: u8 = 2;
const FUNCTION_SECTION: u8 = 3;
const EXPORT_SECTION: u8 = 7;
const CODE_SECTION: u8 = 10;

/// Which kind of guest, then dice: for the host calls of its frame function, and for all the rest of it.
///
/// It is loaded, started, given frames and stopped, with little fuel: whatever it does, nothing panics, its memory stays below its limit,
/// what it says is bounded and on the channel that it was granted, and a fault has a code that a guest can cause.
pub fn guest(bytes: &[u8]) {
    let Some(module) = made(bytes) else { return };
    let said = Recorder::default();
    let limits = Limits {
        memory_mib: 2,
        deadline_ms: 50,
        fuel_per_frame: 300_000,
        emit_per_s: 20,
        native_memory_mib: 8,
        capsule_kib: 0,
    };
    let ended = live(&module, limits, &rows::GRANTS, &said);
    if let Err(fault) = ended {
        assert!(!matches!(fault.code, FaultCode::Crash | FaultCode::Denied), "{fault:?}");
        assert!(fault.message.len() < 4096, "{}", fault.message.len());
    }
    for said in said.take() {
        match said {
            Said::Emit { channel, payload, .. } => assert!(channel == CHANNEL && payload.len() <= MAX_RECORD),
            Said::Log { text, .. } => assert!(text.len() <= MAX_LOG_LINE + 64),
            Said::Denied(function) => assert!(function.len() < 64),
        }
    }
}

fn live(module: &[u8], limits: Limits, grants: &[&str], said: &Recorder) -> Result<(), Fault> {
    let ports = Ports {
        clock: Arc::new(FakeClock::with_step(STEP)),
        output: Box::new(said.clone()),
        random: Box::new(SeededRandom::new(1)),
        stop: Box::new(|| false),
    };
    let spec = LoadSpec {
        module,
        models: vec![NamedModel { name: MODEL.to_owned(), bytes: rows::model().into() }],
        config: r#"{"a":1}"#.to_owned(),
        grants: grants.iter().map(|grant| grant.parse().expect("a grant")).collect(),
        limits,
        ..LoadSpec::default()
    };
    let most = u64::from(limits.memory_mib) << 20;
    let mut guest = Guest::load(spec, ports)?;
    guest.start()?;
    for seq in 0..FRAMES {
        let (header, content) = frame(seq);
        let outcome = guest.frame(&header, FrameBytes::Owned(content));
        assert!(guest.memory_bytes() <= most, "{} bytes of memory", guest.memory_bytes());
        outcome?;
    }
    guest.stop()
}

/// A module out of dice; `None` where there are too few.
fn made(bytes: &[u8]) -> Option<Vec<u8>> {
    let (kind, rest) = bytes.split_first()?;
    let (calls, rest) = rest.split_at_checked(CALL_DICE)?;
    let module = Module::new(config(*kind), &mut Unstructured::new(rest)).ok()?;
    Some(adopted(&module.to_bytes(), &mut Unstructured::new(calls)))
}

static IMPORTS: LazyLock<Vec<u8>> = LazyLock::new(imports);
static SIGNATURES: LazyLock<Vec<Signature>> = LazyLock::new(signatures::all);
/// The functions that a reactor may export, but for the two that it must.
const EXPORTS: &str = r#"(module
    (func (export "_initialize"))
    (func (export "sanderling_start") (result i32) (i32.const 0))
    (func (export "sanderling_buffer") (param i32) (result i32) (i32.const 0))
    (func (export "sanderling_stop")))"#;
/// Those of a guest that comes to its frames sooner.
const FEW_EXPORTS: &str = r#"(module (func (export "sanderling_stop")))"#;

fn config(kind: u8) -> Config {
    use InstructionKind::{Control, MemoryInt, NumericInt, Parametric, Variable};
    let plain = kind & 1 == 0;
    Config {
        // Half of them of what calls are made of, so that there are many.
        allowed_instructions: if plain {
            InstructionKinds::new(&[Control, MemoryInt, NumericInt, Parametric, Variable])
        } else {
            InstructionKinds::all()
        },
        // Half of them of what does not trap by itself, so that they go on.
        disallow_traps: kind & 2 == 0,
        min_funcs: 5,
        // Imports count too.
        max_funcs: 90,
        available_imports: Some(IMPORTS.clone()),
        exports: Some(wat::parse_str(if kind & 4 == 0 { FEW_EXPORTS } else { EXPORTS }).expect("a module")),
        allow_start_export: kind & 8 == 0,
        max_memory32_bytes: 1 << 20,
        max_imports: 100,
        max_types: 60,
        max_type_size: 100_000,
        // Few of these, so that dice are left for the code.
        max_globals: 8,
        max_data_segments: 4,
        max_element_segments: 4,
        max_elements: 10,
        min_imports: 5,
        max_memories: 4,
        min_memories: 1,
        max_tables: 4,
        max_instructions: 300,
        max_table_elements: 100_000,
        bulk_memory_enabled: true,
        reference_types_enabled: true,
        simd_enabled: false,
        relaxed_simd_enabled: false,
        tail_call_enabled: true,
        threads_enabled: false,
        exceptions_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        wide_arithmetic_enabled: false,
        custom_page_sizes_enabled: false,
        compact_imports_enabled: false,
        ..Config::default()
    }
}

/// A module that imports every host function there is.
fn imports() -> Vec<u8> {
    let import = |signature: &Signature| {
        let Signature { module, name, params, results } = signature;
        format!("(import \"{module}\" \"{name}\" (func (param {}) (result {})))", params.join(" "), results.join(" "))
    };
    let imports: String = SIGNATURES.iter().map(import).collect();
    wat::parse_str(format!("(module {imports})")).expect("a module")
}

/// The module with its memory exported, and two functions behind all others: one says the version of the contract, and one, for each frame,
/// calls the host.
fn adopted(module: &[u8], dice: &mut Unstructured<'_>) -> Vec<u8> {
    let (mut types, mut functions, mut imported) = (0, 0, Vec::new());
    let mut out = module[..8].to_vec();
    let mut rest = &module[8..];
    while let Some((&number, after)) = rest.split_first() {
        let (length, after) = leb(after);
        let (content, next) = after.split_at(length);
        rest = next;
        let (count, entries) = leb(content);
        let export =
            |name: &[u8], kind: u8, index: usize| [&binary::sized(name)[..], &[kind], &binary::leb(index)].concat();
        let more = match number {
            TYPE_SECTION => {
                types = count;
                vec![b"\x60\x00\x01\x7f".to_vec()]
            }
            IMPORT_SECTION => {
                functions += count;
                imported = names(entries);
                Vec::new()
            }
            FUNCTION_SECTION => {
                functions += count;
                vec![binary::leb(types), binary::leb(types)]
            }
            EXPORT_SECTION => vec![
                export(b"sanderling_abi", 0, functions),
                export(b"sanderling_frame", 0, functions + 1),
                export(b"memory", 2, 0),
            ],
            CODE_SECTION => vec![binary::sized(b"\x00\x41\x01\x0b"), binary::sized(&calls(&imported, dice))],
            _ => Vec::new(),
        };
        let content = match more.len() {
            0 => content.to_vec(),
            added => [&binary::leb(count + added)[..], entries, &more.concat()].concat(),
        };
        out.extend(binary::section(number, &content));
    }
    out
}

/// The functions that an import section names, all of them ours.
fn names(mut entries: &[u8]) -> Vec<&'static Signature> {
    let mut found = Vec::new();
    while !entries.is_empty() {
        let (length, rest) = leb(entries);
        let (module, rest) = rest.split_at(length);
        let (length, rest) = leb(rest);
        let (name, rest) = rest.split_at(length);
        // The kind, a function, and its type.
        entries = leb(&rest[1..]).1;
        let ours = |one: &&Signature| one.module.as_bytes() == module && one.name.as_bytes() == name;
        found.push(SIGNATURES.iter().find(ours).expect("a host function"));
    }
    found
}

/// A body that calls host functions, each with whatever comes, and returns 0.
fn calls(imported: &[&Signature], dice: &mut Unstructured<'_>) -> Vec<u8> {
    let mut body = vec![0];
    for _ in 0..CALLS {
        let Ok(at) = dice.choose_index(imported.len()) else { break };
        let Some(function) = imported.get(at).filter(|function| function.name != "proc_exit") else { continue };
        for kind in &function.params {
            body.extend(constant(kind, number(dice)));
        }
        body.push(0x10);
        body.extend(binary::leb(at));
        body.extend(function.results.iter().map(|_| 0x1a));
    }
    body.extend(b"\x41\x00\x0b");
    body
}

/// Ends and edges more often than others.
fn number(dice: &mut Unstructured<'_>) -> i64 {
    const EDGES: [i64; 12] = [0, 1, 3, 8, 64, 1024, 65_535, 65_536, -1, -8, i32::MIN as i64, i32::MAX as i64];
    match dice.int_in_range(0..=3) {
        Ok(0) => dice.arbitrary().unwrap_or_default(),
        Ok(1) => i64::from(dice.arbitrary::<u16>().unwrap_or_default()),
        _ => dice.choose(&EDGES).copied().unwrap_or_default(),
    }
}

fn constant(kind: &str, value: i64) -> Vec<u8> {
    match kind {
        "i32" => [&[0x41][..], &signed_leb(i64::from(value as i32))].concat(),
        "i64" => [&[0x42][..], &signed_leb(value)].concat(),
        "f32" => [&[0x43][..], &(value as i32).to_le_bytes()].concat(),
        _ => [&[0x44][..], &value.to_le_bytes()].concat(),
    }
}

fn signed_leb(mut value: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if (value == 0 && byte & 0x40 == 0) || (value == -1 && byte & 0x40 != 0) {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

fn leb(bytes: &[u8]) -> (usize, &[u8]) {
    let (mut value, mut shift) = (0, 0);
    for (at, byte) in bytes.iter().enumerate() {
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return (value, &bytes[at + 1..]);
        }
        shift += 7;
    }
    (value, &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeds;

    #[test]
    fn the_guests_run_and_call_the_host() {
        let (mut whole, mut refused, mut faults) = (0, 0, Vec::new());
        for seed in seeds("guest") {
            let Some(module) = made(&seed) else {
                faults.push("no module".to_owned());
                continue;
            };
            let said = Recorder::default();
            let limits = Limits { fuel_per_frame: 300_000, memory_mib: 16, ..Limits::default() };
            let ended = live(&module, limits, &[], &said);
            match ended {
                Err(fault) if fault.code == FaultCode::Init && fault.export.is_none() => faults.push(fault.message),
                _ => whole += 1,
            }
            refused += said.take().iter().filter(|said| matches!(said, Said::Denied(_))).count();
        }
        assert!(whole > 10, "{whole} guests came to life: {faults:#?}");
        assert!(refused > 10, "{refused} of them reached the host");
    }
}
