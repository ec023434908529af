//! The calling thread: puts the chunks in order and shows them.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use super::{
    ImportError,
    pool::Pool,
    read::{Chunk, Part},
    walk::Ordered,
};

/// Why an observer failed.
pub type ObserverError = Box<dyn std::error::Error + Send + Sync>;

/// Sees a tree in the order of a NAR while it is imported: depth first, the
/// entries of each directory sorted by the bytes of their names.
///
/// Exactly one node is seen: `begin_file` and what follows up to `end_file`, or
/// `symlink`, or `enter_directory` and up to `leave_directory`, for each entry,
/// `entry` and one node. An error ends the import.
///
/// A file is shown before its last bytes are known to belong to it. If it then
/// turns out to have changed, the import fails, and what was seen is void.
#[allow(clippy::missing_errors_doc, reason = "said above for all")]
pub trait TreeObserver {
    /// The node is a directory.
    fn enter_directory(&mut self) -> Result<(), ObserverError>;

    /// The directory has an entry of this name, whose node follows.
    fn entry(&mut self, name: &[u8]) -> Result<(), ObserverError>;

    /// The directory has no more entries.
    fn leave_directory(&mut self) -> Result<(), ObserverError>;

    /// The node is a file of `size` bytes.
    fn begin_file(&mut self, executable: bool, size: u64) -> Result<(), ObserverError>;

    /// The next bytes of the file's contents; never empty.
    fn contents(&mut self, bytes: &[u8]) -> Result<(), ObserverError>;

    /// The file ends; it had the bytes announced.
    fn end_file(&mut self) -> Result<(), ObserverError>;

    /// The node is a symlink.
    fn symlink(&mut self, target: &[u8]) -> Result<(), ObserverError>;
}

/// Observes nothing.
impl TreeObserver for () {
    fn enter_directory(&mut self) -> Result<(), ObserverError> {
        Ok(())
    }

    fn entry(&mut self, _: &[u8]) -> Result<(), ObserverError> {
        Ok(())
    }

    fn leave_directory(&mut self) -> Result<(), ObserverError> {
        Ok(())
    }

    fn begin_file(&mut self, _: bool, _: u64) -> Result<(), ObserverError> {
        Ok(())
    }

    fn contents(&mut self, _: &[u8]) -> Result<(), ObserverError> {
        Ok(())
    }

    fn end_file(&mut self) -> Result<(), ObserverError> {
        Ok(())
    }

    fn symlink(&mut self, _: &[u8]) -> Result<(), ObserverError> {
        Ok(())
    }
}

/// Passes the chunks on to the keeper and shows them to `observer`.
pub(super) fn observe<'a>(
    ordered: &Receiver<Ordered<'a>>,
    keeper: &Sender<Arc<Chunk<'a>>>,
    observer: &mut dyn TreeObserver,
    pool: &'a Pool<'a>,
) -> Result<(), ImportError> {
    let mut depth = 0;
    for (job, chunks) in (0..).zip(ordered) {
        pool.next_job(job);
        for chunk in chunks? {
            pool.check()?;
            let chunk = Arc::new(chunk?);
            // The keeper is gone only if it failed.
            keeper
                .send(chunk.clone())
                .map_err(|_| ImportError::Cancelled)?;
            show(&chunk, observer, &mut depth).map_err(ImportError::Observer)?;
        }
    }
    Ok(())
}

fn show(
    chunk: &Chunk<'_>,
    observer: &mut dyn TreeObserver,
    depth: &mut usize,
) -> Result<(), ObserverError> {
    for part in &chunk.parts {
        let name = match part {
            // The root has no name.
            _ if *depth == 0 => None,
            Part::Enter(dir) => dir.name(),
            Part::File { place, .. } | Part::Begin { place, .. } | Part::Symlink { place, .. } => {
                Some(&place.name)
            }
            Part::Content(_) | Part::End | Part::Leave => None,
        };
        if let Some(name) = name {
            observer.entry(name.as_bytes())?;
        }
        match part {
            Part::Enter(_) => {
                *depth += 1;
                observer.enter_directory()?;
            }
            Part::File {
                executable,
                content,
                hashed,
                ..
            } => {
                observer.begin_file(*executable, hashed.size)?;
                if !content.is_empty() {
                    observer.contents(&chunk.buffer[content.clone()])?;
                }
                observer.end_file()?;
            }
            Part::Begin {
                executable, size, ..
            } => observer.begin_file(*executable, *size)?,
            Part::Content(content) => {
                if !content.is_empty() {
                    observer.contents(&chunk.buffer[content.clone()])?;
                }
            }
            Part::End => observer.end_file()?,
            Part::Symlink { target, .. } => observer.symlink(target)?,
            Part::Leave => {
                *depth -= 1;
                observer.leave_directory()?;
            }
        }
    }
    Ok(())
}
