//! `wasi_ephemeral_nn`, the witx ABI of wasi-nn, and `nn_output_info`.
//!
//! Every function returns an errno of wasi-nn as `i32` and writes its result through a pointer. What the witx leaves
//! open is decided here:
//!
//! - Without the grant `infer` every function answers `unsupported_operation`, counted as a refused call.
//! - `load` with bytes wants the grant `infer:load` besides. The encodings are 1 (ONNX) and 5 (autodetect, which is ONNX), others
//!   are `invalid_encoding`; the targets are 0 (cpu) and 3 (auto), gpu and tpu are `unsupported_operation`, others
//!   `invalid_argument`. A model has one part. It is parsed where the guest runs: in the worker after it confined itself, under its
//!   limit of address space. At most [`MAX_BROUGHT`](crate::infer::models::MAX_BROUGHT) such models are kept; their weights count against
//!   `native_memory_mib`, the time that parsing takes against fuel and deadline.
//! - A pointer outside of memory is `invalid_argument`, a guest without memory `missing_memory`.
//! - Type codes 2 and 3 mean u8 and i32 in wasi-nn 0.1 to 0.5, f64 and u8 in 0.6. They are told apart by the length of
//!   the data over the product of the dimensions. That leaves one case open, a tensor without elements, whose data are empty
//!   with either meaning: then it is the type that the model's input has, and else that of 0.6.
//! - A buffer that is too small is answered with `too_large`, and the size that is needed is written nevertheless.
//! - The sentence behind an errno is written to the module's log once, since an errno says little.
//!
//! Limits: [`MAX_CONTEXTS`] execution contexts; the tensors of all of them together stay below `native_memory_mib`.
//! A graph's handle is the same each time it is loaded, so loading cannot use memory up.

mod error;
mod state;

use sanderling_guest::{
    IMPORTS,
    tensor::{INFO, MAX_RANK, TensorType},
};
use wasmi::{Caller, errors::LinkerError};

use super::{Errno, HostState, Linker, answer, native, output};
use crate::{GuestMemory, infer::InferError};
pub(super) use error::NnError;
use error::{SUCCESS, UNSUPPORTED_OPERATION};
pub use state::NnState;

/// The module name of wasi-nn.
pub const MODULE: &str = "wasi_ephemeral_nn";
/// A guest has at most this many execution contexts.
pub const MAX_CONTEXTS: usize = 16;

const WARN: u8 = 1;
/// Encodings that `load` knows.
const ONNX: i32 = 1;
const AUTODETECT: i32 = 5;
/// Targets that `load` knows.
const CPU: i32 = 0;
const GPU: i32 = 1;
const TPU: i32 = 2;
const AUTO: i32 = 3;

/// Links the functions.
///
/// # Errors
/// Where a name is linked twice.
pub fn register(linker: &mut Linker<'_>) -> Result<(), LinkerError> {
    linker.func_wrap(
        MODULE,
        "load",
        |mut caller: Caller<'_, HostState>, parts: i32, count: i32, encoding: i32, target: i32, out: i32| {
            run(&mut caller, "load", |memory, state| load(memory, state, (parts, count), (encoding, target), out))
        },
    )?;
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
            Ok(state.nn.context(context).ok_or(NnError::Context(context))?.compute()?)
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
    work: impl FnOnce(&mut GuestMemory<'_>, &mut HostState) -> Result<(), NnError>,
) -> i32 {
    native(caller, |caller| {
        let state = caller.data_mut();
        let granted = state.grants.infer && (function != "load" || state.grants.infer_load);
        if state.allow(granted, function).is_err() {
            return UNSUPPORTED_OPERATION;
        }
        let done = match GuestMemory::split(caller) {
            Ok((mut memory, state)) => work(&mut memory, state),
            Err(_) => Err(NnError::Memory),
        };
        match done {
            Ok(()) => SUCCESS,
            Err(error) => {
                if error.is_worth_a_line() {
                    explain(caller.data_mut(), function, &error);
                }
                error.errno()
            }
        }
    })
}

/// Says in the module's log why a call failed: once, and held to the rate of its lines.
pub(super) fn explain(state: &mut HostState, function: &str, error: &dyn std::fmt::Display) {
    let sentence = format!("{function}: {error}");
    if state.nn.is_new(&sentence) && output::write_line(state, WARN, sentence.as_bytes()) {
        state.nn.remember(sentence);
    }
}

