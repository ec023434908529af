//! What outlives a supervisor: descriptors that the service manager keeps, and
//! a record of the mount.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            ffi::{OsStrExt as _, OsStringExt as _},
            fs::FileExt as _,
        },
    },
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FlockOperation, MemfdFlags, fcntl_lock, memfd_create},
    io::Errno,
    process::{Flock, FlockType, Pid, PidfdFlags, fcntl_getlk, pidfd_open},
};
use serde::{Deserialize, Serialize};
use store_fs::fuse::MountHandle;

use super::child;
use crate::notify::Notifier;

// The names end with a version: another meaning is another name.
const DEVICE: &str = "device.v1";
const STATE: &str = "state.v1";
const STORE: &str = "store.v1";
const TURN: &str = "turn.v1";

/// The descriptors of a mount.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) device: OwnedFd,
    pub(super) state: OwnedFd,
    pub(super) store: OwnedFd,
    pub(super) turn: Turn,
}

impl Handed {
    /// How many there are.
    pub(super) const COUNT: usize = 4;

    /// Out of what the manager handed over, if it is whole.
    pub(super) fn from(fds: Vec<(String, OwnedFd)>) -> Option<Self> {
        let (mut device, mut state, mut store, mut turn) = (None, None, None, None);
        for (name, fd) in fds {
            match name.as_str() {
                DEVICE => device = Some(fd),
                STATE => state = Some(fd),
                STORE => store = Some(fd),
                TURN => turn = Some(fd),
                _ => tracing::debug!(name, "a descriptor that is not known"),
            }
        }
        Some(Self {
            device: device?,
            state: state?,
            store: store?,
            turn: Turn(turn?.into()),
        })
    }

    /// Has the manager keep them.
    pub(super) fn store(&self, notifier: &Notifier) {
        notifier.store(DEVICE, self.device.as_fd());
        notifier.store(STATE, self.state.as_fd());
        notifier.store(STORE, self.store.as_fd());
        notifier.store(TURN, self.turn.0.as_fd());
    }

    /// Has the manager drop them.
    pub(super) fn forget(notifier: &Notifier) {
        for name in [DEVICE, STATE, STORE, TURN] {
            notifier.forget(name);
        }
    }

    /// Whether the connection is still there: neither unmounted nor aborted.
    pub(super) fn is_connected(&self) -> bool {
        is_connected(self.device.as_fd())
    }
}

/// A device without a connection polls as an error.
pub(super) fn is_connected(device: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(device, PollFlags::IN)];
    let polled = rustix::io::retry_on_intr(|| poll(&mut fds, Some(&Timespec::default())));
    polled.is_ok() && !fds[0].revents().contains(PollFlags::ERR)
}

/// Who may read the device: one worker at a time. A lock that its process holds
/// until it is gone, threads and all, on a file in memory, which also has the
/// [`Record`].
#[derive(Debug)]
pub(crate) struct Turn(File);

/// What is known of the mount.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    mountpoint: Vec<u8>,
    /// The number of the mount in the mount table.
    pub(super) mount: u64,
    /// The filesystem's device number, major and minor.
    pub(super) device: (u32, u32),
    /// Whether `fusermount3` made it.
    pub(super) by_fusermount: bool,
    /// Whether it was taken out of the directory tree.
    pub(super) detached: bool,
}

impl Record {
    pub(super) fn new(handle: &MountHandle) -> Self {
        let mountpoint = handle.mountpoint().as_os_str();
        Self {
            mountpoint: mountpoint.as_bytes().to_vec(),
            mount: handle.id(),
            device: handle.device(),
            by_fusermount: handle.is_by_fusermount(),
            detached: false,
        }
    }

    /// The mount, if it is still mounted.
    pub(super) fn handle(&self) -> io::Result<Option<MountHandle>> {
        MountHandle::adopt(self.mount, self.device, self.by_fusermount)
    }

    pub(super) fn mountpoint(&self) -> PathBuf {
        OsString::from_vec(self.mountpoint.clone()).into()
    }
}

impl Turn {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(memfd_create("turn", MemfdFlags::CLOEXEC)?.into()))
    }

    pub(crate) fn from_fd(fd: OwnedFd) -> Self {
        Self(fd.into())
    }

    /// Takes the turn, for as long as the process lives: it has no other
    /// descriptor of the file, since closing that would give it back.
    pub(crate) fn take(&self) -> io::Result<()> {
        Ok(fcntl_lock(
            &self.0,
            FlockOperation::NonBlockingLockExclusive,
        )?)
    }

    /// Kills whoever has the turn: the worker of a supervisor that is gone. Its
    /// end is not waited for. Answers whether there was one.
    pub(super) fn kill_holder(&self) -> Result<bool> {
        let holder = self.open_holder()?;
        if let Some((pid, pidfd)) = &holder {
            tracing::debug!(pid = pid.as_raw_nonzero(), "ends the worker that was left");
            child::kill(pidfd);
        }
        Ok(holder.is_some())
    }

    fn open_holder(&self) -> Result<Option<(Pid, OwnedFd)>> {
        while let Some(pid) = self.holder()? {
            let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
                Ok(pidfd) => pidfd,
                Err(Errno::SRCH) => continue,
                Err(errno) => return Err(errno).context("cannot open the old worker"),
            };
            // Is the number still that of who holds it?
            if self.holder()? == Some(pid) {
                return Ok(Some((pid, pidfd)));
            }
        }
        Ok(None)
    }

    /// Who has the turn.
    pub(super) fn holder(&self) -> Result<Option<Pid>> {
        let asked = Flock::from(FlockType::WriteLock);
        let found = fcntl_getlk(&self.0, &asked).context("cannot see whose turn it is")?;
        Ok(found.and_then(|lock| lock.pid))
    }

    pub(super) fn write(&self, record: &Record) -> Result<()> {
        let bytes = serde_json::to_vec(record)?;
        self.0.write_all_at(&bytes, 0)?;
        self.0.set_len(bytes.len() as u64)?;
        Ok(())
    }

    pub(super) fn read(&self) -> Result<Record> {
        let len = self.0.metadata()?.len().min(64 << 10);
        let mut bytes = vec![0; len as usize];
        self.0.read_exact_at(&mut bytes, 0)?;
        serde_json::from_slice(&bytes).context("the record of the mount cannot be read")
    }
}

impl AsFd for Turn {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let turn = Turn::new().unwrap();
        let mut record = Record {
            mountpoint: b"/mnt/\xff:a".to_vec(),
            mount: 41,
            device: (0, 77),
            by_fusermount: true,
            detached: false,
        };
        turn.write(&record).unwrap();
        record.detached = true;
        turn.write(&record).unwrap();
        let read = turn.read().unwrap();
        assert_eq!(read.mountpoint().as_os_str().as_bytes(), b"/mnt/\xff:a");
        assert!(read.mount == 41 && read.by_fusermount && read.detached);
    }

    #[test]
    fn nobody_has_a_new_turn() {
        let turn = Turn::new().unwrap();
        assert!(turn.holder().unwrap().is_none());
        assert!(!turn.kill_holder().unwrap());
        // One's own lock is no obstacle.
        turn.take().unwrap();
        assert!(turn.holder().unwrap().is_none());
    }
}
