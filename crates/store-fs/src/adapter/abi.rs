//! The core's types as the C structures that the kernel knows.

#![allow(unsafe_code)]

use std::mem;

use fuse_backend_rs::abi::fuse_abi::{Attr as FuseAttr, OpenOptions, stat64, statvfs64};

use crate::core::{Attr, Kind, Statfs};

/// FOPEN_PASSTHROUGH, which `fuse-backend-rs` has no name for.
// SAFETY: bitflags only uses the bits as a number; those that it has no name
// for are kept.
pub(super) const PASSTHROUGH: OpenOptions = unsafe { OpenOptions::from_bits_unchecked(1 << 7) };

pub(super) fn stat(attr: &Attr) -> stat64 {
    let seconds = attr.time.as_secs();
    let nanos = attr.time.subsec_nanos();
    FuseAttr {
        ino: attr.ino,
        size: attr.size,
        blocks: attr.blocks(),
        atime: seconds,
        mtime: seconds,
        ctime: seconds,
        atimensec: nanos,
        mtimensec: nanos,
        ctimensec: nanos,
        mode: format(attr.kind) | attr.kind.permissions(),
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: attr.block_size(),
        flags: 0,
    }
    .into()
}

pub(super) fn statvfs(statfs: &Statfs) -> statvfs64 {
    // SAFETY: the structure has only integers, for which zero is a value.
    let mut out: statvfs64 = unsafe { mem::zeroed() };
    out.f_bsize = statfs.block_size.into();
    out.f_frsize = statfs.block_size.into();
    out.f_blocks = statfs.blocks;
    out.f_files = statfs.files;
    out.f_namemax = statfs.name_max.into();
    out
}

fn format(kind: Kind) -> u32 {
    match kind {
        Kind::Directory => libc::S_IFDIR,
        Kind::File { .. } => libc::S_IFREG,
        Kind::Symlink => libc::S_IFLNK,
    }
}

pub(super) fn dirent_type(kind: Kind) -> u32 {
    u32::from(match kind {
        Kind::Directory => libc::DT_DIR,
        Kind::File { .. } => libc::DT_REG,
        Kind::Symlink => libc::DT_LNK,
    })
}
