//! NAR archives to and from castore.

mod hasher;
mod ingest;
mod render;

pub use hasher::{NarDigest, NarHasher};
pub use ingest::{IngestError, Ingested, ingest};
pub use render::{RenderError, digest, render};

/// Bytes that are moved at a time, and the largest file that is held in memory
/// as a whole.
pub(crate) const BUFFER_LEN: usize = 256 * 1024;
