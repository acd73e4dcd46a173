//! The kernel's side: finding lines, taking them, reading their edges.

use std::{io, path::PathBuf};

use gpiocdev::{
    Chip, Request,
    line::{Bias, EdgeDetection, EdgeKind, EventClock},
};

use super::{Edge, Edges, GpioBias, GpioEdges, GpioError, GpioLine, GpioSettings, KERNEL_BUFFER};
use crate::sensors::ready::Ready;

/// A line event of the kernel, in words of 64 bits.
const EVENT_WORDS: usize = 6;

/// A chip and the names of its lines.
#[derive(Clone, Debug)]
pub(super) struct ChipLines {
    pub(super) path: PathBuf,
    pub(super) names: Vec<String>,
}

/// Lines that are there, by number, with their names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) chip: PathBuf,
    pub(super) lines: Vec<(u32, String)>,
}

/// Looks for the lines on the chips of this machine.
pub(super) fn find(settings: &GpioSettings) -> Result<Found, GpioError> {
    let chips = match &settings.chip {
        Some(chip) => vec![PathBuf::from("/dev").join(chip)],
        None => gpiocdev::chip::chips().map_err(GpioError::Chipless)?,
    };
    let mut listed = Vec::with_capacity(chips.len());
    for path in chips {
        let names = || Chip::from_path(&path)?.line_info_iter()?.map(|info| info.map(|info| info.name)).collect();
        let names: gpiocdev::Result<Vec<String>> = names();
        let names = names.map_err(|source| GpioError::Chip { chip: path.clone(), source })?;
        listed.push(ChipLines { path, names });
    }
    resolve(&settings.lines, &listed, settings.chip.as_deref())
}

/// Finds lines on chips; with `chip` there is only that one.
pub(super) fn resolve(wanted: &[GpioLine], chips: &[ChipLines], chip: Option<&str>) -> Result<Found, GpioError> {
    let mut found: Option<(Found, String)> = None;
    for line in wanted {
        let (path, offset, name) = match line {
            GpioLine::Offset(offset) => {
                let on = chips.first().filter(|_| chip.is_some()).ok_or(GpioError::NoChip(*offset))?;
                let name = usize::try_from(*offset).ok().and_then(|offset| on.names.get(offset));
                let place = || format!(" on {}, which has {} lines", on.path.display(), on.names.len());
                let absent = || GpioError::NoLine { wanted: offset.to_string(), place: place() };
                (&on.path, *offset, name.ok_or_else(absent)?.clone())
            }
            GpioLine::Name(name) => {
                let on = |chip: &ChipLines| chip.names.iter().position(|known| known == name);
                let place = chips.iter().find_map(|chip| Some((&chip.path, on(chip)?)));
                let place = place.and_then(|(path, offset)| Some((path, u32::try_from(offset).ok()?)));
                let on = chip.map_or(String::new(), |chip| format!(" on {chip}"));
                let (path, offset) = place.ok_or(GpioError::NoLine { wanted: name.clone(), place: on })?;
                (path, offset, name.clone())
            }
        };
        match &mut found {
            None => {
                found = Some((Found { chip: path.clone(), lines: vec![(offset, name.clone())] }, name));
            }
            Some((found, first)) if found.chip != *path => return Err(GpioError::Chips(first.clone(), name)),
            Some((found, _)) => found.lines.push((offset, name)),
        }
    }
    found.map(|(found, _)| found).ok_or(GpioError::NoLine { wanted: String::new(), place: String::new() })
}

/// Takes the lines.
pub(super) fn request(settings: &GpioSettings, found: &Found) -> Result<Request, GpioError> {
    let offsets: Vec<u32> = found.lines.iter().map(|(offset, _)| *offset).collect();
    let mut builder = Request::builder();
    builder
        .on_chip(&found.chip)
        .with_consumer("sanderling")
        .with_kernel_event_buffer_size(KERNEL_BUFFER)
        .with_lines(&offsets)
        .as_input()
        .with_edge_detection(match settings.edges {
            GpioEdges::Rising => EdgeDetection::RisingEdge,
            GpioEdges::Falling => EdgeDetection::FallingEdge,
            GpioEdges::Both => EdgeDetection::BothEdges,
        })
        .with_event_clock(EventClock::Monotonic);
    match settings.bias {
        GpioBias::AsIs => {}
        GpioBias::Disabled => drop(builder.with_bias(Bias::Disabled)),
        GpioBias::PullUp => drop(builder.with_bias(Bias::PullUp)),
        GpioBias::PullDown => drop(builder.with_bias(Bias::PullDown)),
    }
    if settings.active_low {
        builder.as_active_low();
    }
    if let Some(period) = settings.debounce {
        builder.with_debounce_period(period);
    }
    builder.request().map_err(|source| GpioError::Chip { chip: found.chip.clone(), source })
}

/// Lines that were taken.
pub(super) struct Lines<'a> {
    request: &'a Request,
    ready: Ready<'a>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(request: &'a Request) -> io::Result<Self> {
        Ok(Self { request, ready: Ready::new(request)? })
    }
}

impl Edges for Lines<'_> {
    async fn ready(&self) -> io::Result<()> {
        loop {
            let mut guard = self.ready.readable().await?;
            if self.request.has_edge_event().map_err(io::Error::other)? {
                return Ok(());
            }
            guard.clear_ready();
        }
    }

    fn next(&mut self) -> io::Result<Option<Edge>> {
        if !self.request.has_edge_event().map_err(io::Error::other)? {
            return Ok(None);
        }
        let mut words = [0; EVENT_WORDS];
        let read = self.request.read_edge_events_into_slice(&mut words).map_err(io::Error::other)?;
        edge(self.request.edge_event_from_slice(words.get(..read).unwrap_or_default())).map(Some)
    }
}

/// An edge of an event that was read.
pub(super) fn edge(event: gpiocdev::Result<gpiocdev::line::EdgeEvent>) -> io::Result<Edge> {
    let event = event.map_err(io::Error::other)?;
    let rising = event.kind == EdgeKind::Rising;
    Ok(Edge { offset: event.offset, rising, mono_ns: event.timestamp_ns, seq: event.seqno })
}