fn load(
    memory: &mut GuestMemory<'_>,
    state: &mut HostState,
    (parts, count): (i32, i32),
    (encoding, target): (i32, i32),
    out: i32,
) -> Result<(), NnError> {
    if !matches!(encoding, ONNX | AUTODETECT) {
        return Err(NnError::Encoding(encoding));
    }
    match target {
        CPU | AUTO => {}
        GPU | TPU => return Err(NnError::Target(target)),
        _ => return Err(NnError::NoTarget(target)),
    }
    if count != 1 {
        return Err(NnError::Parts(count.cast_unsigned()));
    }
    // Before there is a graph that the guest would never hear of.
    memory.read_array::<4>(out)?;
    let [ptr, len] = memory.read_array::<8>(parts)?.as_chunks::<4>().0 else { return Err(NnError::Pointer) };
    let onnx = memory.read(i32::from_le_bytes(*ptr), i32::from_le_bytes(*len))?;
    let graph = state.nn.load(onnx)?;
    Ok(memory.write(out, &graph.to_le_bytes())?)
}

fn set_input(memory: &GuestMemory<'_>, nn: &mut NnState, handle: i32, index: i32, tensor: i32) -> Result<(), NnError> {
    let mut record = memory.read_array::<20>(tensor)?.as_chunks::<4>().0.iter().copied().map(i32::from_le_bytes);
    let mut next = || record.next().unwrap_or_default();
    let (dims_ptr, rank, code, data_ptr, data_len) = (next(), next(), next().to_le_bytes()[0], next(), next());
    let mut room = [0; MAX_RANK];
    let many = || NnError::Rank(rank.cast_unsigned());
    let dims = usize::try_from(rank).ok().and_then(|rank| room.get_mut(..rank)).ok_or_else(many)?;
    // At most 32, since the rank is at most 8.
    let list = memory.read(dims_ptr, rank * 4)?;
    for (dim, bytes) in dims.iter_mut().zip(list.as_chunks::<4>().0) {
        *dim = u32::from_le_bytes(*bytes) as usize;
    }
    let data = memory.read(data_ptr, data_len)?;
    let elements = dims.iter().try_fold(1_usize, |product, dim| product.checked_mul(*dim));
    let elements = elements.ok_or_else(|| NnError::Elements(dims.to_vec()))?;
    let place = usize::try_from(index).unwrap_or(usize::MAX);
    let wrong = || NnError::Data { len: data.len(), code, dims: dims.to_vec() };
    let wanted = nn.context(handle).ok_or(NnError::Context(handle))?.wanted(place);
    let element = element(code, data.len(), elements, wanted).ok_or_else(wrong)?;
    if !nn.has_room(handle, place, data.len()) {
        return Err(NnError::Room { bytes: data.len(), limit: nn.limit });
    }
    let input = nn.context(handle).ok_or(NnError::Context(handle))?.input(place, element, dims)?;
    if input.len() != data.len() {
        return Err(wrong());
    }
    input.copy_from_slice(data);
    Ok(())
}

/// The type behind a code: the one of the two enumerations whose elements fill the data. Where both do, what the input is wanted to be
/// decides, and then the newer one.
fn element(code: u8, len: usize, elements: usize, wanted: Option<TensorType>) -> Option<TensorType> {
    let older = match code {
        2 => Some(TensorType::U8),
        3 => Some(TensorType::I32),
        _ => None,
    };
    let fills = |element: &TensorType| elements.checked_mul(element.size()) == Some(len);
    let meant = [TensorType::from_u8(code), older].map(|element| element.filter(fills));
    meant.into_iter().flatten().find(|element| Some(*element) == wanted).or_else(|| meant.into_iter().flatten().next())
}

fn get_output(
    memory: &mut GuestMemory<'_>,
    nn: &mut NnState,
    (handle, index): (i32, i32),
    (buffer, room): (i32, i32),
    written: i32,
) -> Result<(), NnError> {
    let context = nn.context(handle).ok_or(NnError::Context(handle))?;
    let bytes = context.output(usize::try_from(index).unwrap_or(usize::MAX))?.bytes;
    let len = u32::try_from(bytes.len()).map_err(|_| NnError::Buffer)?;
    memory.write(written, &len.to_le_bytes())?;
    if len > room.cast_unsigned() {
        return Err(NnError::Buffer);
    }
    Ok(memory.write(buffer, bytes)?)
}

fn output_info(caller: &mut Caller<'_, HostState>, context: i32, index: i32, out: i32) -> Result<i32, Errno> {
    let state = caller.data_mut();
    state.allow(state.grants.infer, "nn_output_info")?;
    let (mut memory, state) = GuestMemory::split(caller)?;
    let known = match state.nn.context(context) {
        Some(context) => context.output_info(usize::try_from(index).unwrap_or(usize::MAX)).map_err(NnError::Infer),
        None => Err(NnError::Context(context)),
    };
    let info = known.map_err(|error| {
        explain(state, "nn_output_info", &error);
        if matches!(error, NnError::Infer(InferError::NotComputed)) { Errno::NODATA } else { Errno::NOENT }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
