//! The ring of frames, while its consumer writes whatever it likes into the memory that both share.

#![allow(unsafe_code, reason = "the ring lies in memory that both ends write")]

use std::ptr::NonNull;

use sanderling_protocol::worker::ring::{Producer, RingError};

/// The ring's memory: its page of counters, and two of data.
const LENGTH: usize = 3 * 4096;
/// What lies before and behind it.
const GUARD: usize = 4096;
const UNTOUCHED: u8 = 0xa5;
const TAIL: usize = 64;

#[repr(C, align(4096))]
struct Memory([u8; GUARD + LENGTH + GUARD]);

/// Steps of nine bytes: what is done, and a number.
///
/// Whatever the consumer writes, the producer neither panics nor writes outside of the ring; it refuses what cannot be, and what it says is in
/// use is never more than there is.
pub fn ring(bytes: &[u8]) {
    let mut memory = Box::new(Memory([UNTOUCHED; GUARD + LENGTH + GUARD]));
    memory.0[GUARD..GUARD + LENGTH].fill(0);
    let base = NonNull::from(&mut memory.0).cast::<u8>();
    // SAFETY: the ring's part of the memory, which outlives the producer; it begins at a page.
    let mut producer = unsafe { Producer::attach(base.add(GUARD), LENGTH) }.expect("a ring");
    for step in bytes.as_chunks::<9>().0 {
        let (what, number) = (step[0], u64::from_le_bytes(std::array::from_fn(|at| step[at + 1])));
        match what % 4 {
            0 | 1 => {
                let content = vec![what; (number % 5000) as usize];
                let pushed = producer.push(&[&content, &[what]]);
                assert!(!matches!(pushed, Err(RingError::Memory { .. })), "{pushed:?}");
            }
            // The consumer's own counter.
            2 => poke(base, TAIL, number),
            // Any place of the ring.
            _ => poke(base, (number as usize % (LENGTH - 8)) & !7, number.rotate_left(17)),
        }
        match producer.used() {
            Ok(used) => assert!(used <= LENGTH - 4096, "{used}"),
            Err(error) => assert_eq!(error, RingError::Corrupt),
        }
    }
    assert!(memory.0[..GUARD].iter().chain(&memory.0[GUARD + LENGTH..]).all(|byte| *byte == UNTOUCHED));
}

/// Writes as the other process does.
fn poke(base: NonNull<u8>, at: usize, number: u64) {
    // SAFETY: within the ring, and aligned to eight bytes; nothing else runs.
    unsafe { base.add(GUARD + at).cast::<u64>().write_volatile(number) };
}
