//! Checking anew everything that a store holds.
//!
//! Three things are checked: that each object, referred to or not, has its
//! digest; that each path's contents are all there and give the NAR that its
//! path info says; and that each path's references are there.

mod walk;

pub(crate) use walk::{Problem, problems};

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use castore::local::LocalStore;
use nix_compat::{NixHash, StorePath};
use parking_lot::Mutex;

use crate::{
    Error, PathInfo, PathInfoService,
    nar::{self, RenderError},
    pathinfoservice::LocalPathInfoService,
};

/// What was checked up to now, to be read by another thread.
#[derive(Debug, Default)]
pub struct Progress {
    object_bytes: AtomicU64,
    paths: AtomicU64,
    nar_bytes: AtomicU64,
}

impl Progress {
    /// Bytes of objects.
    pub fn object_bytes(&self) -> u64 {
        self.object_bytes.load(Ordering::Relaxed)
    }

    /// Store paths.
    pub fn paths(&self) -> u64 {
        self.paths.load(Ordering::Relaxed)
    }

    /// Bytes of the NARs of these.
    pub fn nar_bytes(&self) -> u64 {
        self.nar_bytes.load(Ordering::Relaxed)
    }
}

/// Something that is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// An object, a record among them, cannot be read or is not what it should
    /// be.
    #[error("{0}")]
    Object(#[source] castore::Error),
    /// A path info cannot be read.
    #[error("{0}")]
    PathInfo(#[source] Error),
    /// Part of a path's contents cannot be read.
    #[error("{store_path}: {path}: {source}")]
    Contents {
        /// The store path.
        store_path: StorePath,
        /// Where in it.
        path: String,
        /// What is wrong.
        source: castore::Error,
    },
    /// A file is not as long as its directory says.
    #[error("{store_path}: {path}: the blob has {found} bytes, the directory says {expected}")]
    Size {
        /// The store path.
        store_path: StorePath,
        /// Where in it.
        path: String,
        /// The blob's size.
        found: u64,
        /// The size in the directory.
        expected: u64,
    },
    /// The contents are sound, but not those of the path info.
    #[error(
        "{store_path}: the NAR of its contents has the hash {found} ({found_size} bytes), but \
         should have {expected} ({expected_size} bytes)"
    )]
    Nar {
        /// The store path.
        store_path: StorePath,
        /// The hash in the path info.
        expected: NixHash,
        /// The size in the path info.
        expected_size: u64,
        /// The hash of the contents.
        found: NixHash,
        /// The size of their NAR.
        found_size: u64,
    },
    /// The contents cannot be written as a NAR.
    #[error("{store_path}: {source}")]
    Render {
        /// The store path.
        store_path: StorePath,
        /// Why not.
        source: nix_compat::nar::writer::Error,
    },
    /// A path that is referred to is not there.
    #[error("{store_path} refers to {reference}, which is not in the store")]
    MissingReference {
        /// The store path.
        store_path: StorePath,
        /// What it refers to.
        reference: StorePath,
    },
}

/// Checks everything that `store` holds, on all cores, and reports each damage
/// as it is found.
///
/// # Errors
/// If the check could not be done. Damage is reported, not returned.
pub fn everything(
    store: &Arc<LocalStore>,
    progress: &Progress,
    report: &(dyn Fn(Damage) + Sync),
) -> Result<(), Error> {
    store.check(
        &|bytes| {
            progress.object_bytes.fetch_add(bytes, Ordering::Relaxed);
        },
        &|error| report(Damage::Object(error)),
    )?;
    let infos = LocalPathInfoService::new(store.clone());
    paths(store, infos.list(), progress, report)
}

