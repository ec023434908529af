use std::{
    fs::File,
    io::{self, Write},
    sync::Arc,
};

use crate::{
    Blob, BlobService, BlobWriter, Digest, Error, HashedBlob, Object,
    fault::{Call, Distortion, Faults},
};

/// A blob service that fails as its [`Faults`] say.
#[derive(Debug)]
pub struct FaultyBlobService {
    inner: Arc<dyn BlobService>,
    faults: Arc<Faults>,
}

impl FaultyBlobService {
    /// `inner`, with faults.
    pub fn new(inner: Arc<dyn BlobService>, faults: Arc<Faults>) -> Self {
        Self { inner, faults }
    }

    fn meet(&self, call: Call, digest: Option<Digest>) -> Result<Option<Distortion>, Error> {
        self.faults.meet(call, digest, Object::Blob)
    }
}

impl BlobService for FaultyBlobService {
    fn open(&self, digest: &Digest) -> Result<Option<Arc<dyn Blob>>, Error> {
        if self.meet(Call::Open, Some(*digest))? == Some(Distortion::Absent) {
            return Ok(None);
        }
        let inner = self.inner.open(digest)?;
        Ok(inner.map(|inner| {
            Arc::new(FaultyBlob {
                inner,
                digest: *digest,
                faults: self.faults.clone(),
            }) as Arc<dyn Blob>
        }))
    }

    fn has(&self, digest: &Digest) -> Result<bool, Error> {
        match self.meet(Call::Has, Some(*digest))? {
            Some(Distortion::Absent) => Ok(false),
            _ => self.inner.has(digest),
        }
    }

    fn put(&self, blob: &HashedBlob<'_>) -> Result<(), Error> {
        self.meet(Call::Put, Some(*blob.digest()))?;
        self.inner.put(blob)
    }

    fn writer(&self) -> Result<Box<dyn BlobWriter + '_>, Error> {
        self.meet(Call::Writer, None)?;
        Ok(Box::new(FaultyBlobWriter {
            inner: self.inner.writer()?,
            faults: &self.faults,
        }))
    }

    fn discard(&self, digest: &Digest) -> Result<(), Error> {
        self.meet(Call::Discard, Some(*digest))?;
        self.inner.discard(digest)
    }

    fn flush(&self) -> Result<(), Error> {
        self.meet(Call::Flush, None)?;
        self.inner.flush()
    }
}

#[derive(Debug)]
struct FaultyBlob {
    inner: Arc<dyn Blob>,
    digest: Digest,
    faults: Arc<Faults>,
}

impl Blob for FaultyBlob {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Error> {
        let distortion = (self.faults).meet(Call::Read, Some(self.digest), Object::Blob)?;
        let len = self.inner.read_at(buf, offset)?;
        if let (Some(Distortion::Lie), Some(byte)) = (distortion, buf[..len].last_mut()) {
            *byte ^= 1;
        }
        Ok(len)
    }

    fn file(&self) -> Option<Arc<File>> {
        self.inner.file()
    }

    fn done_with(&self, offset: u64, len: u64) {
        self.inner.done_with(offset, len);
    }
}

struct FaultyBlobWriter<'a> {
    inner: Box<dyn BlobWriter + 'a>,
    faults: &'a Faults,
}

impl Write for FaultyBlobWriter<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (self.faults)
            .meet(Call::Write, None, Object::Blob)
            .map_err(io::Error::other)?;
        self.inner.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl BlobWriter for FaultyBlobWriter<'_> {
    fn finish(self: Box<Self>) -> Result<(Digest, u64), Error> {
        self.faults.meet(Call::Finish, None, Object::Blob)?;
        self.inner.finish()
    }
}
