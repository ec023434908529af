//! Listings of the root, which changes while it is listed.
//!
//! The entries are listed in the order of their keys, which are spread like
//! hashes, and an offset is a place among all keys there may be:
//!
//! ```text
//! 0, 1          `.` and `..`
//! otherwise     the first 62 bits of a key, at least 2; one more than that of
//!               the entry before if that is not less
//! ```
//!
//! So a listing goes on from an offset whatever came and went meanwhile: what
//! was there all along is listed exactly once, and nothing twice. (Of two keys
//! that share their first 62 bits, one that comes or goes during a listing may
//! move the other.) Nothing has to be remembered of it, and a restart of the
//! process goes unnoticed.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{FsError, Root, RootEntry, RootKey, listing::DOTS};

/// Offsets are positive as an `i64`, and so is one more than the last.
const UNUSED_BITS: u32 = 2;

/// The root's entries at one moment, by offset, each offset once.
#[derive(Debug)]
pub(super) struct RootListing {
    generation: u64,
    entries: Vec<(u64, RootEntry)>,
}

impl RootListing {
    fn new(generation: u64, mut entries: Vec<RootEntry>) -> Self {
        entries
            .sort_unstable_by(|a, b| (a.key, a.name.as_bytes()).cmp(&(b.key, b.name.as_bytes())));
        let mut free = DOTS;
        let placed = entries.into_iter().map(|entry| {
            let at = head(&entry.key).max(free);
            free = at + 1;
            (at, entry)
        });
        Self {
            generation,
            entries: placed.collect(),
        }
    }

    /// The entries from `offset` on, each with its own.
    pub(super) fn from(&self, offset: u64) -> &[(u64, RootEntry)] {
        let first = self.entries.partition_point(|(at, _)| *at < offset);
        &self.entries[first..]
    }
}

fn head(key: &RootKey) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = key.0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> UNUSED_BITS
}

/// The state of the root that was listed last, until a listing comes to its end.
#[derive(Debug, Default)]
pub(super) struct RootListings {
    last: Mutex<Option<Arc<RootListing>>>,
}

impl RootListings {
    /// What the root is now.
    pub(super) fn now(&self, root: &dyn Root) -> Result<Arc<RootListing>, FsError> {
        // Asked before the list, so that a change in between is seen next time.
        let generation = root.generation();
        if let Some(last) = self.last(generation) {
            return Ok(last);
        }
        let listing = Arc::new(RootListing::new(
            generation,
            root.list().map_err(FsError::root)?,
        ));
        *self.last.lock() = Some(Arc::clone(&listing));
        Ok(listing)
    }

    fn last(&self, generation: u64) -> Option<Arc<RootListing>> {
        let last = self.last.lock();
        last.as_ref()
            .filter(|last| last.generation == generation)
            .cloned()
    }

    /// Somebody has it all; keeping it would cost memory for nothing.
    pub(super) fn done(&self) {
        *self.last.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use castore::Node;

    use super::*;

    fn entry(head: u64, name: &str) -> RootEntry {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&(head << UNUSED_BITS).to_be_bytes());
        RootEntry {
            key: RootKey(key),
            name: name.try_into().expect("a name"),
            node: Node::symlink("x".into()).expect("a target"),
        }
    }

    fn listed(listing: &RootListing, offset: u64) -> Vec<(u64, String)> {
        let shown = |(at, entry): &(u64, RootEntry)| {
            let name = String::from_utf8_lossy(entry.name.as_bytes());
            (*at, name.into_owned())
        };
        listing.from(offset).iter().map(shown).collect()
    }

    #[test]
    fn entries_are_where_their_keys_are() {
        let last = u64::MAX >> UNUSED_BITS;
        let listing = RootListing::new(0, vec![entry(last, "z"), entry(70, "b"), entry(7, "a")]);
        let named = |at, name: &str| (at, name.to_owned());
        let all = [named(7, "a"), named(70, "b"), named(last, "z")];
        assert_eq!(listed(&listing, DOTS), all);
        assert_eq!(listed(&listing, 8), all[1..]);
        assert_eq!(listed(&listing, 70), all[1..]);
        assert_eq!(listed(&listing, 71), all[2..]);
        assert_eq!(listed(&listing, last + 1), []);
        assert!(i64::try_from(last + 1).is_ok());
    }

    #[test]
    fn no_two_entries_have_one_offset() {
        let entries = [(0, "c"), (1, "a"), (3, "b"), (4, "y"), (4, "x")];
        let entries = entries.map(|(head, name)| entry(head, name)).to_vec();
        let listing = RootListing::new(0, entries);
        let offsets: Vec<u64> = listing.from(0).iter().map(|(at, _)| *at).collect();
        assert_eq!(offsets, [2, 3, 4, 5, 6]);
    }

    #[test]
    fn what_was_there_all_along_is_listed_once() {
        let base: Vec<_> = (0..100)
            .map(|n| entry(10 + n * 10, &format!("{n}")))
            .collect();
        let mut seen = Vec::new();
        let mut offset = DOTS;
        for round in 0.. {
            let mut entries = base.clone();
            entries.extend((0..round).map(|n| entry(5 + n * 7 % 1000, &format!("more-{n}"))));
            let listing = RootListing::new(round, entries);
            let Some((at, entry)) = listing.from(offset).first() else {
                break;
            };
            seen.push(entry.name.clone());
            offset = at + 1;
        }
        let listed = |name: &&RootEntry| seen.iter().filter(|seen| **seen == name.name).count();
        assert!(base.iter().all(|entry| listed(&entry) == 1));
        let mut unique = seen.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), seen.len());
    }
}
