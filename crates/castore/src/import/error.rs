use std::{fmt, io, path::PathBuf};

use super::ObserverError;
use crate::{DirectoryError, Error};

/// Why a tree could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The operating system refused, for example for lack of permission.
    #[error("cannot {act} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        act: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The tree has something that a store cannot hold.
    #[error(
        "{} is a {kind}, which a store cannot hold: remove it or import a tree without it",
        path.display()
    )]
    Unsupported {
        /// Where it is.
        path: PathBuf,
        /// What it is.
        kind: FileKind,
    },
    /// A file or directory was modified while it was being imported. Without
    /// this check a state could be stored that never existed.
    #[error(
        "{} changed while it was being imported ({detail}): import again when nothing writes to it",
        path.display()
    )]
    Changed {
        /// The file or directory.
        path: PathBuf,
        /// How that showed.
        detail: &'static str,
    },
    /// A name, symlink target or directory is outside of the model's limits.
    #[error("{} cannot be stored: {source}", path.display())]
    Invalid {
        /// The entry or directory.
        path: PathBuf,
        /// Which limit.
        source: DirectoryError,
    },
    /// Directories are nested too deeply. Each level that encloses the current
    /// place takes a file descriptor.
    #[error(
        "{} is nested more than {limit} directories deep: import a tree that is flatter",
        path.display()
    )]
    TooDeep {
        /// The first directory that is too deep.
        path: PathBuf,
        /// The greatest number of nested directories.
        limit: usize,
    },
    /// A service could not store an object.
    #[error("cannot store {}: {source}", path.display())]
    Store {
        /// The file or directory that the object is made of.
        path: PathBuf,
        /// What the service said.
        source: Error,
    },
    /// A service could not store part of a big file.
    #[error("cannot store the contents of {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the service said.
        source: io::Error,
    },
    /// The [`TreeObserver`](super::TreeObserver) failed.
    #[error(transparent)]
    Observer(ObserverError),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// The import was cancelled.
    #[error("the import was cancelled")]
    Cancelled,
}

/// A kind of file that no store can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A Unix domain socket.
    Socket,
    /// A named pipe.
    Fifo,
    /// A block device.
    BlockDevice,
    /// A character device.
    CharacterDevice,
    /// Something that the system has no name for.
    Unknown,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Socket => "socket",
            Self::Fifo => "named pipe",
            Self::BlockDevice => "block device",
            Self::CharacterDevice => "character device",
            Self::Unknown => "file of unknown type",
        })
    }
}
