//! Asking the mount whether it answers, by requests as any program makes them.
//!
//! Whoever asks may wait for as long as the worker hangs, and cannot be killed
//! then. So a process of its own does: `store-mountd probe`.

use std::{
    ffi::{CString, OsStr},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context as _, Result};
use clap::Args;
use rustix::{
    fs::{AtFlags, Mode, OFlags, StatxFlags, fstatfs, open, openat, statat, statx},
    io::Errno,
    process::Pid,
};
use serde::{Deserialize, Serialize};

use super::{
    binary::{ARGV0, Binary, environment_without},
    child::{Child, inherited},
};
use crate::{link::Link, notify};

/// A name that is never there, and that the store is not searched for.
const NAME: &str = ".store-mountd";

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The mount answered.
    Alive,
    /// The mount is not there any more, or something is mounted over it.
    NotThere,
    /// It answered with an error.
    Failed(i32),
}

#[derive(Debug, Serialize, Deserialize)]
struct Question {
    device: (u32, u32),
}

/// The process that asks.
#[derive(Debug)]
pub(super) struct Probe {
    /// The directory that the mountpoint is in, which will be found when paths
    /// are not.
    parent: OwnedFd,
    name: CString,
    device: (u32, u32),
    asker: Option<(Child, Link)>,
    /// Askers of no use any more, until they have ended.
    given_up: Vec<Child>,
    asked: Option<Instant>,
}

impl Probe {
    /// For the mount on `mountpoint` of the device number `device`.
    pub(super) fn new(mountpoint: &Path, device: (u32, u32)) -> io::Result<Self> {
        let parent = mountpoint.parent().unwrap_or(mountpoint);
        let name = mountpoint.file_name().unwrap_or(OsStr::new("."));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // Where that is gone, so is the mount, from where we are: it is not
        // found.
        let parent = open(parent, flags, Mode::empty());
        Ok(Self {
            parent: parent.or_else(|_| open("/", flags, Mode::empty()))?,
            name: CString::new(name.as_bytes())?,
            device,
            asker: None,
            given_up: Vec::new(),
            asked: None,
        })
    }

    /// Asks, unless an answer is still awaited.
    pub(super) fn ask(&mut self, binary: &Binary, null: BorrowedFd<'_>) -> io::Result<()> {
        if self.asked.is_some() {
            return Ok(());
        }
        self.given_up.retain(|child| child.ended().is_none());
        let (child, link) = match self.asker.take() {
            Some(asker) if asker.0.ended().is_none() => asker,
            _ => self.start(binary, null)?,
        };
        let question = Question {
            device: self.device,
        };
        let sent = link.send(&question, &[], false);
        self.asker = Some((child, link));
        match sent {
            Ok(()) => self.asked = Some(Instant::now()),
            Err(_) => self.give_up(),
        }
        sent
    }

    /// It is started again when it is needed again.
    fn give_up(&mut self) {
        self.asked = None;
        if let Some((child, _)) = self.asker.take() {
            child.kill();
            self.given_up.push(child);
        }
    }

    fn start(&self, binary: &Binary, null: BorrowedFd<'_>) -> io::Result<(Child, Link)> {
        let (ours, theirs) = Link::pair()?;
        let arguments = [
            ARGV0.to_owned().into_bytes(),
            b"probe".to_vec(),
            self.name.to_bytes().to_vec(),
        ]
        .into_iter()
        .map(CString::new)
        .collect::<Result<Vec<_>, _>>()?;
        let environment = environment_without(&notify::VARIABLES)?;
        let stderr = io::stderr();
        let fds = [
            null,
            null,
            stderr.as_fd(),
            theirs.as_fd(),
            self.parent.as_fd(),
        ];
        Ok((
            Child::spawn(binary.as_fd(), &arguments, &environment, &fds)?,
            ours,
        ))
    }

    /// The process that asks, if there is one now.
    pub(super) fn pid(&self) -> Option<Pid> {
        self.asker.as_ref().map(|(child, _)| child.pid())
    }

    /// Since when an answer is awaited.
    pub(super) fn asked(&self) -> Option<Instant> {
        self.asked
    }

    /// Readable when there is an answer.
    pub(super) fn link(&self) -> Option<&Link> {
        self.asker.as_ref().map(|(_, link)| link)
    }

    /// The answer, if there is one now.
    pub(super) fn answer(&mut self) -> Option<Answer> {
        let (_, link) = self.asker.as_ref()?;
        match link.receive(false) {
            Ok(Some((answer, _))) => {
                self.asked = None;
                Some(answer)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            gone => {
                tracing::debug!(?gone, "the process that asks the mount is gone");
                self.give_up();
                None
            }
        }
    }
}

/// What the process does that asks.
#[derive(Debug, Args)]
pub(crate) struct Ask {
    /// The mountpoint, in the directory that is descriptor 4.
    name: std::ffi::OsString,
}

impl Ask {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let link = Link::from_fd(inherited(3).context("nobody asks")?);
        let parent = inherited(4).context("no directory")?;
        while let Some((question, _)) = link.receive::<Question>(true)? {
            link.send(&answer(&parent, &self.name, &question), &[], true)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn answer(parent: &OwnedFd, name: &OsStr, question: &Question) -> Answer {
    let asked = || -> Result<Answer, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let root = openat(parent, name, flags, Mode::empty())?;
        // Nothing is asked of the filesystem for this one.
        let seen = statx(
            &root,
            "",
            AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC,
            StatxFlags::empty(),
        )?;
        if (seen.stx_dev_major, seen.stx_dev_minor) != question.device {
            return Ok(Answer::NotThere);
        }
        fstatfs(&root)?;
        match statat(&root, NAME, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) | Err(Errno::NOENT) => Ok(Answer::Alive),
            Err(errno) => Err(errno),
        }
    };
    asked().unwrap_or_else(|errno| Answer::Failed(errno.raw_os_error()))
}
