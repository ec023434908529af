use std::collections::HashMap;

use parking_lot::Mutex;

use crate::state::desk::Desk;

/// RELEASEs that another process began: they are not to be done again, but
/// answered when they come again. Their desks are kept as long, for this
/// process may die as well.
#[derive(Debug, Default)]
pub(super) struct Released(Mutex<HashMap<u64, Desk>>);

/// FUSE_UNIQUE_RESEND: set in the number of a request that comes again.
const RESENT: u64 = 1 << 63;

/// It may have been answered before its process died, and does not come again
/// then. What comes again comes before all else, so after so many processes it
/// does not come any more.
const PROCESSES: u32 = 16;

impl Released {
    pub(super) fn keep(&self, unique: u64, desk: Desk) {
        let kept = desk.progress();
        if kept < PROCESSES {
            desk.begin_part(kept);
            self.0.lock().insert(unique & !RESENT, desk);
        }
    }

    /// The desk at which it was begun.
    pub(super) fn take(&self, unique: u64) -> Option<Desk> {
        if unique & RESENT == 0 {
            return None;
        }
        self.0.lock().remove(&(unique & !RESENT))
    }
}
