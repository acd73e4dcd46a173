//! A sensor that reads small files with a number in each: hwmon, thermal zones, the value of a GPIO line, PWM, power supplies …
//!
//! All files are read one after the other, outside of the thread that feeds modules, since a driver may ask its chip first. A value
//! is `(what the file says + offset) * scale`. Each poll gives one frame: a series with one sample a channel, or a JSON object.
//!
//! Failure modes: a file that is away, cannot be read or has no number is reported by name, is NaN (in JSON `null`) until it is well
//! again, and is tried at each poll. Where all are, no frame is given and polls come with growing pauses.
//!
//! Limits: of a file the first [`LONGEST`] bytes; a poll that takes longer than the interval is followed by the next at once.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

use sanderling_guest::frame::{Format, FrameHeader, Kind};
use serde::Deserialize;
use tokio::time::MissedTickBehavior;

use super::{Outlet, Sensor};
use crate::backoff::Backoff;

/// What is longer is no number.
const LONGEST: usize = 64;
/// The longest a value can be in JSON.
const JSON_VALUE: usize = 32;

/// A sensor that reads small files.
#[derive(Clone, Debug, PartialEq)]
pub struct SysfsSettings {
    /// The files, each a channel.
    pub files: Vec<SysfsValue>,
    /// From one poll to the next.
    pub interval: Duration,
    /// What a poll gives.
    pub format: SysfsFormat,
}

/// One file of a [`SysfsSettings`].
#[derive(Clone, Debug, PartialEq)]
pub struct SysfsValue {
    /// Where it is.
    pub path: PathBuf,
    /// What it is called in JSON and in errors.
    pub name: String,
    /// What the sum of value and offset is multiplied by.
    pub scale: f64,
    /// What is added to the value.
    pub offset: f64,
}

/// What a poll gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SysfsFormat {
    /// A series of f32, one sample a channel, in the order of the files.
    Series,
    /// An object `{"name": value, …}`.
    Json,
}

impl SysfsSettings {
    /// The largest frame, in bytes.
    pub(crate) fn largest(&self) -> usize {
        match self.format {
            SysfsFormat::Series => self.files.len() * size_of::<f32>(),
            SysfsFormat::Json => 2 + self.files.iter().map(|file| file.name.len() + 4 + JSON_VALUE).sum::<usize>(),
        }
    }
}

/// The sensor.
pub struct Sysfs {
    settings: SysfsSettings,
}

impl Sysfs {
    /// A sensor of checked settings.
    pub fn new(settings: SysfsSettings) -> Self {
        Self { settings }
    }

    /// Reads each file once.
    ///
    /// # Errors
    /// Those that give no number, and why.
    pub fn probe(settings: &SysfsSettings) -> Result<String, String> {
        let mut poll = Poll::new(settings.files.clone());
        poll.read();
        match poll.trouble() {
            None => Ok(format!("{} values", settings.files.len())),
            Some(trouble) => Err(trouble),
        }
    }
}

impl Sensor for Sysfs {
    fn largest_frame(&self) -> usize {
        self.settings.largest()
    }

    fn run(self: Box<Self>, outlet: Outlet) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(run(self.settings, outlet))
    }
}

