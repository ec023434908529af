//! Trees to be served, and the services that have them.

// Shared by test programs that do not use all of it.
#![allow(dead_code)]

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    os::unix::fs::FileExt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use castore::{
    Blob, BlobService, BlobWriter, Digest, Directory, DirectoryService, Entry, Error, HashedBlob,
    Node, Object, PathComponent, blobservice::MemoryBlobService,
    directoryservice::MemoryDirectoryService,
};
use parking_lot::{Condvar, Mutex, RwLock};
use proptest::prelude::*;
use store_fs::{Filesystem, Options, Root, RootEntry, RootKey, State, Usage};

/// A tree to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tree {
    /// A directory.
    Directory(BTreeMap<Vec<u8>, Tree>),
    /// A file, perhaps executable.
    File(Vec<u8>, bool),
    /// A symlink.
    Symlink(Vec<u8>),
}

/// A directory.
pub(crate) fn dir<N: AsRef<[u8]>>(entries: impl IntoIterator<Item = (N, Tree)>) -> Tree {
    let entries = entries.into_iter();
    Tree::Directory(entries.map(|(n, t)| (n.as_ref().to_vec(), t)).collect())
}

/// A file.
pub(crate) fn file(content: impl AsRef<[u8]>) -> Tree {
    Tree::File(content.as_ref().to_vec(), false)
}

/// An executable file.
pub(crate) fn executable(content: impl AsRef<[u8]>) -> Tree {
    Tree::File(content.as_ref().to_vec(), true)
}

/// A symlink.
pub(crate) fn symlink(target: impl AsRef<[u8]>) -> Tree {
    Tree::Symlink(target.as_ref().to_vec())
}

/// Bytes that differ from each other, and for each seed.
pub(crate) fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        })
        .collect()
}

/// The mount's top level, in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryRoot {
    entries: RwLock<BTreeMap<Vec<u8>, RootEntry>>,
    generation: AtomicU64,
    fail: std::sync::atomic::AtomicBool,
}

impl MemoryRoot {
    pub(crate) fn insert(&self, name: &[u8], node: Node) {
        let entry = RootEntry {
            key: RootKey(*Digest::of(&[name, format!("{node:?}").as_bytes()].concat()).as_bytes()),
            name: name.try_into().expect("a valid name"),
            node,
        };
        self.entries.write().insert(name.to_vec(), entry);
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, name: &[u8]) {
        self.entries.write().remove(name);
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn fail(&self, fail: bool) {
        self.fail.store(fail, Ordering::Relaxed);
    }

    fn check(&self) -> Result<(), Error> {
        match self.fail.load(Ordering::Relaxed) {
            true => Err(Error::Backend {
                place: "the test's root".to_owned(),
                detail: "told to fail".to_owned(),
            }),
            false => Ok(()),
        }
    }
}

impl Root for MemoryRoot {
    fn lookup(&self, name: &[u8]) -> Result<Option<RootEntry>, Error> {
        self.check()?;
        Ok(self.entries.read().get(name).cloned())
    }

    fn get(&self, key: &RootKey) -> Result<Option<RootEntry>, Error> {
        self.check()?;
        let entries = self.entries.read();
        Ok(entries.values().find(|entry| entry.key == *key).cloned())
    }

    fn list(&self) -> Result<Vec<RootEntry>, Error> {
        self.check()?;
        Ok(self.entries.read().values().cloned().collect())
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    fn usage(&self) -> Usage {
        Usage {
            nodes: 1000,
            bytes: 1 << 20,
        }
    }
}

/// Keeps those waiting who ask for some contents, until it is opened.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    closed: Mutex<Closed>,
    opened: Condvar,
    waiting: AtomicU64,
}

#[derive(Debug, Default)]
struct Closed {
    digests: HashSet<Digest>,
    /// How many of those who wait may go on.
    let_through: u64,
}

impl Gate {
    pub(crate) fn close(&self, digest: Digest) {
        self.closed.lock().digests.insert(digest);
    }

    pub(crate) fn open(&self) {
        self.closed.lock().digests.clear();
        self.opened.notify_all();
    }

    /// Lets one go on who waits.
    pub(crate) fn let_one_through(&self) {
        self.closed.lock().let_through += 1;
        self.opened.notify_one();
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::SeqCst)
    }

