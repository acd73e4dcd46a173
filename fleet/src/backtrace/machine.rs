//! wasmtime with one instance of a module in it, whose host calls are answered from a record.
//!
//! Invariants: what the guest computes is what it computed in wasmi. NaNs are canonical in both, memories and tables are held to the same
//! limit. No host function of ours is there; a call that the record does not have
//! ends the guest.
//!
//! Checks are made in code, not by signals: nothing is changed in the process around, and no address space is taken beyond what a guest uses.

use std::{num::NonZeroUsize, sync::Arc};

use sanderling_protocol::{
    deployment::Limits,
    flight::{Answer, Export, FlightError, GlobalKind, Snapshot},
};
use sanderling_runtime::{
    GROW_FUEL, GuestLimiter, Player, Recorded, Stop,
    record::{Exposed, Played, Start, StateDigest, expose, global_name, memory_name},
    replay::ReplayError,
};
use thiserror::Error;
use wasmtime::{
    AsContextMut, Caller, Config, Engine, Extern, ExternType, Func, Global, Instance, Linker, Memory, Module,
    Mutability, OperatorCost, OptLevel, ResourceLimiter, Store, StoreContextMut, Trap, Val, WasmBacktrace,
    WasmBacktraceDetails,
};

use super::frames::{DEEPEST, Place, places};

/// The most stack that a guest may use. wasmi ends it at 8192 calls and 2 MiB of values, which takes some times as much here.
pub(super) const STACK: usize = 32 << 20;
/// A wasm page, in bytes.
const PAGE: u64 = 65_536;
/// The memory that host calls write to.
const MEMORY: &str = "memory";
/// Fuel that no guest uses up.
const FULL: u64 = u64::MAX;
/// Epochs that a guest may run without a host call or a return while the record has more: no recorded one took so long.
const PATIENCE: u64 = 600;
/// Epochs that it runs on behind the last entry of the record, where its fuel ends it as well …
const FUELLED: u64 = 100;
/// … and where nothing is known of how long it ran.
const UNKNOWN: u64 = 10;

/// An engine that computes as wasmi does.
pub(super) fn engine() -> Result<Engine, wasmtime::Error> {
    let mut config = Config::new();
    config
        .cranelift_nan_canonicalization(true)
        .consume_fuel(true)
        .operator_cost(OperatorCost { MemoryGrow: GROW_FUEL, TableGrow: GROW_FUEL, ..OperatorCost::default() })
        .epoch_interruption(true)
        .wasm_multi_memory(true)
        .wasm_tail_call(true)
        // Not run there, so not taken here.
        .wasm_simd(false)
        .wasm_relaxed_simd(false)
        // Each instruction is compiled as it stands, so that its place is its own.
        .cranelift_opt_level(OptLevel::None)
        .wasm_backtrace_details(WasmBacktraceDetails::Enable)
        .wasm_backtrace_max_frames(NonZeroUsize::new(DEEPEST))
        .max_wasm_stack(STACK)
        // Of no use here, and still looked at.
        .async_stack_size(STACK)
        .signals_based_traps(false)
        .memory_reservation(0)
        .memory_guard_size(0);
    Engine::new(&config)
}

/// What host calls see.
pub(super) struct Scene {
    pub(super) player: Player,
    /// The frame at hand, as the guest sees it.
    pub(super) frame: Arc<[u8]>,
    /// The status with which the guest has ended itself.
    pub(super) exit: Option<i32>,
    /// The fuel that the guest had used where it was ended by fuel or time.
    pub(super) used: Option<u64>,
    /// What is wrong with the record besides what the player finds.
    pub(super) stop: Option<Stop>,
    limiter: Limiter,
}

impl Scene {
    pub(super) fn new(player: Player, limits: &Limits) -> Self {
        let (frame, limiter) = (Arc::from([]), Limiter(GuestLimiter::new(limits)));
        Self { player, frame, exit: None, used: None, stop: None, limiter }
    }

    /// Why the replay has ended, where it has.
    pub(super) fn stopped(&self) -> Option<&Stop> {
        self.player.stopped().or(self.stop.as_ref())
    }
}

/// Bounds what the guest does next: in time, and behind the record's last host call by what it had used in the end.
fn bound(mut store: StoreContextMut<'_, Scene>) -> wasmtime::Result<()> {
    let scene = store.data_mut();
    let (next, used) = (scene.player.peek(), scene.used);
    let epochs = match (&next, used) {
        (None, _) => UNKNOWN,
        (Some(Recorded::Fault(_)), Some(used)) => {
            let before = FULL.saturating_sub(store.get_fuel()?);
            store.set_fuel(used.saturating_sub(before))?;
            FUELLED
        }
        (Some(_), _) => PATIENCE,
    };
    store.set_epoch_deadline(epochs);
    Ok(())
}

struct Limiter(GuestLimiter);

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.0.grow_memory(current, desired, maximum))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.0.memory_failed();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.0.grow_table(current, desired, maximum))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.0.table_failed();
        Ok(())
    }
}

