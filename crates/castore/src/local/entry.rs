//! What an index says of one object.

use std::fmt;

use crate::{Digest, Object};

/// Kinds of objects, in the order in which an index sorts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Record = 1,
    Directory = 2,
    Blob = 3,
}

/// Names an object among those of its kind.
pub(super) type Key = [u8; 32];

/// Names a pack.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PackId(pub(super) [u8; PackId::LEN]);

impl PackId {
    pub(super) const LEN: usize = 16;

    pub(super) fn blobs_name(&self) -> String {
        format!("{self}.blobs")
    }

    pub(super) fn meta_name(&self) -> String {
        format!("{self}.meta")
    }
}

impl fmt::Display for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackId({self})")
    }
}

/// Where an object's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// At an offset of the pack: of its `.blobs` for a blob, else of its
    /// `.meta`.
    Pack { offset: u64 },
    /// A blob that is a file of its own.
    File,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) key: Key,
    /// The pack that came with the object; for a blob of its own file, the one
    /// that has its outboard.
    pub(super) pack: PackId,
    pub(super) place: Place,
    /// Bytes of the object.
    pub(super) size: u64,
    /// Where in the pack's `.meta` a blob's outboard is; 0 if it has none.
    pub(super) outboard: u64,
}

impl Entry {
    /// Bytes of an encoded entry.
    pub(super) const LEN: usize = 64;

    /// The entry's place in the order of an index.
    pub(super) fn order(&self) -> (Kind, &Key) {
        (self.kind, &self.key)
    }

    /// As `order`, of an encoded entry.
    pub(super) fn raw_order(bytes: &[u8; Self::LEN]) -> (u8, &Key) {
        // The key is 32 of the 64 bytes, wherever they are cut.
        let key = bytes[8..].first_chunk().unwrap_or(&[0; 32]);
        (bytes[0], key)
    }

    /// The object as errors name it.
    pub(super) fn object(&self) -> Object {
        object(self.kind, &self.key)
    }

    /// Encodes the entry; `pack` is its pack's number in the index.
    pub(super) fn encode(&self, pack: u32) -> [u8; Self::LEN] {
        let (place, offset) = match self.place {
            Place::Pack { offset } => (0, offset),
            Place::File => (1, 0),
        };
        let mut bytes = [0; Self::LEN];
        bytes[0] = self.kind as u8;
        bytes[1] = place;
        bytes[4..8].copy_from_slice(&pack.to_le_bytes());
        bytes[8..40].copy_from_slice(&self.key);
        bytes[40..48].copy_from_slice(&offset.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.size.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.outboard.to_le_bytes());
        bytes
    }

    /// Decodes an entry; `None` if it breaks the format.
    pub(super) fn decode(bytes: &[u8; Self::LEN], packs: &[PackId]) -> Option<Self> {
        let field = |at: usize| {
            let mut field = [0; 8];
            field.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(field)
        };
        let mut key = Key::default();
        key.copy_from_slice(&bytes[8..40]);
        let (kind, place) = entry_tags(bytes, field(40))?;
        let pack = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        Some(Self {
            kind,
            key,
            pack: *packs.get(usize::try_from(pack).ok()?)?,
            place,
            size: field(48),
            outboard: field(56),
        })
    }
}

fn entry_tags(bytes: &[u8; Entry::LEN], offset: u64) -> Option<(Kind, Place)> {
    let kind = match bytes[0] {
        1 => Kind::Record,
        2 => Kind::Directory,
        3 => Kind::Blob,
        _ => return None,
    };
    match bytes[1] {
        0 => Some((kind, Place::Pack { offset })),
        1 => Some((kind, Place::File)),
        _ => None,
    }
}

/// An object as errors name it.
pub(super) fn object(kind: Kind, key: &Key) -> Object {
    let digest = Digest::from_bytes(*key);
    match kind {
        Kind::Record => Object::Record(digest.to_string()),
        Kind::Directory => Object::Directory(digest),
        Kind::Blob => Object::Blob(digest),
    }
}
