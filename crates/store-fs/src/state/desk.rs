//! Desks: at each, a thread handles one request at a time.
//!
//! The kernel writes a request straight into the state, so that at no moment
//! one is taken from it and known to nobody. A desk says how far its request
//! got; what becomes of it when the thread dies is decided by the next process.

#![allow(unsafe_code)]

use std::{
    os::fd::BorrowedFd,
    sync::{
        Arc,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use castore::Digest;
use fuse_backend_rs::abi::fuse_abi::Opcode;
use parking_lot::Mutex;
use rustix::{
    io::{Errno, pread},
    time::{ClockId, clock_gettime},
};

use super::{
    State, StateError, layout,
    map::{Mapping, Plain},
};

/// How far a request got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nobody sits there.
    Free = 0,
    /// The kernel may write a request at any moment; if it did, the first word
    /// of it, its length, is not 0.
    Reading = 1,
    /// There is a request, and nothing the kernel relies on was done for good:
    /// it can be done again.
    Taken = 2,
    /// Something was done that must not be done again; see
    /// [`Desk::begin`].
    Begun = 3,
}

impl Stage {
    fn parse(stage: u32) -> Option<Self> {
        [Self::Free, Self::Reading, Self::Taken, Self::Begun]
            .get(stage as usize)
            .copied()
    }
}

/// What is known of a request without looking at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Card {
    pub(crate) unique: u64,
    pub(crate) node: u64,
    pub(crate) opcode: u32,
    pub(crate) pid: u32,
}

#[repr(C)]
struct Cell {
    stage: AtomicU32,
    /// How many of its parts were begun.
    progress: AtomicU32,
    /// By the monotonic clock, in milliseconds.
    since: AtomicU64,
    unique: AtomicU64,
    node: AtomicU64,
    opcode: AtomicU32,
    pid: AtomicU32,
    _reserved: [AtomicU64; 3],
}

// SAFETY: all fields are atomic, or consist of such.
unsafe impl Plain for Cell {}

const _: () = assert!(size_of::<Cell>() == layout::DESK_LEN);

/// All desks, and which are free in this process.
pub(crate) struct Desks {
    cells: Mapping,
    requests: Mapping,
    free: Mutex<Vec<usize>>,
    // Keeps the file open.
    _state: Arc<State>,
}

impl Desks {
    /// The desks, and those at which another process left something.
    pub(crate) fn new(state: &Arc<State>) -> Result<(Arc<Self>, Vec<Desk>), StateError> {
        let map = |at, len| {
            let mapping = Mapping::new(state.fd(), at, layout::DESKS * len);
            mapping.map_err(StateError::io("map the requests of"))
        };
        let desks = Arc::new(Self {
            cells: map(layout::DESKS_AT, layout::DESK_LEN)?,
            requests: map(layout::REQUESTS_AT, layout::REQUEST_LEN)?,
            free: Mutex::default(),
            _state: Arc::clone(state),
        });
        let mut left = Vec::new();
        let mut free = Vec::new();
        for index in (0..layout::DESKS).rev() {
            let desk = Desk {
                desks: Arc::clone(&desks),
                index,
            };
            match Stage::parse(desk.cell().stage.load(Acquire)) {
                Some(Stage::Free) => {
                    free.push(index);
                    std::mem::forget(desk);
                }
                Some(_) => left.push(desk),
                None => {
                    std::mem::forget(desk);
                    return Err(StateError::damaged(format!(
                        "the desk {index} has no stage"
                    )));
                }
            }
        }
        *desks.free.lock() = free;
        Ok((desks, left))
    }

    /// A free desk, unless all are taken.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Desk> {
        let index = self.free.lock().pop()?;
        let mut desk = Desk {
            desks: Arc::clone(self),
            index,
        };
        // The kernel could not write to pages that are not there while the
        // process is being killed, and would fail the request.
        desk.bytes().fill(0);
        Some(desk)
    }

    /// Who asks the request of that number, if it is being handled.
    pub(crate) fn find(&self, unique: u64) -> Option<Card> {
        (self.cells.slice::<Cell>(0, layout::DESKS).iter())
            .filter(|cell| cell.is_taken())
            .map(Cell::card)
            .find(|card| card.unique == unique)
    }
}

impl Cell {
    fn is_taken(&self) -> bool {
        self.stage.load(Acquire) >= Stage::Taken as u32
    }

    fn card(&self) -> Card {
        Card {
            unique: self.unique.load(Relaxed),
            node: self.node.load(Relaxed),
            opcode: self.opcode.load(Relaxed),
            pid: self.pid.load(Relaxed),
        }
    }
}

/// A desk that is taken, by this process and nobody else.
pub(crate) struct Desk {
    desks: Arc<Desks>,
    index: usize,
}

impl Desk {
    fn cell(&self) -> &Cell {
        self.desks.cells.at(self.index * layout::DESK_LEN)
    }

