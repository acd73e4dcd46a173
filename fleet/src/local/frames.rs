//! Files as frames: images as they are, raw bytes, JSON, and CSV files cut into windows of a series.
//!
//! Files come in the order of the arguments, those of a folder in the order of their names. Hidden files and subfolders
//! are left out; of a folder that has images only the images are taken, so that labels and notes may lie beside them.
//! These are the rules of the agent's replay sensor, so that a folder means the same here and on a device.
//!
//! Failure modes: a file that cannot be read, or is no frame, is a [`FrameError`] that names it; the ones after it are
//! still read. Limits: a file is at most [`LARGEST`] bytes long; one file at a time is in memory.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    str::FromStr,
};

use sanderling_protocol::series::{self, SeriesError};
use sanderling_runtime::{Format, FrameHeader, Kind};
use thiserror::Error;

/// The longest file that is read, as on a device.
const LARGEST: usize = 1 << 26;

/// Why a file gives no frames.
#[derive(Debug, Error)]
pub(crate) enum FrameError {
    /// The file system refused.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    /// Nothing in it.
    #[error("it is empty")]
    Empty,
    /// Too long.
    #[error("it is longer than {LARGEST} bytes, the most that a device takes as a file of frames; cut it up")]
    Long,
    /// Not a whole number of raw images.
    #[error("it has {length} bytes; images as --raw describes them take {frame}")]
    Raw {
        /// Bytes of the file.
        length: usize,
        /// Bytes of one image.
        frame: usize,
    },
    /// Not a series.
    #[error("{0}")]
    Series(#[from] SeriesError),
    /// A series that is too short for one frame.
    #[error("its {rows} rows do not fill one window of {window}; lower --csv-window")]
    Short {
        /// Rows of the file.
        rows: usize,
        /// Those of a frame.
        window: u32,
    },
}

/// The layout of raw images: `640x480:gray8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawImage {
    width: u32,
    height: u32,
    format: Format,
    stride: u32,
    frame: usize,
}

impl FromStr for RawImage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let usage = || format!("{text:?} is not WIDTHxHEIGHT:FORMAT, as in 640x480:gray8");
        let (size, name) = text.split_once(':').ok_or_else(usage)?;
        let (width, height) = size.split_once('x').ok_or_else(usage)?;
        let side = |side: &str| side.parse().ok().filter(|side| (1..=65_535).contains(side)).ok_or_else(usage);
        let (width, height): (u32, u32) = (side(width)?, side(height)?);
        // Bytes a pixel of a row, and halves of them over the whole image.
        let (format, row, halves) = match name {
            "gray8" => (Format::Gray8, 1, 2),
            "rgb8" => (Format::Rgb8, 3, 6),
            "bgr8" => (Format::Bgr8, 3, 6),
            "yuyv" => (Format::Yuyv, 2, 4),
            "nv12" => (Format::Nv12, 1, 3),
            "gray16" => (Format::Gray16, 2, 4),
            other => {
                return Err(format!("unknown format {other:?}; known are gray8, rgb8, bgr8, yuyv, nv12 and gray16"));
            }
        };
        let halved = matches!(format, Format::Yuyv | Format::Nv12) && !width.is_multiple_of(2);
        if halved || (format == Format::Nv12 && !height.is_multiple_of(2)) {
            return Err(format!("{name} shares colours between neighbours, so its sides are even; {size} is not"));
        }
        let bytes = u64::from(width) * u64::from(height) * halves / 2;
        let frame = usize::try_from(bytes).ok().filter(|bytes| *bytes <= LARGEST);
        let frame = frame.ok_or_else(|| format!("an image of {bytes} bytes is too large; at most {LARGEST} are"))?;
        Ok(Self { width, height, format, stride: width * row, frame })
    }
}

/// How files become frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// What files of unknown kind are; bytes without it.
    pub(crate) raw: Option<RawImage>,
    /// Rows of a CSV file in one frame.
    pub(crate) window: u32,
    /// Rows a second, in thousandths of a hertz.
    pub(crate) rate_mhz: u32,
}

