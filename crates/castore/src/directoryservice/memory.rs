use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;

use crate::{Digest, Directory, DirectoryService, Error};

/// Directories in memory, for tests and small tools.
#[derive(Debug, Default)]
pub struct MemoryDirectoryService {
    directories: RwLock<HashMap<Digest, Arc<Directory>>>,
}

impl DirectoryService for MemoryDirectoryService {
    fn get(&self, digest: &Digest) -> Result<Option<Arc<Directory>>, Error> {
        Ok(self.directories.read().get(digest).cloned())
    }

    fn put(&self, directory: &Directory) -> Result<Digest, Error> {
        let digest = directory.digest();
        self.directories
            .write()
            .entry(digest)
            .or_insert_with(|| Arc::new(directory.clone()));
        Ok(digest)
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }
}
