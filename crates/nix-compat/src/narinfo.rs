//! narinfo files, by which a binary cache describes a store path.
//!
//! Source: `src/libstore/nar-info.cc`. Lines of `Key: value`, each ended by a newline; keys that Nix does
//! not know are ignored.
//!
//! Stricter than Nix, where Nix's leniency is an accident:
//! - every key but `Sig` may be there once (Nix lets the last one win, except for `References` and `CA`);
//! - `NarHash` must be SHA-256 (Nix reads any, and aborts on printing another);
//! - the compression must be one that Nix can undo (as in later versions of Nix);
//! - the text is UTF-8, and a colon is followed by a space.

use std::{collections::BTreeSet, fmt, str::FromStr};

use crate::{
    ca::{self, ContentAddress},
    hash::{self, NixHash},
    number::parse_u64,
    signature::{self, PublicKey, Signature},
    store_path::{self, StorePath},
};

/// How a NAR is compressed: the names that Nix gives to brotli and to libarchive's filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// The NAR as it is.
    None,
    /// Brotli, written `br`.
    Brotli,
    /// bzip2, Nix's default of old.
    Bzip2,
    /// Unix compress (LZW).
    Compress,
    /// GRZip.
    Grzip,
    /// gzip.
    Gzip,
    /// Long Range ZIP.
    Lrzip,
    /// LZ4.
    Lz4,
    /// lzip.
    Lzip,
    /// LZMA, the format before xz.
    Lzma,
    /// lzop.
    Lzop,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
}

impl Compression {
    const ALL: [Self; 13] = [
        Self::None,
        Self::Brotli,
        Self::Bzip2,
        Self::Compress,
        Self::Grzip,
        Self::Gzip,
        Self::Lrzip,
        Self::Lz4,
        Self::Lzip,
        Self::Lzma,
        Self::Lzop,
        Self::Xz,
        Self::Zstd,
    ];

