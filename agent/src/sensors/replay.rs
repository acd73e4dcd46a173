//! A sensor that replays files: images as they are, raw bytes, JSON, and CSV files cut into windows of a series.
//!
//! Files come in the order of the settings, those of a folder in the order of their names. Hidden files and subfolders are left
//! out; of a folder that has images, only the images are taken, so that labels and notes may lie beside them.
//! Nothing is read while no module wants the frames.
//!
//! Failure modes: a file that cannot be read or is no frame is reported and skipped; when a whole pass gives no frame, the
//! next is tried after a growing pause.
//!
//! Limits: a file is at most [`LARGEST`] bytes long. Sets of up to [`CACHE`] bytes are read once; others from disk for each pass,
//! outside of the thread that feeds modules.

use std::{
    fs, io,
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

use sanderling_guest::frame::{Format, FrameHeader, Kind};
use sanderling_protocol::series::{self, SeriesError};
use thiserror::Error;
use tokio::time::MissedTickBehavior;

use super::{Outlet, ReplaySettings, Sensor};
use crate::{
    backoff::Backoff,
    frames::{Block, LARGEST},
};

/// Sets of files that take up to so many bytes of memory are kept there.
const CACHE: usize = 256 << 10;
/// A pass goes over at most this many files.
const MOST_FILES: usize = 100_000;
const HEAD: usize = 4096;
/// The shortest time between two turns; faster rates give several frames a turn.
const TURN: Duration = Duration::from_millis(1);

/// Why a file gives no frames.
#[derive(Debug, Error)]
enum ReplayError {
    #[error("{path}: {source}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is {length} bytes long; frames of this sensor are at most {most}, see `max_frame`", path = path.display())]
    Long { path: PathBuf, length: usize, most: usize },
    #[error("{path} is {length} bytes long; images as `raw` describes them take {frame}", path = path.display())]
    Raw { path: PathBuf, length: usize, frame: usize },
    #[error("{path}: {source}", path = path.display())]
    Series { path: PathBuf, source: SeriesError },
    #[error("{path}: {rows} rows do not fill one window of {window}; lower `csv.window`", path = path.display())]
    Short { path: PathBuf, rows: usize, window: u32 },
    #[error("{path} is empty", path = path.display())]
    Empty { path: PathBuf },
}

/// The sensor.
pub struct Replay {
    settings: ReplaySettings,
    largest: usize,
    sample: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FileKind {
    Png,
    Jpeg,
    Csv,
    Json,
    Raw,
}

/// A file's content in memory: one frame after the other.
struct Content {
    bytes: Vec<u8>,
    header: FrameHeader,
    frame: usize,
}

struct Loaded {
    block: Block,
    header: FrameHeader,
    frame: usize,
    frames: usize,
}

impl Replay {
    /// A sensor of checked settings. Looks at the files to learn the size of the largest frame.
    pub fn new(settings: ReplaySettings) -> Self {
        let files = files(&settings.files).0;
        let sizes = files.iter().filter_map(|path| size(path, &settings));
        let largest = sizes.max().map_or(settings.max_frame, |largest| largest.next_power_of_two());
        let largest = largest.min(settings.max_frame);
        let series = files.iter().all(|path| kind(path) == FileKind::Csv);
        let sample = if series { largest.div_ceil(settings.csv.window as usize) } else { largest };
        Self { settings, largest, sample }
    }

    /// Looks how many files are there; reads none.
    ///
    /// # Errors
    /// There are none, or one that is named is not there.
    pub fn probe(settings: &ReplaySettings) -> Result<String, String> {
        let (found, errors) = files(&settings.files);
        match (errors.into_iter().next(), found.len()) {
            (Some(error), _) => Err(error.to_string()),
            (None, 0) => Err("no file to replay".to_owned()),
            (None, count) => Ok(format!("{count} files")),
        }
    }
}

impl Sensor for Replay {
    fn largest_frame(&self) -> usize {
        self.largest
    }

    fn largest_sample(&self) -> usize {
        self.sample
    }

    fn run(self: Box<Self>, outlet: Outlet) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move { Run::new(self.settings, outlet).run().await })
    }
}

struct Run {
    settings: ReplaySettings,
    outlet: Outlet,
    cache: Vec<(PathBuf, Loaded)>,
    cached: usize,
    ticks: tokio::time::Interval,
    per_tick: f64,
    // Frames that may be given before the next tick.
    credit: f64,
    buffer: Vec<u8>,
}

