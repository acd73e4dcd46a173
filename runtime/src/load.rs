//! From a specification to a guest that is ready to start: compile, load the models, link, instantiate, look at the exports.

use std::sync::Arc;

use sanderling_protocol::{
    deployment::{Execution, Grant, Limits},
    worker::{Fault, FaultCode, InputDecode},
};
use wasmi::{Instance, Store, TypedFunc};

use crate::{
    call,
    exports::{ABI, Command, Exports},
    fault,
    host::{
        Grants, HostState, Ports, Settings,
        nn::NnState,
        wasi::{Standard, Strings},
    },
    infer::{Inference, models::NamedModel, tract::Tract},
    instance::{Body, Guest},
    limits::Budget,
    module::Linked,
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
    /// section and `sanderling_abi`. Where each frame has an instance of its own, that was in an instance that is no more.
    ///
    /// # Errors
    /// A [`Fault`] that names what is wrong with the module, its imports, its exports or its models.
    pub fn load(spec: LoadSpec<'_>, ports: Ports) -> Result<Self, Fault> {
        Self::load_with(Arc::new(Tract::new(&spec.limits)), spec, ports)
    }

    /// As [`Guest::load`], with an inference library of the caller's: another one, or one that looks on.
    ///
    /// # Errors
    /// As [`Guest::load`].
    pub fn load_with(inference: Arc<dyn Inference>, spec: LoadSpec<'_>, ports: Ports) -> Result<Self, Fault> {
        let clock = Arc::clone(&ports.clock);
        let began = clock.mono_ns();
        let linked = Linked::new(spec.module)?;
        let compiled = clock.mono_ns();
        let nn = NnState::new(inference, spec.models, &spec.limits)?;
        let modelled = clock.mono_ns();
        let settings = Settings {
            nn,
            grants: Grants::new(&spec.grants),
            limits: spec.limits,
            strings: Strings::of(&spec.config),
            config: Arc::from(spec.config),
            standard: match spec.execution {
                Execution::Command => Standard::Frame,
                Execution::Reactor | Execution::Isolated => Standard::Log,
            },
        };
        let store = linked.store(HostState::new(settings, ports));
        let body = first_instance(linked, store, spec.execution)?;
        let module_ns = clock.mono_ns().saturating_sub(modelled) + compiled.saturating_sub(began);
        let loaded = Loaded {
            module_us: module_ns / 1000,
            models_us: modelled.saturating_sub(compiled) / 1000,
            memory_bytes: body.memory_bytes(),
        };
        Ok(Self::new(body, clock, &spec.limits, spec.inputs, loaded))
    }
}

/// Makes an instance, to see whether it can be made and whether it has what is called of it.
fn first_instance(linked: Linked, mut store: Store<HostState>, execution: Execution) -> Result<Body, Fault> {
    let limits = store.data().limits;
    let mut budget = Budget::start(&limits, store.data().clock.mono_ns());
    let instance = call::instantiate(&mut store, &linked, &mut budget)
        .map_err(|ended| fault::of_instantiation(&ended, &limits))?;
    match execution {
        Execution::Reactor => Ok(Body::reactor(reactor(&mut store, instance, &mut budget)?, store)),
        Execution::Isolated => Ok(Body::isolated(linked, reactor(&mut store, instance, &mut budget)?, store)),
        Execution::Command => Command::find(&store, instance).map(|_| Body::command(linked, store)),
    }
}

fn reactor(store: &mut Store<HostState>, instance: Instance, budget: &mut Budget) -> Result<Exports, Fault> {
    let (exports, abi) = Exports::find(store, instance)?;
    store.data_mut().own.memory = Some(exports.memory);
    check_abi(store, abi, budget)?;
    Ok(exports)
}

fn check_abi(store: &mut Store<HostState>, abi: TypedFunc<(), i32>, budget: &mut Budget) -> Result<(), Fault> {
    match call::run(store, abi, (), budget) {
        Ok(sanderling_guest::ABI) => Ok(()),
        Ok(other) => {
            let ours = sanderling_guest::ABI;
            let message = format!(
                "the module is written for version {other} of the guest contract, this host speaks version {ours}; build it with a matching SDK"
            );
            Err(Fault { export: Some(ABI.to_owned()), ..Fault::new(FaultCode::Init, message) })
        }
        Err(ended) => {
            let state = store.data();
            Err(fault::of_call(&ended, ABI, &state.limits, state.own.limiter.refused()))
        }
    }
}
