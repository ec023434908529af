//! Taking store paths out of a store, and freeing the space that they took.
//!
//! Which paths refer to which is read into a [`References`]; what to keep is up
//! to the caller, who holds a [`castore::local::Exclusive`] from the moment at
//! which he looked until the paths are removed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use castore::{
    Node, Object,
    local::{
        CollectError, Collected, Collection, CollectionProgress, Exclusive, Garbage, LocalStore,
        RecordKey,
    },
};
use nix_compat::StorePath;

use crate::{
    Error, PathInfoService,
    pathinfoservice::{LocalPathInfoService, decode, digest, key},
};

/// A set of store paths, by the digests in them.
pub type PathSet = BTreeSet<[u8; 20]>;

/// Why garbage could not be collected.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// Part of a path's contents is damaged or missing, so that it cannot be told
    /// what else it has. Nothing was removed.
    #[error("what {path} has in it cannot be told: {source}")]
    Unknown {
        /// The path.
        path: String,
        /// What is wrong.
        source: castore::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

/// A store path among others.
#[derive(Debug, Clone)]
pub struct Known {
    /// The path.
    pub store_path: StorePath,
    /// Bytes of its NAR.
    pub nar_size: u64,
    references: Box<[[u8; 20]]>,
}

/// All paths of a store, and which refers to which. In memory, that is some 150
/// bytes for each path and 20 for each reference.
#[derive(Debug, Default)]
pub struct References {
    paths: BTreeMap<[u8; 20], Known>,
}

impl References {
    /// Reads those of `store`.
    ///
    /// # Errors
    /// If a path info cannot be read: it may refer to anything. Those of
    /// `unread` are not looked at; they are left out.
    pub fn read(store: &Arc<LocalStore>, unread: &PathSet) -> Result<Self, Error> {
        let mut paths = BTreeMap::new();
        for info in LocalPathInfoService::new(store.clone()).list() {
            let info = match info {
                Err(error) if concerns(&error, unread) => continue,
                info => info?,
            };
            let references = info.other_references();
            let known = Known {
                references: references.map(|path| *path.digest()).collect(),
                nar_size: info.nar_size,
                store_path: info.store_path,
            };
            paths.insert(*known.store_path.digest(), known);
        }
        Ok(Self { paths })
    }

    /// What is known of a path, if it is there.
    pub fn get(&self, digest: &[u8; 20]) -> Option<&Known> {
        self.paths.get(digest)
    }

    /// Whether exactly this path is there.
    pub fn has(&self, path: &StorePath) -> bool {
        (self.get(path.digest())).is_some_and(|known| known.store_path == *path)
    }

    /// All paths.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8; 20], &Known)> {
        self.paths.iter()
    }

    /// These paths, and what they refer to, as far as it is there.
    pub fn closure(&self, of: impl IntoIterator<Item = [u8; 20]>) -> PathSet {
        let mut found = PathSet::new();
        let mut open: Vec<_> = of.into_iter().collect();
        while let Some(digest) = open.pop() {
            if let Some(known) = self.paths.get(&digest)
                && found.insert(digest)
            {
                open.extend(known.references.iter().copied());
            }
        }
        found
    }

    /// A path that is not among `paths` and refers to one of them, and which.
    pub fn referrer(&self, paths: &PathSet) -> Option<(&Known, [u8; 20])> {
        self.paths.iter().find_map(|(digest, known)| {
            let referred = known.references.iter().find(|path| paths.contains(*path));
            let referred = referred.filter(|_| !paths.contains(digest))?;
            Some((known, *referred))
        })
    }

    /// Adds to `paths` all that refer to them, directly or not.
    pub fn with_referrers(&self, mut paths: PathSet) -> PathSet {
        let mut referrers: BTreeMap<[u8; 20], Vec<[u8; 20]>> = BTreeMap::new();
        for (digest, known) in &self.paths {
            for reference in &known.references {
                referrers.entry(*reference).or_default().push(*digest);
            }
        }
        let mut open: Vec<_> = paths.iter().copied().collect();
        while let Some(digest) = open.pop() {
            for referrer in referrers.remove(&digest).unwrap_or_default() {
                if paths.insert(referrer) {
                    open.push(referrer);
                }
            }
        }
        paths
    }
}

