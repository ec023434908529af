use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A kind of request, as [`Counters`] counts them.
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
    pub(crate) const COUNT: usize = Self::Modify as usize + 1;

    /// All of them.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Lookup,
        Self::Forget,
        Self::Getattr,
        Self::Readlink,
        Self::Open,
        Self::Read,
        Self::Flush,
        Self::Release,
        Self::Opendir,
        Self::Readdir,
        Self::Readdirplus,
        Self::Releasedir,
        Self::Statfs,
        Self::Getxattr,
        Self::Listxattr,
        Self::Modify,
    ];

    /// As a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::Forget => "forget",
            Self::Getattr => "getattr",
            Self::Readlink => "readlink",
            Self::Open => "open",
            Self::Read => "read",
            Self::Flush => "flush",
            Self::Release => "release",
            Self::Opendir => "opendir",
            Self::Readdir => "readdir",
            Self::Readdirplus => "readdirplus",
            Self::Releasedir => "releasedir",
            Self::Statfs => "statfs",
            Self::Getxattr => "getxattr",
            Self::Listxattr => "listxattr",
            Self::Modify => "modify",
        }
    }
}

/// What a [`Filesystem`](super::Filesystem) did so far; with its
/// [`State`](crate::State), by all processes that served it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Nodes referred to now, the root not counted.
    pub nodes: usize,
    /// Bytes answered to reads.
    pub bytes_read: u64,
    /// Requests that failed for want of sound contents.
    pub content_errors: u64,
    /// Directories that were wanted and kept in memory.
    pub directory_hits: u64,
    /// Directories that the store was asked for.
    pub directory_misses: u64,
    /// Blobs that were wanted and open.
    pub blob_hits: u64,
    /// Blobs that the store was asked for.
    pub blob_misses: u64,
    requests: [u64; Op::COUNT],
}

impl Counters {
    /// Requests of one kind.
    pub fn of(&self, op: Op) -> u64 {
        self.requests[op as usize]
    }

    /// Requests of all kinds.
    pub fn requests(&self) -> u64 {
        self.requests.iter().sum()
    }
}

/// The counters where they are counted: in the state.
#[repr(C)]
pub(crate) struct CounterCells {
    requests: [AtomicU64; 32],
    bytes_read: AtomicU64,
    content_errors: AtomicU64,
    directory_hits: AtomicU64,
    directory_misses: AtomicU64,
    blob_hits: AtomicU64,
    blob_misses: AtomicU64,
    _reserved: [AtomicU64; 26],
    /// Of each shard of the table.
    nodes: [AtomicU64; 16],
}

const _: () = assert!(Op::COUNT <= 32);

impl CounterCells {
    pub(super) fn add(&self, op: Op) {
        self.requests[op as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn add_read(&self, bytes: usize) {
        self.bytes_read.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn add_content_error(&self) {
        self.content_errors.fetch_add(1, Relaxed);
    }

    /// A directory was wanted: a hit if it was kept in memory.
    pub(super) fn add_directory(&self, hit: bool) {
        let counter = match hit {
            true => &self.directory_hits,
            false => &self.directory_misses,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// A blob was wanted: a hit if it was open.
    pub(super) fn add_blob(&self, hit: bool) {
        let counter = match hit {
            true => &self.blob_hits,
            false => &self.blob_misses,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// Whoever holds the lock of the shard says how many nodes it has.
    pub(super) fn set_nodes(&self, shard: usize, count: usize) {
        self.nodes[shard].store(count as u64, Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Counters {
        let nodes: u64 = self.nodes.iter().map(|count| count.load(Relaxed)).sum();
        Counters {
            nodes: usize::try_from(nodes).unwrap_or(usize::MAX),
            bytes_read: self.bytes_read.load(Relaxed),
            content_errors: self.content_errors.load(Relaxed),
            directory_hits: self.directory_hits.load(Relaxed),
            directory_misses: self.directory_misses.load(Relaxed),
            blob_hits: self.blob_hits.load(Relaxed),
            blob_misses: self.blob_misses.load(Relaxed),
            requests: std::array::from_fn(|op| self.requests[op].load(Relaxed)),
        }
    }
}
