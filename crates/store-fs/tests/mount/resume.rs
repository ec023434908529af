//! The process that serves is killed, and another goes on.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::AsFd,
        unix::fs::{FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use castore::Node;
use rustix::{
    fs::{Advice, fadvise, statfs},
    mm::{MapFlags, ProtFlags, mmap, munmap},
};
use store_fs::{
    InFlight, STATE_VERSION, State, StateError,
    fuse::{DataPath, Fault},
};

use super::{harness::*, served::Served, tree::*};

const PATHS: [DataPath; 2] = [DataPath::Cached, DataPath::Passthrough];
const BIG: usize = 3 << 20;

fn package() -> Tree {
    let small = (0..30).map(|n| (format!("small-{n}"), file(format!("content {n}"))));
    let entries = [
        ("big".to_owned(), file(bytes(BIG, 1))),
        ("link".to_owned(), symlink("small-1")),
        (
            "sub".to_owned(),
            dir([("deep", dir([("leaf", file("leaf"))]))]),
        ),
    ];
    dir(small.chain(entries))
}

fn store() -> Store {
    let store = Store::default();
    for number in 0..3 {
        store.add(&format!("pkg-{number}"), &package());
    }
    store
}

/// With and without the kernel's help.
fn each(run: impl Fn(DataPath, bool)) {
    for data_path in PATHS {
        for no_resend in [false, true] {
            run(data_path, no_resend);
        }
    }
}

/// A page of a file, mapped.
struct Page(*mut u8);

impl Page {
    #[allow(unsafe_code)]
    fn map(file: &File, offset: u64) -> Self {
        let flags = MapFlags::SHARED;
        // SAFETY: a new mapping, at a place that the system chooses.
        let page = unsafe {
            mmap(
                std::ptr::null_mut(),
                4096,
                ProtFlags::READ,
                flags,
                file,
                offset,
            )
        };
        Self(page.expect("it can be mapped").cast())
    }

    #[allow(unsafe_code)]
    fn first(&self) -> u8 {
        // SAFETY: it is mapped for as long as `self` is there.
        unsafe { self.0.read_volatile() }
    }
}

impl Drop for Page {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: it was mapped by `map`, and is not used any more.
        let _ = unsafe { munmap(self.0.cast(), 4096) };
    }
}

#[test]
fn what_is_in_use_stays_what_it_is() {
    let lock = CacheLock::exclusive();
    each(|data_path, no_resend| {
        let mut served = Served::mount(store(), data_path, no_resend, 4);
        served.start(None);
        let big = File::open(served.at("pkg-0/big")).expect("it opens");
        let mapped = Page::map(&big, 1 << 20);
        let directory = File::open(served.at("pkg-1/sub")).expect("it opens");
        let inos = |path: &Path| -> Vec<_> {
            ["", "sub", "sub/deep", "link", "small-3", "big"]
                .map(|name| stat(path.join(name)).0)
                .into()
        };
        let before = inos(&served.at("pkg-0"));
        let nodes = served.state.counters().nodes;
        assert_eq!(served.state.data_path(), Some(data_path));
        for round in 0..3 {
            served.kill();
            served.start(None);
            // What was cached is asked anew.
            fadvise(&big, 0, None, Advice::DontNeed).expect("advice is taken");
            lock.drop_caches();
            let mut piece = vec![0; 5000];
            let offset = 100_000 * (1 + round);
            big.read_exact_at(&mut piece, offset as u64)
                .expect("readable");
            assert_eq!(piece, bytes(BIG, 1)[offset..][..5000]);
            assert_eq!(mapped.first(), bytes(BIG, 1)[1 << 20]);
            // The kernel refuses another backing file of an inode in use.
            let again = File::open(served.at("pkg-0/big")).expect("it opens again");
            again
                .read_exact_at(&mut piece, offset as u64)
                .expect("readable");
            assert_eq!(big.metadata().expect("an inode").ino(), before[5]);
            assert_eq!(inos(&served.at("pkg-0")), before);
            // The working directory of nobody, but seen as one.
            let fd = format!(
                "/proc/self/fd/{}",
                std::os::fd::AsRawFd::as_raw_fd(&directory)
            );
            assert_eq!(fs::read_link(&fd).expect("a link"), served.at("pkg-1/sub"));
            let leaf = PathBuf::from(fd).join("deep/leaf");
            assert_eq!(fs::read(leaf).expect("readable"), b"leaf");
        }
        drop((big, mapped, directory));
        lock.drop_caches();
        eventually("what is not used is forgotten", || {
            lock.drop_caches();
            served.state.counters().nodes < nodes
        });
        assert_eq!(
            fs::read(served.at("pkg-2/small-7")).expect("readable"),
            b"content 7"
        );
    });
}

