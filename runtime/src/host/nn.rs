//! `wasi_ephemeral_nn`, the witx ABI of wasi-nn, and `nn_output_info`.
//!
//! Every function returns an errno of wasi-nn as `i32` and writes its result through a pointer. What the witx leaves
//! open is decided here:
//!
//! - Without the grant `infer` every function answers `unsupported_operation`, counted as a refused call.
//! - `load` with bytes would need the grant `infer:load`, which this version does not know: it answers
//!   `unsupported_operation`. Models come from the deployment, by name.
//! - A pointer outside of memory is `invalid_argument`, a guest without memory `missing_memory`.
//! - Type codes 2 and 3 mean u8 and i32 in wasi-nn 0.1 to 0.5, f64 and u8 in 0.6. They are told apart by the length of
//!   the data over the product of the dimensions.
//! - A buffer that is too small is answered with `too_large`, and the size that is needed is written nevertheless.
//! - The error behind an errno is written to the module's log, since an errno says little.
//!
//! Limits: [`MAX_CONTEXTS`] execution contexts; the tensors of all of them together stay below `native_memory_mib`.
//! A graph's handle is the same each time it is loaded, so loading cannot use memory up.

use std::sync::Arc;

use sanderling_guest::{
    IMPORTS,
    tensor::{INFO, MAX_RANK, TensorType},
};
use sanderling_protocol::{
    deployment::Limits,
    worker::{Fault, FaultCode},
};
use wasmi::{Caller, Linker, errors::LinkerError};

use super::{Errno, HostState, answer, native, output};
use crate::{
    GuestMemory,
    image::Preparer,
    infer::{Context, Graph, InferError, Inference},
};

/// The module name of wasi-nn.
pub const MODULE: &str = "wasi_ephemeral_nn";
/// A guest has at most this many execution contexts.
pub const MAX_CONTEXTS: usize = 16;

const MIB: usize = 1 << 20;
const WARN: u8 = 1;

/// An errno of wasi-nn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NnErrno(i32);

impl NnErrno {
    const SUCCESS: i32 = 0;
    const INVALID_ARGUMENT: Self = Self(1);
    const MISSING_MEMORY: Self = Self(3);
    const BUSY: Self = Self(4);
    const RUNTIME_ERROR: Self = Self(5);
    const UNSUPPORTED_OPERATION: Self = Self(6);
    const TOO_LARGE: Self = Self(7);
    const NOT_FOUND: Self = Self(8);
}

/// A bad pointer, which is the only errno that reading guest memory gives.
impl From<Errno> for NnErrno {
    fn from(_: Errno) -> Self {
        Self::INVALID_ARGUMENT
    }
}

/// A model under the name by which the guest loads it.
#[derive(Clone, Debug)]
pub struct NamedModel {
    /// The name given to `load_by_name`.
    pub name: String,
    /// The ONNX file.
    pub bytes: Arc<[u8]>,
}

/// Models, execution contexts and tensors of one guest.
pub struct NnState {
    models: Vec<Model>,
    contexts: Vec<Box<dyn Context>>,
    /// Turns the current frame into tensors; here, so that an input and the preparer can be used at once.
    pub(super) preparer: Preparer,
    limit: usize,
}

struct Model {
    name: String,
    graph: Arc<dyn Graph>,
    loaded: bool,
}

impl NnState {
    /// Parses the models.
    ///
    /// # Errors
    /// A fault that names the model that does not parse (`init`) or needs too large a tensor (`native_memory`).
    pub fn with(inference: &dyn Inference, models: Vec<NamedModel>, limits: &Limits) -> Result<Self, Fault> {
        let parse = |NamedModel { name, bytes }| {
            let graph = inference.load(&name, &bytes).map_err(|error| fault(&error))?;
            Ok(Model { name, graph, loaded: false })
        };
        let models = models.into_iter().map(parse).collect::<Result<_, _>>()?;
        let limit = limit(limits);
        Ok(Self { models, contexts: Vec::new(), preparer: Preparer::new(limit), limit })
    }

