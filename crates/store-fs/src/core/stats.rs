use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A kind of request, as [`Stats`] counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Op {
    /// Look a name up.
    Lookup,
    /// Take back lookups of one or many nodes.
    Forget,
    /// Attributes.
    Getattr,
    /// The target of a symlink.
    Readlink,
    /// Open a file.
    Open,
    /// Read from a file.
    Read,
    /// Close one of a file's descriptors.
    Flush,
    /// Close a file.
    Release,
    /// Open a directory.
    Opendir,
    /// List names.
    Readdir,
    /// List names and look them up.
    Readdirplus,
    /// Close a directory.
    Releasedir,
    /// The size of the filesystem.
    Statfs,
    /// Read an extended attribute.
    Getxattr,
    /// List extended attributes.
    Listxattr,
    /// Anything that would change something.
    Modify,
}

impl Op {
    const COUNT: usize = Self::Modify as usize + 1;
}

/// What a [`Filesystem`](super::Filesystem) did so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Nodes referred to now, the root not counted.
    pub nodes: usize,
    /// Bytes answered to reads.
    pub bytes_read: u64,
    /// Requests that failed for want of sound contents.
    pub content_errors: u64,
    requests: [u64; Op::COUNT],
}

impl Stats {
    /// Requests of one kind.
    pub fn of(&self, op: Op) -> u64 {
        self.requests[op as usize]
    }

    /// Requests of all kinds.
    pub fn requests(&self) -> u64 {
        self.requests.iter().sum()
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    requests: [AtomicU64; Op::COUNT],
    bytes_read: AtomicU64,
    content_errors: AtomicU64,
}

impl Counters {
    pub(super) fn add(&self, op: Op) {
        self.requests[op as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn add_read(&self, bytes: usize) {
        self.bytes_read.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn add_content_error(&self) {
        self.content_errors.fetch_add(1, Relaxed);
    }

    pub(super) fn snapshot(&self, nodes: usize) -> Stats {
        Stats {
            nodes,
            bytes_read: self.bytes_read.load(Relaxed),
            content_errors: self.content_errors.load(Relaxed),
            requests: std::array::from_fn(|op| self.requests[op].load(Relaxed)),
        }
    }
}
