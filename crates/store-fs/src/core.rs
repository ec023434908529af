//! The filesystem, without a transport.
//!
//! Every operation of [`Filesystem`] takes and returns the types of this
//! module; none blocks on anything but the services, and no lock is held while
//! a service is asked.

mod attr;
mod contents;
mod errno;
mod error;
mod listing;
mod lookup;
mod place;
mod read;
mod root;
mod root_listing;
mod stats;
mod table;
mod xattr;

use std::sync::Arc;

use castore::{BlobService, DirectoryService};

pub use attr::{Attr, FOREVER, Found, Kind, Lookup, NodeId, ROOT_ATTR_TTL, Statfs};
pub use error::{FsError, Level};
pub use listing::{DirEntry, OpenedDir};
pub use place::MountPath;
pub use read::FileId;
pub use root::{Root, RootEntry, RootKey, Usage};
pub(crate) use stats::CounterCells;
pub use stats::{Counters, Op};
pub use xattr::{BLOB_DIGEST_XATTR, DIRECTORY_DIGEST_XATTR};

use self::{contents::Contents, root_listing::RootListings, table::Table};
use crate::state::{State, StateError};

/// How a [`Filesystem`] behaves where there is a choice.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether the mount's top level can be listed. Off, listing it gives
    /// EPERM; names in it resolve all the same.
    pub list_root: bool,
    /// Whether nodes carry their digests as extended attributes. Off, asking
    /// costs a program nothing; on, each file that is asked is a round trip.
    pub xattrs: bool,
    /// Bytes of decoded directories to keep.
    pub directory_cache: u64,
    /// Opened blobs to keep; each may hold a file descriptor.
    pub opened_blobs: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            list_root: true,
            xattrs: false,
            directory_cache: 16 << 20,
            opened_blobs: 256,
        }
    }
}

/// A read-only filesystem whose top level is a [`Root`] and whose contents
/// come from a [`BlobService`] and a [`DirectoryService`].
#[derive(Debug)]
pub struct Filesystem {
    root: Arc<dyn Root>,
    contents: Contents,
    table: Table,
    root_listings: RootListings,
    state: Arc<State>,
    options: Options,
}

impl Filesystem {
    /// A filesystem that nobody uses yet, with a state of its own.
    ///
    /// # Panics
    /// If the system has no memory or no descriptors left.
    pub fn new(
        root: Arc<dyn Root>,
        blobs: Arc<dyn BlobService>,
        directories: Arc<dyn DirectoryService>,
        options: Options,
    ) -> Self {
        let state = State::new().map(Arc::new);
        state
            .and_then(|state| Self::with_state(root, blobs, directories, options, state))
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// A filesystem that goes on with what the kernel refers to.
    ///
    /// # Errors
    /// If the state contradicts itself, or cannot be mapped.
    pub fn with_state(
        root: Arc<dyn Root>,
        blobs: Arc<dyn BlobService>,
        directories: Arc<dyn DirectoryService>,
        options: Options,
        state: Arc<State>,
    ) -> Result<Self, StateError> {
        Ok(Self {
            root,
            contents: Contents::new(blobs, directories, &options, Arc::clone(&state)),
            table: Table::new(Arc::clone(&state))?,
            root_listings: RootListings::default(),
            state,
            options,
        })
    }

    /// What was done so far, and how many nodes are referred to now.
    pub fn stats(&self) -> Counters {
        self.state.counters()
    }

    /// What the next process needs to go on.
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// Closes what is kept open of contents that were read lately: some may have
    /// been removed, and take space as long as they are open.
    pub fn close_contents(&self) {
        self.contents.close_blobs();
    }

    fn counters(&self) -> &CounterCells {
        &self.state.header().counters
    }

    /// Counts a request before it is handled.
    pub(crate) fn count(&self, op: Op) {
        self.counters().add(op);
    }

    /// Numbers for statfs. Nothing is ever free, since nothing can be written.
    pub fn statfs(&self) -> Statfs {
        let Usage { nodes, bytes } = self.root.usage();
        Statfs {
            blocks: bytes.div_ceil(u64::from(attr::BLOCK_SIZE)),
            files: nodes.max(self.table.len() as u64),
            block_size: attr::BLOCK_SIZE,
            name_max: castore::PathComponent::MAX_LEN as u32,
        }
    }
}
