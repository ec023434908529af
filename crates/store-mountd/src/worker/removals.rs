//! Forgetting what was removed from the store.

use std::{
    sync::{Arc, mpsc},
    thread,
};

use anyhow::{Context as _, Result};
use castore::local::LocalStore;
use store_fs::{Filesystem, fuse::Invalidator};

use crate::link::{Link, Report};

/// What knows of things that may have been removed.
#[derive(Debug)]
pub(super) struct Removals {
    pub(super) store: Arc<LocalStore>,
    pub(super) filesystem: Arc<Filesystem>,
    pub(super) invalidator: Option<Invalidator>,
}

/// Entries of the root that were removed, and the number of the order.
pub(super) type Order = (u64, Vec<String>);

impl Removals {
    /// Does what is ordered on a thread of its own: the kernel takes its time if
    /// something is being looked up in the root.
    pub(super) fn start(self, link: Arc<Link>) -> Result<mpsc::Sender<Order>> {
        let (sender, orders) = mpsc::channel::<Order>();
        thread::Builder::new()
            .name("removals".to_owned())
            .spawn(move || {
                for (number, names) in orders {
                    self.forget(&names);
                    super::tell(&link, &Report::Removed(number));
                }
            })
            .context("cannot start a thread")?;
        Ok(sender)
    }

    fn forget(&self, names: &[String]) {
        if let Err(error) = self.store.refresh() {
            tracing::warn!(%error, "the store cannot be looked at anew");
        }
        self.filesystem.close_contents();
        for name in names {
            let result = (self.invalidator.as_ref())
                .map_or(Ok(()), |kernel| kernel.invalidate_entry(name.as_bytes()));
            if let Err(error) = result {
                tracing::warn!(%error, STORE_PATH = name, "the kernel cannot be told of a removal");
            }
        }
    }
}