#[test]
fn what_was_asked_is_answered() {
    each(|data_path, no_resend| {
        let store = Store::default();
        let content = bytes(50_000, 3);
        let Node::File { digest, .. } = store.put(&file(&content)) else {
            panic!("it is a file");
        };
        store.blobs.slow_down(digest);
        store.add(
            "pkg",
            &dir([("slow", file(&content)), ("quick", file("quick"))]),
        );
        let mut served = Served::mount(store, data_path, no_resend, 4);
        served.start(None);
        served.wait_until_set_up();
        let path = served.at("pkg/slow");
        let reader = thread::spawn(move || fs::read(path));
        for _ in 0..3 {
            eventually("it is being read", || {
                let requests = served.state.in_flight();
                let is_it = |request: &InFlight| {
                    request.operation == "read" && request.waits_on == Some(digest)
                };
                requests.iter().any(is_it)
            });
            served.kill();
            served.start(None);
        }
        assert_eq!(
            fs::read(served.at("pkg/quick")).expect("readable"),
            b"quick"
        );
        let read = reader
            .join()
            .expect("no panic")
            .expect("the reader sees nothing of it");
        assert_eq!(read, content);
    });
}

#[test]
fn more_is_left_than_there_are_threads() {
    const READERS: usize = 200;
    for no_resend in [false, true] {
        let store = Store::default();
        let content = |n: usize| format!("slow {n}");
        for number in 0..READERS {
            let Node::File { digest, .. } = store.put(&file(content(number))) else {
                panic!("it is a file");
            };
            store.blobs.slow_down(digest);
        }
        let files = (0..READERS).map(|n| (n.to_string(), file(content(n))));
        store.add("pkg", &dir(files));
        let mut served = Served::mount(store, DataPath::Cached, no_resend, 3);
        served.start(None);
        served.wait_until_set_up();
        let names = fs::read_dir(served.at("pkg")).expect("it is listed");
        assert_eq!(names.count(), READERS);
        let readers: Vec<_> = (0..READERS)
            .map(|number| {
                let path = served.at(&format!("pkg/{number}"));
                let reader = thread::Builder::new().stack_size(128 << 10);
                let read = move || fs::read_to_string(path);
                reader.spawn(read).expect("a thread")
            })
            .collect();
        for _ in 0..2 {
            eventually("many are being read", || {
                served.state.in_flight().len() >= READERS / 2
            });
            served.kill();
            served.start(None);
        }
        for (number, reader) in readers.into_iter().enumerate() {
            let read = reader.join().expect("no panic");
            assert_eq!(read.expect("the reader sees nothing"), content(number));
        }
    }
}

/// Everything that programs do, in a package that nobody looked at before.
fn use_all(served: &Path, number: usize) -> io::Result<()> {
    let at = |name: &str| served.join(format!("pkg-{number}")).join(name);
    let names = fs::read_dir(at(""))?.collect::<io::Result<Vec<_>>>()?.len();
    assert_eq!(names, 33);
    assert_eq!(fs::read(at("small-4"))?, b"content 4");
    assert_eq!(fs::read(at("big"))?, bytes(BIG, 1));
    assert_eq!(fs::read_link(at("link"))?, Path::new("small-1"));
    assert_eq!(fs::read(at("sub/deep/leaf"))?, b"leaf");
    assert!(
        fs::symlink_metadata(at("missing"))
            .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    );
    assert!(statfs(served)?.f_blocks > 0);
    let mut value = [0; 100];
    rustix::fs::getxattr(at("small-4"), "user.snix.castore.blob.digest", &mut value)?;
    rustix::fs::listxattr(at("small-4"), &mut value)?;
    // The root's attributes are kept for a second.
    rustix::fs::statx(
        rustix::fs::CWD,
        served,
        rustix::fs::AtFlags::STATX_FORCE_SYNC,
        rustix::fs::StatxFlags::BASIC_STATS,
    )?;
    Ok(())
}

#[test]
fn it_may_die_at_any_moment() {
    const OPERATIONS: [(&str, [bool; 2]); 13] = [
        // On cached, on passthrough.
        ("init", [true, true]),
        ("lookup", [true, true]),
        ("getattr", [true, true]),
        ("opendir", [true, true]),
        ("readdirplus", [true, true]),
        ("open", [true, true]),
        ("read", [true, true]),
        ("release", [false, true]),
        ("readlink", [true, true]),
        ("statfs", [true, true]),
        ("getxattr", [true, true]),
        ("listxattr", [true, true]),
        ("batch_forget", [true, true]),
    ];
    for (number, (operation, on)) in OPERATIONS.into_iter().enumerate() {
        let lock = (operation == "batch_forget").then(CacheLock::exclusive);
        for (turn, moment) in ["taken", "done", "answered"].into_iter().enumerate() {
            if operation == "batch_forget" && moment == "done" {
                // It has no answer that could be written.
                continue;
            }
            each(|data_path, no_resend| {
                // By turns, for it takes a while.
                let is_turn = no_resend == (number + turn).is_multiple_of(2);
                if !is_turn || !on[usize::from(data_path == DataPath::Passthrough)] {
                    return;
                }
                let what = format!("{operation}:{moment}, {data_path}, {no_resend}");
                let fault: Fault = format!("kill:{operation}:{moment}")
                    .parse()
                    .expect("a fault");
                let mut served = Served::mount(store(), data_path, no_resend, 2);
                served.start(Some(fault));
                let path = served.path().to_owned();
                let died = Arc::new(AtomicBool::new(false));
                let enough = Arc::clone(&died);
                let user = thread::spawn(move || {
                    // What is forgotten one by one is not forgotten in a batch.
                    loop {
                        use_all(&path, 0)?;
                        if enough.load(Relaxed) {
                            return Ok::<(), io::Error>(());
                        }
                    }
                });
                eventually(&what, || {
                    if !died.load(Relaxed) && served.has_died() {
                        served.wait_for_death();
                        served.start(None);
                        died.store(true, Relaxed);
                    } else if let Some(lock) = lock.as_ref().filter(|_| !died.load(Relaxed)) {
                        lock.drop_caches();
                    }
                    died.load(Relaxed) && user.is_finished()
                });
                (user.join().expect("right contents"))
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
                let path = served.path().to_owned();
                use_all(&path, 1).unwrap_or_else(|error| panic!("{what}, afterwards: {error}"));
                use_all(&path, 0).unwrap_or_else(|error| panic!("{what}, again: {error}"));
            });
        }
    }
}

