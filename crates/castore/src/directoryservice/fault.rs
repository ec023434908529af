use std::sync::Arc;

use crate::{
    Digest, Directory, DirectoryService, Entry, Error, Node, Object, PathComponent,
    fault::{Call, Distortion, Faults},
};

/// A directory service that fails as its [`Faults`] say.
#[derive(Debug)]
pub struct FaultyDirectoryService {
    inner: Arc<dyn DirectoryService>,
    faults: Arc<Faults>,
}

impl FaultyDirectoryService {
    /// `inner`, with faults.
    pub fn new(inner: Arc<dyn DirectoryService>, faults: Arc<Faults>) -> Self {
        Self { inner, faults }
    }

    fn meet(&self, call: Call, digest: Option<Digest>) -> Result<Option<Distortion>, Error> {
        self.faults.meet(call, digest, Object::Directory)
    }
}

impl DirectoryService for FaultyDirectoryService {
    fn get(&self, digest: &Digest) -> Result<Option<Arc<Directory>>, Error> {
        match self.meet(Call::Open, Some(*digest))? {
            None => self.inner.get(digest),
            Some(Distortion::Absent) => Ok(None),
            Some(Distortion::Lie) => {
                let directory = self.inner.get(digest)?;
                Ok(directory.map(|directory| Arc::new(distorted(&directory))))
            }
        }
    }

    fn put(&self, directory: &Directory) -> Result<Digest, Error> {
        self.meet(Call::Put, Some(directory.digest()))?;
        self.inner.put(directory)
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

/// The directory with an entry added or, if it has that, all removed.
fn distorted(directory: &Directory) -> Directory {
    let mut entries = directory.entries().to_vec();
    if let Ok(name) = PathComponent::try_from("injected fault") {
        let node = Node::File {
            digest: Digest::of(b""),
            size: 0,
            executable: false,
        };
        entries.push(Entry { name, node });
    }
    Directory::new(entries).unwrap_or_default()
}
