//! Capsules and captured frames of a device, as files here.
//!
//! Invariants: a file is there as a whole or not at all. A fetch that was cut off goes on where it was: what came is kept beside as
//! `<file>.part`.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use sanderling_protocol::{
    capsule::{Capsule, CapsuleId, Listed, MAX_CAPSULE, Piece},
    command::Captured,
};
use serde_json::json;

use crate::{home, line::Line, progress::Progress};

/// A frame is at most this long, in bytes: so long are the largest that a device takes.
const MAX_FRAME: u64 = 64 << 20;

/// Which capsules a device has, oldest first.
pub(crate) async fn list(line: &mut Line) -> Result<Vec<Listed>> {
    line.ask("capsules", &()).await
}

/// Fetches a capsule into a file; the newest where none is named. Gives its id and the file.
pub(crate) async fn fetch(
    line: &mut Line,
    id: Option<CapsuleId>,
    file: Option<PathBuf>,
) -> Result<(CapsuleId, PathBuf)> {
    let id = match id {
        Some(id) => id,
        None => list(line).await?.pop().context("the device has no capsules")?.id,
    };
    let file = file.unwrap_or_else(|| format!("capsule-{id}.tar").into());
    let part = beside(&file);
    let mut content = fs::read(&part).unwrap_or_default();
    let mut progress = None;
    loop {
        let offset = content.len() as u64;
        let piece: Piece = line.ask("capsule", &json!({ "id": id, "offset": offset })).await?;
        ensure!(piece.total <= MAX_CAPSULE as u64, "a capsule of {} bytes is longer than any", piece.total);
        if offset > piece.total {
            // Another one of that name was begun here.
            content.clear();
            continue;
        }
        let bytes = take(&piece, offset)?;
        let bar = progress.get_or_insert_with(|| {
            let mut bar = Progress::new("capsule", piece.total);
            bar.add(offset);
            bar
        });
        bar.add(bytes.len() as u64);
        append(&part, &bytes, content.is_empty())?;
        content.extend_from_slice(&bytes);
        if content.len() as u64 == piece.total {
            break;
        }
    }
    Capsule::read(&content)
        .with_context(|| format!("what came is no capsule; remove {} and fetch it again", part.display()))?;
    home::write(&file, &content)?;
    fs::remove_file(&part).ok();
    Ok((id, file))
}

fn take(piece: &Piece, offset: u64) -> Result<Vec<u8>> {
    let bytes = piece.bytes().context("a piece is damaged; fetch it again")?;
    ensure!(piece.offset == offset, "the device gave the piece at {}, not at {offset}", piece.offset);
    let end = offset + bytes.len() as u64;
    ensure!(end <= piece.total && (!bytes.is_empty() || end == piece.total), "the device gave no more at {offset}");
    Ok(bytes)
}

fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn append(part: &Path, bytes: &[u8], first: bool) -> Result<()> {
    let failed = || format!("could not write {}", part.display());
    let mut file = fs::OpenOptions::new()
        .create(true)
        .write(true)
        .append(!first)
        .truncate(first)
        .open(part)
        .with_context(failed)?;
    file.write_all(bytes).with_context(failed)
}

/// The next frame of a sensor, and what it is.
pub(crate) async fn capture(line: &mut Line, sensor: &str) -> Result<(Captured, Vec<u8>)> {
    let first: Captured = line.ask("capture", &json!({ "sensor": sensor })).await?;
    ensure!(first.piece.total <= MAX_FRAME, "a frame of {} bytes is longer than any", first.piece.total);
    let mut content = take(&first.piece, 0)?;
    let mut progress = Progress::new("frame", first.piece.total);
    progress.add(content.len() as u64);
    while (content.len() as u64) < first.piece.total {
        let offset = content.len() as u64;
        let next: Captured =
            line.ask("capture", &json!({ "sensor": sensor, "seq": first.seq, "offset": offset })).await?;
        ensure!(next.piece.total == first.piece.total, "the device captured another frame meanwhile; ask again");
        let bytes = take(&next.piece, offset)?;
        progress.add(bytes.len() as u64);
        content.extend_from_slice(&bytes);
    }
    Ok((first, content))
}

