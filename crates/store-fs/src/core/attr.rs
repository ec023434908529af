use std::{fmt, time::Duration};

use castore::{Digest, Node};

use super::RootKey;

/// How long the kernel may keep what never changes: 136 years, and far from
/// where any kernel's arithmetic overflows.
pub const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// How long the kernel may keep the attributes of the mount's root, whose
/// modification time moves when entries are added.
pub const ROOT_ATTR_TTL: Duration = Duration::from_secs(1);

/// Preferred size of reads and unit of statfs.
pub(super) const BLOCK_SIZE: u32 = 4096;

/// The number by which a transport names a node. It keeps its meaning for as
/// long as the transport refers to it, and may name another node afterwards.
/// It is not the inode number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The root of the mount.
    pub const ROOT: Self = Self(1);
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Whether it may be executed.
        executable: bool,
    },
    /// A symbolic link.
    Symlink,
}

impl Kind {
    /// The permission bits.
    pub fn permissions(self) -> u32 {
        match self {
            Self::Directory | Self::File { executable: true } => 0o555,
            Self::File { executable: false } => 0o444,
            Self::Symlink => 0o777,
        }
    }
}

impl From<&Node> for Kind {
    fn from(node: &Node) -> Self {
        match node {
            Node::Directory { .. } => Self::Directory,
            Node::File { executable, .. } => Self::File {
                executable: *executable,
            },
            Node::Symlink { .. } => Self::Symlink,
        }
    }
}

/// The attributes of a node that differ between nodes. User and group are
/// root's, and there is one link.
///
/// A directory too has one link, as on btrfs: two more than its subdirectories
/// would cost reading it to answer for its entry in its parent, and tools take
/// 1 as "unknown".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// The inode number: derived from what the node is, so that it is the same
    /// after a remount and on every machine.
    pub ino: u64,
    /// File, directory or symlink.
    pub kind: Kind,
    /// Bytes of a file or of a symlink's target; for a directory the `size` it
    /// has in the model, which is only indicative.
    pub size: u64,
    /// Access, change and modification time, since 1970.
    pub time: Duration,
}

impl Attr {
    /// Units of 512 bytes that the contents need.
    pub fn blocks(&self) -> u64 {
        match self.kind {
            Kind::File { .. } => self.size.div_ceil(512),
            Kind::Directory | Kind::Symlink => 0,
        }
    }

    /// Preferred size of reads.
    pub fn block_size(&self) -> u32 {
        BLOCK_SIZE
    }
}

/// A node that was looked up: the transport refers to it once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The node.
    pub node: NodeId,
    /// Tells two nodes apart that have the same number at different times.
    pub generation: u64,
    /// Its attributes. They and the entry can be kept [`FOREVER`].
    pub attr: Attr,
}

/// The answer to a lookup that came to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// The name exists.
    Found(Found),
    /// The name does not exist and never will; that can be kept [`FOREVER`].
    /// Names of the root that do not exist are an error instead, for they may
    /// be added any time.
    Never,
}

/// The size of the filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statfs {
    /// Blocks of [`block_size`](Self::block_size) in total. None is free.
    pub blocks: u64,
    /// Nodes in total. None is free.
    pub files: u64,
    /// Bytes of a block.
    pub block_size: u32,
    /// Bytes of the longest name.
    pub name_max: u32,
}

/// Inode numbers have 63 bits and leave out 0, which is invalid, and 1, the
/// root's.
fn ino(hash: &[u8; 32]) -> u64 {
    let (word, _) = hash.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
    (u64::from_le_bytes(*word) >> 1).max(2)
}

/// The inode number of the mount's root.
pub(super) const ROOT_INO: u64 = 1;

pub(super) fn directory_ino(parent: u64, name: &[u8]) -> u64 {
    let mut input = b"directory ".to_vec();
    input.extend(parent.to_le_bytes());
    input.extend(name);
    ino(Digest::of(&input).as_bytes())
}

/// Differs for the executable twin, which is another inode.
pub(super) fn file_ino(digest: &Digest, executable: bool) -> u64 {
    let mut bytes = *digest.as_bytes();
    if executable {
        bytes.rotate_left(8);
    }
    ino(&bytes)
}

pub(super) fn symlink_ino(directory: &Digest, ordinal: u32) -> u64 {
    let mut input = b"symlink ".to_vec();
    input.extend(directory.as_bytes());
    input.extend(ordinal.to_le_bytes());
    ino(Digest::of(&input).as_bytes())
}

pub(super) fn top_symlink_ino(key: &RootKey) -> u64 {
    let mut input = b"top symlink ".to_vec();
    input.extend(key.0);
    ino(Digest::of(&input).as_bytes())
}
