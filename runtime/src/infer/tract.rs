//! The inference port over tract.
//!
//! A model whose input shapes are fixed is optimised when it is loaded, and only the plan is kept. One that leaves
//! dimensions open (with a name, or without) is optimised for each set of shapes that comes. The plans used last are kept: at most
//! [`MAX_PLANS`] of a model, and no more than `native_memory_mib` together hold. They belong to the model, so all contexts share them.
//!
//! Before tract sees a model, `scan` looks at what it claims: how many nodes it has, and how large its tensors would be.
//!
//! tract's types beyond those of wasi-nn are carried where that loses nothing: i8 and bool as u8, u32 as i32, u64 as
//! i64, all with the same bits; u16 and i16 outputs are widened to i32.
//!
//! External data is not followed: there is no directory beside a model. tract runs on the calling thread.

mod scan;

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

use sanderling_guest::tensor::TensorType;
use sanderling_protocol::deployment::Limits;
use tract_onnx::{
    prelude::{
        DatumType, Framework, InferenceFact, InferenceModel, InferenceModelExt, Symbol, TDim, Tensor, TractError,
    },
    tract_core::{
        internal::IntoTValue,
        model::{IntoRunnable, TypedModel, TypedRunnableModel, TypedSimpleState},
        value::TValue,
    },
    tract_hir::infer::{Factoid, GenericFactoid},
};

use super::{Context, Graph, InferError, Inference, TensorInfo, TensorView};

/// Plans kept for each model; each holds the packed weights once more.
pub const MAX_PLANS: usize = 4;
/// What tract says can quote whole nodes; a message keeps this many characters of it.
const MAX_REASON: usize = 300;
/// What is too large, in messages.
const TENSOR: &str = "a tensor";
const WEIGHTS: &str = "weights";

type Shapes = Vec<Vec<usize>>;

/// Runs a model of our own once, so that tract reads what it wants to know about the processor from `/proc` and `/sys`
/// now. Call it before the process is confined; without it tract falls back to cautious guesses.
pub fn probe_cpu() {
    let probed = Tract { max_tensor: 1 << 20 }.load("probe", include_bytes!("probe.onnx")).and_then(|graph| {
        let mut context = graph.context()?;
        context.input(0, TensorType::F32, &[1, 1, 8, 8])?;
        context.compute()
    });
    debug_assert_eq!(probed, Ok(()));
    tract_onnx::tract_core::tract_linalg::cache::cache_info();
}

/// Inference by tract.
#[derive(Clone, Copy, Debug)]
pub struct Tract {
    /// No tensor is larger than this, in bytes.
    pub max_tensor: usize,
}

impl Tract {
    /// One that holds tensors to `native_memory_mib`.
    pub fn new(limits: &Limits) -> Self {
        Self { max_tensor: (limits.native_memory_mib as usize).saturating_mul(1 << 20) }
    }
}

impl Inference for Tract {
    fn load(&self, name: &str, onnx: &[u8]) -> Result<Arc<dyn Graph>, InferError> {
        guarded(name, "loaded", || TractGraph::load(name, onnx, self.max_tensor))
            .map(|graph| -> Arc<dyn Graph> { Arc::new(graph) })
    }
}

/// One input of a model.
struct Port {
    datum: DatumType,
    element: TensorType,
    /// `None`: any rank. A dimension that is `None`: any length.
    dims: Option<Vec<Option<usize>>>,
    /// The dimensions that have a name.
    symbols: Vec<(usize, Symbol)>,
}

struct TractGraph {
    name: String,
    inputs: Vec<Port>,
    outputs: usize,
    limit: usize,
    plans: Mutex<Plans>,
}

struct Plans {
    /// Where shapes are open, so that there may be more plans.
    model: Option<InferenceModel>,
    /// Bytes of its weights.
    open: usize,
    /// The one used last at the end.
    made: Vec<Made>,
}

/// A plan, and what it is made for.
struct Made {
    shapes: Shapes,
    plan: Arc<TypedRunnableModel>,
    /// Bytes of its weights.
    bytes: usize,
}

impl Plans {
    /// Adds a plan in the place of those that were not used for longest.
    fn keep(&mut self, made: Made, limit: usize) {
        while !self.made.is_empty() && (self.made.len() >= MAX_PLANS || self.held().saturating_add(made.bytes) > limit)
        {
            self.made.remove(0);
        }
        self.made.push(made);
    }

    /// The bytes of all weights.
    fn held(&self) -> usize {
        self.made.iter().map(|made| made.bytes).fold(self.open, usize::saturating_add)
    }
}

