//! The files that are open, where it has to be known.
//!
//! Invariants:
//!
//! - While a file is open, every open of it is answered alike. The kernel
//!   refuses another number for an inode that is open, and so it does reads
//!   through its cache beside reads of a backing file.
//! - An entry belongs to contents, not to a nodeid: a RELEASE may be handled
//!   after the FORGET that followed it, when the nodeid means another file.
//! - The entries are in the state. A process that dies may leave a count that
//!   is too high, never one that is too low.

mod record;

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    fmt,
    fs::File,
    io,
    sync::Arc,
};

use parking_lot::Mutex;

use self::record::Records;
use crate::{
    State, StateError,
    core::{FileId, FsError},
};

/// Makes files known to the kernel, which then reads them by itself.
pub trait Backing: fmt::Debug + Send + Sync {
    /// Makes a file known; answers its number.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn register(&self, file: &File) -> io::Result<u32>;

    /// Takes that back. Who has the file open keeps it.
    ///
    /// # Errors
    /// If the kernel cannot be told. The next process tries it again.
    fn unregister(&self, id: u32) -> io::Result<()>;
}

/// See [the module](self).
pub(super) struct OpenFiles {
    records: Records,
    shards: [Mutex<Shard>; SHARDS],
    /// Slots of files that are no longer open, whose backing file another
    /// process did not take back.
    unused: Mutex<Vec<usize>>,
}

const SHARDS: usize = 16;

/// The slots of a shard are those whose number, modulo `SHARDS`, is its own.
#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<FileId, usize>,
    free: Vec<usize>,
    /// How many of its slots were ever used.
    used: usize,
}

/// How an open is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opened {
    /// The same for all who have the file open: the slot, and above it how
    /// often that was used.
    pub(super) handle: u64,
    /// Read by the kernel from this file, else through READ.
    pub(super) backing: Option<u32>,
}

impl OpenFiles {
    /// Goes on with what is in the state.
    pub(super) fn new(state: &Arc<State>) -> Result<Self, StateError> {
        let mut files = Self {
            records: Records::new(state)?,
            shards: Default::default(),
            unused: Mutex::default(),
        };
        let slots = files.records.slots()?;
        for slot in &slots {
            let shard = files.shards[slot % SHARDS].get_mut();
            shard.used = shard.used.max(slot / SHARDS + 1);
        }
        let mut used = HashSet::new();
        for slot in slots {
            let record = files.records.get(slot);
            let Some(file) = record.file()? else {
                continue;
            };
            used.insert(slot);
            if record.count() == 0 {
                files.unused.get_mut().push(slot);
                continue;
            }
            let shard = files.shards[slot % SHARDS].get_mut();
            let is_alone = shard.entries.insert(file, slot).is_none();
            if !is_alone || number(&file) != slot % SHARDS {
                return Err(StateError::damaged(format!(
                    "the open file {slot} is elsewhere"
                )));
            }
        }
        for (number, shard) in files.shards.iter_mut().enumerate() {
            let shard = shard.get_mut();
            let free = (0..shard.used).map(|n| n * SHARDS + number);
            shard.free = free.filter(|slot| !used.contains(slot)).collect();
        }
        Ok(files)
    }

    /// Opens a file once more. `find` is asked for what backs it, unless that
    /// is known.
    pub(super) fn open(
        &self,
        file: FileId,
        backing: &dyn Backing,
        find: impl FnOnce() -> Result<Option<Arc<File>>, FsError>,
    ) -> Result<Opened, FsError> {
        let mut shard = self.shard(&file).lock();
        if let Some(slot) = shard.entries.get(&file) {
            return Ok(self.records.get(*slot).open(*slot));
        }
        drop(shard);
        // Both may wait, so nothing is locked. Another may open the file
        // meanwhile.
        let id = find()?.and_then(|found| match backing.register(&found) {
            Ok(id) => Some(id),
            Err(error) => {
                tracing::debug!(%error, "the kernel does not take a backing file");
                None
            }
        });
        shard = self.shard(&file).lock();
        let opened = self.add(&mut shard, file, id);
        drop(shard);
        if let Some(id) = id
            && !matches!(opened, Ok(Opened { backing: Some(used), .. }) if used == id)
        {
            unregister(backing, id);
        }
        opened
    }

    fn add(&self, shard: &mut Shard, file: FileId, id: Option<u32>) -> Result<Opened, FsError> {
        let Shard {
            entries,
            free,
            used,
        } = shard;
        match entries.entry(file) {
            Entry::Occupied(entry) => Ok(self.records.get(*entry.get()).open(*entry.get())),
            Entry::Vacant(entry) => {
                let number = number(&file);
                let slot = match free.pop() {
                    Some(slot) => slot,
                    None if *used < Records::LEN / SHARDS => {
                        *used += 1;
                        (*used - 1) * SHARDS + number
                    }
                    None => return Err(FsError::TooManyOpenFiles),
                };
                entry.insert(slot);
                Ok(self.records.get(slot).fill(slot, &file, id))
            }
        }
    }

    /// Closes a file once.
    pub(super) fn release(&self, handle: u64, backing: &dyn Backing) {
        let slot = handle as u32 as usize;
        let mut shard = self.shards[slot % SHARDS].lock();
        let record = match slot / SHARDS < shard.used {
            true => Some(self.records.get(slot)),
            false => None,
        };
        let record = record.filter(|record| record.handle(slot) == handle);
        let Some(record) = record.filter(|record| record.count() > 0) else {
            tracing::warn!(handle, "a file is closed that is not open");
            return;
        };
        if record.close() > 0 {
            return;
        }
        if let Ok(Some(file)) = record.file() {
            shard.entries.remove(&file);
        }
        drop(shard);
        self.take_back(slot, backing);
    }

    /// Takes back what another process did not.
    pub(super) fn take_back_unused(&self, backing: &dyn Backing) {
        for slot in std::mem::take(&mut *self.unused.lock()) {
            self.take_back(slot, backing);
        }
    }

    /// Of a file that is no longer open. It may wait. If this process dies
    /// before the record is cleared, or the kernel cannot be told, the next
    /// takes the number back once more, which does no harm.
    fn take_back(&self, slot: usize, backing: &dyn Backing) {
        let record = self.records.get(slot);
        if (record.backing()).is_none_or(|id| unregister(backing, id)) {
            record.clear();
            self.shards[slot % SHARDS].lock().free.push(slot);
        }
    }

    fn shard(&self, file: &FileId) -> &Mutex<Shard> {
        &self.shards[number(file)]
    }
}

/// Whether it could be done.
fn unregister(backing: &dyn Backing, id: u32) -> bool {
    let done = backing.unregister(id);
    if let Err(error) = &done {
        tracing::debug!(id, %error, "a backing file stays open");
    }
    done.is_ok()
}

/// Of the shard; the same in every process.
fn number(file: &FileId) -> usize {
    (usize::from(file.digest.as_bytes()[0]) + usize::from(file.executable)) % SHARDS
}

impl fmt::Debug for OpenFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenFiles").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
