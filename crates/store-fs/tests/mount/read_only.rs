use std::{
    fs::{self, File},
    os::fd::AsFd,
};

use rustix::{
    fs::{
        AtFlags, CWD, FallocateFlags, FileType, Gid, Mode, OFlags, RenameFlags, Timespec,
        Timestamps, Uid, XattrFlags, chmodat, chownat, fallocate, ftruncate, linkat, mkdirat,
        mknodat, open, removexattr, renameat, renameat_with, setxattr, symlinkat, unlinkat,
        utimensat,
    },
    io::Errno,
    mount::{MountFlags, mount_remount},
};
use store_fs::{core::Op, fuse::DataPath};

use super::{harness::*, tree::*};

type Attempt = (&'static str, rustix::io::Result<()>);

fn fixture() -> Fixture {
    Fixture::of(
        "pkg",
        &dir([
            ("file", file("content")),
            ("dir", dir::<&str>([])),
            ("link", symlink("file")),
        ]),
    )
}

/// Every system call that would change something, by path.
fn attempts(fixture: &Fixture) -> Vec<Attempt> {
    let at = |path| fixture.at(path);
    let (file, dir, new) = (at("pkg/file"), at("pkg/dir"), at("pkg/new"));
    let mode = Mode::RWXU;
    let time = Timespec {
        tv_sec: 5,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    let open = |path, flags| open(path, flags, mode).map(drop);
    let none = AtFlags::empty();
    vec![
        ("open for writing", open(&file, OFlags::WRONLY)),
        ("open for both", open(&file, OFlags::RDWR)),
        (
            "open to truncate",
            open(&file, OFlags::RDWR | OFlags::TRUNC),
        ),
        ("create", open(&new, OFlags::CREATE | OFlags::RDWR)),
        (
            "create at the top",
            open(&at("new"), OFlags::CREATE | OFlags::RDWR),
        ),
        (
            "open a nameless file",
            open(&dir, OFlags::TMPFILE | OFlags::RDWR),
        ),
        ("mkdir", mkdirat(CWD, &new, mode)),
        ("mknod", mknodat(CWD, &new, FileType::Fifo, mode, 0)),
        ("symlink", symlinkat("target", CWD, &new)),
        ("link", linkat(CWD, &file, CWD, &new, none)),
        ("unlink", unlinkat(CWD, &file, none)),
        ("unlink a symlink", unlinkat(CWD, at("pkg/link"), none)),
        ("rmdir", unlinkat(CWD, &dir, AtFlags::REMOVEDIR)),
        ("rename", renameat(CWD, &file, CWD, &new)),
        (
            "exchange",
            renameat_with(CWD, &file, CWD, &dir, RenameFlags::EXCHANGE),
        ),
        ("chmod", chmodat(CWD, &file, mode, none)),
        (
            "chown",
            chownat(
                CWD,
                &file,
                Some(Uid::from_raw(1)),
                Some(Gid::from_raw(1)),
                none,
            ),
        ),
        ("utimens", utimensat(CWD, &file, &times, none)),
        (
            "setxattr",
            setxattr(&file, "user.name", b"value", XattrFlags::empty()),
        ),
        ("removexattr", removexattr(&file, "user.name")),
        (
            "truncate",
            nix::unistd::truncate(&file, 1).map_err(|e| Errno::from_raw_os_error(e as i32)),
        ),
    ]
}

#[test]
fn every_change_is_refused() {
    let fixture = fixture();
    for (what, result) in attempts(&fixture) {
        // This one needs a file system that can do it before it can be refused.
        let expected = match what {
            "open a nameless file" => [Errno::ROFS, Errno::OPNOTSUPP],
            _ => [Errno::ROFS, Errno::ROFS],
        };
        let error = result.expect_err(what);
        assert!(expected.contains(&error), "{what}: {error}");
    }
    assert_eq!(
        fixture.stats().of(Op::Modify),
        0,
        "the kernel knows by itself"
    );
}

/// The kernel opens files unasked on one of the data paths; it asks for what is
/// written, though.
#[test]
fn every_change_is_refused_by_a_mount_made_writable() {
    let fixture = fixture();
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount_remount(fixture.path(), flags, c"").expect("root may do so");
    let unasked = fixture.data_path == DataPath::Cached;
    for (what, result) in attempts(&fixture) {
        let expected = match what {
            "open for writing" | "open for both" if unasked => {
                result.expect(what);
                continue;
            }
            "open a nameless file" => [Errno::ROFS, Errno::OPNOTSUPP],
            _ => [Errno::ROFS, Errno::ROFS],
        };
        let error = result.expect_err(what);
        assert!(expected.contains(&error), "{what}: {error}");
    }
    assert!(fixture.stats().of(Op::Modify) > 10, "the server was asked");
    let path = fixture.at("pkg/file");
    let opened = File::options().read(true).write(true).open(&path);
    assert_eq!(opened.is_ok(), unasked);
    if let Ok(file) = opened {
        assert_eq!(rustix::io::write(&file, b"X"), Err(Errno::ROFS));
        assert_eq!(ftruncate(&file, 0), Err(Errno::ROFS));
        let result = fallocate(&file, FallocateFlags::empty(), 0, 10);
        assert!(result.is_err(), "it was allocated");
    }
    assert_eq!(fs::read(&path).expect("readable"), b"content");
}

#[test]
fn an_opened_file_is_not_written() {
    let fixture = fixture();
    let file = File::open(fixture.at("pkg/file")).expect("readable");
    assert_eq!(rustix::io::write(file.as_fd(), b"x"), Err(Errno::BADF));
    assert_eq!(ftruncate(file.as_fd(), 0), Err(Errno::INVAL));
    let result = fallocate(file.as_fd(), FallocateFlags::empty(), 0, 10);
    assert_eq!(result, Err(Errno::BADF));
}

#[test]
fn syncing_succeeds() {
    let fixture = fixture();
    for path in ["pkg/file", "pkg/dir", ""] {
        let file = File::open(fixture.at(path)).expect("readable");
        file.sync_all().expect("there is nothing to sync");
    }
}
