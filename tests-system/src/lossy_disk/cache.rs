//! The medium and its volatile write cache.

use crate::rng::Rng;
use anyhow::{Context as _, Result};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// The unit in which writes survive or are lost: what today's disks write atomically.
pub const BLOCK_SIZE: usize = 4096;

type Block = Box<[u8; BLOCK_SIZE]>;

/// The stable content of a disk; blocks of zeros are not stored.
#[derive(Debug, Clone)]
pub struct Image {
    blocks: BTreeMap<u64, Block>,
    size: u64,
}

impl Image {
    /// Reads a disk image, such as a freshly made filesystem.
    pub fn read(path: &Path) -> Result<Self> {
        let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let size = file.metadata()?.len();
        let mut blocks = BTreeMap::new();
        for number in 0..size / BLOCK_SIZE as u64 {
            let mut block = zeros();
            file.read_exact(&mut block[..])
                .with_context(|| format!("reading {}", path.display()))?;
            if block.iter().any(|byte| *byte != 0) {
                blocks.insert(number, block);
            }
        }
        Ok(Self { blocks, size })
    }

    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// What becomes of the writes that no flush had made stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survival {
    /// All of them are lost.
    Nothing,
    /// All of them reached the medium in time.
    Everything,
    /// Each block reached the medium with this probability in percent, whatever the order in
    /// which they were written.
    Percent(u64),
}

impl Survival {
    /// Any of the above, the reordering ones most often.
    pub fn pick(rng: &mut Rng) -> Self {
        match rng.below(6) {
            0 => Self::Nothing,
            1 => Self::Everything,
            2 => Self::Percent(10),
            3 => Self::Percent(90),
            _ => Self::Percent(50),
        }
    }
}

/// A running disk.
#[derive(Debug)]
pub(super) struct Disk {
    stable: Image,
    /// Unflushed writes in the order of their arrival.
    pending: Vec<(u64, Block)>,
    /// The newest pending write of each block.
    newest: HashMap<u64, usize>,
    has_power: bool,
    writes_left: Option<u64>,
    unreadable: HashSet<u64>,
    writes: u64,
    flushes: u64,
}

impl Disk {
    pub(super) fn new(stable: Image) -> Self {
        Self {
            stable,
            pending: Vec::new(),
            newest: HashMap::new(),
            has_power: true,
            writes_left: None,
            unreadable: HashSet::new(),
            writes: 0,
            flushes: 0,
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.stable.size
    }

    pub(super) fn cut(&mut self) {
        self.has_power = false;
    }

    pub(super) fn fail_writes_after(&mut self, count: Option<u64>) {
        self.writes_left = count;
    }

    pub(super) fn traffic(&self) -> (u64, u64) {
        (self.writes, self.flushes)
    }

    pub(super) fn fail_reads_of(&mut self, needle: &[u8]) -> usize {
        let pending = self.newest.iter().map(|(n, i)| (*n, &self.pending[*i].1));
        let stable = self.stable.blocks.iter().map(|(n, block)| (*n, block));
        let hits: HashSet<u64> = pending
            .chain(stable)
            .filter(|(_, block)| block.windows(needle.len()).any(|part| part == needle))
            .map(|(number, _)| number)
            .collect();
        self.unreadable.extend(&hits);
        hits.len()
    }

    pub(super) fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.check_power()?;
        let end = offset.saturating_add(len as u64).min(self.stable.size);
        let mut out = Vec::with_capacity(len);
        let mut at = offset;
        while at < end {
            let (number, start) = split(at);
            if self.unreadable.contains(&number) {
                return Err(eio());
            }
            let stop = BLOCK_SIZE.min(start + (end - at) as usize);
            match self.block(number) {
                Some(block) => out.extend_from_slice(&block[start..stop]),
                None => out.resize(out.len() + stop - start, 0),
            }
            at += (stop - start) as u64;
        }
        Ok(out)
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check_power()?;
        if offset.saturating_add(data.len() as u64) > self.stable.size {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let mut rest = data;
        let mut at = offset;
        while !rest.is_empty() {
            match &mut self.writes_left {
                Some(0) => return Err(eio()),
                Some(left) => *left -= 1,
                None => {}
            }
            let (number, start) = split(at);
            let (part, tail) = rest.split_at(rest.len().min(BLOCK_SIZE - start));
            let mut block = self.block(number).cloned().unwrap_or_else(zeros);
            block[start..start + part.len()].copy_from_slice(part);
            self.newest.insert(number, self.pending.len());
            self.pending.push((number, block));
            self.writes += 1;
            at += part.len() as u64;
            rest = tail;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.check_power()?;
        if self.writes_left == Some(0) {
            return Err(eio());
        }
        self.flushes += 1;
        self.newest.clear();
        self.stable.blocks.extend(self.pending.drain(..));
        Ok(())
    }

    /// Takes the medium out, with whatever part of the cache `survival` grants.
    pub(super) fn surviving(&mut self, survival: Survival, rng: &mut Rng) -> Image {
        let image = Image {
            blocks: BTreeMap::new(),
            size: self.stable.size,
        };
        let mut image = std::mem::replace(&mut self.stable, image);
        self.newest.clear();
        // In the order of arrival: an older write of a block never replaces a newer one.
        for (number, block) in self.pending.drain(..) {
            let survives = match survival {
                Survival::Nothing => false,
                Survival::Everything => true,
                Survival::Percent(chance) => rng.percent(chance),
            };
            if survives {
                image.blocks.insert(number, block);
            }
        }
        image
    }

    fn block(&self, number: u64) -> Option<&Block> {
        match self.newest.get(&number) {
            Some(index) => Some(&self.pending[*index].1),
            None => self.stable.blocks.get(&number),
        }
    }

    fn check_power(&self) -> io::Result<()> {
        if self.has_power { Ok(()) } else { Err(eio()) }
    }
}

fn split(offset: u64) -> (u64, usize) {
    let size = BLOCK_SIZE as u64;
    (offset / size, (offset % size) as usize)
}

fn zeros() -> Block {
    Box::new([0; BLOCK_SIZE])
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

#[cfg(test)]
mod tests;
