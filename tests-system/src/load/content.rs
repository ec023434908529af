//! Bytes that are known by a formula, so that any range of any file can be checked without a copy.

/// The word at `index` of the content with this seed.
fn word(seed: u64, index: u64) -> [u8; 8] {
    // The finaliser of SplitMix64 over a counter.
    let mut z = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).to_le_bytes()
}

/// The bytes from `offset` on, `len` of them.
pub fn bytes(seed: u64, offset: u64, len: usize) -> Vec<u8> {
    let skip = (offset % 8) as usize;
    let mut out = Vec::with_capacity(len + 16);
    let mut index = offset / 8;
    while out.len() < skip + len {
        out.extend_from_slice(&word(seed, index));
        index += 1;
    }
    out.drain(..skip);
    out.truncate(len);
    out
}

/// Where these bytes, which were read at `offset`, are wrong.
pub fn first_wrong(seed: u64, offset: u64, read: &[u8]) -> Option<u64> {
    let expected = bytes(seed, offset, read.len());
    if expected == read {
        return None;
    }
    let wrong = expected.iter().zip(read).position(|(a, b)| a != b);
    wrong.map(|position| offset + position as u64)
}

#[cfg(test)]
mod tests {
    use super::{bytes, first_wrong};

    #[test]
    fn a_range_is_part_of_the_whole() {
        let whole = bytes(7, 0, 100);
        for offset in 0..60 {
            assert_eq!(
                bytes(7, offset, 33),
                whole[offset as usize..offset as usize + 33]
            );
        }
        assert_ne!(bytes(8, 0, 100), whole);
    }

    #[test]
    fn a_changed_byte_is_found() {
        let mut read = bytes(7, 5, 50);
        assert_eq!(first_wrong(7, 5, &read), None);
        read[11] ^= 1;
        assert_eq!(first_wrong(7, 5, &read), Some(16));
    }
}
