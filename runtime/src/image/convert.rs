//! Rows of pixels, as video devices deliver them, to rows of 8-bit gray or colour.
//!
//! Every function fills `to`, as far as the row goes. Colours are BT.601, limited range, in the usual integers of 8
//! fractional bits. They are computed for blocks of pixel pairs that share their chroma, without a branch, so that the
//! compiler makes vectors of it.

use std::array::from_fn;

/// Pixel pairs in a block.
const PAIRS: usize = 16;
/// Bytes of a block in RGB.
const BLOCK: usize = PAIRS * 6;

/// First luma, second luma, u and v of the pairs of a block.
type Planes = [[u8; PAIRS]; 4];

/// The high bytes of little-endian 16-bit pixels, from pixel `x` on.
pub(super) fn high_bytes(row: &[u8], x: usize, to: &mut [u8]) {
    let pixels = row.as_chunks::<2>().0.get(x..).unwrap_or_default();
    for (to, [_, high]) in to.iter_mut().zip(pixels) {
        *to = *high;
    }
}

/// YUYV to gray, from pixel `x` on.
pub(super) fn yuyv_gray(row: &[u8], x: usize, to: &mut [u8]) {
    let pixels = row.as_chunks::<2>().0.get(x..).unwrap_or_default();
    for (to, [luma, _]) in to.iter_mut().zip(pixels) {
        *to = expand(*luma);
    }
}

/// A row of luma to gray, from pixel `x` on.
pub(super) fn luma_gray(row: &[u8], x: usize, to: &mut [u8]) {
    for (to, luma) in to.iter_mut().zip(row.get(x..).unwrap_or_default()) {
        *to = expand(*luma);
    }
}

/// YUYV to RGB, from pixel `x` on.
pub(super) fn yuyv_rgb(row: &[u8], x: usize, to: &mut [u8]) {
    let order = |[y0, u, y1, v]: &[u8; 4]| [*y0, *y1, *u, *v];
    let mut pairs = row.as_chunks::<4>().0.get(x / 2..).unwrap_or_default();
    let mut to = to;
    if x % 2 == 1
        && let Some((first, rest)) = pairs.split_first()
    {
        (pairs, to) = (rest, second(order(first), to));
    }
    let (blocks, (whole, left)) = (pairs.as_chunks::<PAIRS>().0, to.as_chunks_mut::<BLOCK>());
    for (to, block) in whole.iter_mut().zip(blocks) {
        let words = block.map(u32::from_le_bytes);
        let plane = |shift: u32| words.map(|word| (word >> shift) as u8);
        rgb(&[plane(0), plane(16), plane(8), plane(24)], to);
    }
    let rest = pairs.get(whole.len() * PAIRS..).unwrap_or_default();
    part(&planes(rest.iter().map(order)), left);
}

/// A row of luma and its row of interleaved chroma to RGB, from pixel `x` on. An odd width is filled up to whole pairs.
pub(super) fn nv12_rgb(luma: &[u8], chroma: &[u8], x: usize, to: &mut [u8]) {
    let order = |([y0, y1], [u, v]): (&[u8; 2], &[u8; 2])| [*y0, *y1, *u, *v];
    let mut lumas = luma.as_chunks::<2>().0.get(x / 2..).unwrap_or_default();
    let mut chromas = chroma.as_chunks::<2>().0.get(x / 2..).unwrap_or_default();
    let mut to = to;
    if x % 2 == 1
        && let Some(((luma, rest), (chroma, more))) = lumas.split_first().zip(chromas.split_first())
    {
        (lumas, chromas, to) = (rest, more, second(order((luma, chroma)), to));
    }
    let (whole, left) = to.as_chunks_mut::<BLOCK>();
    let blocks = lumas.as_chunks::<PAIRS>().0.iter().zip(chromas.as_chunks::<PAIRS>().0);
    for (to, (lumas, chromas)) in whole.iter_mut().zip(blocks) {
        rgb(&planes(lumas.iter().zip(chromas).map(order)), to);
    }
    let rest = lumas.iter().zip(chromas).skip(whole.len() * PAIRS);
    part(&planes(rest.map(order)), left);
}

/// Up to a block of pairs, each as first luma, second luma, u and v.
#[inline(always)]
fn planes(pairs: impl Iterator<Item = [u8; 4]>) -> Planes {
    let mut planes = [[0; PAIRS]; 4];
    for (at, pair) in pairs.take(PAIRS).enumerate() {
        for (plane, value) in planes.iter_mut().zip(pair) {
            plane[at] = value;
        }
    }
    planes
}

/// Writes the second pixel of a pair; gives what is left to write.
fn second(pair: [u8; 4], to: &mut [u8]) -> &mut [u8] {
    let (pixel, rest) = to.split_at_mut(to.len().min(3));
    let mut both = [0; BLOCK];
    rgb(&planes([pair].into_iter()), &mut both);
    pixel.copy_from_slice(&both[3..3 + pixel.len()]);
    rest
}

