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

use std::{
    num::NonZero,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

use super::{Records, Slot, Table, record::Tag};
use crate::state::StateError;

pub(super) fn resume(table: &Table, records: &Records) -> Result<(), StateError> {
    let chunks = records.chunks()?;
    let mut resume = Resume {
        table,
        records,
        nodes: Default::default(),
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
    for slot in resume.index()? {
        table.free(slot);
    }
    Ok(())
}

struct Resume<'a> {
    table: &'a Table,
    records: &'a Records,
    chunks: Vec<usize>,
    /// By shard.
    nodes: [Vec<Slot>; Slot::SHARDS],
    /// Keys that a record has.
    keys: Bits,
    /// Directories from which a way leads to the root.
    reached: Bits,
}

impl Resume<'_> {
    /// Finds the nodes; answers whether the table was ever used.
    fn scan(&mut self) -> Result<bool, StateError> {
        let mut used = false;
        let mut has_root = false;
        for slot in self.chunks.iter().copied().flat_map(slots) {
            let record = self.records.get(slot);
            match record.tag() {
                Some(Tag::Free) => continue,
                Some(Tag::Root) if slot == Slot::ROOT => has_root = true,
                Some(Tag::Key) => {}
                Some(Tag::Directory | Tag::File | Tag::Executable | Tag::Symlink) => {
                    record.reset_pins();
                    self.nodes[slot.shard()].push(slot);
                }
                Some(Tag::Root) | None => return Err(damaged(slot, "is nothing known")),
            }
            used = true;
        }
        if used && !has_root {
            return Err(damaged(Slot::ROOT, "is not the root"));
        }
        Ok(used)
    }

    /// Checks where nodes say they are, and counts pins.
    fn check(&mut self) -> Result<(), StateError> {
        let nodes = std::mem::take(&mut self.nodes);
        for slot in nodes.iter().flatten().copied() {
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
        let count: usize = nodes.iter().map(Vec::len).sum();
        let mut way = Vec::new();
        for slot in nodes.iter().flatten() {
            if !self.records.get(*slot).is(Tag::Directory) {
                continue;
            }
            let mut next = *slot;
            while next != Slot::ROOT && !self.reached.has(next) {
                if way.len() == count {
                    return Err(damaged(*slot, "is below itself"));
                }
                way.push(next);
                next = Slot(self.records.get(next).parent());
            }
            for slot in way.drain(..) {
                self.reached.set(slot);
            }
        }
        self.nodes = nodes;
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

    /// Makes the indexes, on all processors: users wait for it. Answers nodes
    /// that nobody refers to.
    fn index(&self) -> Result<Vec<Slot>, StateError> {
        let next = AtomicUsize::new(0);
        let index = || {
            let mut unused = Vec::new();
            loop {
                let shard = next.fetch_add(1, Relaxed);
                if shard >= Slot::SHARDS {
                    return Ok(unused);
                }
                self.index_shard(shard, &mut unused)?;
            }
        };
        let others = match self.chunks.len() > Slot::SHARDS {
            true => thread::available_parallelism().map_or(0, |all| NonZero::get(all) - 1),
            false => 0,
        };
        thread::scope(|scope| {
            // Those that cannot be had are done without.
            let others: Vec<_> = (0..others.min(Slot::SHARDS - 1))
                .map_while(|_| thread::Builder::new().spawn_scoped(scope, index).ok())
                .collect();
            let mut unused = index()?;
            for other in others {
                let more = other
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                unused.extend(more?);
            }
            Ok(unused)
        })
    }

    fn index_shard(&self, number: usize, unused: &mut Vec<Slot>) -> Result<(), StateError> {
        let mut shard = self.table.shards[number].write();
        let chunks = self.chunks.iter().copied();
        for chunk in chunks.filter(|chunk| chunk % Slot::SHARDS == number) {
            for slot in slots(chunk) {
                let record = self.records.get(slot);
                if record.is(Tag::Key) && !self.keys.has(slot) {
                    record.clear(0);
                }
            }
            shard.adopt_chunk(chunk / Slot::SHARDS);
        }
        let nodes = &self.nodes[number];
        shard.reserve(nodes.len());
        for slot in nodes.iter().copied() {
            if !shard.adopt(slot) {
                return Err(damaged(slot, "is not where it belongs"));
            }
            if self.records.get(slot).is_unused() {
                unused.push(slot);
            }
        }
        Ok(())
    }
}

fn slots(chunk: usize) -> impl Iterator<Item = Slot> {
    let first = chunk * Slot::CHUNK_LEN;
    (first..first + Slot::CHUNK_LEN).map(|slot| Slot(slot as u32))
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
