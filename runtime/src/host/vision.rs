//! `image_tensor` and `nn_input_image`: the current frame as a tensor, in guest memory or in an inference input.
//!
//! Both read an operation of 64 bytes and answer 0, or negated: `EINVAL` for an operation that is not valid or does not
//! fit the frame or the input, `EFAULT` outside of memory, `ENODATA` without a frame of raw pixels, `ENOSPC` where the
//! tensor does not fit its place or the buffers do not fit `native_memory_mib`, `ENOENT` for an unknown context or
//! input, `EACCES` without the grant `infer`. The sentence behind it goes to the module's log.

use sanderling_guest::{
    IMPORTS,
    image::{Element, ImageOp, Layout, OP},
    tensor::TensorType,
};
use wasmi::{Caller, errors::LinkerError};

use super::{
    Errno, HostState, Linker, answer, native,
    nn::{NnError, explain},
};
use crate::{GuestMemory, image::ImageError, infer::InferError};

/// Links the functions.
///
/// # Errors
/// Where a name is linked twice.
pub fn register(linker: &mut Linker<'_>) -> Result<(), LinkerError> {
    linker.func_wrap(
        IMPORTS,
        "image_tensor",
        |mut caller: Caller<'_, HostState>, op: i32, ptr: i32, len: i32| -> i32 {
            answer(native(&mut caller, |caller| image_tensor(caller, op, ptr, len)))
        },
    )?;
    linker.func_wrap(
        IMPORTS,
        "nn_input_image",
        |mut caller: Caller<'_, HostState>, context: i32, index: i32, op: i32| -> i32 {
            answer(native(&mut caller, |caller| nn_input_image(caller, context, index, op)))
        },
    )?;
    Ok(())
}

fn image_tensor(caller: &mut Caller<'_, HostState>, op: i32, ptr: i32, len: i32) -> Result<i32, Errno> {
    let (mut memory, state) = GuestMemory::split(caller)?;
    let op = operation(&memory, op)?;
    let tensor = i32::try_from(op.tensor_len()).map_err(|_| Errno::NOSPC)?;
    if tensor.cast_unsigned() > len.cast_unsigned() {
        return Err(Errno::NOSPC);
    }
    let out = memory.slice_mut(ptr, tensor)?;
    let frame = state.frame.as_ref().ok_or(Errno::NODATA)?;
    let prepared = state.nn.preparer.prepare(&frame.header, &frame.bytes, &op, out);
    prepared.map_err(|error| refused(state, "image_tensor", &error))?;
    Ok(0)
}

fn nn_input_image(caller: &mut Caller<'_, HostState>, context: i32, index: i32, op: i32) -> Result<i32, Errno> {
    let state = caller.data_mut();
    state.allow(state.grants.infer, "nn_input_image")?;
    let (memory, state) = GuestMemory::split(caller)?;
    let op = operation(&memory, op)?;
    let index = usize::try_from(index).map_err(|_| Errno::NOENT)?;
    let frame = state.frame.as_ref().ok_or(Errno::NODATA)?;
    if !state.nn.has_room(context, index, op.tensor_len()) {
        let error = NnError::Room { bytes: op.tensor_len(), limit: state.nn.limit() };
        explain(state, "nn_input_image", &error);
        return Err(Errno::NOSPC);
    }
    let (width, height, channels) = (op.width as usize, op.height as usize, op.channels());
    let dims = match op.layout {
        Layout::Nchw => [1, channels, height, width],
        Layout::Nhwc => [1, height, width, channels],
    };
    let element = match op.element {
        Element::F32 => TensorType::F32,
        Element::F16 => TensorType::F16,
        // An input of type i8 is carried as u8.
        Element::U8 | Element::I8 => TensorType::U8,
    };
    let Some((context, preparer)) = state.nn.context_and_preparer(context) else {
        explain(state, "nn_input_image", &NnError::Context(context));
        return Err(Errno::NOENT);
    };
    let prepared = match context.input(index, element, &dims) {
        Ok(input) => preparer.prepare(&frame.header, &frame.bytes, &op, input).map_err(Refused::Image),
        Err(error) => Err(Refused::Infer(error)),
    };
    match prepared {
        Ok(()) => Ok(0),
        Err(Refused::Image(error)) => Err(refused(state, "nn_input_image", &error)),
        Err(Refused::Infer(error)) => {
            explain(state, "nn_input_image", &error);
            Err(match error {
                InferError::NoPort { .. } => Errno::NOENT,
                InferError::TooLarge { .. } => Errno::NOSPC,
                _ => Errno::INVAL,
            })
        }
    }
}

enum Refused {
    Image(ImageError),
    Infer(InferError),
}

fn operation(memory: &GuestMemory<'_>, op: i32) -> Result<ImageOp, Errno> {
    ImageOp::from_bytes(memory.read_array::<OP>(op)?).ok_or(Errno::INVAL)
}

fn refused(state: &mut HostState, function: &str, error: &ImageError) -> Errno {
    explain(state, function, error);
    match error {
        ImageError::NotPixels | ImageError::Short { .. } | ImageError::Decode(_) => Errno::NODATA,
        ImageError::TooLarge { .. } | ImageError::Length { .. } | ImageError::Record { .. } => Errno::NOSPC,
        ImageError::Crop { .. } => Errno::INVAL,
    }
}

#[cfg(test)]
mod tests;
