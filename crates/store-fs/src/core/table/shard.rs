use std::{collections::BTreeSet, fmt, sync::Arc};

use hashbrown::{HashTable, hash_table::Entry};

use super::{
    InternError, Node, Place, Slot,
    record::{Content, Record, Tag},
    records::Records,
};
use crate::core::{Kind, RootKey};

/// A part of the table: its records, and an index of them by identity.
pub(super) struct Shard {
    number: usize,
    records: Arc<Records>,
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

/// What a process knows of a chunk.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    /// The first free record, or `CHUNK_LEN`; the others are chained to it.
    free: u32,
    /// All from here on are free, and not in the chain.
    rest: u32,
    used: usize,
}

const NONE: u32 = Slot::CHUNK_LEN as u32;

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
#[derive(Clone, Copy)]
struct View<'a> {
    records: &'a Records,
    chunks: &'a [Option<Chunk>],
}

impl<'a> View<'a> {
    fn record(self, slot: Slot) -> Option<&'a Record> {
        self.chunks.get(slot.chunk())?.as_ref()?;
        Some(self.records.get(slot))
    }

    fn node(self, slot: Slot) -> Option<Node> {
        let record = self.record(slot)?;
        let kind = record.kind()?;
        let parent = Slot(record.parent());
        let place = match (parent, kind) {
            (Slot::ROOT, Kind::Symlink) => Place::Top(RootKey(record.bytes())),
            (Slot::ROOT, _) => Place::Top(self.key(record)?),
            (parent, _) => Place::Child {
                parent,
                ordinal: record.ordinal(),
            },
        };
        Some(Node {
            kind,
            digest: record.digest(),
            size: record.size(),
            ino: record.ino(),
            place,
        })
    }

    /// The key of a directory or file in the root.
    fn key(self, of: &Record) -> Option<RootKey> {
        let key = self.record(Slot(of.ordinal()))?;
        key.is(Tag::Key).then(|| RootKey(key.bytes()))
    }

    /// Whether the record is that of the node: see the table's invariants.
    fn is_same(self, slot: Slot, node: &Node) -> bool {
        let Some(record) = self.record(slot) else {
            return false;
        };
        let tag = Tag::from(node.kind);
        match (node.kind, node.place) {
            (Kind::File { .. }, _) => {
                record.is_of(tag, node.size) && record.digest() == node.digest
            }
            (Kind::Directory, Place::Child { parent, ordinal }) => {
                record.is(tag) && record.parent() == parent.0 && record.ordinal() == ordinal
            }
            (Kind::Directory, Place::Top(top)) => {
                record.is(tag) && record.parent() == Slot::ROOT.0 && self.key(record) == Some(top)
            }
            (Kind::Symlink, Place::Child { ordinal, .. }) => {
                record.is(tag)
                    && record.parent() != Slot::ROOT.0
                    && record.ordinal() == ordinal
                    && record.digest() == node.digest
            }
            (Kind::Symlink, Place::Top(key)) => {
                record.is(tag) && record.parent() == Slot::ROOT.0 && record.bytes() == key.0
            }
        }
    }

    fn rehash(self, slot: Slot) -> u64 {
        self.node(slot).as_ref().map_or(0, hash)
    }
}

impl Shard {
    pub(super) fn new(number: usize, records: Arc<Records>) -> Self {
        Self {
            number,
            records,
            chunks: Vec::new(),
            free: BTreeSet::new(),
            spare: None,
            index: HashTable::new(),
        }
    }

    /// Makes the record of the mount's root, in a table without any.
    pub(super) fn add_root(&mut self) -> Result<(), InternError> {
        let root = self.put(&Content::new(Tag::Root, [0; 32]))?;
        debug_assert_eq!(root, Slot::ROOT);
        Ok(())
    }

    /// Takes over a chunk that another process left: those of its records that
    /// are in use, as their tags say, stay. The index is not touched.
    pub(super) fn adopt_chunk(&mut self, number: usize) {
        if self.chunks.len() <= number {
            let from = self.chunks.len() as u32;
            self.free.extend(from..=number as u32);
            self.chunks.resize(number + 1, None);
        }
        let mut chunk = Chunk {
            free: NONE,
            rest: NONE,
            used: 0,
        };
        for index in (0..Slot::CHUNK_LEN).rev() {
            let record = (self.records).get(Slot::new(self.number, number as u32, index));
            if record.is(Tag::Free) {
                record.clear(chunk.free);
                chunk.free = index as u32;
            } else {
                chunk.used += 1;
            }
        }
        if chunk.used == 0 {
            self.records.release(self.whole(number as u32));
            return;
        }
        if chunk.used == Slot::CHUNK_LEN {
            self.free.remove(&(number as u32));
        }
        self.chunks[number] = Some(chunk);
    }

    /// Puts a record that was left into the index; `false` if it is not where
    /// it belongs, or not alone.
    pub(super) fn adopt(&mut self, slot: Slot) -> bool {
        let Some(node) = self.get(slot) else {
            return false;
        };
        let hash = hash(&node);
        if Self::of(hash) != slot.shard() {
            return false;
        }
        let (view, index) = self.parts();
        let is_same = |other: &Slot| view.is_same(*other, &node);
        let Entry::Vacant(place) = index.entry(hash, is_same, |slot| view.rehash(*slot)) else {
            return false;
        };
        place.insert(slot);
        self.count();
        true
    }

    /// Before many are put into the index.
    pub(super) fn reserve(&mut self, count: usize) {
        let (view, index) = self.parts();
        index.reserve(count, |slot| view.rehash(*slot));
    }

