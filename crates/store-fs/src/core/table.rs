//! The nodes that the transport refers to.
//!
//! One record of 64 bytes per node, in an array whose index is the node's
//! number. A record is plain data and the records refer to each other by
//! number: the array is in the [`State`], for the next process to go on with.
//! Locks and the index are this process' own.
//!
//! Invariants:
//!
//! - A directory is unique to its place (its parent's record and its ordinal
//!   there, or its key in the root), a file to (content, size, executable), a
//!   symlink to (directory that has it, ordinal) or its key in the root.
//! - A record keeps its number while it is looked up or pinned. Each record
//!   pins its parent's; so the number in a record's place cannot come to mean
//!   another directory, whatever order FORGETs are handled in, and the path of
//!   every node can be told.
//! - At any moment the records alone tell all: the next process makes the rest
//!   from them. See [`resume`].
//! - Lookup counts change under the read lock of the record's shard; records
//!   come and go under the write lock. No two locks are held at once.

mod record;
mod records;
mod resume;
mod shard;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use castore::Digest;
use parking_lot::RwLock;

use self::{records::Records, shard::Shard};
use super::{Kind, NodeId, RootKey};
use crate::state::{State, StateError, layout};

/// The index of a record. From the highest bit: chunk within the shard, shard,
/// record within the chunk; thus chunk `i` of shard `s` is chunk `16 i + s` of
/// the whole array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Slot(u32);

impl Slot {
    /// The mount's root; its record has no place and is never looked up.
    pub(crate) const ROOT: Self = Self(0);

    const INDEX_BITS: u32 = 10;
    const SHARD_BITS: u32 = 4;
    const SHARDS: usize = 1 << Self::SHARD_BITS;
    const CHUNK_LEN: usize = 1 << Self::INDEX_BITS;
    /// Of a shard.
    const CHUNKS: u32 = (layout::RECORDS / Self::CHUNK_LEN / Self::SHARDS) as u32;

    fn new(shard: usize, chunk: u32, index: usize) -> Self {
        Self(
            (chunk << (Self::SHARD_BITS + Self::INDEX_BITS))
                | ((shard as u32) << Self::INDEX_BITS)
                | index as u32,
        )
    }

    fn shard(self) -> usize {
        (self.0 >> Self::INDEX_BITS) as usize % Self::SHARDS
    }

    fn chunk(self) -> usize {
        (self.0 >> (Self::SHARD_BITS + Self::INDEX_BITS)) as usize
    }

    fn index(self) -> usize {
        self.0 as usize % Self::CHUNK_LEN
    }
}

impl From<Slot> for NodeId {
    fn from(slot: Slot) -> Self {
        Self(u64::from(slot.0) + 1)
    }
}

impl TryFrom<NodeId> for Slot {
    type Error = ();

    fn try_from(node: NodeId) -> Result<Self, ()> {
        let slot = node.0.checked_sub(1).ok_or(())?;
        match u32::try_from(slot) {
            Ok(slot) if (slot as usize) < layout::RECORDS => Ok(Self(slot)),
            _ => Err(()),
        }
    }
}

/// Where a node was found. For a file or symlink that stands at several places
/// it is the first that was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the mount's root.
    Top(RootKey),
    /// In the directory `parent`, as its entry number `ordinal`.
    Child { parent: Slot, ordinal: u32 },
}

/// A copy of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// Of the contents. A symlink's are in its parent, so this is the digest
    /// of the directory that has it or, in the root, its key.
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) ino: u64,
    pub(crate) place: Place,
}

/// Why a node could not be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InternError {
    /// The table has no room for another node.
    Full,
    /// The directory that has it is no longer referred to.
    NoParent,
}

#[derive(Debug)]
pub(crate) struct Table {
    shards: [RwLock<Shard>; Slot::SHARDS],
}

impl Table {
    /// Goes on with what is in the state.
    pub(crate) fn new(state: Arc<State>) -> Result<Self, StateError> {
        let records = Arc::new(Records::new(state)?);
        let table = Self {
            shards: std::array::from_fn(|shard| {
                RwLock::new(Shard::new(shard, Arc::clone(&records)))
            }),
        };
        resume::resume(&table, &records)?;
        Ok(table)
    }

    /// How many nodes there are, the root not counted.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }

    /// The node, unless it is the root or not there.
    pub(crate) fn get(&self, slot: Slot) -> Option<Node> {
        self.shard(slot).read().get(slot)
    }

    /// Looks `node` up: finds or makes its record, and counts the lookup.
    pub(crate) fn intern(&self, node: &Node) -> Result<Slot, InternError> {
        let hash = shard::hash(node);
        let shard = &self.shards[Shard::of(hash)];
        if let Some(slot) = shard.read().find(hash, node) {
            return Ok(slot);
        }
        let parent = node.place.parent();
        if let Some(parent) = parent
            && !self.shard(parent).read().pin(parent)
        {
            return Err(InternError::NoParent);
        }
        let (slot, added) = {
            let mut shard = shard.write();
            match shard.find(hash, node) {
                Some(slot) => (Ok(slot), false),
                None => (shard.add(hash, node), true),
            }
        };
        if let Some(parent) = parent
            && !(added && slot.is_ok())
        {
            self.unpin(parent);
        }
        slot
    }

    /// Takes back `count` lookups. A count that is too high takes back all.
    pub(crate) fn forget(&self, slot: Slot, count: u64) {
        let unused = self.shard(slot).read().forget(slot, count);
        if unused {
            self.free(slot);
        }
    }

    fn unpin(&self, slot: Slot) {
        let unused = self.shard(slot).read().unpin(slot);
        if unused {
            self.free(slot);
        }
    }

    /// Frees a record that seemed unused, if it still is, and then its parent's
    /// if that kept it only for this one, and so on.
    fn free(&self, slot: Slot) {
        let mut next = Some(slot);
        while let Some(slot) = next {
            let place = self.shard(slot).write().remove_if_unused(slot);
            next = (place.as_ref().and_then(Place::parent))
                .filter(|parent| self.shard(*parent).read().unpin(*parent));
        }
    }

    fn shard(&self, slot: Slot) -> &RwLock<Shard> {
        &self.shards[slot.shard()]
    }
}

impl Place {
    fn parent(&self) -> Option<Slot> {
        match self {
            Self::Top(_) => None,
            Self::Child { parent, .. } => Some(*parent),
        }
    }
}

/// The largest file that a record can describe.
pub(crate) const MAX_SIZE: u64 = record::Record::MAX_SIZE;
