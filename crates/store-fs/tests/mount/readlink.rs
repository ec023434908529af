use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt};

use castore::Node;
use store_fs::core::Op;

use super::{harness::*, tree::*};

#[test]
fn targets() {
    let longest = vec![b't'; Node::MAX_TARGET_LEN];
    let targets: [(&str, &[u8]); 5] = [
        ("relative", b"../x"),
        ("absolute", b"/nix/store/nothing"),
        ("odd", b"\xff\n"),
        ("slashes", b"//a//"),
        ("longest", &longest),
    ];
    let tree = dir(targets.map(|(name, target)| (name, symlink(target))));
    let store = Store::default();
    store.add("pkg", &tree);
    store.add("top", &symlink("pkg/relative"));
    let fixture = Fixture::mount(store, Config::default());
    for (name, target) in targets {
        let path = fixture.at("pkg").join(name);
        assert_eq!(
            fs::read_link(&path).expect("a symlink"),
            OsStr::from_bytes(target)
        );
        let size = fs::symlink_metadata(&path).expect("it exists").len();
        assert_eq!(size, target.len() as u64);
    }
    let top = fs::read_link(fixture.at("top")).expect("a symlink");
    assert_eq!(top, OsStr::new("pkg/relative"));
}

#[test]
fn targets_are_asked_once() {
    let lock = CacheLock::shared();
    let fixture = Fixture::of("pkg", &dir([("link", symlink("target"))]));
    let read = || fs::read_link(fixture.at("pkg/link")).expect("a symlink");
    assert_eq!(fixture.requests(Op::Readlink, read).0, 1);
    assert_eq!(fixture.requests(Op::Readlink, read).0, 0);
    drop(lock);
}

#[test]
fn what_is_no_symlink() {
    let fixture = Fixture::of("pkg", &dir([("file", file("x"))]));
    for path in ["", "pkg", "pkg/file"] {
        let error = fs::read_link(fixture.at(path)).expect_err("no symlink");
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{path}");
    }
}