/// Writes the begin of a block.
fn part(planes: &Planes, to: &mut [u8]) {
    let mut block = [0; BLOCK];
    rgb(planes, &mut block);
    to.copy_from_slice(&block[..to.len()]);
}

/// A block as RGB.
///
/// Red is `(298 (y - 16) + 409 (v - 128) + 128) / 256`, rounded down, and so on. The multiples of 256 in the weights are
/// taken out of the sum, so that what is left fits 16 bits, of which a vector holds twice as many.
#[inline(always)]
fn rgb([first, second, u, v]: &Planes, to: &mut [u8; BLOCK]) {
    let (u, v) = (u.map(|u| i16::from(u) - 128), v.map(|v| i16::from(v) - 128));
    let pixels = |luma: &[u8; PAIRS]| {
        let luma = luma.map(|luma| i16::from(luma) - 16);
        let red: [u16; PAIRS] = from_fn(|at| level(luma[at] + v[at], 42 * luma[at] + 153 * v[at]));
        let green: [u16; PAIRS] = from_fn(|at| level(luma[at] - v[at], 42 * luma[at] - 100 * u[at] + 48 * v[at]));
        let blue: [u16; PAIRS] = from_fn(|at| level(luma[at] + 2 * u[at], 42 * luma[at] + 4 * u[at]));
        let low: [u16; PAIRS] = from_fn(|at| red[at] | green[at] << 8);
        from_fn::<u32, PAIRS, _>(|at| u32::from(low[at]) | u32::from(blue[at]) << 16)
    };
    let (first, second) = (pixels(first), pixels(second));
    // Each pair's six bytes are written with two bytes of nothing, over which the next pair is written.
    let mut out = [0; BLOCK + 2];
    for at in 0..PAIRS {
        let pair = u64::from(first[at]) | u64::from(second[at]) << 24;
        out[at * 6..at * 6 + 8].copy_from_slice(&pair.to_le_bytes());
    }
    to.copy_from_slice(&out[..BLOCK]);
}

/// A channel: its whole part, and its fractional part in 8 bits, which is rounded.
#[inline(always)]
fn level(whole: i16, fraction: i16) -> u16 {
    (whole + ((fraction + 128) >> 8)).clamp(0, 255).cast_unsigned()
}

/// Limited-range luma to 0..=255: what [`rgb`] gives for colourless pixels.
#[inline(always)]
fn expand(luma: u8) -> u8 {
    ((298 * (i32::from(luma) - 16) + 128) >> 8).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clamp(value: i32) -> u8 {
        value.clamp(0, 255) as u8
    }

    /// The formula as the standard writes it, in 32 bits.
    fn plain([luma, u, v]: [u8; 3]) -> [u8; 3] {
        let (luma, u, v) = (298 * (i32::from(luma) - 16) + 128, i32::from(u) - 128, i32::from(v) - 128);
        [clamp((luma + 409 * v) >> 8), clamp((luma - 100 * u - 208 * v) >> 8), clamp((luma + 516 * u) >> 8)]
    }

    #[test]
    fn is_exact_for_every_luma_and_chroma() {
        let mut to = [0; 256 * 3];
        for u in 0..=255 {
            for v in 0..=255 {
                let luma: Vec<u8> = (0..=255).collect();
                nv12_rgb(&luma, &[u, v].repeat(128), 0, &mut to);
                for (pixel, luma) in to.as_chunks::<3>().0.iter().zip(luma) {
                    assert_eq!(*pixel, plain([luma, u, v]), "{luma} {u} {v}");
                }
            }
        }
    }

    #[test]
    fn begins_and_ends_anywhere_in_a_row() {
        let row: Vec<u8> = (0..160_u32).map(|at| (at * 97 % 251) as u8).collect();
        let (luma, chroma) = row.split_at(80);
        let yuyv: Vec<u8> =
            (0..160).map(|at| if at % 2 == 0 { luma[at / 2] } else { chroma[at / 4 * 2 + at / 2 % 2] }).collect();
        for x in 0..80 {
            for width in 1..=80 - x {
                let expected: Vec<u8> =
                    (x..x + width).flat_map(|x| plain([luma[x], chroma[x / 2 * 2], chroma[x / 2 * 2 + 1]])).collect();
                let mut to = vec![0; width * 3];
                nv12_rgb(luma, chroma, x, &mut to);
                assert_eq!(to, expected, "NV12, {width} from {x}");
                to.fill(0);
                yuyv_rgb(&yuyv, x, &mut to);
                assert_eq!(to, expected, "YUYV, {width} from {x}");
            }
        }
    }
}
