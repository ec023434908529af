use std::path::PathBuf;

use nix_compat::{StorePath, nar, store_path};

use crate::{Error, PathInfoError, binary_cache::FetchError};

/// Why a path could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The name is not one of a store path.
    #[error("{} cannot be imported as '{}': {source}", source_path.display(), name.escape_debug())]
    Name {
        /// What was to be imported.
        source_path: PathBuf,
        /// The name.
        name: String,
        /// The rule that it breaks.
        source: store_path::NameError,
    },
    /// The store path could not be computed.
    #[error("cannot name the store path of {}", source_path.display())]
    StorePath {
        /// What was to be imported.
        source_path: PathBuf,
        /// What is wrong with it.
        source: store_path::Error,
    },
    /// The tree could not be read or stored.
    #[error(transparent)]
    Tree(#[from] castore::import::ImportError),
    /// The NAR of the tree could not be computed.
    #[error("cannot compute the NAR of {}", source_path.display())]
    Nar {
        /// What was to be imported.
        source_path: PathBuf,
        /// What is wrong with it.
        source: nar::writer::Error,
    },
    /// The tree is not what it is said to be.
    #[error(
        "{} is not what is known of {store_path}: its NAR has the hash {found}, but should have \
         {expected}",
        source_path.display()
    )]
    Mismatch {
        /// The path that it should be.
        store_path: StorePath,
        /// What was to be imported.
        source_path: PathBuf,
        /// Hash and size known.
        expected: String,
        /// Hash and size found.
        found: String,
    },
    /// The store has the path with other contents.
    #[error(
        "the store already has {store_path}, with other contents: there its NAR has the hash \
         {expected}, here {found}"
    )]
    Conflict {
        /// The path.
        store_path: StorePath,
        /// Hash and size in the store.
        expected: String,
        /// Hash and size of what was to be imported.
        found: String,
    },
    /// What is known of the path cannot be kept.
    #[error("what is known of {store_path} is invalid: {source}")]
    Metadata {
        /// The path.
        store_path: StorePath,
        /// What is wrong.
        source: PathInfoError,
    },
    /// The path refers to others that are not in the store.
    #[error(
        "{store_path} refers to paths that are not in the store: {}",
        list(missing)
    )]
    MissingReferences {
        /// The path.
        store_path: StorePath,
        /// What it refers to.
        missing: Vec<StorePath>,
    },
    /// What the store had of the path was damaged, and is so after it was
    /// stored anew.
    #[error("{store_path} was stored anew, and is still damaged: the disk may be failing")]
    NotMended {
        /// The path.
        store_path: StorePath,
    },
    /// The path could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

fn list(paths: &[StorePath]) -> String {
    let names: Vec<_> = paths.iter().map(ToString::to_string).collect();
    names.join(", ")
}
