//! A store that does not answer for some contents.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::PathBuf,
    process::{Child, Command},
    thread::{self, JoinHandle},
    time::Duration,
};

use castore::{Digest, Node};
use rustix::fs::{Advice, fadvise};

use super::{harness::*, tree::*};

const READERS: usize = 1000;

fn digest_of(node: &Node) -> Digest {
    match node {
        Node::Directory { digest, .. } | Node::File { digest, .. } => *digest,
        Node::Symlink { .. } => panic!("it has none"),
    }
}

/// Threads are many: they get small stacks.
fn reader(read: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let thread = thread::Builder::new().stack_size(128 << 10);
    thread.spawn(read).expect("a thread")
}

/// A store with something that is blocked and something that is not.
fn mount(config: Config) -> Fixture {
    let store = Store::default();
    let blocked = (0..READERS).map(|n| (format!("blocked-{n}"), file(format!("content {n}"))));
    let free = (0..20).map(|n| (format!("free-{n}"), file(bytes(300_000, 100 + n))));
    store.add("pkg", &dir(blocked.chain(free)));
    store.add("big", &file(bytes(READERS * 4096, 1)));
    Fixture::mount(store, config)
}

/// Reads what was not read before, and what was.
fn assert_others_go_on(fixture: &Fixture, number: u64) {
    for _ in 0..2 {
        let content = fs::read(fixture.at(&format!("pkg/free-{number}"))).expect("readable");
        assert_eq!(content, bytes(300_000, 100 + number));
    }
    assert!(fs::symlink_metadata(fixture.at("pkg/missing")).is_err());
    assert_eq!(
        fs::read_dir(fixture.at("pkg"))
            .expect("it is listed")
            .count(),
        READERS + 20
    );
}

fn serving_threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("there is /proc");
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("fuse-")).count()
}

#[test]
fn a_thousand_reads_of_different_contents() {
    let fixture = mount(Config::default());
    assert_others_go_on(&fixture, 0);
    let gate = &fixture.store.blobs.gate;
    for number in 0..READERS {
        gate.close(Digest::of(format!("content {number}").as_bytes()));
    }
    let mut readers = Vec::new();
    for number in 0..READERS {
        let path = fixture.at(&format!("pkg/blocked-{number}"));
        readers.push(reader(move || {
            let content = fs::read_to_string(path).expect("readable in the end");
            assert_eq!(content, format!("content {number}"));
        }));
        if number % 100 == 50 {
            assert_others_go_on(&fixture, number as u64 / 100);
        }
    }
    eventually("all wait", || gate.waiting() == READERS as u64);
    assert_eq!(fixture.filesystem.state().in_flight().len(), READERS);
    assert_others_go_on(&fixture, 15);
    gate.open();
    for reader in readers {
        reader.join().expect("it read what it should");
    }
    assert_others_go_on(&fixture, 16);
    eventually("nothing is asked any more", || {
        fixture.filesystem.state().in_flight().is_empty()
    });
    eventually("threads that are not needed end", || {
        serving_threads() <= 40
    });
}

#[test]
fn a_thousand_reads_of_one() {
    let fixture = mount(Config {
        data_path: store_fs::fuse::DataPath::Cached,
        ..Config::default()
    });
    let content = bytes(READERS * 4096, 1);
    let gate = &fixture.store.blobs.gate;
    gate.close(Digest::of(&content));
    let readers: Vec<_> = (0..READERS)
        .map(|number| {
            let path = fixture.at("big");
            let expected = content[number * 4096..][..4096].to_vec();
            reader(move || {
                let file = File::open(path).expect("it opens");
                fadvise(&file, 0, None, Advice::Random).expect("advice is taken");
                let mut page = vec![0; 4096];
                file.read_exact_at(&mut page, number as u64 * 4096)
                    .expect("readable in the end");
                assert_eq!(page, expected);
            })
        })
        .collect();
    eventually("all are asked", || {
        fixture.filesystem.state().in_flight().len() >= READERS / 2
    });
    assert_others_go_on(&fixture, 3);
    gate.open();
    for reader in readers {
        reader.join().expect("it read what it should");
    }
}

struct Cat(Child);

impl Cat {
    fn of(path: PathBuf) -> Self {
        Self(
            Command::new("stat")
                .arg(path)
                .stdout(std::process::Stdio::null())
                .spawn()
                .expect("it runs"),
        )
    }