    fn pass(&self, digest: &Digest) {
        let mut closed = self.closed.lock();
        if !closed.digests.contains(digest) {
            return;
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        while closed.digests.contains(digest) {
            if closed.let_through > 0 {
                closed.let_through -= 1;
                break;
            }
            self.opened.wait(&mut closed);
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Blobs in memory, some of which can be made to be lost, damaged or to have
/// another size, to take their time, and to make a reader panic.
#[derive(Debug, Default)]
pub(crate) struct FaultyBlobs {
    sound: MemoryBlobService,
    missing: RwLock<HashSet<Digest>>,
    damaged: RwLock<HashSet<Digest>>,
    short: RwLock<HashSet<Digest>>,
    cursed: RwLock<HashSet<Digest>>,
    slow: RwLock<HashSet<Digest>>,
    pub(crate) gate: Gate,
    done_with: Arc<AtomicU64>,
}

impl FaultyBlobs {
    pub(crate) fn lose(&self, digest: Digest) {
        self.missing.write().insert(digest);
    }

    pub(crate) fn damage(&self, digest: Digest) {
        self.damaged.write().insert(digest);
    }

    pub(crate) fn heal(&self, digest: Digest) {
        self.damaged.write().remove(&digest);
        self.missing.write().remove(&digest);
    }

    pub(crate) fn shorten(&self, digest: Digest) {
        self.short.write().insert(digest);
    }

    pub(crate) fn slow_down(&self, digest: Digest) {
        self.slow.write().insert(digest);
    }

    /// Bytes that readers said they need not be kept in memory.
    pub(crate) fn done_with(&self) -> u64 {
        self.done_with.load(Ordering::Relaxed)
    }

    pub(crate) fn curse(&self, digest: Digest) {
        self.cursed.write().insert(digest);
    }
}

/// Blobs of this size are files too.
pub(crate) const FILE_MIN: u64 = 100_000;

fn file_of(blob: &dyn Blob) -> File {
    let mut content = vec![0; blob.size() as usize];
    blob.read_at(&mut content, 0).expect("memory gives all");
    let file = tempfile::tempfile().expect("a temporary file");
    file.write_all_at(&content, 0).expect("it is written");
    file
}

#[derive(Debug)]
struct FaultyBlob {
    sound: Arc<dyn Blob>,
    fault: Option<Digest>,
    short: bool,
    file: Option<Arc<File>>,
    done_with: Arc<AtomicU64>,
}

impl Blob for FaultyBlob {
    fn size(&self) -> u64 {
        self.sound.size() - u64::from(self.short)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Error> {
        match self.fault {
            Some(digest) => Err(Error::Corrupt {
                object: Object::Blob(digest),
                place: "the test".to_owned(),
                detail: "told to be".to_owned(),
            }),
            None => self.sound.read_at(buf, offset),
        }
    }

    fn done_with(&self, _offset: u64, len: u64) {
        self.done_with.fetch_add(len, Ordering::Relaxed);
    }

    fn file(&self) -> Option<Arc<File>> {
        self.file.clone()
    }
}

impl BlobService for FaultyBlobs {
    fn open(&self, digest: &Digest) -> Result<Option<Arc<dyn Blob>>, Error> {
        assert!(!self.cursed.read().contains(digest), "a cursed blob");
        if self.missing.read().contains(digest) {
            return Ok(None);
        }
        if self.slow.read().contains(digest) {
            std::thread::sleep(Duration::from_secs(1));
        }
        self.gate.pass(digest);
        let sound = self.sound.open(digest)?;
        Ok(sound.map(|sound| {
            let fault = self.damaged.read().get(digest).copied();
            let file = match fault {
                None if sound.size() >= FILE_MIN => Some(Arc::new(file_of(&*sound))),
                _ => None,
            };
            Arc::new(FaultyBlob {
                sound,
                fault,
                short: self.short.read().contains(digest),
                file,
                done_with: Arc::clone(&self.done_with),
            }) as Arc<dyn Blob>
        }))
    }

    fn put(&self, blob: &HashedBlob<'_>) -> Result<(), Error> {
        self.sound.put(blob)
    }

    fn writer(&self) -> Result<Box<dyn BlobWriter + '_>, Error> {
        self.sound.writer()
    }

    fn flush(&self) -> Result<(), Error> {
        self.sound.flush()
    }
}

/// Directories in memory, some of which can be made to be lost.
#[derive(Debug, Default)]
pub(crate) struct FaultyDirectories {
    sound: MemoryDirectoryService,
    missing: RwLock<HashSet<Digest>>,
    pub(crate) gate: Gate,
}

impl FaultyDirectories {
    pub(crate) fn lose(&self, digest: Digest) {
        self.missing.write().insert(digest);
    }
}

impl DirectoryService for FaultyDirectories {
    fn get(&self, digest: &Digest) -> Result<Option<Arc<Directory>>, Error> {
        if self.missing.read().contains(digest) {
            return Ok(None);
        }
        self.gate.pass(digest);
        self.sound.get(digest)
    }

    fn put(&self, directory: &Directory) -> Result<Digest, Error> {
        self.sound.put(directory)
    }

    fn flush(&self) -> Result<(), Error> {
        self.sound.flush()
    }
}

/// A store in memory.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) root: Arc<MemoryRoot>,
    pub(crate) blobs: Arc<FaultyBlobs>,
    pub(crate) directories: Arc<FaultyDirectories>,
}

impl Store {
    /// Stores a tree and gives it a name in the root.
    pub(crate) fn add(&self, name: &str, tree: &Tree) -> Node {
        let node = self.put(tree);
        self.root.insert(name.as_bytes(), node.clone());
        node
    }

    /// Stores a tree.
    pub(crate) fn put(&self, tree: &Tree) -> Node {
        match tree {
            Tree::Directory(entries) => {
                let entries = entries.iter().map(|(name, tree)| Entry {
                    name: PathComponent::try_from(&name[..]).expect("a valid name"),
                    node: self.put(tree),
                });
                let directory = Directory::new(entries.collect()).expect("unique names");
                self.directories.put(&directory).expect("memory takes all");
                Node::directory(&directory)
            }
            Tree::File(content, executable) => {
                let blob = HashedBlob::new(content);
                self.blobs.put(&blob).expect("memory takes all");
                Node::File {
                    digest: *blob.digest(),
                    size: content.len() as u64,
                    executable: *executable,
                }
            }
            Tree::Symlink(target) => Node::symlink(target.clone().into()).expect("a target"),
        }
    }

    /// A filesystem over the store that goes on with a state.
    pub(crate) fn filesystem_with(&self, options: Options, state: Arc<State>) -> Arc<Filesystem> {
        let filesystem = Filesystem::with_state(
            Arc::clone(&self.root) as _,
            Arc::clone(&self.blobs) as _,
            Arc::clone(&self.directories) as _,
            options,
            state,
        );
        Arc::new(filesystem.expect("a sound state"))
    }

    /// A filesystem over the store.
    pub(crate) fn filesystem(&self, options: Options) -> Arc<Filesystem> {
        Arc::new(Filesystem::new(
            Arc::clone(&self.root) as _,
            Arc::clone(&self.blobs) as _,
            Arc::clone(&self.directories) as _,
            options,
        ))
    }
}

/// Any tree, of few names and contents so that parts of it are equal.
pub(crate) fn any_tree() -> impl Strategy<Value = Tree> {
    let content = prop_oneof![
        3 => prop::sample::select(vec![&b""[..], b"a", b"content", b"#!/bin/sh\n"])
            .prop_map(<[u8]>::to_vec),
        1 => (0..40_000_usize, 0..3_u64).prop_map(|(len, seed)| bytes(len, seed)),
    ];
    let leaf = prop_oneof![
        3 => (content, any::<bool>()).prop_map(|(content, x)| Tree::File(content, x)),
        1 => "[a-z/.]{1,20}".prop_map(symlink),
    ];
    let name = prop_oneof![
        8 => "[a-d]{1,2}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 1..256),
    ];
    let name = name.prop_filter("a valid name", |name| {
        PathComponent::try_from(&name[..]).is_ok()
    });
    leaf.prop_recursive(5, 200, 12, move |inner| {
        prop::collection::btree_map(name.clone(), inner, 0..12).prop_map(Tree::Directory)
    })
}
