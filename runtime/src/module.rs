//! From the bytes of a wasm file to a compiled module.
//!
//! Before wasmi sees the bytes, the section headers are walked, so that a component or a module with an absurd number of
//! anything is refused with a sentence and not after minutes of work.

use std::{
    borrow::Cow,
    panic::{AssertUnwindSafe, catch_unwind},
};

use sanderling_protocol::worker::{Fault, FaultCode};
use thiserror::Error;
use wasmi::{CompilationMode, Config, Engine, Error, Instance, Linker, Module, OperatorCost, Store};

use crate::{
    fault,
    host::{self, HostState},
    limits::GROW_FUEL,
    record::{Exposed, Start, expose},
    sections::{HEAD, Sections, leb, put_leb, put_section},
};

/// What a module's start section becomes: an export, since wasmi runs a start section in one piece.
pub(crate) const START_SECTION: &str = "(start section)";
const EXPORTS: u8 = 7;
const START: u8 = 8;
const FUNCTION: u8 = 0;

/// Calls may be nested this deep.
const MAX_RECURSION: usize = 8192;
/// The interpreter's stack of values is at most this large, in bytes.
const MAX_STACK: usize = 2 << 20;

/// The sections of the core format that are counted: number, what they hold, the most allowed.
const COUNTED: [(u8, &str, u32); 9] = [
    (1, "types", 20_000),
    (2, "imports", 1_000),
    (3, "functions", 100_000),
    (4, "tables", 64),
    (5, "memories", 16),
    (6, "globals", 20_000),
    (7, "exports", 20_000),
    (9, "element segments", 20_000),
    // The linker of Go leaves out the zeros between data, and makes up to so many segments.
    (11, "data segments", 100_000),
];

/// Why bytes are not a module that is worth compiling.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum ModuleError {
    /// Not the magic number of wasm.
    #[error("the module is not WebAssembly: it does not begin with \\0asm; publish the compiled .wasm file")]
    NotWasm,
    /// The component format.
    #[error(
        "the module is a WebAssembly component; build a core module instead (for Rust: target wasm32-unknown-unknown or wasm32-wasip1)"
    )]
    Component,
    /// Another version.
    #[error("the module has format version {0}; version 1 is understood")]
    Version(u32),
    /// A section ends after the file does.
    #[error("the module is cut off: section {section} at byte {at} is longer than the file")]
    CutOff {
        /// The section's number.
        section: u8,
        /// Where it begins.
        at: usize,
    },
    /// More of something than any real module has.
    #[error("the module has {count} {what}; at most {most} are allowed")]
    TooMany {
        /// What it has many of.
        what: &'static str,
        /// How many it claims.
        count: u32,
        /// The most allowed.
        most: u32,
    },
    /// The exceptions proposal.
    #[error(
        "the module uses WebAssembly exceptions, which are not supported; build it without them (C++: -fno-exceptions)"
    )]
    Exceptions,
}

/// A module that is compiled and linked, to be instantiated any number of times.
pub(crate) struct Linked {
    module: Module,
    linker: Linker<HostState>,
    exposed: Option<Exposed>,
}

impl Linked {
    /// Checks, compiles and links a module; so that its state can be seen, where `watched` says so.
    pub(crate) fn new(bytes: &[u8], watched: Option<Start>) -> Result<Self, Fault> {
        let mut exposed = watched.and_then(|start| expose(bytes, start));
        let seen = exposed.as_mut().map(|exposed| std::mem::take(&mut exposed.bytes));
        let (engine, module) = compile(seen.as_deref().unwrap_or(bytes))?;
        let mut linker = Linker::new(&engine);
        host::register(&mut linker)
            .map_err(|error| Fault::new(FaultCode::Init, format!("the host does not link: {error}")))?;
        Ok(Self { module, linker, exposed })
    }

    /// What of it can be seen.
    pub(crate) fn exposed(&self) -> Option<&Exposed> {
        self.exposed.as_ref()
    }

    /// A place for one instance, around the host's side of it.
    pub(crate) fn store(&self, state: HostState) -> Store<HostState> {
        let mut store = Store::new(self.linker.engine(), state);
        store.limiter(|state| &mut state.own.limiter);
        store
    }

    /// A new instance, of which nothing has run: what was the module's start section is its export [`START_SECTION`].
    pub(crate) fn instantiate(&self, store: &mut Store<HostState>) -> Result<Instance, Error> {
        self.linker.instantiate_and_start(store, &self.module)
    }
}

