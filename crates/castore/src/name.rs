use std::fmt;

use bytes::Bytes;

/// A valid name of a directory entry: not empty, at most 255 bytes, neither
/// `.` nor `..`, without `/` and NUL. Not necessarily UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathComponent(Bytes);

impl PathComponent {
    /// The longest name, in bytes: NAME_MAX of Linux.
    pub const MAX_LEN: usize = 255;

    /// The bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes of the name, shared.
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }

    fn check(name: &[u8]) -> Result<(), PathComponentError> {
        if name.is_empty() {
            Err(PathComponentError::Empty)
        } else if name.len() > Self::MAX_LEN {
            Err(PathComponentError::TooLong(name.len()))
        } else if name == b"." || name == b".." {
            Err(PathComponentError::Reserved)
        } else if name.iter().any(|&byte| byte == b'/' || byte == 0) {
            Err(PathComponentError::Separator(
                String::from_utf8_lossy(name).into_owned(),
            ))
        } else {
            Ok(())
        }
    }
}

impl TryFrom<Bytes> for PathComponent {
    type Error = PathComponentError;

    fn try_from(name: Bytes) -> Result<Self, PathComponentError> {
        Self::check(&name)?;
        Ok(Self(name))
    }
}

impl TryFrom<&[u8]> for PathComponent {
    type Error = PathComponentError;

    fn try_from(name: &[u8]) -> Result<Self, PathComponentError> {
        Self::check(name)?;
        Ok(Self(Bytes::copy_from_slice(name)))
    }
}

impl TryFrom<&str> for PathComponent {
    type Error = PathComponentError;

    fn try_from(name: &str) -> Result<Self, PathComponentError> {
        name.as_bytes().try_into()
    }
}

impl AsRef<[u8]> for PathComponent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl std::borrow::Borrow<[u8]> for PathComponent {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// The name with bytes that are not printable ASCII or UTF-8 escaped.
impl fmt::Display for PathComponent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) if !text.chars().any(char::is_control) => f.write_str(text),
            _ => write!(f, "{}", self.0.escape_ascii()),
        }
    }
}

impl fmt::Debug for PathComponent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// Why bytes are no [`PathComponent`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathComponentError {
    /// The name is empty.
    #[error("an entry's name is empty")]
    Empty,
    /// The name is longer than [`PathComponent::MAX_LEN`].
    #[error("an entry's name has {0} bytes, more than the 255 that Linux allows")]
    TooLong(usize),
    /// The name is `.` or `..`.
    #[error("an entry's name is '.' or '..'")]
    Reserved,
    /// The name has a slash or a NUL byte.
    #[error("the entry's name {0:?} has a '/' or a NUL byte")]
    Separator(String),
}

#[cfg(test)]
mod tests;
