//! Memory that is shared with whoever has the descriptor.

#![allow(unsafe_code)]

use std::{
    os::fd::BorrowedFd,
    ptr::{self, NonNull},
    slice,
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64},
};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A part of the file.
pub(crate) struct Mapping {
    memory: NonNull<u8>,
    len: usize,
}

/// What can be anywhere in a mapping.
///
/// # Safety
/// Every pattern of bytes is a value, and every field is atomic: another
/// process may write at any time.
pub(crate) unsafe trait Plain {}

// SAFETY: an atomic, of which any bytes are a value.
unsafe impl Plain for AtomicU8 {}
// SAFETY: as above.
unsafe impl Plain for AtomicU32 {}
// SAFETY: as above.
unsafe impl Plain for AtomicU64 {}
// SAFETY: consists of such.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

impl Mapping {
    /// Maps `len` bytes from `offset` on, which is that of a page.
    pub(crate) fn new(file: BorrowedFd<'_>, offset: u64, len: usize) -> rustix::io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        // SAFETY: a new mapping, at a place that the system chooses, refers to
        // nothing that is there.
        let memory = unsafe { mmap(ptr::null_mut(), len, protection, flags, file, offset) }?;
        let memory = NonNull::new(memory.cast()).ok_or(rustix::io::Errno::NOMEM)?;
        Ok(Self { memory, len })
    }

    /// What is at `offset`, which is in the mapping and aligned.
    pub(crate) fn at<T: Plain>(&self, offset: usize) -> &T {
        &self.slice(offset, 1)[0]
    }

    /// So many bytes from `offset` on.
    ///
    /// # Safety
    /// No other reference to them is there as long.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn bytes_mut(&self, offset: usize, len: usize) -> &mut [u8] {
        let end = offset.checked_add(len);
        assert!(
            end.is_some_and(|end| end <= self.len),
            "outside of the mapping"
        );
        // SAFETY: it is in the mapping, which lives as long as the reference;
        // the caller says that there is no other.
        unsafe { slice::from_raw_parts_mut(self.memory.as_ptr().add(offset), len) }
    }

    /// As [`at`](Self::at), so many in a row.
    pub(crate) fn slice<T: Plain>(&self, offset: usize, count: usize) -> &[T] {
        assert!(
            offset.is_multiple_of(align_of::<T>())
                && (count
                    .checked_mul(size_of::<T>())
                    .and_then(|len| len.checked_add(offset)))
                .is_some_and(|end| end <= self.len),
            "outside of the mapping"
        );
        // SAFETY: it is in the mapping, which lives as long as the reference
        // and begins at a page; `Plain` has no invalid values, and is atomic.
        // The file is sealed, so that it has all these pages.
        unsafe { slice::from_raw_parts(self.memory.as_ptr().add(offset).cast(), count) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, and no reference outlives it.
        let _ = unsafe { munmap(self.memory.as_ptr().cast(), self.len) };
    }
}

// SAFETY: what is in it is atomic.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}