impl TractGraph {
    fn load(name: &str, mut onnx: &[u8], limit: usize) -> Result<Self, InferError> {
        // Nearly all of a model's bytes are its weights.
        let onnx_len = onnx.len();
        if onnx_len > limit {
            return Err(InferError::TooLarge { name: name.to_owned(), what: WEIGHTS, bytes: onnx_len, limit });
        }
        let fail = |error: TractError| InferError::Load { name: name.to_owned(), reason: reason(&error) };
        let framework = tract_onnx::onnx();
        let proto = framework.proto_model_for_read(&mut onnx).map_err(fail)?;
        scan::scan(name, &proto, limit)?;
        let model = framework.model_for_proto_model(&proto).map_err(fail)?;
        drop(proto);
        let inputs = (0..model.inputs.len())
            .map(|index| Port::new(name, index, model.input_fact(index).map_err(fail)?))
            .collect::<Result<Vec<_>, _>>()?;
        let outputs = model.outputs.len();
        let mut plans = Plans { model: None, open: 0, made: vec![] };
        let fixed: Option<Shapes> = inputs.iter().map(|port| port.dims.as_ref()?.iter().copied().collect()).collect();
        match fixed {
            Some(shapes) => plans.made.push(Made::new(name, shapes, model, limit)?),
            None => {
                plans.open = onnx_len;
                plans.model = Some(model);
            }
        }
        Ok(Self { name: name.to_owned(), inputs, outputs, limit, plans: Mutex::new(plans) })
    }

    /// The plan for these shapes, made where there is none.
    fn plan(&self, shapes: &Shapes) -> Result<Arc<TypedRunnableModel>, InferError> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = plans.made.iter().position(|made| made.shapes == *shapes) {
            let found = plans.made.remove(at);
            let plan = Arc::clone(&found.plan);
            plans.made.push(found);
            return Ok(plan);
        }
        let open = plans.model.as_ref().ok_or_else(|| self.run_error("its shapes are fixed to others".to_owned()))?;
        let mut made = guarded(&self.name, "prepared", || {
            let model = self.bind(open.clone(), shapes).map_err(|error| self.run_error(reason(&error)))?;
            Made::new(&self.name, shapes.clone(), model, self.limit)
        })?;
        // Weights that were packed for the processor do not show as constants: a plan counts for no less than the file that it is made of.
        made.bytes = made.bytes.max(plans.open);
        let plan = Arc::clone(&made.plan);
        plans.keep(made, self.limit);
        Ok(plan)
    }

    fn bind(&self, mut model: InferenceModel, shapes: &Shapes) -> Result<InferenceModel, TractError> {
        let mut values = HashMap::new();
        for (port, dims) in self.inputs.iter().zip(shapes) {
            for (axis, symbol) in &port.symbols {
                if let Some(dim) = dims.get(*axis).and_then(|dim| i64::try_from(*dim).ok()) {
                    values.insert(symbol.clone(), TDim::Val(dim));
                }
            }
        }
        model.set_symbols(&values)?;
        for (index, (port, dims)) in self.inputs.iter().zip(shapes).enumerate() {
            model.set_input_fact(index, InferenceFact::dt_shape(port.datum, dims.as_slice()))?;
        }
        Ok(model)
    }

    fn run_error(&self, reason: String) -> InferError {
        InferError::Run { name: self.name.clone(), reason }
    }
}

impl Port {
    fn new(name: &str, index: usize, fact: &InferenceFact) -> Result<Self, InferError> {
        let found = fact.datum_type.concretize();
        let (datum, element) =
            found.and_then(|datum| Some((datum, carried(datum)?))).ok_or_else(|| InferError::PortType {
                name: name.to_owned(),
                port: format!("input {index}"),
                found: found.map_or_else(|| "no type".to_owned(), |datum| format!("{datum:?}")),
            })?;
        let mut symbols = vec![];
        let dims = fact.shape.dims().enumerate().map(|(axis, dim)| match dim {
            GenericFactoid::Only(TDim::Sym(symbol)) => {
                symbols.push((axis, symbol.clone()));
                None
            }
            GenericFactoid::Only(dim) => dim.to_i64().ok().and_then(|dim| usize::try_from(dim).ok()),
            GenericFactoid::Any => None,
        });
        let dims: Vec<_> = dims.collect();
        Ok(Self { datum, element, dims: (!fact.shape.is_open()).then_some(dims), symbols })
    }

    fn takes(&self, dims: &[usize]) -> bool {
        self.dims.as_ref().is_none_or(|own| {
            own.len() == dims.len() && own.iter().zip(dims).all(|(own, dim)| own.is_none_or(|own| own == *dim))
        })
    }

    fn shape(&self) -> String {
        let Some(dims) = &self.dims else { return "of any rank".to_owned() };
        let dims = dims.iter().map(|dim| dim.map_or_else(|| "?".to_owned(), |dim| dim.to_string()));
        format!("[{}]", dims.collect::<Vec<_>>().join(", "))
    }
}

