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
use thiserror::Error;
use tokio::time::MissedTickBehavior;

use super::{
    Outlet, ReplaySettings, Sensor,
    series::{self, SeriesError},
};
use crate::frames::{Block, LARGEST};

/// Sets of files that take up to so many bytes of memory are kept there.
const CACHE: usize = 2 << 20;
/// A pass goes over at most this many files.
const MOST_FILES: usize = 100_000;
const HEAD: usize = 4096;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often it looks whether someone wants its frames.
const LOOK: Duration = Duration::from_millis(100);
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
    #[error("{path} is empty", path = path.display())]
    Empty { path: PathBuf },
}

/// The sensor.
pub struct Replay {
    settings: ReplaySettings,
    largest: usize,
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
        let sizes = files(&settings.files).0.into_iter().filter_map(|path| size(&path, &settings));
        let largest = sizes.max().map_or(settings.max_frame, |largest| largest.next_power_of_two());
        let largest = largest.min(settings.max_frame);
        Self { settings, largest }
    }
}

impl Sensor for Replay {
    fn largest_frame(&self) -> usize {
        self.largest
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
        let mut pause = FIRST_PAUSE;
        loop {
            if self.pass().await {
                self.outlet.well();
                pause = FIRST_PAUSE;
                if !self.settings.repeat {
                    return;
                }
            } else {
                self.outlet.failed("no file gives a frame; put files there, or correct `files`".into());
                tokio::time::sleep(pause).await;
                pause = (2 * pause).min(LONGEST_PAUSE);
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
                while !self.outlet.wanted() {
                    tokio::time::sleep(LOOK).await;
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
            series::channels(&head).checked_mul(4 * settings.series.window as usize)?
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
            let header = header(Kind::Image, raw.format.into());
            (FrameHeader { width: raw.width, height: raw.height, stride: raw.stride(), ..header }, frame)
        }
        (FileKind::Csv, _) => {
            let series = series::parse(&buffer, settings.series.window as usize)
                .map_err(|source| ReplayError::Series { path: path.to_owned(), source })?;
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
    let window = settings.series.window;
    let frame = channels.saturating_mul(4).saturating_mul(window as usize);
    let header = FrameHeader {
        width: window,
        height: 1,
        stride: u32::try_from(frame).unwrap_or(u32::MAX),
        channels: u32::try_from(channels).unwrap_or(u32::MAX),
        // Checked to lie between 0 and 4e6 hertz, so this fits.
        rate_mhz: (settings.series.rate_hz * 1000.0).round().clamp(0.0, f64::from(u32::MAX)) as u32,
        ..header
    };
    (header, frame)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sensors::{
        PixelFormat, RawImage, SeriesSettings,
        fake::{Bench, until},
    };

    fn settings(files: &[PathBuf]) -> ReplaySettings {
        ReplaySettings {
            files: files.to_vec(),
            rate: 1000.0,
            repeat: false,
            max_frame: 100_000,
            raw: None,
            series: SeriesSettings::default(),
        }
    }

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    async fn all(settings: ReplaySettings, count: usize) -> (Vec<(FrameHeader, Vec<u8>)>, Option<String>) {
        let bench = Bench::default();
        let error = std::cell::RefCell::new(None);
        bench
            .run(Box::new(Replay::new(settings)), async |bench| {
                until(|| bench.count() >= count).await;
                *error.borrow_mut() = bench.report().error;
            })
            .await;
        (bench.frames(), error.into_inner())
    }

    #[tokio::test]
    async fn gives_the_images_of_a_folder_in_the_order_of_their_names() {
        let folder = folder(&[
            ("b.JPG", b"jpeg"),
            ("a.png", b"png"),
            ("labels.csv", b"file,label\n"),
            (".hidden.png", b"x"),
            ("c.jpeg", b"more"),
        ]);
        fs::create_dir(folder.path().join("z.png")).unwrap();
        let (frames, error) = all(settings(&[folder.path().into()]), 3).await;
        let seen: Vec<_> = frames.iter().map(|(h, c)| (h.seq, h.kind, h.format, c.as_slice())).collect();
        assert_eq!(
            seen,
            [
                (1, Kind::Image, Format::Png, b"png".as_slice()),
                (2, Kind::Image, Format::Jpeg, b"jpeg"),
                (3, Kind::Image, Format::Jpeg, b"more")
            ]
        );
        assert!(frames.iter().all(|(h, _)| (h.width, h.sensor()) == (0, "cam0") && h.captured_unix_ns > 0));
        assert_eq!(error, None);
    }

    #[tokio::test]
    async fn starts_again_from_memory_where_it_is_told_to() {
        let folder = folder(&[("a.png", b"one"), ("b.png", b"two")]);
        let path = folder.path().to_owned();
        let bench = Bench::default();
        let settings = ReplaySettings { repeat: true, ..settings(std::slice::from_ref(&path)) };
        bench
            .run(Box::new(Replay::new(settings)), async |bench| {
                until(|| bench.count() >= 3).await;
                fs::remove_dir_all(&path).unwrap();
                let (made, count) = (bench.pool().made(), bench.count());
                until(|| bench.count() >= count + 5).await;
                assert_eq!(bench.pool().made(), made, "steady state takes no new memory");
            })
            .await;
        assert_eq!(bench.frames()[2].1, b"one");
        assert_eq!(bench.frames()[2].0.seq, 3);
    }

    #[tokio::test]
    async fn large_sets_are_read_again_for_each_pass() {
        let large = vec![1; CACHE / 2 + 1];
        let folder = folder(&[("a.png", &large), ("b.png", &large), ("c.png", b"c")]);
        let settings = ReplaySettings { repeat: true, max_frame: CACHE, ..settings(&[folder.path().into()]) };
        let (frames, error) = all(settings, 7).await;
        assert_eq!(frames[6].1, large);
        assert_eq!(frames[5].1, b"c");
        assert_eq!(error, None);
    }

    #[tokio::test]
    async fn cuts_a_series_into_windows() {
        let rows: String = (0..10).map(|i| format!("{i},{}\n", -i)).collect();
        let folder = folder(&[("v.csv", format!("x,y\n{rows}").as_bytes())]);
        let series = SeriesSettings { window: 4, rate_hz: 12_800.0 };
        let settings = ReplaySettings { series, ..settings(&[folder.path().join("v.csv")]) };
        assert_eq!(Replay::new(settings.clone()).largest_frame(), 32);
        let (frames, error) = all(settings, 2).await;
        assert_eq!(frames.len(), 2);
        let (header, content) = &frames[1];
        assert_eq!((header.kind, header.format, header.width, header.height), (Kind::Series, Format::F32, 4, 1));
        assert_eq!((header.channels, header.rate_mhz, header.len), (2, 12_800_000, 32));
        assert_eq!(content[..8], [4.0f32.to_le_bytes(), (-4.0f32).to_le_bytes()].concat());
        assert_eq!(error, None);
    }

    #[tokio::test]
    async fn raw_files_hold_one_image_after_the_other() {
        let folder = folder(&[("a.raw", &[1; 24]), ("b.raw", &[2; 13])]);
        let raw = RawImage { width: 2, height: 2, format: PixelFormat::Rgb8 };
        let settings = ReplaySettings { raw: Some(raw), ..settings(&[folder.path().into()]) };
        let (frames, _) = all(settings, 2).await;
        let header = frames[1].0;
        assert_eq!((header.format, header.width, header.height, header.stride), (Format::Rgb8, 2, 2, 6));
        assert_eq!(frames[1].1, [1; 12]);
    }

    #[tokio::test]
    async fn reports_files_that_give_no_frames_and_goes_on() {
        let folder = folder(&[("a.bin", b""), ("b.bin", &[0; 200_000]), ("c.csv", b"1,x"), ("d.json", b"{}")]);
        let absent = folder.path().join("absent");
        let settings = settings(&[absent, folder.path().into()]);
        let (frames, error) = all(settings, 1).await;
        assert_eq!(frames[0].0.kind, Kind::Json);
        let error = error.unwrap();
        assert!(error.contains("4 refused") && error.contains("c.csv"), "{error}");
    }

    #[tokio::test]
    async fn says_that_nothing_gives_a_frame_and_recovers() {
        let folder = folder(&[]);
        let path = folder.path().to_owned();
        Bench::default()
            .run(Box::new(Replay::new(settings(std::slice::from_ref(&path)))), async |bench| {
                until(|| bench.report().error.is_some_and(|error| error.contains("no file gives a frame"))).await;
                fs::write(path.join("late.png"), b"late").unwrap();
                until(|| bench.count() == 1).await;
                until(|| bench.report().error.is_none()).await;
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_its_rate_and_waits_for_someone_who_wants_frames() {
        let folder = folder(&[("a.png", b"a")]);
        let settings = ReplaySettings { rate: 4.0, repeat: true, ..settings(&[folder.path().into()]) };
        let bench = Bench::default();
        bench.want(false);
        bench
            .run(Box::new(Replay::new(settings)), async |bench| {
                tokio::time::sleep(Duration::from_secs(20)).await;
                assert_eq!(bench.count(), 0);
                bench.want(true);
                tokio::time::sleep(Duration::from_secs(10)).await;
                assert!((38..=42).contains(&bench.count()), "{}", bench.count());
            })
            .await;
    }
}
