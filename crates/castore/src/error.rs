use std::{fmt, io, path::PathBuf};

use rustix::io::Errno;

use crate::{Digest, DirectoryError};

/// An object of a store, as errors name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A blob.
    Blob(Digest),
    /// A directory.
    Directory(Digest),
    /// A record of a layer above, by its key in hexadecimal.
    Record(String),
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blob(digest) => write!(f, "blob {digest}"),
            Self::Directory(digest) => write!(f, "directory {digest}"),
            Self::Record(key) => write!(f, "record {key}"),
        }
    }
}

/// Why a service could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {act} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        act: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An object is there, but damaged.
    #[error("{object} is damaged in {place}: {detail}")]
    Corrupt {
        /// The object.
        object: Object,
        /// The file or service that holds it.
        place: String,
        /// How the damage shows.
        detail: String,
    },
    /// An object that is referred to is not there.
    #[error("{object} is missing")]
    Missing {
        /// The object.
        object: Object,
    },
    /// Part of the store's own bookkeeping is damaged, so that an object that
    /// was not found may yet exist.
    #[error("{} is damaged: {detail}", path.display())]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// How the damage shows.
        detail: String,
    },
    /// A directory given to be stored, or received, is invalid.
    #[error("invalid directory {digest}: {source}")]
    Directory {
        /// The digest asked for.
        digest: Digest,
        /// What is wrong with it.
        source: DirectoryError,
    },
    /// The place is not a store.
    #[error("{} is not a store: {detail}", path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// What is missing or unexpected.
        detail: String,
    },
    /// No store is made in a directory that has something else in it.
    #[error("{} is no store, and none is made there: it has {name:?} in it", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// One of the names in it.
        name: String,
    },
    /// The store was written by a newer program.
    #[error(
        "the file FORMAT of the store {} says format version {found}, and this program knows \
         versions up to {known}: use a newer store-mountd",
        path.display()
    )]
    NewerFormat {
        /// The store's directory.
        path: PathBuf,
        /// The version it has.
        found: u32,
        /// The newest version this program reads.
        known: u32,
    },
    /// The backend cannot be written to.
    #[error("{place} cannot be written: {detail}")]
    ReadOnly {
        /// The backend.
        place: String,
        /// Why.
        detail: String,
    },
    /// Others use the backend, and it was not to be waited for them.
    #[error("{place} is in use by {holder}")]
    Busy {
        /// The backend.
        place: String,
        /// Who uses it.
        holder: String,
    },
    /// A backend did not answer, or answered with an error of its own.
    #[error("{place} failed: {detail}")]
    Backend {
        /// The backend.
        place: String,
        /// What it said.
        detail: String,
    },
}

impl Error {
    /// Whether stored data is damaged or gone, as opposed to: could not be
    /// looked at.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Corrupt { .. }
            | Self::Missing { .. }
            | Self::Damaged { .. }
            | Self::Directory { .. } => true,
            Self::Io { source, .. } => {
                let errno = Errno::from_io_error(source);
                matches!(
                    errno,
                    Some(Errno::IO | Errno::UCLEAN | Errno::BADMSG | Errno::NODATA | Errno::NOENT)
                )
            }
            Self::NotAStore { .. }
            | Self::NotEmpty { .. }
            | Self::NewerFormat { .. }
            | Self::ReadOnly { .. }
            | Self::Busy { .. }
            | Self::Backend { .. } => false,
        }
    }

    /// For `map_err`: the system refused `act` on `path`.
    pub fn io(act: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { act, path, source }
    }
}