    fn load_by_name(&mut self, name: &[u8]) -> Result<u32, NnErrno> {
        let named = self.models.iter_mut().zip(0_u32..).find(|(model, _)| model.name.as_bytes() == name);
        let (model, handle) = named.ok_or(NnErrno::NOT_FOUND)?;
        model.loaded = true;
        Ok(handle)
    }

    fn init_execution_context(&mut self, graph: i32) -> Result<u32, NnFailure> {
        let model = usize::try_from(graph).ok().and_then(|graph| self.models.get(graph));
        let model = model.filter(|model| model.loaded).ok_or(NnErrno::INVALID_ARGUMENT)?;
        if self.contexts.len() >= MAX_CONTEXTS {
            return Err(NnErrno::BUSY.into());
        }
        let context = Arc::clone(&model.graph).context()?;
        let handle = u32::try_from(self.contexts.len()).map_err(|_| NnErrno::BUSY)?;
        self.contexts.push(context);
        Ok(handle)
    }

    /// Forgets the execution contexts, with all that their tensors hold, and which models were loaded. The models stay parsed.
    pub(crate) fn forget(&mut self) {
        self.contexts.clear();
        self.models.iter_mut().for_each(|model| model.loaded = false);
    }

    /// The execution context with this handle.
    pub(super) fn context(&mut self, handle: i32) -> Option<&mut Box<dyn Context>> {
        usize::try_from(handle).ok().and_then(|handle| self.contexts.get_mut(handle))
    }

    /// The execution context with this handle, and what writes images to its inputs.
    pub(super) fn context_and_preparer(&mut self, handle: i32) -> Option<(&mut Box<dyn Context>, &mut Preparer)> {
        let context = usize::try_from(handle).ok().and_then(|handle| self.contexts.get_mut(handle))?;
        Some((context, &mut self.preparer))
    }

    /// Whether a context may have an input of `bytes`, seen from the tensors of all contexts.
    pub(super) fn has_room(&self, handle: i32, index: usize, bytes: usize) -> bool {
        let held = self
            .contexts
            .iter()
            .zip(0_i32..)
            .map(|(context, own)| context.held(if own == handle { Some(index) } else { None }));
        held.fold(bytes, usize::saturating_add) <= self.limit
    }
}

/// An errno for the guest, and where there is one the sentence for the log.
struct NnFailure {
    errno: NnErrno,
    error: Option<InferError>,
}

impl From<NnErrno> for NnFailure {
    fn from(errno: NnErrno) -> Self {
        Self { errno, error: None }
    }
}

impl From<Errno> for NnFailure {
    fn from(errno: Errno) -> Self {
        NnErrno::from(errno).into()
    }
}

impl From<InferError> for NnFailure {
    fn from(error: InferError) -> Self {
        let errno = match &error {
            InferError::NoPort { .. } | InferError::Type { .. } | InferError::Shape { .. } => NnErrno::INVALID_ARGUMENT,
            InferError::TooLarge { .. } => NnErrno::TOO_LARGE,
            InferError::PortType { .. } => NnErrno::UNSUPPORTED_OPERATION,
            InferError::Load { .. }
            | InferError::Panicked { .. }
            | InferError::Missing { .. }
            | InferError::NotComputed
            | InferError::Run { .. } => NnErrno::RUNTIME_ERROR,
        };
        Self { errno, error: Some(error) }
    }
}

