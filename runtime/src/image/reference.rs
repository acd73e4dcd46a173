//! What a tensor is, written slowly and plainly: the tests hold the fast way to this one, byte by byte.

#![allow(clippy::unwrap_used)]

use sanderling_guest::{
    frame::{Format, FrameHeader},
    image::{Color, Element, Filter, ImageOp, Layout},
};

/// Samples of one kind, row by row; each stands for `shared.0` x `shared.1` pixels.
struct Plane {
    rows: Vec<Vec<u8>>,
    shared: (usize, usize),
}

/// The tensor of an operation.
pub(super) fn tensor(header: &FrameHeader, bytes: &[u8], op: &ImageOp) -> Vec<u8> {
    let planes: Vec<_> = planes(header, bytes).iter().map(|plane| resized(plane, op)).collect();
    let (width, height, channels) = (op.width as usize, op.height as usize, op.channels());
    let mut elements = vec![vec![]; width * height * channels];
    for y in 0..height {
        for x in 0..width {
            let samples: Vec<u8> = planes.iter().map(|rows| rows[y][x]).collect();
            for (c, value) in pixel(header.format, &samples, op.color).into_iter().enumerate() {
                let place = match op.layout {
                    Layout::Nchw => (c * height + y) * width + x,
                    Layout::Nhwc => (y * width + x) * channels + c,
                };
                let normal = (f32::from(value) / 255.0 - op.mean[c]) * op.scale[c];
                elements[place] = match op.element {
                    Element::F32 => normal.to_le_bytes().to_vec(),
                    Element::F16 => half::f16::from_f32(normal).to_le_bytes().to_vec(),
                    Element::U8 => vec![value],
                    Element::I8 => ((i16::from(value) - 128) as i8).to_le_bytes().to_vec(),
                };
            }
        }
    }
    elements.concat()
}

/// The samples of a frame, by the definition of each format.
fn planes(header: &FrameHeader, bytes: &[u8]) -> Vec<Plane> {
    let (width, height, stride) = (header.width as usize, header.height as usize, header.stride as usize);
    let plane = |row: usize, step: usize, offset: usize, shared: (usize, usize)| {
        let rows = (0..height.div_ceil(shared.1)).map(|y| {
            let samples = (0..width.div_ceil(shared.0)).map(|x| bytes[(row + y) * stride + step * x + offset]);
            samples.collect()
        });
        Plane { rows: rows.collect(), shared }
    };
    let each = (1, 1);
    match header.format {
        Format::Gray8 => vec![plane(0, 1, 0, each)],
        Format::Gray16 => vec![plane(0, 2, 1, each)],
        Format::Rgb8 => vec![plane(0, 3, 0, each), plane(0, 3, 1, each), plane(0, 3, 2, each)],
        Format::Bgr8 => vec![plane(0, 3, 2, each), plane(0, 3, 1, each), plane(0, 3, 0, each)],
        Format::Yuyv => vec![plane(0, 2, 0, each), plane(0, 4, 1, (2, 1)), plane(0, 4, 3, (2, 1))],
        Format::Nv12 => vec![plane(0, 1, 0, each), plane(height, 2, 0, (2, 2)), plane(height, 2, 1, (2, 2))],
        other => unreachable!("{other:?}"),
    }
}

/// Bits behind the point of a sample that was resized along one axis alone.
const FRACTION: u32 = 3;

/// Cropped and at the tensor's size: columns first, then rows.
fn resized(plane: &Plane, op: &ImageOp) -> Vec<Vec<u8>> {
    let [x, y, width, height] = op.crop.map(|side| side as usize);
    let whole = |row: &Vec<u8>| row.iter().map(|sample| i64::from(*sample) << FRACTION).collect();
    let columns = transposed(&plane.rows.iter().map(whole).collect::<Vec<_>>());
    let column = |column: &Vec<i64>| line(column, (y, height), plane.shared.1, op.height as usize, op.filter, rounded);
    let rows = transposed(&columns.iter().map(column).collect::<Vec<_>>());
    let row = |row: &Vec<i64>| {
        line(row, (x, width), plane.shared.0, op.width as usize, op.filter, |sum, bits| {
            u8::try_from(rounded(sum, bits + FRACTION)).unwrap()
        })
    };
    rows.iter().map(row).collect()
}

