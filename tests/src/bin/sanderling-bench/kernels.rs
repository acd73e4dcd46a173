//! Guests to measure with, written as text, and what runs them: our runtime, and the interpreter alone.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use sanderling_protocol::deployment::{Execution, Limits};
use sanderling_runtime::{
    Flight, FrameBytes, FrameHeader, Guest, LoadSpec, NamedModel, Outcome, Output, Ports, Region, SeededRandom,
    infer::tract::Tract,
};
use wasmi::{CompilationMode, Config, Engine, Linker, Module, Store, TypedFunc};

use crate::measure::GuestClock;

/// A guest without imports whose frame function is `body`.
pub(crate) fn plain(pages: u32, body: &str) -> Result<Vec<u8>> {
    with_imports("", pages, body)
}

/// A guest with imports.
pub(crate) fn with_imports(imports: &str, pages: u32, body: &str) -> Result<Vec<u8>> {
    Ok(wat::parse_str(format!(
        r#"(module {imports} (memory (export "memory") {pages})
            (func (export "sanderling_abi") (result i32) (i32.const 1)) {body})"#
    ))?)
}

/// Bytes as they stand in the text of a data segment.
pub(crate) fn data(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:02x}")).collect()
}

/// What a guest says goes nowhere.
struct Nowhere;

impl Output for Nowhere {
    fn emit(&mut self, _seq: u64, _channel: &str, _payload: &[u8]) {}
    fn log(&mut self, _level: u8, text: &str) {
        eprintln!("guest: {text}");
    }
    fn denied(&mut self, _function: &'static str) {}
}

/// Loads a guest as a worker does, with the model `model` where there is one.
pub(crate) fn load(module: &[u8], model: Option<&[u8]>) -> Result<Guest> {
    load_as(Execution::Reactor, module, model)
}

/// As [`load`], with an execution.
pub(crate) fn load_as(execution: Execution, module: &[u8], model: Option<&[u8]>) -> Result<Guest> {
    Guest::load(spec(execution, module, model)?, ports()).map_err(|fault| anyhow!("{fault}"))
}

/// As [`load`] without a model, with a flight recorder of the size that holds by default.
pub(crate) fn load_recorded(module: &[u8]) -> Result<Guest> {
    let spec = spec(Execution::Reactor, module, None)?;
    let flight = Flight::new(Region::owned((spec.limits.capsule_kib as usize) << 10));
    Guest::load_recorded(flight, Arc::new(Tract::new(&spec.limits)), spec, ports()).map_err(|fault| anyhow!("{fault}"))
}

fn ports() -> Ports {
    Ports {
        clock: Arc::new(GuestClock::default()),
        output: Box::new(Nowhere),
        random: Box::new(SeededRandom::new(1)),
        stop: Box::new(|| false),
    }
}

fn spec<'a>(execution: Execution, module: &'a [u8], model: Option<&[u8]>) -> Result<LoadSpec<'a>> {
    let models = model.map(|bytes| NamedModel { name: "model".into(), bytes: bytes.into() });
    Ok(LoadSpec {
        module,
        models: models.into_iter().collect(),
        grants: vec!["infer".parse().map_err(anyhow::Error::msg)?],
        limits: Limits { deadline_ms: 10_000, fuel_per_frame: 10_000_000_000, ..Limits::default() },
        config: "{}".into(),
        execution,
        ..LoadSpec::default()
    })
}

/// As [`load`], and started.
pub(crate) fn start(module: &[u8], model: Option<&[u8]>) -> Result<Guest> {
    let mut guest = load(module, model)?;
    guest.start().map_err(|fault| anyhow!("{fault}"))?;
    Ok(guest)
}

/// Gives the guest a frame, which must be handled.
pub(crate) fn give(guest: &mut Guest, header: &FrameHeader, content: &'static [u8]) -> Result<()> {
    match guest.frame(header, FrameBytes::Static(content)) {
        Ok(Outcome::Done(_)) => Ok(()),
        Ok(other) => Err(anyhow!("{other:?}")),
        Err(fault) => Err(anyhow!("{fault}")),
    }
}

/// The frame function of a guest without imports, in the interpreter alone.
pub(crate) struct Bare {
    store: Store<()>,
    frame: TypedFunc<(), i32>,
    fuel: bool,
}

impl Bare {
    /// Compiles and instantiates it; with or without counting fuel.
    pub(crate) fn new(module: &[u8], fuel: bool) -> Result<Self> {
        let engine = engine(fuel);
        let mut store = Store::new(&engine, ());
        if fuel {
            store.set_fuel(u64::MAX)?;
        }
        let instance = Linker::new(&engine).instantiate_and_start(&mut store, &Module::new(&engine, module)?)?;
        let frame = instance.get_typed_func(&store, "sanderling_frame")?;
        Ok(Self { store, frame, fuel })
    }

    /// Calls it.
    pub(crate) fn call(&mut self) -> Result<()> {
        if self.fuel {
            self.store.set_fuel(u64::MAX)?;
        }
        self.frame.call(&mut self.store, ())?;
        Ok(())
    }
}

/// The interpreter as it is, compiling everything at once.
pub(crate) fn engine(fuel: bool) -> Engine {
    let mut config = Config::default();
    config.compilation_mode(CompilationMode::Eager).consume_fuel(fuel);
    Engine::new(&config)
}
