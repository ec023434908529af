//! What a process has of the mount, and must keep: its working directory, its program, its files.

use super::{Actor, Site};
use anyhow::{Context as _, Result, ensure};
use nix::fcntl::{OFlag, open, openat, readlink};
use nix::sys::stat::{Mode, fstat, stat};
use nix::unistd::{chdir, getcwd};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Keeps what it had at the start, and compares. There can be one in a process, for it has a
/// working directory only once.
#[derive(Debug)]
pub struct Watcher<'a> {
    actor: Actor<'a>,
    cwd: PathBuf,
    cwd_inode: u64,
    program: PathBuf,
    dir: OwnedFd,
    dir_inode: u64,
}

impl<'a> Watcher<'a> {
    /// Goes into the scene. This program must have been started from it.
    pub fn new(site: &'a Site, number: usize) -> Result<Self> {
        let actor = Actor::new(site, number, 0);
        let cwd = actor.path("small/dir-3/sub-9".as_ref());
        chdir(&cwd)?;
        let program: PathBuf = readlink("/proc/self/exe")?.into();
        ensure!(
            actor.path("bin/load".as_ref()) == program,
            "this program does not lie in the scene, but at {}",
            program.display()
        );
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = open(&actor.path("small".as_ref()), flags, Mode::empty())?;
        Ok(Self {
            cwd_inode: stat(".")?.st_ino,
            dir_inode: fstat(&dir)?.st_ino,
            actor,
            cwd,
            program,
            dir,
        })
    }

    /// Looks at all of it, again and again.
    pub fn watch(mut self) {
        while self.actor.goes_on() {
            if let Err(error) = self.look() {
                self.actor.site.record.fail(format!("{error:#}"));
            }
            self.actor.pause(Duration::from_millis(4));
        }
    }

    fn look(&self) -> Result<()> {
        let actor = &self.actor;
        let same = |what: &str, found: &Path, expected: &Path| {
            actor.site.record.expect(found == expected, || {
                format!(
                    "{what} was {} and is {}",
                    expected.display(),
                    found.display()
                )
            });
        };
        let cwd = actor.call("getcwd", "", getcwd).context("getcwd")?;
        same("the working directory", &cwd, &self.cwd);
        let link = actor.call("readlink", "cwd", || readlink("/proc/self/cwd"));
        same(
            "/proc/self/cwd",
            link.context("/proc/self/cwd")?.as_ref(),
            &self.cwd,
        );
        let link = actor.call("readlink", "exe", || readlink("/proc/self/exe"));
        same(
            "/proc/self/exe",
            link.context("/proc/self/exe")?.as_ref(),
            &self.program,
        );
        let number = |what: &str, found: u64, expected: u64| {
            actor.site.record.expect(found == expected, || {
                format!("{what} was inode {expected} and is {found}")
            });
        };
        let here = actor.call("stat", ".", || stat(".")).context("stat")?;
        number("the working directory", here.st_ino, self.cwd_inode);
        let dir = actor.call("fstat", "", || fstat(&self.dir));
        number(
            "an open directory",
            dir.context("fstat")?.st_ino,
            self.dir_inode,
        );
        // By a name relative to each.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let name = Path::new("dir-3/sub-9/file-2");
        let by_dir = actor.call("openat", name.display(), || {
            openat(&self.dir, name, flags, Mode::empty())
        });
        let by_cwd = actor.open("file-2".as_ref());
        let (by_dir, by_cwd) = by_dir.zip(by_cwd).context("opening a file two ways")?;
        for fd in [&by_dir, &by_cwd] {
            let found = actor.call("fstat", "", || fstat(fd)).context("fstat")?;
            actor
                .site
                .check_stat(&Path::new("small").join(name), &found);
        }
        Ok(())
    }
}
