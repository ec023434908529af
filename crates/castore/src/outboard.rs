//! Chaining values that let part of a blob be verified on its own.
//!
//! A blob is cut into groups of [`GROUP_LEN`] bytes, and these, for big blobs,
//! are gathered in superblocks of [`SUPERBLOCK_LEN`] bytes. The BLAKE3 chaining
//! values of both levels, stored outside of the blob, are its outboard:
//!
//! ```text
//! size ≤ GROUP_LEN        (nothing: the digest itself verifies the group)
//! size ≤ SUPERBLOCK_LEN   32 bytes for each group
//! larger                  32 bytes for each superblock, then 32 for each group
//! ```
//!
//! The part that comes first, the head, hashes to the digest; a superblock's
//! groups hash to its value in the head. So reading any group costs the head
//! once and at most 8 KiB of further values, whatever the blob's size.

use std::ops::Range;

use blake3::{
    Hasher,
    hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root},
};

use crate::Digest;

/// Bytes of a group, the unit of verification: 16 BLAKE3 chunks.
pub const GROUP_LEN: usize = 16 * 1024;
/// Groups of a superblock.
const GROUPS_PER_SUPERBLOCK: usize = 256;
/// Bytes of a superblock.
pub const SUPERBLOCK_LEN: usize = GROUPS_PER_SUPERBLOCK * GROUP_LEN;

/// A BLAKE3 chaining value.
pub type ChainingValue = [u8; CV_LEN];
/// Bytes of a chaining value.
const CV_LEN: usize = 32;

/// Bytes of the outboard of a blob of `size` bytes.
pub fn outboard_len(size: u64) -> u64 {
    head_len(size).saturating_add(if size > SUPERBLOCK_LEN as u64 {
        size.div_ceil(GROUP_LEN as u64) * CV_LEN as u64
    } else {
        0
    })
}

/// Bytes of the head of that outboard.
pub fn head_len(size: u64) -> u64 {
    let unit = match size {
        0..=0x4000 => return 0,
        0x4001..=0x40_0000 => GROUP_LEN,
        _ => SUPERBLOCK_LEN,
    };
    size.div_ceil(unit as u64) * CV_LEN as u64
}

/// The verified head of an outboard.
#[derive(Debug)]
pub struct Head {
    size: u64,
    values: Box<[ChainingValue]>,
}

impl Head {
    /// Checks the head of the outboard of a blob of `size` > [`GROUP_LEN`]
    /// bytes, as stored in the first [`head_len`] bytes of the outboard.
    /// Answers `None` if it does not belong to `digest`.
    pub fn verify(digest: &Digest, size: u64, head: &[u8]) -> Option<Self> {
        let values = values(head)?;
        let sound = values.len() > 1
            && head.len() as u64 == head_len(size)
            && Digest::from(root(&values)) == *digest;
        sound.then_some(Self { size, values })
    }

    /// Where in the outboard the values of the groups of `superblock` are, or
    /// `None` if the head itself has them.
    pub fn segment(&self, superblock: u64) -> Option<Range<u64>> {
        if self.size <= SUPERBLOCK_LEN as u64 {
            return None;
        }
        let groups = self.size.div_ceil(GROUP_LEN as u64);
        let first = superblock * GROUPS_PER_SUPERBLOCK as u64;
        let last = (first + GROUPS_PER_SUPERBLOCK as u64).min(groups);
        let at = |group: u64| head_len(self.size) + group * CV_LEN as u64;
        Some(at(first)..at(last))
    }

    /// The values of the groups of the only superblock.
    pub fn groups(&self) -> &[ChainingValue] {
        &self.values
    }

    /// Checks the values of the groups of `superblock`, as stored at
    /// [`segment`](Self::segment). Answers `None` if they are not right.
    pub fn verify_segment(&self, superblock: u64, segment: &[u8]) -> Option<Box<[ChainingValue]>> {
        let values = values(segment)?;
        let expected = self.values.get(usize::try_from(superblock).ok()?)?;
        (!values.is_empty() && subtree(&values) == *expected).then_some(values)
    }
}

/// The chaining value of the group of a blob that begins at byte `offset`, for
/// blobs of more than one group.
pub fn group_value(offset: u64, group: &[u8]) -> ChainingValue {
    Hasher::new()
        .set_input_offset(offset)
        .update(group)
        .finalize_non_root()
}

