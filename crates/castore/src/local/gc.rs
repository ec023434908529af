//! Taking things out of a store: records, and what no record reaches any more.
//!
//! Whoever does has the lock that writers commit under, from the first look to
//! the last file removed, and no session lives meanwhile: a session relies on
//! what it found stored. Readers go on. They keep the files that they have open,
//! and look at the newest indexes when one is gone.
//!
//! Everything goes by replacing all indexes with one that says less, or says
//! that objects are elsewhere (`Engine::replace`), and files are removed after
//! that is durable. The steps are apart, so that a crash between any two leaves
//! a store in which each record has its contents:
//!
//! 1. An index without the removed records, but with all objects.
//! 2. An index without the objects that no record reaches. The packs and blob
//!    files that it does not know are removed.
//! 3. For some packs at a time: what lives in them is copied to a new pack, an
//!    index says so, the old ones are removed.
//!
//! What a crash leaves behind is swept by the next session.

mod compact;
mod mark;

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;

use self::mark::Marks;
use super::{
    LocalStore, RecordKey, TMP,
    engine::{Engine, WriteLock},
    entry::{Entry, Kind, PackId},
    folder::Folder,
    snapshot::{Snapshot, Spot},
};
use crate::{Error, Node};

/// Tells the root of what a record, given by key and value, keeps.
pub type RootOf<'a> = dyn Fn(&RecordKey, Bytes) -> Result<Node, Error> + 'a;

/// Why it cannot be told what is garbage, or it cannot be removed.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// It cannot be told what a record keeps, so nothing was removed.
    #[error("what a record keeps cannot be told: {source}")]
    Unknown {
        /// The record.
        key: RecordKey,
        /// What is damaged, or could not be read.
        source: Error,
    },
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] Error),
}

/// How to collect garbage.
#[derive(Clone, Copy)]
pub struct Collection<'a> {
    /// Whether a record is to stay.
    pub keep: &'a dyn Fn(&RecordKey) -> bool,
    /// Called when the other records are gone, and all else is still there.
    pub removed: &'a dyn Fn(),
    /// Packs are written anew of whose bytes more than this many of a hundred
    /// are garbage.
    pub percent: u8,
    /// Where to count what was done.
    pub progress: &'a Progress,
}

impl fmt::Debug for Collection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collection")
            .field("percent", &self.percent)
            .finish_non_exhaustive()
    }
}

/// What was done up to now, to be read by another thread.
#[derive(Debug, Default)]
pub struct Progress {
    marked: AtomicU64,
    copied: AtomicU64,
}

impl Progress {
    /// Objects that were found to live.
    pub fn marked(&self) -> u64 {
        self.marked.load(Relaxed)
    }

    /// Bytes of living objects that were copied to new packs.
    pub fn copied(&self) -> u64 {
        self.copied.load(Relaxed)
    }
}

/// What is garbage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Garbage {
    /// Objects that nothing reaches.
    pub objects: u64,
    /// Bytes that are not of living objects.
    pub bytes: u64,
}

/// What a collection did.
#[derive(Debug, Default)]
pub struct Collected {
    /// Objects that nothing reached.
    pub objects: u64,
    /// Bytes of files that were removed, without those of new packs.
    pub bytes: u64,
    /// Packs that were written anew.
    pub compacted: u64,
    /// Why not all packs were written anew that should have been; the rest was
    /// done.
    pub incomplete: Option<Error>,
}

impl LocalStore {
    /// Counts what would be garbage if only the records remained that `keep`
    /// answers true for. Others may write meanwhile; what they write may count.
    ///
    /// # Errors
    /// If it cannot be told.
    pub fn garbage(
        &self,
        keep: &dyn Fn(&RecordKey) -> bool,
        root_of: &RootOf<'_>,
        progress: &Progress,
    ) -> Result<Garbage, CollectError> {
        let snapshot = self.engine.fresh_snapshot()?;
        let marks = Marks::of(&self.engine, &snapshot, keep, root_of, &progress.marked)?;
        Ok(compact::garbage(&self.engine, &snapshot, &marks)?)
    }
}

/// A store that nobody else writes to.
#[derive(Debug)]
pub struct Exclusive {
    engine: Arc<Engine>,
    lock: WriteLock,
    /// As that of a session, for new files.
    name: String,
    folder: Folder,
    /// As in a session: what is left is swept.
    moving: AtomicBool,
}

