//! What other threads tell the supervisor, and ask of it.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender, SyncSender},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::event::{EventfdFlags, eventfd};

use super::mounting::Outcome;
use crate::control::{Conduct, InFlight, Report, Status};

/// Longer than anything that is asked takes: an upgrade has deadlines of its
/// own.
const PATIENCE: Duration = Duration::from_secs(150);

/// Something that happened elsewhere.
#[derive(Debug)]
pub(super) enum Event {
    /// Somebody asks.
    Asked(Request, Replies),
    /// An act on the mount was done.
    Unmount(Outcome, Option<Replies>),
}

/// Where an answer goes.
pub(super) type Replies = SyncSender<Result<Reply>>;

/// What can be asked of a supervisor.
#[derive(Debug)]
pub(super) enum Request {
    /// How it is.
    Status,
    /// Which requests of the kernel are being handled.
    InFlight,
    /// Replace the worker by one of this program, a sealed file in memory;
    /// without a file, by what is where this program came from.
    Upgrade(Option<(File, PathBuf)>),
    /// Unmount; by force even if it is in use.
    Unmount {
        /// Take it out of the directory tree if it is in use.
        detach: bool,
    },
    /// Have the kernel forget entries of the root.
    Removed(Vec<String>),
}

/// What it answers.
#[derive(Debug)]
pub(super) enum Reply {
    Status(Box<Status>),
    InFlight(Vec<InFlight>),
    /// It was done.
    Done(String),
}

/// Asks the supervisor, from any thread.
#[derive(Debug)]
pub(super) struct Handle {
    post: Post,
}

impl Handle {
    /// Asks, and waits for the answer.
    fn ask(&self, request: Request) -> Result<Reply> {
        let (replies, reply) = mpsc::sync_channel(1);
        self.post.send(Event::Asked(request, replies));
        reply
            .recv_timeout(PATIENCE)
            .map_err(|_| anyhow!("the supervisor does not answer"))?
    }

    fn order(&self, request: Request) -> Result<String> {
        match self.ask(request)? {
            Reply::Done(message) => Ok(message),
            reply => unexpected(&reply),
        }
    }
}

impl Report for Handle {
    fn status(&self) -> Result<Status> {
        match self.ask(Request::Status)? {
            Reply::Status(status) => Ok(*status),
            reply => unexpected(&reply),
        }
    }
}

impl Conduct for Handle {
    fn in_flight(&self) -> Result<Vec<InFlight>> {
        match self.ask(Request::InFlight)? {
            Reply::InFlight(requests) => Ok(requests),
            reply => unexpected(&reply),
        }
    }

    fn upgrade(&self, program: Option<(File, PathBuf)>) -> Result<String> {
        self.order(Request::Upgrade(program))
    }

    fn unmount(&self, detach: bool) -> Result<String> {
        self.order(Request::Unmount { detach })
    }

    fn removed(&self, names: Vec<String>) -> Result<String> {
        self.order(Request::Removed(names))
    }
}

fn unexpected<T>(reply: &Reply) -> Result<T> {
    bail!("the supervisor answers something else: {reply:?}")
}

/// Tells the supervisor, from any thread.
#[derive(Debug, Clone)]
pub(super) struct Post {
    events: Sender<Event>,
    bell: Arc<OwnedFd>,
}

impl Post {
    pub(super) fn send(&self, event: Event) {
        // Nobody listens when the program ends.
        let _ = self.events.send(event);
        let _ = rustix::io::write(&*self.bell, &1_u64.to_ne_bytes());
    }
}

/// Where the supervisor finds what it is told.
#[derive(Debug)]
pub(super) struct Mailbox {
    post: Post,
    events: Receiver<Event>,
}

impl Mailbox {
    pub(super) fn new() -> Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .context("cannot make an eventfd")?;
        let (sender, events) = mpsc::channel();
        let post = Post {
            events: sender,
            bell: Arc::new(bell),
        };
        Ok(Self { post, events })
    }

    pub(super) fn post(&self) -> Post {
        self.post.clone()
    }

    pub(super) fn handle(&self) -> Handle {
        Handle { post: self.post() }
    }

    /// What is there now.
    pub(super) fn take(&self) -> Vec<Event> {
        let _: io::Result<usize> =
            rustix::io::read(&*self.post.bell, &mut [0; 8]).map_err(Into::into);
        self.events.try_iter().collect()
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.post.bell.as_fd()
    }
}
