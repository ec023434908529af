use std::{
    io::{self, BufWriter, Write},
    sync::Arc,
};

use castore::{BlobService, Digest, Directory, DirectoryService, Node, Object, PathComponent};
use nix_compat::{hash::Sha256Stream, nar::NarWriter};

use super::{BUFFER_LEN, NarDigest};
use crate::tree_path;

/// Writes the NAR of the tree at `node`. Files pass through a buffer of fixed
/// size; the nesting of directories costs no stack.
///
/// # Errors
/// If contents are missing or damaged, or `out` fails.
pub fn render(
    node: &Node,
    blobs: &dyn BlobService,
    directories: &dyn DirectoryService,
    out: impl Write,
) -> Result<(), RenderError> {
    let mut renderer = Renderer {
        blobs,
        directories,
        nar: NarWriter::new(BufWriter::with_capacity(BUFFER_LEN, out)),
        buffer: Vec::new(),
        open: Vec::new(),
    };
    renderer.tree(node)?;
    // `finish` flushes the buffer.
    renderer.nar.finish()?;
    Ok(())
}

/// The size and SHA-256 of the NAR of the tree at `node`.
///
/// # Errors
/// If contents are missing or damaged.
pub fn digest(
    node: &Node,
    blobs: &dyn BlobService,
    directories: &dyn DirectoryService,
) -> Result<NarDigest, RenderError> {
    let mut out = Sha256Stream::new(io::sink());
    render(node, blobs, directories, &mut out)?;
    let (_, sha256, size) = out.finish();
    Ok(NarDigest { sha256, size })
}

struct Renderer<'a, W: Write> {
    blobs: &'a dyn BlobService,
    directories: &'a dyn DirectoryService,
    nar: NarWriter<BufWriter<W>>,
    buffer: Vec<u8>,
    /// The directories being written, each with the ordinal of its next entry.
    open: Vec<(Arc<Directory>, usize)>,
}

impl<W: Write> Renderer<'_, W> {
    fn tree(&mut self, root: &Node) -> Result<(), RenderError> {
        self.node(root)?;
        while let Some((directory, next)) = self.open.last_mut() {
            let directory = directory.clone();
            match directory.entries().get(*next) {
                Some(entry) => {
                    *next += 1;
                    self.nar.entry(entry.name.as_bytes())?;
                    self.node(&entry.node)?;
                }
                None => {
                    self.open.pop();
                    self.nar.leave_directory()?;
                }
            }
        }
        Ok(())
    }

    fn node(&mut self, node: &Node) -> Result<(), RenderError> {
        match node {
            Node::Directory { digest, .. } => {
                let directory = self
                    .directories
                    .get(digest)
                    .and_then(|directory| {
                        directory.ok_or(castore::Error::Missing {
                            object: Object::Directory(*digest),
                        })
                    })
                    .map_err(|source| self.unreadable(source))?;
                self.nar.enter_directory()?;
                self.open.push((directory, 0));
                Ok(())
            }
            Node::File {
                digest,
                size,
                executable,
            } => self.file(digest, *size, *executable),
            Node::Symlink { target } => Ok(self.nar.symlink(target)?),
        }
    }

    fn file(&mut self, digest: &Digest, size: u64, executable: bool) -> Result<(), RenderError> {
        let blob = self
            .blobs
            .open(digest)
            .and_then(|blob| {
                blob.ok_or(castore::Error::Missing {
                    object: Object::Blob(*digest),
                })
            })
            .map_err(|source| self.unreadable(source))?;
        if blob.size() != size {
            return Err(RenderError::Size {
                path: self.path(),
                digest: *digest,
                found: blob.size(),
                expected: size,
            });
        }
        self.nar.begin_file(executable, size)?;
        self.buffer.resize(BUFFER_LEN, 0);
        let mut offset = 0;
        while offset < size {
            let len = blob
                .read_at(&mut self.buffer, offset)
                .map_err(|source| self.unreadable(source))?;
            if len == 0 {
                return Err(RenderError::Size {
                    path: self.path(),
                    digest: *digest,
                    found: offset,
                    expected: size,
                });
            }
            self.nar.write_contents(&self.buffer[..len])?;
            offset += len as u64;
        }
        Ok(self.nar.end_file()?)
    }

    fn unreadable(&self, source: castore::Error) -> RenderError {
        RenderError::Read {
            path: self.path(),
            source,
        }
    }

    /// Where in the tree the renderer is.
    fn path(&self) -> String {
        let names = (self.open.iter())
            .filter_map(|(directory, next)| directory.entries().get(next.checked_sub(1)?))
            .map(|entry| &entry.name);
        tree_path(names.map(PathComponent::as_bytes))
    }
}

/// Why a tree could not be written as a NAR.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// Contents cannot be had.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Where in the tree.
        path: String,
        /// What the service said.
        source: castore::Error,
    },
    /// A blob is longer or shorter than the file's node says.
    #[error("{path} should have {expected} bytes, but blob {digest} has {found}")]
    Size {
        /// Where in the tree.
        path: String,
        /// The blob.
        digest: Digest,
        /// Its size.
        found: u64,
        /// What the node says.
        expected: u64,
    },
    /// The NAR could not be written.
    #[error(transparent)]
    Write(#[from] nix_compat::nar::writer::Error),
}
