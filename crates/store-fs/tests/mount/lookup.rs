use std::{fs, io, path::Path, time::Instant};

use store_fs::core::Op;

use super::{harness::*, tree::*};

fn fixture() -> Fixture {
    Fixture::of(
        "pkg",
        &dir([("a", dir([("b", file("content"))])), ("c", file("other"))]),
    )
}

fn errno(path: impl AsRef<Path>) -> Option<i32> {
    fs::symlink_metadata(path)
        .err()
        .and_then(|error| error.raw_os_error())
}

#[test]
fn names_resolve() {
    let fixture = fixture();
    assert_eq!(
        fs::read(fixture.at("pkg/a/b")).expect("readable"),
        b"content"
    );
    assert_eq!(fs::read(fixture.at("pkg/c")).expect("readable"), b"other");
    assert_eq!(
        fs::read(fixture.at("pkg/a/../c")).expect("readable"),
        b"other"
    );
}

#[test]
fn missing_names() {
    let fixture = fixture();
    for path in [
        "nothing", "pk", "pkg2", "pkg/b", "pkg/a/bb", "pkg/a/", "pkg/c/",
    ] {
        let expected = match path {
            "pkg/a/" => None,
            "pkg/c/" => Some(libc::ENOTDIR),
            _ => Some(libc::ENOENT),
        };
        assert_eq!(errno(fixture.at(path)), expected, "{path}");
    }
}

#[test]
fn a_missing_name_in_the_store_is_asked_once() {
    let lock = CacheLock::shared();
    let fixture = fixture();
    for directory in ["pkg", "pkg/a"] {
        let path = fixture.at(directory).join("missing");
        stat(fixture.at(directory));
        assert_eq!(
            fixture.requests(Op::Lookup, || errno(&path)),
            (1, Some(libc::ENOENT))
        );
        assert_eq!(
            fixture.requests(Op::Lookup, || errno(&path)),
            (0, Some(libc::ENOENT))
        );
    }
    drop(lock);
}

#[test]
fn what_was_found_is_not_asked_again() {
    let lock = CacheLock::shared();
    let fixture = fixture();
    let path = fixture.at("pkg/a/b");
    stat(&path);
    let before = fixture.stats().requests();
    let begin = Instant::now();
    for _ in 0..10 {
        stat(&path);
    }
    // The root's own attributes are asked for each second.
    let asked = fixture.stats().requests() - before;
    assert!(asked <= 1 + begin.elapsed().as_secs(), "{asked} requests");
    drop(lock);
}

#[test]
fn a_missing_name_in_the_root_is_asked_each_time() {
    let fixture = fixture();
    let path = fixture.at("missing");
    for _ in 0..3 {
        assert_eq!(
            fixture.requests(Op::Lookup, || errno(&path)),
            (1, Some(libc::ENOENT))
        );
    }
}

#[test]
fn a_path_that_is_added_appears() {
    let fixture = fixture();
    let path = fixture.at("later");
    assert_eq!(errno(&path), Some(libc::ENOENT));
    fixture.store.add("later", &file("here"));
    assert_eq!(fs::read(&path).expect("it is there now"), b"here");
}

#[test]
fn names_that_are_too_long() {
    let fixture = fixture();
    let name = "n".repeat(256);
    assert_eq!(errno(fixture.path().join(&name)), Some(libc::ENAMETOOLONG));
    assert_eq!(
        errno(fixture.at("pkg").join(&name)),
        Some(libc::ENAMETOOLONG)
    );
    let longest = "n".repeat(255);
    assert_eq!(errno(fixture.at("pkg").join(longest)), Some(libc::ENOENT));
}

#[test]
fn files_and_symlinks_at_the_top() {
    let store = Store::default();
    store.add("file", &file("a file"));
    store.add("run", &executable("#!/bin/sh\n"));
    store.add("link", &symlink("file"));
    let fixture = Fixture::mount(store, Config::default());
    assert_eq!(fs::read(fixture.at("file")).expect("readable"), b"a file");
    assert_eq!(fs::read(fixture.at("link")).expect("readable"), b"a file");
    assert_eq!(stat(fixture.at("run")).1, 0o100_555);
    assert_eq!(
        fs::read(fixture.at("file/x"))
            .expect_err("no directory")
            .kind(),
        io::ErrorKind::NotADirectory
    );
}

#[test]
fn names_need_not_be_text() {
    let name = b"\xff\xfe\n'\"\\";
    let fixture = Fixture::of("pkg", &dir([(name, file("odd"))]));
    let name = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name);
    assert_eq!(
        fs::read(fixture.at("pkg").join(name)).expect("readable"),
        b"odd"
    );
}