fn values(bytes: &[u8]) -> Option<Box<[ChainingValue]>> {
    let (values, rest) = bytes.as_chunks::<CV_LEN>();
    rest.is_empty().then(|| values.into())
}

/// BLAKE3's tree is left-complete: the left subtree has the largest power of
/// two of units that leaves at least one to the right.
fn split(values: &[ChainingValue]) -> (&[ChainingValue], &[ChainingValue]) {
    values.split_at(values.len().next_power_of_two() / 2)
}

fn subtree(values: &[ChainingValue]) -> ChainingValue {
    match values {
        [value] => *value,
        _ => {
            let (left, right) = split(values);
            merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
        }
    }
}

/// Of at least two values.
fn root(values: &[ChainingValue]) -> blake3::Hash {
    let (left, right) = split(values);
    merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash)
}

/// Hashes a stream, keeping the outboard.
#[derive(Debug, Default)]
pub struct BlobHasher {
    /// The last bytes; at least one of them once there was any input, for the
    /// last group must be known as such before it is hashed.
    tail: Vec<u8>,
    groups: Vec<ChainingValue>,
}

/// What hashing a blob yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashed {
    /// The digest of the contents.
    pub digest: Digest,
    /// Bytes of contents.
    pub size: u64,
    /// The outboard; empty for a blob of one group.
    pub outboard: Vec<u8>,
}

impl BlobHasher {
    /// Takes the next bytes of the blob.
    pub fn update(&mut self, mut data: &[u8]) {
        if data.is_empty() {
            return;
        }
        if !self.tail.is_empty() {
            let (head, rest) = data.split_at(data.len().min(GROUP_LEN - self.tail.len()));
            self.tail.extend_from_slice(head);
            data = rest;
            if data.is_empty() {
                return;
            }
            let tail = std::mem::take(&mut self.tail);
            self.push(&tail);
            self.tail = tail;
            self.tail.clear();
        }
        while data.len() > GROUP_LEN {
            let (group, rest) = data.split_at(GROUP_LEN);
            self.push(group);
            data = rest;
        }
        self.tail.extend_from_slice(data);
    }

    fn push(&mut self, group: &[u8]) {
        let offset = (self.groups.len() * GROUP_LEN) as u64;
        self.groups.push(group_value(offset, group));
    }

    /// Ends the blob.
    pub fn finish(mut self) -> Hashed {
        let size = (self.groups.len() * GROUP_LEN + self.tail.len()) as u64;
        if self.groups.is_empty() {
            return Hashed {
                digest: Digest::of(&self.tail),
                size,
                outboard: Vec::new(),
            };
        }
        let tail = std::mem::take(&mut self.tail);
        self.push(&tail);
        let superblocks: Vec<_> = match self.groups.len() {
            0..=GROUPS_PER_SUPERBLOCK => Vec::new(),
            _ => self
                .groups
                .chunks(GROUPS_PER_SUPERBLOCK)
                .map(subtree)
                .collect(),
        };
        let top = if superblocks.is_empty() {
            &self.groups
        } else {
            &superblocks
        };
        Hashed {
            digest: root(top).into(),
            size,
            outboard: [superblocks.as_flattened(), self.groups.as_flattened()].concat(),
        }
    }
}

/// A blob in memory with its digest: proof that the digest is right.
#[derive(Debug)]
pub struct HashedBlob<'a> {
    bytes: &'a [u8],
    hashed: Hashed,
}

impl<'a> HashedBlob<'a> {
    /// Hashes `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        let mut hasher = BlobHasher::default();
        hasher.update(bytes);
        Self {
            bytes,
            hashed: hasher.finish(),
        }
    }

    /// Puts together what was taken apart to send the bytes to another thread:
    /// `hashed` must come from [`into_hashed`](Self::into_hashed) of `bytes`.
    pub(crate) fn reunite(bytes: &'a [u8], hashed: Hashed) -> Self {
        debug_assert_eq!(bytes.len() as u64, hashed.size);
        Self { bytes, hashed }
    }

    /// What hashing the bytes yielded.
    pub(crate) fn into_hashed(self) -> Hashed {
        self.hashed
    }

    /// The contents.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The digest of the contents.
    pub fn digest(&self) -> &Digest {
        &self.hashed.digest
    }

    /// The outboard of the contents.
    pub fn outboard(&self) -> &[u8] {
        &self.hashed.outboard
    }
}

#[cfg(test)]
mod tests;
