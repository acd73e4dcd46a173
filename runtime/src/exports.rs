//! What a module exports: found, typed and named when it is loaded, and again in each fresh instance.

use sanderling_protocol::worker::{Fault, FaultCode};
use wasmi::{Extern, Instance, Memory, Store, TypedFunc, WasmParams, WasmResults};

use crate::host::HostState;

pub(crate) const ABI: &str = "sanderling_abi";
pub(crate) const INITIALIZE: &str = "_initialize";
pub(crate) const START: &str = "sanderling_start";
pub(crate) const FRAME: &str = "sanderling_frame";
pub(crate) const BUFFER: &str = "sanderling_buffer";
pub(crate) const STOP: &str = "sanderling_stop";
pub(crate) const COMMAND: &str = "_start";

const REACTOR: &str = "a reactor exports memory, sanderling_abi and sanderling_frame; a WASI program that exports _start is \
                       deployed with the execution command";
const WASI_PROGRAM: &str = "a command exports memory and _start; a module that exports sanderling_frame is deployed with the \
                            execution reactor or isolated";

/// A reactor's exports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exports {
    pub(crate) memory: Memory,
    pub(crate) initialize: Option<TypedFunc<(), ()>>,
    /// `sanderling_abi` where it cannot be asked when the module is loaded, since `_initialize` comes before all else: the runtime of Go traps
    /// otherwise.
    pub(crate) abi_later: Option<TypedFunc<(), i32>>,
    pub(crate) start: Option<TypedFunc<(), i32>>,
    pub(crate) frame: TypedFunc<(), i32>,
    pub(crate) buffer: Option<TypedFunc<i32, i32>>,
    pub(crate) stop: Option<TypedFunc<(), ()>>,
}

/// A command's exports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Command {
    pub(crate) memory: Memory,
    pub(crate) start: TypedFunc<(), ()>,
}

impl Exports {
    /// The exports of the first instance, and its `sanderling_abi`.
    pub(crate) fn find(store: &Store<HostState>, instance: Instance) -> Result<(Self, TypedFunc<(), i32>), Fault> {
        let memory = memory(store, instance, REACTOR)?;
        let abi = required(store, instance, ABI, "a function () -> i32", REACTOR)?;
        let initialize = optional(store, instance, INITIALIZE, "a function ()")?;
        let exports = Self {
            memory,
            initialize,
            abi_later: initialize.map(|_| abi),
            start: optional(store, instance, START, "a function () -> i32")?,
            frame: required(store, instance, FRAME, "a function () -> i32", REACTOR)?,
            buffer: optional(store, instance, BUFFER, "a function (i32) -> i32")?,
            stop: optional(store, instance, STOP, "a function ()")?,
        };
        Ok((exports, abi))
    }

    /// The same exports in another instance of the same module, without asking for those that it does not have.
    pub(crate) fn again(&self, store: &Store<HostState>, instance: Instance) -> Result<Self, Fault> {
        Ok(Self {
            memory: memory(store, instance, REACTOR)?,
            initialize: same(self.initialize, store, instance, INITIALIZE)?,
            abi_later: same(self.abi_later, store, instance, ABI)?,
            start: same(self.start, store, instance, START)?,
            frame: required(store, instance, FRAME, "a function () -> i32", REACTOR)?,
            buffer: same(self.buffer, store, instance, BUFFER)?,
            stop: None,
        })
    }
}

impl Command {
    pub(crate) fn find(store: &Store<HostState>, instance: Instance) -> Result<Self, Fault> {
        Ok(Self {
            memory: memory(store, instance, WASI_PROGRAM)?,
            start: required(store, instance, COMMAND, "a function ()", WASI_PROGRAM)?,
        })
    }
}

/// Holds what `sanderling_abi` returned to the contract's version.
pub(crate) fn check_abi(version: i32) -> Result<(), Fault> {
    let ours = sanderling_guest::ABI;
    if version == ours {
        return Ok(());
    }
    let message = format!(
        "the module is written for version {version} of the guest contract, this host speaks version {ours}; build it with a matching SDK"
    );
    Err(Fault { export: Some(ABI.to_owned()), ..Fault::new(FaultCode::Init, message) })
}

fn memory(store: &Store<HostState>, instance: Instance, wanted: &str) -> Result<Memory, Fault> {
    let memory = instance.get_export(store, "memory").and_then(Extern::into_memory);
    memory.ok_or_else(|| missing("memory", "a memory", wanted))
}

fn same<P: WasmParams, R: WasmResults>(
    first: Option<TypedFunc<P, R>>,
    store: &Store<HostState>,
    instance: Instance,
    name: &str,
) -> Result<Option<TypedFunc<P, R>>, Fault> {
    match first {
        Some(_) => optional(store, instance, name, "the same function in each instance"),
        None => Ok(None),
    }
}

fn optional<P: WasmParams, R: WasmResults>(
    store: &Store<HostState>,
    instance: Instance,
    name: &str,
    what: &str,
) -> Result<Option<TypedFunc<P, R>>, Fault> {
    match instance.get_export(store, name) {
        None => Ok(None),
        Some(Extern::Func(func)) => {
            func.typed(store).map(Some).map_err(|error| wrong(name, what, &format!("a function with {error}")))
        }
        Some(_) => Err(wrong(name, what, "something else")),
    }
}

fn required<P: WasmParams, R: WasmResults>(
    store: &Store<HostState>,
    instance: Instance,
    name: &str,
    what: &str,
    wanted: &str,
) -> Result<TypedFunc<P, R>, Fault> {
    optional(store, instance, name, what)?.ok_or_else(|| missing(name, what, wanted))
}

fn missing(name: &str, what: &str, wanted: &str) -> Fault {
    let message = format!("the module does not export `{name}`, which must be {what}; {wanted}");
    Fault { export: Some(name.to_owned()), ..Fault::new(FaultCode::Init, message) }
}

fn wrong(name: &str, what: &str, found: &str) -> Fault {
    let message = format!("the module's export `{name}` must be {what}, but is {found}");
    Fault { export: Some(name.to_owned()), ..Fault::new(FaultCode::Init, message) }
}
