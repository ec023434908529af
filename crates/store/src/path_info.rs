use std::collections::BTreeSet;

use castore::{DirectoryError, Node};
use nix_compat::{
    ContentAddress, StorePath,
    signature::{self, PublicKey, Signature},
    store_path,
};

mod metadata;
mod wire;

pub use metadata::Metadata;

/// What the store knows of a store path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    /// The path itself.
    pub store_path: StorePath,
    /// The root of its contents.
    pub node: Node,
    /// The store paths that the contents refer to, itself among them if they
    /// do.
    pub references: BTreeSet<StorePath>,
    /// Bytes of the NAR of the contents.
    pub nar_size: u64,
    /// The SHA-256 of that NAR.
    pub nar_sha256: [u8; 32],
    /// Who vouches for the path.
    pub signatures: Vec<Signature>,
    /// The derivation that built the path, its name ending in `.drv`.
    pub deriver: Option<StorePath>,
    /// How the path follows from its contents, if it does.
    pub ca: Option<ContentAddress>,
}

impl PathInfo {
    /// The text that signatures of the path sign.
    pub fn fingerprint(&self) -> String {
        signature::fingerprint(
            &self.store_path,
            &self.nar_sha256,
            self.nar_size,
            &self.references,
        )
    }

    /// Whether one of `keys` signed the path.
    pub fn is_signed_by(&self, keys: &[PublicKey]) -> bool {
        signature::find_valid(keys, &self.fingerprint(), &self.signatures).is_some()
    }

    /// The references other than the path itself.
    pub fn other_references(&self) -> impl Iterator<Item = &StorePath> {
        self.references
            .iter()
            .filter(|reference| **reference != self.store_path)
    }
}

/// Checks that a deriver is named like a derivation.
pub(crate) fn check_deriver(deriver: StorePath) -> Result<StorePath, PathInfoError> {
    match deriver.name().strip_suffix(".drv") {
        Some(name) if !name.is_empty() => Ok(deriver),
        _ => Err(PathInfoError::Deriver {
            deriver: deriver.to_string(),
        }),
    }
}

/// Why a message or a narinfo makes no [`PathInfo`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathInfoError {
    /// Not a protobuf message of the expected type.
    #[error("not a PathInfo message: {0}")]
    Decode(#[from] prost::DecodeError),
    /// A field is missing.
    #[error("the {0} is missing")]
    Missing(&'static str),
    /// The root node is invalid.
    #[error("the root node is invalid: {0}")]
    Root(#[from] DirectoryError),
    /// A store path is invalid.
    #[error("the {field} is no store path: {source}")]
    StorePath {
        /// Which field has it.
        field: &'static str,
        /// What is wrong with it.
        source: store_path::Error,
    },
    /// A digest has a wrong length.
    #[error("the {field} has {len} bytes, not {expected}")]
    DigestLength {
        /// Which field has it.
        field: &'static str,
        /// The length found.
        len: usize,
        /// The length required.
        expected: usize,
    },
    /// There are more reference digests than names, or fewer.
    #[error("there are {digests} reference digests, but {names} reference names")]
    ReferenceCount {
        /// The number of digests.
        digests: usize,
        /// The number of names.
        names: usize,
    },
    /// A reference's name belongs to another digest.
    #[error("the reference {name} is listed with another digest")]
    ReferenceDigest {
        /// The reference's base name.
        name: String,
    },
    /// A reference is listed twice.
    #[error("the reference {name} is listed twice")]
    DuplicateReference {
        /// The reference's base name.
        name: String,
    },
    /// A signature is invalid.
    #[error("a signature is invalid: {0}")]
    Signature(#[from] signature::Error),
    /// The deriver is not named like a derivation.
    #[error("the deriver {deriver} does not end in .drv")]
    Deriver {
        /// The deriver's base name.
        deriver: String,
    },
    /// The content address has an unknown kind or a digest of a wrong length.
    #[error("the content address has the unknown type {0}")]
    CaType(i32),
    /// The record is filed under another path's digest.
    #[error("it describes {found}")]
    WrongKey {
        /// The path that it describes.
        found: StorePath,
    },
}

#[cfg(test)]
mod tests;
