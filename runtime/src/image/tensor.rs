//! Converts colours, normalises and lays out 8-bit pixels as a tensor.
//!
//! A pixel has 256 values, so each element is one look-up in a table of its channel: exact, the same for all element
//! types, and rebuilt only when the operation changes.

use half::f16;
use sanderling_guest::image::{Color, Element, ImageOp, Layout};

use super::rows::Row;

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
    /// Makes the tables for `op`, where they are made for another one.
    pub(super) fn set(&mut self, op: &ImageOp) {
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

    /// Writes row `y` of the tensor of `op`, for which the tables are set.
    pub(super) fn write(&self, row: Row<'_>, op: &ImageOp, y: usize, out: &mut [u8]) {
        let channels = match (row, op.color) {
            (Row::Gray(gray), _) => [gray; 3],
            (Row::Colors([red, green, blue]), Color::Bgr) => [blue, green, red],
            (Row::Colors(colors), _) => colors,
        };
        match op.element {
            Element::F32 => write::<4>(channels, op, y, &self.channels, out),
            Element::F16 => write::<2>(channels, op, y, &self.channels, out),
            Element::U8 | Element::I8 => write::<1>(channels, op, y, &self.channels, out),
        }
    }
}

fn write<const N: usize>(channels: [&[u8]; 3], op: &ImageOp, y: usize, tables: &[Table; 3], out: &mut [u8]) {
    let (width, height) = (op.width as usize, op.height as usize);
    if op.layout == Layout::Nhwc && op.channels() == 3 {
        let row = out.get_mut(y * width * 3 * N..(y + 1) * width * 3 * N).unwrap_or_default();
        return interleave::<N>(row, tables, channels);
    }
    let planes = out.chunks_exact_mut(width * height * N);
    for ((plane, table), values) in planes.zip(tables).zip(channels) {
        fill::<N>(plane.get_mut(y * width * N..(y + 1) * width * N).unwrap_or_default(), table, values);
    }
}

fn fill<const N: usize>(out: &mut [u8], table: &Table, values: &[u8]) {
    for (to, value) in out.as_chunks_mut::<N>().0.iter_mut().zip(values) {
        *to = look_up(table, *value);
    }
}

fn interleave<const N: usize>(out: &mut [u8], [a, b, c]: &[Table; 3], [first, second, third]: [&[u8]; 3]) {
    let pixels = out.as_chunks_mut::<N>().0.as_chunks_mut::<3>().0.iter_mut();
    for (((to, first), second), third) in pixels.zip(first).zip(second).zip(third) {
        *to = [look_up(a, *first), look_up(b, *second), look_up(c, *third)];
    }
}

fn look_up<const N: usize>(table: &Table, value: u8) -> [u8; N] {
    let entry = table[usize::from(value)];
    std::array::from_fn(|at| entry.get(at).copied().unwrap_or_default())
}