    fn kill(mut self) {
        self.0.kill().expect("it is ours");
        eventually("it is gone", || {
            self.0.try_wait().expect("it is ours").is_some()
        });
    }
}

/// A store in which `pkg`, a directory of that digest, can be blocked, and
/// `other` is free.
fn two_packages(config: Config) -> (Fixture, Digest) {
    let store = Store::default();
    let node = store.add("pkg", &dir([("file", file("content"))]));
    store.add("other", &dir([("file", file("other"))]));
    (Fixture::mount(store, config), digest_of(&node))
}

#[test]
fn more_wait_than_there_are_threads() {
    let (fixture, digest) = two_packages(Config {
        threads: Some((2, 4)),
        ..Config::default()
    });
    let gate = &fixture.store.directories.gate;
    gate.close(digest);
    let mut waiting: Vec<_> = (0..30)
        .map(|n| Cat::of(fixture.at(&format!("pkg/{n}"))))
        .collect();
    eventually("all are taken", || {
        fixture.filesystem.state().in_flight().len() == 30
    });
    // Who is killed is let go, whether a thread waits for him or none could.
    waiting.remove(29).kill();
    waiting.remove(0).kill();
    let other = fixture.at("other/file");
    let reader = thread::spawn(move || fs::read(other));
    gate.open();
    assert_eq!(
        reader.join().expect("no panic").expect("readable"),
        b"other"
    );
    for mut cat in waiting {
        cat.0.wait().expect("it is ours");
    }
    assert_eq!(
        fs::read(fixture.at("pkg/file")).expect("readable"),
        b"content"
    );
}

#[test]
fn threads_that_cannot_be_had() {
    let (fixture, digest) = two_packages(Config {
        threads: Some((2, 10)),
        // From the first lookup below the root on.
        fault: Some("starve:lookup:taken:2".parse().expect("a fault")),
        ..Config::default()
    });
    fs::symlink_metadata(fixture.at("pkg")).expect("it is there");
    fixture.store.directories.gate.close(digest);
    let mut waiting: Vec<_> = (0..3)
        .map(|n| Cat::of(fixture.at(&format!("pkg/{n}"))))
        .collect();
    eventually("all are taken", || {
        fixture.filesystem.state().in_flight().len() == 3
    });
    waiting.remove(2).kill();
    // The store does not answer, and nobody is back. It is tried again.
    assert_eq!(
        fs::read(fixture.at("other/file")).expect("readable"),
        b"other"
    );
    fixture.store.directories.gate.open();
    for mut cat in waiting {
        cat.0.wait().expect("it is ours");
    }
}

#[test]
fn a_store_that_answers_one_at_a_time() {
    const THREADS: u64 = 4;
    const READS: u64 = 60;
    let fixture = {
        let store = Store::default();
        let files = (0..READS).map(|n| (n.to_string(), file(format!("content {n}"))));
        let free = ("free".to_owned(), file("free"));
        store.add("pkg", &dir(files.chain([free])));
        let config = Config {
            threads: Some((2, THREADS as usize)),
            data_path: store_fs::fuse::DataPath::Cached,
            ..Config::default()
        };
        Fixture::mount(store, config)
    };
    assert_eq!(
        fs::read_dir(fixture.at("pkg"))
            .expect("a directory")
            .count() as u64,
        READS + 1
    );
    // The first closing of a file is asked for; no other is.
    fs::read(fixture.at("pkg/free")).expect("readable");
    let gate = &fixture.store.blobs.gate;
    for number in 0..READS {
        gate.close(Digest::of(format!("content {number}").as_bytes()));
    }
    let readers: Vec<_> = (0..READS)
        .map(|number| {
            let path = fixture.at(&format!("pkg/{number}"));
            reader(move || {
                let content = fs::read_to_string(path).expect("readable in the end");
                assert_eq!(content, format!("content {number}"));
            })
        })
        .collect();
    let in_flight = || fixture.filesystem.state().in_flight().len() as u64;
    eventually("all are taken", || in_flight() == READS);
    for left in (1..=READS).rev() {
        let expected = left.min(THREADS);
        eventually("all threads wait", || gate.waiting() == expected);
        if left.is_multiple_of(8) {
            // Time for one too many.
            thread::sleep(Duration::from_millis(20));
            assert_eq!(gate.waiting(), expected);
        }
        gate.let_one_through();
        eventually("one is done", || in_flight() == left - 1);
    }
    for reader in readers {
        reader.join().expect("it read what it should");
    }
}
