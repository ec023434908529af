use std::{
    fs,
    os::unix::fs::MetadataExt,
    process::{Child, Command, Stdio},
};

use super::{harness::*, tree::*};

fn fixture() -> Fixture {
    let twin = dir([("bin", dir([("f", file("same"))])), ("g", file("same"))]);
    let store = Store::default();
    store.add("a", &dir([("x", twin.clone()), ("y", twin.clone())]));
    store.add("b", &dir([("x", twin), ("run", executable("same"))]));
    Fixture::mount(store, Config::default())
}

struct Sleeper(Child);

impl Sleeper {
    fn in_directory(path: &std::path::Path) -> Self {
        let mut command = Command::new("sleep");
        command.arg("60").current_dir(path).stdin(Stdio::null());
        Self(command.spawn().expect("sleep runs"))
    }

    fn directory(&self) -> std::path::PathBuf {
        fs::read_link(format!("/proc/{}/cwd", self.0.id())).expect("it has one")
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_working_directory_stays() {
    let fixture = fixture();
    let twins = ["a/x/bin", "a/y/bin", "b/x/bin"].map(|path| fixture.at(path));
    let sleepers = twins.each_ref().map(|twin| Sleeper::in_directory(twin));
    for _ in 0..10 {
        for (twin, sleeper) in twins.iter().zip(&sleepers) {
            for other in &twins {
                stat(other);
                stat(other.join("f"));
            }
            assert_eq!(sleeper.directory(), *twin);
        }
    }
}

#[test]
fn equal_directories_are_different_inodes() {
    let fixture = fixture();
    let mut inos: Vec<_> = ["a/x", "a/y", "b/x", "a/x/bin", "a/y/bin", "b/x/bin"]
        .map(|path| stat(fixture.at(path)).0)
        .to_vec();
    inos.sort_unstable();
    inos.dedup();
    assert_eq!(inos.len(), 6);
}

#[test]
fn equal_files_share_an_inode() {
    let fixture = fixture();
    let (ino, _) = stat(fixture.at("a/x/g"));
    for path in ["a/x/bin/f", "a/y/g", "b/x/bin/f"] {
        assert_eq!(stat(fixture.at(path)).0, ino, "{path}");
    }
}

#[test]
fn equal_files_share_the_page_cache() {
    let lock = CacheLock::shared();
    let content = bytes(300_000, 7);
    let fixture = Fixture::of("pkg", &dir([("a", file(&content)), ("b", file(&content))]));
    assert_eq!(fs::read(fixture.at("pkg/a")).expect("readable"), content);
    let read = fixture.stats().bytes_read;
    assert_eq!(fs::read(fixture.at("pkg/b")).expect("readable"), content);
    assert_eq!(fixture.stats().bytes_read, read);
    drop(lock);
}

#[test]
fn equal_bytes_with_another_executable_bit_are_another_inode() {
    let fixture = fixture();
    let (ino, mode) = stat(fixture.at("a/x/g"));
    let (twin, executable) = stat(fixture.at("b/run"));
    assert_eq!((mode, executable), (0o100_444, 0o100_555));
    assert_ne!(ino, twin);
    assert_eq!(fs::read(fixture.at("b/run")).expect("readable"), b"same");
}

#[test]
fn inode_numbers_are_the_same_after_a_remount() {
    let numbers = || {
        let fixture = fixture();
        let paths = ["", "a", "a/x", "a/y", "a/x/bin", "a/x/bin/f", "b/run"];
        paths.map(|path| fs::metadata(fixture.at(path)).expect("it exists").ino())
    };
    let first = numbers();
    assert_eq!(first, numbers());
    assert!(first.iter().all(|ino| *ino != 0 && *ino < 1 << 63));
}