/// Writes a captured frame: JPEG and PNG as they are, raw pixels as PNG where that is another name for the same, all else as it
/// came. Gives the file.
pub(crate) fn write_frame(captured: &Captured, content: &[u8], file: Option<PathBuf>) -> Result<PathBuf> {
    let pixels = raw_image(captured, content)?;
    let extension = match (&pixels, captured.format.as_str()) {
        (Some(_), _) => "png",
        (None, "jpeg") => "jpg",
        (None, "png") => "png",
        (None, "json") => "json",
        (None, _) => "bin",
    };
    let file = file.unwrap_or_else(|| format!("frame-{}.{extension}", captured.seq).into());
    home::write(&file, pixels.as_deref().unwrap_or(content))?;
    Ok(file)
}

/// Raw pixels as PNG; `None` for other formats.
fn raw_image(captured: &Captured, content: &[u8]) -> Result<Option<Vec<u8>>> {
    let (color, depth, bytes) = match captured.format.as_str() {
        "gray8" => (png::ColorType::Grayscale, png::BitDepth::Eight, 1),
        "gray16" => (png::ColorType::Grayscale, png::BitDepth::Sixteen, 2),
        "rgb8" | "bgr8" => (png::ColorType::Rgb, png::BitDepth::Eight, 3),
        _ => return Ok(None),
    };
    let Captured { width, height, stride, .. } = *captured;
    let row = width as usize * bytes;
    let stride = if stride == 0 { row } else { stride as usize };
    if row == 0
        || stride < row
        || content.len() < stride.saturating_mul(height as usize - usize::from(height > 0)) + row
    {
        bail!("the device says {width}x{height}, which the frame's {} bytes do not hold", content.len());
    }
    let mut pixels = Vec::with_capacity(row * height as usize);
    for line in content.chunks(stride).take(height as usize) {
        pixels.extend_from_slice(line.get(..row).context("the frame's last row is cut off")?);
    }
    match captured.format.as_str() {
        "bgr8" => pixels.chunks_exact_mut(3).for_each(|pixel| pixel.reverse()),
        // Little-endian here, big-endian in PNG.
        "gray16" => pixels.chunks_exact_mut(2).for_each(|pixel| pixel.reverse()),
        _ => {}
    }
    let mut image = Vec::new();
    let mut encoder = png::Encoder::new(&mut image, width, height);
    encoder.set_color(color);
    encoder.set_depth(depth);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(Some(image))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn captured(format: &str, width: u32, height: u32, stride: u32) -> Captured {
        let piece = Piece::of(b"", 0, 0);
        Captured { seq: 7, captured_unix_ns: 0, format: format.into(), width, height, stride, piece }
    }

    fn decoded(image: &[u8]) -> Vec<u8> {
        let mut reader = png::Decoder::new(std::io::Cursor::new(image)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        pixels
    }

    #[test]
    fn raw_pixels_become_png_without_their_padding() {
        let image = raw_image(&captured("gray8", 2, 2, 4), &[1, 2, 0, 0, 3, 4]).unwrap().unwrap();
        assert_eq!(decoded(&image), [1, 2, 3, 4]);
        let image = raw_image(&captured("bgr8", 1, 2, 0), &[1, 2, 3, 4, 5, 6]).unwrap().unwrap();
        assert_eq!(decoded(&image), [3, 2, 1, 6, 5, 4]);
        let image = raw_image(&captured("gray16", 1, 1, 0), &[1, 2]).unwrap().unwrap();
        assert_eq!(decoded(&image), [2, 1]);
        assert!(raw_image(&captured("jpeg", 1, 1, 0), b"jpeg").unwrap().is_none());
    }

    #[test]
    fn what_a_device_says_of_a_frame_is_held_to_its_bytes() {
        for (width, height, stride) in [(2, 2, 0), (0, 1, 0), (3, 1, 2), (u32::MAX, u32::MAX, u32::MAX), (4, 1, 0)] {
            assert!(raw_image(&captured("gray8", width, height, stride), &[0; 3]).is_err(), "{width}x{height}");
        }
    }

    #[test]
    fn a_piece_that_does_not_follow_is_refused() {
        assert_eq!(take(&Piece::of(b"abc", 4, 7), 4).unwrap(), b"abc");
        assert!(take(&Piece::of(b"abc", 3, 7), 4).is_err());
        assert!(take(&Piece::of(b"", 4, 7), 4).is_err());
        assert!(take(&Piece::of(b"abcd", 4, 7), 4).is_err());
        assert_eq!(take(&Piece::of(b"", 7, 7), 7).unwrap(), b"");
    }
}