/// Links the functions.
///
/// # Errors
/// Where a name is linked twice.
pub fn register(linker: &mut Linker<HostState>) -> Result<(), LinkerError> {
    linker.func_wrap(MODULE, "load", |mut caller: Caller<'_, HostState>, _: i32, _: i32, _: i32, _: i32, _: i32| {
        // The refusal is all that is wanted of it.
        let _ = caller.data_mut().allow(false, "load");
        NnErrno::UNSUPPORTED_OPERATION.0
    })?;
    linker.func_wrap(MODULE, "load_by_name", |mut caller: Caller<'_, HostState>, name: i32, len: i32, out: i32| {
        run(&mut caller, "load_by_name", |memory, state| {
            let graph = state.nn.load_by_name(memory.read(name, len)?)?;
            Ok(memory.write(out, &graph.to_le_bytes())?)
        })
    })?;
    linker.func_wrap(MODULE, "init_execution_context", |mut caller: Caller<'_, HostState>, graph: i32, out: i32| {
        run(&mut caller, "init_execution_context", |memory, state| {
            // Before there is a context that the guest would never hear of.
            memory.read_array::<4>(out)?;
            let context = state.nn.init_execution_context(graph)?;
            Ok(memory.write(out, &context.to_le_bytes())?)
        })
    })?;
    linker.func_wrap(
        MODULE,
        "set_input",
        |mut caller: Caller<'_, HostState>, context: i32, index: i32, tensor: i32| {
            run(&mut caller, "set_input", |memory, state| set_input(memory, &mut state.nn, context, index, tensor))
        },
    )?;
    linker.func_wrap(MODULE, "compute", |mut caller: Caller<'_, HostState>, context: i32| {
        run(&mut caller, "compute", |_, state| {
            Ok(state.nn.context(context).ok_or(NnErrno::INVALID_ARGUMENT)?.compute()?)
        })
    })?;
    linker.func_wrap(
        MODULE,
        "get_output",
        |mut caller: Caller<'_, HostState>, context: i32, index: i32, buffer: i32, room: i32, written: i32| {
            run(&mut caller, "get_output", |memory, state| {
                get_output(memory, &mut state.nn, (context, index), (buffer, room), written)
            })
        },
    )?;
    linker.func_wrap(
        IMPORTS,
        "nn_output_info",
        |mut caller: Caller<'_, HostState>, context: i32, index: i32, out: i32| {
            answer(native(&mut caller, |caller| output_info(caller, context, index, out)))
        },
    )?;
    Ok(())
}

