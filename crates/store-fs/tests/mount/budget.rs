//! How many requests the kernel sends for what programs do, exactly: one more
//! would be seen nowhere else but in a benchmark.
//!
//! Everything happens in a directory that is open, so that no path leads
//! through the root: its attributes are asked for once a second.

use std::{
    fs::{self, File},
    io::Read,
    ops::RangeInclusive,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::Command,
};

use store_fs::{
    core::{Counters, Op},
    fuse::DataPath,
};

use super::{harness::*, tree::*};

const BOTH: [DataPath; 2] = [DataPath::Cached, DataPath::Passthrough];
const FILES: usize = 100;
/// Reads ahead grow with each other.
const SEQUENTIAL_READS: RangeInclusive<u64> = 8..=10;

/// A mounted package, of which nothing but its directory was looked at.
struct Package {
    fixture: Fixture,
    path: PathBuf,
    _directory: File,
    _lock: CacheLock,
}

impl Package {
    fn mount(tree: &Tree, data_path: DataPath) -> Self {
        let lock = CacheLock::shared();
        let store = Store::default();
        store.add("pkg", tree);
        let config = Config {
            data_path,
            ..Config::default()
        };
        let fixture = Fixture::mount(store, config);
        assert_eq!(fixture.data_path, data_path, "it cannot be had");
        let directory = File::open(fixture.at("pkg")).expect("it can be opened");
        Self {
            path: format!("/proc/self/fd/{}", directory.as_raw_fd()).into(),
            fixture,
            _directory: directory,
            _lock: lock,
        }
    }

    /// The requests that `act` causes, by kind. Those that follow a close come
    /// after it; there are to be as many RELEASEs as OPENs.
    #[track_caller]
    fn assert<T>(&self, what: &str, budget: &[(Op, RangeInclusive<u64>)], act: impl FnOnce() -> T) {
        let before = self.fixture.stats();
        act();
        let spent = |stats: &Counters, op| stats.of(op) - before.of(op);
        eventually("what was opened is released", || {
            let now = self.fixture.stats();
            spent(&now, Op::Open) == spent(&now, Op::Release)
        });
        let now = self.fixture.stats();
        for op in OPS {
            let expected = budget.iter().find(|(of, _)| *of == op);
            let expected = expected.map_or(0..=0, |(_, range)| range.clone());
            let spent = spent(&now, op);
            let path = self.fixture.data_path;
            assert!(
                expected.contains(&spent),
                "{what}, {path}: {spent} of {op:?}, not {expected:?}"
            );
        }
    }

    /// The kernel asks what it can do without, once.
    fn warm_up(&self) {
        fs::read(self.path.join("warm")).expect("readable");
        fs::read_dir(self.path.join("sub")).expect("it can be listed");
        eventually("what was opened is released", || {
            let now = self.fixture.stats();
            now.of(Op::Release) == now.of(Op::Open) || self.fixture.data_path == DataPath::Cached
        });
    }

    /// Opens and releases of `count` files, where they are requests.
    fn opens(&self, count: u64) -> [(Op, RangeInclusive<u64>); 2] {
        let count = match self.fixture.data_path {
            DataPath::Passthrough => count,
            _ => 0,
        };
        [(Op::Open, count..=count), (Op::Release, count..=count)]
    }
}

/// All but FORGET, which comes when the kernel pleases.
const OPS: [Op; 15] = [
    Op::Lookup,
    Op::Getattr,
    Op::Readlink,
    Op::Open,
    Op::Read,
    Op::Flush,
    Op::Release,
    Op::Opendir,
    Op::Readdir,
    Op::Readdirplus,
    Op::Releasedir,
    Op::Statfs,
    Op::Getxattr,
    Op::Listxattr,
    Op::Modify,
];

fn package(entries: impl IntoIterator<Item = (String, Tree)>) -> Tree {
    let small = (0..FILES).map(|n| (format!("name-{n:03}"), file(format!("content {n}"))));
    let common = [
        ("warm".to_owned(), file("warm")),
        ("sub".to_owned(), dir([("x", file("x"))])),
        ("files".to_owned(), dir(small)),
    ];
    dir(common.into_iter().chain(entries))
}

fn names() -> impl Iterator<Item = String> {
    (0..FILES).map(|n| format!("name-{n:03}"))
}

fn read(path: &Path) {
    let mut buf = [0; 4096];
    let len = File::open(path).and_then(|mut file| file.read(&mut buf));
    assert!(len.expect("readable") > 0);
}

#[test]
fn listing_with_attributes() {
    for data_path in BOTH {
        let package = Package::mount(&package([]), data_path);
        package.warm_up();
        let list = || {
            let listed = fs::read_dir(package.path.join("files")).expect("it can be listed");
            let count = listed.map(|entry| stat(entry.expect("an entry").path()));
            assert_eq!(count.count(), FILES);
        };
        // Before Linux 6.16 a reply has no more than a page.
        let budget = [(Op::Lookup, 1..=1), (Op::Readdirplus, 2..=6)];
        package.assert("ls -l, cold", &budget, list);
        package.assert("ls -l, warm", &[], list);
    }
}

