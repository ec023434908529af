use std::{
    collections::BTreeSet,
    ffi::{CString, OsString},
    fs::{self, File},
    path::Path,
};

use rustix::fs::{Dir, RawDir, SeekFrom, seek};
use store_fs::{
    Options,
    core::{Counters, Op},
    fuse::Readdirplus,
};

use super::{harness::*, tree::*};

const BOTH: [Readdirplus; 2] = [Readdirplus::Never, Readdirplus::Always];

fn names(path: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(path).expect("it can be listed");
    entries
        .map(|entry| entry.expect("an entry").file_name())
        .collect()
}

/// Checks that every name is listed exactly once.
fn assert_all(listed: &[OsString], count: usize) {
    assert_eq!(listed.len(), count);
    let unique: BTreeSet<_> = listed.iter().collect();
    assert_eq!(unique.len(), count);
    for number in 0..count {
        assert!(
            unique.contains(&OsString::from(format!("name-{number}"))),
            "{number}"
        );
    }
}

fn mount(store: Store, readdirplus: Readdirplus) -> Fixture {
    let config = Config {
        readdirplus,
        ..Config::default()
    };
    Fixture::mount(store, config)
}

fn used(stats: &Counters) -> (bool, bool) {
    (stats.of(Op::Readdir) > 0, stats.of(Op::Readdirplus) > 0)
}

#[test]
fn a_hundred_thousand_names() {
    const COUNT: usize = 100_000;
    let big = dir((0..COUNT).map(|number| {
        let tree = match number % 3 {
            0 => file(number.to_string()),
            1 => symlink("x"),
            _ => dir([("x", file("x"))]),
        };
        (format!("name-{number}"), tree)
    }));
    for readdirplus in BOTH {
        let store = Store::default();
        store.add("pkg", &big);
        let fixture = mount(store, readdirplus);
        assert_all(&names(&fixture.at("pkg")), COUNT);
        let plus = readdirplus == Readdirplus::Always;
        assert_eq!(used(&fixture.stats()), (!plus, plus));
    }
}

#[test]
fn a_root_of_twenty_thousand_paths() {
    const COUNT: usize = 20_000;
    for readdirplus in BOTH {
        let store = Store::default();
        let node = store.put(&dir([("x", file("x"))]));
        for number in 0..COUNT {
            store
                .root
                .insert(format!("name-{number}").as_bytes(), node.clone());
        }
        let fixture = mount(store, readdirplus);
        assert_all(&names(fixture.path()), COUNT);
        assert_all(&names(fixture.path()), COUNT);
        let plus = readdirplus == Readdirplus::Always;
        assert_eq!(used(&fixture.stats()), (!plus, plus));
    }
}

#[test]
fn dots_are_listed() {
    let fixture = Fixture::of("pkg", &dir([("sub", dir([("x", file("x"))]))]));
    for (path, parent) in [("", ""), ("pkg", ""), ("pkg/sub", "pkg")] {
        let directory = File::open(fixture.at(path)).expect("it can be opened");
        let dots: Vec<_> = Dir::read_from(directory)
            .expect("it can be listed")
            .map(|entry| entry.expect("an entry"))
            .filter(|entry| entry.file_name().to_bytes().starts_with(b"."))
            .map(|entry| (entry.file_name().to_owned(), entry.ino()))
            .collect();
        let expected = [(c".", path), (c"..", parent)];
        let expected = expected.map(|(name, at)| (name.to_owned(), stat(fixture.at(at)).0));
        assert_eq!(dots, expected, "{path}");
    }
}

