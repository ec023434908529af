//! The mounts of a store, for commands that change it.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use castore::local::LocalStore;

use crate::{
    control::{self, Client, Status, protocol::Request},
    failure,
};

/// Names that go into one request.
const BATCH: usize = 100;

/// Who serves a store, and can be told what was removed from it.
#[derive(Debug)]
pub(crate) struct Mounts {
    clients: Vec<(PathBuf, Client)>,
}

impl Mounts {
    /// Those whose control sockets are where they usually are, or in `sockets`.
    pub(crate) fn of(store: &LocalStore, sockets: &[PathBuf]) -> Self {
        let usual = control::existing().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot look for control sockets");
            Vec::new()
        });
        let all: BTreeSet<_> = usual.iter().chain(sockets).collect();
        let mut clients = Vec::new();
        for socket in all {
            match client(socket, store.path()) {
                Ok(client) => clients.extend(client),
                Err(error) if sockets.contains(socket) => {
                    failure::print(&error);
                }
                // One that was left, or another user's.
                Err(error) => tracing::debug!(%error, "a control socket is of no use"),
            }
        }
        Self { clients }
    }

    /// Tells them that entries of the root are gone; without any, that contents
    /// are. One that cannot be told is warned of.
    pub(crate) fn tell_removed(&mut self, names: &[String]) {
        for (mountpoint, client) in &mut self.clients {
            let batches: Vec<_> = match names {
                [] => vec![names],
                _ => names.chunks(BATCH).collect(),
            };
            for batch in batches {
                let names = batch.to_vec();
                if let Err(error) = client.order(&Request::Removed { names }, None) {
                    tracing::warn!(
                        "the mount on {} may show what was removed until it is mounted anew: {error:#}",
                        mountpoint.display()
                    );
                    break;
                }
            }
        }
    }
}

/// The client of a socket, if it is of a mount of this store.
fn client(socket: &Path, store: &Path) -> anyhow::Result<Option<(PathBuf, Client)>> {
    let mut client = Client::connect(socket)?;
    let status = client.status()?;
    Ok(serves(&status, store).then_some((status.mountpoint, client)))
}

fn serves(status: &Status, store: &Path) -> bool {
    let metadata = |path: &Path| fs::metadata(path).map(|it| (it.dev(), it.ino())).ok();
    let served = status.store_identity.or_else(|| metadata(&status.store));
    served.is_some() && served == metadata(store)
}
