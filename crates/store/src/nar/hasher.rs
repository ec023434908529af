use std::io;

use castore::import::{ObserverError, TreeObserver};
use nix_compat::{
    hash::Sha256Stream,
    nar::{NarWriter, writer},
};

/// What Nix knows a tree by: the hash and size of its NAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NarDigest {
    /// The SHA-256 of the NAR.
    pub sha256: [u8; 32],
    /// Bytes of the NAR.
    pub size: u64,
}

/// Hashes the NAR of a tree while it is imported.
#[derive(Debug)]
pub struct NarHasher {
    nar: NarWriter<Sha256Stream<io::Sink>>,
}

impl NarHasher {
    /// For one import.
    pub fn new() -> Self {
        Self {
            nar: NarWriter::new(Sha256Stream::new(io::sink())),
        }
    }

    /// The hash and size of the NAR.
    ///
    /// # Errors
    /// If the import did not come to its end.
    pub fn finish(self) -> Result<NarDigest, writer::Error> {
        let (_, sha256, size) = self.nar.finish()?.finish();
        Ok(NarDigest { sha256, size })
    }
}

impl Default for NarHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl TreeObserver for NarHasher {
    fn enter_directory(&mut self) -> Result<(), ObserverError> {
        Ok(self.nar.enter_directory()?)
    }

    fn entry(&mut self, name: &[u8]) -> Result<(), ObserverError> {
        Ok(self.nar.entry(name)?)
    }

    fn leave_directory(&mut self) -> Result<(), ObserverError> {
        Ok(self.nar.leave_directory()?)
    }

    fn begin_file(&mut self, executable: bool, size: u64) -> Result<(), ObserverError> {
        Ok(self.nar.begin_file(executable, size)?)
    }

    fn contents(&mut self, bytes: &[u8]) -> Result<(), ObserverError> {
        Ok(self.nar.write_contents(bytes)?)
    }

    fn end_file(&mut self) -> Result<(), ObserverError> {
        Ok(self.nar.end_file()?)
    }

    fn symlink(&mut self, target: &[u8]) -> Result<(), ObserverError> {
        Ok(self.nar.symlink(target)?)
    }
}
