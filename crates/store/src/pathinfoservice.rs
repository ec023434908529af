//! Where path infos are kept.

mod cache;
mod local;
mod memory;

pub use cache::CachePathInfoService;
pub use local::LocalPathInfoService;
pub(crate) use local::{decode, digest, key};
pub use memory::MemoryPathInfoService;

use std::fmt;

use crate::{Error, PathInfo};

/// A store of [`PathInfo`]s, each found by the digest in its store path.
///
/// The calls block, as castore's do.
pub trait PathInfoService: fmt::Debug + Send + Sync {
    /// The path info, or `None` if the service knows that it does not have it.
    ///
    /// # Errors
    /// If the service cannot tell, or what it has is damaged.
    fn get(&self, digest: &[u8; 20]) -> Result<Option<PathInfo>, Error>;

    /// Stores a path info, in the place of one that the path had before. Its
    /// contents are stored before it. On return it is durable and visible, to
    /// the extent that the service can promise it.
    ///
    /// # Errors
    /// If it could not be stored.
    fn put(&self, info: &PathInfo) -> Result<(), Error>;

    /// All path infos, in no particular order, read as the iterator advances.
    /// One that is damaged is an error among the others.
    fn list(&self) -> Box<dyn Iterator<Item = Result<PathInfo, Error>> + Send + '_>;
}

impl<T: PathInfoService + ?Sized> PathInfoService for std::sync::Arc<T> {
    fn get(&self, digest: &[u8; 20]) -> Result<Option<PathInfo>, Error> {
        (**self).get(digest)
    }

    fn put(&self, info: &PathInfo) -> Result<(), Error> {
        (**self).put(info)
    }

    fn list(&self) -> Box<dyn Iterator<Item = Result<PathInfo, Error>> + Send + '_> {
        (**self).list()
    }
}

#[cfg(test)]
mod tests;
