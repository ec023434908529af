//! Where directories are kept.

mod cache;
mod fault;
mod memory;

pub use cache::CacheDirectoryService;
pub use fault::FaultyDirectoryService;
pub use memory::MemoryDirectoryService;

use std::{fmt, sync::Arc};

use crate::{Digest, Directory, Error};

/// A store of [`Directory`]s, each named by the digest of its encoding.
pub trait DirectoryService: fmt::Debug + Send + Sync {
    /// The directory, or `None` if the service knows that it does not have it.
    ///
    /// # Errors
    /// If the service cannot tell, or the directory is damaged.
    fn get(&self, digest: &Digest) -> Result<Option<Arc<Directory>>, Error>;

    /// Stores a directory. Its children are stored before it.
    ///
    /// # Errors
    /// If it could not be stored.
    fn put(&self, directory: &Directory) -> Result<Digest, Error>;

    /// Forgets a directory that was found damaged, so that putting it again
    /// stores it instead of trusting that it is there. Does nothing by default.
    ///
    /// # Errors
    /// If that could not be noted.
    fn discard(&self, digest: &Digest) -> Result<(), Error> {
        let _ = digest;
        Ok(())
    }

    /// Returns when everything put before is durable and visible to all users
    /// of the service.
    ///
    /// # Errors
    /// If that could not be achieved.
    fn flush(&self) -> Result<(), Error>;
}
