//! `emit_evidence`: a part of the current image as a JPEG record.
//!
//! A record like any other: its channel is granted (`emit:<channel>`) beside `evidence`, it counts to the rate, and it is at most
//! [`MAX_RECORD`] long. The answer is the quality that was used. Negated: `EACCES` without one of the grants, `EAGAIN` above the rate, `EINVAL` for
//! a quality outside of 1 to 100 or a rectangle that does not fit the frame, `ENODATA` without a frame that is an image, `E2BIG` where it
//! does not fit a record at a quarter of the quality either, `ENOSPC` where the pixels do not fit `native_memory_mib`. The sentence
//! behind it goes to the module's log.

use sanderling_guest::{IMPORTS, image::RECT};
use sanderling_protocol::worker::MAX_RECORD;
use wasmi::{Caller, errors::LinkerError};

use super::{
    Errno, HostState, Linker, answer, native,
    nn::explain,
    output::{count_to_rate, granted, say},
};
use crate::{GuestMemory, image::ImageError};

pub(super) fn register(linker: &mut Linker<'_>) -> Result<(), LinkerError> {
    linker.func_wrap(
        IMPORTS,
        "emit_evidence",
        |mut caller: Caller<'_, HostState>, channel: i32, channel_len: i32, rect: i32, quality: i32| -> i32 {
            answer(native(&mut caller, |caller| emit_evidence(caller, (channel, channel_len), rect, quality)))
        },
    )?;
    Ok(())
}

fn emit_evidence(
    caller: &mut Caller<'_, HostState>,
    channel: (i32, i32),
    rect: i32,
    quality: i32,
) -> Result<i32, Errno> {
    let (memory, state) = GuestMemory::split(caller)?;
    let name = memory.read(channel.0, channel.1)?;
    let words = memory.read_array::<RECT>(rect)?.as_chunks::<4>().0;
    let channel = granted(state, name, state.grants.evidence, "emit_evidence")?;
    let quality = u8::try_from(quality).ok().filter(|quality| (1..=100).contains(quality)).ok_or(Errno::INVAL)?;
    let mut crop = [0; 4];
    for (to, word) in crop.iter_mut().zip(words) {
        *to = u32::from_le_bytes(*word);
    }
    if state.frame.is_some() {
        count_to_rate(state)?;
    }
    let frame = state.frame.as_ref().ok_or(Errno::NODATA)?;
    let encoded = state.nn.preparer.evidence(&frame.header, &frame.bytes, crop, quality, MAX_RECORD);
    let (jpeg, used) = match encoded {
        Ok(encoded) => encoded,
        Err(error) => {
            explain(state, "emit_evidence", &error);
            return Err(errno(&error));
        }
    };
    say(state, channel, &jpeg)?;
    Ok(i32::from(used))
}

fn errno(error: &ImageError) -> Errno {
    match error {
        ImageError::NotPixels | ImageError::Short { .. } | ImageError::Decode(_) => Errno::NODATA,
        ImageError::TooLarge { .. } | ImageError::Length { .. } => Errno::NOSPC,
        ImageError::Record { .. } => Errno::TOO_BIG,
        ImageError::Crop { .. } => Errno::INVAL,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