    /// The name as narinfo files have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Brotli => "br",
            Self::Bzip2 => "bzip2",
            Self::Compress => "compress",
            Self::Grzip => "grzip",
            Self::Gzip => "gzip",
            Self::Lrzip => "lrzip",
            Self::Lz4 => "lz4",
            Self::Lzip => "lzip",
            Self::Lzma => "lzma",
            Self::Lzop => "lzop",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a binary cache says of a store path. Displayed as the text of a narinfo file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NarInfo {
    /// The store path.
    pub store_path: StorePath,
    /// Where the compressed NAR is, relative to the cache's root. It is taken as it
    /// stands: not empty and without a newline, no more is known of it.
    pub url: String,
    /// How the NAR is compressed; a file that does not say means [`Compression::Bzip2`].
    pub compression: Compression,
    /// The hash of the compressed NAR.
    pub file_hash: Option<NixHash>,
    /// The size of the compressed NAR.
    pub file_size: Option<u64>,
    /// The SHA-256 of the NAR.
    pub nar_sha256: [u8; 32],
    /// The size of the NAR, never 0.
    pub nar_size: u64,
    /// The paths that the contents refer to, among them possibly the path itself.
    pub references: BTreeSet<StorePath>,
    /// The derivation that the path was built by.
    pub deriver: Option<StorePath>,
    /// The signatures, unverified.
    pub signatures: Vec<Signature>,
    /// The content address, unverified.
    pub ca: Option<ContentAddress>,
}

/// Why a text is not a narinfo file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is not UTF-8.
    #[error("narinfo is not UTF-8")]
    Utf8(#[from] std::str::Utf8Error),
    /// The last line has no newline, so the file may be cut off.
    #[error("narinfo line {line} is not ended by a newline")]
    Unterminated {
        /// The line's number, from 1.
        line: usize,
    },
    /// A line is not `Key: value`.
    #[error("narinfo line {line} has no ': '")]
    NoColon {
        /// The line's number, from 1.
        line: usize,
    },
    /// A key that may be there only once is there again.
    #[error("narinfo has a second {key} in line {line}")]
    Duplicate {
        /// The key.
        key: &'static str,
        /// The line's number, from 1.
        line: usize,
    },
    /// A required key is not there.
    #[error("narinfo has no {key}")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A value is invalid.
    #[error("narinfo line {line} has an invalid {key}")]
    Value {
        /// The key.
        key: &'static str,
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with the value.
        source: ValueError,
    },
}

/// Why the value of a key is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub enum ValueError {
    /// The value is no store path.
    StorePath(#[from] store_path::Error),
    /// The value is no hash, or none of the algorithm required.
    Hash(#[from] hash::Error),
    /// The value is no content address.
    ContentAddress(#[from] ca::Error),
    /// The value is no signature.
    Signature(#[from] signature::Error),
    /// The value is no decimal number of 64 bits.
    #[error("it is no number")]
    Number,
    /// The value is 0 or empty.
    #[error("it is zero or empty")]
    Empty,
    /// The value names no compression that Nix knows.
    #[error("the compression '{0}' is unknown")]
    Compression(String),
}

impl NarInfo {
    /// Parses a narinfo file.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let mut rest = str::from_utf8(text.as_ref())?;
        let mut line = 0;
        while !rest.is_empty() {
            line += 1;
            let (current, next) = rest.split_once('\n').ok_or(Error::Unterminated { line })?;
            let (key, value) = current.split_once(':').ok_or(Error::NoColon { line })?;
            let value = value.strip_prefix(' ').ok_or(Error::NoColon { line })?;
            fields.set(key, value, line)?;
            rest = next;
        }
        fields.finish()
    }

    /// What the path's signatures sign.
    pub fn fingerprint(&self) -> String {
        signature::fingerprint(
            &self.store_path,
            &self.nar_sha256,
            self.nar_size,
            &self.references,
        )
    }

    /// The key among `keys` that vouches for this file. `None` means that it is not to be trusted, unless
    /// it is [content-addressed](Self::is_content_addressed).
    pub fn verified_by<'k>(&self, keys: &'k [PublicKey]) -> Option<&'k PublicKey> {
        signature::find_valid(keys, &self.fingerprint(), &self.signatures)
    }

    /// Whether the store path follows from the content address; see [`ContentAddress::matches`] for what
    /// is left to be checked.
    pub fn is_content_addressed(&self) -> bool {
        self.ca
            .is_some_and(|ca| ca.matches(&self.store_path, &self.references))
    }
}

impl fmt::Display for NarInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "StorePath: {}", self.store_path.to_absolute_path())?;
        writeln!(f, "URL: {}", self.url)?;
        writeln!(f, "Compression: {}", self.compression)?;
        if let Some(hash) = &self.file_hash {
            writeln!(f, "FileHash: {hash}")?;
        }
        if let Some(size) = self.file_size {
            writeln!(f, "FileSize: {size}")?;
        }
        writeln!(f, "NarHash: {}", NixHash::Sha256(self.nar_sha256))?;
        writeln!(f, "NarSize: {}", self.nar_size)?;
        // Without references the space stays.
        f.write_str("References: ")?;
        for (index, reference) in self.references.iter().enumerate() {
            let separator = if index > 0 { " " } else { "" };
            write!(f, "{separator}{reference}")?;
        }
        writeln!(f)?;
        if let Some(deriver) = &self.deriver {
            writeln!(f, "Deriver: {deriver}")?;
        }
        for signature in &self.signatures {
            writeln!(f, "Sig: {signature}")?;
        }
        if let Some(ca) = &self.ca {
            writeln!(f, "CA: {ca}")?;
        }
        Ok(())
    }
}