/// Whether it is about the record of one of these paths.
fn concerns(error: &Error, paths: &PathSet) -> bool {
    match error {
        Error::Damaged { digest, .. } => paths.contains(digest),
        Error::Castore(castore::Error::Corrupt {
            object: Object::Record(key),
            ..
        }) => {
            let is_key = |path: &[u8; 20]| castore::Digest::from_bytes(self::key(path).0);
            paths.iter().any(|path| is_key(path).to_string() == *key)
        }
        Error::Castore(_) | Error::ForeignRecord { .. } => false,
    }
}

/// Removes paths; their space is freed by [`collect`]. On return it is durable.
///
/// # Errors
/// If the store cannot be read or written.
pub fn remove(exclusive: &Exclusive, paths: &PathSet) -> Result<(), Error> {
    let keys = paths.iter().map(key).collect();
    exclusive.remove_records(&keys)?;
    Ok(())
}

/// How to [`collect`].
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// The paths that stay.
    pub kept: &'a PathSet,
    /// Called when the others are gone, and their contents are still there.
    pub removed: &'a dyn Fn(),
    /// Parts of the store are written anew of whose bytes more than this many of
    /// a hundred are garbage.
    pub percent: u8,
    /// Where to count what was done.
    pub progress: &'a CollectionProgress,
}

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("kept", &self.kept.len())
            .field("percent", &self.percent)
            .finish_non_exhaustive()
    }
}

/// Removes all paths but those that stay, and frees the space of what is in none
/// of these.
///
/// # Errors
/// If it cannot be told what is in them; then nothing was removed. If the store
/// cannot be read or written.
pub fn collect(exclusive: &Exclusive, options: &Options<'_>) -> Result<Collected, GcError> {
    let keep = |key: &RecordKey| digest(key).is_none_or(|digest| options.kept.contains(&digest));
    let collection = Collection {
        keep: &keep,
        removed: options.removed,
        percent: options.percent,
        progress: options.progress,
    };
    exclusive.collect(&collection, &root_of).map_err(gc_error)
}

/// What [`collect`] would free if only these paths were there.
///
/// # Errors
/// If that cannot be told.
pub fn garbage(
    store: &LocalStore,
    kept: &PathSet,
    progress: &CollectionProgress,
) -> Result<Garbage, GcError> {
    let keep = |key: &RecordKey| digest(key).is_none_or(|digest| kept.contains(&digest));
    store.garbage(&keep, &root_of, progress).map_err(gc_error)
}

fn root_of(key: &RecordKey, record: bytes::Bytes) -> Result<Node, castore::Error> {
    let foreign = |detail: String| castore::Error::Corrupt {
        object: Object::Record(castore::Digest::from_bytes(key.0).to_string()),
        place: "the store".to_owned(),
        detail,
    };
    let digest = digest(key).ok_or_else(|| foreign("it is not of a store path".to_owned()))?;
    match decode(&digest, record) {
        Ok(info) => Ok(info.node),
        Err(error) => Err(foreign(error.to_string())),
    }
}

