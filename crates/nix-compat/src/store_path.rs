//! Store paths: `/nix/store/<32 digits of nixbase32>-<name>`.
//!
//! Source: `src/libstore/path.cc` for the syntax, the Nix manual's `protocols/store-path.md` and
//! `src/libstore/store-api.cc` for how paths are [computed](build).
//!
//! Stricter than Nix: absolute paths are not normalised first (`/nix//store/…` is refused), and the
//! character between digest and name must be a dash.

use std::{cmp::Ordering, fmt, str::FromStr};

use crate::nixbase32;

pub mod build;

/// The store directory. It is part of what store paths are hashed from, so another one is another world.
pub const STORE_DIR: &str = "/nix/store";

/// Bytes in a store path's digest.
pub const DIGEST_LEN: usize = 20;

/// The digest's length in a base name.
const DIGEST_TEXT_LEN: usize = nixbase32::encoded_len(DIGEST_LEN);

/// The longest name, in bytes.
pub const NAME_MAX: usize = 211;

/// Why something is not a store path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The absolute path is not directly below [`STORE_DIR`].
    #[error("path '{path}' is not in {STORE_DIR}")]
    NotInStore {
        /// The path, made printable.
        path: String,
    },
    /// There is no `<digest>-` at the start.
    #[error(
        "'{base_name}' is no store path: it does not start with {DIGEST_TEXT_LEN} characters and a dash"
    )]
    NoDigest {
        /// The base name, made printable.
        base_name: String,
    },
    /// The digest is not nixbase32.
    #[error("'{base_name}' is no store path: its digest is invalid")]
    Digest {
        /// The base name, made printable.
        base_name: String,
        /// What is wrong with it.
        source: nixbase32::Error,
    },
    /// The name breaks the rules of [`check_name`].
    #[error("store path name '{name}' is invalid")]
    Name {
        /// The name, made printable.
        name: String,
        /// The rule broken.
        source: NameError,
    },
}

/// The rule that a store path's name breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is empty.
    #[error("it is empty")]
    Empty,
    /// The name is longer than [`NAME_MAX`].
    #[error("it is {0} bytes long, more than {NAME_MAX}")]
    TooLong(usize),
    /// A byte that is not one of `0-9a-zA-Z+-._?=`.
    #[error("it has the illegal character '{}'", .0.escape_ascii())]
    Character(u8),
    /// The name is `.` or `..`, or starts with `.-` or `..-`.
    #[error("its first dash-separated component is '.' or '..'")]
    Dots,
}

/// Checks a store path's name by the rules of Nix 2.26 (`checkName`).
pub fn check_name(name: &[u8]) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > NAME_MAX {
        return Err(NameError::TooLong(name.len()));
    }
    if let Some(b"." | b"..") = name.split(|&b| b == b'-').next() {
        return Err(NameError::Dots);
    }
    match name
        .iter()
        .find(|b| !(b.is_ascii_alphanumeric() || b"+-._?=".contains(b)))
    {
        Some(&byte) => Err(NameError::Character(byte)),
        None => Ok(()),
    }
}

/// A store path, without the store directory. Displayed as its base name, and ordered as base names are,
/// which is the order of references in every format.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StorePath {
    digest: [u8; DIGEST_LEN],
    name: Box<str>,
}

impl StorePath {
    /// Puts a digest and a name together.
    pub fn new(digest: [u8; DIGEST_LEN], name: impl AsRef<[u8]>) -> Result<Self, Error> {
        let name = name.as_ref();
        let invalid = |source| Error::Name {
            name: name.escape_ascii().to_string(),
            source,
        };
        check_name(name).map_err(invalid)?;
        // A checked name is ASCII.
        let name = str::from_utf8(name).map_err(|_| invalid(NameError::Character(0xff)))?;
        Ok(Self {
            digest,
            name: name.into(),
        })
    }

    /// Parses `<digest>-<name>`.
    pub fn from_base_name(base_name: impl AsRef<[u8]>) -> Result<Self, Error> {
        let base_name = base_name.as_ref();
        let printable = || base_name.escape_ascii().to_string();
        let Some((digest, [b'-', name @ ..])) = base_name.split_at_checked(DIGEST_TEXT_LEN) else {
            return Err(Error::NoDigest {
                base_name: printable(),
            });
        };
        let digest = nixbase32::decode_fixed(digest).map_err(|source| Error::Digest {
            base_name: printable(),
            source,
        })?;
        Self::new(digest, name)
    }

    /// Parses `/nix/store/<digest>-<name>`.
    pub fn from_absolute_path(path: impl AsRef<[u8]>) -> Result<Self, Error> {
        Self::from_base_name(strip_store_dir(path.as_ref())?)
    }

    /// Parses a path in or below a store path, and returns the store path with what follows it: nothing,
    /// or a slash and the rest.
    pub fn from_absolute_path_below(path: &[u8]) -> Result<(Self, &[u8]), Error> {
        let rest = strip_store_dir(path)?;
        let end = rest.iter().position(|&b| b == b'/').unwrap_or(rest.len());
        let (base_name, below) = rest.split_at(end);
        Ok((Self::from_base_name(base_name)?, below))
    }

    /// The digest.
    pub const fn digest(&self) -> &[u8; DIGEST_LEN] {
        &self.digest
    }

    /// The digest as it appears in the path; also the name of the path's narinfo file.
    pub fn digest_text(&self) -> String {
        nixbase32::encode(&self.digest)
    }

    /// The name, without the digest.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path with the store directory.
    pub fn to_absolute_path(&self) -> String {
        format!("{STORE_DIR}/{self}")
    }
}

fn strip_store_dir(path: &[u8]) -> Result<&[u8], Error> {
    path.strip_prefix(STORE_DIR.as_bytes())
        .and_then(|rest| rest.strip_prefix(b"/"))
        .ok_or_else(|| Error::NotInStore {
            path: path.escape_ascii().to_string(),
        })
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.digest_text(), self.name)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StorePath({self})")
    }
}

/// Parses a base name; see [`StorePath::from_base_name`].
impl FromStr for StorePath {
    type Err = Error;

    fn from_str(base_name: &str) -> Result<Self, Error> {
        Self::from_base_name(base_name)
    }
}

impl Ord for StorePath {
    fn cmp(&self, other: &Self) -> Ordering {
        // nixbase32 writes the last byte's high bits first, and its digits are in ASCII order.
        let digests = self.digest.iter().rev().cmp(other.digest.iter().rev());
        digests.then_with(|| self.name.cmp(&other.name))
    }
}

impl PartialOrd for StorePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests;
