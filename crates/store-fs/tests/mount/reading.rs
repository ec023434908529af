use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    process::{Command, Stdio},
    thread,
};

use castore::Node;
use store_fs::{core::Op, fuse::DataPath};

use super::{harness::*, tree::*};

#[test]
fn contents() {
    for len in [0, 1, 4095, 4096, 4097, 16_384, 1 << 20, (5 << 20) + 17] {
        let content = bytes(len, len as u64);
        let fixture = Fixture::of("file", &file(&content));
        assert!(
            fs::read(fixture.at("file")).expect("readable") == content,
            "{len} bytes"
        );
    }
}

#[test]
fn ranges() {
    let content = bytes(1 << 20, 9);
    let fixture = Fixture::of("file", &file(&content));
    let file = File::open(fixture.at("file")).expect("readable");
    let mut buf = vec![0; 10_000];
    for offset in [0, 1, 4095, 70_000, (1 << 20) - 5, 1 << 20, 1 << 21] {
        let len = file.read_at(&mut buf, offset as u64).expect("readable");
        let expected = content.get(offset..).unwrap_or_default();
        let expected = &expected[..expected.len().min(buf.len())];
        assert!(&buf[..len] == expected, "{len} bytes at {offset}");
    }
}

#[test]
fn a_file_that_was_read_is_cached() {
    let lock = CacheLock::shared();
    let fixture = Fixture::of("file", &file(bytes(200_000, 4)));
    fs::read(fixture.at("file")).expect("readable");
    let again = || fs::read(fixture.at("file")).expect("readable");
    assert_eq!(fixture.requests(Op::Read, again).0, 0);
    drop(lock);
}

#[test]
fn what_was_at_hand_is_counted() {
    let store = Store::default();
    store.add(
        "pkg",
        &dir([("big", file(bytes(3 << 20, 7))), ("small", file("x"))]),
    );
    let config = Config {
        data_path: DataPath::Cached,
        ..Config::default()
    };
    let fixture = Fixture::mount(store, config);
    for name in ["big", "small"] {
        fs::read(fixture.at(&format!("pkg/{name}"))).expect("readable");
    }
    let stats = fixture.stats();
    assert_eq!((stats.directory_misses, stats.blob_misses), (1, 2));
    assert!(stats.directory_hits > 0, "{stats:?}");
    assert!(stats.blob_hits > 0, "{stats:?}");
}

#[test]
fn reads_are_large() {
    let lock = CacheLock::shared();
    let content = bytes(8 << 20, 5);
    let fixture = Fixture::of("file", &file(&content));
    let (reads, read) = fixture.requests(Op::Read, || fs::read(fixture.at("file")));
    assert!(read.expect("readable") == content);
    assert!(reads <= 16, "{reads} requests for 8 MiB");
    drop(lock);
}

#[test]
fn what_is_read_in_sequence_is_kept_once() {
    let store = Store::default();
    let content = bytes(4 << 20, 5);
    store.add("big", &file(&content));
    store.add("small", &file(bytes(50_000, 6)));
    let config = Config {
        data_path: DataPath::Cached,
        ..Config::default()
    };
    let fixture = Fixture::mount(store, config);
    fs::read(fixture.at("small")).expect("readable");
    assert_eq!(fixture.store.blobs.done_with(), 0);
    assert!(fs::read(fixture.at("big")).expect("readable") == content);
    let done = fixture.store.blobs.done_with();
    assert!(done >= 3 << 20, "{done} bytes of 4 MiB");
}

#[test]
fn many_readers() {
    let files: Vec<_> = (0..64).map(|seed| bytes(50_000, seed)).collect();
    let entries = files
        .iter()
        .enumerate()
        .map(|(n, content)| (format!("{n}"), file(content)));
    let fixture = Fixture::of("pkg", &dir(entries));
    thread::scope(|scope| {
        for reader in 0..8 {
            let (files, fixture) = (&files, &fixture);
            scope.spawn(move || {
                for (number, content) in files.iter().enumerate().skip(reader) {
                    let path = fixture.at("pkg").join(number.to_string());
                    assert!(fs::read(path).expect("readable") == *content);
                }
            });
        }
    });
}

#[test]
fn readers_that_are_killed_do_no_harm() {
    let store = Store::default();
    let content = "a blob that takes its time";
    let Node::File { digest, .. } = store.add("slow", &file(content)) else {
        unreachable!("it is a file");
    };
    store.add("quick", &file("quick"));
    store.blobs.slow_down(digest);
    let fixture = Fixture::mount(store, Config::default());
    let mut readers: Vec<_> = (0..3)
        .map(|_| {
            let mut cat = Command::new("cat");
            let cat = cat.arg(fixture.at("slow")).stdout(Stdio::null());
            cat.spawn().expect("cat runs")
        })
        .collect();
    eventually("the blob is being read", || {
        fixture.stats().of(Op::Read) > 0
    });
    for reader in &mut readers {
        reader.kill().expect("it is ours");
    }
    let quick = fs::read(fixture.at("quick")).expect("readable");
    assert_eq!(quick, b"quick");
    for mut reader in readers {
        let status = reader.wait().expect("it ends");
        assert!(!status.success(), "it was killed while it waited");
    }
    let slow = fs::read(fixture.at("slow")).expect("readable");
    assert_eq!(slow, content.as_bytes());
}