impl Exclusive {
    pub(super) fn begin(
        engine: Arc<Engine>,
        waits: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Self, Error> {
        loop {
            let lock = engine.lock_unless(waits)?;
            let tmp = engine.folder().folder(TMP)?;
            engine.sweep(&lock, &tmp)?;
            let Some(session) = engine.living(&lock)? else {
                let name = PackId(super::random()?).to_string();
                let folder = tmp.make_folder(&name)?;
                folder.lock(true)?;
                return Ok(Self {
                    engine,
                    lock,
                    name,
                    folder,
                    moving: AtomicBool::new(false),
                });
            };
            let holder = session.lock_holder();
            let holder = holder.unwrap_or_else(|| "a session of another process".to_owned());
            if !waits(&holder) {
                return Err(engine.busy(holder));
            }
            // It has to commit, and that needs the lock.
            drop(lock);
            session.lock(true)?;
        }
    }

    /// Removes records; answers how many of these there were. On return that is
    /// durable. What they kept is there until it is [collected](Self::collect).
    ///
    /// # Errors
    /// If the store cannot be read or written. Then each of them may be there or
    /// not.
    pub fn remove_records(&self, keys: &BTreeSet<RecordKey>) -> Result<u64, Error> {
        let snapshot = self.snapshot()?;
        let mut found = 0;
        for key in keys {
            found += u64::from(snapshot.locate(Kind::Record, &key.0)?.is_some());
        }
        if found > 0 {
            self.replace(&snapshot, &snapshot, entries(&snapshot), |_, entry| {
                let is_removed = entry.kind == Kind::Record && keys.contains(&RecordKey(entry.key));
                (!is_removed).then_some(entry)
            })?;
            self.engine.reload(&self.lock)?;
        }
        Ok(found)
    }

    /// Puts one index in the place of all that `now` has, of what `change` makes
    /// of the entries of `source`.
    fn replace(
        &self,
        source: &Snapshot,
        now: &Snapshot,
        entries: u64,
        change: impl FnMut(Spot, Entry) -> Option<Entry>,
    ) -> Result<(), Error> {
        let (source, now) = (&source.indexes, &now.indexes);
        self.engine
            .replace(&self.lock, &self.folder, source, now, entries, change)
    }

    /// Removes the records that are not to stay, and all that the others do not
    /// reach. In memory it takes a bit for each
    /// object, 32 bytes for each directory that is yet to be read, and for what
    /// is being written anew 250 bytes for each of up to 100,000 objects.
    ///
    /// # Errors
    /// If it cannot be told what is reached; then nothing was removed. If the
    /// store cannot be written; then nothing was removed that is reached, and each
    /// of the other records may be there or not.
    pub fn collect(
        &self,
        collection: &Collection<'_>,
        root_of: &RootOf<'_>,
    ) -> Result<Collected, CollectError> {
        let snapshot = self.snapshot()?;
        let Collection { keep, progress, .. } = *collection;
        let marks = Marks::of(&self.engine, &snapshot, keep, root_of, &progress.marked)?;
        let mut collected = Collected {
            objects: entries(&snapshot) - marks.count(),
            ..Collected::default()
        };
        if marks.records_left() > 0 {
            self.replace(&snapshot, &snapshot, entries(&snapshot), |spot, entry| {
                (entry.kind != Kind::Record || marks.has(spot)).then_some(entry)
            })?;
            (collection.removed)();
        }
        if collected.objects > 0 {
            // Where the marks are, though its files are gone by now.
            let now = self.engine.reload(&self.lock)?;
            self.replace(&snapshot, &now, marks.count(), |spot, entry| {
                marks.has(spot).then_some(entry)
            })?;
        }
        drop((snapshot, marks));
        let snapshot = self.engine.reload(&self.lock)?;
        collected.bytes += self.engine.remove_unknown_packs(&self.lock, &snapshot)?;
        collected.bytes += self.engine.remove_unknown_blobs(&self.lock, &snapshot)?;
        drop(snapshot);
        // What was freed by now may be what is needed for this.
        if let Err(error) = self.compact(collection.percent, progress, &mut collected) {
            collected.incomplete = Some(error);
        }
        Ok(collected)
    }

    /// All that the store has.
    fn snapshot(&self) -> Result<Arc<Snapshot>, Error> {
        let snapshot = self.engine.reload(&self.lock)?;
        snapshot.check_whole()?;
        Ok(snapshot)
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        if *self.moving.get_mut() {
            return;
        }
        let removed =
            (self.engine.folder().folder(TMP)).and_then(|tmp| tmp.remove_folder(&self.name));
        if let Err(error) = removed {
            tracing::warn!("temporary files were left behind: {error}");
        }
    }
}

/// Entries of all indexes.
fn entries(snapshot: &Snapshot) -> u64 {
    snapshot.indexes.iter().map(|index| index.len()).sum()
}

#[cfg(test)]
mod tests;
