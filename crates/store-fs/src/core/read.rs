use std::{fs::File, sync::Arc};

use bytes::Bytes;
use castore::{Digest, Error, Object};

use super::{
    Filesystem, FsError, Kind, NodeId, RootKey,
    table::{Node, Place, Slot},
};

/// Smaller files are read through the transport: a look at what holds them
/// costs more than it saves.
const BACKING_FILE_MIN: u64 = 64 << 10;

/// A read of so many bytes is one of a sequence, and what it reads is in the
/// cache of the transport's side then: the store's files need not be in
/// memory, too.
const DONE_WITH_MIN: usize = 128 << 10;

/// What stands for the contents of a file: two nodes with the same can share
/// whatever is kept for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Of the contents.
    pub digest: Digest,
    /// Executable or not, which are two nodes.
    pub executable: bool,
}

impl Filesystem {
    /// Opens a file to be read. There is nothing to close, and its contents are
    /// not looked at yet.
    ///
    /// # Errors
    /// If the node is no file, or `write` is asked for.
    pub fn open(&self, node: NodeId, write: bool) -> Result<FileId, FsError> {
        let (_, node) = self.file(node)?;
        match node.kind {
            Kind::File { executable } if !write => Ok(FileId {
                digest: node.digest,
                executable,
            }),
            _ => Err(FsError::ReadOnly),
        }
    }

    /// A file of the store's that holds exactly the contents of `node`, if
    /// there is one, for a transport that can read it without asking.
    ///
    /// # Errors
    /// If the node is no file, or its contents cannot be had.
    pub fn backing_file(&self, node: NodeId) -> Result<Option<Arc<File>>, FsError> {
        let (slot, node) = self.file(node)?;
        if node.size < BACKING_FILE_MIN {
            return Ok(None);
        }
        let digest = node.digest;
        let failed = |source| {
            self.contents.close_blob(&digest);
            self.content_error(slot, Object::Blob(digest), source)
        };
        let blob = self.contents.blob(&digest).map_err(failed)?;
        if blob.size() != node.size {
            return Err(self.size_error(slot, &node, blob.size()));
        }
        let Some(file) = blob.file() else {
            return Ok(None);
        };
        let found = file.metadata().map_err(Error::io("stat", "a backing file"));
        let found = found.map_err(failed)?.len();
        if found != node.size {
            return Err(self.size_error(slot, &node, found));
        }
        Ok(Some(file))
    }

    /// Fills `buf` from `offset` on and returns how many bytes it filled: all
    /// of it, or less if the file ends before.
    ///
    /// # Errors
    /// If the node is no file, or its contents cannot be had.
    pub fn read(&self, node: NodeId, buf: &mut [u8], offset: u64) -> Result<usize, FsError> {
        let (slot, node) = self.file(node)?;
        let rest = node.size.saturating_sub(offset);
        let len = usize::try_from(rest).map_or(buf.len(), |rest| rest.min(buf.len()));
        let digest = node.digest;
        let failed = |source| {
            self.contents.close_blob(&digest);
            self.content_error(slot, Object::Blob(digest), source)
        };
        // What one read takes in whole is not asked for again: the kernel has it.
        let blob = if offset == 0 && len as u64 == node.size {
            self.contents.blob_once(&digest)
        } else {
            self.contents.blob(&digest)
        };
        let blob = blob.map_err(failed)?;
        if blob.size() != node.size {
            return Err(self.size_error(slot, &node, blob.size()));
        }
        let filled = blob.read_at(&mut buf[..len], offset).map_err(failed)?;
        if filled < len {
            return Err(self.size_error(slot, &node, offset + filled as u64));
        }
        self.counters().add_read(len);
        if len >= DONE_WITH_MIN {
            blob.done_with(offset, len as u64);
        }
        Ok(len)
    }

    fn size_error(&self, slot: Slot, node: &Node, found: u64) -> FsError {
        self.contents.close_blob(&node.digest);
        self.counters().add_content_error();
        FsError::Size {
            path: self.path(slot),
            digest: node.digest,
            claimed: node.size,
            found,
        }
    }

    fn file(&self, node: NodeId) -> Result<(Slot, Node), FsError> {
        if node == NodeId::ROOT {
            return Err(FsError::IsADirectory);
        }
        let (slot, node) = self.node(node)?;
        match node.kind {
            Kind::File { .. } => Ok((slot, node)),
            Kind::Directory => Err(FsError::IsADirectory),
            Kind::Symlink => Err(FsError::NotAFile),
        }
    }

    /// The target of a symlink.
    ///
    /// # Errors
    /// If the node is no symlink, or the directory that has it cannot be had.
    pub fn readlink(&self, node: NodeId) -> Result<Bytes, FsError> {
        if node == NodeId::ROOT {
            return Err(FsError::NotASymlink);
        }
        let id = node;
        let (slot, node) = self.node(node)?;
        if node.kind != Kind::Symlink {
            return Err(FsError::NotASymlink);
        }
        let target = match node.place {
            Place::Top(key) => self.top_target(&key),
            Place::Child { ordinal, .. } => self.target(&node.digest, ordinal),
        };
        let target = target.map_err(|source| {
            let object = match node.place {
                Place::Top(key) => Object::Record(hex(&key)),
                Place::Child { .. } => Object::Directory(node.digest),
            };
            self.content_error(slot, object, source)
        })?;
        target.ok_or(FsError::Stale(id))
    }

    fn top_target(&self, key: &RootKey) -> Result<Option<Bytes>, Error> {
        let entry = self.root.get(key)?;
        Ok(entry.and_then(|entry| target(&entry.node)))
    }

    fn target(&self, directory: &Digest, ordinal: u32) -> Result<Option<Bytes>, Error> {
        let directory = self.contents.directory(directory)?;
        let entry = directory.entries().get(ordinal as usize);
        Ok(entry.and_then(|entry| target(&entry.node)))
    }
}

fn target(node: &castore::Node) -> Option<Bytes> {
    match node {
        castore::Node::Symlink { target } => Some(target.clone()),
        castore::Node::Directory { .. } | castore::Node::File { .. } => None,
    }
}

fn hex(key: &RootKey) -> String {
    data_encoding::HEXLOWER.encode(&key.0)
}