async fn run(settings: SysfsSettings, outlet: Outlet) {
    let mut ticks = tokio::time::interval(settings.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut backoff = Backoff::default();
    let mut poll = Poll::new(settings.files.clone());
    loop {
        if !outlet.wanted() {
            outlet.until_wanted().await;
            ticks.reset_immediately();
        }
        ticks.tick().await;
        poll = match tokio::task::spawn_blocking(move || poll.polled()).await {
            Ok(poll) => poll,
            // It panicked, or the runtime is going down.
            Err(_) => Poll::new(settings.files.clone()),
        };
        match poll.trouble() {
            None => outlet.well(),
            Some(trouble) => outlet.failed(trouble),
        }
        if poll.values.iter().all(Result::is_err) {
            backoff.wait().await;
            continue;
        }
        backoff.reset();
        match settings.format {
            SysfsFormat::Series => poll.series(&outlet),
            SysfsFormat::Json => poll.json(&outlet),
        }
        outlet.flush();
    }
}

/// The values of one poll.
struct Poll {
    files: Vec<SysfsValue>,
    values: Vec<io::Result<f64>>,
}

impl Poll {
    fn new(files: Vec<SysfsValue>) -> Self {
        let values = Vec::with_capacity(files.len());
        Self { files, values }
    }

    fn polled(mut self) -> Self {
        self.read();
        self
    }

    fn read(&mut self) {
        self.values.clear();
        let scaled = |file: &SysfsValue| Ok((number(&file.path)? + file.offset) * file.scale);
        self.values.extend(self.files.iter().map(scaled));
    }

    /// Which files gave nothing, and why.
    fn trouble(&self) -> Option<String> {
        let mut failed =
            self.files.iter().zip(&self.values).filter_map(|(file, value)| Some((file, value.as_ref().err()?)));
        let (file, error) = failed.next()?;
        let others = match failed.count() {
            0 => String::new(),
            others => format!(", and {others} more"),
        };
        Some(format!("{} ({}): {error}{others}", file.name, file.path.display()))
    }

    fn series(&self, outlet: &Outlet) {
        let length = self.values.len() * size_of::<f32>();
        let header = FrameHeader {
            kind: Kind::Series,
            format: Format::F32,
            width: 1,
            height: 1,
            stride: u32::try_from(length).unwrap_or(u32::MAX),
            channels: u32::try_from(self.values.len()).unwrap_or(u32::MAX),
            ..FrameHeader::new("", 0)
        };
        outlet.write(header, length, |room| {
            for (place, value) in room.as_chunks_mut().0.iter_mut().zip(&self.values) {
                *place = value.as_ref().map_or(f32::NAN, |value| *value as f32).to_le_bytes();
            }
        });
    }

    fn json(&self, outlet: &Outlet) {
        let header = FrameHeader { kind: Kind::Json, ..FrameHeader::new("", 0) };
        // Its length is known when it is written: once into nothing, once into the block.
        let mut count = Counted(0);
        if self.put(&mut count).is_ok() {
            outlet.write(header, count.0, |mut room| {
                let _ = self.put(&mut room);
            });
        }
    }

    fn put(&self, out: &mut impl Write) -> io::Result<()> {
        for (index, (file, value)) in self.files.iter().zip(&self.values).enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            write!(out, "{before}\"{}\":", file.name)?;
            // What is not finite is null.
            serde_json::to_writer(&mut *out, &value.as_ref().unwrap_or(&f64::NAN))?;
        }
        out.write_all(b"}")
    }
}

/// Counts what is written.
struct Counted(usize);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The number that a file holds.
///
/// # Errors
/// It cannot be read, or holds something else.
pub(super) fn number(path: &Path) -> io::Result<f64> {
    let mut buffer = [0; LONGEST];
    let text = text(path, &mut buffer)?;
    text.parse().ok().filter(|number: &f64| number.is_finite()).ok_or_else(|| {
        let found: String = text.chars().take(16).collect();
        io::Error::new(io::ErrorKind::InvalidData, format!("{found:?} is no number"))
    })
}

