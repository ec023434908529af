//! Hashes and their text forms.
//!
//! Source: `src/libutil/hash.cc`. A hash is written `<algo>:<digest>` with the digest in base 16,
//! nixbase32 or base64, told apart by its length; or as SRI, `<algo>-<base64>`; or as a bare digest where
//! the algorithm is known from the context.
//!
//! Stricter than Nix: base64 must be canonical and padded (Nix skips newlines, and stops at the first `=`
//! without looking at what follows). As in Nix, base 16 may be in upper case.

use std::{
    fmt,
    io::{self, Read, Write},
    str::FromStr,
};

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use sha2::{Digest as _, Sha256};

use crate::nixbase32;

/// A hash algorithm that Nix knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HashAlgo {
    /// MD5, 16 bytes.
    Md5,
    /// SHA-1, 20 bytes.
    Sha1,
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl HashAlgo {
    /// The digest's length in bytes.
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The name as Nix writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

impl fmt::Display for HashAlgo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for HashAlgo {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "md5" => Ok(Self::Md5),
            "sha1" => Ok(Self::Sha1),
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(Error::UnknownAlgo {
                name: name.to_owned(),
            }),
        }
    }
}

/// How a digest is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashFormat {
    /// Lower-case hexadecimal.
    Base16,
    /// [`nixbase32`].
    Nix32,
    /// Padded standard base64.
    Base64,
}

/// Why a text is not a hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The algorithm's name is none that Nix knows.
    #[error("unknown hash algorithm '{name}'")]
    UnknownAlgo {
        /// The name found.
        name: String,
    },
    /// There is no `<algo>:` or `<algo>-` prefix, and nothing else tells the algorithm.
    #[error("hash '{hash}' does not name its algorithm")]
    NoAlgo {
        /// The text.
        hash: String,
    },
    /// The prefix names another algorithm than the one required.
    #[error("hash is {found} where {expected} is required")]
    WrongAlgo {
        /// The algorithm named.
        found: HashAlgo,
        /// The algorithm required.
        expected: HashAlgo,
    },
    /// The digest has the length of none of the encodings.
    #[error("{algo} hash '{digest}' has a wrong length")]
    Length {
        /// The algorithm.
        algo: HashAlgo,
        /// The digest's text.
        digest: String,
    },
    /// The digest is not valid base 16.
    #[error("{algo} hash '{digest}' is not base 16")]
    Base16 {
        /// The algorithm.
        algo: HashAlgo,
        /// The digest's text.
        digest: String,
        /// What is wrong with it.
        source: data_encoding::DecodeError,
    },
    /// The digest is not valid nixbase32.
    #[error("{algo} hash '{digest}' is not nixbase32")]
    Nix32 {
        /// The algorithm.
        algo: HashAlgo,
        /// The digest's text.
        digest: String,
        /// What is wrong with it.
        source: nixbase32::Error,
    },
    /// The digest is not valid base64.
    #[error("{algo} hash '{digest}' is not base64")]
    Base64 {
        /// The algorithm.
        algo: HashAlgo,
        /// The digest's text.
        digest: String,
        /// What is wrong with it.
        source: data_encoding::DecodeError,
    },
}

/// A digest together with its algorithm. Displayed as `<algo>:<nixbase32>`, the form that narinfo files,
/// content addresses and fingerprints use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NixHash {
    /// An MD5 digest.
    Md5([u8; 16]),
    /// A SHA-1 digest.
    Sha1([u8; 20]),
    /// A SHA-256 digest.
    Sha256([u8; 32]),
    /// A SHA-512 digest.
    Sha512([u8; 64]),
}

impl NixHash {
    /// Puts a digest and its algorithm together; `None` if the digest's length is not the algorithm's.
    pub fn from_digest(algo: HashAlgo, digest: &[u8]) -> Option<Self> {
        Some(match algo {
            HashAlgo::Md5 => Self::Md5(digest.try_into().ok()?),
            HashAlgo::Sha1 => Self::Sha1(digest.try_into().ok()?),
            HashAlgo::Sha256 => Self::Sha256(digest.try_into().ok()?),
            HashAlgo::Sha512 => Self::Sha512(digest.try_into().ok()?),
        })
    }

    /// The SHA-256 of `data`.
    pub fn sha256(data: impl AsRef<[u8]>) -> Self {
        Self::Sha256(Sha256::digest(data).into())
    }

    /// The algorithm.
    pub const fn algo(&self) -> HashAlgo {
        match self {
            Self::Md5(_) => HashAlgo::Md5,
            Self::Sha1(_) => HashAlgo::Sha1,
            Self::Sha256(_) => HashAlgo::Sha256,
            Self::Sha512(_) => HashAlgo::Sha512,
        }
    }

    /// The digest.
    pub const fn digest(&self) -> &[u8] {
        match self {
            Self::Md5(digest) => digest,
            Self::Sha1(digest) => digest,
            Self::Sha256(digest) => digest,
            Self::Sha512(digest) => digest,
        }
    }