fn gc_error(error: CollectError) -> GcError {
    match error {
        CollectError::Unknown { key, source } => GcError::Unknown {
            path: digest(&key).map_or_else(
                || "a record".to_owned(),
                |digest| nix_compat::nixbase32::encode(&digest),
            ),
            source,
        },
        CollectError::Store(error) => GcError::Store(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use castore::{BlobService as _, Digest, HashedBlob, local};

    use super::*;
    use crate::PathInfo;

    fn path(number: u8) -> StorePath {
        StorePath::new([number; 20], "x").unwrap()
    }

    /// Paths that refer to others.
    fn store(edges: &[(u8, &[u8])]) -> (tempfile::TempDir, Arc<LocalStore>) {
        let dir = tempfile::tempdir().unwrap();
        let options = local::Options {
            create: true,
            ..local::Options::default()
        };
        let store = LocalStore::open(dir.path(), &options).unwrap();
        let session = store.begin().unwrap();
        for (number, references) in edges {
            let blob = HashedBlob::new(std::slice::from_ref(number));
            session.put(&blob).unwrap();
            let info = PathInfo {
                store_path: path(*number),
                node: Node::File {
                    digest: *blob.digest(),
                    size: 1,
                    executable: false,
                },
                references: references.iter().map(|number| path(*number)).collect(),
                nar_size: 1,
                nar_sha256: [0; 32],
                signatures: Vec::new(),
                deriver: None,
                ca: None,
            };
            LocalPathInfoService::put_into(&session, &info).unwrap();
        }
        session.commit().unwrap();
        (dir, store)
    }

    fn set(numbers: &[u8]) -> PathSet {
        numbers.iter().map(|number| [*number; 20]).collect()
    }

    #[test]
    fn closures_and_referrers() {
        let (_dir, store) = store(&[(1, &[2, 9]), (2, &[2, 3]), (3, &[]), (4, &[3, 4])]);
        let references = References::read(&store, &PathSet::new()).unwrap();
        assert_eq!(references.closure([[1; 20]]), set(&[1, 2, 3]));
        assert_eq!(references.closure([[9; 20]]), set(&[]));
        assert_eq!(references.with_referrers(set(&[2])), set(&[1, 2]));
        assert_eq!(references.with_referrers(set(&[3])), set(&[1, 2, 3, 4]));
        let (referrer, referred) = references.referrer(&set(&[3, 2])).unwrap();
        assert_eq!((&referrer.store_path, referred), (&path(1), [2; 20]));
        assert!(references.referrer(&set(&[1])).is_none());
        // That a path refers to itself keeps it not.
        assert!(references.referrer(&set(&[4])).is_none());
    }

    #[test]
    fn what_is_removed_is_freed() {
        let (_dir, store) = store(&[(1, &[]), (2, &[])]);
        let progress = CollectionProgress::default();
        let garbage = garbage(&store, &set(&[2]), &progress).unwrap();
        assert_eq!(garbage.objects, 2, "the record and the blob");
        assert!(garbage.bytes > 0);
        let exclusive = store.exclusive(&mut |_| false).unwrap();
        remove(&exclusive, &set(&[1])).unwrap();
        assert!(store.has(&Digest::of(&[1])).unwrap());
        let removed = || panic!("no path is left to be removed");
        let options = Options {
            kept: &set(&[2]),
            removed: &removed,
            percent: 0,
            progress: &progress,
        };
        collect(&exclusive, &options).unwrap();
        drop(exclusive);
        let infos = LocalPathInfoService::new(store.clone());
        assert!(infos.get(&[1; 20]).unwrap().is_none());
        assert!(infos.get(&[2; 20]).unwrap().is_some());
        assert!(!store.has(&Digest::of(&[1])).unwrap());
        assert!(store.has(&Digest::of(&[2])).unwrap());
    }

    #[test]
    fn a_collection_removes_what_is_not_kept() {
        let (_dir, store) = store(&[(1, &[]), (2, &[])]);
        let exclusive = store.exclusive(&mut |_| false).unwrap();
        let infos = LocalPathInfoService::new(store.clone());
        let called = std::cell::Cell::new(0);
        let removed = || {
            called.set(called.get() + 1);
            assert!(infos.get(&[1; 20]).unwrap().is_none());
            assert!(store.has(&Digest::of(&[1])).unwrap());
        };
        let options = Options {
            kept: &set(&[2]),
            removed: &removed,
            percent: 30,
            progress: &CollectionProgress::default(),
        };
        let collected = collect(&exclusive, &options).unwrap();
        assert_eq!((called.get(), collected.objects), (1, 2));
        assert!(!store.has(&Digest::of(&[1])).unwrap());
        assert!(infos.get(&[2; 20]).unwrap().is_some());
    }
}
