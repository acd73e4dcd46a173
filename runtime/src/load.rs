//! From a specification to a guest that is ready to start: compile, load the models, link, instantiate, look at the exports.

use std::sync::Arc;

use sanderling_protocol::{
    deployment::{Execution, Grant, Limits},
    flight::Export,
    worker::{Fault, FaultCode, InputDecode},
};
use wasmi::{Instance, Store, TypedFunc};

use crate::{
    call,
    exports::{ABI, Command, Exports, check_abi},
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
    record::{Flight, Start, Tape, Watched},
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
        Self::load_on(Tape::Off, inference, spec, ports)
    }

    /// As [`Guest::load_with`], with a flight recorder.
    ///
    /// # Errors
    /// As [`Guest::load`].
    pub fn load_recorded(
        flight: Flight,
        inference: Arc<dyn Inference>,
        spec: LoadSpec<'_>,
        ports: Ports,
    ) -> Result<Self, Fault> {
        let mut flight = flight;
        flight.instance();
        Self::load_on(Tape::Record(Box::new(flight)), inference, spec, ports)
    }

    /// As [`Guest::load_with`], with somebody who looks on from the first host call.
    pub(crate) fn load_on(
        tape: Tape,
        inference: Arc<dyn Inference>,
        spec: LoadSpec<'_>,
        ports: Ports,
    ) -> Result<Self, Fault> {
        let clock = Arc::clone(&ports.clock);
        let began = clock.mono_ns();
        let linked = Linked::new(spec.module, tape.watches().then_some(Start::Kept))?;
        let compiled = clock.mono_ns();
        let mut spec = spec;
        let settings = settings(inference, &mut spec)?;
        let modelled = clock.mono_ns();
        let mut state = HostState::new(settings, ports);
        state.tape = tape;
        let store = linked.store(state);
        let body = first_instance(linked, store, spec.execution)?;
        let module_ns = clock.mono_ns().saturating_sub(modelled) + compiled.saturating_sub(began);
        let loaded = Loaded {
            module_us: module_ns / 1000,
            models_us: modelled.saturating_sub(compiled) / 1000,
            memory_bytes: body.memory_bytes(),
        };
        Ok(Self::new(body, clock, &spec.limits, spec.inputs, loaded))
    }

    /// As [`Guest::load_on`], without models.
    pub(crate) fn load_replayed(tape: Tape, spec: LoadSpec<'_>, ports: Ports) -> Result<Self, Fault> {
        Self::load_on(tape, Arc::new(Tract::new(&spec.limits)), spec, ports)
    }

    /// A guest of which nothing has run, not even its start section: for a replay that puts it into another state. Where each frame has
    /// an instance of its own, those run what they ran.
    ///
    /// # Errors
    /// As [`Guest::load`]; and where the module's state cannot be made visible.
    pub(crate) fn load_bare(spec: LoadSpec<'_>, ports: Ports) -> Result<Self, Fault> {
        let clock = Arc::clone(&ports.clock);
        let bare = Linked::new(spec.module, Some(Start::Dropped))?;
        let mut spec = spec;
        let state = HostState::new(settings(Arc::new(Tract::new(&spec.limits)), &mut spec)?, ports);
        let mut store = bare.store(state);
        let limits = spec.limits;
        let mut budget = Budget::start(&limits, 0);
        let instance = call::instantiate(&mut store, &bare, &mut budget)
            .map_err(|ended| fault::of_instantiation(&ended, &limits))?;
        let hidden = || Fault::new(FaultCode::Init, "the module's state cannot be seen from outside");
        let watched = Watched::find(&store, instance, bare.exposed().ok_or_else(hidden)?);
        let fresh = || Linked::new(spec.module, Some(Start::Kept));
        let body = match spec.execution {
            Execution::Reactor => {
                let (exports, _) = Exports::find(&store, instance)?;
                store.data_mut().own.memory = Some(exports.memory);
                Body::reactor(exports, store, watched)
            }
            Execution::Isolated => Body::isolated(fresh()?, Exports::find(&store, instance)?.0, store),
            Execution::Command => Body::command(fresh()?, store),
        };
        Ok(Self::new(body, clock, &limits, spec.inputs, Loaded::default()))
    }
}

/// Parses the models, and forgets their files.
fn settings(inference: Arc<dyn Inference>, spec: &mut LoadSpec<'_>) -> Result<Settings, Fault> {
    Ok(Settings {
        nn: NnState::new(inference, std::mem::take(&mut spec.models), &spec.limits)?,
        grants: Grants::new(&spec.grants),
        limits: spec.limits,
        strings: Strings::of(&spec.config),
        config: Arc::from(spec.config.as_str()),
        standard: match spec.execution {
            Execution::Command => Standard::Frame,
            Execution::Reactor | Execution::Isolated => Standard::Log,
        },
    })
}

/// Makes an instance, to see whether it can be made and whether it has what is called of it.
fn first_instance(linked: Linked, mut store: Store<HostState>, execution: Execution) -> Result<Body, Fault> {
    let limits = store.data().limits;
    let mut budget = Budget::start(&limits, store.data().clock.mono_ns());
    let instance = call::instantiate(&mut store, &linked, &mut budget)
        .map_err(|ended| fault::of_instantiation(&ended, &limits))?;
    match execution {
        Execution::Reactor => {
            let exports = reactor(&mut store, instance, &mut budget)?;
            let watched = linked.exposed().map(|exposed| Watched::find(&store, instance, exposed));
            Ok(Body::reactor(exports, store, watched.unwrap_or_default()))
        }
        Execution::Isolated => Ok(Body::isolated(linked, reactor(&mut store, instance, &mut budget)?, store)),
        Execution::Command => Command::find(&store, instance).map(|_| Body::command(linked, store)),
    }
}

fn reactor(store: &mut Store<HostState>, instance: Instance, budget: &mut Budget) -> Result<Exports, Fault> {
    let (exports, abi) = Exports::find(store, instance)?;
    store.data_mut().own.memory = Some(exports.memory);
    if exports.abi_later.is_none() {
        ask_abi(store, abi, budget)?;
    }
    Ok(exports)
}

fn ask_abi(store: &mut Store<HostState>, abi: TypedFunc<(), i32>, budget: &mut Budget) -> Result<(), Fault> {
    store.data_mut().tape.begin(Export::Abi, 0);
    let version = call::run(store, abi, (), budget).map_err(|ended| {
        let state = store.data();
        fault::of_call(&ended, ABI, &state.limits, state.own.limiter.refused())
    })?;
    check_abi(version)
}