impl Run {
    fn new(settings: ReplaySettings, outlet: Outlet) -> Self {
        let period = Duration::from_secs_f64(1.0 / settings.rate.clamp(0.001, 1e5)).max(TURN);
        let per_tick = period.as_secs_f64() * settings.rate;
        let mut ticks = tokio::time::interval(period);
        // At high rates, what a busy moment held up is made up for; at low ones, frames keep their distance.
        let bursts = period == TURN;
        ticks.set_missed_tick_behavior(if bursts { MissedTickBehavior::Burst } else { MissedTickBehavior::Delay });
        Self { settings, outlet, cache: Vec::new(), cached: 0, ticks, per_tick, credit: 0.0, buffer: Vec::new() }
    }

    async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            if self.pass().await {
                self.outlet.well();
                backoff.reset();
                if !self.settings.repeat {
                    return;
                }
            } else {
                self.outlet.failed("no file gives a frame; put files there, or correct `files`".into());
                backoff.wait().await;
            }
        }
    }

    /// Goes over all files once. `false` where none gave a frame.
    async fn pass(&mut self) -> bool {
        if !self.cache.is_empty() && self.is_whole() {
            for index in 0..self.cache.len() {
                let Some((_, loaded)) = self.cache.get(index) else { break };
                let (block, header, frame, frames) = (loaded.block.clone(), loaded.header, loaded.frame, loaded.frames);
                self.give(&Loaded { block, header, frame, frames }).await;
            }
            return true;
        }
        let (paths, errors) = files(&self.settings.files);
        errors.into_iter().for_each(|error| self.outlet.refused(error.to_string()));
        self.cache.clear();
        self.cached = 0;
        let mut given = false;
        for path in paths {
            match self.load(&path).await {
                Ok(loaded) => {
                    given = true;
                    self.give(&loaded).await;
                    self.cached = self.cached.saturating_add(loaded.block.bytes().len());
                    if self.is_whole() {
                        self.cache.push((path, loaded));
                    } else {
                        self.cache.clear();
                    }
                }
                Err(error) => self.outlet.refused(error.to_string()),
            }
        }
        given
    }

    /// Whether the cache holds all that was loaded in this pass.
    fn is_whole(&self) -> bool {
        self.cached <= CACHE
    }

    async fn load(&mut self, path: &Path) -> Result<Loaded, ReplayError> {
        let (settings, owned, buffer) = (self.settings.clone(), path.to_owned(), std::mem::take(&mut self.buffer));
        let read = tokio::task::spawn_blocking(move || read(&owned, &settings, buffer)).await;
        let content = read
            .map_err(|error| io::Error::other(error.to_string()))
            .unwrap_or_else(|error| Err(ReplayError::Read { path: path.to_owned(), source: error }))?;
        let length = content.bytes.len();
        let long = || ReplayError::Long { path: path.to_owned(), length, most: LARGEST };
        let mut block = self.outlet.pool().take(length).ok_or_else(long)?;
        if let Some(room) = block.bytes_mut().and_then(|bytes| bytes.get_mut(..length)) {
            room.copy_from_slice(&content.bytes);
        }
        self.buffer = content.bytes;
        let frames = length / content.frame.max(1);
        Ok(Loaded { block, header: content.header, frame: content.frame, frames })
    }

    async fn give(&mut self, loaded: &Loaded) {
        for index in 0..loaded.frames {
            while self.credit < 1.0 {
                self.outlet.flush();
                if !self.outlet.wanted() {
                    self.outlet.until_wanted().await;
                    self.ticks.reset();
                }
                self.ticks.tick().await;
                self.credit += self.per_tick;
            }
            self.credit -= 1.0;
            self.outlet.give(loaded.header, &loaded.block, index * loaded.frame, loaded.frame);
        }
        if self.credit < 1.0 {
            self.outlet.flush();
        }
    }
}

/// All files of a list of files and folders, in order.
fn files(list: &[PathBuf]) -> (Vec<PathBuf>, Vec<ReplayError>) {
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for path in list {
        let listed = match fs::metadata(path) {
            Ok(about) if about.is_dir() => folder(path),
            Ok(_) => Ok(vec![path.clone()]),
            Err(error) => Err(error),
        };
        match listed {
            Ok(files) => found.extend(files),
            Err(source) => errors.push(ReplayError::Read { path: path.clone(), source }),
        }
    }
    (found, errors)
}

