use std::{
    fmt,
    fs::File,
    io::{self, Write},
    sync::{Arc, OnceLock},
};

use super::memory::MemoryBlob;
use crate::{
    Blob, BlobService, BlobWriter, Digest, Error, HashedBlob, Object, flight::Flights,
    outboard::BlobHasher,
};

/// Blobs up to this many bytes are fetched in memory, bigger ones through a
/// buffer of as many.
const BUFFER_LEN: usize = 1024 * 1024;

/// A far service, which has everything, behind a near one, which is faster.
///
/// - A blob that the near service lacks is fetched from the far one: wholly,
///   once however many ask for it at a time, and verified against its digest
///   before anybody sees it or the near service stores it.
/// - The near service only helps. If it fails, that is logged, and the far
///   service answers; so the blob is then verified only as far as that service
///   does it by itself, unless it is small.
/// - A blob that turns out damaged while it is read from the near service is
///   [discarded](BlobService::discard) there and fetched again, in the middle
///   of that reading.
/// - What is put goes to the far service, whose failure fails the call, and
///   then to the near one, whose failure does not.
#[derive(Debug)]
pub struct CacheBlobService {
    shared: Arc<Shared>,
}

impl CacheBlobService {
    /// The composition of `near` and `far`.
    pub fn new(near: Arc<dyn BlobService>, far: Arc<dyn BlobService>) -> Self {
        Self {
            shared: Arc::new(Shared {
                near,
                far,
                flights: Flights::default(),
            }),
        }
    }
}

#[derive(Debug)]
struct Shared {
    near: Arc<dyn BlobService>,
    far: Arc<dyn BlobService>,
    flights: Flights<Option<Fetched>>,
}

/// A blob that was fetched, and who holds it now.
#[derive(Debug, Clone)]
enum Fetched {
    Near(Arc<dyn Blob>),
    /// The far service or, verified, the memory.
    Elsewhere(Arc<dyn Blob>),
}

impl BlobService for CacheBlobService {
    fn open(&self, digest: &Digest) -> Result<Option<Arc<dyn Blob>>, Error> {
        let shared = &self.shared;
        let damaged = match shared.near.open(digest) {
            Ok(Some(near)) => return Ok(Some(shared.cached(digest, near))),
            Ok(None) => false,
            Err(error) => {
                shared.distrust(digest, &error);
                true
            }
        };
        let fetched = shared.flights.fetch(digest, || {
            // It may have come while this thread was about to ask for it.
            if !damaged && let Some(near) = shared.open_near(digest) {
                return Ok(Some(Fetched::Near(near)));
            }
            shared.fetch(digest)
        })?;
        Ok(fetched.map(|fetched| match fetched {
            Fetched::Near(near) => shared.cached(digest, near),
            Fetched::Elsewhere(blob) => blob,
        }))
    }

    fn has(&self, digest: &Digest) -> Result<bool, Error> {
        match self.shared.near.has(digest) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(error) => ignore("look for", digest, &error),
        }
        self.shared.far.has(digest)
    }

    fn put(&self, blob: &HashedBlob<'_>) -> Result<(), Error> {
        self.shared.far.put(blob)?;
        if let Err(error) = self.shared.near.put(blob) {
            ignore("store", blob.digest(), &error);
        }
        Ok(())
    }

    fn writer(&self) -> Result<Box<dyn BlobWriter + '_>, Error> {
        let far = self.shared.far.writer()?;
        let near = self.shared.near.writer();
        Ok(Box::new(Tee {
            far,
            near: near.map_err(|error| ignore_writing(&error)).ok(),
        }))
    }

    fn discard(&self, digest: &Digest) -> Result<(), Error> {
        self.shared.near.discard(digest)?;
        self.shared.far.discard(digest)
    }

    fn flush(&self) -> Result<(), Error> {
        self.shared.far.flush()?;
        if let Err(error) = self.shared.near.flush() {
            tracing::warn!("the near store cannot be flushed: {error}");
        }
        Ok(())
    }
}

