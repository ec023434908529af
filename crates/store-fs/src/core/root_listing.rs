//! Listings of the root, which changes while it is listed.
//!
//! A listing shows what was there when it began: one that changes while it is
//! read would leave entries out or give them twice. Nothing tells which
//! listing a request goes on with but its offset (the transport need not open
//! directories), so an offset names the state of the root too:
//!
//! ```text
//! bits 0..32    offset in the listing; all set: its end
//! bits 32..62   the tag of the root's generation
//! ```
//!
//! States that are being listed are kept until the listings end, or for a
//! while: a listing may be left unfinished. After a restart an offset means
//! what it meant before if the root is as it was.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{FsError, Root, RootEntry};

/// How long an unfinished listing is kept.
const PATIENCE: Duration = Duration::from_secs(60);
/// States of the root that are kept at the same time.
const KEPT: usize = 8;

const TAG_BITS: u32 = 30;
const LOW: u64 = u32::MAX as u64;

/// The root's entries at one moment.
#[derive(Debug)]
pub(super) struct RootListing {
    generation: u64,
    entries: Vec<RootEntry>,
}

impl RootListing {
    pub(super) fn entries(&self) -> &[RootEntry] {
        &self.entries
    }

    pub(super) fn tag(&self) -> u64 {
        tag(self.generation)
    }
}

/// Different, as a rule, for generations that are near each other in time.
fn tag(generation: u64) -> u64 {
    generation.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - TAG_BITS)
}

/// The offset `low` in a listing with that tag that ends at `end`.
pub(super) fn offset(tag: u64, low: u64, end: u64) -> u64 {
    (tag << u32::BITS) | if low < end { low.min(LOW - 1) } else { LOW }
}

/// The tag in an offset, and the offset in the listing; `None` at its end.
fn parse(offset: u64) -> (u64, Option<u64>) {
    let low = offset & LOW;
    (offset >> u32::BITS, (low != LOW).then_some(low))
}

#[derive(Debug)]
struct Kept {
    listing: Arc<RootListing>,
    /// Listings that have begun and not ended.
    users: usize,
    used: Instant,
}

/// The states of the root that are being listed.
#[derive(Debug, Default)]
pub(super) struct RootListings {
    kept: Mutex<Vec<Kept>>,
}

impl RootListings {
    /// What is listed from `offset` on, and the offset in it; `None` at the
    /// end.
    pub(super) fn at(
        &self,
        offset: u64,
        root: &dyn Root,
    ) -> Result<Option<(Arc<RootListing>, u64)>, FsError> {
        if offset == 0 {
            return Ok(Some((self.begin(root)?, 0)));
        }
        let (tag, low) = parse(offset);
        let Some(low) = low else {
            self.end(tag);
            return Ok(None);
        };
        if let Some(listing) = self.find(tag) {
            return Ok(Some((listing, low)));
        }
        let listing = self.begin(root)?;
        if listing.tag() == tag {
            Ok(Some((listing, low)))
        } else {
            self.end(listing.tag());
            Err(FsError::ListingGone)
        }
    }

    fn find(&self, tag: u64) -> Option<Arc<RootListing>> {
        let mut kept = self.kept.lock();
        let found = kept.iter_mut().find(|kept| kept.listing.tag() == tag)?;
        found.used = Instant::now();
        Some(Arc::clone(&found.listing))
    }

    fn begin(&self, root: &dyn Root) -> Result<Arc<RootListing>, FsError> {
        // Asked before the list, so that a change in between is seen next time.
        let generation = root.generation();
        if let Some(listing) = self.join(generation) {
            return Ok(listing);
        }
        let entries = root.list().map_err(FsError::root)?;
        // Another may have listed it meanwhile; then this one is dropped.
        if let Some(listing) = self.join(generation) {
            return Ok(listing);
        }
        let listing = Arc::new(RootListing {
            generation,
            entries,
        });
        let mut kept = self.kept.lock();
        let now = Instant::now();
        kept.retain(|kept| {
            now.duration_since(kept.used) < PATIENCE && kept.listing.tag() != listing.tag()
        });
        if kept.len() >= KEPT
            && let Some((oldest, _)) = kept.iter().enumerate().min_by_key(|(_, kept)| kept.used)
        {
            kept.swap_remove(oldest);
        }
        kept.push(Kept {
            listing: Arc::clone(&listing),
            users: 1,
            used: now,
        });
        Ok(listing)
    }