/// What a file holds, without white space around it.
///
/// # Errors
/// It cannot be read, is longer than the buffer, or is not UTF-8.
pub(super) fn text<'a>(path: &Path, buffer: &'a mut [u8]) -> io::Result<&'a str> {
    let mut file = File::open(path)?;
    let mut filled = 0;
    while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
        match file.read(room) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let odd = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    if filled == buffer.len() {
        return Err(odd("it is longer than a value can be"));
    }
    let text = std::str::from_utf8(buffer.get(..filled).unwrap_or_default()).map_err(|_| odd("it is not text"))?;
    Ok(text.trim())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sensors::fake::{Bench, until};
    use std::fs;

    fn value(folder: &tempfile::TempDir, name: &str, scale: f64, offset: f64) -> SysfsValue {
        SysfsValue { path: folder.path().join(name), name: name.into(), scale, offset }
    }

    fn settings(files: Vec<SysfsValue>, format: SysfsFormat) -> SysfsSettings {
        SysfsSettings { files, interval: Duration::from_millis(10), format }
    }

    fn series(content: &[u8]) -> Vec<f32> {
        content.chunks_exact(4).map(|value| f32::from_le_bytes(value.try_into().unwrap())).collect()
    }

    #[tokio::test]
    async fn each_poll_gives_one_scaled_sample_of_each_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("temp"), "43500\n").unwrap();
        fs::write(folder.path().join("gpio"), "1").unwrap();
        let files = vec![value(&folder, "temp", 0.001, 500.0), value(&folder, "gpio", 1.0, 0.0)];
        let bench = Bench::default();
        bench
            .run(Box::new(Sysfs::new(settings(files, SysfsFormat::Series))), async |bench| {
                until(|| bench.count() >= 2).await;
                assert_eq!(bench.report().error, None);
                assert_eq!(bench.pool().made(), 1);
                fs::write(folder.path().join("temp"), "-1500\n").unwrap();
                until(|| series(&bench.frames().pop().unwrap().1) == [-1.0, 1.0]).await;
            })
            .await;
        let (header, content) = &bench.frames()[0];
        assert_eq!((header.kind, header.format, header.width, header.channels), (Kind::Series, Format::F32, 1, 2));
        assert_eq!(series(content), [44.0, 1.0]);
    }

    #[tokio::test]
    async fn a_file_that_vanishes_is_reported_and_tried_again_while_the_others_go_on() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "1").unwrap();
        fs::write(folder.path().join("b"), "2").unwrap();
        let files = vec![value(&folder, "a", 1.0, 0.0), value(&folder, "b", 0.5, 0.0)];
        Bench::default()
            .run(Box::new(Sysfs::new(settings(files, SysfsFormat::Json))), async |bench| {
                let last = || bench.frames().pop().map(|frame| String::from_utf8(frame.1).unwrap());
                until(|| last().is_some_and(|text| text == r#"{"a":1.0,"b":1.0}"#)).await;
                fs::remove_file(folder.path().join("a")).unwrap();
                until(|| last().is_some_and(|text| text == r#"{"a":null,"b":1.0}"#)).await;
                let error = bench.report().error.unwrap();
                assert!(error.starts_with("a (") && error.contains("No such file"), "{error}");
                fs::write(folder.path().join("a"), "nonsense").unwrap();
                until(|| bench.report().error.is_some_and(|error| error.contains("\"nonsense\" is no number"))).await;
                fs::write(folder.path().join("a"), "3").unwrap();
                until(|| last().is_some_and(|text| text == r#"{"a":3.0,"b":1.0}"#)).await;
                assert_eq!(bench.report().error, None);
                assert_eq!(bench.frames()[0].0.kind, Kind::Json);
            })
            .await;
    }

    #[tokio::test]
    async fn gives_nothing_while_every_file_fails_and_recovers() {
        let folder = tempfile::tempdir().unwrap();
        let files = vec![value(&folder, "a", 1.0, 0.0), value(&folder, "b", 1.0, 0.0)];
        let settings = settings(files, SysfsFormat::Series);
        assert!(Sysfs::probe(&settings).unwrap_err().contains("and 1 more"));
        Bench::default()
            .run(Box::new(Sysfs::new(settings.clone())), async |bench| {
                until(|| bench.report().error.is_some_and(|error| error.contains("and 1 more"))).await;
                assert_eq!(bench.count(), 0);
                fs::write(folder.path().join("a"), "1").unwrap();
                fs::write(folder.path().join("b"), "2").unwrap();
                until(|| bench.count() > 0 && bench.report().error.is_none()).await;
                assert!(bench.frames().iter().all(|(_, content)| series(content) == [1.0, 2.0]));
            })
            .await;
        assert_eq!(Sysfs::probe(&settings), Ok("2 values".into()));
    }

    #[tokio::test]
    async fn reads_nothing_that_nobody_wants() {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench::default();
        bench.want(false);
        bench
            .run(
                Box::new(Sysfs::new(settings(vec![value(&folder, "a", 1.0, 0.0)], SysfsFormat::Series))),
                async |bench| {
                    // A read would fail and be reported.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    assert_eq!(bench.report().error, None);
                    bench.want(true);
                    until(|| bench.report().error.is_some()).await;
                },
            )
            .await;
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value");
        for (content, expected) in [
            ("12", Some(12.0)),
            (" -0.5\n", Some(-0.5)),
            ("1e3", Some(1000.0)),
            ("", None),
            ("1 2", None),
            ("inf", None),
            ("NaN", None),
        ] {
            fs::write(&path, content).unwrap();
            assert_eq!(number(&path).ok(), expected, "{content:?}");
        }
        fs::write(&path, "1".repeat(LONGEST)).unwrap();
        assert!(number(&path).unwrap_err().to_string().contains("longer"));
        fs::write(&path, [0xff]).unwrap();
        assert!(number(&path).unwrap_err().to_string().contains("not text"));
    }

    #[test]
    fn no_object_is_longer_than_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(vec![value(&folder, "a", 1.0, 0.0), value(&folder, "b", 1.0, 0.0)], SysfsFormat::Json);
        let poll = Poll { files: settings.files.clone(), values: vec![Ok(f64::MIN), Ok(-f64::MIN_POSITIVE)] };
        let mut text = Vec::new();
        poll.put(&mut text).unwrap();
        assert!(text.len() <= settings.largest(), "{}", text.len());
        assert!(serde_json::from_slice::<serde_json::Value>(&text).is_ok());
    }
}
