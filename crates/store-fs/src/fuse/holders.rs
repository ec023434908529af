//! Who keeps a mount busy.

use std::{
    ffi::OsStr,
    fmt,
    io::{BufRead, BufReader},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{OFlags, readlinkat};

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
    for name in proc::names(".").unwrap_or_default() {
        let Some(pid) = name.parse().ok() else {
            continue;
        };
        if let Some(used) = used_by(&name, mount) {
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

fn used_by(process: &str, mount: &Mount) -> Option<String> {
    let inside = |link: &str| {
        let link = format!("{process}/{link}");
        let target = readlinkat(proc::dir().ok()?, link, Vec::new()).ok()?;
        let target = Path::new(OsStr::from_bytes(target.as_bytes()));
        mountinfo::is_under(target, &mount.mountpoint).then(|| target.display().to_string())
    };
    for what in ["cwd", "root", "exe"] {
        if let Some(target) = inside(what) {
            return Some(format!("{what} {target}"));
        }
    }
    for fd in proc::names(&format!("{process}/fd")).unwrap_or_default() {
        if let Some(target) = inside(&format!("fd/{fd}")) {
            return Some(format!("fd {fd} {target}"));
        }
    }
    let (major, minor) = mount.device;
    let device = format!("{major:02x}:{minor:02x}");
    let maps = proc::open_at(&format!("{process}/maps"), OFlags::RDONLY).ok()?;
    let maps = BufReader::new(maps);
    maps.lines().map_while(Result::ok).find_map(|line| {
        // address perms offset device inode path
        let mut fields = line.split_ascii_whitespace();
        (fields.nth(3)? == device).then(|| format!("mapping {}", fields.nth(1).unwrap_or("?")))
    })
}
