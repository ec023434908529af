//! A read-only filesystem over a content-addressed store.
//!
//! Three layers, each knowing only the one before it:
//!
//! - [`core`] answers filesystem operations with its own types. What stands at
//!   the top of the mount comes through the [`Root`] trait; contents come from
//!   [`castore`]'s services.
//! - [`adapter`] puts the core behind `fuse-backend-rs`' `FileSystem`: it
//!   decodes, calls, logs and replies.
//! - [`fuse`] is the transport over `/dev/fuse`, and the mount itself.
//!
//! What the filesystem promises is written down in `docs/semantics.md`, each
//! sentence with the test that mirrors it.

pub mod adapter;
pub mod core;
#[cfg(feature = "fuse")]
pub mod fuse;
#[cfg(feature = "fuse")]
pub mod proc;
mod state;

pub use self::{
    adapter::Backing,
    core::{Counters, Filesystem, FsError, Options, Root, RootEntry, RootKey, Usage},
    state::{InFlight, STATE_VERSION, State, StateError},
};
