use std::{
    collections::HashMap,
    io::{self, Write},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::RwLock;

use crate::{Blob, BlobService, BlobWriter, Digest, Error, HashedBlob};

/// Blobs in memory, for tests and small tools.
#[derive(Debug, Default)]
pub struct MemoryBlobService {
    blobs: RwLock<HashMap<Digest, Bytes>>,
}

impl BlobService for MemoryBlobService {
    fn open(&self, digest: &Digest) -> Result<Option<Arc<dyn Blob>>, Error> {
        let blob = self.blobs.read().get(digest).cloned();
        Ok(blob.map(|bytes| Arc::new(MemoryBlob(bytes)) as Arc<dyn Blob>))
    }

    fn put(&self, blob: &HashedBlob<'_>) -> Result<(), Error> {
        self.blobs
            .write()
            .entry(*blob.digest())
            .or_insert_with(|| Bytes::copy_from_slice(blob.bytes()));
        Ok(())
    }

    fn writer(&self) -> Result<Box<dyn BlobWriter + '_>, Error> {
        Ok(Box::new(MemoryBlobWriter {
            service: self,
            content: Vec::new(),
        }))
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// A blob in memory.
#[derive(Debug)]
pub(crate) struct MemoryBlob(pub(crate) Bytes);

impl Blob for MemoryBlob {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Error> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.0.get(offset..))
            .unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
}

struct MemoryBlobWriter<'a> {
    service: &'a MemoryBlobService,
    content: Vec<u8>,
}

impl Write for MemoryBlobWriter<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.content.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobWriter for MemoryBlobWriter<'_> {
    fn finish(self: Box<Self>) -> Result<(Digest, u64), Error> {
        let blob = HashedBlob::new(&self.content);
        self.service.put(&blob)?;
        Ok((*blob.digest(), self.content.len() as u64))
    }
}
