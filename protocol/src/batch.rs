//! Records of one channel that waited together, in one message: `device/{id}/batch/{module}/{channel}`.
//!
//! A message is the version (one byte, 1), the length of the content (u32, little-endian) and a zstd frame. The content is how many records there are
//! (LEB128), then for each its id, when it was made (Unix milliseconds by the device's clock) and the length of its payload, then the payloads. Id and time are told as
//! the difference to the record before (LEB128, a difference of time zigzag), the length in LEB128: so that like stands beside like, which halves what zstd makes of it. The id tells a
//! record from all others of its device; one that comes again, as QoS 1 allows, has the same id, in whatever batch.
//!
//! Invariants: records are in the order in which they were emitted. One PUBACK is for all of them.
//!
//! Limits: [`MAX_CONTENT`] bytes of content, [`MAX_RECORDS`] records, a window of [`MAX_WINDOW`] bytes. The frame is looked at before
//! it is decompressed, as that of a chunk is (`blob/frame.rs`).

use std::io::Read as _;

use ruzstd::{
    decoding::{BlockDecodingStrategy, FrameDecoder},
    encoding::{CompressionLevel, compress_to_vec},
};

use crate::blob::frame;

/// The level below `device/{id}/` that batches have instead of `data`.
pub const TOPIC: &str = "batch";
/// The content of a batch, before it is compressed, is at most this long, in bytes.
pub const MAX_CONTENT: usize = 64 * 1024;
/// A batch has at most this many records.
pub const MAX_RECORDS: usize = 512;
/// The largest window of its zstd frame, in bytes: that of the encoder here.
pub const MAX_WINDOW: u64 = 128 * 1024;
/// A message is at most this long, in bytes: zstd adds little to what it cannot compress.
pub const MAX_MESSAGE: usize = MAX_CONTENT + 1024;

const VERSION: u8 = 1;
/// A number in LEB128 takes at most this many bytes.
const NUMBER: usize = 10;

/// Why a message is no batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The message is longer than any batch may be.
    #[error("a batch of {0} bytes, at most {MAX_MESSAGE} are read")]
    TooLong(usize),
    /// The message ends within its first five bytes.
    #[error("a batch without its header")]
    CutOff,
    /// The version is not known.
    #[error("version {0} of batches is not known; 1 is read here")]
    UnknownVersion(u8),
    /// It says that it has more content than it may.
    #[error("a batch with {0} bytes of content, at most {MAX_CONTENT} are read")]
    TooMuch(u32),
    /// The compressed content is broken.
    #[error("the batch does not decompress: {0}")]
    Corrupt(String),
    /// There is another length of content than it says.
    #[error("the batch has {found} bytes of content and says {said}")]
    WrongLength {
        /// What it says.
        said: u32,
        /// What there is.
        found: usize,
    },
    /// The content is not records and nothing else.
    #[error("the batch's content ends within a record or goes on behind the last, or has more than {MAX_RECORDS}")]
    Records,
}

/// A record of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRecord {
    /// Its id, of its device alone.
    pub id: u64,
    /// When it was made, Unix milliseconds by the device's clock.
    pub at_ms: i64,
    /// What was emitted.
    pub payload: Vec<u8>,
}

/// Puts a batch together.
#[derive(Clone, Debug, Default)]
pub struct BatchBuilder {
    heads: Vec<u8>,
    payloads: Vec<u8>,
    records: usize,
    last: (u64, i64),
}

impl BatchBuilder {
    /// Adds a record; false where there is no room for it.
    pub fn push(&mut self, id: u64, at_ms: i64, payload: &[u8]) -> bool {
        let most = (self.heads.len() + self.payloads.len() + 4 * NUMBER).saturating_add(payload.len());
        if most > MAX_CONTENT || self.records >= MAX_RECORDS {
            return false;
        }
        let passed = at_ms.wrapping_sub(self.last.1);
        put(&mut self.heads, id.wrapping_sub(self.last.0));
        put(&mut self.heads, (passed.wrapping_shl(1) ^ (passed >> 63)).cast_unsigned());
        put(&mut self.heads, payload.len() as u64);
        self.payloads.extend_from_slice(payload);
        self.last = (id, at_ms);
        self.records += 1;
        true
    }

    /// How many records it has.
    pub fn records(&self) -> usize {
        self.records
    }

