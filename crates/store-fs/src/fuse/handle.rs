use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::mount::{UnmountFlags, unmount};

use super::{
    Holder, fusermount, holders,
    mountinfo::{self, Mount},
};

/// Reads of 1 MiB, the most that one request carries.
const READ_AHEAD_KIB: u32 = 1024;

/// How the mount came to be, and so how it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    Kernel,
    Fusermount,
}

/// A mount. Dropping it unmounts what this process mounted; if that is busy
/// then, it is detached, and ends when its last user is gone. A mount that was
/// adopted stays.
#[derive(Debug)]
pub struct MountHandle {
    mount: Mount,
    via: Via,
    /// Whether there is still something to unmount.
    mounted: bool,
    /// Whether another process made it, so that it does not go with this one.
    adopted: bool,
}

/// Why a mount is still there.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    /// It is in use.
    #[error("{} is in use by {}", path.display(), list(holders))]
    Busy {
        /// The mountpoint.
        path: PathBuf,
        /// Who could be found to use it.
        holders: Vec<Holder>,
    },
    /// Something else was mounted on top of it.
    #[error("{} is covered by another mount, of {source_name}", path.display())]
    Covered {
        /// The mountpoint.
        path: PathBuf,
        /// What the mount table has as the other's source.
        source_name: String,
    },
    /// The system refused.
    #[error("cannot unmount {}: {source}", path.display())]
    Io {
        /// The mountpoint.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

fn list(holders: &[Holder]) -> String {
    match holders {
        [] => "somebody who cannot be seen from here".to_owned(),
        _ => holders
            .iter()
            .map(Holder::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    }
}

impl MountHandle {
    pub(super) fn new(mount: Mount, via: Via) -> Self {
        Self {
            mount,
            via,
            mounted: true,
            adopted: false,
        }
    }

    /// The mount that another process made, and left, wherever it is mounted
    /// now; `None` if it is not mounted any more.
    ///
    /// # Errors
    /// If the mount table cannot be read.
    pub fn adopt(id: u64, device: (u32, u32), by_fusermount: bool) -> io::Result<Option<Self>> {
        let mut mounts = mountinfo::read()?.into_iter();
        let found = mounts.find(|mount| mount.id == id && mount.device == device);
        Ok(found.map(|mount| {
            let via = match by_fusermount {
                true => Via::Fusermount,
                false => Via::Kernel,
            };
            let mut handle = Self::new(mount, via);
            handle.adopted = true;
            handle
        }))
    }

    /// Where it is mounted.
    pub fn mountpoint(&self) -> &Path {
        &self.mount.mountpoint
    }

    /// The number of the mount in the mount table.
    pub fn id(&self) -> u64 {
        self.mount.id
    }

    /// The filesystem's device number, major and minor.
    pub fn device(&self) -> (u32, u32) {
        self.mount.device
    }

    /// Whether `fusermount3` made it.
    pub fn is_by_fusermount(&self) -> bool {
        self.via == Via::Fusermount
    }

    /// Unmounts. It is no error if somebody else did so before.
    ///
    /// # Errors
    /// If the mount is in use, among others; then it is still there.
    pub fn unmount(&mut self) -> Result<(), UnmountError> {
        self.end(false)
    }

    /// Takes the mount out of the tree at once; its users keep it until they
    /// are done, and it is to be served as long.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn detach(&mut self) -> Result<(), UnmountError> {
        self.end(true)
    }

    /// Has the kernel read ahead, which also bounds the size of its reads, as
    /// far as one request carries. Only root can, and only once the connection
    /// is set up, which sets it anew; else it stays as it is.
    pub fn read_far_ahead(&self) {
        let (major, minor) = self.mount.device;
        let path = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
        if let Err(error) = fs::write(path, READ_AHEAD_KIB.to_string()) {
            tracing::debug!(%error, "the kernel's read-ahead stays as it is");
        }
    }

    /// Leaves the mount to somebody else to unmount.
    pub fn leave(mut self) {
        self.mounted = false;
    }

    fn end(&mut self, lazily: bool) -> Result<(), UnmountError> {
        if !self.mounted || !self.is_on_top()? {
            self.mounted = false;
            return Ok(());
        }
        let path = &self.mount.mountpoint;
        let result = match self.via {
            Via::Kernel => unmount_directly(path, lazily),
            Via::Fusermount => unmount_by_fusermount(path, lazily),
        };
        match result {
            Ok(()) => {
                self.mounted = false;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Err(UnmountError::Busy {
                path: path.clone(),
                holders: holders::find(&self.mount),
            }),
            Err(source) => Err(UnmountError::Io {
                path: path.clone(),
                source,
            }),
        }
    }

    /// Whether what would be unmounted is this mount; `false` if it is gone.
    fn is_on_top(&self) -> Result<bool, UnmountError> {
        let mounts = mountinfo::read().map_err(|source| UnmountError::Io {
            path: self.mount.mountpoint.clone(),
            source,
        })?;
        if !mounts.iter().any(|mount| mount.id == self.mount.id) {
            return Ok(false);
        }
        let top = mounts
            .into_iter()
            .rfind(|mount| mount.mountpoint == self.mount.mountpoint);
        match top {
            Some(top) if top.id != self.mount.id => Err(UnmountError::Covered {
                path: top.mountpoint,
                source_name: top.source,
            }),
            Some(_) | None => Ok(true),
        }
    }
}

fn unmount_directly(path: &Path, lazily: bool) -> io::Result<()> {
    let lazy = if lazily {
        UnmountFlags::DETACH
    } else {
        UnmountFlags::empty()
    };
    Ok(unmount(path, UnmountFlags::NOFOLLOW | lazy)?)
}

fn unmount_by_fusermount(path: &Path, lazily: bool) -> io::Result<()> {
    fusermount::unmount(path, lazily)?.map_err(|message| {
        // It only says so in words.
        let kind = if message.contains("busy") {
            io::ErrorKind::ResourceBusy
        } else {
            io::ErrorKind::Other
        };
        io::Error::new(kind, message)
    })
}

impl Drop for MountHandle {
    fn drop(&mut self) {
        if self.adopted {
            return;
        }
        let result = match self.unmount() {
            Err(UnmountError::Busy { path, holders }) => {
                let (path, holders) = (path.display(), list(&holders));
                tracing::warn!(%path, holders, "the mount is in use: detached");
                self.detach()
            }
            result => result,
        };
        if let Err(error) = result {
            tracing::error!(%error, "the mount stays");
        }
    }
}
