use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    process::Command,
    thread,
};

use castore::Node;
use store_fs::{
    core::Op,
    fuse::{DataPath, Readdirplus},
};

use super::{harness::*, tree::*};

/// Big enough to be a file in the store.
const BIG: usize = 300_000;

fn mount(store: Store, data_path: DataPath) -> Fixture {
    let config = Config {
        data_path,
        ..Config::default()
    };
    Fixture::mount(store, config)
}

fn passthrough(tree: &Tree) -> Fixture {
    let store = Store::default();
    store.add("pkg", tree);
    let fixture = mount(store, DataPath::Passthrough);
    let note = "the test needs Linux 6.9 with FUSE passthrough";
    assert_eq!(fixture.data_path, DataPath::Passthrough, "{note}");
    fixture
}

#[test]
fn it_is_chosen() {
    for (wanted, expected) in [
        (DataPath::Auto, DataPath::Cached),
        (DataPath::Cached, DataPath::Cached),
        (DataPath::Passthrough, DataPath::Passthrough),
    ] {
        let store = Store::default();
        store.add("pkg", &file("content"));
        let fixture = mount(store, wanted);
        assert_eq!(fixture.data_path, expected);
        assert_eq!(fs::read(fixture.at("pkg")).expect("readable"), b"content");
    }
}

#[test]
fn whole_files_are_not_read_by_requests() {
    let (big, small) = (bytes(BIG, 1), bytes(5000, 2));
    let fixture = passthrough(&dir([("big", file(&big)), ("small", file(&small))]));
    let read = |name| fs::read(fixture.at("pkg").join(name)).expect("readable");
    assert!(read("big") == big);
    assert_eq!(fixture.stats().of(Op::Read), 0);
    assert!(read("small") == small);
    assert_eq!(fixture.stats().of(Op::Read), 1);
}

#[test]
fn one_file_opened_many_times() {
    let content = bytes(BIG, 1);
    let fixture = passthrough(&dir([
        ("a", file(&content)),
        ("equal", file(&content)),
        ("run", executable(&content)),
    ]));
    thread::scope(|scope| {
        for reader in 0..8 {
            let (fixture, content) = (&fixture, &content);
            scope.spawn(move || {
                for round in 0..50 {
                    let name = ["a", "equal", "run"][(reader + round) % 3];
                    let file = File::open(fixture.at("pkg").join(name)).expect("it can be opened");
                    let mut buf = [0; 4096];
                    let offset = (round * 5000) % (BIG - 4096);
                    file.read_exact_at(&mut buf, offset as u64)
                        .expect("readable");
                    assert!(buf[..] == content[offset..][..4096]);
                }
            });
        }
    });
    assert_eq!(fixture.stats().of(Op::Read), 0);
}

#[test]
fn a_file_that_was_opened_otherwise() {
    let fixture = passthrough(&dir([("big", file(bytes(BIG, 1)))]));
    let Node::File { digest, .. } = fixture.store.put(&file(bytes(BIG, 1))) else {
        unreachable!("it is a file");
    };
    // While it is damaged there is no file to pass reads through to.
    fixture.store.blobs.damage(digest);
    let first = File::open(fixture.at("pkg/big")).expect("it can be opened");
    let mut buf = [0; 10];
    first.read_at(&mut buf, 0).expect_err("it is damaged");
    fixture.store.blobs.heal(digest);
    let second = File::open(fixture.at("pkg/big")).expect("it can be opened");
    for file in [&second, &first] {
        file.read_exact_at(&mut buf, 1000).expect("readable");
        assert!(buf[..] == bytes(BIG, 1)[1000..1010]);
    }
    drop((first, second));
    eventually("they are released", || fixture.stats().of(Op::Release) == 2);
    let before = fixture.stats().of(Op::Read);
    assert!(fs::read(fixture.at("pkg/big")).expect("readable") == bytes(BIG, 1));
    assert_eq!(fixture.stats().of(Op::Read), before, "passed through");
}

#[test]
fn programs_and_mappings() {
    let mut program = fs::read("/bin/true").expect("it is everywhere");
    program.resize(program.len().max(BIG), 0);
    let fixture = passthrough(&dir([("true", executable(&program))]));
    for _ in 0..3 {
        let status = Command::new(fixture.at("pkg/true")).status();
        assert!(status.expect("it can be run").success());
    }
    assert_eq!(fixture.stats().of(Op::Read), 0);
}

#[test]
fn equal_files_are_one_file_in_the_store() {
    let content = bytes(BIG, 1);
    let fixture = passthrough(&dir([("a", file(&content)), ("b", file(&content))]));
    let (a, b) = (fixture.at("pkg/a"), fixture.at("pkg/b"));
    let (a, b) = (File::open(a), File::open(b));
    let mut buf = [0; 10];
    for file in [a, b] {
        let file = file.expect("it can be opened");
        file.read_exact_at(&mut buf, 77).expect("readable");
        assert!(buf[..] == content[77..87]);
    }
}

/// Directories are opened unasked, so that the kernel would cache each listing
/// for good.
#[test]
fn a_listing_of_the_root_is_never_stale() {
    for readdirplus in [Readdirplus::Never, Readdirplus::Always, Readdirplus::Auto] {
        let store = Store::default();
        let node = store.put(&file("x"));
        let config = Config {
            readdirplus,
            ..Config::default()
        };
        let fixture = Fixture::mount(store, config);
        let count = || fs::read_dir(fixture.path()).expect("listable").count();
        for number in 0..600 {
            // Now and then twice, for the second would come from the cache.
            for _ in 0..=number % 2 {
                assert_eq!(count(), number, "{readdirplus:?}");
            }
            let name = format!("{number}-and-a-name-of-some-length");
            fixture.store.root.insert(name.as_bytes(), node.clone());
        }
    }
}

#[test]
fn listings_of_a_root_that_changes() {
    const BEFORE: usize = 1500;
    let store = Store::default();
    let node = store.put(&file("x"));
    let insert = |store: &Store, name: String| store.root.insert(name.as_bytes(), node.clone());
    for number in 0..BEFORE {
        insert(&store, format!("{:04}-before", (number * 7919) % BEFORE));
    }
    let fixture = Fixture::mount(store, Config::default());
    thread::scope(|scope| {
        let readers = (0..4).map(|_| {
            scope.spawn(|| {
                for _ in 0..20 {
                    let listed: Vec<_> = fs::read_dir(fixture.path())
                        .expect("it can be listed")
                        .map(|entry| entry.expect("an entry").file_name())
                        .collect();
                    let mut unique = listed.clone();
                    unique.sort();
                    unique.dedup();
                    assert_eq!(unique.len(), listed.len(), "a name twice");
                    let before =
                        |name: &&std::ffi::OsString| name.as_encoded_bytes().ends_with(b"-before");
                    assert_eq!(unique.iter().filter(before).count(), BEFORE);
                }
            })
        });
        let readers: Vec<_> = readers.collect();
        let mut number = 0;
        while readers.iter().any(|reader| !reader.is_finished()) {
            insert(
                &fixture.store,
                format!("{:04}-later-{number}", (number * 31) % BEFORE),
            );
            number += 1;
            thread::sleep(std::time::Duration::from_millis(1));
        }
    });
}
