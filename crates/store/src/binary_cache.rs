//! Binary caches that Nix made, as a source of store paths.
//!
//! A cache is a directory with `nix-cache-info`, a `<digest>.narinfo` for each
//! path, and the NARs that these point to. Nothing in it is trusted: a path is
//! taken if a trusted key signed its narinfo, or if the path follows from the
//! contents; and the contents are taken if they have the narinfo's hash.

mod fetch;
mod source;
mod trust;

pub use fetch::{FetchError, FetchErrorKind};
pub use source::{SourceError, SourceUrl};

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use castore::{BlobService, DirectoryService};
use nix_compat::{NarInfo, STORE_DIR, StorePath, narinfo, nixbase32, signature::PublicKey};

use crate::PathInfo;

/// No narinfo or nix-cache-info is longer; Nix itself has no bound.
const INFO_MAX: u64 = 1024 * 1024;

/// Whom to believe that a store path has the contents that a cache says.
#[derive(Debug, Clone)]
pub enum Trust {
    /// These keys; paths that follow from their contents need none.
    Keys(Vec<PublicKey>),
    /// Anybody.
    Anyone,
}

/// A binary cache in a directory.
#[derive(Debug)]
pub struct BinaryCache {
    dir: PathBuf,
    trust: Trust,
}

impl BinaryCache {
    /// Opens the cache in `dir`.
    ///
    /// # Errors
    /// If there is none, or it is one of another store directory.
    pub fn open(dir: impl Into<PathBuf>, trust: Trust) -> Result<Self, BinaryCacheError> {
        let dir = dir.into();
        let path = dir.join("nix-cache-info");
        let info = match read_info(&path) {
            Ok(info) => info,
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                return Err(BinaryCacheError::NotACache { dir });
            }
            Err(source) => return Err(BinaryCacheError::Read { path, source }),
        };
        let info = String::from_utf8_lossy(&info);
        let store_dir = info
            .lines()
            .find_map(|line| line.strip_prefix("StoreDir:"))
            .map(str::trim);
        match store_dir {
            Some(STORE_DIR) => Ok(Self { dir, trust }),
            other => Err(BinaryCacheError::StoreDir {
                dir,
                found: other.unwrap_or_default().to_owned(),
            }),
        }
    }

    /// The cache's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The narinfo of the store path with `digest`, or `None` if the cache does
    /// not have the path. It was checked to be trusted, which for a path that
    /// is trusted for its contents is a promise that [`fetch`](Self::fetch)
    /// keeps.
    ///
    /// # Errors
    /// If it is not trusted, is no narinfo, or belongs to another path.
    pub fn narinfo(&self, digest: &[u8; 20]) -> Result<Option<NarInfo>, BinaryCacheError> {
        let path = (self.dir).join(format!("{}.narinfo", nixbase32::encode(digest)));
        let text = match read_info(&path) {
            Ok(text) => text,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(BinaryCacheError::Read { path, source }),
        };
        let info = NarInfo::parse(text).map_err(|source| BinaryCacheError::NarInfo {
            path: path.clone(),
            source: Box::new(source),
        })?;
        if info.store_path.digest() != digest {
            return Err(BinaryCacheError::WrongPath {
                path,
                found: info.store_path,
            });
        }
        trust::check(&info, &self.trust).map_err(|source| BinaryCacheError::Untrusted {
            store_path: info.store_path.clone(),
            dir: self.dir.clone(),
            source,
        })?;
        Ok(Some(info))
    }

    /// The digests of all store paths that the cache has, in no particular
    /// order.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn digests(
        &self,
    ) -> Result<impl Iterator<Item = Result<[u8; 20], BinaryCacheError>> + use<>, BinaryCacheError>
    {
        let dir = self.dir.clone();
        let unreadable = move |source| BinaryCacheError::Read {
            path: dir.clone(),
            source,
        };
        let entries = fs::read_dir(&self.dir).map_err(&unreadable)?;
        Ok(entries.filter_map(move |entry| {
            let name = match entry {
                Ok(entry) => entry.file_name(),
                Err(source) => return Some(Err(unreadable(source))),
            };
            let digest = name.to_str()?.strip_suffix(".narinfo")?;
            nixbase32::decode_fixed(digest).ok().map(Ok)
        }))
    }

    /// Fetches the contents that `info` describes into the services, which are
    /// not flushed, and checks them: against the file's and the NAR's hash and
    /// size, and where the path is trusted for its contents, against its
    /// content address.
    ///
    /// # Errors
    /// If the contents are missing, damaged, others than described, or cannot
    /// be stored.
    pub fn fetch(
        &self,
        info: NarInfo,
        blobs: &dyn BlobService,
        directories: &dyn DirectoryService,
    ) -> Result<PathInfo, FetchError> {
        fetch::fetch(&self.dir, &self.trust, info, blobs, directories)
    }
}

fn read_info(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?
        .take(INFO_MAX + 1)
        .read_to_end(&mut text)?;
    if text.len() as u64 > INFO_MAX {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "the file is larger than 1 MiB",
        ));
    }
    Ok(text)
}

/// Why a binary cache could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum BinaryCacheError {
    /// The directory is no binary cache.
    #[error("{} is no binary cache: it has no nix-cache-info", dir.display())]
    NotACache {
        /// The directory.
        dir: PathBuf,
    },
    /// The cache is one of another store.
    #[error(
        "the binary cache {} is one of the store directory '{found}', not of {STORE_DIR}",
        dir.display()
    )]
    StoreDir {
        /// The cache's directory.
        dir: PathBuf,
        /// The store directory; empty if the cache names none.
        found: String,
    },
    /// The system could not read part of the cache.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A narinfo file is invalid.
    #[error("{} is invalid", path.display())]
    NarInfo {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<narinfo::Error>,
    },
    /// A narinfo file is that of another path.
    #[error("{} describes another path, {found}", path.display())]
    WrongPath {
        /// The file.
        path: PathBuf,
        /// The path that it describes.
        found: StorePath,
    },
    /// Nobody who is trusted vouches for a path.
    #[error("{store_path} from the binary cache {} is not trusted: {source}", dir.display())]
    Untrusted {
        /// The path.
        store_path: StorePath,
        /// The cache's directory.
        dir: PathBuf,
        /// Why not.
        source: Untrusted,
    },
}

/// Why a path is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// It has no signature.
    #[error("it has no signature")]
    Unsigned,
    /// No key is trusted.
    #[error("no key is trusted; its signatures are by: {by}")]
    NoKeys {
        /// The names of the keys that signed it.
        by: String,
    },
    /// It has signatures by other keys, or wrong ones.
    #[error("none of its signatures is a valid one by a trusted key; they are by: {by}")]
    WrongSignature {
        /// The names of the keys that signed it.
        by: String,
    },
}
