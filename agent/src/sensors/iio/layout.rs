//! How the samples of an IIO buffer lie in memory.
//!
//! A scan is one sample of each channel that is enabled, in the order of their indexes. Each element is aligned to its own size, and
//! the scan to that of its largest element, as `iio_compute_scan_bytes` of the kernel has it.

use thiserror::Error;

/// More elements than any repeated channel has.
const MOST_REPEATED: u32 = 16;

/// Why a scan cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum LayoutError {
    /// A type that the kernel's documents do not have.
    #[error("the type {0:?} of a scan element; known are such as \"le:s12/16>>4\", of 8, 16, 32 or 64 bits of storage")]
    Type(String),
    /// Raw samples that fit in no format of a frame.
    #[error("raw samples of {0} bits do not fit in 32; set `raw = false`")]
    Wide(u32),
}

/// The type of a scan element: `[be|le]:[s|u]bits/storage[Xrepeat]>>shift`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ElementType {
    big_endian: bool,
    signed: bool,
    bits: u32,
    /// Bytes of one element: 1, 2, 4 or 8.
    bytes: usize,
    /// How many elements lie one behind the other.
    pub(super) repeat: u32,
    shift: u32,
}

impl ElementType {
    /// Reads what a `*_type` file says.
    pub(super) fn parse(text: &str) -> Result<Self, LayoutError> {
        Self::read(text).ok_or_else(|| LayoutError::Type(text.chars().take(32).collect()))
    }

    fn read(text: &str) -> Option<Self> {
        let (big_endian, rest) = match text.split_once(':')? {
            ("be", rest) => (true, rest),
            ("le", rest) => (false, rest),
            _ => return None,
        };
        let (signed, rest) = match rest.split_at_checked(1)? {
            ("s", rest) => (true, rest),
            ("u", rest) => (false, rest),
            _ => return None,
        };
        let (bits, rest) = rest.split_once('/')?;
        let (storage, shift) = rest.split_once(">>").unwrap_or((rest, "0"));
        let (storage, repeat) = storage.split_once('X').unwrap_or((storage, "1"));
        let (bits, storage, repeat, shift) = (number(bits)?, number(storage)?, number(repeat)?, number(shift)?);
        let whole = matches!(storage, 8 | 16 | 32 | 64) && bits >= 1 && shift + bits <= storage;
        // The kernel aligns an element to its size with what works for powers of two alone.
        let repeats = (1..=MOST_REPEATED).contains(&repeat) && repeat.is_power_of_two();
        (whole && repeats).then_some(Self { big_endian, signed, bits, bytes: storage as usize / 8, repeat, shift })
    }

    /// The elements of one sample, in bytes.
    fn size(self) -> usize {
        self.bytes * self.repeat as usize
    }

    /// The sample in the `bytes` of one element.
    fn sample(self, bytes: &[u8]) -> i64 {
        let append = |value: u64, byte: &u8| (value << 8) | u64::from(*byte);
        let value = if self.big_endian { bytes.iter().fold(0, append) } else { bytes.iter().rev().fold(0, append) };
        // The sample to the upper end, what is beside it out, and back, with its sign where it has one.
        let unused = 64 - self.bits.min(64);
        let upper = (value >> self.shift) << unused;
        if self.signed { upper.cast_signed() >> unused } else { (upper >> unused).cast_signed() }
    }

    /// How many bits a signed number needs for each sample.
    fn signed_bits(self) -> u32 {
        self.bits + u32::from(!self.signed)
    }
}

fn number(text: &str) -> Option<u32> {
    // No sign, no white space, nothing that would overflow a sum.
    (text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// A channel of a scan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Element {
    pub(super) kind: ElementType,
    /// A value is `(sample + offset) * scale`.
    pub(super) scale: f64,
    pub(super) offset: f64,
}

/// What samples become in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    F32,
    I16,
    I32,
}

impl Output {
    /// Bytes of one sample.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::I16 => 2,
            Self::F32 | Self::I32 => 4,
        }
    }
}

/// The layout of a scan.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layout {
    elements: Vec<(usize, Element)>,
    timestamp: Option<(usize, ElementType)>,
    /// Bytes of one scan.
    pub(super) bytes: usize,
    /// Channels of a frame: a repeated element is several.
    pub(super) channels: usize,
    pub(super) output: Output,
}

