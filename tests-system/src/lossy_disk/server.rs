//! The FUSE filesystem: a root directory with one file, the disk.

use super::cache::Disk;
use fuse_backend_rs::abi::fuse_abi::{Attr, stat64};
use fuse_backend_rs::api::filesystem::{
    Context, Entry, FileSystem, FsOptions, OpenOptions, ROOT_ID, ZeroCopyReader, ZeroCopyWriter,
};
use std::ffi::CStr;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The disk's name in the root directory.
pub(super) const FILE_NAME: &str = "disk.img";

const FILE_ID: u64 = ROOT_ID + 1;
const TIMEOUT: Duration = Duration::from_secs(3600);

pub(super) struct DiskFs {
    disk: Arc<Mutex<Disk>>,
}

impl DiskFs {
    pub(super) fn new(disk: Arc<Mutex<Disk>>) -> Self {
        Self { disk }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attributes(&self, inode: u64) -> io::Result<stat64> {
        let (mode, nlink, size) = match inode {
            ROOT_ID => (libc::S_IFDIR | 0o700, 2, 0),
            FILE_ID => (libc::S_IFREG | 0o600, 1, self.disk().size()),
            _ => return Err(io::Error::from_raw_os_error(libc::ENOENT)),
        };
        Ok(stat64::from(Attr {
            ino: inode,
            size,
            blocks: size / 512,
            mode,
            nlink,
            blksize: 4096,
            ..Attr::default()
        }))
    }
}

impl FileSystem for DiskFs {
    type Inode = u64;
    type Handle = u64;

    fn init(&self, capable: FsOptions) -> io::Result<FsOptions> {
        // Neither the writeback cache nor anything else that lets the kernel keep a write to
        // itself: each write of the loop driver must arrive here at once.
        Ok(capable & (FsOptions::BIG_WRITES | FsOptions::MAX_PAGES | FsOptions::ASYNC_READ))
    }

    fn lookup(&self, _: &Context, parent: u64, name: &CStr) -> io::Result<Entry> {
        if parent != ROOT_ID || name.to_bytes() != FILE_NAME.as_bytes() {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        }
        Ok(Entry {
            inode: FILE_ID,
            attr: self.attributes(FILE_ID)?,
            attr_timeout: TIMEOUT,
            entry_timeout: TIMEOUT,
            ..Entry::default()
        })
    }

    fn getattr(&self, _: &Context, inode: u64, _: Option<u64>) -> io::Result<(stat64, Duration)> {
        Ok((self.attributes(inode)?, TIMEOUT))
    }

    fn open(
        &self,
        _: &Context,
        _: u64,
        _: u32,
        _: u32,
    ) -> io::Result<(Option<u64>, OpenOptions, Option<u32>)> {
        // DIRECT_IO: no page cache of the host between the loop device and the disk.
        Ok((None, OpenOptions::DIRECT_IO, None))
    }

    fn read(
        &self,
        _: &Context,
        _: u64,
        _: u64,
        writer: &mut dyn ZeroCopyWriter,
        size: u32,
        offset: u64,
        _: Option<u64>,
        _: u32,
    ) -> io::Result<usize> {
        let data = self.disk().read(offset, size as usize)?;
        writer.write_all(&data)?;
        Ok(data.len())
    }

    fn write(
        &self,
        _: &Context,
        _: u64,
        _: u64,
        reader: &mut dyn ZeroCopyReader,
        size: u32,
        offset: u64,
        _: Option<u64>,
        _: bool,
        _: u32,
        _: u32,
    ) -> io::Result<usize> {
        let mut data = vec![0; size as usize];
        reader.read_exact(&mut data)?;
        self.disk().write(offset, &data)?;
        Ok(data.len())
    }

    /// Called at every close(2); says nothing about durability.
    fn flush(&self, _: &Context, _: u64, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn fsync(&self, _: &Context, _: u64, _: bool, _: u64) -> io::Result<()> {
        self.disk().flush()
    }
}
