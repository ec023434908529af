//! Nix's base 32: the alphabet without `e`, `o`, `u` and `t`, most significant digit first over the bytes
//! in little-endian order.
//!
//! Source: `printHash32` and the base-32 branch of `Hash::Hash` in `src/libutil/hash.cc`.

/// The 32 digits in the order of their values, which is also their ASCII order.
pub const ALPHABET: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// Why a text is not nixbase32.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A byte outside [`ALPHABET`].
    #[error("nixbase32 has the illegal character '{}' at position {position}", .byte.escape_ascii())]
    Character {
        /// The byte found.
        byte: u8,
        /// Its index in the text.
        position: usize,
    },
    /// No number of bytes encodes to this many digits, or not the number that was asked for.
    #[error("nixbase32 text is {found} characters long{}", expected_suffix(*.expected))]
    Length {
        /// The text's length.
        found: usize,
        /// The length it should have had, where that is known.
        expected: Option<usize>,
    },
    /// The leading digit sets bits beyond the last byte, so another text decodes to the same bytes.
    #[error("nixbase32 text is not canonical: its first character sets bits beyond the value")]
    NonCanonical,
}

fn expected_suffix(expected: Option<usize>) -> String {
    match expected {
        Some(expected) => format!(" instead of {expected}"),
        None => ", which no value encodes to".to_owned(),
    }
}

/// The number of digits that `bytes` bytes encode to.
pub const fn encoded_len(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

/// Encodes bytes.
pub fn encode(bytes: &[u8]) -> String {
    (0..encoded_len(bytes.len()))
        .rev()
        .map(|digit| {
            let (index, shift) = (digit * 5 / 8, digit * 5 % 8);
            let low = bytes.get(index).copied().unwrap_or(0);
            let high = bytes.get(index + 1).copied().unwrap_or(0);
            let value = (u16::from_le_bytes([low, high]) >> shift) & 0x1f;
            char::from(ALPHABET[usize::from(value)])
        })
        .collect()
}

/// Decodes a text, refusing every one that [`encode`] would not have made.
pub fn decode(text: impl AsRef<[u8]>) -> Result<Vec<u8>, Error> {
    let text = text.as_ref();
    let len = text.len() * 5 / 8;
    if encoded_len(len) != text.len() {
        return Err(Error::Length {
            found: text.len(),
            expected: None,
        });
    }
    let mut out = vec![0; len];
    decode_into(text, &mut out)?;
    Ok(out)
}

/// Decodes a text into exactly `N` bytes.
pub fn decode_fixed<const N: usize>(text: impl AsRef<[u8]>) -> Result<[u8; N], Error> {
    let text = text.as_ref();
    let expected = encoded_len(N);
    if text.len() != expected {
        return Err(Error::Length {
            found: text.len(),
            expected: Some(expected),
        });
    }
    let mut out = [0; N];
    decode_into(text, &mut out)?;
    Ok(out)
}

/// `out` is all zero and `text` has the length that `out` encodes to.
fn decode_into(text: &[u8], out: &mut [u8]) -> Result<(), Error> {
    for (digit, (position, &byte)) in text.iter().enumerate().rev().enumerate() {
        let value = digit_value(byte).ok_or(Error::Character { byte, position })?;
        let (index, shift) = (digit * 5 / 8, digit * 5 % 8);
        let [low, high] = (u16::from(value) << shift).to_le_bytes();
        for (index, bits) in [(index, low), (index + 1, high)] {
            match out.get_mut(index) {
                Some(byte) => *byte |= bits,
                None if bits == 0 => {}
                None => return Err(Error::NonCanonical),
            }
        }
    }
    Ok(())
}

fn digit_value(byte: u8) -> Option<u8> {
    const INVALID: u8 = 0xff;
    const VALUES: [u8; 256] = {
        let mut table = [INVALID; 256];
        let mut value = 0;
        while value < ALPHABET.len() {
            table[ALPHABET[value] as usize] = value as u8;
            value += 1;
        }
        table
    };
    match VALUES[usize::from(byte)] {
        INVALID => None,
        value => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(encode(&[]), "");
        assert_eq!(encode(&[0x1f]), "0z");
        assert_eq!(encode(&[0xff]), "7z");
        assert_eq!(decode("7z"), Ok(vec![0xff]));
        assert_eq!(
            decode_fixed::<32>("183p8jhjfcpk6kac6hxwp4gzp9brkvkibylz27jfbvgd5kqcq2jy")
                .map(|d| d[..4].to_vec()),
            Ok(vec![0x5e, 0x0a, 0xcc, 0xf0])
        );
    }

    #[test]
    fn refuses_what_encode_does_not_make() {
        assert_eq!(decode("8z"), Err(Error::NonCanonical));
        assert_eq!(decode("zz"), Err(Error::NonCanonical));
        for text in ["e0", "o0", "u0", "t0", "A0", "-0", " 0"] {
            let byte = text.as_bytes()[0];
            assert_eq!(decode(text), Err(Error::Character { byte, position: 0 }));
        }
        for text in ["0", "000", "000000"] {
            assert_eq!(
                decode(text),
                Err(Error::Length {
                    found: text.len(),
                    expected: None
                })
            );
        }
        assert_eq!(
            decode_fixed::<2>("00"),
            Err(Error::Length {
                found: 2,
                expected: Some(4)
            })
        );
    }

    proptest! {
        #[test]
        fn round_trip(bytes: Vec<u8>) {
            prop_assert_eq!(decode(encode(&bytes)), Ok(bytes));
        }

        #[test]
        fn what_decodes_is_canonical(text in "[0-9a-df-np-su-z]{0,60}") {
            if let Ok(bytes) = decode(&text) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }
    }
}
