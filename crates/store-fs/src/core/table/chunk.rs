#![allow(unsafe_code)]

use std::{
    alloc::{Layout, handle_alloc_error},
    ops::{Deref, DerefMut},
    ptr::{self, NonNull},
    slice,
};

use super::{Slot, record::Record};

/// The records of a chunk, in pages of their own: when they are dropped, the
/// system has them back. An allocator would keep them, since something else is
/// always on the heap behind.
pub(super) struct Records(NonNull<Record>);

const LAYOUT: Layout = match Layout::array::<Record>(Slot::CHUNK_LEN) {
    Ok(layout) => layout,
    Err(_) => panic!("a chunk is small"),
};

impl Records {
    /// Free records, chained to each other.
    pub(super) fn free() -> Self {
        // SAFETY: a new mapping, at a place that the system chooses, refers to
        // nothing that is there.
        let memory = unsafe {
            libc::mmap(
                ptr::null_mut(),
                LAYOUT.size(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        let records = match NonNull::new(memory) {
            Some(memory) if memory.as_ptr() != libc::MAP_FAILED => memory.cast::<Record>(),
            _ => handle_alloc_error(LAYOUT),
        };
        for index in 0..Slot::CHUNK_LEN {
            // SAFETY: the mapping has room for so many records, is aligned to a
            // page, and is nobody else's.
            unsafe { records.add(index).write(Record::free(index as u32 + 1)) };
        }
        Self(records)
    }
}

impl Deref for Records {
    type Target = [Record];

    fn deref(&self) -> &[Record] {
        // SAFETY: so many were made in `free`, and live as long as this does.
        unsafe { slice::from_raw_parts(self.0.as_ptr(), Slot::CHUNK_LEN) }
    }
}

impl DerefMut for Records {
    fn deref_mut(&mut self) -> &mut [Record] {
        // SAFETY: as in `deref`; and the borrow is the only one.
        unsafe { slice::from_raw_parts_mut(self.0.as_ptr(), Slot::CHUNK_LEN) }
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, and records own nothing that
        // would have to be dropped.
        unsafe { libc::munmap(self.0.as_ptr().cast(), LAYOUT.size()) };
    }
}

const _: () = assert!(!std::mem::needs_drop::<Record>());

// SAFETY: as a `Box<[Record]>`, which this stands for.
unsafe impl Send for Records {}
// SAFETY: as above.
unsafe impl Sync for Records {}
