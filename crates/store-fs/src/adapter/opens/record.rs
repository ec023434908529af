#![allow(unsafe_code)]

use std::sync::{
    Arc,
    atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use castore::Digest;
use rustix::{
    fs::{SeekFrom, seek},
    io::Errno,
};

use super::Opened;
use crate::{
    State, StateError,
    core::FileId,
    state::{
        layout,
        map::{Mapping, Plain},
    },
};

/// An open file: 64 bytes in the state. The tag is written last.
#[repr(C)]
pub(super) struct Record {
    digest: [AtomicU64; 4],
    count: AtomicU64,
    tag: AtomicU32,
    /// 0: none.
    backing: AtomicU32,
    /// How often this record was used.
    turn: AtomicU32,
    _reserved: [AtomicU32; 3],
}

// SAFETY: all fields are atomic, or consist of such.
unsafe impl Plain for Record {}

const _: () = assert!(size_of::<Record>() == layout::OPEN_FILE_LEN);

const FREE: u32 = 0;
const FILE: u32 = 1;
const EXECUTABLE: u32 = 2;

impl Record {
    /// Writes a free record, for a file that is open once.
    pub(super) fn fill(&self, slot: usize, file: &FileId, backing: Option<u32>) -> Opened {
        self.fill_until(file, backing, STEPS);
        self.opened(slot)
    }

    pub(super) fn fill_until(&self, file: &FileId, backing: Option<u32>, steps: usize) {
        for step in 0..steps {
            match step {
                0 => {
                    let words = file.digest.as_bytes().as_chunks().0;
                    for (word, bytes) in self.digest.iter().zip(words) {
                        word.store(u64::from_ne_bytes(*bytes), Relaxed);
                    }
                }
                1 => self.backing.store(backing.unwrap_or(0), Relaxed),
                2 => self.count.store(1, Relaxed),
                3 => {
                    self.turn.fetch_add(1, Relaxed);
                }
                _ => {
                    let tag = if file.executable { EXECUTABLE } else { FILE };
                    self.tag.store(tag, Release);
                }
            }
        }
    }

    pub(super) fn clear(&self) {
        self.tag.store(FREE, Release);
    }

    /// Opens it once more.
    pub(super) fn open(&self, slot: usize) -> Opened {
        self.count.fetch_add(1, Relaxed);
        self.opened(slot)
    }

    /// Answers how often it is still open.
    pub(super) fn close(&self) -> u64 {
        self.count.fetch_sub(1, Relaxed) - 1
    }

    /// What is open, if anything.
    pub(super) fn file(&self) -> Result<Option<FileId>, StateError> {
        let executable = match self.tag.load(Acquire) {
            FREE => return Ok(None),
            FILE => false,
            EXECUTABLE => true,
            tag => {
                return Err(StateError::damaged(format!(
                    "an open file has the tag {tag}"
                )));
            }
        };
        let mut digest = [0; Digest::LEN];
        for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(&self.digest) {
            *bytes = word.load(Relaxed).to_ne_bytes();
        }
        Ok(Some(FileId {
            digest: Digest::from_bytes(digest),
            executable,
        }))
    }

    /// How often it is open.
    pub(super) fn count(&self) -> u64 {
        match self.tag.load(Acquire) {
            FREE => 0,
            _ => self.count.load(Relaxed),
        }
    }

    pub(super) fn backing(&self) -> Option<u32> {
        Some(self.backing.load(Relaxed)).filter(|id| *id != 0)
    }

    pub(super) fn handle(&self, slot: usize) -> u64 {
        u64::from(self.turn.load(Relaxed)) << 32 | slot as u64
    }

    fn opened(&self, slot: usize) -> Opened {
        Opened {
            handle: self.handle(slot),
            backing: self.backing(),
        }
    }
}

/// How many writes fill a record.
pub(super) const STEPS: usize = 5;

/// All of them.
pub(super) struct Records {
    mapping: Mapping,
    state: Arc<State>,
}

impl Records {
    pub(super) const LEN: usize = layout::OPEN_FILES;

    pub(super) fn new(state: &Arc<State>) -> Result<Self, StateError> {
        let len = Self::LEN * layout::OPEN_FILE_LEN;
        let mapping = Mapping::new(state.fd(), layout::OPEN_FILES_AT, len);
        Ok(Self {
            mapping: mapping.map_err(StateError::io("map the open files of"))?,
            state: Arc::clone(state),
        })
    }

    pub(super) fn get(&self, slot: usize) -> &Record {
        self.mapping.at(slot * layout::OPEN_FILE_LEN)
    }

    /// Those that were ever used, and perhaps some more.
    pub(super) fn slots(&self) -> Result<Vec<usize>, StateError> {
        const PAGE: u64 = 4096;
        const END: u64 =
            layout::OPEN_FILES_AT + (layout::OPEN_FILES * layout::OPEN_FILE_LEN) as u64;
        let mut slots = Vec::new();
        let mut next = layout::OPEN_FILES_AT;
        while next < END {
            let data = match seek(self.state.fd(), SeekFrom::Data(next)) {
                Ok(data) if data < END => data,
                Ok(_) | Err(Errno::NXIO) => break,
                Err(errno) => return Err(StateError::io("look for open files in")(errno)),
            };
            let page = data / PAGE * PAGE;
            let first = ((page - layout::OPEN_FILES_AT) as usize) / layout::OPEN_FILE_LEN;
            slots.extend(first..first + PAGE as usize / layout::OPEN_FILE_LEN);
            next = page + PAGE;
        }
        Ok(slots)
    }
}
