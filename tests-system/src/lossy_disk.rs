//! A disk with a volatile write cache that loses its content at a power cut.
//!
//! [`LossyDisk`] serves one file, `disk.img`, through FUSE. A loop device on it is a block device
//! whose write cache is honest: a flush request (`REQ_OP_FLUSH`, which the loop driver turns into
//! `fsync`) makes everything written before it stable, and nothing else does. [`LossyDisk::cut`]
//! pulls the plug: from then on all I/O fails, and [`LossyDisk::into_image`] returns what a real
//! disk might hold afterwards, namely the stable blocks and any part of the cached ones.
//!
//! The same disk injects I/O errors ([`LossyDisk::fail_writes_after`],
//! [`LossyDisk::fail_reads`]) for the tests that need a failing medium.
//!
//! Everything is held in this process's memory. That is on purpose: if serving a write could
//! dirty pages of another filesystem, the kernel's dirty throttling could make the server wait
//! for the very writeback it has to serve.

mod cache;
mod server;

pub use cache::{BLOCK_SIZE, Image, Survival};

use crate::rng::Rng;
use anyhow::{Context as _, Result};
use cache::Disk;
use fuse_backend_rs::api::server::Server;
use fuse_backend_rs::transport::{FuseChannel, FuseSession};
use server::DiskFs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tempfile::TempDir;

/// Two, so that a flush and a read are served while another request waits for the lock.
const THREADS: usize = 2;

/// The disk while it has power. Dropping it unmounts the FUSE filesystem that holds its file.
pub struct LossyDisk {
    // Option: taken in `shut_down`, which `into_image` and `Drop` share.
    session: Option<FuseSession>,
    threads: Vec<JoinHandle<()>>,
    disk: Arc<Mutex<Disk>>,
    mountpoint: TempDir,
}

impl LossyDisk {
    /// Starts to serve `image`.
    pub fn power_on(image: Image) -> Result<Self> {
        let mountpoint = tempfile::Builder::new()
            .prefix("lossy-disk-")
            .tempdir()
            .context("creating the lossy disk's mount point")?;
        let mut session = FuseSession::new(mountpoint.path(), "lossy-disk", "lossy", false)?;
        session.set_allow_other(false);
        session
            .mount()
            .context("mounting the lossy disk: needs root and /dev/fuse")?;

        let disk = Arc::new(Mutex::new(Disk::new(image)));
        let server = Arc::new(Server::new(DiskFs::new(Arc::clone(&disk))));
        let mut threads = Vec::new();
        for _ in 0..THREADS {
            let channel = session.new_channel()?;
            let server = Arc::clone(&server);
            threads.push(std::thread::spawn(move || serve(channel, &server)));
        }
        Ok(Self {
            session: Some(session),
            threads,
            disk,
            mountpoint,
        })
    }

    /// The file to put a loop device on.
    pub fn file(&self) -> PathBuf {
        self.mountpoint.path().join(server::FILE_NAME)
    }

    /// Pulls the plug: no later request has any effect, all of them fail.
    pub fn cut(&self) {
        self.lock().cut();
    }

    /// Lets `count` more block writes succeed and answers EIO to the rest, flushes included.
    pub fn fail_writes_after(&self, count: u64) {
        self.lock().fail_writes_after(Some(count));
    }

    /// Answers EIO to reads of the blocks that hold `needle`, as a bad sector would; returns how
    /// many blocks that are.
    pub fn fail_reads(&self, needle: &[u8]) -> usize {
        self.lock().fail_reads_of(needle)
    }

    /// The number of block writes and of flushes so far.
    pub fn traffic(&self) -> (u64, u64) {
        self.lock().traffic()
    }

    /// Ends the disk and returns what survives on the medium.
    ///
    /// The loop device must be gone: its file is unmounted here.
    pub fn into_image(mut self, survival: Survival, rng: &mut Rng) -> Image {
        self.cut();
        self.shut_down();
        let mut disk = self.lock();
        disk.surviving(survival, rng)
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shut_down(&mut self) {
        let Some(mut session) = self.session.take() else {
            return;
        };
        let waking = session.wake();
        if let Err(error) = session.umount() {
            eprintln!("lossy disk: {error}");
            detach(self.mountpoint.path());
        }
        if waking.is_ok() {
            for thread in self.threads.drain(..) {
                // A panicking server thread has already printed why.
                let _ = thread.join();
            }
        }
    }
}

impl std::fmt::Debug for LossyDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LossyDisk")
            .field("mountpoint", &self.mountpoint.path())
            .finish_non_exhaustive()
    }
}

impl Drop for LossyDisk {
    fn drop(&mut self) {
        self.shut_down();
    }
}

fn detach(path: &Path) {
    use nix::mount::{MntFlags, umount2};
    let _ = umount2(path, MntFlags::MNT_DETACH);
}

fn serve(mut channel: FuseChannel, server: &Server<DiskFs>) {
    loop {
        match channel.get_request() {
            Ok(Some((reader, writer))) => {
                // A failed reply means an aborted request or a connection that is gone; the next
                // get_request tells which.
                let _ = server.handle_message(reader, writer.into(), None, None);
            }
            // Told to end, or unmounted; the two race at the end of every disk.
            Ok(None) | Err(_) => return,
        }
    }
}
