//! Where contents are kept.

mod cache;
mod fault;
mod memory;

pub use cache::CacheBlobService;
pub use fault::FaultyBlobService;
pub use memory::MemoryBlobService;

use std::{fmt, fs::File, io::Write, sync::Arc};

use crate::{Digest, Error, HashedBlob};

/// A store of blobs, each named by its [`Digest`].
///
/// The calls block. A backend over a network bridges to its runtime itself, so
/// that a local hit never enters one.
pub trait BlobService: fmt::Debug + Send + Sync {
    /// Opens the blob, or answers `None` if the service knows that it does not
    /// have it.
    ///
    /// # Errors
    /// If the service cannot tell, or the blob is damaged.
    fn open(&self, digest: &Digest) -> Result<Option<Arc<dyn Blob>>, Error>;

    /// Whether the service has the blob.
    ///
    /// # Errors
    /// If the service cannot tell.
    fn has(&self, digest: &Digest) -> Result<bool, Error> {
        Ok(self.open(digest)?.is_some())
    }

    /// Stores a blob whose bytes are at hand. Storing what is there already is
    /// no error.
    ///
    /// # Errors
    /// If the blob could not be stored.
    fn put(&self, blob: &HashedBlob<'_>) -> Result<(), Error>;

    /// A writer for a blob that is too big to be held in memory.
    ///
    /// # Errors
    /// If the service cannot be written.
    fn writer(&self) -> Result<Box<dyn BlobWriter + '_>, Error>;

    /// Forgets a blob that was found damaged, so that putting it again stores it
    /// instead of trusting that it is there. Does nothing by default.
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

/// An opened blob.
pub trait Blob: fmt::Debug + Send + Sync {
    /// Bytes of contents.
    fn size(&self) -> u64;

    /// Fills `buf` from `offset` on and returns how many bytes it filled:
    /// `buf.len()`, or less if the blob ends before. What is returned was
    /// verified to the extent that the service promises.
    ///
    /// # Errors
    /// If the bytes cannot be had, or are not those of the digest.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Error>;

    /// A hint: what was read of that range is kept elsewhere now, and need not
    /// be kept in memory for the next who reads it.
    fn done_with(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }

    /// A file that holds exactly the contents, if there is one, and if reading
    /// it promises no less than [`read_at`](Self::read_at) does.
    fn file(&self) -> Option<Arc<File>> {
        None
    }
}

/// A blob being written. Dropping it before [`finish`](Self::finish) leaves
/// nothing behind.
pub trait BlobWriter: Write {
    /// Ends the blob; returns its digest and size in bytes.
    ///
    /// # Errors
    /// If the blob could not be stored.
    fn finish(self: Box<Self>) -> Result<(Digest, u64), Error>;
}
