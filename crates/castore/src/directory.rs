use bytes::Bytes;
use prost::Message;

use crate::{Digest, DigestParseError, Node, PathComponent, PathComponentError, proto};

/// One named node of a [`Directory`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name, unique in its directory.
    pub name: PathComponent,
    /// What it names.
    pub node: Node,
}

/// A directory: entries sorted by name, each name once.
///
/// The position of an entry in [`entries`](Self::entries) is its ordinal; it
/// is the same wherever the directory occurs, since the digest covers it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    entries: Vec<Entry>,
}

impl Directory {
    /// The directory of `entries`, in any order.
    ///
    /// # Errors
    /// If a name occurs twice.
    pub fn new(mut entries: Vec<Entry>) -> Result<Self, DirectoryError> {
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        match entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
            Some(pair) => Err(DirectoryError::Duplicate {
                name: pair[0].name.clone(),
            }),
            None => Ok(Self { entries }),
        }
    }

    /// The entries, sorted by the bytes of their names.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The ordinal and node of `name`.
    pub fn lookup(&self, name: &[u8]) -> Option<(usize, &Node)> {
        let ordinal = self
            .entries
            .binary_search_by(|entry| entry.name.as_bytes().cmp(name))
            .ok()?;
        Some((ordinal, &self.entries[ordinal].node))
    }

    /// The `size` that the directory has in its parent: twice the number of
    /// entries, plus the sizes of the child directories.
    ///
    /// Everything below is thereby counted twice. The comment in the public
    /// `.proto` says once, but live stores compute this, and their digests
    /// depend on it. Saturates at `u64::MAX`, which only a forged child size
    /// can reach.
    pub fn size(&self) -> u64 {
        self.entries
            .iter()
            .map(|entry| match entry.node {
                Node::Directory { size, .. } => size,
                Node::File { .. } | Node::Symlink { .. } => 0,
            })
            .map(|below| below.saturating_add(2))
            .fold(0, u64::saturating_add)
    }

    /// The canonical encoding.
    pub fn encode(&self) -> Bytes {
        use proto::entry::Entry as E;
        let mut message = proto::Directory::default();
        for Entry { name, node } in &self.entries {
            match node.to_proto(name).entry {
                Some(E::Directory(entry)) => message.directories.push(entry),
                Some(E::File(entry)) => message.files.push(entry),
                Some(E::Symlink(entry)) => message.symlinks.push(entry),
                None => {}
            }
        }
        message.encode_to_vec().into()
    }

    /// The digest of the canonical encoding.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }

    /// Reads a canonical encoding; anything else is refused, so that one
    /// directory has one digest.
    ///
    /// # Errors
    /// If the bytes are no Directory message, break a rule of the model, or
    /// encode it in another than the canonical way.
    pub fn decode(encoded: Bytes) -> Result<Self, DirectoryError> {
        let message = proto::Directory::decode(encoded.clone())?;
        let mut entries = Vec::with_capacity(
            message.directories.len() + message.files.len() + message.symlinks.len(),
        );
        for pair in (message.directories.into_iter().map(TryInto::try_into))
            .chain(message.files.into_iter().map(TryInto::try_into))
            .chain(message.symlinks.into_iter().map(TryInto::try_into))
        {
            let (name, node): (PathComponent, Node) = pair?;
            entries.push(Entry { name, node });
        }
        let directory = Self::new(entries)?;
        if directory.encode() != encoded {
            return Err(DirectoryError::NotCanonical);
        }
        Ok(directory)
    }

    /// [`decode`](Self::decode)s bytes that must have `digest`.
    ///
    /// # Errors
    /// As `decode`, and if the digest differs.
    pub fn decode_verified(digest: &Digest, encoded: Bytes) -> Result<Self, DirectoryError> {
        let found = Digest::of(&encoded);
        if found != *digest {
            return Err(DirectoryError::DigestMismatch { found });
        }
        Self::decode(encoded)
    }
}

/// Why bytes or entries make no [`Directory`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// Not a protobuf message of the expected type.
    #[error("not a Directory message: {0}")]
    Decode(#[from] prost::DecodeError),
    /// A name is not allowed.
    #[error(transparent)]
    Name(#[from] PathComponentError),
    /// A digest is not 32 bytes long.
    #[error(transparent)]
    Digest(#[from] DigestParseError),
    /// A symlink's target is empty, too long or has a NUL byte.
    #[error("the symlink target {target:?} is empty, too long or has a NUL byte")]
    Target {
        /// The target, escaped.
        target: String,
    },
    /// A name occurs twice.
    #[error("the name {name} occurs twice")]
    Duplicate {
        /// The name.
        name: PathComponent,
    },
    /// The lists are unsorted, or a field is encoded in an unusual way.
    #[error("the encoding is not canonical")]
    NotCanonical,
    /// The bytes have another digest than the one asked for.
    #[error("the bytes hash to {found}")]
    DigestMismatch {
        /// The digest of the bytes.
        found: Digest,
    },
    /// An Entry message without an entry.
    #[error("the entry is neither a directory nor a file nor a symlink")]
    NoEntry,
}

#[cfg(test)]
mod tests;
