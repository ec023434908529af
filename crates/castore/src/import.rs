//! Import of a tree from disk.
//!
//! The work is a pipeline whose ends keep the order of the tree (depth first,
//! entries sorted by their bytes) and whose middle does not:
//!
//! ```text
//! walker ──jobs──▶ readers (several) ──chunks──▶ caller: observer ──▶ keeper: services
//!    └───────────────────── order of the jobs ──────────▶┘
//! ```
//!
//! The walker lists directories and cuts the tree into jobs of a few dozen
//! entries; readers read and hash the files of their job into buffers of a
//! pool; the calling thread takes the buffers in the tree's order and
//! shows them to the [`TreeObserver`]; the keeper stores them in that same
//! order, children before their directory. The pool is what bounds the memory:
//! whoever runs too far ahead waits for a buffer.

mod error;
mod keep;
mod observe;
mod pool;
mod read;
mod walk;

pub use error::{FileKind, ImportError};
pub use observe::{ObserverError, TreeObserver};

use std::{
    num::NonZero,
    panic,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use crossbeam_channel::{bounded, unbounded};

use crate::{BlobService, DirectoryService, Node};
use pool::Pool;

/// Jobs that wait for a reader.
const QUEUE: usize = 8;

/// How to import.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// Threads that read and hash files. Without it, a few more than there are
    /// cores, within reason.
    pub readers: Option<NonZero<usize>>,
    /// Where to count what was done.
    pub progress: Option<&'a Progress>,
    /// Once true, the import ends with [`ImportError::Cancelled`].
    pub cancel: Option<&'a AtomicBool>,
}

impl Options<'_> {
    fn readers(&self) -> usize {
        let cores = || thread::available_parallelism().map_or(1, NonZero::get);
        // More than there are cores, since a reader often waits for the disk: a
        // tree that is not in the page cache takes 4 readers half the time that
        // it takes 1. Not many more, since all that is read goes through one
        // thread that observes and one that stores.
        (self.readers).map_or_else(|| (2 * cores()).clamp(4, 8), NonZero::get)
    }
}

/// What an import has stored up to now, to be read by another thread. One
/// `Progress` may count several imports.
#[derive(Debug, Default)]
pub struct Progress {
    files: AtomicU64,
    bytes: AtomicU64,
    directories: AtomicU64,
    symlinks: AtomicU64,
}

impl Progress {
    /// Regular files.
    pub fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    /// Bytes of contents of files, including files that are not complete.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Directories.
    pub fn directories(&self) -> u64 {
        self.directories.load(Ordering::Relaxed)
    }

    /// Symbolic links.
    pub fn symlinks(&self) -> u64 {
        self.symlinks.load(Ordering::Relaxed)
    }
}

/// Imports what is at `path`, a directory, a regular file or a symlink (which
/// is not followed), and returns its node.
///
/// Each file is read exactly once. Contents and directories go to `blobs` and
/// `directories`, which are not [flushed](BlobService::flush): nothing refers
/// to the tree until the caller records the node, and it flushes before that.
/// `observer` sees the whole tree in the same pass. `&mut ()` observes nothing.
///
/// A file is executable if its owner may execute it; of its other metadata
/// nothing is kept, and hard links become equal files. Mount points inside of
/// the tree are crossed, as by `cp -a`. Below `path` itself no symlink is ever
/// followed, even if the tree is modified meanwhile.
///
/// Memory: some 40 MB, and the names of the entries of those directories that
/// enclose the current place.
///
/// # Errors
/// The first, in the order of the tree, of what [`ImportError`] lists. Objects
/// stored before it remain in the services; no node refers to them.
pub fn import(
    path: &Path,
    blobs: &dyn BlobService,
    directories: &dyn DirectoryService,
    observer: &mut dyn TreeObserver,
    options: &Options<'_>,
) -> Result<Node, ImportError> {
    let pool = &Pool::new(options.cancel);
    let unused = Progress::default();
    let progress = options.progress.unwrap_or(&unused);

    thread::scope(|scope| {
        // Whatever ends this closure, a panic of the observer included, ends
        // the threads that the scope waits for: first the channels close, as
        // they are declared later.
        let _stop = pool.stop_on_drop();
        let spawn = |name: &str| thread::Builder::new().name(format!("import-{name}"));

        let (jobs, todo) = bounded(QUEUE);
        let (order, ordered) = bounded(QUEUE + pool::BUFFERS);
        spawn("walk")
            .spawn_scoped(scope, move || walk::walk(path, jobs, order, pool))
            .map_err(ImportError::Thread)?;
        for _ in 0..options.readers() {
            let todo = todo.clone();
            spawn("read")
                .spawn_scoped(scope, move || read::work(&todo, pool))
                .map_err(ImportError::Thread)?;
        }
        drop(todo);

        // Not bounded, since the pool bounds the chunks.
        let (chunks, kept) = unbounded();
        let keeper = spawn("keep")
            .spawn_scoped(scope, move || {
                keep::keep(kept, blobs, directories, progress, pool)
            })
            .map_err(ImportError::Thread)?;

        let observed = observe::observe(&ordered, &chunks, observer, pool);
        if observed.is_err() {
            pool.stop();
        }
        drop(chunks);
        let kept = keeper
            .join()
            .unwrap_or_else(|panic| panic::resume_unwind(panic));
        match (kept, observed) {
            // The keeper follows the observer, so its error is the earlier in
            // the tree, unless it only ended because the observer did.
            (Err(ImportError::Cancelled), Err(error)) | (Err(error), _) | (_, Err(error)) => {
                Err(error)
            }
            // Without a root a thread has panicked, which the scope reports.
            (Ok(root), Ok(())) => root.ok_or(ImportError::Cancelled),
        }
    })
}
