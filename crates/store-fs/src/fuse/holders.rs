//! Who keeps a mount busy.

use std::{
    ffi::OsStr,
    fmt,
    io::{BufRead, BufReader},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{Dir, Mode, OFlags, openat, readlinkat};

use super::mountinfo::{self, Mount};
use crate::proc;

/// Something that uses a mount, so that it cannot be unmounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// A process.
    Process {
        /// Its number.
        pid: u32,
        /// Its name.
        command: String,
        /// What it uses: `cwd`, `root`, `exe`, `fd 3` or `mapping`, and where.
        used: String,
    },
    /// A mount below.
    Mount {
        /// Where.
        mountpoint: PathBuf,
    },
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, command, used } => write!(f, "{command} (pid {pid}: {used})"),
            Self::Mount { mountpoint } => write!(f, "the mount on {}", mountpoint.display()),
        }
    }
}

/// Whoever can be found. Processes whose `/proc` entries cannot be read are
/// left out, and so are those that use the mount under another path.
///
/// Nothing here touches the mount, which may not be served any more.
pub(super) fn find(mount: &Mount) -> Vec<Holder> {
    let mut holders = mounts_below(mount);
    let Ok(proc) = proc::dir() else {
        return holders;
    };
    for name in names(proc, ".") {
        let Some(pid) = name.parse().ok() else {
            continue;
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(process) = openat(proc, &name, flags, Mode::empty()) else {
            continue;
        };
        if let Some(used) = used_by(&process, mount) {
            let command = proc::read(&format!("{name}/comm")).unwrap_or_default();
            holders.push(Holder::Process {
                pid,
                command: String::from_utf8_lossy(&command).trim_end().to_owned(),
                used,
            });
        }
    }
    holders
}

/// The names in a directory, as far as they can be read.
fn names(parent: BorrowedFd<'_>, path: &str) -> Vec<String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(dir) = openat(parent, path, flags, Mode::empty()).and_then(Dir::new) else {
        return Vec::new();
    };
    let entries = dir.map_while(Result::ok);
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn mounts_below(mount: &Mount) -> Vec<Holder> {
    let mounts = mountinfo::read().unwrap_or_default();
    mounts
        .into_iter()
        .filter(|other| {
            other.mountpoint != mount.mountpoint
                && mountinfo::is_under(&other.mountpoint, &mount.mountpoint)
        })
        .map(|other| Holder::Mount {
            mountpoint: other.mountpoint,
        })
        .collect()
}

fn used_by(process: &OwnedFd, mount: &Mount) -> Option<String> {
    let inside = |link: &str| {
        let target = readlinkat(process, link, Vec::new()).ok()?;
        let target = Path::new(OsStr::from_bytes(target.as_bytes()));
        mountinfo::is_under(target, &mount.mountpoint).then(|| target.display().to_string())
    };
    for what in ["cwd", "root", "exe"] {
        if let Some(target) = inside(what) {
            return Some(format!("{what} {target}"));
        }
    }
    for fd in names(process.as_fd(), "fd") {
        if let Some(target) = inside(&format!("fd/{fd}")) {
            return Some(format!("fd {fd} {target}"));
        }
    }
    let (major, minor) = mount.device;
    let device = format!("{major:02x}:{minor:02x}");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let maps = openat(process, "maps", flags, Mode::empty()).ok()?;
    let maps = BufReader::new(std::fs::File::from(maps));
    maps.lines().map_while(Result::ok).find_map(|line| {
        // address perms offset device inode path
        let mut fields = line.split_ascii_whitespace();
        (fields.nth(3)? == device).then(|| format!("mapping {}", fields.nth(1).unwrap_or("?")))
    })
}
