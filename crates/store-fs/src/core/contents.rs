use std::sync::Arc;

use castore::{Blob, BlobService, Digest, Directory, DirectoryService, Error, Object};
use quick_cache::{OptionsBuilder, Weighter, sync::Cache};

use super::Options;
use crate::State;

/// The services, with what was used lately.
#[derive(Debug)]
pub(super) struct Contents {
    blob_service: Arc<dyn BlobService>,
    directory_service: Arc<dyn DirectoryService>,
    blobs: Cache<Digest, Arc<dyn Blob>>,
    directories: Cache<Digest, Arc<Directory>, Size>,
    /// Counts what was at hand.
    state: Arc<State>,
}

/// Few, for a shard has to hold the biggest directories.
const DIRECTORY_SHARDS: usize = 4;

impl Contents {
    pub(super) fn new(
        blob_service: Arc<dyn BlobService>,
        directory_service: Arc<dyn DirectoryService>,
        options: &Options,
        state: Arc<State>,
    ) -> Self {
        Self {
            blob_service,
            directory_service,
            blobs: Cache::new(options.opened_blobs.max(1)),
            directories: directory_cache(options.directory_cache),
            state,
        }
    }

    /// The directory. Whoever asks for one that is being fetched waits for it.
    pub(super) fn directory(&self, digest: &Digest) -> Result<Arc<Directory>, Error> {
        let mut hit = true;
        let directory = self.directories.get_or_insert_with(digest, || {
            hit = false;
            (self.directory_service.get(digest)?).ok_or(Error::Missing {
                object: Object::Directory(*digest),
            })
        });
        self.state.header().counters.add_directory(hit);
        directory
    }

    pub(super) fn blob(&self, digest: &Digest) -> Result<Arc<dyn Blob>, Error> {
        let mut hit = true;
        let blob = self.blobs.get_or_insert_with(digest, || {
            hit = false;
            self.open_blob(digest)
        });
        self.state.header().counters.add_blob(hit);
        blob
    }

    /// As [`blob`](Self::blob), but does not keep it.
    pub(super) fn blob_once(&self, digest: &Digest) -> Result<Arc<dyn Blob>, Error> {
        let kept = self.blobs.get(digest);
        self.state.header().counters.add_blob(kept.is_some());
        kept.map_or_else(|| self.open_blob(digest), Ok)
    }

    fn open_blob(&self, digest: &Digest) -> Result<Arc<dyn Blob>, Error> {
        (self.blob_service.open(digest)?).ok_or(Error::Missing {
            object: Object::Blob(*digest),
        })
    }

    /// Opens all blobs anew: what was removed is not to be kept open.
    pub(super) fn close_blobs(&self) {
        self.blobs.clear();
    }

    /// Opens the blob anew next time: it failed, and may be mended by then.
    pub(super) fn close_blob(&self, digest: &Digest) {
        self.blobs.remove(digest);
    }
}

/// Estimates the memory of a directory.
#[derive(Debug, Clone)]
struct Size {
    /// What is heavier than a shard is not kept at all, and each part of a
    /// listing would read it again; so a giant counts as this much.
    max: u64,
}

impl Weighter<Digest, Arc<Directory>> for Size {
    fn weight(&self, _: &Digest, directory: &Arc<Directory>) -> u64 {
        let entries = directory.entries();
        let size = 128 + size_of_val(entries) as u64 + 24 * entries.len() as u64;
        size.min(self.max)
    }
}

fn directory_cache(bytes: u64) -> Cache<Digest, Arc<Directory>, Size> {
    const TYPICAL: u64 = 2048;
    let max = (bytes / DIRECTORY_SHARDS as u64 / 4).max(1);
    let options = OptionsBuilder::new()
        .shards(DIRECTORY_SHARDS)
        .weight_capacity(bytes)
        .estimated_items_capacity((bytes / TYPICAL) as usize)
        .build();
    match options {
        Ok(options) => Cache::with_options(
            options,
            Size { max },
            Default::default(),
            Default::default(),
        ),
        // Only if one of the two required settings above were missing.
        Err(_) => Cache::with_weighter(1024, bytes, Size { max }),
    }
}
