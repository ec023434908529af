//! Copying a program to memory that may be on the mount.
//!
//! The supervisor must have no file of the mount open: each child inherits it
//! until it executes its program, closing it may take a worker to answer, and
//! the child may be that worker. So a process of its own reads the program:
//! `store-mountd copy`.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, anyhow};
use clap::Args;

use super::{
    binary::{ARGV0, Binary, environment_without},
    child::{Child, inherited},
};
use crate::{failure, link::Link, notify};

/// What came of it; if the program was copied, it comes with this.
type Answer = Result<(), String>;

/// The process that copies.
#[derive(Debug)]
pub(super) struct Copier {
    child: Child,
    link: Link,
    path: PathBuf,
    is_late: bool,
}

impl Copier {
    /// Starts to copy the file at `path`.
    pub(super) fn start(binary: &Binary, path: &Path, null: BorrowedFd<'_>) -> io::Result<Self> {
        let (ours, theirs) = Link::pair()?;
        let arguments = [ARGV0.as_bytes(), b"copy", path.as_os_str().as_bytes()]
            .into_iter()
            .map(CString::new)
            .collect::<Result<Vec<_>, _>>()?;
        let environment = environment_without(&notify::VARIABLES)?;
        let stderr = io::stderr();
        let fds = [null, null, stderr.as_fd(), theirs.as_fd()];
        Ok(Self {
            child: Child::spawn(binary.as_fd(), &arguments, &environment, &fds)?,
            link: ours,
            path: path.to_owned(),
            is_late: false,
        })
    }

    /// Readable when it has ended.
    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd()
    }

    /// It has no more time.
    pub(super) fn give_up(&mut self) {
        self.is_late = true;
        self.child.kill();
    }

    /// The copy, or why there is none, once it has ended.
    pub(super) fn copied(&self) -> Option<Result<Binary>> {
        let how = self.child.ended()?;
        let path = self.path.display();
        Some(match self.link.receive::<Answer>(false) {
            Ok(Some((Ok(()), fds))) => match fds.into_iter().next() {
                Some(fd) => Binary::sealed(File::from(fd), self.path.clone()),
                None => Err(anyhow!("no copy of {path} came")),
            },
            Ok(Some((Err(message), _))) => Err(anyhow!(message)),
            _ if self.is_late => Err(anyhow!("{path} cannot be read in time")),
            _ => Err(anyhow!("{path} was not copied: {how:?}")),
        })
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        self.child.kill();
    }
}

/// What the process does that copies.
#[derive(Debug, Args)]
pub(crate) struct Copy {
    /// The program.
    path: PathBuf,
}

impl Copy {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let link = Link::from_fd(inherited(3).context("nobody wants a copy")?);
        match Binary::copy_of(&self.path) {
            Ok(copy) => link.send(&Answer::Ok(()), &[copy.as_fd()], true)?,
            Err(error) => link.send(&Answer::Err(failure::message(&error)), &[], true)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
