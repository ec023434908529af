use std::{collections::BTreeSet, fmt};

use hashbrown::HashTable;

use super::{
    InternError, Node, Place, Slot,
    chunk::Records,
    record::{Record, Tag},
};
use crate::core::{Kind, RootKey};

/// A part of the table: its records, and an index of them by identity.
pub(super) struct Shard {
    number: usize,
    /// `None` where no record of the chunk is in use.
    chunks: Vec<Option<Chunk>>,
    /// Chunks that have a free record, the lowest being filled first so that
    /// the highest get empty. May name chunks that are not there.
    free: BTreeSet<u32>,
    /// A chunk that is kept though it got empty, lest one node that comes and
    /// goes make and drop it each time.
    spare: Option<u32>,
    index: HashTable<Slot>,
}

struct Chunk {
    records: Records,
    /// The first free record, or `CHUNK_LEN`; the others are chained to it.
    free: u32,
    used: usize,
}

impl Chunk {
    fn new() -> Self {
        Self {
            records: Records::free(),
            free: 0,
            used: 0,
        }
    }
}

/// What the identity of a node hashes to. Digests and keys are hashes, so this
/// has only to keep the kinds apart.
pub(super) fn hash(node: &Node) -> u64 {
    match (node.kind, node.place) {
        (Kind::Directory, Place::Child { parent, ordinal }) => {
            mix(u64::from(parent.0) << 32 | u64::from(ordinal))
        }
        (Kind::Directory, Place::Top(key)) => mix(!word(&key.0)),
        (Kind::File { executable }, _) => {
            mix(word(node.digest.as_bytes()).wrapping_add(u64::from(executable)))
        }
        (Kind::Symlink, Place::Child { ordinal, .. }) => {
            mix(word(node.digest.as_bytes()).wrapping_add(u64::from(ordinal) << 32 | 2))
        }
        (Kind::Symlink, Place::Top(key)) => mix(word(&key.0)),
    }
}

fn word(bytes: &[u8; 32]) -> u64 {
    bytes
        .first_chunk()
        .map_or(0, |word| u64::from_le_bytes(*word))
}

/// The finalizer of splitmix64.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Access to records, apart from the index so that both can be borrowed.
fn record(chunks: &[Option<Chunk>], slot: Slot) -> Option<&Record> {
    let chunk = chunks.get(slot.chunk())?.as_ref()?;
    Some(&chunk.records[slot.index()])
}

fn node(chunks: &[Option<Chunk>], slot: Slot) -> Option<Node> {
    let record = record(chunks, slot)?;
    let kind = record.kind()?;
    let parent = Slot(record.parent);
    let place = match (parent, kind) {
        (Slot::ROOT, Kind::Symlink) => Place::Top(RootKey(record.digest)),
        (Slot::ROOT, _) => Place::Top(key(chunks, record)?),
        (parent, _) => Place::Child {
            parent,
            ordinal: record.ordinal,
        },
    };
    Some(Node {
        kind,
        digest: record.digest(),
        size: record.size(),
        ino: record.ino,
        place,
    })
}

/// The key of a directory or file in the root.
fn key(chunks: &[Option<Chunk>], of: &Record) -> Option<RootKey> {
    let key = self::record(chunks, Slot(of.ordinal))?;
    key.is(Tag::Key).then_some(RootKey(key.digest))
}

/// Whether the record is that of the node: see the table's invariants.
fn is_same(chunks: &[Option<Chunk>], slot: Slot, node: &Node) -> bool {
    let Some(record) = record(chunks, slot) else {
        return false;
    };
    let tag = Tag::from(node.kind);
    match (node.kind, node.place) {
        (Kind::File { .. }, _) => record.is_of(tag, node.size) && record.digest() == node.digest,
        (Kind::Directory, Place::Child { parent, ordinal }) => {
            record.is(tag) && record.parent == parent.0 && record.ordinal == ordinal
        }
        (Kind::Directory, Place::Top(top)) => {
            record.is(tag) && record.parent == Slot::ROOT.0 && key(chunks, record) == Some(top)
        }
        (Kind::Symlink, Place::Child { ordinal, .. }) => {
            record.is(tag)
                && record.parent != Slot::ROOT.0
                && record.ordinal == ordinal
                && record.digest() == node.digest
        }
        (Kind::Symlink, Place::Top(key)) => {
            record.is(tag) && record.parent == Slot::ROOT.0 && record.digest == key.0
        }
    }
}