    /// The digest if this is SHA-256, an error naming the algorithm if not.
    pub fn into_sha256(self) -> Result<[u8; 32], Error> {
        match self {
            Self::Sha256(digest) => Ok(digest),
            other => Err(Error::WrongAlgo {
                found: other.algo(),
                expected: HashAlgo::Sha256,
            }),
        }
    }

    /// Parses a prefixed hash (`<algo>:<digest>` or SRI), or a bare digest if `algo` is given; a prefix
    /// that contradicts `algo` is refused. Nix's `Hash::parseAny`.
    pub fn parse(text: &str, algo: Option<HashAlgo>) -> Result<Self, Error> {
        let (named, digest, sri) = if let Some((name, digest)) = text.split_once(':') {
            (Some(name.parse()?), digest, false)
        } else if let Some((name, digest)) = text.split_once('-') {
            (Some(name.parse()?), digest, true)
        } else {
            (None, text, false)
        };
        let algo = match (named, algo) {
            (Some(found), Some(expected)) if found != expected => {
                return Err(Error::WrongAlgo { found, expected });
            }
            (Some(algo), _) | (None, Some(algo)) => algo,
            (None, None) => {
                return Err(Error::NoAlgo {
                    hash: text.to_owned(),
                });
            }
        };
        if sri {
            Self::from_base64(digest, algo)
        } else {
            Self::parse_bare(digest, algo)
        }
    }

    /// Parses a digest without a prefix, in whichever of the three encodings its length says.
    pub fn parse_bare(digest: &str, algo: HashAlgo) -> Result<Self, Error> {
        let len = algo.digest_len();
        if digest.len() == HEXLOWER.encode_len(len) {
            let bytes = HEXLOWER_PERMISSIVE
                .decode(digest.as_bytes())
                .map_err(|source| Error::Base16 {
                    algo,
                    digest: digest.to_owned(),
                    source,
                })?;
            Self::from_decoded(&bytes, algo, digest)
        } else if digest.len() == nixbase32::encoded_len(len) {
            let bytes = nixbase32::decode(digest).map_err(|source| Error::Nix32 {
                algo,
                digest: digest.to_owned(),
                source,
            })?;
            Self::from_decoded(&bytes, algo, digest)
        } else {
            Self::from_base64(digest, algo)
        }
    }

    fn from_base64(digest: &str, algo: HashAlgo) -> Result<Self, Error> {
        if digest.len() != BASE64.encode_len(algo.digest_len()) {
            return Err(Error::Length {
                algo,
                digest: digest.to_owned(),
            });
        }
        let bytes = BASE64
            .decode(digest.as_bytes())
            .map_err(|source| Error::Base64 {
                algo,
                digest: digest.to_owned(),
                source,
            })?;
        Self::from_decoded(&bytes, algo, digest)
    }

    fn from_decoded(bytes: &[u8], algo: HashAlgo, digest: &str) -> Result<Self, Error> {
        Self::from_digest(algo, bytes).ok_or_else(|| Error::Length {
            algo,
            digest: digest.to_owned(),
        })
    }

    /// The digest alone.
    pub fn to_bare(&self, format: HashFormat) -> String {
        match format {
            HashFormat::Base16 => HEXLOWER.encode(self.digest()),
            HashFormat::Nix32 => nixbase32::encode(self.digest()),
            HashFormat::Base64 => BASE64.encode(self.digest()),
        }
    }

    /// `<algo>:<digest>`.
    pub fn to_prefixed(&self, format: HashFormat) -> String {
        format!("{}:{}", self.algo(), self.to_bare(format))
    }

    /// `<algo>-<base64>`.
    pub fn to_sri(&self) -> String {
        format!("{}-{}", self.algo(), self.to_bare(HashFormat::Base64))
    }
}

impl fmt::Display for NixHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algo(), self.to_bare(HashFormat::Nix32))
    }
}

/// Parses a prefixed hash; see [`NixHash::parse`].
impl FromStr for NixHash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text, None)
    }
}

/// A writer or reader that takes the SHA-256 and the length of what passes through it, as a NAR hash and
/// NAR size are taken.
#[derive(Debug)]
pub struct Sha256Stream<T> {
    inner: T,
    hasher: Sha256,
    len: u64,
}

impl<T> Sha256Stream<T> {
    /// Wraps a writer or a reader.
    pub fn new(inner: T) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
            len: 0,
        }
    }

    /// The wrapped value, and the digest and length of what passed through.
    pub fn finish(self) -> (T, [u8; 32], u64) {
        (self.inner, self.hasher.finalize().into(), self.len)
    }

    fn record(&mut self, data: &[u8]) {
        self.hasher.update(data);
        self.len += data.len() as u64;
    }
}

impl<W: Write> Write for Sha256Stream<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(data)?;
        self.record(data.get(..written).unwrap_or(data));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Sha256Stream<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.record(buf.get(..read).unwrap_or_default());
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
