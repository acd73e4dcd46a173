//! A sensor of edges on GPIO lines, through the kernel's character device (uAPI v2, Linux 5.10 and later).
//!
//! Each edge is a frame of JSON, `{"line":"gate","offset":17,"edge":"rising","seq":5}`, whose time of capture is that of the
//! kernel's interrupt. `seq` counts the edges of all lines of this sensor, from 1 on since they were taken up.
//!
//! Failure modes: lines that are not there or that someone else has, and a chip that goes, are reported, and tried again with
//! growing pauses. Edges that come faster than they are read are dropped by the kernel, counted by gaps of `seq`, and reported.
//!
//! Invariants: the lines are held whether someone wants the frames or not, since other programs would else take them; edges that nobody
//! wants are read and dropped, so that none is delivered late.
//!
//! Limits: the lines of one sensor are on one chip; the kernel buffers [`KERNEL_BUFFER`] edges.

mod lines;

use std::{io, path::PathBuf, pin::Pin, time::Duration};

use sanderling_guest::frame::{FrameHeader, Kind};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use self::lines::Lines;
use super::{Outlet, Sensor};
use crate::backoff::Backoff;

/// Edges that the kernel keeps until they are read.
const KERNEL_BUFFER: u32 = 256;
/// Edges that are read before others have their turn.
const TURN: usize = 32;
/// A frame is at most this long: a name of 64 bytes may take six each in JSON.
const LARGEST: usize = 512;

/// A sensor of edges on GPIO lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpioSettings {
    /// The chip, `gpiochip0` or a path in `/dev`; none: the chip that has the named lines.
    pub chip: Option<String>,
    /// The lines.
    pub lines: Vec<GpioLine>,
    /// Which edges are given.
    pub edges: GpioEdges,
    /// What pulls a line that nothing drives.
    pub bias: GpioBias,
    /// Whether a low level is the active one, so that a falling edge counts as a rising one.
    pub active_low: bool,
    /// How long a line must hold still before its edge counts.
    pub debounce: Option<Duration>,
}

/// A line, by what it is found.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum GpioLine {
    /// By its number on the chip.
    Offset(u32),
    /// By the name that the board gives it.
    Name(String),
}

/// Which edges are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GpioEdges {
    /// From inactive to active.
    Rising,
    /// From active to inactive.
    Falling,
    /// Both.
    #[default]
    Both,
}

/// What pulls a line that nothing drives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GpioBias {
    /// Whatever was set before.
    #[default]
    AsIs,
    /// Nothing.
    Disabled,
    /// A resistor to the supply.
    PullUp,
    /// A resistor to ground.
    PullDown,
}

/// Why there are no edges.
#[derive(Debug, Error)]
enum GpioError {
    #[error("no GPIO line is called {wanted:?}{place}; `gpioinfo` lists them")]
    NoLine { wanted: String, place: String },
    #[error("the lines {0} and {1} are on different chips; make a sensor for each chip")]
    Chips(String, String),
    #[error("set `chip`: line {0} is given by its number alone")]
    NoChip(u32),
    #[error("{chip}: {source}; `gpioinfo` says who has a line", chip = chip.display())]
    Chip { chip: PathBuf, source: gpiocdev::Error },
    #[error("the GPIO chips cannot be listed: {0}")]
    Chipless(gpiocdev::Error),
    #[error("the GPIO chip is gone: {0}")]
    Gone(io::Error),
}

/// An edge, as the kernel tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Edge {
    offset: u32,
    rising: bool,
    mono_ns: u64,
    seq: u32,
}

/// The port to the kernel: lines that were taken.
trait Edges {
    /// Waits until there are edges to read.
    async fn ready(&self) -> io::Result<()>;

    /// Reads one edge, where there is one.
    fn next(&mut self) -> io::Result<Option<Edge>>;
}

/// The sensor.
pub struct Gpio {
    settings: GpioSettings,
}

impl Gpio {
    /// A sensor of checked settings.
    pub fn new(settings: GpioSettings) -> Self {
        Self { settings }
    }

    /// Looks whether the lines are there; takes none.
    ///
    /// # Errors
    /// What is missing.
    pub fn probe(settings: &GpioSettings) -> Result<String, String> {
        let found = lines::find(settings).map_err(|error| error.to_string())?;
        Ok(format!("{} with {} lines", found.chip.display(), found.lines.len()))
    }
}

impl Sensor for Gpio {
    fn largest_frame(&self) -> usize {
        LARGEST
    }

    fn run(self: Box<Self>, outlet: Outlet) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move {
            let mut backoff = Backoff::default();
            loop {
                if let Err(error) = once(&self.settings, &outlet, &mut backoff).await {
                    outlet.failed(error.to_string());
                }
                backoff.wait().await;
            }
        })
    }
}

/// Takes the lines and gives their edges until they are gone.
async fn once(settings: &GpioSettings, outlet: &Outlet, backoff: &mut Backoff) -> Result<(), GpioError> {
    let found = lines::find(settings)?;
    let request = lines::request(settings, &found)?;
    let lines = Lines::new(&request).map_err(GpioError::Gone)?;
    // Edges may be rare: to hold the lines is what can be called well.
    outlet.well();
    Err(GpioError::Gone(pump(lines, &found.lines, outlet, backoff).await))
}

/// Gives edges until they end.
async fn pump(mut edges: impl Edges, names: &[(u32, String)], outlet: &Outlet, backoff: &mut Backoff) -> io::Error {
    let mut last = 0_u32;
    loop {
        if let Err(error) = edges.ready().await {
            return error;
        }
        for _ in 0..TURN {
            match edges.next() {
                Ok(Some(edge)) => {
                    let lost = edge.seq.wrapping_sub(last).saturating_sub(1);
                    if lost > 0 {
                        outlet.refused(format!("{lost} edges came faster than they were read; set `debounce_ms`"));
                    }
                    last = edge.seq;
                    give(edge, names, outlet);
                    backoff.reset();
                }
                Ok(None) => break,
                Err(error) => return error,
            }
        }
        outlet.flush();
        tokio::task::yield_now().await;
    }
}

#[derive(Serialize)]
struct Record<'a> {
    line: &'a str,
    offset: u32,
    edge: &'static str,
    seq: u32,
}

fn give(edge: Edge, names: &[(u32, String)], outlet: &Outlet) {
    let line = names.iter().find(|(offset, _)| *offset == edge.offset).map_or("", |(_, name)| name);
    let record =
        Record { line, offset: edge.offset, edge: if edge.rising { "rising" } else { "falling" }, seq: edge.seq };
    let mut text = [0; LARGEST];
    let mut rest = text.as_mut_slice();
    if serde_json::to_writer(&mut rest, &record).is_err() {
        return outlet.refused(format!("the name of line {} is too long for a frame", edge.offset));
    }
    let length = LARGEST - rest.len();
    let header = FrameHeader { kind: Kind::Json, captured_mono_ns: edge.mono_ns, ..FrameHeader::new("", 0) };
    outlet.write(header, length, |room| room.copy_from_slice(text.get(..length).unwrap_or_default()));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