    /// The shard of a node with that hash. hashbrown takes the bucket from the
    /// low bits and its tag from the highest seven.
    pub(super) fn of(hash: u64) -> usize {
        (hash >> 40) as usize % Slot::SHARDS
    }

    fn view(&self) -> View<'_> {
        View {
            records: &self.records,
            chunks: &self.chunks,
        }
    }

    fn parts(&mut self) -> (View<'_>, &mut HashTable<Slot>) {
        let view = View {
            records: &self.records,
            chunks: &self.chunks,
        };
        (view, &mut self.index)
    }

    /// Says how many nodes there are.
    fn count(&self) {
        let counters = &self.records.state.header().counters;
        counters.set_nodes(self.number, self.index.len());
    }

    /// The number of one of its chunks among all.
    fn whole(&self, chunk: u32) -> usize {
        chunk as usize * Slot::SHARDS + self.number
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn get(&self, slot: Slot) -> Option<Node> {
        self.view().node(slot)
    }

    /// Finds the node's record and counts a lookup of it.
    pub(super) fn find(&self, hash: u64, node: &Node) -> Option<Slot> {
        let view = self.view();
        let slot = *(self.index).find(hash, |slot| view.is_same(*slot, node))?;
        self.record(slot)?.look_up();
        Some(slot)
    }

    /// Makes a record, looked up once, of a node that has none.
    pub(super) fn add(&mut self, hash: u64, node: &Node) -> Result<Slot, InternError> {
        let mut content = Content {
            size: node.size.min(Record::MAX_SIZE),
            ino: node.ino,
            lookups: 1,
            ..Content::new(node.kind.into(), *node.digest.as_bytes())
        };
        let mut key_slot = None;
        match node.place {
            Place::Child { parent, ordinal } => {
                content.parent = parent.0;
                content.ordinal = ordinal;
            }
            Place::Top(_) if node.kind == Kind::Symlink => content.parent = Slot::ROOT.0,
            Place::Top(key) => {
                let slot = self.put(&Content::new(Tag::Key, key.0))?;
                key_slot = Some(slot);
                content.parent = Slot::ROOT.0;
                content.ordinal = slot.0;
            }
        }
        let slot = match (self.put(&content), key_slot) {
            (Ok(slot), _) => slot,
            (Err(full), Some(key)) => {
                self.take(key);
                return Err(full);
            }
            (Err(full), None) => return Err(full),
        };
        let (view, index) = self.parts();
        index.insert_unique(hash, slot, |slot| view.rehash(*slot));
        self.count();
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
        self.count();
        let key = self.record(slot)?.ordinal();
        self.take(slot);
        if let (Place::Top(_), Kind::Directory | Kind::File { .. }) = (node.place, node.kind) {
            self.take(Slot(key));
        }
        Some(node.place)
    }

    /// Gives the index's memory back when most of it is unused, leaving room so
    /// that it does not grow again at once.
    fn shrink(&mut self) {
        let (view, index) = self.parts();
        if index.capacity() > 1024 && index.len() < index.capacity() / 8 {
            index.shrink_to(index.len() * 2, |slot| view.rehash(*slot));
        }
    }

    /// Bytes of the records and of the index.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        let chunks = self.chunks.iter().flatten().count();
        chunks * Slot::CHUNK_LEN * size_of::<Record>() + self.index.allocation_size()
    }

    fn record(&self, slot: Slot) -> Option<&Record> {
        self.view().record(slot)
    }

    fn put(&mut self, content: &Content) -> Result<Slot, InternError> {
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
        if self.chunks[number as usize].is_none() && !self.records.allocate(self.whole(number)) {
            return Err(InternError::Full);
        }
        let chunk = self.chunks[number as usize].get_or_insert(Chunk {
            free: NONE,
            rest: 0,
            used: 0,
        });
        let slot = |index| Slot::new(self.number, number, index as usize);
        let slot = if chunk.free == NONE {
            chunk.rest += 1;
            slot(chunk.rest - 1)
        } else {
            let slot = slot(chunk.free);
            chunk.free = self.records.get(slot).ordinal();
            slot
        };
        self.records.get(slot).fill(content);
        chunk.used += 1;
        if chunk.used == Slot::CHUNK_LEN {
            self.free.remove(&number);
        }
        Ok(slot)
    }

    fn take(&mut self, slot: Slot) {
        let number = slot.chunk() as u32;
        let Some(Some(chunk)) = self.chunks.get_mut(slot.chunk()) else {
            return;
        };
        self.records.get(slot).clear(chunk.free);
        chunk.free = slot.index() as u32;
        chunk.used -= 1;
        let empty = chunk.used == 0;
        self.free.insert(number);
        if empty {
            self.drop_one_of(number);
        }
    }

    /// Of the chunk that got empty and the spare one, keeps the lower.
    fn drop_one_of(&mut self, emptied: u32) {
        let is_empty =
            |number: &u32| matches!(&self.chunks[*number as usize], Some(chunk) if chunk.used == 0);
        let kept = match self.spare.filter(is_empty) {
            Some(spare) if spare != emptied => {
                let dropped = spare.max(emptied);
                self.chunks[dropped as usize] = None;
                self.records.release(self.whole(dropped));
                spare.min(emptied)
            }
            _ => emptied,
        };
        self.spare = Some(kept);
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("number", &self.number)
            .field("nodes", &self.len())
            .finish_non_exhaustive()
    }
}