/// Runs a function of wasi-nn: grant, memory, the work itself, and the log line where it fails.
fn run(
    caller: &mut Caller<'_, HostState>,
    function: &'static str,
    work: impl FnOnce(&mut GuestMemory<'_>, &mut HostState) -> Result<(), NnFailure>,
) -> i32 {
    native(caller, |caller| {
        let state = caller.data_mut();
        if state.allow(state.grants.infer, function).is_err() {
            return NnErrno::UNSUPPORTED_OPERATION.0;
        }
        let Ok((mut memory, state)) = GuestMemory::split(caller) else {
            return NnErrno::MISSING_MEMORY.0;
        };
        match work(&mut memory, state) {
            Ok(()) => NnErrno::SUCCESS,
            Err(NnFailure { errno, error }) => {
                if let Some(error) = error {
                    explain(state, function, &error);
                }
                errno.0
            }
        }
    })
}

/// Says in the module's log why a call failed; held to the rate of its lines.
pub(super) fn explain(state: &mut HostState, function: &str, error: &dyn std::fmt::Display) {
    output::write_line(state, WARN, format!("{function}: {error}").as_bytes());
}

fn set_input(
    memory: &GuestMemory<'_>,
    nn: &mut NnState,
    context: i32,
    index: i32,
    tensor: i32,
) -> Result<(), NnFailure> {
    let mut record = memory.read_array::<20>(tensor)?.as_chunks::<4>().0.iter().copied().map(i32::from_le_bytes);
    let mut next = || record.next().unwrap_or_default();
    let (dims_ptr, rank, code, data_ptr, data_len) = (next(), next(), next().to_le_bytes()[0], next(), next());
    let mut room = [0; MAX_RANK];
    let rank = usize::try_from(rank).map_err(|_| NnErrno::INVALID_ARGUMENT)?;
    let dims = room.get_mut(..rank).ok_or(NnErrno::INVALID_ARGUMENT)?;
    // At most 32, since the rank is at most 8.
    let list = memory.read(dims_ptr, rank as i32 * 4)?;
    for (dim, bytes) in dims.iter_mut().zip(list.as_chunks::<4>().0) {
        *dim = u32::from_le_bytes(*bytes) as usize;
    }
    let data = memory.read(data_ptr, data_len)?;
    let elements = dims.iter().try_fold(1_usize, |product, dim| product.checked_mul(*dim));
    let element = element(code, data.len(), elements.ok_or(NnErrno::TOO_LARGE)?).ok_or(NnErrno::INVALID_ARGUMENT)?;
    let index = usize::try_from(index).map_err(|_| NnErrno::INVALID_ARGUMENT)?;
    if !nn.has_room(context, index, data.len()) {
        return Err(NnErrno::TOO_LARGE.into());
    }
    let context = nn.context(context).ok_or(NnErrno::INVALID_ARGUMENT)?;
    let input = context.input(index, element, dims)?;
    if input.len() != data.len() {
        return Err(NnErrno::INVALID_ARGUMENT.into());
    }
    input.copy_from_slice(data);
    Ok(())
}

/// The type behind a code: the one of the two enumerations whose elements fill the data.
fn element(code: u8, len: usize, elements: usize) -> Option<TensorType> {
    let older = match code {
        2 => Some(TensorType::U8),
        3 => Some(TensorType::I32),
        _ => None,
    };
    let fills = |element: &TensorType| elements.checked_mul(element.size()) == Some(len);
    TensorType::from_u8(code).filter(fills).or_else(|| older.filter(fills))
}

fn get_output(
    memory: &mut GuestMemory<'_>,
    nn: &mut NnState,
    (context, index): (i32, i32),
    (buffer, room): (i32, i32),
    written: i32,
) -> Result<(), NnFailure> {
    let context = nn.context(context).ok_or(NnErrno::INVALID_ARGUMENT)?;
    let index = usize::try_from(index).map_err(|_| NnErrno::INVALID_ARGUMENT)?;
    let bytes = context.output(index)?.bytes;
    let len = u32::try_from(bytes.len()).map_err(|_| NnErrno::TOO_LARGE)?;
    memory.write(written, &len.to_le_bytes())?;
    if len > room.cast_unsigned() {
        return Err(NnErrno::TOO_LARGE.into());
    }
    Ok(memory.write(buffer, bytes)?)
}

fn output_info(caller: &mut Caller<'_, HostState>, context: i32, index: i32, out: i32) -> Result<i32, Errno> {
    let state = caller.data_mut();
    state.allow(state.grants.infer, "nn_output_info")?;
    let (mut memory, state) = GuestMemory::split(caller)?;
    let context = state.nn.context(context).ok_or(Errno::NOENT)?;
    let index = usize::try_from(index).map_err(|_| Errno::NOENT)?;
    let info = context.output_info(index).map_err(|error| match error {
        InferError::NotComputed => Errno::NODATA,
        _ => Errno::NOENT,
    })?;
    if info.dims.len() > MAX_RANK {
        return Err(Errno::TOO_BIG);
    }
    let rank = info.dims.iter().zip(1_u32..).last().map_or(0, |(_, rank)| rank);
    let dims = info.dims.iter().map(|dim| u32::try_from(*dim)).collect::<Result<Vec<_>, _>>();
    let words = [info.element as u32, rank].into_iter().chain(dims.map_err(|_| Errno::TOO_BIG)?);
    let mut record = [0; INFO];
    for (to, word) in record.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *to = word.to_le_bytes();
    }
    memory.write(out, &record)?;
    Ok(0)
}

fn limit(limits: &Limits) -> usize {
    (limits.native_memory_mib as usize).saturating_mul(MIB)
}

fn fault(error: &InferError) -> Fault {
    let code = match error {
        InferError::TooLarge { .. } => FaultCode::NativeMemory,
        _ => FaultCode::Init,
    };
    Fault::new(code, error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
