//! From what wasmi says to a [`Fault`] with a stable code and a sentence that names the cure.
//!
//! Out of bounds, division by zero and the like are `trap` with a kind. A stack that is exhausted, and memory or tables that begin above
//! `memory_mib`, are `memory`. `memory.grow` beyond the limit is no fault: the guest gets -1, as wasm has it; if it then
//! traps, the message of that trap says so.

use sanderling_protocol::{
    deployment::Limits,
    worker::{Fault, FaultCode},
};
use wasmi::{
    Error, TrapCode,
    errors::{ErrorKind, InstantiationError, LinkerError},
};

use crate::{exports::COMMAND, host::known_imports, module::START_SECTION};

/// A message quotes what the module says, such as names; it is cut to this length, in bytes.
const MAX_MESSAGE: usize = 2048;

/// Why a call into a guest ended before its end.
#[derive(Debug)]
pub(crate) enum Ended {
    /// More fuel than the budget.
    Fuel,
    /// More time than the budget.
    Deadline,
    /// The host asked the runtime to stop.
    Stopped,
    /// wasmi says why.
    Error(Error),
}

/// A fault from the end of a call to `export`. [`Ended::Stopped`] is the caller's to handle and is none.
pub(crate) fn of_call(ended: &Ended, export: &str, limits: &Limits, growth_refused: bool) -> Fault {
    let fault = match ended {
        Ended::Fuel => Fault::new(
            FaultCode::Fuel,
            format!(
                "the guest used more than its {} units of fuel; make it do less a frame, or raise fuel_per_frame",
                limits.fuel_per_frame
            ),
        ),
        Ended::Deadline => Fault::new(
            FaultCode::Deadline,
            format!(
                "the guest ran longer than its {} ms; make it do less a frame, or raise deadline_ms",
                limits.deadline_ms
            ),
        ),
        Ended::Stopped => Fault::new(FaultCode::Deadline, "the guest was interrupted by a stop request"),
        Ended::Error(error) => of_error(error, limits, growth_refused),
    };
    Fault { export: Some(export.to_owned()), ..fault }
}

fn of_error(error: &Error, limits: &Limits, growth_refused: bool) -> Fault {
    if let Some(status) = error.i32_exit_status() {
        let message = format!("the guest called proc_exit({status}); a reactor returns from its exports instead");
        return Fault { guest_code: Some(status), ..Fault::new(FaultCode::Guest, message) };
    }
    match error.as_trap_code() {
        Some(TrapCode::StackOverflow) => {
            Fault::new(FaultCode::Memory, "the wasm call stack is exhausted; look for endless recursion in the guest")
        }
        Some(TrapCode::OutOfFuel) => of_call(&Ended::Fuel, "", limits, growth_refused),
        Some(TrapCode::GrowthOperationLimited) => Fault::new(
            FaultCode::Fuel,
            "the fuel until the next look at the clock ended while the guest grew a table, from which it cannot go on; grow tables by less at \
             once, or before the first frame",
        ),
        Some(TrapCode::OutOfSystemMemory) => {
            Fault::new(FaultCode::Memory, "there was no memory left for the guest to grow; raise memory_mib")
        }
        Some(code) => of_trap(code, growth_refused),
        None => Fault::new(FaultCode::Trap, format!("the guest failed: {error}")),
    }
}

fn of_trap(code: TrapCode, growth_refused: bool) -> Fault {
    let mut message = format!("the guest trapped: {}", code.trap_message());
    if growth_refused {
        message.push_str("; it had been refused memory beyond its limit: raise memory_mib if it needs more");
    }
    Fault { trap: Some(kind(code).to_owned()), ..Fault::new(FaultCode::Trap, message) }
}

