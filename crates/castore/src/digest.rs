use std::{fmt, str::FromStr};

/// The BLAKE3 hash (32 bytes) that names a blob or a directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; Digest::LEN]);

impl Digest {
    /// Length of a digest in bytes.
    pub const LEN: usize = 32;

    /// The digest with these bytes.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The digest of `content`.
    pub fn of(content: &[u8]) -> Self {
        blake3::hash(content).into()
    }

    /// The bytes of the digest.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl TryFrom<&[u8]> for Digest {
    type Error = DigestParseError;

    fn try_from(bytes: &[u8]) -> Result<Self, DigestParseError> {
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| DigestParseError::Length(bytes.len()))
    }
}

/// Lower-case hexadecimal.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = DigestParseError;

    fn from_str(hex: &str) -> Result<Self, DigestParseError> {
        blake3::Hash::from_hex(hex)
            .map(Self::from)
            .map_err(|_| DigestParseError::Hex(hex.to_owned()))
    }
}

/// Why bytes or text are no [`Digest`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestParseError {
    /// A digest has 32 bytes.
    #[error("a digest has 32 bytes, not {0}")]
    Length(usize),
    /// The text form is 64 hexadecimal digits.
    #[error("a digest is written as 64 hexadecimal digits, not {0:?}")]
    Hex(String),
}

#[cfg(test)]
mod tests;
