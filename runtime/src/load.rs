//! From a specification to a guest that is ready to start: compile, load the models, link, instantiate, look at the exports.

use std::sync::Arc;

use sanderling_protocol::{
    deployment::{Execution, Grant, Limits},
    worker::{Fault, FaultCode, InputDecode},
};
use wasmi::{Engine, Linker, Module, Store};

use crate::{
    call,
    exports::{ABI, Exports},
    fault,
    host::{
        self, Grants, HostState, Ports, Settings,
        nn::{NamedModel, NnState},
    },
    infer::{Inference, tract::Tract},
    instance::Guest,
    limits::Budget,
    module,
};

/// Everything that decides how a guest runs.
#[derive(Clone, Debug, Default)]
pub struct LoadSpec<'a> {
    /// The wasm file.
    pub module: &'a [u8],
    /// The models that the guest may load by name.
    pub models: Vec<NamedModel>,
    /// To what compressed frames are decoded, by sensor; frames of other sensors are handed over as they are.
    pub inputs: Vec<InputDecode>,
    /// What the guest reads with `config`, as JSON text.
    pub config: String,
    /// What the guest may do.
    pub grants: Vec<Grant>,
    /// What the guest may use.
    pub limits: Limits,
    /// How the guest is run.
    pub execution: Execution,
}

/// How long loading took, and what it left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Time to compile, link and instantiate the module, in microseconds.
    pub module_us: u64,
    /// Time to load all models, in microseconds.
    pub models_us: u64,
    /// Linear memory after instantiation, in bytes.
    pub memory_bytes: u64,
}

impl Guest {
    /// Brings a guest up to the point where [`Guest::start`] may run: nothing of it has been called but its start
    /// section and `sanderling_abi`.
    ///
    /// # Errors
    /// A [`Fault`] that names what is wrong with the module, its imports, its exports or its models.
    pub fn load(spec: LoadSpec<'_>, ports: Ports) -> Result<Self, Fault> {
        Self::load_with(&Tract::new(&spec.limits), spec, ports)
    }

    /// As [`Guest::load`], with an inference library of the caller's: another one, or one that looks on.
    ///
    /// # Errors
    /// As [`Guest::load`].
    pub fn load_with(inference: &dyn Inference, spec: LoadSpec<'_>, ports: Ports) -> Result<Self, Fault> {
        match spec.execution {
            Execution::Reactor => load_reactor(inference, spec, ports),
        }
    }
}

fn load_reactor(inference: &dyn Inference, spec: LoadSpec<'_>, ports: Ports) -> Result<Guest, Fault> {
    let clock = Arc::clone(&ports.clock);
    let began = clock.mono_ns();
    let (engine, module) = module::compile(spec.module)?;
    let compiled = clock.mono_ns();
    let nn = NnState::with(inference, spec.models, &spec.limits)?;
    let modelled = clock.mono_ns();
    let settings =
        Settings { nn, grants: Grants::new(&spec.grants), limits: spec.limits, config: Arc::from(spec.config) };
    let state = HostState::new(settings, ports.clock, ports.output, ports.random);
    let (mut store, exports) = instantiate(&engine, &module, state, &spec.limits)?;
    store.data_mut().memory = Some(exports.memory);
    check_abi(&mut store, &exports, &*ports.stop)?;
    let module_ns = clock.mono_ns().saturating_sub(modelled) + compiled.saturating_sub(began);
    let loaded = Loaded {
        module_us: module_ns / 1000,
        models_us: modelled.saturating_sub(compiled) / 1000,
        memory_bytes: store.data().limiter.memory_bytes(),
    };
    Ok(Guest::new(store, exports, spec.inputs, ports.stop, loaded))
}

fn instantiate(
    engine: &Engine,
    module: &Module,
    state: HostState,
    limits: &Limits,
) -> Result<(Store<HostState>, Exports), Fault> {
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.limiter);
    let mut linker = Linker::new(engine);
    let ours = |error: &dyn std::fmt::Display| Fault::new(FaultCode::Init, format!("the host does not link: {error}"));
    host::register(&mut linker).map_err(|error| ours(&error))?;
    store.set_fuel(Budget::section(limits)).map_err(|error| ours(&error))?;
    let instance =
        linker.instantiate_and_start(&mut store, module).map_err(|error| fault::of_instantiation(&error, limits))?;
    store.data_mut().owed = 0;
    let exports = Exports::find(&store, instance)?;
    Ok((store, exports))
}

fn check_abi(store: &mut Store<HostState>, exports: &Exports, stop: &dyn Fn() -> bool) -> Result<(), Fault> {
    let limits = store.data().limits;
    let mut budget = Budget::start(&limits, store.data().clock.mono_ns());
    match call::run(store, exports.abi, (), &mut budget, stop) {
        Ok(sanderling_guest::ABI) => Ok(()),
        Ok(other) => {
            let ours = sanderling_guest::ABI;
            let message = format!(
                "the module is written for version {other} of the guest contract, this host speaks version {ours}; build it with a matching SDK"
            );
            Err(Fault { export: Some(ABI.to_owned()), ..Fault::new(FaultCode::Init, message) })
        }
        Err(ended) => Err(fault::of_call(&ended, ABI, &limits, store.data().limiter.refused())),
    }
}
