//! What each request is answered.
//!
//! What is not implemented here is answered ENOSYS by the trait's defaults,
//! which the kernel remembers: ACCESS (it checks permissions itself, by
//! `default_permissions`), FSYNC and FSYNCDIR (taken as success, as is FLUSH), LSEEK
//! (it works from the size), POLL, BMAP and locks (it keeps them itself).
//!
//! READ, RELEASE and FORGET do not come here by `/dev/fuse`, whose transport
//! handles them without `Server`, to write contents where they are sent from and
//! to know what it did if it dies meanwhile. They do by a transport that is
//! `fuse-backend-rs`' own, such as virtiofs.

use std::{cell::RefCell, ffi::CStr, io, time::Duration};

use fuse_backend_rs::{
    abi::fuse_abi::{CreateIn, FsOptions, OpenOptions, SetattrValid, stat64, statvfs64},
    api::filesystem::{
        Context, DirEntry, Entry, FileSystem, GetxattrReply, ListxattrReply, ZeroCopyReader,
        ZeroCopyWriter,
    },
};

use super::{
    Adapter, abi,
    grants::{self, Grant},
};
use crate::core::{self, FOREVER, FsError, Lookup, NodeId, Op, ROOT_ATTR_TTL};

/// Given to [`FileSystem::create`]'s caller.
type Created = (Entry, Option<u64>, OpenOptions, Option<u32>);

