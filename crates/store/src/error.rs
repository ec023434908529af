use nix_compat::nixbase32;

use crate::PathInfoError;

/// Why a [`PathInfoService`](crate::PathInfoService) could not do what it was
/// asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store below failed.
    #[error(transparent)]
    Castore(#[from] castore::Error),
    /// A path info is there, but cannot be one.
    #[error("the path info of {} is damaged: {source}", nixbase32::encode(digest))]
    Damaged {
        /// The digest in the store path.
        digest: [u8; 20],
        /// What is wrong with it.
        source: PathInfoError,
    },
    /// A record of the store below is not a path info's.
    #[error("the record {key} is not a path info's: its key is not that of a store path")]
    ForeignRecord {
        /// The key, in hexadecimal.
        key: String,
    },
}
