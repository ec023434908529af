use bytes::Bytes;
use castore::{Digest, Error, Object};

use super::{
    Filesystem, FsError, Kind, NodeId, RootKey,
    table::{Node, Place, Slot},
};

/// How the contents of a file get to who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DataPath {
    /// Through [`Filesystem::read`], into a cache of the transport's side that
    /// stays valid for good.
    Cached,
}

/// An opened file. There is nothing to close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// How it is read.
    pub data_path: DataPath,
}

impl Filesystem {
    /// Opens a file to be read. Its contents are not looked at yet.
    ///
    /// # Errors
    /// If the node is no file, or `write` is asked for.
    pub fn open(&self, node: NodeId, write: bool) -> Result<Opened, FsError> {
        let (_, node) = self.file(node)?;
        if write {
            return Err(FsError::ReadOnly);
        }
        Ok(Opened {
            data_path: self.data_path(&node),
        })
    }

    /// Decides for each file.
    fn data_path(&self, _file: &Node) -> DataPath {
        DataPath::Cached
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
        let blob = self.contents.blob(&digest).map_err(failed)?;
        if blob.size() != node.size {
            return Err(self.size_error(slot, &node, blob.size()));
        }
        let filled = blob.read_at(&mut buf[..len], offset).map_err(failed)?;
        if filled < len {
            return Err(self.size_error(slot, &node, offset + filled as u64));
        }
        self.counters.add_read(len);
        Ok(len)
    }

    fn size_error(&self, slot: Slot, node: &Node, found: u64) -> FsError {
        self.contents.close_blob(&node.digest);
        self.counters.add_content_error();
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