/// Checks these paths.
///
/// # Errors
/// If the check could not be done. Damage is reported, not returned.
pub fn paths(
    store: &Arc<LocalStore>,
    list: impl Iterator<Item = Result<PathInfo, Error>> + Send,
    progress: &Progress,
    report: &(dyn Fn(Damage) + Sync),
) -> Result<(), Error> {
    let infos = LocalPathInfoService::new(store.clone());
    let list = Mutex::new(list);
    let failure = Mutex::new(None);
    let work = || {
        while failure.lock().is_none() {
            // The lock must not be held while the path is checked.
            let next = list.lock().next();
            let result = match next {
                None => return,
                Some(Ok(info)) => path(store, &infos, &info, report).map(|()| {
                    progress.paths.fetch_add(1, Ordering::Relaxed);
                    (progress.nar_bytes).fetch_add(info.nar_size, Ordering::Relaxed);
                }),
                Some(Err(error)) => damaged(error).map(report),
            };
            if let Err(error) = result {
                failure.lock().get_or_insert(error);
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    failure.into_inner().map_or(Ok(()), Err)
}

/// Damage as such, and everything else as a failure of the check.
fn damaged(error: Error) -> Result<Damage, Error> {
    match error {
        Error::Damaged { .. } | Error::ForeignRecord { .. } => Ok(Damage::PathInfo(error)),
        Error::Castore(source) => match source.is_damage() {
            true => Ok(Damage::Object(source)),
            false => Err(source.into()),
        },
    }
}

impl Problem {
    fn at(self, store_path: StorePath, path: String) -> Damage {
        match self {
            Self::Read(source) => Damage::Contents {
                store_path,
                path,
                source,
            },
            Self::Size { found, expected } => Damage::Size {
                store_path,
                path,
                found,
                expected,
            },
        }
    }
}

fn path(
    store: &Arc<LocalStore>,
    infos: &LocalPathInfoService,
    info: &PathInfo,
    report: &(dyn Fn(Damage) + Sync),
) -> Result<(), Error> {
    match nar::digest(&info.node, &**store, &**store) {
        Ok(nar) if nar.sha256 == info.nar_sha256 && nar.size == info.nar_size => {}
        Ok(nar) => report(Damage::Nar {
            store_path: info.store_path.clone(),
            expected: NixHash::Sha256(info.nar_sha256),
            expected_size: info.nar_size,
            found: NixHash::Sha256(nar.sha256),
            found_size: nar.size,
        }),
        Err(RenderError::Read { source, .. }) if !source.is_damage() => return Err(source.into()),
        // There may be more than the first.
        Err(RenderError::Read { .. } | RenderError::Size { .. }) => {
            problems(&info.node, &**store, &**store, |_, path, problem| {
                report(problem.at(info.store_path.clone(), path));
            })?;
        }
        Err(RenderError::Write(source)) => report(Damage::Render {
            store_path: info.store_path.clone(),
            source,
        }),
    }
    for reference in info.other_references() {
        match infos.get(reference.digest()) {
            Ok(Some(_)) => {}
            Ok(None) => report(Damage::MissingReference {
                store_path: info.store_path.clone(),
                reference: reference.clone(),
            }),
            Err(error) => report(damaged(error)?),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io;

    use castore::{
        BlobService as _, Digest, HashedBlob, Node,
        blobservice::{FaultyBlobService, MemoryBlobService},
        directoryservice::MemoryDirectoryService,
        fault::{Call, Fault, Faults, Rule},
    };

    use super::*;

    #[test]
    fn what_cannot_be_looked_at_is_not_damaged() {
        let [eio, enoent, eacces, emfile] = [5, 2, 13, 24];
        for (errno, is_damage) in [
            (eio, true),
            (enoent, true),
            (eacces, false),
            (emfile, false),
        ] {
            let source = io::Error::from_raw_os_error(errno);
            let error = castore::Error::io("read", "/store")(source);
            assert_eq!(damaged(error.into()).is_ok(), is_damage, "{errno}");
        }
    }

    #[test]
    fn a_walk_ends_where_a_service_fails() {
        let faults = Faults::new();
        let blobs = FaultyBlobService::new(Arc::new(MemoryBlobService::default()), faults.clone());
        blobs.put(&HashedBlob::new(b"x")).unwrap();
        let node = Node::File {
            digest: Digest::of(b"x"),
            size: 1,
            executable: false,
        };
        let walk = || {
            let mut found = 0;
            let directories = MemoryDirectoryService::default();
            problems(&node, &blobs, &directories, |_, _, _| found += 1).map(|()| found)
        };
        assert_eq!(walk().unwrap(), 0);
        faults.add(Rule::new(Call::Read, Fault::Damage));
        assert_eq!(walk().unwrap(), 1);
        faults.clear();
        faults.add(Rule::new(Call::Read, Fault::Fail));
        assert!(walk().is_err());
    }
}
