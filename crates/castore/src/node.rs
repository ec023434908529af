use bytes::Bytes;

use crate::{Digest, Directory, PathComponent, directory::DirectoryError, proto};

/// What stands at a place in a tree.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Node {
    /// A directory, by the digest of its [`Directory`].
    Directory {
        /// Digest of the canonical encoding.
        digest: Digest,
        /// [`Directory::size`]; what a foreign store claims is not checked.
        size: u64,
    },
    /// A regular file.
    File {
        /// Digest of the contents.
        digest: Digest,
        /// Bytes of contents.
        size: u64,
        /// Whether the file may be executed.
        executable: bool,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points; not empty, no NUL byte, not necessarily UTF-8.
        target: Bytes,
    },
}

impl Node {
    /// The longest target of a symlink, in bytes: PATH_MAX without its NUL.
    pub const MAX_TARGET_LEN: usize = 4095;

    /// The node of `directory`.
    pub fn directory(directory: &Directory) -> Self {
        Self::Directory {
            digest: directory.digest(),
            size: directory.size(),
        }
    }

    /// A symlink to `target`.
    ///
    /// # Errors
    /// If the target is empty, has a NUL byte or is longer than
    /// [`MAX_TARGET_LEN`](Self::MAX_TARGET_LEN).
    pub fn symlink(target: Bytes) -> Result<Self, DirectoryError> {
        if target.is_empty() || target.contains(&0) || target.len() > Self::MAX_TARGET_LEN {
            return Err(DirectoryError::Target {
                target: target.escape_ascii().to_string(),
            });
        }
        Ok(Self::Symlink { target })
    }

    /// The node and `name` as a protobuf entry.
    pub fn to_proto(&self, name: &PathComponent) -> proto::Entry {
        use proto::entry::Entry;
        let name = name.to_bytes();
        let entry = match self {
            Self::Directory { digest, size } => Entry::Directory(proto::DirectoryEntry {
                name,
                digest: Bytes::copy_from_slice(digest.as_bytes()),
                size: *size,
            }),
            Self::File {
                digest,
                size,
                executable,
            } => Entry::File(proto::FileEntry {
                name,
                digest: Bytes::copy_from_slice(digest.as_bytes()),
                size: *size,
                executable: *executable,
            }),
            Self::Symlink { target } => Entry::Symlink(proto::SymlinkEntry {
                name,
                target: target.clone(),
            }),
        };
        proto::Entry { entry: Some(entry) }
    }

    /// The name and node of a protobuf entry.
    ///
    /// # Errors
    /// If the entry is empty or a name, digest or target is invalid.
    pub fn from_proto(entry: proto::Entry) -> Result<(PathComponent, Self), DirectoryError> {
        use proto::entry::Entry;
        match entry.entry.ok_or(DirectoryError::NoEntry)? {
            Entry::Directory(entry) => entry.try_into(),
            Entry::File(entry) => entry.try_into(),
            Entry::Symlink(entry) => entry.try_into(),
        }
    }
}

impl TryFrom<proto::DirectoryEntry> for (PathComponent, Node) {
    type Error = DirectoryError;

    fn try_from(entry: proto::DirectoryEntry) -> Result<Self, DirectoryError> {
        let digest = entry.digest.as_ref().try_into()?;
        let size = entry.size;
        Ok((entry.name.try_into()?, Node::Directory { digest, size }))
    }
}

impl TryFrom<proto::FileEntry> for (PathComponent, Node) {
    type Error = DirectoryError;

    fn try_from(entry: proto::FileEntry) -> Result<Self, DirectoryError> {
        let node = Node::File {
            digest: entry.digest.as_ref().try_into()?,
            size: entry.size,
            executable: entry.executable,
        };
        Ok((entry.name.try_into()?, node))
    }
}

impl TryFrom<proto::SymlinkEntry> for (PathComponent, Node) {
    type Error = DirectoryError;

    fn try_from(entry: proto::SymlinkEntry) -> Result<Self, DirectoryError> {
        Ok((entry.name.try_into()?, Node::symlink(entry.target)?))
    }
}

#[cfg(test)]
mod tests;
