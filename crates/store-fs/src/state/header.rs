#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering, Ordering::Relaxed};

use super::{STATE_VERSION, StateError, layout, map::Plain};
use crate::core::CounterCells;

/// The first page.
#[repr(C)]
pub(crate) struct Header {
    /// Written last, when a state is made.
    magic: [AtomicU8; 16],
    version: AtomicU32,
    /// 0, or that the connection is set up: written after what was agreed upon.
    decided: AtomicU32,
    data_path: AtomicU32,
    abilities: AtomicU32,
    _reserved: [AtomicU32; 8],
    /// From byte 64 on.
    pub(crate) counters: CounterCells,
}

// SAFETY: all fields are atomic, or consist of such.
unsafe impl Plain for Header {}

const _: () = assert!(size_of::<Header>() <= layout::HEADER_LEN);

/// What was agreed upon when the connection was set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) passthrough: bool,
    pub(crate) has_resend: bool,
    pub(crate) unasked_files: bool,
    pub(crate) unasked_directories: bool,
}

const CACHED: u32 = 1;
const PASSTHROUGH: u32 = 2;

const HAS_RESEND: u32 = 1;
const UNASKED_FILES: u32 = 1 << 1;
const UNASKED_DIRECTORIES: u32 = 1 << 2;

impl Header {
    pub(super) fn create(&self) {
        self.version.store(STATE_VERSION, Relaxed);
        for (cell, byte) in self.magic.iter().zip(layout::MAGIC) {
            cell.store(byte, Ordering::Release);
        }
    }

    pub(super) fn check(&self) -> Result<(), StateError> {
        let magic = self.magic.iter().map(|cell| cell.load(Ordering::Acquire));
        if !magic.eq(layout::MAGIC) {
            return Err(StateError::Foreign);
        }
        let found = self.version.load(Relaxed);
        if found != STATE_VERSION {
            return Err(StateError::Incompatible {
                found,
                known: STATE_VERSION,
            });
        }
        let data_path = self.data_path.load(Relaxed);
        match self.decided.load(Ordering::Acquire) {
            0 => Ok(()),
            1 if matches!(data_path, CACHED | PASSTHROUGH) => Ok(()),
            decided => Err(StateError::damaged(format!(
                "the connection is set up {decided} times, with the data path {data_path}"
            ))),
        }
    }

    pub(super) fn decided(&self, ordering: Ordering) -> Option<Decided> {
        if self.decided.load(ordering) == 0 {
            return None;
        }
        let abilities = self.abilities.load(Relaxed);
        let has = |ability| abilities & ability != 0;
        Some(Decided {
            passthrough: self.data_path.load(Relaxed) == PASSTHROUGH,
            has_resend: has(HAS_RESEND),
            unasked_files: has(UNASKED_FILES),
            unasked_directories: has(UNASKED_DIRECTORIES),
        })
    }

    pub(super) fn decide(&self, decided: Decided, ordering: Ordering) {
        let when = |set, ability| if set { ability } else { 0 };
        let abilities = when(decided.has_resend, HAS_RESEND)
            | when(decided.unasked_files, UNASKED_FILES)
            | when(decided.unasked_directories, UNASKED_DIRECTORIES);
        let data_path = match decided.passthrough {
            true => PASSTHROUGH,
            false => CACHED,
        };
        self.data_path.store(data_path, Relaxed);
        self.abilities.store(abilities, Relaxed);
        self.decided.store(1, ordering);
    }
}
