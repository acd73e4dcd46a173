//! A digest of a guest's state, to compare two ends with; not one that withstands an attacker.

/// Taken over memories and globals in their order.
#[derive(Clone, Debug)]
pub struct StateDigest([u64; 4]);

impl Default for StateDigest {
    fn default() -> Self {
        Self([1, 2, 3, 4])
    }
}

impl StateDigest {
    /// Takes a memory in.
    pub fn memory(&mut self, bytes: &[u8]) {
        self.mix([bytes.len() as u64, 0, 0, 0]);
        // Always whole, since a memory is made of pages.
        for chunk in bytes.as_chunks::<32>().0 {
            let mut words = [0; 4];
            for (word, bytes) in words.iter_mut().zip(chunk.as_chunks::<8>().0) {
                *word = u64::from_le_bytes(*bytes);
            }
            self.mix(words);
        }
    }

    /// Takes a global in that can change.
    pub fn global(&mut self, index: u32, bits: u128) {
        // The halves of 128 bits.
        self.mix([u64::from(index), (bits >> 64) as u64, bits as u64, 0]);
    }

    /// The digest of all that was taken in.
    pub fn finish(self) -> u64 {
        let [a, b, c, d] = self.0;
        let mut last = Self([a, 0, 0, 0]);
        for lane in [b, c, d] {
            last.mix([lane, 0, 0, 0]);
        }
        last.0[0]
    }

    /// One round of FNV-1a over words, in four lanes.
    fn mix(&mut self, words: [u64; 4]) {
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        for (lane, word) in self.0.iter_mut().zip(words) {
            *lane = (*lane ^ word).wrapping_mul(PRIME).rotate_left(29);
        }
    }
}