impl Shard {
    pub(super) fn new(number: usize) -> Self {
        let mut shard = Self {
            number,
            chunks: Vec::new(),
            free: BTreeSet::new(),
            spare: None,
            index: HashTable::new(),
        };
        if number == Slot::ROOT.shard() {
            let root = shard.put(Record::new(Tag::Root, [0; 32], 0));
            debug_assert_eq!(root, Ok(Slot::ROOT));
        }
        shard
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn get(&self, slot: Slot) -> Option<Node> {
        node(&self.chunks, slot)
    }

    /// Finds the node's record and counts a lookup of it.
    pub(super) fn find(&self, hash: u64, node: &Node) -> Option<Slot> {
        let same = |slot: &Slot| is_same(&self.chunks, *slot, node);
        let slot = *self.index.find(hash, same)?;
        self.record(slot)?.look_up();
        Some(slot)
    }

    /// Makes a record, looked up once, of a node that has none.
    pub(super) fn add(&mut self, hash: u64, node: &Node) -> Result<Slot, InternError> {
        let size = node.size.min(Record::MAX_SIZE);
        let mut record = Record::new(node.kind.into(), *node.digest.as_bytes(), size);
        record.ino = node.ino;
        record.look_up();
        let mut key_slot = None;
        match node.place {
            Place::Child { parent, ordinal } => {
                record.parent = parent.0;
                record.ordinal = ordinal;
            }
            Place::Top(_) if node.kind == Kind::Symlink => record.parent = Slot::ROOT.0,
            Place::Top(key) => {
                let slot = self.put(Record::new(Tag::Key, key.0, 0))?;
                key_slot = Some(slot);
                record.parent = Slot::ROOT.0;
                record.ordinal = slot.0;
            }
        }
        let slot = match (self.put(record), key_slot) {
            (Ok(slot), _) => slot,
            (Err(full), Some(key)) => {
                self.take(key);
                return Err(full);
            }
            (Err(full), None) => return Err(full),
        };
        let Self { index, chunks, .. } = self;
        index.insert_unique(hash, slot, |slot| rehash(chunks, *slot));
        Ok(slot)
    }

    /// Pins a directory; answers whether it is one.
    pub(super) fn pin(&self, slot: Slot) -> bool {
        match self.record(slot).filter(|record| record.is(Tag::Directory)) {
            Some(record) => {
                record.pin();
                true
            }
            None => false,
        }
    }

    /// Answers whether the record is unused now.
    pub(super) fn unpin(&self, slot: Slot) -> bool {
        self.record(slot).is_some_and(Record::unpin)
    }

    /// Answers whether the record is unused now.
    pub(super) fn forget(&self, slot: Slot, count: u64) -> bool {
        self.record(slot).is_some_and(|record| record.forget(count))
    }

    /// Frees the record of a node that is neither looked up nor pinned;
    /// answers where it was.
    pub(super) fn remove_if_unused(&mut self, slot: Slot) -> Option<Place> {
        let node = self.get(slot)?;
        if !self.record(slot)?.is_unused() {
            return None;
        }
        if let Ok(entry) = (self.index).find_entry(hash(&node), |indexed| *indexed == slot) {
            entry.remove();
        }
        self.shrink();
        if let Some(record) = self.take(slot)
            && let (Place::Top(_), Kind::Directory | Kind::File { .. }) = (node.place, node.kind)
        {
            self.take(Slot(record.ordinal));
        }
        Some(node.place)
    }

    /// Gives the index's memory back when most of it is unused, leaving room so
    /// that it does not grow again at once.
    fn shrink(&mut self) {
        let Self { index, chunks, .. } = self;
        if index.capacity() > 1024 && index.len() < index.capacity() / 8 {
            index.shrink_to(index.len() * 2, |slot| rehash(chunks, *slot));
        }
    }

    /// Bytes of the records and of the index.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        let chunks = self.chunks.iter().flatten().count();
        chunks * Slot::CHUNK_LEN * size_of::<Record>() + self.index.allocation_size()
    }

    fn record(&self, slot: Slot) -> Option<&Record> {
        record(&self.chunks, slot)
    }

    fn put(&mut self, record: Record) -> Result<Slot, InternError> {
        let number = match self.free.first() {
            Some(number) => *number,
            None => {
                let number = self.chunks.len() as u32;
                if number == Slot::CHUNKS {
                    return Err(InternError::Full);
                }
                self.chunks.push(None);
                self.free.insert(number);
                number
            }
        };
        let chunk = self.chunks[number as usize].get_or_insert_with(Chunk::new);
        let index = chunk.free as usize;
        chunk.free = chunk.records[index].ordinal;
        chunk.records[index] = record;
        chunk.used += 1;
        if chunk.used == Slot::CHUNK_LEN {
            self.free.remove(&number);
        }
        Ok(Slot::new(self.number, number, index))
    }

    fn take(&mut self, slot: Slot) -> Option<Record> {
        let number = slot.chunk() as u32;
        let chunk = self.chunks.get_mut(slot.chunk())?.as_mut()?;
        let freed = Record::free(chunk.free);
        let record = std::mem::replace(&mut chunk.records[slot.index()], freed);
        chunk.free = slot.index() as u32;
        chunk.used -= 1;
        let empty = chunk.used == 0;
        self.free.insert(number);
        if empty {
            self.drop_one_of(number);
        }
        Some(record)
    }

    /// Of the chunk that got empty and the spare one, keeps the lower.
    fn drop_one_of(&mut self, emptied: u32) {
        let is_empty =
            |number: &u32| matches!(&self.chunks[*number as usize], Some(chunk) if chunk.used == 0);
        let kept = match self.spare.filter(is_empty) {
            Some(spare) if spare != emptied => {
                self.chunks[spare.max(emptied) as usize] = None;
                spare.min(emptied)
            }
            _ => emptied,
        };
        self.spare = Some(kept);
    }
}

fn rehash(chunks: &[Option<Chunk>], slot: Slot) -> u64 {
    node(chunks, slot).as_ref().map_or(0, hash)
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("number", &self.number)
            .field("nodes", &self.len())
            .finish_non_exhaustive()
    }
}
