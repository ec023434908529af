use std::{os::fd::BorrowedFd, time::Duration};

use castore::Digest;

/// A request that is being handled.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InFlight {
    /// The kernel's number of the request.
    pub unique: u64,
    /// What is asked, as in `<linux/fuse.h>`.
    pub opcode: u32,
    /// The same as a word, `lookup` for one.
    pub operation: &'static str,
    /// The node that it is about.
    pub node: u64,
    /// The thread that asks; 0 if the kernel itself does.
    pub pid: u32,
    /// How long it has been handled.
    pub age: Duration,
    /// What is being looked for in the store: a file's or directory's contents.
    pub waits_on: Option<Digest>,
}

pub(super) fn in_flight(_file: BorrowedFd<'_>) -> Vec<InFlight> {
    Vec::new()
}
