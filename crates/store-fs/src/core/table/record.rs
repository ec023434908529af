use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use castore::Digest;

use crate::core::Kind;

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    /// Nothing.
    Free = 0,
    Directory = 1,
    File = 2,
    Executable = 3,
    Symlink = 4,
    /// The [`RootKey`](crate::core::RootKey) of a directory or file in the
    /// root, whose own record has another digest. Its number is in the place
    /// of the ordinal there.
    Key = 5,
    /// The mount's root.
    Root = 6,
}

impl From<Kind> for Tag {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Directory => Self::Directory,
            Kind::File { executable: false } => Self::File,
            Kind::File { executable: true } => Self::Executable,
            Kind::Symlink => Self::Symlink,
        }
    }
}

/// Plain data of 64 bytes: all that is known of a node.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Record {
    pub(super) digest: [u8; 32],
    /// The tag in the highest three bits, the size below.
    tag_size: u64,
    pub(super) ino: u64,
    /// How many lookups were not forgotten yet. `u32::MAX` means too many to
    /// count; such a record stays.
    lookups: AtomicU32,
    /// How many records have this one as their parent.
    pins: AtomicU32,
    pub(super) parent: u32,
    /// In a free record, the index of the next one in its chunk.
    pub(super) ordinal: u32,
}

const _: () = assert!(size_of::<Record>() == 64);

impl Record {
    const SIZE_BITS: u32 = 61;
    /// The largest size that a record can hold.
    pub(super) const MAX_SIZE: u64 = (1 << Self::SIZE_BITS) - 1;

    pub(super) fn new(tag: Tag, digest: [u8; 32], size: u64) -> Self {
        debug_assert!(size <= Self::MAX_SIZE);
        Self {
            digest,
            tag_size: Self::tag_size(tag, size),
            ino: 0,
            lookups: AtomicU32::new(0),
            pins: AtomicU32::new(0),
            parent: 0,
            ordinal: 0,
        }
    }

    pub(super) fn free(next: u32) -> Self {
        Self {
            ordinal: next,
            ..Self::new(Tag::Free, [0; 32], 0)
        }
    }

    fn tag_size(tag: Tag, size: u64) -> u64 {
        ((tag as u64) << Self::SIZE_BITS) | (size & Self::MAX_SIZE)
    }

    pub(super) fn size(&self) -> u64 {
        self.tag_size & Self::MAX_SIZE
    }

    pub(super) fn is(&self, tag: Tag) -> bool {
        self.tag_size >> Self::SIZE_BITS == tag as u64
    }

    pub(super) fn is_of(&self, tag: Tag, size: u64) -> bool {
        self.tag_size == Self::tag_size(tag, size)
    }

    /// The kind, unless the record is no node's.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self.tag_size >> Self::SIZE_BITS {
            1 => Some(Kind::Directory),
            2 => Some(Kind::File { executable: false }),
            3 => Some(Kind::File { executable: true }),
            4 => Some(Kind::Symlink),
            _ => None,
        }
    }

    pub(super) fn digest(&self) -> Digest {
        Digest::from_bytes(self.digest)
    }

    pub(super) fn look_up(&self) {
        increment(&self.lookups);
    }

    pub(super) fn pin(&self) {
        increment(&self.pins);
    }

    /// Answers whether the record is unused now.
    pub(super) fn forget(&self, count: u64) -> bool {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        decrement(&self.lookups, count);
        self.is_unused()
    }

    /// Answers whether the record is unused now.
    pub(super) fn unpin(&self) -> bool {
        decrement(&self.pins, 1);
        self.is_unused()
    }

    pub(super) fn is_unused(&self) -> bool {
        self.lookups.load(Relaxed) == 0 && self.pins.load(Relaxed) == 0
    }

    #[cfg(test)]
    pub(super) fn lookups(&self) -> u32 {
        self.lookups.load(Relaxed)
    }
}

/// The counts are only decided upon under the write lock of the shard, which
/// orders them; so `Relaxed` will do.
fn increment(count: &AtomicU32) {
    let _ = count.fetch_update(Relaxed, Relaxed, |count| count.checked_add(1));
}

fn decrement(count: &AtomicU32, by: u32) {
    let _ = count.fetch_update(Relaxed, Relaxed, |count| {
        (count != u32::MAX).then(|| count.saturating_sub(by))
    });
}
