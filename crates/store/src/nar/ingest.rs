use std::io::{self, BufRead, BufReader, Read, Write};

use bytes::Bytes;
use castore::{
    BlobService, Directory, DirectoryError, DirectoryService, Entry, HashedBlob, Node,
    PathComponent,
};
use nix_compat::{
    hash::Sha256Stream,
    nar::{self, Event, FileContents, NarReader},
};

use super::{BUFFER_LEN, NarDigest};
use crate::tree_path;

/// What a NAR was taken apart into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingested {
    /// The root of the contents.
    pub node: Node,
    /// The SHA-256 and size of the NAR.
    pub nar: NarDigest,
}

/// Reads a NAR, which must be all of the input, and stores its contents.
///
/// Files pass through a buffer of fixed size; the nesting of directories costs
/// no stack. The services are not flushed.
///
/// # Errors
/// If the NAR is invalid or ends early, or a service fails.
pub fn ingest(
    input: impl Read,
    blobs: &dyn BlobService,
    directories: &dyn DirectoryService,
) -> Result<Ingested, IngestError> {
    let input = BufReader::with_capacity(BUFFER_LEN, Sha256Stream::new(input));
    let mut nar = NarReader::new(input);
    let mut tree = Tree {
        blobs,
        directories,
        buffer: Vec::new(),
        open: Vec::new(),
        names: Vec::new(),
        root: None,
    };
    while let Some(event) = nar.next_event().map_err(|source| tree.invalid(source))? {
        tree.event(event)?;
    }
    let input = nar.expect_end().map_err(|source| tree.invalid(source))?;
    let (_, sha256, size) = input.into_inner().finish();
    // The reader ends only after a complete node.
    let node = tree.root.ok_or(IngestError::NoRoot)?;
    Ok(Ingested {
        node,
        nar: NarDigest { sha256, size },
    })
}

struct Tree<'a> {
    blobs: &'a dyn BlobService,
    directories: &'a dyn DirectoryService,
    buffer: Vec<u8>,
    /// The entries so far of the directories being read.
    open: Vec<Vec<Entry>>,
    /// The name under which the next node is entered, at each level.
    names: Vec<PathComponent>,
    root: Option<Node>,
}

impl Tree<'_> {
    fn event(&mut self, event: Event<'_, impl BufRead>) -> Result<(), IngestError> {
        match event {
            Event::EnterDirectory => self.open.push(Vec::new()),
            Event::Entry { name } => {
                let name = name.try_into().map_err(|source| IngestError::Entry {
                    path: self.path(),
                    source: DirectoryError::Name(source),
                })?;
                self.names.push(name);
            }
            Event::File {
                executable,
                contents,
            } => {
                let node = self.file(executable, contents)?;
                self.close(node);
            }
            Event::Symlink { target } => {
                let target = Bytes::copy_from_slice(target);
                let node = Node::symlink(target).map_err(|source| IngestError::Entry {
                    path: self.path(),
                    source,
                })?;
                self.close(node);
            }
            Event::LeaveDirectory => {
                let entries = self.open.pop().unwrap_or_default();
                let directory = Directory::new(entries).map_err(|source| IngestError::Entry {
                    path: self.path(),
                    source,
                })?;
                let digest = (self.directories.put(&directory)).map_err(|s| self.unstored(s))?;
                self.close(Node::Directory {
                    digest,
                    size: directory.size(),
                });
            }
        }
        Ok(())
    }

    /// Enters a node where it belongs.
    fn close(&mut self, node: Node) {
        match (self.open.last_mut(), self.names.pop()) {
            (Some(entries), Some(name)) => entries.push(Entry { name, node }),
            _ => self.root = Some(node),
        }
    }

    fn file(
        &mut self,
        executable: bool,
        mut contents: FileContents<'_, impl BufRead>,
    ) -> Result<Node, IngestError> {
        let size = contents.size();
        let digest = if size <= BUFFER_LEN as u64 {
            self.buffer.clear();
            while let Some(len) = next(&mut contents, |chunk| {
                self.buffer.extend_from_slice(chunk);
                Ok(())
            })
            .map_err(|error| self.failed(error))?
            {
                contents.consume(len);
            }
            let blob = HashedBlob::new(&self.buffer);
            self.blobs.put(&blob).map_err(|s| self.unstored(s))?;
            *blob.digest()
        } else {
            let mut writer = self.blobs.writer().map_err(|s| self.unstored(s))?;
            while let Some(len) = next(&mut contents, |chunk| writer.write_all(chunk))
                .map_err(|error| self.failed(error))?
            {
                contents.consume(len);
            }
            writer.finish().map_err(|s| self.unstored(s))?.0
        };
        Ok(Node::File {
            digest,
            size,
            executable,
        })
    }

    fn failed(&self, error: Failed) -> IngestError {
        match error {
            Failed::Read(source) => self.invalid(source),
            Failed::Write(source) => IngestError::Write {
                path: self.path(),
                source,
            },
        }
    }

    fn invalid(&self, source: nar::reader::Error) -> IngestError {
        IngestError::Nar {
            path: self.path(),
            source,
        }
    }

    fn unstored(&self, source: castore::Error) -> IngestError {
        IngestError::Store {
            path: self.path(),
            source,
        }
    }

    fn path(&self) -> String {
        tree_path(self.names.iter().map(PathComponent::as_bytes))
    }
}

enum Failed {
    Read(nar::reader::Error),
    Write(io::Error),
}

/// Hands the next chunk to `take` and returns its length, which is to be
/// consumed; `None` at the end.
fn next<R: BufRead>(
    contents: &mut FileContents<'_, R>,
    take: impl FnOnce(&[u8]) -> io::Result<()>,
) -> Result<Option<usize>, Failed> {
    let chunk = contents.next_chunk().map_err(Failed::Read)?;
    if chunk.is_empty() {
        return Ok(None);
    }
    take(chunk).map_err(Failed::Write)?;
    Ok(Some(chunk.len()))
}

/// Why a NAR could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The NAR is invalid, or reading it failed.
    #[error("the NAR is invalid at {path}")]
    Nar {
        /// Where in the tree.
        path: String,
        /// What is wrong with it.
        source: nar::reader::Error,
    },
    /// A name or target is not allowed.
    #[error("the NAR has an invalid entry in {path}")]
    Entry {
        /// Where in the tree.
        path: String,
        /// What is wrong with it.
        source: DirectoryError,
    },
    /// The NAR has no root.
    #[error("the NAR has no contents")]
    NoRoot,
    /// A big file could not be stored.
    #[error("cannot store {path}")]
    Write {
        /// Where in the tree.
        path: String,
        /// What the store said.
        source: io::Error,
    },
    /// An object could not be stored.
    #[error("cannot store {path}: {source}")]
    Store {
        /// Where in the tree.
        path: String,
        /// What the store said.
        source: castore::Error,
    },
}