impl Shared {
    fn cached(self: &Arc<Self>, digest: &Digest, near: Arc<dyn Blob>) -> Arc<dyn Blob> {
        Arc::new(CachedBlob {
            shared: self.clone(),
            digest: *digest,
            near,
            healed: OnceLock::new(),
        })
    }

    fn open_near(&self, digest: &Digest) -> Option<Arc<dyn Blob>> {
        self.near.open(digest).unwrap_or_else(|error| {
            ignore("open", digest, &error);
            None
        })
    }

    /// Has the near service store the blob anew when it is put.
    fn distrust(&self, digest: &Digest, error: &Error) {
        tracing::warn!("fetching blob {digest} again, for in the near store: {error}");
        if let Err(error) = self.near.discard(digest) {
            ignore("discard", digest, &error);
        }
    }

    /// Copies the blob from far to near, verified.
    fn fetch(&self, digest: &Digest) -> Result<Option<Fetched>, Error> {
        let Some(far) = self.far.open(digest)? else {
            return Ok(None);
        };
        let fetched = match usize::try_from(far.size()) {
            Ok(size) if size <= BUFFER_LEN => self.fetch_small(digest, &*far, size)?,
            _ => match self.fetch_big(digest, &*far)? {
                Some(near) => Fetched::Near(near),
                None => Fetched::Elsewhere(far),
            },
        };
        Ok(Some(fetched))
    }

    fn fetch_small(&self, digest: &Digest, far: &dyn Blob, size: usize) -> Result<Fetched, Error> {
        let mut bytes = vec![0; size];
        read_exact(digest, far, &mut bytes, 0)?;
        let blob = HashedBlob::new(&bytes);
        check(digest, blob.digest())?;
        let near = match self.near.put(&blob) {
            Ok(()) => self.open_near(digest),
            Err(error) => {
                ignore("store", digest, &error);
                None
            }
        };
        Ok(match near {
            Some(near) => Fetched::Near(near),
            None => Fetched::Elsewhere(Arc::new(MemoryBlob(bytes.into()))),
        })
    }

    /// Answers `None` if the near service could not take the blob.
    fn fetch_big(&self, digest: &Digest, far: &dyn Blob) -> Result<Option<Arc<dyn Blob>>, Error> {
        let ignored = |error: &dyn fmt::Display| {
            ignore("store", digest, error);
            Ok(None)
        };
        let mut near = match self.near.writer() {
            Ok(near) => near,
            Err(error) => return ignored(&error),
        };
        // Hashed here as well, for finishing would store whatever it is.
        let mut hasher = BlobHasher::default();
        let mut written = Ok(());
        read_through(digest, far, |part| {
            hasher.update(part);
            written = near.write_all(part);
            written.is_ok()
        })?;
        if let Err(error) = written {
            return ignored(&error);
        }
        check(digest, &hasher.finish().digest)?;
        match near.finish() {
            Ok(_) => Ok(self.open_near(digest)),
            Err(error) => ignored(&error),
        }
    }
}

fn ignore(act: &str, digest: &Digest, error: &dyn fmt::Display) {
    tracing::warn!("cannot {act} blob {digest} in the near store: {error}");
}

fn ignore_writing(error: &dyn fmt::Display) {
    tracing::warn!("cannot write a blob to the near store: {error}");
}

fn corrupt(digest: &Digest, detail: String) -> Error {
    Error::Corrupt {
        object: Object::Blob(*digest),
        place: "the far store".to_owned(),
        detail,
    }
}

fn check(digest: &Digest, found: &Digest) -> Result<(), Error> {
    if found != digest {
        return Err(corrupt(digest, format!("the contents hash to {found}")));
    }
    Ok(())
}