/// Checks and compiles a module, all of it now: nothing is left to be compiled during a frame.
fn compile(bytes: &[u8]) -> Result<(Engine, Module), Fault> {
    check(bytes).map_err(|error| Fault::new(FaultCode::Init, error.to_string()))?;
    let engine = Engine::new(&config());
    let bytes = export_start(bytes);
    // The fuzz target `guest` has found stores on which wasmi 2.0 panics. Where panics abort, the worker ends for it.
    let compiled = catch_unwind(AssertUnwindSafe(|| Module::new(&engine, &*bytes)));
    let compiled = compiled.map_err(|_| {
        let message = "the module broke the compiler of the interpreter; report it, and build the module with other optimisations";
        Fault::new(FaultCode::Init, message)
    })?;
    Ok((engine, compiled.map_err(|error| fault::of_compile(&error))?))
}

fn config() -> Config {
    let mut config = Config::default();
    config
        .consume_fuel(true)
        .operator_cost(OperatorCost { memory_grow: GROW_FUEL, table_grow: GROW_FUEL, ..OperatorCost::default() })
        .compilation_mode(CompilationMode::Eager)
        .ignore_custom_sections(true)
        .allow_start_fn(false)
        .set_max_recursion_depth(MAX_RECURSION)
        .set_max_stack_height(MAX_STACK)
        .wasm_bulk_memory(true)
        .wasm_reference_types(true)
        .wasm_multi_memory(true)
        .wasm_tail_call(true)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false);
    config
}

fn check(bytes: &[u8]) -> Result<(), ModuleError> {
    let (magic, rest) = bytes.split_first_chunk::<4>().ok_or(ModuleError::NotWasm)?;
    let version = rest.first_chunk::<4>().ok_or(ModuleError::NotWasm)?;
    if magic != b"\0asm" {
        return Err(ModuleError::NotWasm);
    }
    match *version {
        [1, 0, 0, 0] => check_sections(bytes),
        [_, _, 1, 0] => Err(ModuleError::Component),
        other => Err(ModuleError::Version(u32::from_le_bytes(other))),
    }
}

fn check_sections(module: &[u8]) -> Result<(), ModuleError> {
    let mut sections = Sections::of(module);
    while let Some(section) = sections.rest().first().copied() {
        let at = module.len() - sections.rest().len();
        let (_, content) = sections.next().flatten().ok_or(ModuleError::CutOff { section, at })?;
        check_section(section, content)?;
    }
    Ok(())
}

fn check_section(section: u8, content: &[u8]) -> Result<(), ModuleError> {
    if section == 13 {
        return Err(ModuleError::Exceptions);
    }
    let counted = COUNTED.iter().find(|(number, ..)| *number == section);
    match (counted, leb(content)) {
        (Some((_, what, most)), Some((count, _))) if count > *most => {
            Err(ModuleError::TooMany { what, count, most: *most })
        }
        _ => Ok(()),
    }
}

