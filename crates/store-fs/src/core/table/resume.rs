//! Makes a process' view of records that another left, at whatever moment it
//! died.
//!
//! What such a death leaves, and what becomes of it:
//!
//! - A record that was being filled has no tag yet: it is free.
//! - A key without a record that has it: it is freed.
//! - A node that nobody refers to: it is freed, and its parents as far as they
//!   are pinned by nothing else.
//! - Pins that are counted wrong: they are counted anew.
//!
//! Anything else is damage.

use super::{Records, Slot, Table, record::Tag};
use crate::state::StateError;

pub(super) fn resume(table: &Table, records: &Records) -> Result<(), StateError> {
    let chunks = records.chunks()?;
    let mut resume = Resume {
        table,
        records,
        nodes: Vec::new(),
        keys: Bits::of(&chunks),
        reached: Bits::of(&chunks),
        chunks,
    };
    if !resume.scan()? {
        let root = table.shards[Slot::ROOT.shard()].write().add_root();
        return root.map_err(|_| StateError::Io {
            act: "make the root in",
            source: std::io::ErrorKind::OutOfMemory.into(),
        });
    }
    resume.check()?;
    resume.drop_keys();
    resume.index()?;
    resume.drop_unused();
    Ok(())
}

struct Resume<'a> {
    table: &'a Table,
    records: &'a Records,
    chunks: Vec<usize>,
    nodes: Vec<Slot>,
    /// Keys that a record has.
    keys: Bits,
    /// Directories from which a way leads to the root.
    reached: Bits,
}

impl Resume<'_> {
    fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        let chunks = self.chunks.clone();
        chunks.into_iter().flat_map(|chunk| {
            let first = chunk * Slot::CHUNK_LEN;
            (first..first + Slot::CHUNK_LEN).map(|slot| Slot(slot as u32))
        })
    }

    /// Finds the nodes; answers whether the table was ever used.
    fn scan(&mut self) -> Result<bool, StateError> {
        let mut used = false;
        let mut has_root = false;
        let mut nodes = Vec::new();
        for slot in self.slots() {
            let record = self.records.get(slot);
            match record.tag() {
                Some(Tag::Free) => continue,
                Some(Tag::Root) if slot == Slot::ROOT => has_root = true,
                Some(Tag::Key) => {}
                Some(Tag::Directory | Tag::File | Tag::Executable | Tag::Symlink) => {
                    record.reset_pins();
                    nodes.push(slot);
                }
                Some(Tag::Root) | None => return Err(damaged(slot, "is nothing known")),
            }
            used = true;
        }
        if used && !has_root {
            return Err(damaged(Slot::ROOT, "is not the root"));
        }
        self.nodes = nodes;
        Ok(used)
    }

    /// Checks where nodes say they are, and counts pins.
    fn check(&mut self) -> Result<(), StateError> {
        for slot in self.nodes.clone() {
            let record = self.records.get(slot);
            let parent = Slot(record.parent());
            if parent == Slot::ROOT {
                if !record.is(Tag::Symlink) && !self.take_key(slot, Slot(record.ordinal())) {
                    return Err(damaged(slot, "has no key of its own"));
                }
            } else if self.is_directory(parent) {
                self.records.get(parent).pin();
            } else {
                return Err(damaged(slot, "is in no directory"));
            }
        }
        let mut way = Vec::new();
        for slot in &self.nodes {
            if !self.records.get(*slot).is(Tag::Directory) {
                continue;
            }
            let mut next = *slot;
            while next != Slot::ROOT && !self.reached.has(next) {
                if way.len() == self.nodes.len() {
                    return Err(damaged(*slot, "is below itself"));
                }
                way.push(next);
                next = Slot(self.records.get(next).parent());
            }
            for slot in way.drain(..) {
                self.reached.set(slot);
            }
        }
        Ok(())
    }

    fn is_directory(&self, slot: Slot) -> bool {
        self.reached.covers(slot) && self.records.get(slot).is(Tag::Directory)
    }

    fn take_key(&mut self, of: Slot, key: Slot) -> bool {
        if !self.keys.covers(key) || key.shard() != of.shard() || self.keys.has(key) {
            return false;
        }
        self.keys.set(key);
        self.records.get(key).is(Tag::Key)
    }

    fn drop_keys(&self) {
        for slot in self.slots() {
            let record = self.records.get(slot);
            if record.is(Tag::Key) && !self.keys.has(slot) {
                record.clear(0);
            }
        }
    }

    fn index(&self) -> Result<(), StateError> {
        for chunk in &self.chunks {
            let (shard, number) = (chunk % Slot::SHARDS, chunk / Slot::SHARDS);
            self.table.shards[shard].write().adopt_chunk(number);
        }
        let mut counts = [0; Slot::SHARDS];
        for slot in &self.nodes {
            counts[slot.shard()] += 1;
        }
        for (shard, count) in self.table.shards.iter().zip(counts) {
            shard.write().reserve(count);
        }
        for slot in &self.nodes {
            if !self.table.shard(*slot).write().adopt(*slot) {
                return Err(damaged(*slot, "is not where it belongs"));
            }
        }
        Ok(())
    }

    fn drop_unused(&self) {
        for slot in &self.nodes {
            let record = self.records.get(*slot);
            if record.kind().is_some() && record.is_unused() {
                self.table.free(*slot);
            }
        }
    }
}

fn damaged(slot: Slot, how: &str) -> StateError {
    StateError::damaged(format!("the record {} {how}", slot.0))
}

/// One bit for each record of some chunks.
struct Bits {
    /// `None` for a chunk that is not there.
    chunks: Vec<Option<Box<[u64; Slot::CHUNK_LEN / 64]>>>,
}

impl Bits {
    fn of(chunks: &[usize]) -> Self {
        let len = chunks.last().map_or(0, |last| last + 1);
        let mut bits = Self {
            chunks: vec![None; len],
        };
        for chunk in chunks {
            bits.chunks[*chunk] = Some(Box::new([0; Slot::CHUNK_LEN / 64]));
        }
        bits
    }

    fn covers(&self, slot: Slot) -> bool {
        matches!(
            self.chunks.get(slot.0 as usize / Slot::CHUNK_LEN),
            Some(Some(_))
        )
    }

    fn has(&self, slot: Slot) -> bool {
        match self.chunks.get(slot.0 as usize / Slot::CHUNK_LEN) {
            Some(Some(bits)) => bits[slot.index() / 64] & 1 << (slot.index() % 64) != 0,
            _ => false,
        }
    }

    fn set(&mut self, slot: Slot) {
        if let Some(Some(bits)) = self.chunks.get_mut(slot.0 as usize / Slot::CHUNK_LEN) {
            bits[slot.index() / 64] |= 1 << (slot.index() % 64);
        }
    }
}
