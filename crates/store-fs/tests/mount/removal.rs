//! Entries of the root that are removed.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use rustix::{
    fs::{Mode, OFlags, openat},
    mount::{MountFlags, mount},
};

use super::{harness::*, overlay::Overlay, tree::*};

fn fixture() -> Fixture {
    let fixture = Fixture::of(
        "pkg",
        &dir([("a", dir([("b", file("content"))])), ("c", file("other"))]),
    );
    fixture.store.add("stays", &file("stays"));
    fixture
}

fn listing(path: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(path).expect("it is listed");
    let name = |entry: io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    entries
        .map(|it| name(it).into_string().expect("text"))
        .collect()
}

fn is_gone(path: &Path) -> bool {
    let found = fs::symlink_metadata(path);
    found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[test]
fn an_entry_that_is_removed_is_gone() {
    let fixture = fixture();
    let path = fixture.at("pkg");
    stat(&path);
    assert_eq!(fs::read(path.join("a/b")).expect("readable"), b"content");
    assert_eq!(listing(fixture.path()).len(), 2);
    fixture.remove("pkg");
    assert!(is_gone(&path) && is_gone(&path.join("a/b")));
    assert_eq!(
        listing(fixture.path()),
        BTreeSet::from(["stays".to_owned()])
    );
    assert_eq!(fs::read(fixture.at("stays")).expect("readable"), b"stays");
    // One that nobody looked at, or that never was.
    fixture.store.add("unseen", &file("x"));
    fixture.remove("unseen");
    fixture.remove("never");
}

#[test]
fn an_entry_that_comes_back_is_there_at_once() {
    let fixture = fixture();
    let path = fixture.at("pkg");
    for round in 0..3 {
        let content = format!("round {round}");
        fixture.store.add("pkg", &dir([("x", file(&content))]));
        assert_eq!(
            fs::read(path.join("x")).expect("readable"),
            content.as_bytes()
        );
        // Who uses the one before does not keep it.
        let _used = File::open(&path).expect("it is opened");
        fixture.remove("pkg");
        assert!(is_gone(&path));
    }
}

#[test]
fn who_uses_a_removed_entry_goes_on() {
    let fixture = fixture();
    let directory = File::open(fixture.at("pkg")).expect("it is opened");
    let open = File::open(fixture.at("pkg/c")).expect("it is opened");
    fixture.remove("pkg");
    assert!(is_gone(&fixture.at("pkg")));
    let mut content = [0; 5];
    open.read_exact_at(&mut content, 0).expect("it is read");
    assert_eq!(&content, b"other");
    // Also what was not looked at before.
    let below = openat(&directory, "a/b", OFlags::RDONLY, Mode::empty());
    let below = File::from(below.expect("it is found"));
    let mut content = [0; 7];
    below.read_exact_at(&mut content, 0).expect("it is read");
    assert_eq!(&content, b"content");
}

#[test]
fn entries_are_removed_while_the_root_is_used() {
    let fixture = fixture();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    assert!(listing(fixture.path()).contains("stays"));
                    match fs::read(fixture.at("comes-and-goes/x")) {
                        Ok(content) => assert_eq!(content, b"x"),
                        Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound),
                    }
                    assert_eq!(fs::read(fixture.at("stays")).expect("readable"), b"stays");
                }
            });
        }
        for _ in 0..200 {
            fixture
                .store
                .add("comes-and-goes", &dir([("x", file("x"))]));
            assert_eq!(
                fs::read(fixture.at("comes-and-goes/x")).expect("readable"),
                b"x"
            );
            fixture.remove("comes-and-goes");
            assert!(is_gone(&fixture.at("comes-and-goes")));
        }
        done.store(true, Relaxed);
    });
}

#[test]
fn what_is_mounted_below_is_unmounted() {
    let fixture = fixture();
    let below = fixture.at("pkg/a");
    mount("tmpfs", &below, "tmpfs", MountFlags::empty(), c"mode=755").expect("root may");
    let is_mounted = || {
        let table = fs::read_to_string("/proc/self/mountinfo").expect("readable");
        table.contains(&format!(" {} ", below.display()))
    };
    assert!(is_mounted());
    fixture.remove("pkg");
    assert!(!is_mounted());
}

#[test]
fn a_removed_entry_is_no_more_above_an_overlay() {
    let lock = CacheLock::exclusive();
    let fixture = fixture();
    let overlay = Overlay::over(fixture.path());
    assert_eq!(
        fs::read(overlay.at("pkg/a/b")).expect("readable"),
        b"content"
    );
    let open = File::open(overlay.at("pkg/c")).expect("it is opened");
    fixture.remove("pkg");
    // What overlayfs had looked up is stale until it forgets it.
    let errno = |path: &str| {
        let error = fs::symlink_metadata(overlay.at(path)).expect_err("it is gone");
        error.raw_os_error().expect("a number")
    };
    for path in ["pkg", "pkg/a/b"] {
        assert!(
            [libc::ESTALE, libc::ENOENT].contains(&errno(path)),
            "{path}"
        );
    }
    let mut content = [0; 5];
    open.read_exact_at(&mut content, 0).expect("it is read");
    assert_eq!(&content, b"other");
    drop(open);
    lock.drop_caches();
    assert_eq!(errno("pkg"), libc::ENOENT);
    assert_eq!(fs::read(overlay.at("stays")).expect("readable"), b"stays");
}
