//! What a reactor exports: found, typed and named once, when it is loaded.

use sanderling_protocol::worker::{Fault, FaultCode};
use wasmi::{Extern, Instance, Memory, Store, TypedFunc, WasmParams, WasmResults};

use crate::host::HostState;

pub(crate) const ABI: &str = "sanderling_abi";
pub(crate) const INITIALIZE: &str = "_initialize";
pub(crate) const START: &str = "sanderling_start";
pub(crate) const FRAME: &str = "sanderling_frame";
pub(crate) const BUFFER: &str = "sanderling_buffer";
pub(crate) const STOP: &str = "sanderling_stop";

/// A reactor's exports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exports {
    pub(crate) memory: Memory,
    pub(crate) abi: TypedFunc<(), i32>,
    pub(crate) initialize: Option<TypedFunc<(), ()>>,
    pub(crate) start: Option<TypedFunc<(), i32>>,
    pub(crate) frame: TypedFunc<(), i32>,
    pub(crate) buffer: Option<TypedFunc<i32, i32>>,
    pub(crate) stop: Option<TypedFunc<(), ()>>,
}

impl Exports {
    pub(crate) fn find(store: &Store<HostState>, instance: Instance) -> Result<Self, Fault> {
        Ok(Self {
            memory: instance
                .get_export(store, "memory")
                .and_then(Extern::into_memory)
                .ok_or_else(|| missing("memory", "a memory"))?,
            abi: required(store, instance, ABI, "a function () -> i32")?,
            initialize: optional(store, instance, INITIALIZE, "a function ()")?,
            start: optional(store, instance, START, "a function () -> i32")?,
            frame: required(store, instance, FRAME, "a function () -> i32")?,
            buffer: optional(store, instance, BUFFER, "a function (i32) -> i32")?,
            stop: optional(store, instance, STOP, "a function ()")?,
        })
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
) -> Result<TypedFunc<P, R>, Fault> {
    optional(store, instance, name, what)?.ok_or_else(|| missing(name, what))
}

fn missing(name: &str, what: &str) -> Fault {
    let message = format!(
        "the module does not export `{name}`, which must be {what}; a reactor exports memory, {ABI} and {FRAME}"
    );
    Fault { export: Some(name.to_owned()), ..Fault::new(FaultCode::Init, message) }
}

fn wrong(name: &str, what: &str, found: &str) -> Fault {
    let message = format!("the module's export `{name}` must be {what}, but is {found}");
    Fault { export: Some(name.to_owned()), ..Fault::new(FaultCode::Init, message) }
}
