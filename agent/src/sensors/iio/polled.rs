//! Samples from a device's files, one after the other, for devices without a buffer.

use std::{path::PathBuf, time::Duration};

use tokio::time::MissedTickBehavior;

use super::{IioError, IioSettings, header, layout::Output, tree::Device};
use crate::{
    backoff::Backoff,
    frames::Block,
    sensors::{Outlet, sysfs},
};

/// Faster than this, a buffer is needed.
const FASTEST: f64 = 1000.0;

/// A channel that is polled.
struct Polled {
    path: PathBuf,
    scale: f64,
    offset: f64,
}

pub(super) async fn run(
    device: &Device,
    settings: &IioSettings,
    largest: usize,
    outlet: &Outlet,
    backoff: &mut Backoff,
) -> Result<(), IioError> {
    let pace = settings.rate_hz.filter(|hz| *hz <= FASTEST);
    let pace = pace.ok_or_else(|| IioError::NoPace { device: device.name.clone() })?;
    let mut channels = Vec::new();
    for name in device.readable(&settings.channels)? {
        let (path, is_raw) = device.value_file(&name);
        // What the kernel has worked out already needs no scale.
        let (scale, offset) = if is_raw && !settings.raw { device.scaling(&name) } else { (1.0, 0.0) };
        channels.push(Polled { path, scale, offset });
    }
    let output = if settings.raw { Output::I32 } else { Output::F32 };
    let header = header(settings.window, channels.len(), output, Some(pace));
    let row = channels.len() * output.bytes();
    let length = row.saturating_mul(settings.window as usize);
    if length > largest {
        let why = format!("a window of {length} bytes, where {largest} are allowed; lower `window`");
        let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, why);
        return Err(IioError::File { path: device.node().to_owned(), source });
    }
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / pace.max(0.001)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut block, mut filled) = (None::<Block>, 0);
    let mut values = Vec::with_capacity(channels.len());
    while outlet.wanted() {
        ticks.tick().await;
        let read = tokio::task::spawn_blocking(move || poll(channels, values)).await;
        let failure;
        (channels, values, failure) = read.map_err(|_| IioError::Gone)?;
        failure.map_or(Ok(()), Err)?;
        if block.is_none() {
            block = outlet.pool().take(length);
        }
        let Some(filling) = &mut block else { continue };
        let room = filling.bytes_mut().and_then(|bytes| bytes.get_mut(filled..filled + row));
        for (place, value) in room.unwrap_or_default().as_chunks_mut().0.iter_mut().zip(&values) {
            *place = if settings.raw { (*value as i32).to_le_bytes() } else { (*value as f32).to_le_bytes() };
        }
        filled += row;
        if filled >= length {
            outlet.give(header, filling, 0, length);
            outlet.flush();
            outlet.well();
            backoff.reset();
            (block, filled) = (None, 0);
        }
    }
    Ok(())
}

type Read = (Vec<Polled>, Vec<f64>, Option<IioError>);

/// Reads each channel once, into the memory of the last time.
fn poll(channels: Vec<Polled>, mut values: Vec<f64>) -> Read {
    values.clear();
    let mut failure = None;
    for channel in &channels {
        match sysfs::number(&channel.path) {
            Ok(value) => values.push((value + channel.offset) * channel.scale),
            Err(source) => failure = Some(IioError::File { path: channel.path.clone(), source }),
        }
    }
    (channels, values, failure)
}
