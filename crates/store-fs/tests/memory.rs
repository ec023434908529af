//! What a million nodes cost the process. Alone in its program: other tests'
//! memory would be measured too.

use std::{fs, sync::Arc};

use castore::{
    Digest, Directory, DirectoryService, Entry, Error, Node, PathComponent,
    blobservice::MemoryBlobService,
};
use store_fs::{
    Filesystem, Options, Root, RootEntry, RootKey,
    core::{Lookup, NodeId},
};

const DIRECTORIES: u64 = 1000;
const FILES: u64 = 1000;

fn name(number: u64) -> PathComponent {
    let name = format!("name-{number:04}");
    name.as_str().try_into().expect("a valid name")
}

/// Makes directories as they are asked for, so that they take no memory.
#[derive(Debug)]
struct Synthetic {
    top: Arc<Directory>,
}

/// Names the directory of that number.
fn digest(number: u64) -> Digest {
    let mut bytes = [0; Digest::LEN];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Digest::from_bytes(bytes)
}

impl Synthetic {
    fn new() -> Self {
        let entries = (0..DIRECTORIES).map(|number| Entry {
            name: name(number),
            node: Node::Directory {
                digest: digest(number),
                size: FILES,
            },
        });
        let top = Directory::new(entries.collect()).expect("sorted");
        Self { top: Arc::new(top) }
    }
}

impl DirectoryService for Synthetic {
    fn get(&self, digest: &Digest) -> Result<Option<Arc<Directory>>, Error> {
        if *digest == self.top.digest() {
            return Ok(Some(Arc::clone(&self.top)));
        }
        let entries = (0..FILES).map(|number| Entry {
            name: name(number),
            node: Node::File {
                digest: Digest::of(&[&digest.as_bytes()[..8], &number.to_le_bytes()].concat()),
                size: 5,
                executable: false,
            },
        });
        let directory = Directory::new(entries.collect()).expect("sorted");
        Ok(Some(Arc::new(directory)))
    }

    fn put(&self, _: &Directory) -> Result<Digest, Error> {
        unreachable!("it is not written")
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }
}

#[derive(Debug)]
struct Top(RootEntry);

impl Root for Top {
    fn lookup(&self, _: &[u8]) -> Result<Option<RootEntry>, Error> {
        Ok(Some(self.0.clone()))
    }

    fn get(&self, _: &RootKey) -> Result<Option<RootEntry>, Error> {
        Ok(Some(self.0.clone()))
    }

    fn list(&self) -> Result<Vec<RootEntry>, Error> {
        Ok(vec![self.0.clone()])
    }

    fn generation(&self) -> u64 {
        0
    }
}

/// Bytes of the process that are in memory.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("there is /proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.expect("a number").parse::<u64>().expect("a number") << 10
}

#[test]
fn a_million_nodes() {
    let directories = Synthetic::new();
    let root = Top(RootEntry {
        key: RootKey([7; 32]),
        name: name(0),
        node: Node::directory(&directories.top),
    });
    let filesystem = Filesystem::new(
        Arc::new(root),
        Arc::new(MemoryBlobService::default()),
        Arc::new(directories),
        Options::default(),
    );
    let found = |parent, name: &PathComponent| match filesystem.lookup(parent, name.as_bytes()) {
        Ok(Lookup::Found(found)) => found.node,
        other => panic!("{other:?}"),
    };
    let top = found(NodeId::ROOT, &name(0));
    let before = resident();
    let mut nodes = Vec::with_capacity((DIRECTORIES * (1 + FILES)) as usize);
    for directory in 0..DIRECTORIES {
        let directory = found(top, &name(directory));
        nodes.push(directory);
        nodes.extend((0..FILES).map(|file| found(directory, &name(file))));
    }
    assert_eq!(
        filesystem.stats().nodes as u64,
        1 + DIRECTORIES * (1 + FILES)
    );
    let list = size_of_val(&nodes[..]) as u64;
    let count = nodes.len() as u64;
    let held = resident() - before - list;
    println!(
        "{} bytes each for {count} nodes, caches included",
        held / count
    );
    assert!(held / count <= 100 + (40 << 20) / count, "{held} bytes");
    for node in nodes {
        filesystem.forget(node, 1);
    }
    let kept = resident().saturating_sub(before);
    println!("{kept} bytes are kept when all is forgotten");
    assert_eq!(filesystem.stats().nodes, 1);
    assert!(kept <= 40 << 20, "{kept} bytes");
}
