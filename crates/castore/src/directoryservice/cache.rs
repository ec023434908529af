use std::sync::Arc;

use crate::{Digest, Directory, DirectoryService, Error, Object, flight::Flights};

/// A far service, which has everything, behind a near one, which is faster.
///
/// A directory that the near service lacks, or has damaged, is fetched from the
/// far one, once however many ask for it at a time, verified and stored near.
/// So the near service can have a directory without its children. If the near
/// service fails, that is logged, and the far service answers. What is put goes
/// to the far service, whose failure fails the call, and then to the near one,
/// whose failure does not.
#[derive(Debug)]
pub struct CacheDirectoryService {
    near: Arc<dyn DirectoryService>,
    far: Arc<dyn DirectoryService>,
    flights: Flights<Option<Arc<Directory>>>,
}

impl CacheDirectoryService {
    /// The composition of `near` and `far`.
    pub fn new(near: Arc<dyn DirectoryService>, far: Arc<dyn DirectoryService>) -> Self {
        Self {
            near,
            far,
            flights: Flights::default(),
        }
    }

    fn fetch(&self, digest: &Digest) -> Result<Option<Arc<Directory>>, Error> {
        let Some(directory) = self.far.get(digest)? else {
            return Ok(None);
        };
        let found = directory.digest();
        if found != *digest {
            return Err(Error::Corrupt {
                object: Object::Directory(*digest),
                place: "the far store".to_owned(),
                detail: format!("it hashes to {found}"),
            });
        }
        if let Err(error) = self.near.put(&directory) {
            ignore("store", digest, &error);
        }
        Ok(Some(directory))
    }
}

impl DirectoryService for CacheDirectoryService {
    fn get(&self, digest: &Digest) -> Result<Option<Arc<Directory>>, Error> {
        let damaged = match self.near.get(digest) {
            Ok(Some(directory)) => return Ok(Some(directory)),
            Ok(None) => false,
            Err(error) => {
                tracing::warn!("fetching directory {digest} again, for in the near store: {error}");
                if let Err(error) = self.near.discard(digest) {
                    ignore("discard", digest, &error);
                }
                true
            }
        };
        self.flights.fetch(digest, || {
            // It may have come while this thread was about to ask for it.
            if !damaged && let Ok(Some(directory)) = self.near.get(digest) {
                return Ok(Some(directory));
            }
            self.fetch(digest)
        })
    }

    fn put(&self, directory: &Directory) -> Result<Digest, Error> {
        let digest = self.far.put(directory)?;
        if let Err(error) = self.near.put(directory) {
            ignore("store", &digest, &error);
        }
        Ok(digest)
    }

    fn discard(&self, digest: &Digest) -> Result<(), Error> {
        self.near.discard(digest)?;
        self.far.discard(digest)
    }

    fn flush(&self) -> Result<(), Error> {
        self.far.flush()?;
        if let Err(error) = self.near.flush() {
            tracing::warn!("the near store cannot be flushed: {error}");
        }
        Ok(())
    }
}

fn ignore(act: &str, digest: &Digest, error: &Error) {
    tracing::warn!("cannot {act} directory {digest} in the near store: {error}");
}