#[test]
fn a_listing_continues_anywhere() {
    const COUNT: u64 = 2000;
    let entries = (0..COUNT).map(|number| (format!("name-{number:04}"), file("x")));
    let fixture = Fixture::of("pkg", &dir(entries));
    let directory = File::open(fixture.at("pkg")).expect("it can be opened");
    // Small, so that a listing takes many calls.
    let mut space = [std::mem::MaybeUninit::uninit(); 512];
    for start in [0, 1, 2, 3, 700, COUNT + 1, COUNT + 2, COUNT + 50] {
        seek(&directory, SeekFrom::Start(start)).expect("any offset will do");
        let mut listed = Vec::new();
        let mut lines = RawDir::new(&directory, &mut space);
        while let Some(line) = lines.next() {
            listed.push(line.expect("an entry").file_name().to_bytes().to_vec());
        }
        let all = [b".".to_vec(), b"..".to_vec()].into_iter();
        let all = all.chain((0..COUNT).map(|number| format!("name-{number:04}").into_bytes()));
        let expected: Vec<_> = all.skip(start as usize).collect();
        assert_eq!(listed, expected, "from {start}");
    }
}

#[test]
fn a_listing_of_the_root_while_it_changes() {
    const COUNT: usize = 3000;
    let store = Store::default();
    let node = store.put(&file("x"));
    for number in 0..COUNT {
        store
            .root
            .insert(format!("name-{number}").as_bytes(), node.clone());
    }
    let fixture = Fixture::mount(store, Config::default());
    let mut directory = Dir::read_from(File::open(fixture.path()).expect("it can be opened"))
        .expect("it can be listed");
    let mut listed = Vec::new();
    let mut added = 0;
    while let Some(entry) = directory.read() {
        listed.push(entry.expect("an entry").file_name().to_owned());
        // Now before and now behind what was listed.
        if added < COUNT {
            let name = format!("later-{added}");
            fixture.store.root.insert(name.as_bytes(), node.clone());
            added += 1;
        }
    }
    let old = |name: &&CString| !name.as_bytes().starts_with(b"later-");
    assert_eq!(listed.iter().filter(old).count(), COUNT + 2);
    let count = listed.len();
    listed.sort();
    listed.dedup();
    assert_eq!(listed.len(), count, "a name twice");
    directory.rewind();
    let mut again = 0;
    while let Some(entry) = directory.read() {
        entry.expect("an entry");
        again += 1;
    }
    assert_eq!(
        again,
        COUNT + added + 2,
        "what was added is listed from then on"
    );
}

#[test]
fn a_listing_in_the_store_is_asked_once() {
    let lock = CacheLock::shared();
    let fixture = Fixture::of(
        "pkg",
        &dir((0..500).map(|n| (format!("name-{n}"), file("x")))),
    );
    assert_all(&names(&fixture.at("pkg")), 500);
    let listings = |stats: Counters| stats.of(Op::Readdir) + stats.of(Op::Readdirplus);
    let before = listings(fixture.stats());
    assert_all(&names(&fixture.at("pkg")), 500);
    assert_eq!(listings(fixture.stats()), before);
    drop(lock);
}

#[test]
fn a_listing_of_the_root_shows_what_was_added() {
    let fixture = Fixture::of("a", &file("x"));
    assert_eq!(names(fixture.path()), ["a"]);
    fixture.store.add("b", &file("x"));
    let mut both = names(fixture.path());
    both.sort();
    assert_eq!(both, ["a", "b"]);
}

#[test]
fn a_root_that_is_not_listed() {
    let store = Store::default();
    store.add("pkg", &dir([("x", file("content"))]));
    let options = Options {
        list_root: false,
        ..Options::default()
    };
    let config = Config {
        options,
        ..Config::default()
    };
    let fixture = Fixture::mount(store, config);
    let mut listing = fs::read_dir(fixture.path()).expect("it can be opened");
    let error = listing.next().expect("an answer").expect_err("no entry");
    assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    assert_eq!(fs::read(fixture.at("pkg/x")).expect("readable"), b"content");
    assert_eq!(names(&fixture.at("pkg")), ["x"]);
}

#[test]
fn an_empty_directory() {
    let fixture = Fixture::of("pkg", &dir([("empty", dir::<&str>([]))]));
    assert!(names(&fixture.at("pkg/empty")).is_empty());
}