/// As `find -ls` does: each directory is listed to its end before anything in
/// it is looked at. More files than one reply has.
#[test]
fn walking_a_tree() {
    const DIRECTORIES: u64 = 5;
    let files = || (0..400).map(|n| (format!("a-longer-name-{n:03}"), file(format!("{n}"))));
    let tree = dir((0..DIRECTORIES).map(|n| (format!("dir-{n}"), dir(files()))));
    for data_path in BOTH {
        let package = Package::mount(&package([("tree".to_owned(), tree.clone())]), data_path);
        package.warm_up();
        let walk = || {
            let mut dirs = vec![package.path.join("tree")];
            let mut count = 0;
            while let Some(dir) = dirs.pop() {
                let listed = fs::read_dir(dir).expect("it can be listed");
                for entry in listed.collect::<Vec<_>>() {
                    let path = entry.expect("an entry").path();
                    let metadata = fs::symlink_metadata(&path).expect("it is there");
                    if metadata.is_dir() {
                        dirs.push(path);
                    }
                    count += 1;
                }
            }
            assert_eq!(count, DIRECTORIES * 401);
        };
        // Replies of 32 KiB, and of a page before Linux 6.16.
        let listings = 2 + DIRECTORIES * 4..=2 + DIRECTORIES * 24;
        let budget = [(Op::Lookup, 1..=1), (Op::Readdirplus, listings)];
        package.assert("a walk, cold", &budget, walk);
        package.assert("a walk, warm", &[], walk);
    }
}

#[test]
fn reading_one_file_over_and_over() {
    for data_path in BOTH {
        let package = Package::mount(&package([]), data_path);
        package.warm_up();
        let path = package.path.join("files/name-007");
        let read = || (0..100).for_each(|_| read(&path));
        let [open, release] = package.opens(100);
        let budget = [
            (Op::Lookup, 2..=2),
            (Op::Read, 1..=1),
            open.clone(),
            release.clone(),
        ];
        package.assert("one file, cold", &budget, read);
        package.assert("one file, warm", &[open, release], read);
    }
}

#[test]
fn reading_many_files() {
    const COUNT: u64 = FILES as u64;
    for data_path in BOTH {
        let package = Package::mount(&package([]), data_path);
        package.warm_up();
        let path = package.path.join("files");
        let read = || names().for_each(|name| read(&path.join(name)));
        let [open, release] = package.opens(COUNT);
        let budget = [
            (Op::Lookup, COUNT + 1..=COUNT + 1),
            (Op::Read, COUNT..=COUNT),
            open.clone(),
            release.clone(),
        ];
        package.assert("many files, cold", &budget, read);
        package.assert("many files, warm", &[open, release], read);
    }
}

#[test]
fn reading_a_big_file() {
    const LEN: usize = 8 << 20;
    for data_path in BOTH {
        let tree = package([("big".to_owned(), file(bytes(LEN, 3)))]);
        let package = Package::mount(&tree, data_path);
        package.warm_up();
        let path = package.path.join("big");
        let read = || assert_eq!(fs::read(&path).expect("readable").len(), LEN);
        let [open, release] = package.opens(1);
        let mut budget = vec![(Op::Lookup, 1..=1), open.clone(), release.clone()];
        if data_path == DataPath::Cached {
            budget.push((Op::Read, SEQUENTIAL_READS));
        }
        package.assert("8 MiB, cold", &budget, read);
        package.assert("8 MiB, warm", &[open, release], read);
    }
}

#[test]
fn running_a_program() {
    let program = fs::read("/bin/true").expect("it is everywhere");
    for data_path in BOTH {
        let tree = package([("true".to_owned(), executable(&program))]);
        let package = Package::mount(&tree, data_path);
        package.warm_up();
        let path = package.path.join("true");
        let run = || {
            let status = Command::new(&path).status().expect("it can be run");
            assert!(status.success());
        };
        let [open, release] = package.opens(1);
        let budget = [
            (Op::Lookup, 1..=1),
            // Its beginning, and as its pages are touched.
            (Op::Read, 1..=2),
            open.clone(),
            release.clone(),
        ];
        package.assert("exec, cold", &budget, run);
        package.assert("exec, warm", &[open, release], run);
    }
}

#[test]
fn missing_names() {
    const COUNT: u64 = FILES as u64;
    for data_path in BOTH {
        let package = Package::mount(&package([]), data_path);
        package.warm_up();
        let path = package.path.join("sub");
        let look = || names().for_each(|name| assert!(!path.join(name).exists()));
        // The directory itself was looked up before.
        package.assert("missing, first", &[(Op::Lookup, COUNT..=COUNT)], look);
        package.assert("missing, again", &[], look);
    }
}

#[test]
fn a_working_directory() {
    for data_path in BOTH {
        let package = Package::mount(&package([]), data_path);
        package.warm_up();
        let pwd = || {
            let output = Command::new("/bin/pwd")
                .arg("-P")
                .current_dir(package.path.join("sub"))
                .output()
                .expect("it can be run");
            let expected = package.fixture.at("pkg/sub").canonicalize();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(Path::new(said.trim()), expected.expect("it is there"));
        };
        // The way there leads through the root.
        package.assert("getcwd", &[(Op::Getattr, 0..=2)], pwd);
    }
}

#[test]
fn what_the_kernel_can_do_without_is_asked_once() {
    for data_path in BOTH {
        let package = Package::mount(&package([]), data_path);
        let stats = package.fixture.stats();
        assert_eq!(stats.of(Op::Opendir), 1, "by opening the package");
        let act = || {
            for name in names() {
                read(&package.path.join("files").join(name));
            }
            for _ in 0..10 {
                fs::read_dir(package.path.join("sub")).expect("it can be listed");
            }
        };
        act();
        act();
        let stats = package.fixture.stats();
        let opens = match data_path {
            DataPath::Passthrough => 2 * FILES as u64,
            _ => 1,
        };
        assert_eq!(stats.of(Op::Open), opens);
        assert_eq!(stats.of(Op::Flush), 1);
        assert_eq!((stats.of(Op::Opendir), stats.of(Op::Releasedir)), (1, 0));
    }
}