/// What ended a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A host call, which ended it when it was recorded, or which the record does not have.
    Host,
    /// A trap; [`Trap::Interrupt`] and [`Trap::OutOfFuel`] where it ran too long.
    Trap(Trap),
    /// It could not be called.
    Refused(String),
}

/// Why a call into the guest did not return, and where.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) cause: Cause,
    pub(super) places: Vec<Place>,
}

impl Ended {
    fn of(error: &wasmtime::Error) -> Self {
        let cause = match error.downcast_ref::<Trap>() {
            Some(trap) => Cause::Trap(*trap),
            None if error.is::<InHost>() => Cause::Host,
            None => Cause::Refused(format!("{error:#}")),
        };
        Self { cause, places: error.downcast_ref::<WasmBacktrace>().map(places).unwrap_or_default() }
    }

    fn refused(why: String) -> Self {
        Self { cause: Cause::Refused(why), places: Vec::new() }
    }
}

/// A host call ends the guest.
#[derive(Debug, Error)]
#[error("the guest ends in this host call")]
struct InHost;

/// An engine with a guest.
pub(super) struct Machine {
    store: Store<Scene>,
    module: Module,
    linker: Linker<Scene>,
    exposed: Option<Exposed>,
    instance: Option<Instance>,
}

impl Machine {
    /// Compiles a module; nothing of it has run.
    pub(super) fn new(engine: &Engine, module: &[u8], start: Start, scene: Scene) -> Result<Self, wasmtime::Error> {
        let exposed = expose(module, start);
        let module = Module::from_binary(engine, exposed.as_ref().map_or(module, |exposed| &exposed.bytes))?;
        let linker = linker(engine, &module)?;
        let mut store = Store::new(engine, scene);
        store.limiter(|scene| &mut scene.limiter);
        store.set_fuel(FULL)?;
        Ok(Self { store, module, linker, exposed, instance: None })
    }

    pub(super) fn scene(&mut self) -> &mut Scene {
        self.store.data_mut()
    }

    /// Whether there is an instance.
    pub(super) fn is_live(&self) -> bool {
        self.instance.is_some()
    }

    /// Fuel is counted from now on.
    pub(super) fn refuel(&mut self) {
        // An error is for engines without fuel.
        self.store.set_fuel(FULL).ok();
    }

    /// Makes the instance, and runs its start section where it was kept.
    pub(super) fn instantiate(&mut self) -> Result<(), Ended> {
        self.begin()?;
        let instance = self.linker.instantiate(&mut self.store, &self.module).map_err(|error| Ended::of(&error))?;
        self.instance = Some(instance);
        Ok(())
    }

    /// Calls an export, with an argument where it takes one; gives its result where it has one.
    pub(super) fn call(&mut self, export: Export, argument: u32) -> Result<Option<i32>, Ended> {
        self.begin()?;
        let function = self.function(export);
        let function =
            function.ok_or_else(|| Ended::refused(format!("the module does not export {}", export.name())))?;
        let signature = function.ty(&self.store);
        let arguments = vec![Val::I32(argument.cast_signed()); signature.params().len()];
        let mut results = vec![Val::I32(0); signature.results().len()];
        function.call(&mut self.store, &arguments, &mut results).map_err(|error| Ended::of(&error))?;
        Ok(results.first().and_then(Val::i32))
    }

    fn begin(&mut self) -> Result<(), Ended> {
        self.store.data_mut().exit = None;
        bound(self.store.as_context_mut()).map_err(|error| Ended::of(&error))
    }

    fn function(&mut self, export: Export) -> Option<Func> {
        self.instance?.get_func(&mut self.store, export.name())
    }

    /// Whether the guest says where it wants frames.
    pub(super) fn has_buffer(&mut self) -> bool {
        self.function(Export::Buffer).is_some()
    }

    /// Writes the frame at hand there; `false` where the guest's memory has no room for it.
    pub(super) fn deliver(&mut self, at: usize) -> bool {
        let Some(memory) = self.instance.and_then(|instance| instance.get_memory(&mut self.store, MEMORY)) else {
            return false;
        };
        let (bytes, scene) = memory.data_and_store_mut(&mut self.store);
        let place = at.checked_add(scene.frame.len()).and_then(|end| bytes.get_mut(at..end));
        place.map(|place| place.copy_from_slice(&scene.frame)).is_some()
    }