impl Layout {
    /// Of elements in the order of their indexes, with the timestamp, where it is enabled, behind them.
    pub(super) fn new(elements: &[Element], timestamp: Option<ElementType>, raw: bool) -> Result<Self, LayoutError> {
        let mut end = 0_usize;
        let mut largest = 1;
        let mut place = |kind: ElementType| {
            let start = end.next_multiple_of(kind.size().max(1));
            end = start + kind.size();
            largest = largest.max(kind.size());
            start
        };
        let elements: Vec<_> = elements.iter().map(|element| (place(element.kind), *element)).collect();
        let timestamp = timestamp.map(|kind| (place(kind), kind));
        let widest = elements.iter().map(|(_, element)| element.kind.signed_bits()).max().unwrap_or(0);
        let output = match (raw, widest) {
            (false, _) => Output::F32,
            (true, ..=16) => Output::I16,
            (true, 17..=32) => Output::I32,
            (true, _) => return Err(LayoutError::Wide(widest)),
        };
        let channels = elements.iter().map(|(_, element)| element.kind.repeat as usize).sum();
        Ok(Self { bytes: end.next_multiple_of(largest), channels, output, elements, timestamp })
    }

    /// Bytes of one sample of each channel in a frame.
    pub(super) fn row(&self) -> usize {
        self.channels * self.output.bytes()
    }

    /// Writes the samples of a scan to the row of a frame.
    pub(super) fn decode(&self, scan: &[u8], row: &mut [u8]) {
        let mut places = row.chunks_exact_mut(self.output.bytes());
        for (start, element) in &self.elements {
            let elements = scan.get(*start..).unwrap_or_default().chunks_exact(element.kind.bytes);
            for (bytes, place) in elements.take(element.kind.repeat as usize).zip(&mut places) {
                let sample = element.kind.sample(bytes);
                match self.output {
                    Output::F32 => {
                        let value = (sample as f64 + element.offset) * element.scale;
                        place.copy_from_slice(&(value as f32).to_le_bytes());
                    }
                    // The layout was checked to have no sample that does not fit.
                    Output::I16 => place.copy_from_slice(&i16::try_from(sample).unwrap_or(0).to_le_bytes()),
                    Output::I32 => place.copy_from_slice(&i32::try_from(sample).unwrap_or(0).to_le_bytes()),
                }
            }
        }
    }

