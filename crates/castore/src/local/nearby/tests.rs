use std::{fs, path::Path};

use bytes::Bytes;

use super::*;
use crate::{
    Digest, Directory, DirectoryService, Node,
    local::{LocalStore, Options, index::PAGE},
};

#[test]
fn a_block_is_read_ahead_once() {
    let blocks = Blocks::new(10, 1285);
    assert_eq!(blocks.first(5), Some(0..10));
    assert_eq!(blocks.first(9), None);
    assert_eq!(blocks.first(10), Some(10..20));
    assert_eq!(blocks.first(1284), Some(1280..1290));
    assert_eq!(blocks.first(1280), None);
    assert_eq!(blocks.first(u64::MAX), None, "beyond the end");
}

fn open(dir: &Path, create: bool) -> Arc<LocalStore> {
    let options = Options {
        create,
        ..Options::default()
    };
    LocalStore::open(dir, &options).expect("it is a store")
}

fn directory(number: usize) -> Directory {
    let entry = |name: String| crate::Entry {
        name: name.as_str().try_into().expect("a name"),
        node: Node::symlink(Bytes::from_static(b"target")).expect("a target"),
    };
    let entries = (0..=number % 7).map(|n| entry(format!("{number}-{n}")));
    Directory::new(entries.collect()).expect("names differ")
}

/// A store of so many directories, their digests, and its only index and `.meta`.
fn store_of(dir: &Path, count: usize) -> (Vec<Digest>, Vec<std::path::PathBuf>) {
    let session = open(dir, true).begin().expect("it can be written");
    let put = |n| DirectoryService::put(&session, &directory(n)).expect("it is stored");
    let digests = (0..count).map(put).collect();
    session.commit().expect("it commits");
    let files = ["index", "packs"].map(|name| {
        let mut entries = fs::read_dir(dir.join(name)).expect("it is there");
        entries.next().expect("one").expect("readable").path()
    });
    (digests, files.into())
}

#[test]
fn neighbours_are_found_without_an_index() {
    let dir = tempfile::tempdir().expect("a directory");
    let (digests, files) = store_of(dir.path(), 1000);
    let store = open(dir.path(), false);
    let get = |n: usize| {
        store
            .get(&digests[n])
            .map(|found| found.as_deref().cloned())
    };
    assert_eq!(get(500).expect("it is sound"), Some(directory(500)));
    let mut index = fs::read(&files[0]).expect("readable");
    let fences = digests.len().div_ceil(63) * PAGE;
    index[PAGE..][..fences].fill(0);
    fs::write(&files[0], index).expect("writable");
    for number in 0..digests.len() {
        let found = get(number).expect("no index is needed");
        assert_eq!(found, Some(directory(number)));
    }
}

#[test]
fn headers_that_lie_do_no_harm() {
    let dir = tempfile::tempdir().expect("a directory");
    let (digests, files) = store_of(dir.path(), 300);
    let mut meta = fs::read(&files[1]).expect("readable");
    // Each header names the directory that follows, and has a size of its own making.
    let mut at = 16;
    for number in 0..digests.len() {
        let len = directory(number).encode().len();
        let next = digests[(number + 1) % digests.len()];
        meta[at + 16..at + 48].copy_from_slice(next.as_bytes());
        if number % 3 == 0 {
            meta[at + 8..at + 16].fill(number as u8);
        }
        at += 48 + len;
    }
    assert_eq!(at, meta.len());
    fs::write(&files[1], meta).expect("writable");
    let store = open(dir.path(), false);
    for (number, digest) in digests.iter().enumerate() {
        let found = store.get(digest).expect("it is sound");
        assert_eq!(found.as_deref(), Some(&directory(number)));
    }
}

#[test]
fn a_stretch_may_be_cut_anywhere() {
    let dir = tempfile::tempdir().expect("a directory");
    let (digests, files) = store_of(dir.path(), 30);
    let meta = fs::read(&files[1]).expect("readable");
    let mut objects = Vec::new();
    let mut end = 16;
    for (number, digest) in digests.iter().enumerate() {
        let size = directory(number).encode().len();
        objects.push((digest.as_bytes(), end + 48, size as u64));
        end += 48 + size;
    }
    for (from, to) in (0..meta.len())
        .step_by(13)
        .zip((0..=meta.len()).rev().step_by(29))
    {
        let (from, to) = (from.min(to), from.max(to));
        let found = directories(&meta[from..to]).map(|(key, at, size)| (key, from + at, size));
        let whole = (objects.iter().copied())
            .filter(|(_, at, _)| from + 48 <= *at && *at <= to)
            .collect::<Vec<_>>();
        assert_eq!(found.collect::<Vec<_>>(), whole, "{from}..{to}");
    }
}
