//! What lies near what was asked for.
//!
//! Objects are in a pack in the order of a walk, their entries in an index are
//! scattered. So the neighbourhood of a directory is read at once, and its
//! headers tell where the directories are that will be asked for next: no index
//! is read for them. That is a guess, for nothing vouches for a header; a
//! directory is verified by its digest wherever it was found.

use std::{
    collections::VecDeque,
    fs::File,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::RwLock;
use rustix::fs::{Advice, fadvise};

use super::{
    entry::{Entry, Key, Kind, PackId, Place},
    pack::{Pack, directories},
};

/// Bytes that are read at once.
const AREA: u64 = 256 << 10;
/// Areas whose directories are kept in mind: with 16 bytes for each directory,
/// and 100 bytes the least that one takes in a pack, at most 1.3 MiB.
const AREAS: usize = 32;

/// Where directories of the areas looked at lately are.
#[derive(Debug, Default)]
pub(super) struct Nearby {
    /// The latest first.
    areas: RwLock<VecDeque<Arc<Area>>>,
}

#[derive(Debug)]
struct Area {
    pack: PackId,
    start: u64,
    /// Sorted.
    spots: Box<[Spot]>,
}

/// A directory's place in an area. A few bytes of the key do: a mistake shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Spot {
    key: [u8; 8],
    offset: u32,
    size: u32,
}

fn prefix(key: &Key) -> [u8; 8] {
    *key.first_chunk().unwrap_or(&[0; 8])
}

impl Nearby {
    /// Where the directory may be.
    pub(super) fn find(&self, key: &Key) -> Option<Entry> {
        let prefix = prefix(key);
        let areas = self.areas.read();
        areas.iter().find_map(|area| {
            let at = (area.spots).binary_search_by(|spot| spot.key.cmp(&prefix));
            let spot = area.spots[at.ok()?];
            Some(Entry {
                kind: Kind::Directory,
                key: *key,
                pack: area.pack,
                place: Place::Pack {
                    offset: area.start + u64::from(spot.offset),
                },
                size: u64::from(spot.size),
                outboard: 0,
            })
        })
    }

    /// Forgets what lies in other packs than these.
    pub(super) fn retain(&self, is_there: impl Fn(&PackId) -> bool) {
        self.areas.write().retain(|area| is_there(&area.pack));
    }

    /// Reads what is around `offset` in the pack's `.meta`, unless that was
    /// done lately.
    pub(super) fn look_around(&self, id: PackId, pack: &Pack, offset: u64) {
        let start = offset / AREA * AREA;
        let same = |area: &Arc<Area>| area.pack == id && area.start == start;
        if self.areas.read().iter().any(same) {
            return;
        }
        let mut bytes = vec![0; AREA as usize];
        // Whatever is wrong shows when the directory itself is read.
        let Ok(len) = pack.meta.read_some_at(&mut bytes, start) else {
            return;
        };
        let mut spots: Vec<_> = directories(&bytes[..len])
            .filter_map(|(key, offset, size)| {
                Some(Spot {
                    key: prefix(key),
                    offset: offset.try_into().ok()?,
                    size: size.try_into().ok()?,
                })
            })
            .collect();
        spots.sort_unstable();
        let area = Area {
            pack: id,
            start,
            spots: spots.into(),
        };
        let mut areas = self.areas.write();
        areas.truncate(AREAS - 1);
        areas.push_front(Arc::new(area));
    }
}

/// Reads a file's blocks ahead, each once: when something in it is read for the
/// first time. The kernel does so only for who reads on where he ended.
#[derive(Debug)]
pub(super) struct Blocks {
    block: u64,
    seen: Box<[AtomicU64]>,
}

impl Blocks {
    /// For a file of `len` bytes.
    pub(super) fn new(block: u64, len: u64) -> Self {
        let words = len.div_ceil(block).div_ceil(u64::BITS.into());
        Self {
            block,
            seen: (0..words).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The block at `offset`, if this is the first time that it is asked for.
    fn first(&self, offset: u64) -> Option<Range<u64>> {
        let number = offset / self.block;
        let word = (self.seen).get(usize::try_from(number / u64::from(u64::BITS)).ok()?)?;
        let bit = 1 << (number % u64::from(u64::BITS));
        let is_first = word.load(Relaxed) & bit == 0 && word.fetch_or(bit, Relaxed) & bit == 0;
        is_first.then(|| number * self.block..(number + 1) * self.block)
    }

    /// Something at `offset` is about to be read.
    pub(super) fn read_ahead(&self, file: &File, offset: u64) {
        if let Some(block) = self.first(offset) {
            let len = (block.end - block.start).try_into().ok();
            // A hint, that is all.
            let _ = fadvise(file, block.start, len, Advice::WillNeed);
        }
    }
}

#[cfg(test)]
mod tests;
