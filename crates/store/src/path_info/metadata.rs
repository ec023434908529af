use std::collections::BTreeSet;

use castore::Node;
use nix_compat::{
    ContentAddress, NarInfo, StorePath, path_info_json, registration::Registration,
    signature::Signature,
};

use super::{PathInfo, PathInfoError, check_deriver};
use crate::nar::NarDigest;

/// What is known of a store path before its contents were seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The path.
    pub store_path: StorePath,
    /// The SHA-256 of the NAR of its contents.
    pub nar_sha256: [u8; 32],
    /// Bytes of that NAR, if known.
    pub nar_size: Option<u64>,
    /// The store paths that the contents refer to.
    pub references: BTreeSet<StorePath>,
    /// The derivation that built the path.
    pub deriver: Option<StorePath>,
    /// Who vouches for the path.
    pub signatures: Vec<Signature>,
    /// How the path follows from its contents, if it does.
    pub ca: Option<ContentAddress>,
}

impl Metadata {
    /// Whether contents with this NAR are those meant.
    pub fn matches(&self, nar: &NarDigest) -> bool {
        nar.sha256 == self.nar_sha256 && self.nar_size.is_none_or(|size| size == nar.size)
    }

    /// The path info, once the contents were found to be those meant.
    ///
    /// # Errors
    /// If the deriver is not named like a derivation.
    pub fn with_contents(self, node: Node, nar_size: u64) -> Result<PathInfo, PathInfoError> {
        Ok(PathInfo {
            store_path: self.store_path,
            node,
            references: self.references,
            nar_size,
            nar_sha256: self.nar_sha256,
            signatures: self.signatures,
            deriver: self.deriver.map(check_deriver).transpose()?,
            ca: self.ca,
        })
    }
}

/// Old Nix databases have 0 for a size that they do not know.
fn known_size(size: u64) -> Option<u64> {
    (size != 0).then_some(size)
}

impl From<path_info_json::PathInfo> for Metadata {
    fn from(info: path_info_json::PathInfo) -> Self {
        Self {
            store_path: info.path,
            nar_sha256: info.nar_sha256,
            nar_size: known_size(info.nar_size),
            references: info.references,
            deriver: info.deriver,
            signatures: info.signatures,
            ca: info.ca,
        }
    }
}

impl From<Registration> for Metadata {
    fn from(registration: Registration) -> Self {
        Self {
            store_path: registration.path,
            nar_sha256: registration.nar_sha256,
            nar_size: known_size(registration.nar_size),
            references: registration.references,
            deriver: registration.deriver,
            signatures: Vec::new(),
            ca: None,
        }
    }
}

impl From<NarInfo> for Metadata {
    fn from(info: NarInfo) -> Self {
        Self {
            store_path: info.store_path,
            nar_sha256: info.nar_sha256,
            nar_size: Some(info.nar_size),
            references: info.references,
            deriver: info.deriver,
            signatures: info.signatures,
            ca: info.ca,
        }
    }
}

impl From<PathInfo> for Metadata {
    fn from(info: PathInfo) -> Self {
        Self {
            store_path: info.store_path,
            nar_sha256: info.nar_sha256,
            nar_size: Some(info.nar_size),
            references: info.references,
            deriver: info.deriver,
            signatures: info.signatures,
            ca: info.ca,
        }
    }
}

impl PathInfo {
    /// The path info as a narinfo file that points to an uncompressed NAR at
    /// `url`.
    pub fn to_narinfo(&self, url: String) -> NarInfo {
        NarInfo {
            store_path: self.store_path.clone(),
            url,
            compression: nix_compat::narinfo::Compression::None,
            file_hash: Some(nix_compat::NixHash::Sha256(self.nar_sha256)),
            file_size: Some(self.nar_size),
            nar_sha256: self.nar_sha256,
            nar_size: self.nar_size,
            references: self.references.clone(),
            deriver: self.deriver.clone(),
            signatures: self.signatures.clone(),
            ca: self.ca,
        }
    }

    /// The path info as `nix-store --load-db` reads it.
    pub fn to_registration(&self) -> Registration {
        Registration {
            path: self.store_path.clone(),
            nar_sha256: self.nar_sha256,
            nar_size: self.nar_size,
            deriver: self.deriver.clone(),
            references: self.references.clone(),
        }
    }
}