/// Without so many bits.
fn rounded(sum: i64, bits: u32) -> i64 {
    (sum + ((1 << bits) >> 1)) >> bits
}

fn transposed(rows: &[Vec<i64>]) -> Vec<Vec<i64>> {
    (0..rows[0].len()).map(|x| rows.iter().map(|row| row[x]).collect()).collect()
}

/// The part of `len` pixels from `start` on of a line, as a line of `out` samples: what `made` says of a sum and of the bits that
/// the weights add to it.
fn line<T>(
    samples: &[i64],
    (start, len): (usize, usize),
    shared: usize,
    out: usize,
    filter: Filter,
    made: impl Fn(i64, u32) -> T,
) -> Vec<T> {
    let step = len as f64 / out as f64;
    if len == out || filter == Filter::Nearest {
        let mut middle = step / 2.0;
        let chosen = (0..out).map(|_| {
            let pixel = start + (middle as usize).min(len - 1);
            middle += step;
            made(samples[pixel / shared], 0)
        });
        return chosen.collect();
    }
    // Pixels outside of the crop do not count. It may begin or end in the middle of a sample.
    let part = &samples[start / shared..(start + len).div_ceil(shared)];
    let begin = (start % shared) as f64 / shared as f64;
    let scale = step / shared as f64;
    // A filter is never narrower than a sample.
    let wide = scale.max(1.0);
    let reach = if filter == Filter::Area { wide / 2.0 } else { wide };
    let weights: Vec<Vec<f64>> = (0..out)
        .map(|at| {
            let middle = begin + (at as f64 + 0.5) * scale;
            let window = (middle - reach + 0.5).max(0.0) as usize..(middle + reach + 0.5) as usize;
            let weight = |sample: usize| {
                let distance = (sample as f64 - middle + 0.5) / wide;
                let inside = if filter == Filter::Area {
                    f64::from(distance > -0.5 && distance <= 0.5)
                } else {
                    (1.0 - distance.abs()).max(0.0)
                };
                if window.contains(&sample) { inside } else { 0.0 }
            };
            let weights: Vec<f64> = (0..part.len()).map(weight).collect();
            let sum: f64 = weights.iter().sum();
            weights.into_iter().map(|weight| if sum > 0.0 { weight / sum } else { 0.0 }).collect()
        })
        .collect();
    // As whole numbers of 16 bits, with as many fractional bits as fit, and 20 at most; their sums are rounded, so that all are one.
    let heaviest = weights.iter().flatten().copied().fold(0.0, f64::max);
    let bits = (0..=20).rev().find(|bits| heaviest * f64::from(1 << bits) < 32_767.0).unwrap();
    let sums = weights.iter().map(|weights| {
        let until = |end: usize| (weights[..end].iter().sum::<f64>() * f64::from(1 << bits)).round() as i64;
        let products = part.iter().enumerate().map(|(at, sample)| sample * (until(at + 1) - until(at)));
        made(products.sum(), bits)
    });
    sums.collect()
}

/// The channels of a pixel.
fn pixel(format: Format, samples: &[u8], color: Color) -> Vec<u8> {
    let [r, g, b] = match (format, samples) {
        (Format::Yuyv | Format::Nv12, [luma, u, v]) => {
            let (c, d, e) = (i32::from(*luma) - 16, i32::from(*u) - 128, i32::from(*v) - 128);
            let byte = |value: i32| u8::try_from((value >> 8).clamp(0, 255)).unwrap();
            if color == Color::Gray {
                return vec![byte(298 * c + 128)];
            }
            [byte(298 * c + 409 * e + 128), byte(298 * c - 100 * d - 208 * e + 128), byte(298 * c + 516 * d + 128)]
        }
        (_, [gray]) => [*gray; 3],
        (_, [r, g, b]) => [*r, *g, *b],
        other => unreachable!("{other:?}"),
    };
    match color {
        // The weights 0.299, 0.587 and 0.114 of 65,536, as Pillow has them.
        Color::Gray => {
            let [r, g, b] = [r, g, b].map(u32::from);
            vec![u8::try_from((19_595 * r + 38_470 * g + 7_471 * b + 32_768) / 65_536).unwrap()]
        }
        Color::Rgb => vec![r, g, b],
        Color::Bgr => vec![b, g, r],
    }
}
