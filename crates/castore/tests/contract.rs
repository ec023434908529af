//! What every blob service and every directory service does, run over each
//! backend; and what those that wrap others do besides.

#[path = "contract/blobs.rs"]
mod blobs;
#[path = "contract/cache.rs"]
mod cache;
#[path = "contract/directories.rs"]
mod directories;
#[path = "contract/fault.rs"]
mod fault;

use std::{any::Any, sync::Arc};

use castore::{
    BlobService, Digest, DirectoryService,
    blobservice::{CacheBlobService, FaultyBlobService, MemoryBlobService},
    directoryservice::{CacheDirectoryService, FaultyDirectoryService, MemoryDirectoryService},
    fault::Faults,
    local::{Integrity, LocalStore, Options},
};

struct Backend {
    blobs: Arc<dyn BlobService>,
    directories: Arc<dyn DirectoryService>,
    /// What has to live as long.
    _keep: Vec<Box<dyn Any>>,
}

impl Backend {
    fn memory() -> Self {
        Self {
            blobs: Arc::new(MemoryBlobService::default()),
            directories: Arc::new(MemoryDirectoryService::default()),
            _keep: Vec::new(),
        }
    }

    fn local(integrity: Integrity) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            create: true,
            integrity,
        };
        let store = LocalStore::open(dir.path(), &options).unwrap();
        Self {
            blobs: store.clone(),
            directories: store,
            _keep: vec![Box::new(dir)],
        }
    }

    fn session() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            create: true,
            ..Options::default()
        };
        let store = LocalStore::open(dir.path(), &options).unwrap();
        let session = Arc::new(store.begin().unwrap());
        Self {
            blobs: session.clone(),
            directories: session,
            _keep: vec![Box::new(store), Box::new(dir)],
        }
    }

    fn cache(near: Self, far: Self) -> Self {
        Self {
            blobs: Arc::new(CacheBlobService::new(near.blobs, far.blobs)),
            directories: Arc::new(CacheDirectoryService::new(
                near.directories,
                far.directories,
            )),
            _keep: near._keep.into_iter().chain(far._keep).collect(),
        }
    }

    fn faulty(inner: Self) -> Self {
        let faults = Faults::new();
        Self {
            blobs: Arc::new(FaultyBlobService::new(inner.blobs, faults.clone())),
            directories: Arc::new(FaultyDirectoryService::new(inner.directories, faults)),
            _keep: inner._keep,
        }
    }
}

/// Runs each case over each backend, as a test of its own.
macro_rules! contract {
    ($cases:ident: $($case:ident)*) => {
        contract!(@backends $cases [$($case)*]
            memory: Backend::memory(),
            local: Backend::local(Integrity::OnRead),
            local_at_rest: Backend::local(Integrity::AtRest),
            session: Backend::session(),
            faulty: Backend::faulty(Backend::memory()),
            cache: Backend::cache(Backend::memory(), Backend::memory()),
            cache_of_local: Backend::cache(Backend::local(Integrity::OnRead), Backend::memory()),
        );
    };
    (@backends $cases:ident $list:tt $($backend:ident: $new:expr,)*) => {
        $(mod $backend {
            #[allow(unused_imports)]
            use super::*;
            contract!(@tests $cases $new; $list);
        })*
    };
    (@tests $cases:ident $new:expr; [$($case:ident)*]) => {
        $(#[test]
        fn $case() {
            $cases::$case(&$new);
        })*
    };
}

mod every_blob_service {
    use super::*;

    contract! { blobs:
        what_was_put_is_had
        what_was_not_put_is_not_had
        any_range_reads_right
        a_writer_stores_what_it_was_given
        a_dropped_writer_leaves_nothing
        putting_twice_is_no_error
        threads_may_put_and_read_at_once
        an_open_blob_outlives_a_flush
    }
}

mod every_directory_service {
    use super::*;

    contract! { directories:
        what_was_put_is_had
        what_was_not_put_is_not_had
        the_digest_is_that_of_the_encoding
        putting_twice_is_no_error
        threads_may_put_and_get_at_once
    }
}

/// Bytes that differ everywhere.
fn content(seed: usize, len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| (i * 31 + seed * 7 + (i >> 8) + (i >> 16)) as u8)
        .collect()
}

fn read(blobs: &dyn BlobService, digest: &Digest) -> Option<Vec<u8>> {
    let blob = blobs.open(digest).unwrap()?;
    let mut bytes = vec![0; blob.size() as usize];
    assert_eq!(blob.read_at(&mut bytes, 0).unwrap(), bytes.len());
    Some(bytes)
}
