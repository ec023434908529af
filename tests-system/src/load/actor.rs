//! Those who use the mount, each a thread. Every return value is looked at.

mod mapper;
mod programs;
mod quitter;
mod reader;
mod walker;
mod watcher;

use super::nudge::Threads;
use super::record::Record;
use super::scene::{Scene, What};
use crate::rng::Rng;
use anyhow::{Context as _, Result};
use nix::fcntl::{OFlag, PosixFadviseAdvice, open, posix_fadvise};
use nix::libc::stat;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use std::collections::HashMap;
use std::fmt::Display;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

pub use watcher::Watcher;

/// What all actors share.
#[derive(Debug)]
pub struct Site {
    /// The mount point.
    pub mountpoint: PathBuf,
    /// The scene in it.
    pub top: PathBuf,
    /// What is there.
    pub scene: Scene,
    /// What was done.
    pub record: Record,
    /// Whose calls are interrupted.
    pub nudged: Threads,
    /// Whether the mount point may be listed.
    pub lists_root: bool,
    known: Vec<(PathBuf, u64, u64)>,
    /// The inode numbers, as each was first seen.
    inodes: HashMap<PathBuf, AtomicU64>,
}

impl Site {
    /// A scene that is mounted at `mountpoint/name`.
    pub fn new(mountpoint: &Path, name: &Path, scene: Scene, lists_root: bool) -> Self {
        let inodes = scene.entries().map(|(path, _)| path.to_owned());
        Self {
            mountpoint: mountpoint.to_owned(),
            top: mountpoint.join(name),
            record: Record::default(),
            nudged: Threads::default(),
            lists_root,
            known: scene.known_files(),
            inodes: inodes.map(|path| (path, AtomicU64::new(0))).collect(),
            scene,
        }
    }

    /// Compares attributes with what is known, the inode number with the first that was seen.
    fn check_stat(&self, path: &Path, stat: &stat) {
        let Some(what) = self.scene.get(path) else {
            self.record.fail(format!("{} is foreign", path.display()));
            return;
        };
        let (kind, permissions, size) = match what {
            What::Directory => (libc::S_IFDIR, 0o555, None),
            What::Symlink(target) => {
                let size = target.as_os_str().len();
                (libc::S_IFLNK, 0o777, Some(size as u64))
            }
            What::File {
                size, executable, ..
            } => {
                let permissions = if *executable { 0o555 } else { 0o444 };
                (libc::S_IFREG, permissions, Some(*size))
            }
        };
        let is_so = stat.st_mode == kind | permissions
            && size.is_none_or(|size| stat.st_size as u64 == size)
            && (stat.st_uid, stat.st_gid, stat.st_mtime) == (0, 0, 1);
        self.record.expect(is_so, || {
            format!(
                "{}: {what:?} has mode {:o}, size {}, mtime {}",
                path.display(),
                stat.st_mode,
                stat.st_size,
                stat.st_mtime
            )
        });
        let first = &self.inodes[path];
        let before = first.compare_exchange(0, stat.st_ino, Relaxed, Relaxed);
        let before = before.unwrap_or_else(|before| before);
        self.record
            .expect(before == 0 || before == stat.st_ino, || {
                format!(
                    "{}: its inode was {before} and is {}",
                    path.display(),
                    stat.st_ino
                )
            });
    }
}

/// One thread of the load.
#[derive(Debug)]
pub struct Actor<'a> {
    site: &'a Site,
    number: usize,
    rng: Rng,
}

/// What an actor does, until the record says that the load ends.
pub type Role = fn(&mut Actor<'_>) -> Result<()>;

impl<'a> Actor<'a> {
    /// The actor of this number.
    pub fn new(site: &'a Site, number: usize, seed: u64) -> Self {
        let rng = Rng::new(seed.wrapping_add(number as u64 * 7919));
        Self { site, number, rng }
    }

    /// Plays a role to the end of the load.
    pub fn play(mut self, role: Role) {
        self.site.nudged.join();
        if let Err(error) = role(&mut self) {
            self.site.record.fail(format!("{error:#}"));
        }
    }

    /// The role of this name.
    pub fn role(name: &str) -> Result<Role> {
        Ok(match name {
            "readers" => reader::read,
            "walkers" => walker::walk,
            "mappers" => mapper::map,
            "programs" => programs::run,
            "askers" => reader::ask,
            "quitters" => quitter::quit,
            "nudgers" => quitter::nudge,
            "coolers" => cool,
            _ => anyhow::bail!("no such role: {name}"),
        })
    }

    fn goes_on(&self) -> bool {
        !self.site.record.has_ended()
    }

    fn call<T>(
        &self,
        what: &str,
        path: impl Display,
        operation: impl FnOnce() -> nix::Result<T>,
    ) -> Option<T> {
        self.site.record.call(self.number, what, path, operation)
    }

    fn path(&self, name: &Path) -> PathBuf {
        if name.as_os_str().is_empty() {
            self.site.top.clone()
        } else {
            self.site.top.join(name)
        }
    }

    fn open(&self, path: &Path) -> Option<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        self.call("open", path.display(), || open(path, flags, Mode::empty()))
    }

    /// A random file whose content is known: name, size and seed.
    fn pick(&mut self) -> (PathBuf, u64, u64) {
        let number = self.rng.below(self.site.known.len() as u64);
        // Big files are few, but most bytes are in them.
        let mut file = &self.site.known[number as usize];
        if self.rng.percent(40) {
            let big: Vec<_> = self.site.known.iter().filter(|file| is_big(file)).collect();
            file = big[self.rng.below(big.len() as u64) as usize];
        }
        file.clone()
    }

    /// Drops what the kernel cached of a file.
    fn cool_file(&self, fd: &OwnedFd, path: &Path) {
        self.call("fadvise", path.display(), || {
            posix_fadvise(fd, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
        });
    }

    /// Waits a little, as one who has other things to do.
    fn pause(&mut self, at_most: Duration) {
        let micros = self.rng.below(at_most.as_micros() as u64);
        std::thread::sleep(Duration::from_micros(micros));
    }
}

fn is_big(file: &(PathBuf, u64, u64)) -> bool {
    file.1 > 200 << 10
}

/// Makes the kernel forget everything of this mount, and of no other, that nobody uses: names,
/// inodes and pages. A remount does that.
fn cool(actor: &mut Actor<'_>) -> Result<()> {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let none = None::<&str>;
    while actor.goes_on() {
        actor.pause(Duration::from_millis(400));
        mount(none, &actor.site.mountpoint, none, flags, none).context("remounting")?;
    }
    Ok(())
}
