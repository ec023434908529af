//! A Bloom filter: tells for most objects that an index does not have them,
//! without reading a page of it.

use super::entry::{Key, Kind};

const BITS_PER_ENTRY: u64 = 8;
const PROBES: u64 = 4;

/// Bits in words of 64; bit `i` is bit `i % 64` of word `i / 64`.
#[derive(Debug)]
pub(super) struct Filter(Box<[u64]>);

impl Filter {
    /// An empty filter for up to `entries` entries.
    pub(super) fn for_entries(entries: u64) -> Self {
        let words = entries.saturating_mul(BITS_PER_ENTRY).div_ceil(64).max(1);
        Self(vec![0; words as usize].into())
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let (words, _) = bytes.as_chunks::<8>();
        Self(words.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    pub(super) fn insert(&mut self, kind: Kind, key: &Key) {
        for (word, mask) in probes(self.0.len(), kind, key) {
            self.0[word] |= mask;
        }
    }

    /// False only if the object was never inserted.
    pub(super) fn may_have(&self, kind: Kind, key: &Key) -> bool {
        self.0.is_empty()
            || probes(self.0.len(), kind, key).all(|(word, mask)| self.0[word] & mask != 0)
    }
}

/// The bits of an object. Keys are hashes, so that their own bytes serve: with
/// `a` and `b` the first two numbers of 64 bits, `a` changed by the kind, they
/// are, scaled to the size of the filter, `a`, `a + b`, `a + 2b`, `a + 3b`.
fn probes(words: usize, kind: Kind, key: &Key) -> impl Iterator<Item = (usize, u64)> + use<> {
    let number = |at: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&key[at..at + 8]);
        u64::from_le_bytes(number)
    };
    let (a, b) = (number(0) ^ ((kind as u64) << 32), number(8));
    let bits = words as u128 * 64;
    (0..PROBES).map(move |i| {
        let hash = a.wrapping_add(b.wrapping_mul(i));
        let bit = ((u128::from(hash) * bits) >> 64) as usize;
        (bit / 64, 1 << (bit % 64))
    })
}
