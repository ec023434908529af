use std::{sync::Arc, time::Duration};

use castore::{Digest, Directory, Error, Object, PathComponent};

use super::{
    Attr, Filesystem, Found, FsError, Kind, Lookup, MountPath, NodeId, RootEntry,
    attr::{ROOT_INO, directory_ino, file_ino, symlink_ino, top_symlink_ino},
    table::{InternError, MAX_SIZE, Node, Place, Slot},
};

impl Filesystem {
    /// Looks `name` up in `parent`; a node that is found is referred to once
    /// more.
    ///
    /// # Errors
    /// See [`FsError`]; a name missing in the root is one.
    pub fn lookup(&self, parent: NodeId, name: &[u8]) -> Result<Lookup, FsError> {
        if name.len() > PathComponent::MAX_LEN {
            return Err(FsError::NameTooLong);
        }
        if parent == NodeId::ROOT {
            // What cannot be a name is no entry either.
            let path = PathComponent::try_from(name).map_err(|_| FsError::NotFound)?;
            let entry = self.root.lookup(name).map_err(|source| FsError::Top {
                path: MountPath::top(path),
                source: source.into(),
            })?;
            let entry = entry.ok_or(FsError::NotFound)?;
            return self.found(&top_node(&entry)?).map(Lookup::Found);
        }
        let (slot, parent) = self.node(parent)?;
        let directory = self.directory(slot, &parent)?;
        let Some((ordinal, _)) = directory.lookup(name) else {
            return Ok(Lookup::Never);
        };
        let node = self.child(slot, &parent, &directory, ordinal)?;
        self.found(&node).map(Lookup::Found)
    }

    /// Takes back `count` lookups of `node`.
    pub fn forget(&self, node: NodeId, count: u64) {
        if let Ok(slot) = Slot::try_from(node) {
            self.table.forget(slot, count);
        }
    }

    /// The attributes of `node`. Those of the root can be kept for
    /// [`ROOT_ATTR_TTL`](super::ROOT_ATTR_TTL), all others
    /// [`FOREVER`](super::FOREVER).
    ///
    /// # Errors
    /// If there is no such node.
    pub fn getattr(&self, node: NodeId) -> Result<Attr, FsError> {
        if node == NodeId::ROOT {
            let age = Duration::from_nanos(self.root.generation());
            return Ok(Attr {
                ino: ROOT_INO,
                kind: Kind::Directory,
                size: 0,
                time: EPOCH + age,
            });
        }
        Ok(attr(&self.node(node)?.1))
    }

    /// The record of a node that is not the root.
    pub(super) fn node(&self, node: NodeId) -> Result<(Slot, Node), FsError> {
        let slot = Slot::try_from(node).map_err(|()| FsError::Stale(node))?;
        let record = self.table.get(slot).ok_or(FsError::Stale(node))?;
        Ok((slot, record))
    }

    /// The contents of a directory that is not the root.
    pub(super) fn directory(&self, slot: Slot, node: &Node) -> Result<Arc<Directory>, FsError> {
        if node.kind != Kind::Directory {
            return Err(FsError::NotADirectory);
        }
        (self.contents.directory(&node.digest))
            .map_err(|source| self.content_error(slot, Object::Directory(node.digest), source))
    }

    pub(super) fn content_error(&self, slot: Slot, object: Object, source: Error) -> FsError {
        self.counters().add_content_error();
        FsError::Content {
            path: self.path(slot),
            object,
            source: source.into(),
        }
    }

    /// What stands in `directory`, the contents of `parent`, at `ordinal`.
    pub(super) fn child(
        &self,
        slot: Slot,
        parent: &Node,
        directory: &Directory,
        ordinal: usize,
    ) -> Result<Node, FsError> {
        let entry = &directory.entries()[ordinal];
        let Ok(ordinal) = u32::try_from(ordinal) else {
            let path = self.path(slot);
            return Err(FsError::TooManyEntries { path });
        };
        let place = Place::Child {
            parent: slot,
            ordinal,
        };
        let symlink = || (parent.digest, symlink_ino(&parent.digest, ordinal));
        let ino = || directory_ino(parent.ino, entry.name.as_bytes());
        node(&entry.node, place, ino, symlink).map_err(|claimed| FsError::TooLarge {
            path: self.path(slot),
            claimed,
        })
    }

    /// Refers to the node once more.
    pub(super) fn found(&self, node: &Node) -> Result<Found, FsError> {
        let slot = self.table.intern(node).map_err(|error| match error {
            InternError::Full => FsError::TooManyNodes,
            InternError::NoParent => match node.place {
                Place::Child { parent, .. } => FsError::Stale(parent.into()),
                Place::Top(_) => FsError::Stale(NodeId::ROOT),
            },
        })?;
        Ok(Found {
            node: slot.into(),
            // A number is only used again for a node with another inode number,
            // or for the very same one.
            generation: node.ino,
            attr: attr(node),
        })
    }
}

/// The time of all that is in a store.
const EPOCH: Duration = Duration::from_secs(1);

fn attr(node: &Node) -> Attr {
    Attr {
        ino: node.ino,
        kind: node.kind,
        size: node.size,
        time: EPOCH,
    }
}

/// What stands in the mount's root.
pub(super) fn top_node(entry: &RootEntry) -> Result<Node, FsError> {
    let ino = || directory_ino(ROOT_INO, entry.name.as_bytes());
    let symlink = || (Digest::from_bytes(entry.key.0), top_symlink_ino(&entry.key));
    let node = node(&entry.node, Place::Top(entry.key), ino, symlink);
    node.map_err(|claimed| FsError::TooLarge {
        path: MountPath::top(entry.name.clone()),
        claimed,
    })
}

/// What stands at `place`. A directory's number depends on that; of a symlink
/// both the digest and the number do. The error is the size of a file that is
/// larger than files are.
fn node(
    node: &castore::Node,
    place: Place,
    directory_ino: impl FnOnce() -> u64,
    symlink: impl FnOnce() -> (Digest, u64),
) -> Result<Node, u64> {
    let (digest, size, ino) = match node {
        castore::Node::Directory { digest, size } => {
            (*digest, (*size).min(MAX_SIZE), directory_ino())
        }
        castore::Node::File { size, .. } if *size > MAX_SIZE => return Err(*size),
        castore::Node::File {
            digest,
            size,
            executable,
        } => (*digest, *size, file_ino(digest, *executable)),
        castore::Node::Symlink { target } => {
            let (digest, ino) = symlink();
            (digest, target.len() as u64, ino)
        }
    };
    Ok(Node {
        kind: Kind::from(node),
        digest,
        size,
        ino,
        place,
    })
}
