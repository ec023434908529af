//! What an answer lets the kernel count on. If it does not take the answer (who
//! asked was killed meanwhile), that has to be taken back, or it would stay for
//! as long as the mount does.

use std::cell::RefCell;

use crate::core::NodeId;

/// Something that the kernel gives back when it needs it no more.
#[derive(Debug, Clone, Copy)]
pub(super) enum Grant {
    /// A lookup of a node.
    Lookup(NodeId),
    /// An opening of a file.
    Open(u64),
}

thread_local! {
    static NOTED: RefCell<Option<Vec<Grant>>> = const { RefCell::new(None) };
}

/// Notes it, if the transport of this thread collects them.
pub(super) fn note(grant: Grant) {
    NOTED.with_borrow_mut(|noted| {
        if let Some(noted) = noted {
            noted.push(grant);
        }
    });
}

/// From now on, what this thread grants is noted, for one request.
pub(crate) fn begin() {
    NOTED.with_borrow_mut(|noted| match noted {
        Some(noted) => noted.clear(),
        None => *noted = Some(Vec::new()),
    });
}

/// What was granted since.
pub(super) fn end() -> Vec<Grant> {
    NOTED.with_borrow_mut(|noted| noted.as_mut().map(std::mem::take).unwrap_or_default())
}