    /// Where the kernel is to write a request.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        let offset = self.index * layout::REQUEST_LEN;
        // SAFETY: the bytes of a desk are only reached through it, and it is
        // borrowed exclusively; other processes only read them, by system call.
        unsafe { (self.desks.requests).bytes_mut(offset, layout::REQUEST_LEN) }
    }

    /// Before the kernel is asked for a request.
    pub(crate) fn read(&mut self) -> &mut [u8] {
        // The length, for whoever finds the desk. And what was there before:
        // of a BATCH_FORGET the kernel may fail to write the second page, for
        // whoever finds it to take the numbers of an older one for its own.
        let used = (u32_at(self.bytes(), 0) as usize).clamp(64, layout::REQUEST_LEN);
        self.bytes()[..used].fill(0);
        self.cell().progress.store(0, Relaxed);
        self.cell().stage.store(Stage::Reading as u32, Release);
        self.bytes()
    }

    /// There is a request.
    pub(crate) fn taken(&mut self, card: Card) {
        let cell = self.cell();
        cell.since.store(now(ClockId::MonotonicCoarse), Relaxed);
        cell.unique.store(card.unique, Relaxed);
        cell.node.store(card.node, Relaxed);
        cell.opcode.store(card.opcode, Relaxed);
        cell.pid.store(card.pid, Relaxed);
        cell.stage.store(Stage::Taken as u32, Release);
    }

    /// Before something is done that must not be done twice: at the worst it is
    /// not done at all.
    pub(crate) fn begin(&self) {
        self.cell().stage.store(Stage::Begun as u32, Release);
    }

    /// The same for part of a request.
    pub(crate) fn begin_part(&self, part: u32) {
        self.cell().progress.store(part + 1, Release);
    }

    /// How many parts were begun.
    pub(crate) fn progress(&self) -> u32 {
        self.cell().progress.load(Acquire)
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.cell().stage.load(Acquire) == Stage::Begun as u32
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.cell().stage.store(Stage::Free as u32, Release);
        self.desks.free.lock().push(self.index);
    }
}

impl std::fmt::Debug for Desks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desks").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Desk").field(&self.index).finish()
    }
}

fn now(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// A request that is being handled.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InFlight {
    /// The kernel's number of the request.
    pub unique: u64,
    /// What is asked, as in `<linux/fuse.h>`.
    pub opcode: u32,
    /// The same as a word, `lookup` for one.
    pub operation: &'static str,
    /// The node that it is about.
    pub node: u64,
    /// The thread that asks; 0 if the kernel itself does.
    pub pid: u32,
    /// How long it has been handled.
    pub age: Duration,
    /// What it may be waiting for: the contents of the file or directory, in
    /// the store.
    pub waits_on: Option<Digest>,
}

/// Looks at the desks of another process: nothing is mapped, lest it be locked
/// in memory.
pub(super) fn in_flight(file: BorrowedFd<'_>) -> Vec<InFlight> {
    let mut cells = vec![0; layout::DESKS * layout::DESK_LEN];
    if !read_all(file, &mut cells, layout::DESKS_AT) {
        return Vec::new();
    }
    let now = now(ClockId::Monotonic);
    let cells = cells.as_chunks::<{ layout::DESK_LEN }>().0.iter();
    let requests = cells.filter_map(|cell| {
        let (stage, progress) = (u32_at(cell, 0), u32_at(cell, 4));
        let node = u64_at(cell, 24);
        let opcode = u32_at(cell, 32);
        // Kept lest it is done twice; it may have been answered long ago.
        let is_kept =
            stage == Stage::Begun as u32 && progress > 0 && opcode == Opcode::Release as u32;
        if stage < Stage::Taken as u32 || is_kept {
            return None;
        }
        Some(InFlight {
            unique: u64_at(cell, 16),
            opcode,
            operation: super::opcodes::operation(opcode),
            node,
            pid: u32_at(cell, 36),
            age: Duration::from_millis(now.saturating_sub(u64_at(cell, 8))),
            waits_on: digest(file, node),
        })
    });
    requests.collect()
}

/// Of the contents of a node that is a file or directory.
fn digest(file: BorrowedFd<'_>, node: u64) -> Option<Digest> {
    let slot = node
        .checked_sub(1)
        .filter(|slot| *slot < layout::RECORDS as u64)?;
    let mut record = [0; layout::RECORD_LEN];
    let offset = layout::RECORDS_AT + slot * layout::RECORD_LEN as u64;
    if !read_all(file, &mut record, offset) {
        return None;
    }
    let tag = u64_at(&record, 32) >> 61;
    let digest = record.first_chunk().filter(|_| (1..=3).contains(&tag))?;
    Some(Digest::from_bytes(*digest))
}

fn read_all(file: BorrowedFd<'_>, buf: &mut [u8], offset: u64) -> bool {
    let mut filled = 0;
    while filled < buf.len() {
        match pread(file, &mut buf[filled..], offset + filled as u64) {
            Ok(0) => return false,
            Ok(len) => filled += len,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |word| u32::from_ne_bytes(*word))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |word| u64::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_the_request_before() {
        let state = Arc::new(State::new().expect("a state"));
        let (desks, left) = Desks::new(&state).expect("it is new");
        assert!(left.is_empty());
        let mut desk = desks.take().expect("it is free");
        for len in [40, 64, 100, 4096, 5000, layout::REQUEST_LEN, usize::MAX] {
            let used = len.min(layout::REQUEST_LEN);
            desk.read()[..used].fill(0xff);
            desk.bytes()[..4].copy_from_slice(&(len as u32).to_ne_bytes());
            assert!(desk.read().iter().all(|byte| *byte == 0), "{len}");
        }
    }
}
