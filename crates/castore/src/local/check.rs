//! Verification of a whole store.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::{
    engine::Engine,
    entry::{Entry, Kind, Place},
    snapshot::merged,
};
use crate::Error;

/// Entries that are checked in the order of the disk instead of that of their
/// digests.
const BATCH: usize = 65_536;

/// Reads everything that the store's tables speak of.
pub(super) fn check(
    engine: &Engine,
    progress: &(dyn Fn(u64) + Sync),
    damage: &(dyn Fn(Error) + Sync),
) -> Result<(), Error> {
    let snapshot = engine.fresh_snapshot()?;
    for (path, detail) in snapshot.damaged() {
        damage(Error::Damaged {
            path: path.clone(),
            detail: detail.clone(),
        });
    }
    let mut entries = merged(&snapshot.indexes, Kind::Record);
    loop {
        let mut batch = Vec::new();
        for entry in entries.by_ref().take(BATCH) {
            match entry {
                Ok(entry) => batch.push(entry),
                Err(error) => damage(error),
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        batch.sort_unstable_by_key(place);
        check_batch(engine, batch, progress, damage)?;
    }
}

fn place(entry: &Entry) -> (super::entry::PackId, bool, u64) {
    match entry.place {
        Place::Pack { offset } => (entry.pack, entry.kind == Kind::Blob, offset),
        Place::File => (entry.pack, true, u64::MAX),
    }
}

/// Checks an object where it is by now, if it was moved or removed since its
/// entry was read.
fn check_entry(engine: &Engine, entry: Entry) -> Result<(), Error> {
    match engine.check(entry) {
        Err(error) if error.is_damage() => {
            let snapshot = engine.fresh_snapshot()?;
            match snapshot.get(entry.kind, &entry.key) {
                Ok(None) => Ok(()),
                Ok(Some(newer)) if newer != entry => engine.check(newer),
                Ok(Some(_)) | Err(_) => Err(error),
            }
        }
        result => result,
    }
}

fn check_batch(
    engine: &Engine,
    batch: Vec<Entry>,
    progress: &(dyn Fn(u64) + Sync),
    damage: &(dyn Fn(Error) + Sync),
) -> Result<(), Error> {
    let queue = Mutex::new(batch.into_iter());
    let failed = AtomicBool::new(false);
    let failure = Mutex::new(None);
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let Some(entry) = queue.lock().next() else {
                return;
            };
            match check_entry(engine, entry) {
                Ok(()) => {}
                Err(error) if error.is_damage() => damage(error),
                Err(error) => {
                    failed.store(true, Ordering::Relaxed);
                    failure.lock().get_or_insert(error);
                }
            }
            progress(entry.size);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    failure.into_inner().map_or(Ok(()), Err)
}
