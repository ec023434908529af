//! Content-addressed file trees.
//!
//! A tree is a [`Node`]: a file or a symlink, or a [`Directory`] that maps
//! names to further nodes. Contents and directories are named by the BLAKE3
//! [`Digest`] of their bytes and kept by a [`BlobService`] and a
//! [`DirectoryService`]; [`local`] is the embedded default of both. The model
//! and its encoding are those of the public `snix.castore.v1` package. Nothing
//! here knows of Nix.

mod digest;
mod directory;
mod error;
mod flight;
mod name;
mod node;

pub mod blobservice;
pub mod directoryservice;
pub mod fault;
pub mod import;
pub mod local;
pub mod outboard;
pub mod proto;

pub use blobservice::{Blob, BlobService, BlobWriter};
pub use digest::{Digest, DigestParseError};
pub use directory::{Directory, DirectoryError, Entry};
pub use directoryservice::DirectoryService;
pub use error::{Error, Object};
pub use name::{PathComponent, PathComponentError};
pub use node::Node;
pub use outboard::HashedBlob;
