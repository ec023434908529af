//! Directories of the store, held open.
//!
//! Everything is reached relative to an open directory, so that a store stays
//! usable when its path stops resolving, as after switch-root.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self, AtFlags, FlockOperation, Mode, OFlags, Timespec},
    io::Errno,
    process::{Gid, Uid},
};

use crate::Error;

/// An open directory.
#[derive(Debug)]
pub(super) struct Folder {
    fd: OwnedFd,
    /// As it was named when the store was opened; for messages only.
    path: PathBuf,
    /// Who shall own what is created here: root working in a user's store
    /// must not leave files that the user cannot use.
    owner: Option<(Uid, Gid)>,
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

impl Folder {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Self::from_fd(fs::open(path, DIRECTORY, Mode::empty())?, path)
    }

    /// An open directory, to be called `path` in messages.
    pub(super) fn from_fd(fd: OwnedFd, path: &Path) -> io::Result<Self> {
        let stat = fs::fstat(&fd)?;
        let foreign = rustix::process::geteuid().is_root() && stat.st_uid != 0;
        Ok(Self {
            fd,
            path: path.to_owned(),
            owner: foreign.then(|| (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file_path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn error<'a>(&'a self, act: &'static str, name: &'a str) -> impl FnOnce(Errno) -> Error + 'a {
        move |errno| Error::Io {
            act,
            path: self.file_path(name),
            source: errno.into(),
        }
    }

    /// The folder `name` in this one.
    pub(super) fn folder(&self, name: &str) -> Result<Self, Error> {
        let fd = fs::openat(&self.fd, name, DIRECTORY, Mode::empty())
            .map_err(self.error("open", name))?;
        Ok(Self {
            fd,
            path: self.file_path(name),
            owner: self.owner,
        })
    }

    /// The folder `name` in this one, made if need be.
    pub(super) fn make_folder(&self, name: &str) -> Result<Self, Error> {
        // Whoever can open `tmp` can lock it, and keep others from writing.
        let mode = match name {
            super::TMP => 0o700,
            _ => 0o755,
        };
        match fs::mkdirat(&self.fd, name, Mode::from_raw_mode(mode)) {
            Ok(()) => {
                let folder = self.folder(name)?;
                self.chown(&folder.fd, name)?;
                self.sync()?;
                Ok(folder)
            }
            Err(Errno::EXIST) => {
                let folder = self.folder(name)?;
                // Who made it may have been killed before it was given away.
                self.chown(&folder.fd, name)?;
                Ok(folder)
            }
            Err(errno) => Err(self.error("create", name)(errno)),
        }
    }

    fn chown(&self, fd: impl AsFd, name: &str) -> Result<(), Error> {
        match self.owner {
            Some((uid, gid)) => fs::fchown(fd, Some(uid), Some(gid))
                .map_err(self.error("change the owner of", name)),
            None => Ok(()),
        }
    }

    /// Opens a file for reading; `None` if there is none.
    pub(super) fn open_file(&self, name: &str) -> Result<Option<File>, Error> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(fd.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error("open", name)(errno)),
        }
    }

    /// Creates a file that must not be there, for reading and writing.
    pub(super) fn create_file(&self, name: &str) -> Result<File, Error> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o644))
            .map_err(self.error("create", name))?;
        self.chown(&fd, name)?;
        Ok(fd.into())
    }

    /// The names in the folder, unordered, without `.` and `..`.
    pub(super) fn names(&self) -> Result<Vec<String>, Error> {
        let list = || {
            let mut names = Vec::new();
            for entry in fs::Dir::read_from(&self.fd)? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if name != "." && name != ".." {
                    names.push(name);
                }
            }
            Ok(names)
        };
        list().map_err(|errno: Errno| Error::Io {
            act: "list",
            path: self.path.clone(),
            source: errno.into(),
        })
    }

    /// Bytes of a file; `None` if there is none.
    pub(super) fn file_len(&self, name: &str) -> Result<Option<u64>, Error> {
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(u64::try_from(stat.st_size).unwrap_or_default())),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error("stat", name)(errno)),
        }
    }

    /// Moves a file to another folder of the store, over what is there.
    pub(super) fn rename(&self, name: &str, to: &Self, new_name: &str) -> Result<(), Error> {
        fs::renameat(&self.fd, name, &to.fd, new_name).map_err(self.error("rename", name))
    }

    pub(super) fn remove_file(&self, name: &str) -> Result<(), Error> {
        match fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.error("remove", name)(errno)),
        }
    }

    /// Removes the folder `name`, if it is there, and the files in it.
    pub(super) fn remove_folder(&self, name: &str) -> Result<(), Error> {
        let folder = match self.folder(name) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(());
            }
            other => other?,
        };
        for file in folder.names()? {
            folder.remove_file(&file)?;
        }
        fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR).map_err(self.error("remove", name))
    }

    /// Makes the names in the folder durable.
    pub(super) fn sync(&self) -> Result<(), Error> {
        fs::fsync(&self.fd).map_err(self.error("sync", ""))
    }

    /// Makes everything on the file system durable.
    pub(super) fn sync_filesystem(&self) -> Result<(), Error> {
        rustix::fs::syncfs(&self.fd).map_err(self.error("sync the file system of", ""))
    }

    /// When the set of names last changed.
    pub(super) fn stamp(&self) -> Result<Timespec, Error> {
        let stat = fs::fstat(&self.fd).map_err(self.error("stat", ""))?;
        Ok(Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: stat.st_mtime_nsec as _,
        })
    }

    /// Who has the folder's lock, as far as that can be told.
    pub(super) fn lock_holder(&self) -> Option<String> {
        let stat = fs::fstat(&self.fd).ok()?;
        let (major, minor) = (fs::major(stat.st_dev), fs::minor(stat.st_dev));
        let file = format!("{major:02x}:{minor:02x}:{}", stat.st_ino);
        let locks = std::fs::read_to_string("/proc/locks").ok()?;
        locks.lines().find_map(|line| {
            // number: FLOCK ADVISORY WRITE process device:inode from to
            let mut fields = line.split_ascii_whitespace().skip(1);
            (fields.next()? == "FLOCK").then_some(())?;
            let process = fields.nth(2)?;
            (fields.next()? == file).then(|| describe_process(process))
        })
    }

    /// Takes the folder's advisory lock; it lasts as long as the folder is
    /// open. Answers false if `wait` is false and another has it.
    pub(super) fn lock(&self, wait: bool) -> Result<bool, Error> {
        let operation = match wait {
            true => FlockOperation::LockExclusive,
            false => FlockOperation::NonBlockingLockExclusive,
        };
        loop {
            match fs::flock(&self.fd, operation) {
                Ok(()) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if !wait => return Ok(false),
                Err(errno) => return Err(self.error("lock", "")(errno)),
            }
        }
    }
}

fn describe_process(process: &str) -> String {
    // Its command line is in its memory, which may be locked.
    match std::fs::read_to_string(format!("/proc/{process}/comm")) {
        Ok(command) => format!("process {process} ({})", command.trim_end()),
        Err(_) => format!("process {process}"),
    }
}