    /// Linear memory, all memories together, in bytes.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.store.data().limiter.0.memory_bytes()
    }

    /// Puts the instance into the state of a snapshot.
    pub(super) fn restore(&mut self, snapshot: &Snapshot<'_>) -> Result<(), ReplayError> {
        let other = |what: &str| ReplayError::Module(format!("the snapshot is of another module: {what}"));
        let (memories, globals) = (self.memories(), self.globals());
        if memories.len() != snapshot.memories.len() || globals.len() != snapshot.globals.len() {
            return Err(other("it has more or fewer memories or globals"));
        }
        for ((index, global), kept) in globals.iter().zip(&snapshot.globals) {
            if *index != kept.index {
                return Err(other("its globals are others"));
            }
            global.set(&mut self.store, value(kept.kind, kept.bits)).map_err(|_| other("a global has another type"))?;
        }
        for (memory, kept) in memories.iter().zip(&snapshot.memories) {
            let missing = kept.size.checked_sub(memory.data_size(&self.store) as u64);
            let missing = missing.ok_or_else(|| other("a memory begins larger"))?;
            memory.grow(&mut self.store, missing.div_ceil(PAGE)).map_err(|_| other("a memory cannot be as large"))?;
            kept.write_to(memory.data_mut(&mut self.store)).map_err(|error| other(&error.to_string()))?;
        }
        Ok(())
    }

    /// A digest of memories and globals; `None` where they cannot be seen.
    pub(super) fn digest(&mut self) -> Option<u64> {
        self.exposed.as_ref().and(self.instance)?;
        let (memories, globals) = (self.memories(), self.globals());
        let mut digest = StateDigest::default();
        memories.iter().for_each(|memory| digest.memory(memory.data(&self.store)));
        for (index, global) in globals {
            let value = global.get(&mut self.store);
            digest.global(index, bits(&value));
        }
        Some(digest.finish())
    }

    fn memories(&mut self) -> Vec<Memory> {
        let count = self.exposed.as_ref().map_or(0, |exposed| exposed.memories);
        let Some(instance) = self.instance else { return Vec::new() };
        (0..count).filter_map(|index| instance.get_memory(&mut self.store, &memory_name(index))).collect()
    }

    /// Those that can change.
    fn globals(&mut self) -> Vec<(u32, Global)> {
        let count = self.exposed.as_ref().map_or(0, |exposed| exposed.globals);
        let Some(instance) = self.instance else { return Vec::new() };
        let all =
            (0..count).filter_map(|index| Some((index, instance.get_global(&mut self.store, &global_name(index))?)));
        let all: Vec<_> = all.collect();
        all.into_iter().filter(|(_, global)| global.ty(&self.store).mutability() == Mutability::Var).collect()
    }
}

/// Every function that the module imports, answered from the record.
fn linker(engine: &Engine, module: &Module) -> Result<Linker<Scene>, wasmtime::Error> {
    let mut linker = Linker::new(engine);
    // A module may import a function more than once.
    linker.allow_shadowing(true);
    for import in module.imports() {
        let ExternType::Func(signature) = import.ty() else { continue };
        let (from, name) = (import.module().to_owned(), import.name().to_owned());
        linker.func_new(import.module(), import.name(), signature, move |caller, arguments, results| {
            host_call(caller, (&from, &name), arguments, results)
        })?;
    }
    Ok(linker)
}

fn host_call(
    mut caller: Caller<'_, Scene>,
    called: (&str, &str),
    arguments: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    // Host functions take plain numbers, of at most 64 bits.
    let arguments: Vec<u64> = arguments.iter().map(|value| bits(value) as u64).collect();
    let played = match caller.get_export(MEMORY).and_then(Extern::into_memory) {
        Some(memory) => {
            let (bytes, scene) = memory.data_and_store_mut(&mut caller);
            scene.player.call(called, &arguments, bytes, &scene.frame)
        }
        None => caller.data_mut().player.call(called, &arguments, &mut [], &[]),
    };
    let Played { answer, fuel } = played.ok_or_else(|| wasmtime::Error::new(InHost))?;
    let left = caller.get_fuel()?;
    caller.set_fuel(left.saturating_sub(fuel))?;
    bound(caller.as_context_mut())?;
    let answered = match (&answer, results) {
        (Answer::Nothing, []) => true,
        (Answer::Value(bits), [result]) => {
            u32::try_from(*bits).map(|bits| *result = Val::I32(bits.cast_signed())).is_ok()
        }
        _ => false,
    };
    if answered {
        return Ok(());
    }
    let scene = caller.data_mut();
    match answer {
        Answer::Exit(status) => scene.exit = Some(status),
        Answer::Failed => {}
        Answer::Nothing | Answer::Value(_) => scene.stop = Some(Stop::Damaged(FlightError::Form { what: "a result" })),
    }
    Err(wasmtime::Error::new(InHost))
}

/// The bits of a number.
fn bits(value: &Val) -> u128 {
    match value {
        Val::I32(value) => value.cast_unsigned().into(),
        Val::I64(value) => value.cast_unsigned().into(),
        Val::F32(bits) => (*bits).into(),
        Val::F64(bits) => (*bits).into(),
        Val::V128(value) => value.as_u128(),
        _ => 0,
    }
}

fn value(kind: GlobalKind, bits: u128) -> Val {
    // What was widened when it was written.
    match kind {
        GlobalKind::I32 => Val::I32((bits as u32).cast_signed()),
        GlobalKind::I64 => Val::I64((bits as u64).cast_signed()),
        GlobalKind::F32 => Val::F32(bits as u32),
        GlobalKind::F64 => Val::F64(bits as u64),
        GlobalKind::V128 => Val::V128(bits.into()),
    }
}