#[test]
fn an_opening_outlives_any_number_of_deaths() {
    let mut served = Served::mount(store(), DataPath::Passthrough, false, 11);
    for round in 0..5 {
        // A closing is counted, and its process dies before it says so.
        served.start(Some("kill:release:done".parse().expect("a fault")));
        let path = served.at("pkg-0/big");
        let user = thread::spawn(move || {
            let kept = File::open(&path).expect("it opens");
            drop(File::open(&path).expect("it opens twice"));
            (path, kept)
        });
        served.wait_for_death();
        served.start(None);
        let (path, kept) = user.join().expect("no panic");
        let mut piece = [0; 100];
        for _ in 0..3 {
            // Were the closing counted twice, this would be another opening,
            // which the kernel refuses to read.
            let again = File::open(&path).expect("it opens again");
            again.read_exact_at(&mut piece, 4096).expect("readable");
            kept.read_exact_at(&mut piece, 8192).expect("readable");
            assert_eq!(piece, bytes(BIG, 1)[8192..][..100], "round {round}");
        }
        drop(kept);
        served.kill();
    }
    served.start(None);
}

#[test]
fn what_was_answered_is_not_in_flight() {
    let mut served = Served::mount(store(), DataPath::Passthrough, false, 2);
    served.start(Some("kill:release:answered".parse().expect("a fault")));
    let path = served.at("pkg-0/big");
    let user = thread::spawn(move || drop(File::open(path).expect("it opens")));
    served.wait_for_death();
    user.join().expect("no panic");
    served.start(None);
    assert_eq!(
        fs::read(served.at("pkg-0/small-1")).expect("readable"),
        b"content 1"
    );
    eventually("nothing is in flight", || {
        served.state.in_flight().is_empty()
    });
}

#[test]
fn a_state_of_something_else_is_refused() {
    let other = tempfile::tempfile().expect("a file");
    let open = |file: &File| State::open(file.as_fd().try_clone_to_owned().expect("a descriptor"));
    assert!(matches!(open(&other), Err(StateError::Foreign)));
    other.set_len(1 << 20).expect("room");
    assert!(matches!(open(&other), Err(StateError::Foreign)));

    let state = State::new().expect("a state");
    let file = File::from(state.fd().try_clone_to_owned().expect("a descriptor"));
    assert!(open(&file).is_ok());
    file.write_all_at(&(STATE_VERSION + 1).to_ne_bytes(), 16)
        .expect("writable");
    let error = open(&file).expect_err("it is newer");
    assert!(
        matches!(error, StateError::Incompatible { found, known }
            if found == STATE_VERSION + 1 && known == STATE_VERSION),
        "{error}"
    );
    file.write_all_at(&STATE_VERSION.to_ne_bytes(), 16)
        .expect("writable");
    file.write_all_at(&7_u32.to_ne_bytes(), 20)
        .expect("writable");
    assert!(matches!(open(&file), Err(StateError::Damaged { .. })));
}

#[test]
fn one_process_after_another_counts_on() {
    let state = Arc::new(State::new().expect("a state"));
    let store = store();
    for round in 1..4 {
        let options = store_fs::Options::default();
        let filesystem = store.filesystem_with(options, Arc::clone(&state));
        filesystem
            .lookup(store_fs::core::NodeId::ROOT, b"pkg-0")
            .expect("it is there");
        assert_eq!(state.counters().nodes, 1);
        let lookups = round;
        drop(filesystem);
        // A count that is too low would free it.
        let filesystem = store.filesystem_with(store_fs::Options::default(), Arc::clone(&state));
        assert_eq!(filesystem.stats().nodes, 1, "{lookups} lookups");
    }
    let filesystem = store.filesystem_with(store_fs::Options::default(), Arc::clone(&state));
    let found = filesystem.lookup(store_fs::core::NodeId::ROOT, b"pkg-0");
    let Ok(store_fs::core::Lookup::Found(found)) = found else {
        panic!("{found:?}");
    };
    filesystem.forget(found.node, 3);
    assert_eq!(filesystem.stats().nodes, 1);
    filesystem.forget(found.node, 1);
    assert_eq!(filesystem.stats().nodes, 0);
}
