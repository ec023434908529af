//! Seeing into a mount that is served, and steering it, through a unix socket.
//!
//! [`Listener`] is the side of who serves: it asks a [`Conduct`]. [`Client`] is
//! the side of commands. What they say to each other is in [`protocol`].

mod client;
mod place;
pub(crate) mod protocol;
mod server;

use std::{fs::File, path::PathBuf};

use anyhow::Result;

pub(crate) use self::{
    client::Client,
    place::{at_mountpoint, existing, for_mount},
    protocol::{InFlight, Status},
    server::{Listener, Serving},
};

/// Who can tell how a mount is.
pub(crate) trait Report: Send + Sync {
    /// How it is now.
    fn status(&self) -> Result<Status>;
}

/// Who can do with a mount what is asked through its socket.
pub(crate) trait Conduct: Report {
    /// The requests of the kernel that are being handled.
    fn in_flight(&self) -> Result<Vec<InFlight>>;

    /// Goes on with another program, an open file and what it was called;
    /// without one, with what is where this program came from. Answers what to
    /// tell the user.
    fn upgrade(&self, program: Option<(File, PathBuf)>) -> Result<String>;

    /// Unmounts; if the mount is in use, takes it out of the tree if `detach`.
    fn unmount(&self, detach: bool) -> Result<String>;

    /// Entries of the mount's root are gone.
    fn removed(&self, names: Vec<String>) -> Result<String>;
}

#[cfg(test)]
mod tests;
