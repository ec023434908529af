use std::{fmt, sync::Arc};

use rustix::{
    fs::{FallocateFlags, SeekFrom, fallocate, seek},
    io::Errno,
};

use super::{Slot, record::Record};
use crate::state::{State, StateError, layout, map::Mapping};

/// All records, in chunks that come and go.
pub(super) struct Records {
    pub(super) state: Arc<State>,
    mapping: Mapping,
}

const CHUNK_BYTES: u64 = (Slot::CHUNK_LEN * layout::RECORD_LEN) as u64;

impl Records {
    pub(super) fn new(state: Arc<State>) -> Result<Self, StateError> {
        let len = layout::RECORDS * layout::RECORD_LEN;
        let mapping = Mapping::new(state.fd(), layout::RECORDS_AT, len);
        let mapping = mapping.map_err(StateError::io("map the nodes of"))?;
        Ok(Self { state, mapping })
    }

    /// A record of a chunk that is there: the pages of another would come into
    /// being.
    pub(super) fn get(&self, slot: Slot) -> &Record {
        self.mapping.at(slot.0 as usize * layout::RECORD_LEN)
    }

    /// Makes the pages of a chunk, of free records; `false` if there is no
    /// memory, which would be a signal at the first write otherwise.
    pub(super) fn allocate(&self, chunk: usize) -> bool {
        match self.fallocate(chunk, FallocateFlags::KEEP_SIZE) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, "no memory for more nodes");
                false
            }
        }
    }

    /// Gives the pages of a chunk back, all records of which are free.
    pub(super) fn release(&self, chunk: usize) {
        let flags = FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE;
        if let Err(error) = self.fallocate(chunk, flags) {
            tracing::warn!(%error, "memory of nodes was not given back");
        }
    }

    fn fallocate(&self, chunk: usize, flags: FallocateFlags) -> rustix::io::Result<()> {
        let offset = layout::RECORDS_AT + chunk as u64 * CHUNK_BYTES;
        loop {
            match fallocate(self.state.fd(), flags, offset, CHUNK_BYTES) {
                Err(Errno::INTR) => {}
                result => return result,
            }
        }
    }

    /// The chunks that have pages.
    pub(super) fn chunks(&self) -> Result<Vec<usize>, StateError> {
        let mut chunks = Vec::new();
        let mut next = 0;
        while next < layout::RECORDS / Slot::CHUNK_LEN {
            let offset = layout::RECORDS_AT + next as u64 * CHUNK_BYTES;
            let data = match seek(self.state.fd(), SeekFrom::Data(offset)) {
                Ok(data) => data,
                // There is no more.
                Err(Errno::NXIO) => break,
                Err(errno) => return Err(StateError::io("look for nodes in")(errno)),
            };
            let chunk = ((data - layout::RECORDS_AT) / CHUNK_BYTES) as usize;
            chunks.push(chunk);
            next = chunk + 1;
        }
        Ok(chunks)
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").finish_non_exhaustive()
    }
}
