use castore::{Digest, Error, Object};

use super::{MountPath, NodeId};

/// Why an operation failed. [`errno`](Self::errno) and [`level`](Self::level)
/// say what to answer and how loudly to say it.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// The mount's root has no such entry, yet.
    #[error("no such entry in the mount's root")]
    NotFound,
    /// A name is longer than any entry's.
    #[error("the name is longer than 255 bytes")]
    NameTooLong,
    /// Something in a directory was asked of another node.
    #[error("not a directory")]
    NotADirectory,
    /// A file's contents were asked of a directory.
    #[error("a directory has no contents")]
    IsADirectory,
    /// A file's contents were asked of a symlink.
    #[error("not a regular file")]
    NotAFile,
    /// A target was asked of a node that is no symlink.
    #[error("not a symlink")]
    NotASymlink,
    /// Something was to be changed.
    #[error("the filesystem is read-only")]
    ReadOnly,
    /// The root was listed, and [`Options::list_root`](super::Options) is off.
    #[error("the mount's root cannot be listed")]
    ListingOff,
    /// [`Options::xattrs`](super::Options) is off.
    #[error("extended attributes are off")]
    XattrsOff,
    /// The node has no such extended attribute.
    #[error("no such extended attribute")]
    NoSuchXattr,
    /// The transport refers to a node that it forgot or never knew.
    #[error("node {0} is not known")]
    Stale(NodeId),
    /// There are as many nodes as numbers.
    #[error("too many nodes are in use")]
    TooManyNodes,
    /// There are as many open files as can be told apart.
    #[error("too many files are open")]
    TooManyOpenFiles,
    /// The root could not say what it has.
    #[error("the mount's root cannot be read: {source}")]
    Root {
        /// Why not.
        source: Box<Error>,
    },
    /// It cannot be told whether the root has an entry, or what it is.
    #[error("{path}: {source}")]
    Top {
        /// The entry that was looked up.
        path: MountPath,
        /// Why not.
        source: Box<Error>,
    },
    /// A blob or directory of a node is missing, damaged or unreachable.
    #[error("{path}: {source}")]
    Content {
        /// The node.
        path: MountPath,
        /// What could not be had.
        object: Object,
        /// Why not.
        source: Box<Error>,
    },
    /// A blob has not the size that the directory with the file claims.
    #[error("{path}: blob {digest} has {found} bytes, its directory says {claimed}")]
    Size {
        /// The file.
        path: MountPath,
        /// Its blob.
        digest: Digest,
        /// What the directory says.
        claimed: u64,
        /// What the blob says.
        found: u64,
    },
    /// A directory claims that a file is larger than any file can be.
    #[error("{path}: no file has {claimed} bytes")]
    TooLarge {
        /// The directory that has the file.
        path: MountPath,
        /// What it says.
        claimed: u64,
    },
    /// A directory has more entries than can be numbered.
    #[error("{path}: too many entries")]
    TooManyEntries {
        /// The directory.
        path: MountPath,
    },
}

/// How loudly an error is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// In the run of things: the user asked for what is not there or not
    /// allowed.
    Trace,
    /// The kernel did something odd.
    Warn,
    /// The operator has to know.
    Error,
}

impl FsError {
    pub(super) fn root(source: Error) -> Self {
        Self::Root {
            source: source.into(),
        }
    }

    /// How loudly to say it.
    pub fn level(&self) -> Level {
        match self {
            Self::NotFound
            | Self::NameTooLong
            | Self::NotADirectory
            | Self::IsADirectory
            | Self::NotAFile
            | Self::NotASymlink
            | Self::ReadOnly
            | Self::ListingOff
            | Self::XattrsOff
            | Self::NoSuchXattr => Level::Trace,
            Self::Stale(_) => Level::Warn,
            Self::TooManyNodes
            | Self::TooManyOpenFiles
            | Self::Root { .. }
            | Self::Top { .. }
            | Self::Content { .. }
            | Self::Size { .. }
            | Self::TooLarge { .. }
            | Self::TooManyEntries { .. } => Level::Error,
        }
    }

    /// Says it: errors of contents with the store path, the file, the digest
    /// and the number that is answered as fields of their own.
    pub fn log(&self, operation: &'static str, node: NodeId) {
        match self.level() {
            Level::Trace => tracing::trace!(operation, %node, error = %self, "refused"),
            Level::Warn => tracing::warn!(operation, %node, error = %self, "odd request"),
            Level::Error => {
                let (path, digest) = self.culprit();
                tracing::error!(
                    operation,
                    store_path = path.map(MountPath::first).map(tracing::field::display),
                    file = path.map(tracing::field::display),
                    digest = digest.map(tracing::field::display),
                    errno = self.errno(),
                    error = %self,
                    "cannot serve contents: {self}",
                );
            }
        }
    }

    fn culprit(&self) -> (Option<&MountPath>, Option<Digest>) {
        match self {
            Self::Content {
                path,
                object: Object::Blob(digest) | Object::Directory(digest),
                ..
            }
            | Self::Size { path, digest, .. } => (Some(path), Some(*digest)),
            Self::Content {
                path,
                object: Object::Record(_),
                ..
            }
            | Self::Top { path, .. }
            | Self::TooLarge { path, .. }
            | Self::TooManyEntries { path } => (Some(path), None),
            _ => (None, None),
        }
    }
}
