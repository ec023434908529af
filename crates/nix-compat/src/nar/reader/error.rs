use std::io;

use crate::nar::{MAX_DEPTH, NameError, TargetError};

/// A NAR that cannot be read, and where.
#[derive(Debug, thiserror::Error)]
#[error("NAR cannot be read at byte {offset}")]
pub struct Error {
    /// How many bytes were read before.
    pub offset: u64,
    /// What is wrong there.
    #[source]
    pub kind: ErrorKind,
}

/// What is wrong with a NAR.
#[derive(Debug, thiserror::Error)]
pub enum ErrorKind {
    /// The underlying reader failed.
    #[error("reading failed")]
    Io(#[source] io::Error),
    /// The input ends within the NAR.
    #[error("the input ends within the archive")]
    Truncated,
    /// The input does not start with [`MAGIC`](crate::nar::MAGIC).
    #[error("this is no NAR: it does not start with 'nix-archive-1'")]
    Magic,
    /// The grammar asks for another string here.
    #[error("{expected} is expected, but {found} found")]
    Tag {
        /// What would have been right.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// The zeros after a string are not zeros.
    #[error("the padding is not zero")]
    Padding,
    /// A directory entry's name is invalid.
    #[error("the name '{}' is invalid", .name.escape_ascii())]
    Name {
        /// The name; empty if it was too long to be read.
        name: Vec<u8>,
        /// The rule broken.
        source: NameError,
    },
    /// Two entries of a directory have the same name.
    #[error("the name '{}' is there twice", .name.escape_ascii())]
    DuplicateName {
        /// The name.
        name: Vec<u8>,
    },
    /// The entries of a directory are not sorted.
    #[error("the name '{}' comes after '{}'", .name.escape_ascii(), .previous.escape_ascii())]
    Unsorted {
        /// The name.
        name: Vec<u8>,
        /// The one before it.
        previous: Vec<u8>,
    },
    /// A symlink's target is invalid.
    #[error("the symlink target '{}' is invalid", .target.escape_ascii())]
    Target {
        /// The target; empty if it was too long to be read.
        target: Vec<u8>,
        /// The rule broken.
        source: TargetError,
    },
    /// More than [`MAX_DEPTH`] directories lie within each other.
    #[error("directories are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// There is input after the NAR.
    #[error("the archive is over, but the input goes on")]
    TrailingData,
    /// [`NarReader::finish`](super::NarReader::finish) came before the last event.
    #[error("the archive was not read to its end")]
    NotFinished,
    /// An earlier call failed, so the position in the grammar is lost.
    #[error("reading failed before")]
    FailedBefore,
}
