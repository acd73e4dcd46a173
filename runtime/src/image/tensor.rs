//! Converts colours, normalises and lays out 8-bit pixels as a tensor.
//!
//! A pixel has 256 values, so each element is one look-up in a table of its channel: exact, the same for all element
//! types, and rebuilt only when the operation changes.

use half::f16;
use sanderling_guest::image::{Color, Element, ImageOp, Layout};

use super::{luma, source::Working};

/// The bytes of an element for each value of a pixel; the first ones count where an element is shorter than four.
type Table = [[u8; 4]; 256];

/// The tables of the last operation.
pub(super) struct Tables {
    made_for: Option<(Element, [f32; 3], [f32; 3])>,
    channels: Box<[Table; 3]>,
}

impl Default for Tables {
    fn default() -> Self {
        Self { made_for: None, channels: Box::new([[[0; 4]; 256]; 3]) }
    }
}

impl Tables {
    /// Writes `pixels` as the tensor of `op`.
    pub(super) fn write(&mut self, pixels: &[u8], working: Working, op: &ImageOp, out: &mut [u8]) {
        self.make(op);
        match op.element {
            Element::F32 => write::<4>(pixels, working, op, &self.channels, out),
            Element::F16 => write::<2>(pixels, working, op, &self.channels, out),
            Element::U8 | Element::I8 => write::<1>(pixels, working, op, &self.channels, out),
        }
    }

    fn make(&mut self, op: &ImageOp) {
        let wanted = (op.element, op.mean, op.scale);
        if self.made_for == Some(wanted) {
            return;
        }
        for ((table, mean), scale) in self.channels.iter_mut().zip(op.mean).zip(op.scale) {
            for (entry, value) in table.iter_mut().zip(0_u8..=255) {
                let normal = (f32::from(value) / 255.0 - mean) * scale;
                *entry = match op.element {
                    Element::F32 => normal.to_le_bytes(),
                    Element::F16 => {
                        let [low, high] = f16::from_f32(normal).to_le_bytes();
                        [low, high, 0, 0]
                    }
                    Element::U8 => [value, 0, 0, 0],
                    // Minus 128 in two's complement.
                    Element::I8 => [value ^ 0x80, 0, 0, 0],
                };
            }
        }
        self.made_for = Some(wanted);
    }
}

fn write<const N: usize>(pixels: &[u8], working: Working, op: &ImageOp, tables: &[Table; 3], out: &mut [u8]) {
    let [first, second, third] = tables;
    let colors = || pixels.as_chunks::<3>().0.iter();
    // In what place of a pixel the tensor's first channel stands, of red and blue.
    let turned = matches!((working, op.color), (Working::Rgb, Color::Bgr) | (Working::Bgr, Color::Rgb));
    match (working, op.color, op.layout) {
        (Working::Gray, Color::Gray, _) => fill::<N>(out, first, pixels.iter().copied()),
        (Working::Rgb, Color::Gray, _) => fill::<N>(out, first, colors().map(|[r, g, b]| luma(*r, *g, *b))),
        (Working::Bgr, Color::Gray, _) => fill::<N>(out, first, colors().map(|[b, g, r]| luma(*r, *g, *b))),
        (Working::Gray, _, Layout::Nchw) => {
            for (plane, table) in out.chunks_exact_mut(pixels.len() * N).zip(tables) {
                fill::<N>(plane, table, pixels.iter().copied());
            }
        }
        (_, _, Layout::Nchw) => {
            let mut planes = out.chunks_exact_mut(pixels.len() / 3 * N);
            let mut next = || planes.next().unwrap_or_default();
            fill::<N>(next(), first, colors().map(|[a, _, c]| if turned { *c } else { *a }));
            fill::<N>(next(), second, colors().map(|[_, b, _]| *b));
            fill::<N>(next(), third, colors().map(|[a, _, c]| if turned { *a } else { *c }));
        }
        (Working::Gray, _, Layout::Nhwc) => interleave::<N>(out, tables, pixels.iter().map(|value| [*value; 3])),
        (_, _, Layout::Nhwc) if turned => interleave::<N>(out, tables, colors().map(|[a, b, c]| [*c, *b, *a])),
        (_, _, Layout::Nhwc) => interleave::<N>(out, tables, colors().copied()),
    }
}

fn fill<const N: usize>(out: &mut [u8], table: &Table, values: impl Iterator<Item = u8>) {
    for (to, value) in out.as_chunks_mut::<N>().0.iter_mut().zip(values) {
        *to = look_up(table, value);
    }
}

fn interleave<const N: usize>(out: &mut [u8], tables: &[Table; 3], pixels: impl Iterator<Item = [u8; 3]>) {
    for (triple, pixel) in out.as_chunks_mut::<N>().0.as_chunks_mut::<3>().0.iter_mut().zip(pixels) {
        for ((to, table), value) in triple.iter_mut().zip(tables).zip(pixel) {
            *to = look_up(table, value);
        }
    }
}

fn look_up<const N: usize>(table: &Table, value: u8) -> [u8; N] {
    let entry = table[usize::from(value)];
    std::array::from_fn(|at| entry.get(at).copied().unwrap_or_default())
}