fn read_exact(digest: &Digest, blob: &dyn Blob, buf: &mut [u8], offset: u64) -> Result<(), Error> {
    let len = blob.read_at(buf, offset)?;
    if len < buf.len() {
        let detail = format!("{} bytes were announced", blob.size());
        return Err(corrupt(digest, detail));
    }
    Ok(())
}

/// Reads the whole blob, part by part, as long as `take` wants more.
fn read_through(
    digest: &Digest,
    blob: &dyn Blob,
    mut take: impl FnMut(&[u8]) -> bool,
) -> Result<(), Error> {
    let mut buffer = vec![0; BUFFER_LEN];
    let mut offset = 0;
    // An empty blob is read once as well: that may fail.
    loop {
        let len = (blob.size() - offset).min(BUFFER_LEN as u64) as usize;
        read_exact(digest, blob, &mut buffer[..len], offset)?;
        offset += len as u64;
        if !take(&buffer[..len]) || offset == blob.size() {
            return Ok(());
        }
    }
}

/// A blob of the near service.
#[derive(Debug)]
struct CachedBlob {
    shared: Arc<Shared>,
    digest: Digest,
    near: Arc<dyn Blob>,
    /// What replaces `near` once that has failed.
    healed: OnceLock<Arc<dyn Blob>>,
}

impl CachedBlob {
    /// Fetches the blob again. `error` is what is to be reported if that is not
    /// possible.
    fn heal(&self, error: Error) -> Result<&dyn Blob, Error> {
        match self.fetch_again(&error) {
            Ok(Some(healed)) => Ok(&**self.healed.get_or_init(|| healed)),
            Ok(None) => Err(error),
            Err(failure) => {
                tracing::error!("blob {} cannot be fetched again: {failure}", self.digest);
                Err(error)
            }
        }
    }

    fn fetch_again(&self, error: &Error) -> Result<Option<Arc<dyn Blob>>, Error> {
        let fetched = self.shared.flights.fetch(&self.digest, || {
            self.shared.distrust(&self.digest, error);
            self.shared.fetch(&self.digest)
        })?;
        let near = match fetched {
            Some(Fetched::Near(near)) => near,
            Some(Fetched::Elsewhere(blob)) => return Ok(Some(blob)),
            None => return Ok(None),
        };
        // The near service may have failed to notice that it has to store the
        // blob anew.
        match read_through(&self.digest, &*near, |_| true) {
            Ok(()) => Ok(Some(near)),
            Err(error) => {
                ignore("heal", &self.digest, &error);
                self.shared.far.open(&self.digest)
            }
        }
    }
}

impl Blob for CachedBlob {
    fn size(&self) -> u64 {
        self.near.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Error> {
        if let Some(healed) = self.healed.get() {
            return healed.read_at(buf, offset);
        }
        match self.near.read_at(buf, offset) {
            Ok(len) => Ok(len),
            Err(error) => self.heal(error)?.read_at(buf, offset),
        }
    }

    fn file(&self) -> Option<Arc<File>> {
        self.healed.get().unwrap_or(&self.near).file()
    }

    fn done_with(&self, offset: u64, len: u64) {
        self.healed
            .get()
            .unwrap_or(&self.near)
            .done_with(offset, len);
    }
}

/// Writes to both services.
struct Tee<'a> {
    far: Box<dyn BlobWriter + 'a>,
    near: Option<Box<dyn BlobWriter + 'a>>,
}

impl Write for Tee<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let len = self.far.write(buf)?;
        let copied = self.near.as_mut().map(|near| near.write_all(&buf[..len]));
        if let Some(Err(error)) = copied {
            ignore_writing(&error);
            self.near = None;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.far.flush()
    }
}

impl BlobWriter for Tee<'_> {
    fn finish(self: Box<Self>) -> Result<(Digest, u64), Error> {
        let finished = self.far.finish()?;
        if let Some(Err(error)) = self.near.map(BlobWriter::finish) {
            ignore("store", &finished.0, &error);
        }
        Ok(finished)
    }
}
