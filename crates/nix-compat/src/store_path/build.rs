//! How the path of a content-addressed store object follows from its contents.
//!
//! Source: `makeStorePath`, `makeType`, `makeFixedOutputPath` and `makeFixedOutputPathFromCA` in
//! `src/libstore/store-api.cc`.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use super::{DIGEST_LEN, Error, STORE_DIR, StorePath};
use crate::hash::{HashFormat, NixHash};

/// What a fixed-output hash was taken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileIngestion {
    /// The contents of a single file that is not executable.
    Flat,
    /// The NAR.
    Recursive,
}

/// Why no path can be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The name (or, never, the digest) makes no store path.
    #[error("cannot name the store path")]
    Name(#[from] Error),
    /// Only text and recursive SHA-256 objects may have references.
    #[error("'{name}' is addressed by a method that allows no references, but has some")]
    References {
        /// The store path's name.
        name: String,
    },
    /// Texts cannot refer to themselves.
    #[error("'{name}' is addressed as a text, which cannot refer to itself")]
    SelfReference {
        /// The store path's name.
        name: String,
    },
}

/// The path of an object addressed by the SHA-256 of its NAR: what `nix-store --add`, `nix store add` and
/// `builtins.path` give.
///
/// With `self_reference` the hash is that of the NAR modulo the object's own digest.
pub fn source_path<'a>(
    name: &str,
    nar_sha256: &[u8; 32],
    references: impl IntoIterator<Item = &'a StorePath>,
    self_reference: bool,
) -> Result<StorePath, Error> {
    let kind = with_references("source", references, self_reference);
    make_store_path(&kind, &NixHash::Sha256(*nar_sha256), name)
}

/// The path of a text, the way `builtins.toFile` and derivations are addressed: by the SHA-256 of the
/// file's contents.
pub fn text_path<'a>(
    name: &str,
    contents_sha256: &[u8; 32],
    references: impl IntoIterator<Item = &'a StorePath>,
) -> Result<StorePath, Error> {
    let kind = with_references("text", references, false);
    make_store_path(&kind, &NixHash::Sha256(*contents_sha256), name)
}

/// The path of a fixed-output object without references. For recursive SHA-256 it is [`source_path`].
pub fn fixed_output_path(
    name: &str,
    method: FileIngestion,
    hash: &NixHash,
) -> Result<StorePath, Error> {
    let prefix = match (method, hash) {
        (FileIngestion::Recursive, NixHash::Sha256(digest)) => {
            return source_path(name, digest, [], false);
        }
        (FileIngestion::Recursive, _) => "r:",
        (FileIngestion::Flat, _) => "",
    };
    let inner = format!(
        "fixed:out:{prefix}{}:",
        hash.to_prefixed(HashFormat::Base16)
    );
    make_store_path("output:out", &NixHash::sha256(inner), name)
}

fn with_references<'a>(
    kind: &str,
    references: impl IntoIterator<Item = &'a StorePath>,
    self_reference: bool,
) -> String {
    let mut out = kind.to_owned();
    for reference in references.into_iter().collect::<BTreeSet<_>>() {
        out.push(':');
        out.push_str(&reference.to_absolute_path());
    }
    if self_reference {
        out.push_str(":self");
    }
    out
}

fn make_store_path(kind: &str, hash: &NixHash, name: &str) -> Result<StorePath, Error> {
    let hash = hash.to_prefixed(HashFormat::Base16);
    let digest = Sha256::digest(format!("{kind}:{hash}:{STORE_DIR}:{name}"));
    StorePath::new(fold(&digest), name)
}

/// Nix's `compressHash`: the digest's bytes are XORed into a shorter ring.
fn fold(digest: &[u8]) -> [u8; DIGEST_LEN] {
    let mut out = [0; DIGEST_LEN];
    for chunk in digest.chunks(DIGEST_LEN) {
        for (out, byte) in out.iter_mut().zip(chunk) {
            *out ^= byte;
        }
    }
    out
}
