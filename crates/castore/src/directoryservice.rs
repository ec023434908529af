//! Where directories are kept.

mod memory;

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

    /// Returns when everything put before is durable and visible to all users
    /// of the service.
    ///
    /// # Errors
    /// If that could not be achieved.
    fn flush(&self) -> Result<(), Error>;
}
