#![allow(unsafe_code)]

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use castore::Digest;

use crate::{
    core::Kind,
    state::{layout, map::Plain},
};

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    /// Nothing; so it is with a page that was never written.
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

/// 64 bytes in the state: all that is known of a node.
///
/// A process may die between any two writes. So the tag makes the record: it is
/// written after all else, and taken away before all else.
#[repr(C)]
pub(super) struct Record {
    digest: [AtomicU64; 4],
    /// The tag in the highest three bits, the size below.
    tag_size: AtomicU64,
    ino: AtomicU64,
    /// How many lookups were not forgotten yet. `u32::MAX` means too many to
    /// count; such a record stays.
    lookups: AtomicU32,
    /// How many records have this one as their parent; counted anew by each
    /// process.
    pins: AtomicU32,
    parent: AtomicU32,
    /// In a free record, the index of the next one in its chunk; of no meaning
    /// to the next process.
    ordinal: AtomicU32,
}

const _: () = assert!(size_of::<Record>() == layout::RECORD_LEN);

// SAFETY: all fields are atomic.
unsafe impl Plain for Record {}

/// What is written to a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content {
    pub(super) tag: Tag,
    pub(super) digest: [u8; 32],
    pub(super) size: u64,
    pub(super) ino: u64,
    pub(super) lookups: u32,
    pub(super) parent: u32,
    pub(super) ordinal: u32,
}

impl Content {
    pub(super) fn new(tag: Tag, digest: [u8; 32]) -> Self {
        Self {
            tag,
            digest,
            size: 0,
            ino: 0,
            lookups: 0,
            parent: 0,
            ordinal: 0,
        }
    }
}

impl Record {
    const SIZE_BITS: u32 = 61;
    /// The largest size that a record can hold.
    pub(super) const MAX_SIZE: u64 = (1 << Self::SIZE_BITS) - 1;

    /// Writes a free record.
    pub(super) fn fill(&self, content: &Content) {
        for step in 0..=Self::STEPS {
            self.fill_step(content, step);
        }
    }

    /// How many writes go before the one that counts.
    pub(super) const STEPS: usize = 6;

    /// One of the writes that fill a record; nothing but the last makes it one.
    pub(super) fn fill_step(&self, content: &Content, step: usize) {
        debug_assert!(content.size <= Self::MAX_SIZE);
        match step {
            0 => {
                for (word, bytes) in self.digest.iter().zip(content.digest.as_chunks().0) {
                    word.store(u64::from_ne_bytes(*bytes), Relaxed);
                }
            }
            1 => self.ino.store(content.ino, Relaxed),
            2 => self.lookups.store(content.lookups, Relaxed),
            3 => self.pins.store(0, Relaxed),
            4 => self.parent.store(content.parent, Relaxed),
            5 => self.ordinal.store(content.ordinal, Relaxed),
            _ => (self.tag_size).store(tag_size(content.tag, content.size), Release),
        }
    }

    /// Frees it, `next` being the next free one.
    pub(super) fn clear(&self, next: u32) {
        self.tag_size.store(0, Release);
        self.ordinal.store(next, Relaxed);
    }

    pub(super) fn size(&self) -> u64 {
        self.tag_size.load(Relaxed) & Self::MAX_SIZE
    }

    pub(super) fn ino(&self) -> u64 {
        self.ino.load(Relaxed)
    }

    pub(super) fn parent(&self) -> u32 {
        self.parent.load(Relaxed)
    }

    pub(super) fn ordinal(&self) -> u32 {
        self.ordinal.load(Relaxed)
    }

    pub(super) fn is(&self, tag: Tag) -> bool {
        self.tag_bits() == tag as u64
    }

    pub(super) fn is_of(&self, tag: Tag, size: u64) -> bool {
        self.tag_size.load(Relaxed) == tag_size(tag, size)
    }

    /// `None` if it has none that there is.
    pub(super) fn tag(&self) -> Option<Tag> {
        [
            Tag::Free,
            Tag::Directory,
            Tag::File,
            Tag::Executable,
            Tag::Symlink,
            Tag::Key,
            Tag::Root,
        ]
        .get(usize::try_from(self.tag_bits()).ok()?)
        .copied()
    }

    /// The kind, unless the record is no node's.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self.tag_bits() {
            1 => Some(Kind::Directory),
            2 => Some(Kind::File { executable: false }),
            3 => Some(Kind::File { executable: true }),
            4 => Some(Kind::Symlink),
            _ => None,
        }
    }

    fn tag_bits(&self) -> u64 {
        self.tag_size.load(Acquire) >> Self::SIZE_BITS
    }

    pub(super) fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(&self.digest) {
            *bytes = word.load(Relaxed).to_ne_bytes();
        }
        bytes
    }

    pub(super) fn digest(&self) -> Digest {
        Digest::from_bytes(self.bytes())
    }

    pub(super) fn look_up(&self) {
        increment(&self.lookups);
    }

    pub(super) fn pin(&self) {
        increment(&self.pins);
    }

    /// Before pins are counted anew.
    pub(super) fn reset_pins(&self) {
        self.pins.store(0, Relaxed);
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

    #[cfg(test)]
    pub(super) fn set_tag_bits(&self, bits: u64) {
        self.tag_size.store(bits << Self::SIZE_BITS, Relaxed);
    }

    #[cfg(test)]
    pub(super) fn set_parent(&self, parent: u32) {
        self.parent.store(parent, Relaxed);
    }
}

fn tag_size(tag: Tag, size: u64) -> u64 {
    ((tag as u64) << Record::SIZE_BITS) | (size & Record::MAX_SIZE)
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
