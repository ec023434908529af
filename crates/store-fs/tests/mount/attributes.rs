use std::{
    fs,
    os::unix::fs::{DirEntryExt, MetadataExt, PermissionsExt},
    process::Command,
    time::{Duration, SystemTime},
};

use super::{harness::*, tree::*};

fn fixture() -> Fixture {
    Fixture::of(
        "pkg",
        &dir([
            ("data", file(bytes(1025, 1))),
            ("empty", file("")),
            ("run", executable("#!/bin/sh\n")),
            ("link", symlink("data")),
            (
                "sub",
                dir([("x", file("x")), ("deeper", dir([("y", file("y"))]))]),
            ),
        ]),
    )
}

const ALL: [&str; 8] = [
    "",
    "pkg",
    "pkg/data",
    "pkg/empty",
    "pkg/run",
    "pkg/link",
    "pkg/sub",
    "pkg/sub/x",
];

fn metadata(fixture: &Fixture, path: &str) -> fs::Metadata {
    fs::symlink_metadata(fixture.at(path)).expect("it exists")
}

#[test]
fn modes() {
    let fixture = fixture();
    let mode = |path| metadata(&fixture, path).mode();
    assert_eq!(mode("pkg/data"), 0o100_444);
    assert_eq!(mode("pkg/run"), 0o100_555);
    assert_eq!(mode("pkg/sub"), 0o040_555);
    assert_eq!(mode("pkg/link"), 0o120_777);
    assert_eq!(mode(""), 0o040_555);
}

#[test]
fn owner() {
    let fixture = fixture();
    for path in ALL {
        let metadata = metadata(&fixture, path);
        assert_eq!((metadata.uid(), metadata.gid()), (0, 0), "{path}");
    }
}

#[test]
fn times_are_one_second() {
    let fixture = fixture();
    for path in &ALL[1..] {
        let m = metadata(&fixture, path);
        assert_eq!((m.mtime(), m.mtime_nsec()), (1, 0), "{path}");
        assert_eq!((m.ctime(), m.atime()), (1, 1), "{path}");
    }
}

#[test]
fn root_time_moves() {
    let fixture = fixture();
    let time = || metadata(&fixture, "").modified().expect("a time");
    let before = time();
    assert!(before >= SystemTime::UNIX_EPOCH + Duration::from_secs(1));
    fixture.store.add("another", &file("x"));
    eventually("the root's time moved", || time() > before);
}

#[test]
fn sizes() {
    let fixture = fixture();
    let size = |path| metadata(&fixture, path).len();
    assert_eq!(size("pkg/data"), 1025);
    assert_eq!(size("pkg/empty"), 0);
    assert_eq!(size("pkg/link"), 4);
}

#[test]
fn blocks() {
    let fixture = fixture();
    let blocks = |path| metadata(&fixture, path).blocks();
    assert_eq!(blocks("pkg/data"), 3);
    assert_eq!(blocks("pkg/empty"), 0);
    assert_eq!(blocks("pkg/run"), 1);
    assert_eq!(blocks("pkg/sub"), 0);
    assert_eq!(metadata(&fixture, "pkg/data").blksize(), 4096);
}

#[test]
fn one_link() {
    let fixture = fixture();
    for path in ALL {
        assert_eq!(metadata(&fixture, path).nlink(), 1, "{path}");
    }
    // `find` takes a directory with fewer than two links to have any number of
    // subdirectories.
    let find = Command::new("find")
        .arg(fixture.path())
        .args(["-type", "d", "-printf", "%P\n"])
        .output()
        .expect("find runs");
    let found = String::from_utf8(find.stdout).expect("names");
    let mut found: Vec<_> = found.lines().collect();
    found.sort_unstable();
    assert_eq!(found, ["", "pkg", "pkg/sub", "pkg/sub/deeper"]);
}

#[test]
fn listings_give_the_same_inode_numbers() {
    let fixture = fixture();
    for path in ["", "pkg", "pkg/sub"] {
        for entry in fs::read_dir(fixture.at(path)).expect("readable") {
            let entry = entry.expect("an entry");
            let (ino, mode) = stat(entry.path());
            assert_eq!(entry.ino(), ino, "{entry:?}");
            let listed = entry.file_type().expect("a type");
            let of_mode = fs::symlink_metadata(entry.path())
                .expect("it exists")
                .file_type();
            assert_eq!(listed, of_mode, "{entry:?} {mode:o}");
        }
    }
}

#[test]
fn executables_run() {
    let fixture = Fixture::of(
        "pkg",
        &dir([("run", executable("#!/bin/sh\necho it ran\n"))]),
    );
    let run = Command::new(fixture.at("pkg/run"))
        .output()
        .expect("it can be run");
    assert_eq!(run.stdout, b"it ran\n");
    let mode = fs::metadata(fixture.at("pkg/run"))
        .expect("it exists")
        .permissions();
    assert_eq!(mode.mode() & 0o222, 0);
}