/// The module with its start section made an export. One whose start section is not well formed stays as it is, to be refused.
fn export_start(bytes: &[u8]) -> Cow<'_, [u8]> {
    let Some(header) = bytes.get(..HEAD) else { return Cow::Borrowed(bytes) };
    // Up to one that is cut off.
    let mut sections: Vec<(u8, &[u8])> = Sections::of(bytes).flatten().collect();
    let starts: Vec<usize> =
        sections.iter().enumerate().filter(|(_, (id, _))| *id == START).map(|(at, _)| at).collect();
    let [at] = *starts else { return Cow::Borrowed(bytes) };
    let (_, function) = sections.remove(at);
    // Exports come before the start section, with nothing between them but custom sections.
    let exports = sections.iter().take(at).position(|(id, _)| *id == EXPORTS);
    let (count, entries) = match exports.and_then(|exports| sections.get(exports)) {
        Some((_, content)) => match leb(content) {
            Some((count, entries)) => (count, entries),
            None => return Cow::Borrowed(bytes),
        },
        None => (0, &[][..]),
    };
    let mut content = Vec::with_capacity(entries.len() + 32);
    put_leb(&mut content, count.saturating_add(1));
    content.extend_from_slice(entries);
    content.push(START_SECTION.len() as u8);
    content.extend_from_slice(START_SECTION.as_bytes());
    content.push(FUNCTION);
    content.extend_from_slice(function);
    match exports {
        Some(exports) => sections.iter_mut().skip(exports).take(1).for_each(|section| section.1 = &content),
        None => sections.insert(at, (EXPORTS, &content)),
    }
    let mut out = Vec::with_capacity(bytes.len() + content.len());
    out.extend_from_slice(header);
    for (id, content) in sections {
        put_section(&mut out, id, content);
    }
    Cow::Owned(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        compile(&wat::parse_str(text).unwrap()).map(|_| ()).unwrap_err().message
    }

    #[test]
    fn refuses_what_is_not_a_core_module_with_a_sentence() {
        assert_eq!(check(b""), Err(ModuleError::NotWasm));
        assert_eq!(check(b"\x7fELF\x01\0\0\0"), Err(ModuleError::NotWasm));
        assert_eq!(check(b"\0asm\x0d\0\x01\0"), Err(ModuleError::Component));
        assert_eq!(check(b"\0asm\x02\0\0\0"), Err(ModuleError::Version(2)));
        assert_eq!(check(b"\0asm\x01\0\0\0\x01\x05\0"), Err(ModuleError::CutOff { section: 1, at: 8 }));
        assert_eq!(check(b"\0asm\x01\0\0\0\x01\xff\xff\xff\xff\xff"), Err(ModuleError::CutOff { section: 1, at: 8 }));
    }

    #[test]
    fn refuses_absurd_counts_before_compiling() {
        let mut bytes = b"\0asm\x01\0\0\0\x03\x05".to_vec();
        bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
        let most = 100_000;
        assert_eq!(check(&bytes), Err(ModuleError::TooMany { what: "functions", count: u32::MAX, most }));
    }

    #[test]
    fn names_the_proposal_that_a_module_needs_and_this_host_lacks() {
        assert!(refusal("(module (tag))").contains("exceptions"));
        assert!(refusal("(module (memory 1 1 shared))").contains("threads"));
        assert!(refusal("(module (type (struct)))").contains("GC"));
        assert!(refusal("(module (memory i64 1))").contains("memory64"));
    }

    /// wasmi 2.0 jumps to wherever its registers point after such a store (docs/decisions/0025-no-simd.md).
    #[test]
    fn refuses_vectors_and_says_how_to_build_without_them() {
        for store in ["v128.store8_lane offset=100000 1", "v128.store16_lane 1 0"] {
            let refused = refusal(&format!(
                "(module (memory 2) (memory 1) (func (param i32) (local v128) (local.get 0) (local.get 1) {store}))"
            ));
            assert!(refused.contains("SIMD") && refused.contains("-mno-simd128"), "{refused}");
        }
    }

    #[test]
    fn a_number_that_is_none_has_the_same_bits_whatever_it_comes_from() {
        let text = r#"(module (func (export "f") (param f64 f64) (result i64)
            (i64.reinterpret_f64 (f64.div (local.get 0) (local.get 1)))))"#;
        let (engine, module) = compile(&wat::parse_str(text).unwrap()).unwrap();
        let mut store = wasmi::Store::new(&engine, ());
        store.set_fuel(1000).unwrap();
        let instance = wasmi::Linker::new(&engine).instantiate_and_start(&mut store, &module).unwrap();
        let divide = instance.get_typed_func::<(f64, f64), u64>(&store, "f").unwrap();
        for (of, by) in [(0.0, 0.0), (-0.0, 0.0), (f64::from_bits(0xfff8_0000_0000_0123), 1.0)] {
            assert_eq!(divide.call(&mut store, (of, by)).unwrap(), 0x7ff8_0000_0000_0000);
        }
    }

    #[test]
    fn runs_the_proposals_that_it_promises() {
        let text = r#"(module (memory 1) (memory 1) (table 1 externref)
            (func (export "f") (result i32) (return_call 1))
            (func (result i32) (memory.copy (i32.const 0) (i32.const 0) (i32.const 0)) (i32.const 1)))"#;
        assert!(compile(&wat::parse_str(text).unwrap()).is_ok());
    }

    #[test]
    fn a_start_section_becomes_an_export_and_no_other_does() {
        let bytes = |text: &str| wat::parse_str(text).unwrap();
        let exported = bytes(r#"(module (func) (func) (start 1) (export "(start section)" (func 1)))"#);
        assert!(compile(&exported).is_err(), "the name is taken");
        for text in [
            r#"(module (func) (func $f) (memory (export "m") 1) (start $f) (data (i32.const 0) "abc"))"#,
            "(module (func) (func $f) (start $f))",
        ] {
            let (engine, module) = compile(&bytes(text)).unwrap();
            assert!(module.exports().any(|export| export.name() == START_SECTION));
            drop(engine);
        }
        let plain = bytes(r#"(module (func (export "f")))"#);
        assert!(matches!(export_start(&plain), Cow::Borrowed(_)));
        let twice = [&bytes("(module (func $f) (start $f))")[..], b"\x08\x01\x00"].concat();
        assert!(compile(&twice).is_err());
        assert!(compile(&[b"\0asm\x01\0\0\0", &b"\x08\x00"[..]].concat()).is_err());
    }

    #[test]
    fn every_cut_of_a_module_is_refused_and_none_panics() {
        let bytes = wat::parse_str(
            r#"(module (memory 1) (func (export "f") (drop (i32.const 1))) (data (i32.const 0) "abc"))"#,
        )
        .unwrap();
        for end in 0..bytes.len() {
            let _ = compile(&bytes[..end]);
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0xff;
            let _ = compile(&changed);
        }
    }
}