impl Graph for TractGraph {
    fn context(self: Arc<Self>) -> Result<Box<dyn Context>, InferError> {
        let inputs = self.inputs.iter().map(|_| None).collect();
        Ok(Box::new(TractContext { graph: self, inputs, running: None, outputs: None }))
    }

    fn held(&self) -> usize {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner).held()
    }
}

struct TractContext {
    graph: Arc<TractGraph>,
    inputs: Vec<Option<Arc<Tensor>>>,
    running: Option<(Shapes, TypedSimpleState)>,
    outputs: Option<Vec<(TensorType, TValue)>>,
}

impl Context for TractContext {
    fn wanted(&self, index: usize) -> Option<TensorType> {
        self.graph.inputs.get(index).map(|port| port.element)
    }

    fn input(&mut self, index: usize, element: TensorType, dims: &[usize]) -> Result<&mut [u8], InferError> {
        let count = self.inputs.len();
        let (Some(port), Some(slot)) = (self.graph.inputs.get(index), self.inputs.get_mut(index)) else {
            return Err(InferError::NoPort { what: "input", index, count });
        };
        if element != port.element {
            return Err(InferError::Type { index, expected: port.element, given: element });
        }
        if !port.takes(dims) {
            return Err(InferError::Shape { index, expected: port.shape(), given: dims.to_vec() });
        }
        let kept = slot.take().filter(|tensor| tensor.shape() == dims);
        let tensor = match kept {
            Some(tensor) => tensor,
            None => {
                let (limit, name) = (self.graph.limit, || self.graph.name.clone());
                let bytes = dims.iter().try_fold(element.size(), |bytes, dim| bytes.checked_mul(*dim));
                let bytes = bytes.unwrap_or(usize::MAX);
                if bytes > limit {
                    return Err(InferError::TooLarge { name: name(), what: TENSOR, bytes, limit });
                }
                let tensor = Tensor::zero_dt(port.datum, dims);
                Arc::new(tensor.map_err(|error| self.graph.run_error(reason(&error)))?)
            }
        };
        // An output may be the input itself; then this makes a copy and leaves the output as it is.
        Ok(Arc::make_mut(slot.insert(tensor)).as_bytes_mut())
    }

    fn compute(&mut self) -> Result<(), InferError> {
        self.outputs = None;
        let mut inputs = self.graph_inputs()?;
        // A panic leaves the state in pieces: it is put back only after a run that came to its end.
        let same = |shapes: &Shapes| {
            shapes.len() == inputs.len() && shapes.iter().zip(&inputs).all(|(shape, input)| input.shape() == shape)
        };
        let (shapes, mut state) = match self.running.take().filter(|(shapes, _)| same(shapes)) {
            Some(running) => running,
            None => {
                let shapes: Shapes = inputs.iter().map(|input| input.shape().to_vec()).collect();
                let plan = self.graph.plan(&shapes)?;
                let state = plan.spawn().map_err(|error| self.graph.run_error(reason(&error)))?;
                (shapes, state)
            }
        };
        let graph = &self.graph;
        let outputs = guarded(&graph.name, "run", || {
            let values = inputs.drain(..).map(IntoTValue::into_tvalue).collect();
            state.run(values).map_err(|error| graph.run_error(reason(&error)))
        })?;
        self.running = Some((shapes, state));
        let carried = outputs.into_iter().enumerate().map(|(index, value)| carry(graph, index, value));
        self.outputs = Some(carried.collect::<Result<_, _>>()?);
        Ok(())
    }

    fn output(&self, index: usize) -> Result<TensorView<'_>, InferError> {
        let outputs = self.outputs.as_ref().ok_or(InferError::NotComputed)?;
        let (element, value) =
            outputs.get(index).ok_or(InferError::NoPort { what: "output", index, count: outputs.len() })?;
        Ok(TensorView { element: *element, dims: value.shape(), bytes: value.as_bytes() })
    }

    fn output_info(&self, index: usize) -> Result<TensorInfo, InferError> {
        if self.outputs.is_some() {
            return self.output(index).map(|tensor| TensorInfo { element: tensor.element, dims: tensor.dims.to_vec() });
        }
        if index >= self.graph.outputs {
            return Err(InferError::NoPort { what: "output", index, count: self.graph.outputs });
        }
        let plans = self.graph.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if plans.model.is_some() {
            return Err(InferError::NotComputed);
        }
        let fact = plans.made.first().and_then(|made| made.plan.model().output_fact(index).ok());
        let info = fact.and_then(|fact| {
            let dims = fact.shape.as_concrete()?.to_vec();
            Some(TensorInfo { element: carried(widened(fact.datum_type))?, dims })
        });
        info.ok_or(InferError::NotComputed)
    }

    fn held(&self, without: Option<usize>) -> usize {
        let inputs = self.inputs.iter().enumerate().filter(|(index, _)| Some(*index) != without);
        let inputs: usize = inputs.flat_map(|(_, tensor)| tensor).map(|tensor| tensor.as_bytes().len()).sum();
        let outputs = self.outputs.iter().flatten().map(|(_, value)| value.as_bytes().len());
        outputs.fold(inputs, usize::saturating_add)
    }
}

