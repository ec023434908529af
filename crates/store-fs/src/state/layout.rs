//! Where things are in the file. A change here is a new
//! [`STATE_VERSION`](super::STATE_VERSION).

/// The first words of a state.
pub(crate) const MAGIC: [u8; 16] = *b"store-fs state\r\n";

/// The header has pages of its own.
pub(crate) const HEADER_LEN: usize = 4096;

/// How many requests can be in flight.
pub(crate) const DESKS: usize = 4096;
/// Bytes of what is known of a request, beside the request.
pub(crate) const DESK_LEN: usize = 64;
pub(crate) const DESKS_AT: u64 = 64 << 10;
/// Bytes of a request: the least that the kernel accepts to read into.
pub(crate) const REQUEST_LEN: usize = 8192;
pub(crate) const REQUESTS_AT: u64 = 1 << 20;

/// How many files can be open.
pub(crate) const OPEN_FILES: usize = 1 << 20;
pub(crate) const OPEN_FILE_LEN: usize = 64;
pub(crate) const OPEN_FILES_AT: u64 = 64 << 20;

/// Bytes of a node's record.
pub(crate) const RECORD_LEN: usize = 64;
/// How many records there can be.
pub(crate) const RECORDS: usize = 1 << 28;
pub(crate) const RECORDS_AT: u64 = 1 << 30;

/// Most of the file is never written, and takes no memory.
pub(crate) const FILE_LEN: u64 = RECORDS_AT + (RECORDS * RECORD_LEN) as u64;

const _: () = {
    assert!(HEADER_LEN as u64 <= DESKS_AT);
    assert!(DESKS_AT + (DESKS * DESK_LEN) as u64 <= REQUESTS_AT);
    assert!(REQUESTS_AT + (DESKS * REQUEST_LEN) as u64 <= OPEN_FILES_AT);
    assert!(OPEN_FILES_AT + (OPEN_FILES * OPEN_FILE_LEN) as u64 <= RECORDS_AT);
};