thread_local! {
    /// Grows to the largest read, which the transport bounds.
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl FileSystem for Adapter {
    type Inode = u64;
    type Handle = u64;

    fn init(&self, capable: FsOptions) -> io::Result<FsOptions> {
        tracing::debug!(?capable, enabled = ?(capable & self.wanted), "negotiated");
        Ok(self.wanted)
    }

    fn lookup(&self, _: &Context, parent: u64, name: &CStr) -> io::Result<Entry> {
        self.call(Op::Lookup, "lookup", parent, |fs, parent| {
            Ok(match fs.lookup(parent, name.to_bytes())? {
                Lookup::Found(found) => {
                    grants::note(Grant::Lookup(found.node));
                    entry(&found)
                }
                Lookup::Never => no_entry(FOREVER),
            })
        })
    }

    fn forget(&self, _: &Context, inode: u64, count: u64) {
        self.filesystem.count(Op::Forget);
        self.filesystem.forget(NodeId(inode), count);
    }

    fn batch_forget(&self, _: &Context, requests: Vec<(u64, u64)>) {
        self.filesystem.count(Op::Forget);
        for (inode, count) in requests {
            self.filesystem.forget(NodeId(inode), count);
        }
    }

    fn getattr(
        &self,
        _: &Context,
        inode: u64,
        _handle: Option<u64>,
    ) -> io::Result<(stat64, Duration)> {
        self.call(Op::Getattr, "getattr", inode, |fs, node| {
            let timeout = match node {
                NodeId::ROOT => ROOT_ATTR_TTL,
                _ => FOREVER,
            };
            Ok((abi::stat(&fs.getattr(node)?), timeout))
        })
    }

    fn readlink(&self, _: &Context, inode: u64) -> io::Result<Vec<u8>> {
        self.call(Op::Readlink, "readlink", inode, |fs, node| {
            Ok(fs.readlink(node)?.into())
        })
    }

    fn open(
        &self,
        _: &Context,
        inode: u64,
        flags: u32,
        _fuse_flags: u32,
    ) -> io::Result<(Option<u64>, OpenOptions, Option<u32>)> {
        let write = flags & (libc::O_ACCMODE | libc::O_TRUNC) as u32 != libc::O_RDONLY as u32;
        let opens = self.opens();
        if opens.unasked_files {
            self.filesystem.count(Op::Open);
            return Err(io::Error::from_raw_os_error(libc::ENOSYS));
        }
        self.call(Op::Open, "open", inode, |fs, node| {
            let file = fs.open(node, write)?;
            let Some(backing) = &opens.backing else {
                return Ok((None, OpenOptions::KEEP_CACHE, None));
            };
            let find = || fs.backing_file(node);
            let opened = self.files.open(file, &**backing, find)?;
            grants::note(Grant::Open(opened.handle));
            Ok(match opened.backing {
                Some(id) => (Some(opened.handle), abi::PASSTHROUGH, Some(id)),
                None => (Some(opened.handle), OpenOptions::KEEP_CACHE, None),
            })
        })
    }

    fn read(
        &self,
        _: &Context,
        inode: u64,
        _handle: u64,
        w: &mut dyn ZeroCopyWriter,
        size: u32,
        offset: u64,
        _lock_owner: Option<u64>,
        _flags: u32,
    ) -> io::Result<usize> {
        READ_BUFFER.with_borrow_mut(|buf| {
            let size = (size as usize).min(w.available_bytes());
            if buf.len() < size {
                buf.resize(size, 0);
            }
            let buf = &mut buf[..size];
            let len = self.read_into(inode, buf, offset)?;
            w.write_all(&buf[..len])?;
            Ok(len)
        })
    }

    fn release(
        &self,
        _: &Context,
        _inode: u64,
        _flags: u32,
        handle: u64,
        _flush: bool,
        _flock_release: bool,
        _lock_owner: Option<u64>,
    ) -> io::Result<()> {
        self.close(handle);
        Ok(())
    }

    fn opendir(
        &self,
        _: &Context,
        inode: u64,
        _flags: u32,
    ) -> io::Result<(Option<u64>, OpenOptions)> {
        if self.opens().unasked_directories {
            self.filesystem.count(Op::Opendir);
            return Err(io::Error::from_raw_os_error(libc::ENOSYS));
        }
        self.call(Op::Opendir, "opendir", inode, |fs, node| {
            let opened = fs.opendir(node)?;
            let options = if opened.immutable {
                OpenOptions::CACHE_DIR | OpenOptions::KEEP_CACHE
            } else {
                OpenOptions::empty()
            };
            Ok((None, options))
        })
    }

    fn readdir(
        &self,
        _: &Context,
        inode: u64,
        _handle: u64,
        _size: u32,
        offset: u64,
        add_entry: &mut dyn FnMut(DirEntry<'_>) -> io::Result<usize>,
    ) -> io::Result<()> {
        let mut failed = Ok(());
        self.call(Op::Readdir, "readdir", inode, |fs, node| {
            fs.readdir(node, offset, &mut |line| {
                fits(add_entry(dir_entry(line)), &mut failed)
            })
        })?;
        failed
    }

    fn readdirplus(
        &self,
        _: &Context,
        inode: u64,
        _handle: u64,
        _size: u32,
        offset: u64,
        add_entry: &mut dyn FnMut(DirEntry<'_>, Entry) -> io::Result<usize>,
    ) -> io::Result<()> {
        let mut failed = Ok(());
        self.call(Op::Readdirplus, "readdirplus", inode, |fs, node| {
            fs.readdirplus(node, offset, &mut |line, found| {
                let entry = found.map_or_else(|| no_entry(Duration::ZERO), entry);
                let fits = fits(add_entry(dir_entry(line), entry), &mut failed);
                if let Some(found) = found.filter(|_| fits) {
                    grants::note(Grant::Lookup(found.node));
                }
                fits
            })
        })?;
        failed
    }

    fn flush(&self, _: &Context, _: u64, _handle: u64, _lock_owner: u64) -> io::Result<()> {
        self.filesystem.count(Op::Flush);
        Err(io::Error::from_raw_os_error(libc::ENOSYS))
    }

    fn releasedir(&self, _: &Context, _: u64, _flags: u32, _handle: u64) -> io::Result<()> {
        self.filesystem.count(Op::Releasedir);
        Ok(())
    }

    fn statfs(&self, _: &Context, inode: u64) -> io::Result<statvfs64> {
        self.call(Op::Statfs, "statfs", inode, |fs, _| {
            Ok(abi::statvfs(&fs.statfs()))
        })
    }

    fn getxattr(
        &self,
        _: &Context,
        inode: u64,
        name: &CStr,
        size: u32,
    ) -> io::Result<GetxattrReply> {
        let value = self.call(Op::Getxattr, "getxattr", inode, |fs, node| {
            fs.getxattr(node, name.to_bytes())
        })?;
        Ok(match room(&value, size)? {
            Some(count) => GetxattrReply::Count(count),
            None => GetxattrReply::Value(value),
        })
    }

    fn listxattr(&self, _: &Context, inode: u64, size: u32) -> io::Result<ListxattrReply> {
        let names = self.call(Op::Listxattr, "listxattr", inode, |fs, node| {
            fs.listxattr(node)
        })?;
        Ok(match room(&names, size)? {
            Some(count) => ListxattrReply::Count(count),
            None => ListxattrReply::Names(names),
        })
    }

    fn setattr(
        &self,
        _: &Context,
        inode: u64,
        _attr: stat64,
        _handle: Option<u64>,
        _valid: SetattrValid,
    ) -> io::Result<(stat64, Duration)> {
        self.refuse("setattr", inode)
    }

    fn symlink(&self, _: &Context, _target: &CStr, parent: u64, _name: &CStr) -> io::Result<Entry> {
        self.refuse("symlink", parent)
    }

    fn mknod(
        &self,
        _: &Context,
        parent: u64,
        _name: &CStr,
        _mode: u32,
        _rdev: u32,
        _umask: u32,
    ) -> io::Result<Entry> {
        self.refuse("mknod", parent)
    }

    fn mkdir(
        &self,
        _: &Context,
        parent: u64,
        _name: &CStr,
        _mode: u32,
        _umask: u32,
    ) -> io::Result<Entry> {
        self.refuse("mkdir", parent)
    }

    fn unlink(&self, _: &Context, parent: u64, _name: &CStr) -> io::Result<()> {
        self.refuse("unlink", parent)
    }

    fn rmdir(&self, _: &Context, parent: u64, _name: &CStr) -> io::Result<()> {
        self.refuse("rmdir", parent)
    }

    fn rename(
        &self,
        _: &Context,
        parent: u64,
        _name: &CStr,
        _new_parent: u64,
        _new_name: &CStr,
        _flags: u32,
    ) -> io::Result<()> {
        self.refuse("rename", parent)
    }

    fn link(&self, _: &Context, inode: u64, _parent: u64, _name: &CStr) -> io::Result<Entry> {
        self.refuse("link", inode)
    }

    fn create(&self, _: &Context, parent: u64, _name: &CStr, _: CreateIn) -> io::Result<Created> {
        self.refuse("create", parent)
    }

    fn write(
        &self,
        _: &Context,
        inode: u64,
        _handle: u64,
        _r: &mut dyn ZeroCopyReader,
        _size: u32,
        _offset: u64,
        _lock_owner: Option<u64>,
        _delayed_write: bool,
        _flags: u32,
        _fuse_flags: u32,
    ) -> io::Result<usize> {
        self.refuse("write", inode)
    }

    fn fallocate(
        &self,
        _: &Context,
        inode: u64,
        _handle: u64,
        _mode: u32,
        _offset: u64,
        _length: u64,
    ) -> io::Result<()> {
        self.refuse("fallocate", inode)
    }

    fn setxattr(
        &self,
        _: &Context,
        inode: u64,
        _name: &CStr,
        _value: &[u8],
        _flags: u32,
    ) -> io::Result<()> {
        self.refuse("setxattr", inode)
    }

    fn removexattr(&self, _: &Context, inode: u64, _name: &CStr) -> io::Result<()> {
        self.refuse("removexattr", inode)
    }
}

impl Adapter {
    fn refuse<T>(&self, name: &'static str, node: u64) -> io::Result<T> {
        self.call(Op::Modify, name, node, |_, _| Err(FsError::ReadOnly))
    }
}

/// Whether a line was added; keeps the error if there was one.
fn fits(added: io::Result<usize>, failed: &mut io::Result<()>) -> bool {
    match added {
        Ok(len) => len > 0,
        Err(error) => {
            *failed = Err(error);
            false
        }
    }
}

/// How many bytes a value has, if that is what is asked for, by a size of 0.
fn room(value: &[u8], size: u32) -> io::Result<Option<u32>> {
    match u32::try_from(value.len()) {
        Ok(len) if size == 0 => Ok(Some(len)),
        Ok(len) if len <= size => Ok(None),
        Ok(_) | Err(_) => Err(io::Error::from_raw_os_error(libc::ERANGE)),
    }
}

fn entry(found: &core::Found) -> Entry {
    Entry {
        inode: found.node.0,
        generation: found.generation,
        attr: abi::stat(&found.attr),
        attr_flags: 0,
        attr_timeout: FOREVER,
        entry_timeout: FOREVER,
    }
}

/// Node 0 means that there is none. In a reply to LOOKUP the kernel keeps that
/// for the timeout; in one to READDIRPLUS it only adds the name.
fn no_entry(entry_timeout: Duration) -> Entry {
    Entry {
        entry_timeout,
        ..Entry::default()
    }
}

fn dir_entry<'a>(line: &core::DirEntry<'a>) -> DirEntry<'a> {
    DirEntry {
        ino: line.ino,
        offset: line.next,
        type_: abi::dirent_type(line.kind),
        name: line.name,
    }
}
