//! Who keeps a mount busy.

use std::{
    fmt, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use super::mountinfo::{self, Mount};

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
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        if let Some(used) = used_by(&entry.path(), mount) {
            let command = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            holders.push(Holder::Process {
                pid,
                command: command.trim_end().to_owned(),
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

fn used_by(process: &Path, mount: &Mount) -> Option<String> {
    let inside = |link: &Path| {
        let target = fs::read_link(link).ok()?;
        mountinfo::is_under(&target, &mount.mountpoint).then(|| target.display().to_string())
    };
    for what in ["cwd", "root", "exe"] {
        if let Some(target) = inside(&process.join(what)) {
            return Some(format!("{what} {target}"));
        }
    }
    for fd in fs::read_dir(process.join("fd"))
        .into_iter()
        .flatten()
        .flatten()
    {
        if let Some(target) = inside(&fd.path()) {
            return Some(format!("fd {} {target}", fd.file_name().display()));
        }
    }
    let (major, minor) = mount.device;
    let device = format!("{major:02x}:{minor:02x}");
    let maps = BufReader::new(fs::File::open(process.join("maps")).ok()?);
    maps.lines().map_while(Result::ok).find_map(|line| {
        // address perms offset device inode path
        let mut fields = line.split_ascii_whitespace();
        (fields.nth(3)? == device).then(|| format!("mapping {}", fields.nth(1).unwrap_or("?")))
    })
}
