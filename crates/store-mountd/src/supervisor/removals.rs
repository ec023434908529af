//! What is removed from the store, on its way to the kernel.
//!
//! A worker tells the kernel. If it dies before it said that it did, the next
//! one is told.

use anyhow::anyhow;

use super::{
    Supervisor,
    process::Process,
    requests::{Replies, Reply},
};
use crate::link::Order;

/// Names that go into one message.
pub(super) const MAX_NAMES: usize = 100;
/// Bytes of a name.
const MAX_NAME: usize = 255;

/// What is to be forgotten, and whom to answer when it is.
#[derive(Debug)]
struct Removal {
    number: u64,
    names: Vec<String>,
    replies: Replies,
    /// The worker that was told.
    told: Option<u64>,
}

/// Removals that were not answered.
#[derive(Debug, Default)]
pub(super) struct Removals {
    last: u64,
    waiting: Vec<Removal>,
}

/// Whether all these can be names of store paths, and are few enough.
pub(super) fn are_names(names: &[String]) -> bool {
    let is_name = |name: &String| {
        (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
    };
    names.len() <= MAX_NAMES && names.iter().all(is_name)
}

impl Supervisor {
    pub(super) fn on_removed(&mut self, names: Vec<String>, replies: Replies) {
        if !are_names(&names) {
            let error = anyhow!("these are not up to {MAX_NAMES} names of store paths");
            let _ = replies.try_send(Err(error));
            return;
        }
        self.removals.last += 1;
        self.removals.waiting.push(Removal {
            number: self.removals.last,
            names,
            replies,
            told: None,
        });
        if self.is_serving()
            && let Some(mut worker) = self.worker.take()
        {
            self.tell_removed(&mut worker);
            self.worker = Some(worker);
        }
    }

    /// Tells a worker that serves what it was not told.
    pub(super) fn tell_removed(&mut self, worker: &mut Process) {
        for removal in &mut self.removals.waiting {
            if removal.told != Some(worker.number) {
                removal.told = Some(worker.number);
                let order = Order::Removed {
                    number: removal.number,
                    names: removal.names.clone(),
                };
                worker.tell(&order, &[]);
            }
        }
    }

    pub(super) fn on_forgotten(&mut self, number: u64) {
        let waiting = &mut self.removals.waiting;
        if let Some(at) = waiting.iter().position(|removal| removal.number == number) {
            let removal = waiting.remove(at);
            let message = format!("{} forgotten", removal.names.len());
            // Whoever asked may have gone.
            let _ = removal.replies.try_send(Ok(Reply::Done(message)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_store_paths() {
        assert!(are_names(&[]));
        assert!(are_names(&["a".to_owned(), "b".repeat(255)]));
        for name in ["", "a b", "a\n", "\u{e4}"] {
            assert!(!are_names(&[name.to_owned()]), "{name:?}");
        }
        assert!(!are_names(&["b".repeat(256)]));
        assert!(!are_names(&vec!["a".to_owned(); MAX_NAMES + 1]));
    }
}
