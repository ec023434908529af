//! The keeper: stores blobs and directories in the order of the tree.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crossbeam_channel::Receiver;

use super::{
    ImportError, Progress,
    pool::Pool,
    read::{Chunk, Part},
    walk::{Dir, Place},
};
use crate::{
    BlobService, BlobWriter, Digest, Directory, DirectoryService, Entry, Error, HashedBlob, Node,
    PathComponent,
};

/// Stores what `chunks` have. Returns the root, or `None` if they ended early.
pub(super) fn keep<'a>(
    chunks: Receiver<Arc<Chunk<'a>>>,
    blobs: &dyn BlobService,
    directories: &dyn DirectoryService,
    progress: &Progress,
    pool: &'a Pool<'a>,
) -> Result<Option<Node>, ImportError> {
    let mut keeper = Keeper {
        blobs,
        directories,
        progress,
        stack: Vec::new(),
        big: None,
        root: None,
    };
    for chunk in chunks {
        let kept = pool.check().and_then(|()| keeper.chunk(&chunk));
        if let Err(error) = kept {
            pool.stop();
            return Err(error);
        }
    }
    Ok(keeper.root)
}

struct Keeper<'s> {
    blobs: &'s dyn BlobService,
    directories: &'s dyn DirectoryService,
    progress: &'s Progress,
    stack: Vec<Frame>,
    big: Option<Big<'s>>,
    root: Option<Node>,
}

struct Frame {
    dir: Arc<Dir>,
    entries: Vec<Entry>,
}

struct Big<'s> {
    place: Place,
    executable: bool,
    writer: Box<dyn BlobWriter + 's>,
}

impl<'s> Keeper<'s> {
    fn chunk(&mut self, chunk: &Chunk<'_>) -> Result<(), ImportError> {
        for part in &chunk.parts {
            match part {
                Part::Enter(dir) => self.stack.push(Frame {
                    dir: dir.clone(),
                    entries: Vec::new(),
                }),
                Part::File {
                    place,
                    executable,
                    content,
                    hashed,
                } => {
                    let bytes = &chunk.buffer[content.clone()];
                    let blob = HashedBlob::reunite(bytes, hashed.clone());
                    self.blobs.put(&blob).map_err(store(place))?;
                    count(&self.progress.bytes, hashed.size);
                    self.file(place, hashed.digest, hashed.size, *executable);
                }
                Part::Begin {
                    place, executable, ..
                } => {
                    self.big = Some(Big {
                        place: place.clone(),
                        executable: *executable,
                        writer: self.blobs.writer().map_err(store(place))?,
                    });
                }
                Part::Content(content) => {
                    if let Some(Big { place, writer, .. }) = &mut self.big {
                        writer
                            .write_all(&chunk.buffer[content.clone()])
                            .map_err(|source| write_error(place.path(), source))?;
                        count(&self.progress.bytes, content.len() as u64);
                    }
                }
                Part::End => {
                    if let Some(big) = self.big.take() {
                        let (digest, size) = big.writer.finish().map_err(store(&big.place))?;
                        self.file(&big.place, digest, size, big.executable);
                    }
                }
                Part::Symlink { place, target } => {
                    let node =
                        Node::symlink(target.clone()).map_err(|source| ImportError::Invalid {
                            path: place.path(),
                            source,
                        })?;
                    count(&self.progress.symlinks, 1);
                    self.node(&place.name, node);
                }
                Part::Leave => {
                    if let Some(frame) = self.stack.pop() {
                        self.directory(frame)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn file(&mut self, place: &Place, digest: Digest, size: u64, executable: bool) {
        count(&self.progress.files, 1);
        let node = Node::File {
            digest,
            size,
            executable,
        };
        self.node(&place.name, node);
    }

    fn directory(&mut self, Frame { dir, entries }: Frame) -> Result<(), ImportError> {
        dir.check()?;
        let directory = Directory::new(entries)
            .map_err(dir.error(|path, source| ImportError::Invalid { path, source }))?;
        let digest = (self.directories.put(&directory))
            .map_err(dir.error(|path, source| ImportError::Store { path, source }))?;
        count(&self.progress.directories, 1);
        let size = directory.size();
        let node = Node::Directory { digest, size };
        match dir.name() {
            Some(name) => self.node(name, node),
            None => self.root = Some(node),
        }
        Ok(())
    }

    fn node(&mut self, name: &PathComponent, node: Node) {
        match self.stack.last_mut() {
            Some(frame) => frame.entries.push(Entry {
                name: name.clone(),
                node,
            }),
            // The root of a tree that is no directory.
            None => self.root = Some(node),
        }
    }
}

fn count(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

/// For `map_err`: a service could not store the object of `place`.
fn store(place: &Place) -> impl FnOnce(Error) -> ImportError {
    |source| ImportError::Store {
        path: place.path(),
        source,
    }
}

/// A writer hands on its service's own error inside of an [`io::Error`].
fn write_error(path: PathBuf, source: io::Error) -> ImportError {
    match source.downcast::<Error>() {
        Ok(source) => ImportError::Store { path, source },
        Err(source) => ImportError::Write { path, source },
    }
}
