//! What must outlive the process that serves, in a file in memory.
//!
//! The kernel goes on with what it was told: numbers of nodes, how often each
//! was looked up, files that are open, what was agreed upon when the connection
//! was set up. All of it is in a memfd, and is there before the reply that
//! tells the kernel. Whoever gets the descriptor and that of `/dev/fuse` can go
//! on where another process ended, at whatever instruction that was.
//!
//! `docs/design.md` has the layout, byte by byte. Nothing in the file is a
//! pointer or a lock: indexes, free lists and locks belong to a process, which
//! makes them anew.

pub(crate) mod desk;
mod header;
pub(crate) mod layout;
pub(crate) mod map;
pub(crate) mod opcodes;

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::Ordering::{Acquire, Release},
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, ftruncate, memfd_create};

pub use self::desk::InFlight;
pub(crate) use self::header::{Decided, Header};
use self::map::Mapping;
use crate::core::Counters;

/// The version of the layout. A process takes over only what has its own.
pub const STATE_VERSION: u32 = 1;

/// What a connection's next server needs to know.
pub struct State {
    file: OwnedFd,
    header: Mapping,
}

/// Why a state cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The system refused.
    #[error("cannot {act} the state: {source}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The file is something else.
    #[error("what was handed over is not a state")]
    Foreign,
    /// Another version of the program made it.
    #[error("the state has version {found}, and this program knows {known} only")]
    Incompatible {
        /// Its version.
        found: u32,
        /// The version that is known.
        known: u32,
    },
    /// It contradicts itself.
    #[error("the state is damaged: {detail}")]
    Damaged {
        /// How.
        detail: String,
    },
}

impl StateError {
    pub(crate) fn io(act: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self::Io {
            act,
            source: errno.into(),
        }
    }

    pub(crate) fn damaged(detail: impl Into<String>) -> Self {
        Self::Damaged {
            detail: detail.into(),
        }
    }
}

impl State {
    /// A state of a connection that is not set up yet.
    ///
    /// # Errors
    /// If the system has no memory or no descriptors left.
    pub fn new() -> Result<Self, StateError> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create("store-fs-state", flags).map_err(StateError::io("make"))?;
        ftruncate(&file, layout::FILE_LEN).map_err(StateError::io("size"))?;
        // Nobody can take pages away from under a mapping.
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        fcntl_add_seals(&file, seals).map_err(StateError::io("seal"))?;
        let state = Self::map(file)?;
        state.header().create();
        Ok(state)
    }

    /// The state in a descriptor that was handed over. It must not be used by
    /// another process any more, but for looking at it.
    ///
    /// # Errors
    /// If it is not a state, or not one that this program knows.
    pub fn open(fd: OwnedFd) -> Result<Self, StateError> {
        let len = fstat(&fd).map_err(StateError::io("look at"))?.st_size;
        if (len as u64) < layout::HEADER_LEN as u64 {
            return Err(StateError::Foreign);
        }
        let state = Self::map(fd)?;
        state.header().check()?;
        if len as u64 != layout::FILE_LEN {
            return Err(StateError::damaged(format!("it has {len} bytes")));
        }
        Ok(state)
    }

    fn map(file: OwnedFd) -> Result<Self, StateError> {
        let header =
            Mapping::new(file.as_fd(), 0, layout::HEADER_LEN).map_err(StateError::io("map"))?;
        Ok(Self { file, header })
    }

    /// The descriptor to hand over.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Whether the connection was set up.
    pub fn is_initialised(&self) -> bool {
        self.header().decided(Acquire).is_some()
    }

    /// Whether the kernel can ask again what was not answered.
    pub fn has_resend(&self) -> bool {
        self.header()
            .decided(Acquire)
            .is_some_and(|decided| decided.has_resend)
    }

    /// What was done so far, by all processes that served.
    pub fn counters(&self) -> Counters {
        self.header().counters.snapshot()
    }

    /// The requests that are being handled.
    pub fn in_flight(&self) -> Vec<InFlight> {
        desk::in_flight(self.fd())
    }

    pub(crate) fn decided(&self) -> Option<Decided> {
        self.header().decided(Acquire)
    }

    /// Keeps what was agreed upon; before it is said.
    pub(crate) fn decide(&self, decided: Decided) {
        self.header().decide(decided, Release);
    }

    pub(crate) fn header(&self) -> &Header {
        self.header.at::<Header>(0)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("file", &self.file)
            .field("decided", &self.decided())
            .finish_non_exhaustive()
    }
}