/// Parses a narinfo file; see [`NarInfo::parse`].
impl FromStr for NarInfo {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

/// The values seen so far. Where a value may be there and yet say nothing, the inner option is that value.
#[derive(Default)]
struct Fields {
    store_path: Option<StorePath>,
    url: Option<String>,
    compression: Option<Compression>,
    file_hash: Option<NixHash>,
    file_size: Option<u64>,
    nar_sha256: Option<[u8; 32]>,
    nar_size: Option<u64>,
    references: Option<BTreeSet<StorePath>>,
    deriver: Option<Option<StorePath>>,
    signatures: Vec<Signature>,
    ca: Option<Option<ContentAddress>>,
}

impl Fields {
    fn set(&mut self, key: &str, value: &str, line: usize) -> Result<(), Error> {
        match key {
            "StorePath" => once(&mut self.store_path, "StorePath", line, || {
                Ok(StorePath::from_absolute_path(value)?)
            }),
            "URL" => once(&mut self.url, "URL", line, || match value {
                "" => Err(ValueError::Empty),
                _ => Ok(value.to_owned()),
            }),
            "Compression" => once(&mut self.compression, "Compression", line, || {
                parse_compression(value)
            }),
            "FileHash" => once(&mut self.file_hash, "FileHash", line, || Ok(value.parse()?)),
            "FileSize" => once(&mut self.file_size, "FileSize", line, || parse_size(value)),
            "NarHash" => once(&mut self.nar_sha256, "NarHash", line, || {
                Ok(value.parse::<NixHash>()?.into_sha256()?)
            }),
            "NarSize" => once(&mut self.nar_size, "NarSize", line, || {
                match parse_size(value)? {
                    0 => Err(ValueError::Empty),
                    size => Ok(size),
                }
            }),
            "References" => once(&mut self.references, "References", line, || {
                let base_names = value.split(' ').filter(|base_name| !base_name.is_empty());
                Ok(base_names.map(str::parse).collect::<Result<_, _>>()?)
            }),
            "Deriver" => once(&mut self.deriver, "Deriver", line, || match value {
                "unknown-deriver" => Ok(None),
                _ => Ok(Some(value.parse()?)),
            }),
            "Sig" => {
                let signature = value.parse::<Signature>().map_err(|source| Error::Value {
                    key: "Sig",
                    line,
                    source: source.into(),
                })?;
                self.signatures.push(signature);
                Ok(())
            }
            "CA" => once(&mut self.ca, "CA", line, || match value {
                "" => Ok(None),
                _ => Ok(Some(value.parse()?)),
            }),
            _ => Ok(()),
        }
    }

    fn finish(self) -> Result<NarInfo, Error> {
        Ok(NarInfo {
            store_path: self.store_path.ok_or(Error::Missing { key: "StorePath" })?,
            url: self.url.ok_or(Error::Missing { key: "URL" })?,
            compression: self.compression.unwrap_or(Compression::Bzip2),
            file_hash: self.file_hash,
            file_size: self.file_size,
            nar_sha256: self.nar_sha256.ok_or(Error::Missing { key: "NarHash" })?,
            nar_size: self.nar_size.ok_or(Error::Missing { key: "NarSize" })?,
            references: self.references.unwrap_or_default(),
            deriver: self.deriver.flatten(),
            signatures: self.signatures,
            ca: self.ca.flatten(),
        })
    }
}

fn once<T>(
    slot: &mut Option<T>,
    key: &'static str,
    line: usize,
    parse: impl FnOnce() -> Result<T, ValueError>,
) -> Result<(), Error> {
    if slot.is_some() {
        return Err(Error::Duplicate { key, line });
    }
    *slot = Some(parse().map_err(|source| Error::Value { key, line, source })?);
    Ok(())
}

fn parse_size(value: &str) -> Result<u64, ValueError> {
    parse_u64(value).ok_or(ValueError::Number)
}

fn parse_compression(value: &str) -> Result<Compression, ValueError> {
    if value.is_empty() {
        return Ok(Compression::Bzip2);
    }
    Compression::ALL
        .into_iter()
        .find(|compression| compression.as_str() == value)
        .ok_or_else(|| ValueError::Compression(value.to_owned()))
}

#[cfg(test)]
mod tests;