fn kind(code: TrapCode) -> &'static str {
    match code {
        TrapCode::UnreachableCodeReached => "unreachable",
        TrapCode::MemoryOutOfBounds => "memory_out_of_bounds",
        TrapCode::TableOutOfBounds => "table_out_of_bounds",
        TrapCode::IndirectCallToNull => "indirect_call_to_null",
        TrapCode::IntegerDivisionByZero => "integer_division_by_zero",
        TrapCode::IntegerOverflow => "integer_overflow",
        TrapCode::BadConversionToInteger => "bad_conversion_to_integer",
        TrapCode::StackOverflow => "stack_overflow",
        TrapCode::BadSignature => "bad_signature",
        TrapCode::OutOfFuel => "out_of_fuel",
        TrapCode::GrowthOperationLimited => "growth_limited",
        TrapCode::OutOfSystemMemory => "out_of_system_memory",
    }
}

/// A fault from compiling a module.
pub(crate) fn of_compile(error: &Error) -> Fault {
    init(&format!(
        "the module does not compile: {}; core WebAssembly with bulk memory, reference types, multi-memory and tail calls runs here, \
         but SIMD, threads, GC, exceptions and components do not: build the module without them (for SIMD, -mno-simd128 or \
         -C target-feature=-simd128)",
        clip(&error.to_string(), MAX_MESSAGE / 2)
    ))
}

/// A fault of code `init` whose message may quote the module.
fn init(message: &str) -> Fault {
    Fault::new(FaultCode::Init, clip(message, MAX_MESSAGE))
}

/// The text without control characters, cut to `most` bytes.
fn clip(text: &str, most: usize) -> String {
    let text: String = text.chars().take(most).map(|c| if c.is_control() { ' ' } else { c }).collect();
    match text.floor_char_boundary(most) {
        end if end < text.len() => format!("{} …", text.get(..end).unwrap_or_default()),
        _ => text,
    }
}

/// A fault from a command that ended with another status than 0.
pub(crate) fn of_exit(status: i32) -> Fault {
    let message = format!("the program ended with status {status}; its log or its documentation says what it means");
    Fault { export: Some(COMMAND.to_owned()), guest_code: Some(status), ..Fault::new(FaultCode::Guest, message) }
}

/// A fault from linking and instantiating a module.
pub(crate) fn of_instantiation(ended: &Ended, limits: &Limits) -> Fault {
    let Ended::Error(error) = ended else { return of_call(ended, START_SECTION, limits, false) };
    match error.kind() {
        ErrorKind::Linker(error) => of_linker(error),
        ErrorKind::Instantiation(error) => of_instance(error, limits),
        _ if error.as_trap_code().is_some() || error.i32_exit_status().is_some() => {
            Fault { export: Some(START_SECTION.to_owned()), ..of_error(error, limits, false) }
        }
        _ => init(&format!("the module does not instantiate: {error}")),
    }
}

fn of_linker(error: &LinkerError) -> Fault {
    let message = match error {
        LinkerError::MissingDefinition { name, .. } => {
            let known = known_imports(name.module());
            let cure = if known.is_empty() {
                "modules may import sanderling_v1, wasi_ephemeral_nn and wasi_snapshot_preview1".to_owned()
            } else {
                format!("{} has: {}", name.module(), known.join(", "))
            };
            let (module, name) = (clip(name.module(), 128), clip(name.name(), 128));
            format!("the module imports {module}.{name}, which this host does not have; {cure}")
        }
        other => format!("the module's imports cannot be linked: {other}"),
    };
    init(&message)
}

fn of_instance(error: &InstantiationError, limits: &Limits) -> Fault {
    match error {
        InstantiationError::FailedToInstantiateMemory(_)
        | InstantiationError::FailedToInstantiateTable(_)
        | InstantiationError::TooManyMemories
        | InstantiationError::TooManyTables => Fault::new(
            FaultCode::Memory,
            format!(
                "the module's memories and tables begin above its {} MiB ({error}); link it with a smaller stack and initial memory, or \
                 raise memory_mib",
                limits.memory_mib
            ),
        ),
        InstantiationError::FuncTypeMismatch { name, expected, actual } => {
            init(&format!("the module imports {name} as {expected:?}, but this host has it as {actual:?}"))
        }
        other => init(&format!("the module does not instantiate: {other}")),
    }
}
