//! What is asked of the kernel when the connection is set up.
//!
//! | ability | | why |
//! |---|---|---|
//! | ASYNC_READ, ASYNC_DIO | yes | several READs of one file at a time |
//! | BIG_WRITES, MAX_PAGES | yes | requests of 1 MiB; reads profit, though the flags speak of writes |
//! | PARALLEL_DIROPS | yes | lookups in one directory at a time; the core locks nothing for long |
//! | DO_READDIRPLUS; READDIRPLUS_AUTO | yes; no | see [`Readdirplus`] |
//! | CACHE_SYMLINKS | yes | targets never change |
//! | ABORT_ERROR | yes | tells an aborted connection from an unmounted one |
//! | AUTO_INVAL_DATA | no | would compare attributes of files that cannot change before each read; the root's listing is dropped otherwise |
//! | EXPLICIT_INVAL_DATA | no | nothing is invalidated but the root's listing |
//! | WRITEBACK_CACHE, HANDLE_KILLPRIV, DONT_MASK, ATOMIC_O_TRUNC | no | nothing is written |
//! | POSIX_LOCKS, FLOCK_LOCKS | no | the kernel's own locks are right for one machine |
//! | POSIX_ACL | no | there are none; each permission check would ask for an attribute |
//! | EXPORT_SUPPORT | no | NFS asks for `.` and `..` of nodes that were forgotten |
//! | SPLICE_READ, SPLICE_WRITE, SPLICE_MOVE | no | replies are verified in memory, not moved through pipes |
//! | HAS_IOCTL_DIR | no | there are no ioctls; refused by the kernel at no cost |
//! | MAP_ALIGNMENT, PERFILE_DAX | no | DAX is virtiofs' |
//! | SUBMOUNTS | no | the tree has none |
//! | ZERO_MESSAGE_OPENDIR | used | not a request but an offer: ENOSYS to OPENDIR is no error, and not asked again |
//! | ZERO_MESSAGE_OPEN | used | so is OPEN, unless reads are passed through |
//! | PASSTHROUGH, with INIT_EXT | as told | see [`DataPath`](super::DataPath); `fuse-backend-rs` does not know it |
//! | FD_PASSTHROUGH | no | not a flag of Linux: its bit means something else there |
//! | OVER_IO_URING | no | off unless a parameter of the kernel module says otherwise; it would save a system call for each request, but not the waking of a thread; and no way is known to have what a ring has taken asked again of the next worker |
//! | HAS_RESEND | yes | the next process asks for what this one did not answer; `fuse-backend-rs` does not know it |

use fuse_backend_rs::abi::fuse_abi::FsOptions;

use super::wire;

/// When the kernel asks for names and nodes at once (READDIRPLUS) rather than
/// for names alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Readdirplus {
    /// When it expects that a listing is followed by lookups of its names: it
    /// does so at its beginning, and after a lookup in between.
    Auto,
    /// Always. Who walks a tree lists all of a directory before he looks at its
    /// files: with `Auto` those that are not in the first reply are looked up
    /// one by one.
    #[default]
    Always,
    /// Never.
    Never,
}

pub(super) fn wanted(readdirplus: Readdirplus) -> FsOptions {
    FsOptions::ASYNC_READ
        | FsOptions::ASYNC_DIO
        | FsOptions::BIG_WRITES
        | FsOptions::MAX_PAGES
        | FsOptions::PARALLEL_DIROPS
        | FsOptions::CACHE_SYMLINKS
        | FsOptions::ABORT_ERROR
        | match readdirplus {
            Readdirplus::Auto => FsOptions::DO_READDIRPLUS | FsOptions::READDIRPLUS_AUTO,
            Readdirplus::Always => FsOptions::DO_READDIRPLUS,
            Readdirplus::Never => FsOptions::empty(),
        }
}

/// What the kernel can do, as its INIT says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    flags: u64,
}

/// Bits that `fuse-backend-rs` has no name for: FUSE_INIT_EXT and
/// FUSE_PASSTHROUGH.
pub(super) const PASSTHROUGH: u64 = FsOptions::INIT_EXT.bits() | 1 << 37;

/// FUSE_HAS_RESEND.
pub(super) const RESEND: u64 = FsOptions::INIT_EXT.bits() | 1 << 39;

impl Offer {
    pub(super) fn parse(request: &[u8]) -> Self {
        Self {
            flags: wire::init_flags(request).unwrap_or_default(),
        }
    }

    pub(super) fn passthrough(&self) -> bool {
        self.flags & PASSTHROUGH == PASSTHROUGH
    }

    /// Whether it can ask again what was not answered.
    pub(super) fn resend(&self) -> bool {
        self.flags & RESEND == RESEND
    }

    /// Whether ENOSYS to OPEN is no error.
    pub(super) fn unasked_files(&self) -> bool {
        self.has(FsOptions::ZERO_MESSAGE_OPEN)
    }

    /// Whether ENOSYS to OPENDIR is no error.
    pub(super) fn unasked_directories(&self) -> bool {
        self.has(FsOptions::ZERO_MESSAGE_OPENDIR)
    }

    fn has(&self, ability: FsOptions) -> bool {
        self.flags & ability.bits() != 0
    }
}
