use std::{
    ffi::CString,
    fs::{self, File},
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    io::Errno,
    mount::MountFlags,
    process::{getegid, geteuid},
};

use super::{MountHandle, fusermount, handle::Via, mountinfo};

/// How to mount. Always read-only, without devices and set-user-ID programs,
/// and with the kernel checking permissions.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// The source that mount tables show; also the subtype, so that the type
    /// shown is `fuse.` and this.
    pub name: String,
    /// Whether other users may use the mount. As an ordinary user this needs
    /// `user_allow_other` in `/etc/fuse.conf`.
    pub allow_other: bool,
    /// Whether to mount even where that hides files or another mount.
    pub cover: bool,
}

impl Default for MountOptions {
    /// For everybody if root mounts, else for the user alone.
    fn default() -> Self {
        Self {
            name: "store-mountd".to_owned(),
            allow_other: geteuid().is_root(),
            cover: false,
        }
    }
}

/// A mount that nobody serves yet: whoever touches it waits.
#[derive(Debug)]
pub struct Mounted {
    /// `/dev/fuse`, connected; for [`serve`](super::serve()).
    pub fd: OwnedFd,
    /// Unmounts; also when dropped.
    pub handle: MountHandle,
}

/// Why there is no mount.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The mountpoint cannot be looked at.
    #[error(
        "cannot use the mountpoint {}: {source}{}",
        path.display(),
        if is_dead(source) { " (the server of a mount there has died: unmount it first)" } else { "" }
    )]
    Mountpoint {
        /// The mountpoint.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The mountpoint is a file.
    #[error("the mountpoint {} is not a directory", path.display())]
    NotADirectory {
        /// The mountpoint.
        path: PathBuf,
    },
    /// Something is mounted there.
    #[error("{} is a mountpoint already, of {source_name} ({fs_type})", path.display())]
    AlreadyMounted {
        /// The mountpoint.
        path: PathBuf,
        /// The type of the filesystem there.
        fs_type: String,
        /// What the mount table has as its source.
        source_name: String,
    },
    /// The mountpoint has entries that would be hidden.
    #[error("the mountpoint {} is not empty", path.display())]
    NotEmpty {
        /// The mountpoint.
        path: PathBuf,
    },
    /// A name that cannot be an option of a mount.
    #[error(
        "{name:?} cannot name a mount: it has a comma, a backslash, a control character or none at all"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// There is no `/dev/fuse`.
    #[error("cannot open /dev/fuse: {source} (is the kernel module fuse loaded?)")]
    Device {
        /// Why not.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("cannot mount on {}: {source}", path.display())]
    Mount {
        /// The mountpoint.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// An ordinary user needs `fusermount3`.
    #[error(
        "mounting needs root, or the program fusermount3, which cannot be run: {source} \
         (Debian and Ubuntu: apt-get install fuse3)"
    )]
    NoFusermount {
        /// Why it cannot be run.
        source: io::Error,
    },
    /// `fusermount3` refused.
    #[error("fusermount3 cannot mount on {}: {message}", path.display())]
    Fusermount {
        /// The mountpoint.
        path: PathBuf,
        /// What it said.
        message: String,
    },
    /// The mount table cannot be read, or has not what was just mounted.
    #[error("cannot read /proc/self/mountinfo: {source}")]
    MountInfo {
        /// Why not.
        source: io::Error,
    },
}

fn is_dead(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOTCONN)
}

/// Mounts a filesystem that is still to be served.
///
/// # Errors
/// See [`MountError`]; then nothing is mounted.
pub fn mount(mountpoint: &Path, options: &MountOptions) -> Result<Mounted, MountError> {
    let path = check(mountpoint, options)?;
    let name = &options.name;
    let is_bad = |c: char| c == ',' || c == '\\' || c.is_control();
    if name.is_empty() || name.contains(is_bad) {
        return Err(MountError::Name { name: name.clone() });
    }
    let (fd, via) = match mount_directly(&path, options) {
        Ok(fd) => (fd, Via::Kernel),
        Err(error) if error.is_for_want_of_privilege() => {
            (fusermount::mount(&path, options)?, Via::Fusermount)
        }
        Err(error) => return Err(error),
    };
    let mount = mountinfo::at(&path)
        .and_then(|found| found.ok_or_else(|| io::ErrorKind::NotFound.into()))
        .map_err(|source| MountError::MountInfo { source })?;
    let handle = MountHandle::new(mount, via);
    Ok(Mounted { fd, handle })
}

/// Answers the mountpoint as the mount table will have it.
fn check(mountpoint: &Path, options: &MountOptions) -> Result<PathBuf, MountError> {
    let unusable = |source| MountError::Mountpoint {
        path: mountpoint.to_owned(),
        source,
    };
    let path = mountpoint.canonicalize().map_err(unusable)?;
    if !path.is_dir() {
        return Err(MountError::NotADirectory { path });
    }
    if options.cover {
        return Ok(path);
    }
    let covered = mountinfo::at(&path).map_err(|source| MountError::MountInfo { source })?;
    if let Some(mount) = covered {
        return Err(MountError::AlreadyMounted {
            path,
            fs_type: mount.fs_type,
            source_name: mount.source,
        });
    }
    if fs::read_dir(&path).map_err(unusable)?.next().is_some() {
        return Err(MountError::NotEmpty { path });
    }
    Ok(path)
}

fn mount_directly(path: &Path, options: &MountOptions) -> Result<OwnedFd, MountError> {
    let device = File::options().read(true).write(true).open("/dev/fuse");
    let device = device.map_err(|source| MountError::Device { source })?;
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions",
        device.as_raw_fd(),
        geteuid(),
        getegid(),
    );
    if options.allow_other {
        data.push_str(",allow_other");
    }
    let failed = |source: io::Error| MountError::Mount {
        path: path.to_owned(),
        source,
    };
    let data = CString::new(data).map_err(|error| failed(error.into()))?;
    rustix::mount::mount(
        options.name.as_str(),
        path,
        format!("fuse.{}", options.name),
        MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV,
        data.as_c_str(),
    )
    .map_err(|error| failed(error.into()))?;
    Ok(device.into())
}

impl MountError {
    fn is_for_want_of_privilege(&self) -> bool {
        match self {
            Self::Mount { source, .. } => is_denied(source),
            // The device is often there for root only.
            Self::Device { source } => is_denied(source) && !geteuid().is_root(),
            _ => false,
        }
    }
}

fn is_denied(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::PERM | Errno::ACCESS)
    )
}