/// A file's frames: one after the other, all of one length.
#[derive(Debug)]
pub(crate) struct Content {
    /// What each frame is; `len` is its length.
    pub(crate) header: FrameHeader,
    bytes: Vec<u8>,
}

impl Content {
    /// Each frame's content.
    pub(crate) fn frames(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact((self.header.len as usize).max(1))
    }
}

/// All files of a list of files and folders, in order.
///
/// # Errors
/// The path that cannot be looked at, with the reason.
pub(crate) fn files(list: &[PathBuf]) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let mut found = Vec::new();
    for path in list {
        let listed = match fs::metadata(path) {
            Ok(about) if about.is_dir() => folder(path),
            Ok(_) => Ok(vec![path.clone()]),
            Err(error) => Err(error),
        };
        found.extend(listed.map_err(|error| (path.clone(), error))?);
    }
    Ok(found)
}

fn folder(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let hidden = entry.file_name().as_encoded_bytes().first() == Some(&b'.');
        if !hidden && fs::metadata(entry.path()).is_ok_and(|about| about.is_file()) {
            files.push(entry.path());
        }
    }
    let is_image = |path: &PathBuf| matches!(extension(path).as_str(), "png" | "jpg" | "jpeg");
    if files.iter().any(is_image) {
        files.retain(is_image);
    }
    files.sort_unstable();
    Ok(files)
}

fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default()
}

/// Reads a file; its extension says what it is.
///
/// # Errors
/// As [`FrameError`] says.
pub(crate) fn read(path: &Path, sensor: &str, reading: &Reading) -> Result<Content, FrameError> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > LARGEST {
        return Err(FrameError::Long);
    }
    let whole = u32::try_from(bytes.len()).map_err(|_| FrameError::Long)?;
    let header = |kind, format| FrameHeader { kind, format, ..FrameHeader::new(sensor, whole) };
    let content = match (extension(path).as_str(), &reading.raw) {
        ("png", _) => Content { header: header(Kind::Image, Format::Png), bytes },
        ("jpg" | "jpeg", _) => Content { header: header(Kind::Image, Format::Jpeg), bytes },
        ("json", _) => Content { header: header(Kind::Json, Format::None), bytes },
        ("csv", _) => series(header(Kind::Series, Format::F32), &bytes, reading)?,
        (_, Some(raw)) => images(header(Kind::Image, raw.format), bytes, raw)?,
        (_, None) => Content { header: header(Kind::Bytes, Format::None), bytes },
    };
    if content.bytes.is_empty() { Err(FrameError::Empty) } else { Ok(content) }
}

fn series(header: FrameHeader, file: &[u8], reading: &Reading) -> Result<Content, FrameError> {
    let series = series::parse(file)?;
    let (rows, window) = (series.rows(), reading.window);
    if rows < window as usize {
        return Err(FrameError::Short { rows, window });
    }
    let channels = u32::try_from(series.channels).map_err(|_| FrameError::Long)?;
    let len = channels.checked_mul(4).and_then(|row| row.checked_mul(window)).ok_or(FrameError::Long)?;
    let rate_mhz = reading.rate_mhz;
    let header = FrameHeader { len, width: window, height: 1, stride: len, channels, rate_mhz, ..header };
    Ok(Content { header, bytes: series.bytes })
}