    /// The message.
    pub fn finish(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(NUMBER + self.heads.len() + self.payloads.len());
        put(&mut content, self.records as u64);
        content.extend_from_slice(&self.heads);
        content.extend_from_slice(&self.payloads);
        let length = u32::try_from(content.len()).unwrap_or(0);
        let mut message = vec![VERSION];
        message.extend_from_slice(&length.to_le_bytes());
        message.extend(compress_to_vec(content.as_slice(), CompressionLevel::Fastest));
        message
    }
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap_or(0));
}

/// Reads a number.
fn take(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// The records of a message.
///
/// # Errors
/// [`BatchError`].
pub fn decode(message: &[u8]) -> Result<Vec<BatchRecord>, BatchError> {
    if message.len() > MAX_MESSAGE {
        return Err(BatchError::TooLong(message.len()));
    }
    let (version, rest) = message.split_first().ok_or(BatchError::CutOff)?;
    if *version != VERSION {
        return Err(BatchError::UnknownVersion(*version));
    }
    let (length, data) = rest.split_first_chunk().ok_or(BatchError::CutOff)?;
    let length = u32::from_le_bytes(*length);
    if length as usize > MAX_CONTENT {
        return Err(BatchError::TooMuch(length));
    }
    let content = decompress(data, length)?;
    records(&content).ok_or(BatchError::Records)
}

fn records(mut rest: &[u8]) -> Option<Vec<BatchRecord>> {
    let count = usize::try_from(take(&mut rest)?).ok().filter(|count| *count <= MAX_RECORDS)?;
    let (mut heads, mut last) = (Vec::with_capacity(count), (0_u64, 0_i64));
    for _ in 0..count {
        let id = last.0.wrapping_add(take(&mut rest)?);
        let passed = take(&mut rest)?;
        let at_ms = last.1.wrapping_add((passed >> 1).cast_signed() ^ -(passed & 1).cast_signed());
        heads.push((id, at_ms, usize::try_from(take(&mut rest)?).ok()?));
        last = (id, at_ms);
    }
    let mut records = Vec::with_capacity(count);
    for (id, at_ms, length) in heads {
        let (payload, after) = rest.split_at_checked(length)?;
        records.push(BatchRecord { id, at_ms, payload: payload.to_vec() });
        rest = after;
    }
    rest.is_empty().then_some(records)
}

fn decompress(mut data: &[u8], length: u32) -> Result<Vec<u8>, BatchError> {
    let corrupt = |cause: &dyn std::fmt::Display| BatchError::Corrupt(cause.to_string());
    frame::check(data, length, MAX_WINDOW).map_err(|cause| corrupt(&cause))?;
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(MAX_WINDOW);
    decoder.reset(&mut data).map_err(|cause| corrupt(&cause))?;
    let mut content = Vec::new();
    loop {
        // Block by block, so that no more than one block is decompressed past the limit.
        decoder.decode_blocks(&mut data, BlockDecodingStrategy::UptoBlocks(1)).map_err(|cause| corrupt(&cause))?;
        let room = (u64::from(length) + 1).saturating_sub(content.len() as u64);
        (&mut decoder).take(room).read_to_end(&mut content).map_err(|cause| corrupt(&cause))?;
        if content.len() as u64 > u64::from(length) || decoder.is_finished() {
            break;
        }
    }
    if content.len() == length as usize {
        Ok(content)
    } else {
        Err(BatchError::WrongLength { said: length, found: content.len() })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batch(payloads: &[Vec<u8>]) -> (Vec<u8>, Vec<BatchRecord>) {
        let mut builder = BatchBuilder::default();
        let mut records = Vec::new();
        for (id, payload) in (7..).zip(payloads) {
            let at_ms = 1_800_000_000_000 + id as i64 * 200;
            assert!(builder.push(id, at_ms, payload));
            records.push(BatchRecord { id, at_ms, payload: payload.clone() });
        }
        (builder.finish(), records)
    }

    fn json(number: usize) -> Vec<u8> {
        let (score, x) = (number * 7919 % 1000, number * 104_729 % 640);
        format!("{{\"frame\":{number},\"score\":0.{score:03},\"class\":\"scratch\",\"box\":[{x},{},32,32]}}", x / 2)
            .into_bytes()
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_and_records() {
        let mut builder = BatchBuilder::default();
        assert!(!builder.push(1, 0, &vec![0; MAX_CONTENT]));
        assert!(builder.push(u64::MAX, i64::MIN, &vec![0; MAX_CONTENT - 4 * NUMBER]));
        assert!(!builder.push(2, 0, b""));
        assert_eq!(decode(&builder.finish()).unwrap()[0].payload.len(), MAX_CONTENT - 4 * NUMBER);
        let mut builder = BatchBuilder::default();
        assert_eq!((0..1000).filter(|id| builder.push(*id, 0, b"x")).count(), MAX_RECORDS);
        assert_eq!(decode(&builder.finish()).unwrap().len(), MAX_RECORDS);
    }

    #[test]
    fn records_as_modules_emit_them_take_a_fraction() {
        let records: Vec<Vec<u8>> = (0..400).map(json).collect();
        let bytes: usize = records.iter().map(Vec::len).sum();
        let (message, _) = batch(&records);
        let ratio = bytes as f64 / message.len() as f64;
        println!("{bytes} bytes of JSON in {} records became {}", records.len(), message.len());
        assert!(ratio > 4.5, "{bytes} bytes became {}", message.len());
    }

    #[test]
    fn what_does_not_compress_is_not_too_long_for_a_message() {
        use crate::digest::Digest;
        let noise: Vec<u8> = (0..2048_u32).flat_map(|at| *Digest::of(&at.to_be_bytes()).as_bytes()).collect();
        let mut builder = BatchBuilder::default();
        assert!(builder.push(1, 0, &noise[..MAX_CONTENT - 4 * NUMBER]));
        assert!(decode(&builder.finish()).is_ok());
    }

    #[test]
    fn refuses_each_fault_by_name() {
        let (message, _) = batch(&[b"one".to_vec(), b"two".to_vec()]);
        let changed = |at: usize, to: u8| {
            let mut changed = message.clone();
            changed[at] = to;
            decode(&changed)
        };
        assert_eq!(decode(&vec![1; MAX_MESSAGE + 1]), Err(BatchError::TooLong(MAX_MESSAGE + 1)));
        assert_eq!(decode(b""), Err(BatchError::CutOff));
        assert_eq!(decode(&message[..4]), Err(BatchError::CutOff));
        assert_eq!(changed(0, 2), Err(BatchError::UnknownVersion(2)));
        let length = message[1];
        assert_eq!(changed(4, 1), Err(BatchError::TooMuch(u32::from(length) | 1 << 24)));
        let (said, found) = (length + 1, usize::from(length));
        assert_eq!(changed(1, said), Err(BatchError::WrongLength { said: said.into(), found }));
        assert!(matches!(changed(1, length - 1), Err(BatchError::Corrupt(_))));
        assert!(matches!(decode(&message[..message.len() - 1]), Err(BatchError::Corrupt(_))));
        assert!(matches!(decode(&[&message[..], b"x"].concat()), Err(BatchError::Corrupt(_))));
        // A record that is cut off, one too few, more than there may be, and a number without end.
        for content in [&[1, 7, 0, 3, b'a'][..], &[1, 7, 0, 1, b'a', b'b'], &[0x81, 4], &[0xff; 12]] {
            let data = compress_to_vec(content, CompressionLevel::Fastest);
            let header = [VERSION, u8::try_from(content.len()).unwrap(), 0, 0, 0];
            assert_eq!(decode(&[&header, &data[..]].concat()), Err(BatchError::Records), "{content:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_put_together_is_read(payloads in proptest::collection::vec(any::<Vec<u8>>(), 0..40)) {
            let (message, records) = batch(&payloads);
            prop_assert_eq!(decode(&message), Ok(records));
        }

        #[test]
        fn a_mutated_batch_is_read_or_refused(
            flips in proptest::collection::vec((any::<proptest::sample::Index>(), 1..=255_u8), 1..6),
            cut in any::<proptest::sample::Index>(),
        ) {
            let (mut message, _) = batch(&(0..50).map(json).collect::<Vec<_>>());
            for (at, flip) in flips {
                let at = at.index(message.len());
                message[at] ^= flip;
            }
            let _ = decode(&message);
            message.truncate(cut.index(message.len()));
            let _ = decode(&message);
        }
    }
}
