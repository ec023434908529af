//! Finding out what lives.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{
    super::{
        RecordKey,
        engine::{Engine, Held},
        entry::Kind,
        snapshot::{Snapshot, Spot, merged_with_spots},
    },
    CollectError, RootOf,
};
use crate::{Digest, Error, Node, Object};

/// The entries of a snapshot that live: a bit for each.
#[derive(Debug)]
pub(super) struct Marks {
    indexes: Vec<Vec<u64>>,
    count: u64,
    records_left: u64,
}

impl Marks {
    /// Marks the records that are to be kept, and all that they reach.
    /// Directories are verified as they are read, and one that is missing or
    /// damaged is an error: it cannot be told what is below it. A blob that is
    /// missing keeps nothing.
    pub(super) fn of(
        engine: &Engine,
        snapshot: &Snapshot,
        keep: &dyn Fn(&RecordKey) -> bool,
        root_of: &RootOf<'_>,
        progress: &AtomicU64,
    ) -> Result<Self, CollectError> {
        snapshot.check_whole()?;
        let words = |numbers: u64| vec![0; numbers.div_ceil(64) as usize];
        let indexes = snapshot.indexes.iter();
        let mut marks = Self {
            indexes: indexes.map(|index| words(index.numbers())).collect(),
            count: 0,
            records_left: 0,
        };
        for item in merged_with_spots(&snapshot.indexes, Kind::Record) {
            let (spot, entry) = item?;
            if entry.kind != Kind::Record {
                break;
            }
            let key = RecordKey(entry.key);
            if !keep(&key) {
                marks.records_left += 1;
                continue;
            }
            marks.set(spot);
            let mut reach = || {
                let record = Held::new(engine, entry, engine.pack(entry.pack)?).record()?;
                marks.reach(engine, snapshot, &root_of(&key, record)?, progress)
            };
            reach().map_err(|source| CollectError::Unknown { key, source })?;
        }
        Ok(marks)
    }

    fn reach(
        &mut self,
        engine: &Engine,
        snapshot: &Snapshot,
        root: &Node,
        progress: &AtomicU64,
    ) -> Result<(), Error> {
        let mut unread = Vec::new();
        self.visit(snapshot, root, &mut unread)?;
        while let Some(digest) = unread.pop() {
            let missing = || Error::Missing {
                object: Object::Directory(digest),
            };
            let directory = engine.directory(&digest)?.ok_or_else(missing)?;
            // What comes first is read first, as it lies on the disk.
            for entry in directory.entries().iter().rev() {
                self.visit(snapshot, &entry.node, &mut unread)?;
            }
            progress.store(self.count, Relaxed);
        }
        Ok(())
    }

    /// Marks a node. A directory that was not is yet to be read.
    fn visit(
        &mut self,
        snapshot: &Snapshot,
        node: &Node,
        unread: &mut Vec<Digest>,
    ) -> Result<(), Error> {
        match node {
            Node::Directory { digest, .. } => {
                let found = snapshot.locate(Kind::Directory, digest.as_bytes())?;
                let (spot, _) = found.ok_or(Error::Missing {
                    object: Object::Directory(*digest),
                })?;
                if self.set(spot) {
                    unread.push(*digest);
                }
            }
            Node::File { digest, .. } => {
                if let Some((spot, _)) = snapshot.locate(Kind::Blob, digest.as_bytes())? {
                    self.set(spot);
                }
            }
            Node::Symlink { .. } => {}
        }
        Ok(())
    }

    /// Answers whether it was not marked.
    fn set(&mut self, spot: Spot) -> bool {
        let word = &mut self.indexes[spot.index][(spot.number / 64) as usize];
        let bit = 1 << (spot.number % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        self.count += u64::from(is_new);
        is_new
    }

    pub(super) fn has(&self, spot: Spot) -> bool {
        self.indexes[spot.index][(spot.number / 64) as usize] & (1 << (spot.number % 64)) != 0
    }

    /// How many records are not marked, each counted once.
    pub(super) fn records_left(&self) -> u64 {
        self.records_left
    }

    /// How many entries are marked.
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}
