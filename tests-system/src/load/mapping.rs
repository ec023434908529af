//! A file mapped into memory.
#![allow(unsafe_code)]

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, munmap};
use std::ffi::c_void;
use std::num::NonZero;
use std::os::fd::AsFd;
use std::ptr::NonNull;

/// A private mapping, as the dynamic linker makes of a library.
#[derive(Debug)]
pub(super) struct Mapping {
    address: NonNull<c_void>,
    len: NonZero<usize>,
}

impl Mapping {
    /// Maps the first `len` bytes of a file.
    pub(super) fn new(file: impl AsFd, len: NonZero<usize>) -> nix::Result<Self> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_EXEC;
        // SAFETY: the kernel chooses the address, so nothing of ours is replaced.
        let address = unsafe { mmap(None, len, protection, MapFlags::MAP_PRIVATE, file, 0) }?;
        Ok(Self { address, len })
    }

    /// Lets the kernel take the pages out of the mapping, so that they are faulted in again.
    pub(super) fn forget(&self) -> nix::Result<()> {
        // SAFETY: the pages are ours, clean and private: their content is that of the file again.
        unsafe { madvise(self.address, self.len.get(), MmapAdvise::MADV_DONTNEED) }
    }

    /// Copies bytes out of it, up to its end.
    pub(super) fn read(&self, offset: usize, len: usize) -> Vec<u8> {
        let start = offset.min(self.len.get());
        let len = len.min(self.len.get() - start);
        let mut out = vec![0_u8; len];
        // SAFETY: `start + len` is within the mapping, which lives as long as `self`, and `out` is
        // as long. The file cannot shrink: it is in a store. Should a page not be had, the SIGBUS
        // ends this process, which whoever started it sees.
        unsafe {
            let from = self.address.as_ptr().cast::<u8>().add(start);
            std::ptr::copy_nonoverlapping(from, out.as_mut_ptr(), len);
        }
        out
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `mmap` with this length, and no reference into it is given out.
        let _ = unsafe { munmap(self.address, self.len.get()) };
    }
}

// SAFETY: the mapping is memory that nobody writes, and belongs to no thread.
unsafe impl Send for Mapping {}