impl TractContext {
    fn graph_inputs(&mut self) -> Result<Vec<Arc<Tensor>>, InferError> {
        let slots = self.inputs.iter_mut().zip(&self.graph.inputs).enumerate();
        slots
            .map(|(index, (slot, port))| {
                let tensor = slot.as_mut().ok_or(InferError::Missing { index })?;
                if port.datum == DatumType::Bool {
                    // A byte other than 0 and 1 is no bool, and guests write bytes.
                    for byte in Arc::make_mut(tensor).as_bytes_mut() {
                        *byte = u8::from(*byte != 0);
                    }
                }
                Ok(Arc::clone(tensor))
            })
            .collect()
    }
}

impl Made {
    /// Optimises a model whose shapes are set, and holds its tensors to the limit before any of them exists.
    fn new(name: &str, shapes: Shapes, model: InferenceModel, limit: usize) -> Result<Self, InferError> {
        let fail = |error: TractError| InferError::Load { name: name.to_owned(), reason: reason(&error) };
        let typed = model.into_typed().map_err(fail)?;
        check(name, &typed, limit)?;
        let optimised = typed.into_optimized().map_err(fail)?;
        let bytes = check(name, &optimised, limit)?;
        Ok(Self { shapes, plan: optimised.into_runnable().map_err(fail)?, bytes })
    }
}

/// Holds each tensor of a model, and all that is constant together, to the limit. Returns the bytes of the latter.
fn check(name: &str, model: &TypedModel, limit: usize) -> Result<usize, InferError> {
    let held = |what, bytes| {
        let too_large = || InferError::TooLarge { name: name.to_owned(), what, bytes, limit };
        if bytes > limit { Err(too_large()) } else { Ok(()) }
    };
    let mut constant = 0_usize;
    for fact in model.nodes.iter().flat_map(|node| &node.outputs).map(|outlet| &outlet.fact) {
        let bytes = fact.shape.as_concrete().map_or(Some(0), |dims| {
            dims.iter().try_fold(fact.datum_type.size_of(), |bytes, dim| bytes.checked_mul(*dim))
        });
        held(TENSOR, bytes.unwrap_or(usize::MAX))?;
        if fact.konst.is_some() {
            // What was packed for the processor has its own size beside that of the tensor.
            let bytes = fact.mem_size().to_i64().ok().and_then(|bytes| usize::try_from(bytes).ok());
            constant = constant.saturating_add(bytes.unwrap_or(usize::MAX));
        }
    }
    held(WEIGHTS, constant)?;
    Ok(constant)
}

/// The type under which guests see tensors of this one, bit by bit.
fn carried(datum: DatumType) -> Option<TensorType> {
    Some(match datum.unquantized() {
        DatumType::F16 => TensorType::F16,
        DatumType::F32 => TensorType::F32,
        DatumType::F64 => TensorType::F64,
        DatumType::U8 | DatumType::I8 | DatumType::Bool => TensorType::U8,
        DatumType::I32 | DatumType::U32 => TensorType::I32,
        DatumType::I64 | DatumType::U64 => TensorType::I64,
        _ => return None,
    })
}

/// The type to which outputs of a type that cannot be carried are cast.
fn widened(datum: DatumType) -> DatumType {
    match datum {
        DatumType::U16 | DatumType::I16 => DatumType::I32,
        DatumType::TDim => DatumType::I64,
        other => other,
    }
}

fn carry(graph: &TractGraph, index: usize, value: TValue) -> Result<(TensorType, TValue), InferError> {
    let datum = value.datum_type();
    let to = widened(datum);
    let value = if to == datum {
        value
    } else {
        let cast = value.cast_to_dt(to).map_err(|error| graph.run_error(reason(&error)))?;
        cast.into_owned().into_tvalue()
    };
    let element = carried(to).filter(|element| {
        value.as_plain_ram().is_some_and(|plain| plain.as_bytes().len() == value.len() * element.size())
    });
    let refused = || InferError::PortType {
        name: graph.name.clone(),
        port: format!("output {index}"),
        found: format!("{datum:?}"),
    };
    Ok((element.ok_or_else(refused)?, value))
}

fn guarded<R>(name: &str, doing: &'static str, work: impl FnOnce() -> Result<R, InferError>) -> Result<R, InferError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(InferError::Panicked { name: name.to_owned(), doing }))
}

fn reason(error: &TractError) -> String {
    let text = format!("{error:#}");
    match text.char_indices().nth(MAX_REASON) {
        Some((end, _)) => format!("{} …", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests;
