//! Unmounting, on a thread of its own: looking for who holds a mount may have
//! to wait for processes that wait for the mount.

use std::{
    io,
    sync::mpsc::{self, Sender},
    thread,
};

use store_fs::fuse::{MountHandle, UnmountError};

use super::{Event, Post, Replies};
use crate::failure;

/// Enough to look through /proc.
const STACK: usize = 256 << 10;

/// What to do with the mount.
#[derive(Debug)]
pub(super) enum Act {
    /// The kernel is to read far ahead.
    ReadAhead,
    /// Unmount, unless it is in use.
    Unmount(Option<Replies>),
    /// Unmount; if it is in use, take it out of the directory tree.
    Detach(Option<Replies>),
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Outcome {
    Unmounted,
    /// It is in use, by these, and was taken out of the tree.
    Detached(String),
    /// It is there, for this reason.
    Stays(String),
}

/// The thread. When this is dropped, the mount is left as it is.
#[derive(Debug, Clone)]
pub(super) struct Mounting {
    acts: Sender<Act>,
}

impl Mounting {
    pub(super) fn start(mut handle: Option<MountHandle>, post: Post) -> io::Result<Self> {
        let (acts, received) = mpsc::channel();
        thread::Builder::new()
            .name("mount".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                while let Ok(act) = received.recv() {
                    let handle = handle.as_mut();
                    let (outcome, replies) = match act {
                        Act::ReadAhead => {
                            handle.inspect(|handle| handle.read_far_ahead());
                            continue;
                        }
                        Act::Unmount(replies) => (handle.map(unmount), replies),
                        Act::Detach(replies) => (handle.map(detach), replies),
                    };
                    let outcome = outcome.unwrap_or(Outcome::Unmounted);
                    post.send(Event::Unmount(outcome, replies));
                }
                handle.into_iter().for_each(MountHandle::leave);
            })?;
        Ok(Self { acts })
    }

    pub(super) fn act(&self, act: Act) {
        // The thread ends with this sender only.
        let _ = self.acts.send(act);
    }
}

fn unmount(handle: &mut MountHandle) -> Outcome {
    match handle.unmount() {
        Ok(()) => Outcome::Unmounted,
        Err(error) => Outcome::Stays(failure::message(&error.into())),
    }
}

fn detach(handle: &mut MountHandle) -> Outcome {
    match handle.unmount() {
        Err(busy @ UnmountError::Busy { .. }) => match handle.detach() {
            Ok(()) => Outcome::Detached(busy.to_string()),
            Err(error) => Outcome::Stays(failure::message(&error.into())),
        },
        Ok(()) => Outcome::Unmounted,
        Err(error) => Outcome::Stays(failure::message(&error.into())),
    }
}
