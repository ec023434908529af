//! Files that the kernel reads by itself, by the ioctls of `/dev/fuse`.

#![allow(unsafe_code)]

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use rustix::{
    io::Errno,
    ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode},
};

use crate::adapter::Backing;

/// A connection's backing files. Registering one needs CAP_SYS_ADMIN.
#[derive(Debug)]
pub struct BackingFiles {
    device: OwnedFd,
}

impl BackingFiles {
    /// Those of the connection `device`.
    pub fn new(device: OwnedFd) -> Self {
        Self { device }
    }
}

impl Backing for BackingFiles {
    fn register(&self, file: &File) -> io::Result<u32> {
        let map = Map {
            fd: file.as_raw_fd(),
            flags: 0,
            padding: 0,
        };
        // SAFETY: the ioctl reads the structure during the call, and `file` is
        // open as long.
        Ok(unsafe { ioctl(&self.device, BackingOpen(map)) }?)
    }

    fn unregister(&self, id: u32) -> io::Result<()> {
        // SAFETY: the ioctl reads a number during the call.
        match unsafe { ioctl(&self.device, BackingClose(id)) } {
            // The connection is gone, and with it what it knew.
            Ok(()) | Err(Errno::PERM | Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The ioctls of fuse have this type.
const GROUP: u8 = 229;

/// `struct fuse_backing_map`.
#[repr(C)]
struct Map {
    fd: i32,
    flags: u32,
    padding: u64,
}

/// FUSE_DEV_IOC_BACKING_OPEN; answers the number that the file gets.
struct BackingOpen(Map);

// SAFETY: the opcode is that of an ioctl that reads a `Map` and writes
// nothing.
unsafe impl Ioctl for BackingOpen {
    type Output = u32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        opcode::write::<Map>(GROUP, 1)
    }

    fn as_ptr(&mut self) -> *mut libc::c_void {
        (&raw mut self.0).cast()
    }

    unsafe fn output_from_ptr(
        out: IoctlOutput,
        _: *mut libc::c_void,
    ) -> rustix::io::Result<Self::Output> {
        u32::try_from(out).map_err(|_| Errno::INVAL)
    }
}

/// FUSE_DEV_IOC_BACKING_CLOSE.
struct BackingClose(u32);

// SAFETY: the opcode is that of an ioctl that reads a `u32` and writes
// nothing.
unsafe impl Ioctl for BackingClose {
    type Output = ();
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        opcode::write::<u32>(GROUP, 2)
    }

    fn as_ptr(&mut self) -> *mut libc::c_void {
        (&raw mut self.0).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut libc::c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}
