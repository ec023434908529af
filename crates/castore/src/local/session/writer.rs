use std::{
    fs::File,
    io::{self, Write},
    ops::Deref,
};

use super::{Kind, Session, WHOLE_FILE_LEN};
use crate::{BlobService, BlobWriter, Digest, Error, HashedBlob, outboard::BlobHasher};

/// Keeps a blob in memory until it is big enough to be a file of its own.
pub(in crate::local) struct SessionBlobWriter<S: Deref<Target = Session>> {
    session: S,
    hasher: BlobHasher,
    buffer: Vec<u8>,
    file: Option<(String, File)>,
}

impl<S: Deref<Target = Session>> SessionBlobWriter<S> {
    pub(in crate::local) fn new(session: S) -> Self {
        Self {
            session,
            hasher: BlobHasher::default(),
            buffer: Vec::new(),
            file: None,
        }
    }
}

impl<S: Deref<Target = Session>> Write for SessionBlobWriter<S> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.file.is_none() && self.buffer.len() + data.len() < WHOLE_FILE_LEN {
            self.buffer.extend_from_slice(data);
            return Ok(data.len());
        }
        if self.file.is_none() {
            let (name, mut file) = self
                .session
                .write(|state| state.temporary_file(&self.session.folder))
                .map_err(io::Error::other)?;
            self.hasher.update(&self.buffer);
            file.write_all(&self.buffer)?;
            self.buffer = Vec::new();
            self.file = Some((name, file));
        }
        if let Some((_, file)) = &mut self.file {
            file.write_all(data)?;
        }
        self.hasher.update(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S: Deref<Target = Session>> BlobWriter for SessionBlobWriter<S> {
    fn finish(mut self: Box<Self>) -> Result<(Digest, u64), Error> {
        let Some((name, _)) = self.file.take() else {
            let blob = HashedBlob::new(&self.buffer);
            BlobService::put(&*self.session, &blob)?;
            return Ok((*blob.digest(), self.buffer.len() as u64));
        };
        let hashed = std::mem::take(&mut self.hasher).finish();
        let folder = &self.session.folder;
        if self.session.has(&hashed.digest)? {
            folder.remove_file(&name)?;
        } else {
            self.session.write(|state| {
                state.insert_file(folder, hashed.digest, hashed.size, name, &hashed.outboard)
            })?;
            (self.session.engine).mended(Kind::Blob, hashed.digest.as_bytes());
        }
        Ok((hashed.digest, hashed.size))
    }
}

impl<S: Deref<Target = Session>> Drop for SessionBlobWriter<S> {
    fn drop(&mut self) {
        if let Some((name, _)) = &self.file
            && let Err(error) = self.session.folder.remove_file(name)
        {
            tracing::warn!("an unfinished blob was left behind: {error}");
        }
    }
}
