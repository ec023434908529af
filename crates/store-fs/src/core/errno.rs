//! The only place where an error becomes a number. No arm is a wildcard: a new
//! error has to be decided upon here.

use castore::Error;

use super::FsError;

impl FsError {
    /// The number to answer.
    pub fn errno(&self) -> i32 {
        match self {
            Self::NotFound => libc::ENOENT,
            Self::NameTooLong => libc::ENAMETOOLONG,
            Self::NotADirectory => libc::ENOTDIR,
            Self::IsADirectory => libc::EISDIR,
            Self::NotAFile | Self::NotASymlink => libc::EINVAL,
            Self::ReadOnly => libc::EROFS,
            Self::ListingOff => libc::EPERM,
            // The kernel remembers ENOSYS and does not ask again.
            Self::XattrsOff => libc::ENOSYS,
            Self::NoSuchXattr => libc::ENODATA,
            Self::Stale(_) => libc::ESTALE,
            Self::TooManyNodes | Self::TooManyOpenFiles => libc::ENFILE,
            Self::Root { source } | Self::Top { source, .. } | Self::Content { source, .. } => {
                of_store(source)
            }
            Self::Size { .. } | Self::TooLarge { .. } | Self::TooManyEntries { .. } => libc::EIO,
        }
    }
}

/// Whatever keeps a store from answering is an I/O error to who reads a file:
/// ENOENT, ENOSPC or EROFS would be taken as something said of the file.
fn of_store(error: &Error) -> i32 {
    match error {
        Error::Io { .. }
        | Error::Corrupt { .. }
        | Error::Missing { .. }
        | Error::Damaged { .. }
        | Error::Directory { .. }
        | Error::NotAStore { .. }
        | Error::NotEmpty { .. }
        | Error::NewerFormat { .. }
        | Error::ReadOnly { .. }
        | Error::Busy { .. }
        | Error::Backend { .. } => libc::EIO,
    }
}
