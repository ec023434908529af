//! Content addresses as text: `fixed:r:sha256:<digest>`, `fixed:<algo>:<digest>`, `text:sha256:<digest>`.
//!
//! Source: `src/libstore/content-address.cc`. `fixed:git:…`, which Nix has behind an experimental feature,
//! is refused as Nix refuses it by default.

use std::{fmt, str::FromStr};

use crate::{
    hash::{self, NixHash},
    store_path::{
        StorePath,
        build::{self, BuildError, FileIngestion},
    },
};

/// The claim that a store path follows from its contents, and by which hash of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContentAddress {
    /// The SHA-256 of a file's contents, written by `builtins.toFile` and the like.
    Text([u8; 32]),
    /// The hash of a file's contents.
    Flat(NixHash),
    /// The hash of a NAR.
    Recursive(NixHash),
}

/// Why a text is not a content address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It starts with neither `fixed:` nor `text:`.
    #[error("content address '{text}' starts with neither 'fixed:' nor 'text:'")]
    Prefix {
        /// The text.
        text: String,
    },
    /// No `<algo>:` stands before the digest.
    #[error("content address '{text}' does not name its hash algorithm")]
    NoAlgo {
        /// The text.
        text: String,
    },
    /// The hash is invalid, or not SHA-256 in a text's address.
    #[error("content address '{text}' has an invalid hash")]
    Hash {
        /// The text.
        text: String,
        /// What is wrong with it.
        source: hash::Error,
    },
}

impl ContentAddress {
    /// The hash, whatever it was taken of.
    pub const fn hash(&self) -> NixHash {
        match *self {
            Self::Text(digest) => NixHash::Sha256(digest),
            Self::Flat(hash) | Self::Recursive(hash) => hash,
        }
    }

    /// The path that an object of this address has. `references` are those to other paths.
    pub fn store_path<'a>(
        &self,
        name: &str,
        references: impl IntoIterator<Item = &'a StorePath>,
        self_reference: bool,
    ) -> Result<StorePath, BuildError> {
        let mut references = references.into_iter().peekable();
        match self {
            Self::Text(_) if self_reference => Err(BuildError::SelfReference {
                name: name.to_owned(),
            }),
            Self::Text(digest) => Ok(build::text_path(name, digest, references)?),
            Self::Recursive(NixHash::Sha256(digest)) => Ok(build::source_path(
                name,
                digest,
                references,
                self_reference,
            )?),
            Self::Flat(_) | Self::Recursive(_) if self_reference || references.peek().is_some() => {
                Err(BuildError::References {
                    name: name.to_owned(),
                })
            }
            Self::Flat(hash) => Ok(build::fixed_output_path(name, FileIngestion::Flat, hash)?),
            Self::Recursive(hash) => Ok(build::fixed_output_path(
                name,
                FileIngestion::Recursive,
                hash,
            )?),
        }
    }

    /// Whether `path` with these references (its own among them, if it refers to itself) is the path of
    /// this address. Such a path needs no signature, provided the contents are then checked against
    /// [`hash`](Self::hash): this function has not seen them.
    pub fn matches<'a>(
        &self,
        path: &StorePath,
        references: impl IntoIterator<Item = &'a StorePath>,
    ) -> bool {
        let (own, others): (Vec<_>, Vec<_>) = references
            .into_iter()
            .partition(|reference| *reference == path);
        self.store_path(path.name(), others, !own.is_empty())
            .is_ok_and(|expected| expected == *path)
    }
}

impl fmt::Display for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => write!(f, "text:{}", self.hash()),
            Self::Flat(hash) => write!(f, "fixed:{hash}"),
            Self::Recursive(hash) => write!(f, "fixed:r:{hash}"),
        }
    }
}

impl FromStr for ContentAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parse_hash = |rest: &str| {
            let (algo, digest) = rest.split_once(':').ok_or_else(|| Error::NoAlgo {
                text: text.to_owned(),
            })?;
            algo.parse()
                .and_then(|algo| NixHash::parse_bare(digest, algo))
                .map_err(|source| Error::Hash {
                    text: text.to_owned(),
                    source,
                })
        };
        if let Some(rest) = text.strip_prefix("text:") {
            let digest = parse_hash(rest)?
                .into_sha256()
                .map_err(|source| Error::Hash {
                    text: text.to_owned(),
                    source,
                })?;
            Ok(Self::Text(digest))
        } else if let Some(rest) = text.strip_prefix("fixed:r:") {
            Ok(Self::Recursive(parse_hash(rest)?))
        } else if let Some(rest) = text.strip_prefix("fixed:") {
            Ok(Self::Flat(parse_hash(rest)?))
        } else {
            Err(Error::Prefix {
                text: text.to_owned(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let hash = NixHash::Sha1([7; 20]);
        for ca in [
            ContentAddress::Text([1; 32]),
            ContentAddress::Flat(hash),
            ContentAddress::Recursive(hash),
            ContentAddress::Recursive(NixHash::Sha256([2; 32])),
        ] {
            assert_eq!(ca.to_string().parse(), Ok(ca));
        }
    }

    #[test]
    fn refuses_malformed() {
        let digest = NixHash::Sha256([1; 32]).to_string();
        let sha1 = NixHash::Sha1([1; 20]).to_string();
        let parse = |text: String| text.parse::<ContentAddress>();
        assert!(matches!(parse(String::new()), Err(Error::Prefix { .. })));
        assert!(matches!(parse(digest.clone()), Err(Error::Prefix { .. })));
        assert!(matches!(
            parse("fixed:r".to_owned()),
            Err(Error::NoAlgo { .. })
        ));
        assert!(matches!(
            parse(format!("fixed:git:{sha1}")),
            Err(Error::Hash { .. })
        ));
        assert!(matches!(
            parse(format!("text:r:{digest}")),
            Err(Error::Hash { .. })
        ));
        assert!(matches!(
            parse(format!("text:{sha1}")),
            Err(Error::Hash { .. })
        ));
        assert!(matches!(
            parse(format!("fixed:{digest} ")),
            Err(Error::Hash { .. })
        ));
        let sri = NixHash::Sha256([1; 32]).to_sri();
        assert!(matches!(
            parse(format!("fixed:{sri}")),
            Err(Error::NoAlgo { .. })
        ));
    }

    #[test]
    fn references_only_where_allowed() {
        let other = StorePath::new([3; 20], "other").unwrap();
        let flat = ContentAddress::Flat(NixHash::Sha256([1; 32]));
        assert!(matches!(
            flat.store_path("x", [&other], false),
            Err(BuildError::References { .. })
        ));
        assert!(matches!(
            flat.store_path("x", [], true),
            Err(BuildError::References { .. })
        ));
        let text = ContentAddress::Text([1; 32]);
        assert!(text.store_path("x", [&other], false).is_ok());
        assert!(matches!(
            text.store_path("x", [], true),
            Err(BuildError::SelfReference { .. })
        ));
    }
}