    /// When a scan was taken, in nanoseconds of the clock that the device is set to.
    pub(super) fn timestamp(&self, scan: &[u8]) -> Option<i64> {
        let (start, kind) = self.timestamp?;
        Some(kind.sample(scan.get(start..start + kind.bytes)?))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn element(kind: &str) -> Element {
        Element { kind: ElementType::parse(kind).unwrap(), scale: 1.0, offset: 0.0 }
    }

    #[test]
    fn types_are_read_as_the_kernel_writes_them() {
        let kind = ElementType::parse("le:s12/16>>4").unwrap();
        let expected = ElementType { big_endian: false, signed: true, bits: 12, bytes: 2, repeat: 1, shift: 4 };
        assert_eq!(kind, expected);
        let kind = ElementType::parse("be:u24/32X4>>8").unwrap();
        assert_eq!(kind, ElementType { big_endian: true, signed: false, bits: 24, bytes: 4, repeat: 4, shift: 8 });
        assert_eq!(ElementType::parse("le:s64/64").unwrap().bits, 64);
        for bad in [
            "",
            "le",
            "le:",
            "le:s",
            "le:s12",
            "le:s12/",
            "xe:s12/16>>4",
            "le:x12/16>>4",
            "le:s12/24>>4",
            "le:s12/16>>5",
            "le:s0/16>>0",
            "le:s17/16>>0",
            "le:s12/16X3>>0",
            "le:s12/16X0>>0",
            "le:s12/16X32>>0",
            "le:s12/16>>",
            "le:s+2/16>>0",
            "le:s 2/16>>0",
            "le:s12/16>>4 ",
            "le:s12/16>>99999999999",
            "le:ß12/16>>4",
        ] {
            assert!(matches!(ElementType::parse(bad), Err(LayoutError::Type(_))), "{bad:?}");
        }
    }

    #[test]
    fn samples_are_shifted_masked_and_extended_by_their_sign() {
        let sample = |kind: &str, bytes: &[u8]| ElementType::parse(kind).unwrap().sample(bytes);
        assert_eq!(sample("le:s12/16>>4", &[0x0f, 0x80]), -2048);
        assert_eq!(sample("le:s12/16>>4", &[0xff, 0x7f]), 2047);
        assert_eq!(sample("be:s12/16>>4", &[0xff, 0xf0]), -1);
        assert_eq!(sample("be:u10/16>>0", &[0xff, 0xff]), 1023);
        assert_eq!(sample("le:u8/8>>0", &[200]), 200);
        assert_eq!(sample("be:s24/32>>8", &[0x80, 0, 0, 0xff]), -(1 << 23));
        assert_eq!(sample("le:s64/64>>0", &i64::MIN.to_le_bytes()), i64::MIN);
    }

    #[test]
    fn elements_are_aligned_to_their_size_and_the_scan_to_its_largest() {
        let three = [element("le:s16/16>>0"), element("le:s16/16>>0"), element("le:s16/16>>0")];
        let time = ElementType::parse("le:s64/64>>0").unwrap();
        assert_eq!(Layout::new(&three, None, false).unwrap().bytes, 6);
        let layout = Layout::new(&three, Some(time), false).unwrap();
        assert_eq!((layout.bytes, layout.timestamp.unwrap().0), (16, 8));
        let mixed = [element("le:u8/8>>0"), element("le:s32/32>>0"), element("le:u8/8>>0")];
        let layout = Layout::new(&mixed, None, false).unwrap();
        assert_eq!(layout.elements.iter().map(|(start, _)| *start).collect::<Vec<_>>(), [0, 4, 8]);
        assert_eq!(layout.bytes, 12);
        let quaternion = [element("le:s16/16X4>>0"), element("le:u8/8>>0")];
        let layout = Layout::new(&quaternion, None, true).unwrap();
        assert_eq!((layout.bytes, layout.channels, layout.output), (16, 5, Output::I16));
    }

    #[test]
    fn a_scan_is_decoded_byte_by_byte() {
        let scaled = Element { scale: 0.5, offset: 10.0, ..element("be:s16/16>>0") };
        let time = ElementType::parse("le:s64/64>>0").unwrap();
        let layout = Layout::new(&[scaled, element("le:u12/16>>4")], Some(time), false).unwrap();
        let mut scan = vec![0xff, 0xf6, 0xf0, 0xff, 0xaa, 0xaa, 0xaa, 0xaa];
        scan.extend_from_slice(&1_700_000_000_000_000_001_i64.to_le_bytes());
        let mut row = [0; 8];
        layout.decode(&scan, &mut row);
        assert_eq!(row, [0.0_f32.to_le_bytes(), 4095.0_f32.to_le_bytes()].concat()[..]);
        assert_eq!(layout.timestamp(&scan), Some(1_700_000_000_000_000_001));
        let raw = Layout::new(&[element("be:s16/16>>0"), element("le:u16/16>>0")], None, true).unwrap();
        assert_eq!(raw.output, Output::I32);
        raw.decode(&[0xff, 0xfe, 0xff, 0xff], &mut row);
        assert_eq!(row, [(-2_i32).to_le_bytes(), 65_535_i32.to_le_bytes()].concat()[..]);
        assert_eq!(Layout::new(&[element("le:u32/32>>0")], None, true), Err(LayoutError::Wide(33)));
    }

    proptest! {
        #[test]
        fn whatever_a_type_says_is_refused_or_decoded_within_its_bits(text in "(le|be|[a-z]{0,2}):?[sux]?[0-9]{0,3}/?[0-9]{0,3}(X[0-9]{0,2})?(>>[0-9]{0,3})?", bytes in any::<[u8; 8]>()) {
            if let Ok(kind) = ElementType::parse(&text) {
                let sample = kind.sample(&bytes[..kind.bytes]);
                let bits = i128::from(sample);
                let (low, high) = if kind.signed {
                    (-(1_i128 << (kind.bits - 1)), (1_i128 << (kind.bits - 1)) - 1)
                } else {
                    (0, (1_i128 << kind.bits) - 1)
                };
                // The upper half of unsigned 64 bits is the one thing that wraps.
                prop_assert!((low..=high).contains(&bits) || (!kind.signed && kind.bits == 64));
            }
        }

        #[test]
        fn what_the_kernel_writes_is_read_back(value in any::<i64>(), bits in 0_u32..64, storage in prop::sample::select(vec![8_u32, 16, 32, 64]), shift in 0_u32..64, signed in any::<bool>(), big in any::<bool>(), noise in any::<u64>()) {
            let bits = 1 + bits % storage;
            let shift = shift % (storage - bits + 1);
            let (order, sign) = (if big { "be" } else { "le" }, if signed { 's' } else { 'u' });
            let kind = ElementType::parse(&format!("{order}:{sign}{bits}/{storage}>>{shift}")).unwrap();
            let mask = u64::MAX >> (64 - bits);
            let stored = ((value.cast_unsigned() & mask) << shift) | (noise & !(mask << shift));
            let le = stored.to_le_bytes();
            let mut bytes = le[..storage as usize / 8].to_vec();
            if big {
                bytes.reverse();
            }
            let expected = if signed { (value << (64 - bits)) >> (64 - bits) } else { (value.cast_unsigned() & mask).cast_signed() };
            prop_assert_eq!(kind.sample(&bytes), expected);
        }

        #[test]
        fn a_scan_of_any_length_is_decoded_without_harm(scan in prop::collection::vec(any::<u8>(), 0..40), row in 0_usize..40) {
            let layout = Layout::new(&[element("be:s16/16X4>>0"), element("le:s32/32>>0")], None, false).unwrap();
            layout.decode(&scan, &mut vec![0; row]);
            let _ = layout.timestamp(&scan);
        }
    }
}