    fn join(&self, generation: u64) -> Option<Arc<RootListing>> {
        let mut kept = self.kept.lock();
        let same = |kept: &&mut Kept| kept.listing.generation == generation;
        let found = kept.iter_mut().find(same)?;
        found.users += 1;
        found.used = Instant::now();
        Some(Arc::clone(&found.listing))
    }

    fn end(&self, tag: u64) {
        let mut kept = self.kept.lock();
        if let Some(at) = kept.iter().position(|kept| kept.listing.tag() == tag) {
            kept[at].users = kept[at].users.saturating_sub(1);
            if kept[at].users == 0 {
                kept.swap_remove(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use castore::{Error, Node};

    use super::*;
    use crate::core::RootKey;

    /// Has as many entries as it had changes.
    #[derive(Debug, Default)]
    struct Counting(AtomicU64);

    impl Root for Counting {
        fn lookup(&self, _: &[u8]) -> Result<Option<RootEntry>, Error> {
            Ok(None)
        }

        fn get(&self, _: &RootKey) -> Result<Option<RootEntry>, Error> {
            Ok(None)
        }

        fn list(&self) -> Result<Vec<RootEntry>, Error> {
            let entry = |number| RootEntry {
                key: RootKey([0; 32]),
                name: format!("{number}").as_str().try_into().expect("a name"),
                node: Node::symlink("x".into()).expect("a target"),
            };
            Ok((0..self.generation()).map(entry).collect())
        }

        fn generation(&self) -> u64 {
            self.0.load(Relaxed)
        }
    }

    fn len(listings: &RootListings, at: u64, root: &Counting) -> usize {
        let (listing, _) = listings.at(at, root).expect("it is known").expect("more");
        listing.entries().len()
    }

    #[test]
    fn offsets_name_the_state() {
        let (listings, root) = (RootListings::default(), Counting::default());
        let mut begun = Vec::new();
        for count in 0..KEPT {
            root.0.store(count as u64, Relaxed);
            assert_eq!(len(&listings, 0, &root), count);
            begun.push(tag(count as u64));
        }
        for (count, tag) in begun.iter().enumerate() {
            assert_eq!(len(&listings, offset(*tag, 1, 9), &root), count);
        }
        for tag in begun {
            let end = listings.at(offset(tag, 9, 9), &root).expect("no error");
            assert!(end.is_none());
        }
        assert!(listings.kept.lock().is_empty(), "nobody lists any more");
    }

    #[test]
    fn listings_that_are_not_ended_are_few() {
        let (listings, root) = (RootListings::default(), Counting::default());
        for count in 0..100 {
            root.0.store(count, Relaxed);
            len(&listings, 0, &root);
        }
        assert_eq!(listings.kept.lock().len(), KEPT);
        let gone = listings.at(offset(tag(0), 1, 9), &root);
        assert!(matches!(gone, Err(FsError::ListingGone)));
    }

    #[test]
    fn an_offset_outlives_a_restart() {
        let root = Counting(AtomicU64::new(7));
        let at = offset(tag(7), 3, 9);
        let (listing, low) = RootListings::default()
            .at(at, &root)
            .expect("the root is as it was")
            .expect("more");
        assert_eq!((listing.entries().len(), low), (7, 3));
        root.0.store(8, Relaxed);
        let gone = RootListings::default().at(at, &root);
        assert!(matches!(gone, Err(FsError::ListingGone)));
    }

    #[test]
    fn who_lists_the_same_shares_it() {
        let (listings, root) = (RootListings::default(), Counting::default());
        for _ in 0..3 {
            len(&listings, 0, &root);
        }
        assert_eq!(listings.kept.lock().len(), 1);
        for left in (0..3).rev() {
            listings.at(offset(tag(0), 2, 2), &root).expect("no error");
            assert_eq!(listings.kept.lock().len(), usize::from(left > 0));
        }
    }
}