fn folder(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path)?.take(MOST_FILES) {
        let entry = entry?;
        let hidden = entry.file_name().as_encoded_bytes().first() == Some(&b'.');
        if !hidden && fs::metadata(entry.path()).is_ok_and(|about| about.is_file()) {
            files.push(entry.path());
        }
    }
    let is_image = |path: &PathBuf| matches!(kind(path), FileKind::Png | FileKind::Jpeg);
    if files.iter().any(is_image) {
        files.retain(is_image);
    }
    files.sort_unstable();
    Ok(files)
}

fn kind(path: &Path) -> FileKind {
    let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
    match extension.as_deref().and_then(|extension| extension.to_str()) {
        Some("png") => FileKind::Png,
        Some("jpg" | "jpeg") => FileKind::Jpeg,
        Some("csv") => FileKind::Csv,
        Some("json") => FileKind::Json,
        _ => FileKind::Raw,
    }
}

/// The size of the frames that a file gives, as far as it can be told without reading it all.
fn size(path: &Path, settings: &ReplaySettings) -> Option<usize> {
    let length = usize::try_from(fs::metadata(path).ok()?.len()).ok()?;
    let size = match (kind(path), &settings.raw) {
        (FileKind::Csv, _) => {
            let mut head = Vec::with_capacity(HEAD);
            io::Read::read_to_end(&mut io::Read::take(fs::File::open(path).ok()?, HEAD as u64), &mut head).ok()?;
            series::channels(&head).checked_mul(4 * settings.csv.window as usize)?
        }
        (FileKind::Raw, Some(raw)) => raw.length(),
        _ => length,
    };
    (size <= settings.max_frame).then_some(size)
}

/// Reads a file into `buffer` and says what its frames are.
fn read(path: &Path, settings: &ReplaySettings, mut buffer: Vec<u8>) -> Result<Content, ReplayError> {
    let failed = |source| ReplayError::Read { path: path.to_owned(), source };
    buffer.clear();
    let file = fs::File::open(path).map_err(failed)?;
    io::Read::read_to_end(&mut io::Read::take(file, LARGEST as u64 + 1), &mut buffer).map_err(failed)?;
    let header = |kind, format| FrameHeader { kind, format, ..FrameHeader::new("", 0) };
    let whole = |header| (header, buffer.len());
    let (header, frame) = match (kind(path), &settings.raw) {
        (FileKind::Png, _) => whole(header(Kind::Image, Format::Png)),
        (FileKind::Jpeg, _) => whole(header(Kind::Image, Format::Jpeg)),
        (FileKind::Json, _) => whole(header(Kind::Json, Format::None)),
        (FileKind::Raw, None) => whole(header(Kind::Bytes, Format::None)),
        (FileKind::Raw, Some(raw)) => {
            let frame = raw.length();
            if frame == 0 || !buffer.len().is_multiple_of(frame) {
                return Err(ReplayError::Raw { path: path.to_owned(), length: buffer.len(), frame });
            }
            let header = header(Kind::Image, raw.pixel.into());
            (FrameHeader { width: raw.width, height: raw.height, stride: raw.stride(), ..header }, frame)
        }
        (FileKind::Csv, _) => {
            let series =
                series::parse(&buffer).map_err(|source| ReplayError::Series { path: path.to_owned(), source })?;
            let (rows, window) = (series.rows(), settings.csv.window);
            if rows < window as usize {
                return Err(ReplayError::Short { path: path.to_owned(), rows, window });
            }
            buffer = series.bytes;
            of_series(header(Kind::Series, Format::F32), series.channels, settings)
        }
    };
    if frame > settings.max_frame || buffer.len() > LARGEST {
        return Err(ReplayError::Long { path: path.to_owned(), length: frame, most: settings.max_frame });
    }
    if frame == 0 {
        return Err(ReplayError::Empty { path: path.to_owned() });
    }
    Ok(Content { bytes: buffer, header, frame })
}

fn of_series(header: FrameHeader, channels: usize, settings: &ReplaySettings) -> (FrameHeader, usize) {
    let window = settings.csv.window;
    let frame = channels.saturating_mul(4).saturating_mul(window as usize);
    let header = FrameHeader {
        width: window,
        height: 1,
        stride: u32::try_from(frame).unwrap_or(u32::MAX),
        channels: u32::try_from(channels).unwrap_or(u32::MAX),
        // Checked to lie between 0 and 4e6 hertz, so this fits.
        rate_mhz: (settings.csv.rate_hz * 1000.0).round().clamp(0.0, f64::from(u32::MAX)) as u32,
        ..header
    };
    (header, frame)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