fn images(header: FrameHeader, bytes: Vec<u8>, raw: &RawImage) -> Result<Content, FrameError> {
    if !bytes.len().is_multiple_of(raw.frame) {
        return Err(FrameError::Raw { length: bytes.len(), frame: raw.frame });
    }
    let len = u32::try_from(raw.frame).map_err(|_| FrameError::Long)?;
    let header = FrameHeader { len, width: raw.width, height: raw.height, stride: raw.stride, ..header };
    Ok(Content { header, bytes })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const READING: Reading = Reading { raw: None, window: 2, rate_mhz: 1_000_000 };

    fn filled(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    fn names(folder: &tempfile::TempDir) -> Vec<String> {
        let found = files(&[folder.path().to_owned()]).unwrap();
        found.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn takes_the_images_of_a_folder_in_the_order_of_their_names() {
        let folder = filled(&[("b.JPG", b"x"), ("a.png", b"x"), ("labels.csv", b"x"), (".hidden.png", b"x")]);
        fs::create_dir(folder.path().join("c.png")).unwrap();
        assert_eq!(names(&folder), ["a.png", "b.JPG"]);
        let folder = filled(&[("b.csv", b"x"), ("a.bin", b"x")]);
        assert_eq!(names(&folder), ["a.bin", "b.csv"]);
        assert_eq!(files(&["absent".into()]).unwrap_err().0, PathBuf::from("absent"));
    }

    #[test]
    fn cuts_series_and_raw_images_into_frames() {
        let folder = filled(&[("a.csv", b"1,2\n3,4\n5,6\n7,8\n9,9\n"), ("b.bin", &[7; 12])]);
        let series = read(&folder.path().join("a.csv"), "line", &READING).unwrap();
        assert_eq!(series.frames().count(), 2, "the rows after the last whole window are left out");
        let FrameHeader { kind, format, len, width, channels, .. } = series.header;
        assert_eq!((kind, format, len, width, channels), (Kind::Series, Format::F32, 16, 2, 2));
        assert_eq!(series.header.sensor(), "line");

        let raw = Some("2x3:gray8".parse().unwrap());
        let images = read(&folder.path().join("b.bin"), "cam", &Reading { raw, ..READING }).unwrap();
        assert_eq!(images.frames().count(), 2);
        assert_eq!((images.header.kind, images.header.width, images.header.stride), (Kind::Image, 2, 2));
        let bytes = read(&folder.path().join("b.bin"), "cam", &READING).unwrap();
        assert_eq!((bytes.header.kind, bytes.frames().count()), (Kind::Bytes, 1));
    }

    #[test]
    fn says_why_a_file_is_no_frame() {
        let files: [(&str, &[u8]); 4] = [("a.csv", b"\xff"), ("b.bin", &[7; 7]), ("c.png", b""), ("d.csv", b"1\n")];
        let folder = filled(&files);
        let error = |name: &str, raw| read(&folder.path().join(name), "cam", &Reading { raw, ..READING }).unwrap_err();
        let raw: RawImage = "2x3:gray8".parse().unwrap();
        assert!(matches!(error("a.csv", None), FrameError::Series(SeriesError::Text { line: 1 })));
        assert!(matches!(error("d.csv", None), FrameError::Short { rows: 1, window: 2 }));
        assert!(matches!(error("b.bin", Some(raw)), FrameError::Raw { length: 7, frame: 6 }));
        assert!(matches!(error("c.png", None), FrameError::Empty));
        assert!(matches!(error("absent.png", None), FrameError::Read(_)));
    }

    #[test]
    fn understands_layouts_of_raw_images() {
        let size = |text: &str| text.parse::<RawImage>().map(|raw| (raw.frame, raw.stride));
        assert_eq!(size("640x480:gray8"), Ok((307_200, 640)));
        assert_eq!(size("4x2:nv12"), Ok((12, 4)));
        assert_eq!(size("4x2:yuyv"), Ok((16, 8)));
        assert_eq!(size("4x2:rgb8"), Ok((24, 12)));
        for wrong in ["", "4x2", "4:gray8", "0x2:gray8", "4x-2:gray8", "3x2:yuyv", "4x3:nv12", "65535x65535:rgb8"] {
            assert!(wrong.parse::<RawImage>().is_err(), "{wrong}");
        }
        assert!("4x2:gray9".parse::<RawImage>().unwrap_err().contains("gray16"));
    }
}
