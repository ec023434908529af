use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    fs::File,
    hash::{BuildHasher, RandomState},
    io,
    sync::Arc,
};

use parking_lot::Mutex;

use crate::core::{FileId, FsError};

/// Makes files known to the kernel, which then reads them by itself.
pub trait Backing: fmt::Debug + Send + Sync {
    /// Makes a file known; answers its number.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn register(&self, file: &File) -> io::Result<u32>;

    /// Takes that back. Who has the file open keeps it.
    fn unregister(&self, id: u32);
}

/// The files that are open, where it has to be known.
///
/// Invariants:
///
/// - While a file is open, every open of it is answered alike. The kernel
///   refuses another number for an inode that is open, and so it does reads
///   through its cache beside reads of a backing file.
/// - An entry belongs to contents, not to a nodeid: a RELEASE may be handled
///   after the FORGET that followed it, when the nodeid means another file.
#[derive(Debug)]
pub(super) struct OpenFiles {
    shards: [Mutex<Shard>; SHARDS as usize],
    hasher: RandomState,
}

const SHARDS: u64 = 16;

#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<FileId, Open>,
    by_handle: HashMap<u64, FileId>,
    last_handle: u64,
}

#[derive(Debug)]
struct Open {
    opened: Opened,
    count: u64,
}

/// How an open is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opened {
    /// The same for all who have the file open.
    pub(super) handle: u64,
    /// Read by the kernel from this file, else through READ.
    pub(super) backing: Option<u32>,
}

impl Default for OpenFiles {
    fn default() -> Self {
        Self {
            shards: Default::default(),
            hasher: RandomState::new(),
        }
    }
}

impl OpenFiles {
    /// Opens a file once more. `find` is asked for what backs it, unless that
    /// is known.
    pub(super) fn open(
        &self,
        file: FileId,
        backing: &dyn Backing,
        find: impl FnOnce() -> Result<Option<Arc<File>>, FsError>,
    ) -> Result<Opened, FsError> {
        let number = self.hasher.hash_one(file) % SHARDS;
        let shard = &self.shards[number as usize];
        if let Some(open) = shard.lock().entries.get_mut(&file) {
            open.count += 1;
            return Ok(open.opened);
        }
        // It may wait for the disk, so nothing is locked. Another may open the
        // file meanwhile.
        let found = find()?;
        let mut shard = shard.lock();
        let shard = &mut *shard;
        match shard.entries.entry(file) {
            Entry::Occupied(mut entry) => {
                let open = entry.get_mut();
                open.count += 1;
                Ok(open.opened)
            }
            Entry::Vacant(entry) => {
                let id = found.and_then(|found| match backing.register(&found) {
                    Ok(id) => Some(id),
                    Err(error) => {
                        tracing::debug!(%error, "the kernel does not take a backing file");
                        None
                    }
                });
                shard.last_handle += 1;
                let opened = Opened {
                    handle: shard.last_handle * SHARDS + number,
                    backing: id,
                };
                entry.insert(Open { opened, count: 1 });
                shard.by_handle.insert(opened.handle, file);
                Ok(opened)
            }
        }
    }

    /// Closes a file once.
    pub(super) fn release(&self, handle: u64, backing: &dyn Backing) {
        let mut shard = self.shards[(handle % SHARDS) as usize].lock();
        let shard = &mut *shard;
        let Entry::Occupied(by_handle) = shard.by_handle.entry(handle) else {
            tracing::warn!(handle, "a file is closed that is not open");
            return;
        };
        let Entry::Occupied(mut entry) = shard.entries.entry(*by_handle.get()) else {
            return;
        };
        entry.get_mut().count -= 1;
        if entry.get().count == 0 {
            by_handle.remove();
            if let Some(id) = entry.remove().opened.backing {
                backing.unregister(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        sync::atomic::{AtomicBool, Ordering::Relaxed},
        thread,
    };

    use castore::Digest;

    use super::*;

    #[derive(Debug, Default)]
    struct Numbers {
        known: Mutex<HashSet<u32>>,
        last: Mutex<u32>,
        refuse: AtomicBool,
    }

    impl Backing for Numbers {
        fn register(&self, _: &File) -> io::Result<u32> {
            if self.refuse.load(Relaxed) {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            let mut last = self.last.lock();
            *last += 1;
            self.known.lock().insert(*last);
            Ok(*last)
        }

        fn unregister(&self, id: u32) {
            assert!(self.known.lock().remove(&id), "{id} is not known");
        }
    }

    fn id(content: &str, executable: bool) -> FileId {
        FileId {
            digest: Digest::of(content.as_bytes()),
            executable,
        }
    }

    fn some_file() -> Result<Option<Arc<File>>, FsError> {
        let file = File::open("/dev/null").expect("it is everywhere");
        Ok(Some(Arc::new(file)))
    }

    #[test]
    fn who_opens_the_same_shares_a_number() {
        let (files, numbers) = (OpenFiles::default(), Numbers::default());
        let open = |content, x| files.open(id(content, x), &numbers, some_file);
        let a = open("a", false).expect("opened");
        assert!(a.backing.is_some());
        assert_eq!(open("a", false).expect("opened"), a);
        let x = open("a", true).expect("opened");
        assert_ne!(x.backing, a.backing, "another inode");
        assert_eq!(numbers.known.lock().len(), 2);
        files.release(a.handle, &numbers);
        assert_eq!(numbers.known.lock().len(), 2);
        files.release(a.handle, &numbers);
        files.release(x.handle, &numbers);
        assert!(numbers.known.lock().is_empty());
        // The kernel may be mistaken.
        files.release(a.handle, &numbers);
        assert_ne!(open("a", false).expect("opened").handle, a.handle);
    }

    #[test]
    fn what_is_open_stays_as_it_was_opened() {
        let (files, numbers) = (OpenFiles::default(), Numbers::default());
        let file = id("a", false);
        let first = files.open(file, &numbers, || Ok(None)).expect("opened");
        assert_eq!(first.backing, None);
        let second = files.open(file, &numbers, some_file).expect("opened");
        assert_eq!(second, first, "although there is a file now");
        files.release(first.handle, &numbers);
        files.release(first.handle, &numbers);
        let third = files.open(file, &numbers, some_file).expect("opened");
        assert!(third.backing.is_some());
    }

    #[test]
    fn what_the_kernel_refuses_is_read_otherwise() {
        let (files, numbers) = (OpenFiles::default(), Numbers::default());
        numbers.refuse.store(true, Relaxed);
        let opened = files.open(id("a", false), &numbers, some_file);
        assert_eq!(opened.expect("opened").backing, None);
    }

    #[test]
    fn what_cannot_be_had_is_not_open() {
        let (files, numbers) = (OpenFiles::default(), Numbers::default());
        let file = id("a", false);
        assert!(
            files
                .open(file, &numbers, || Err(FsError::NotFound))
                .is_err()
        );
        assert!(files.open(file, &numbers, some_file).is_ok());
    }

    #[test]
    fn threads_agree() {
        let (files, numbers) = (OpenFiles::default(), Numbers::default());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..2000 {
                        let file = id(["a", "b", "c"][round % 3], false);
                        let opened = files.open(file, &numbers, some_file).expect("opened");
                        let again = files.open(file, &numbers, some_file).expect("opened");
                        assert_eq!(again, opened);
                        files.release(opened.handle, &numbers);
                        files.release(opened.handle, &numbers);
                    }
                });
            }
        });
        assert!(numbers.known.lock().is_empty());
    }
}
