//! NAR archives in and out of castore.

use std::io::{self, Read};

use castore::{
    BlobService as _, Directory, DirectoryService as _, Entry, HashedBlob, Node, Object,
    blobservice::MemoryBlobService, directoryservice::MemoryDirectoryService,
};
use nix_compat::nar::{MAX_DEPTH, NarReader, NarWriter, reader};
use proptest::prelude::*;
use store::nar::{IngestError, RenderError, digest, ingest, render};

#[derive(Default)]
struct Services {
    blobs: MemoryBlobService,
    directories: MemoryDirectoryService,
}

impl Services {
    fn render(&self, node: &Node) -> Vec<u8> {
        let mut nar = Vec::new();
        render(node, &self.blobs, &self.directories, &mut nar).unwrap();
        nar
    }

    fn ingest(&self, nar: impl Read) -> Result<Node, IngestError> {
        let ingested = ingest(nar, &self.blobs, &self.directories)?;
        let digest = digest(&ingested.node, &self.blobs, &self.directories).unwrap();
        assert_eq!(digest, ingested.nar);
        Ok(ingested.node)
    }
}

fn file_nar(size: u64, contents: impl Read) -> Vec<u8> {
    let mut nar = NarWriter::new(Vec::new());
    let mut contents = io::BufReader::new(contents);
    nar.file(false, size, &mut contents).unwrap();
    nar.finish().unwrap()
}

#[test]
fn files_of_all_sizes_round_trip() {
    let services = Services::default();
    for size in [0, 1, 7, 8, 262_143, 262_144, 262_145, 1_000_000] {
        let nar = file_nar(size, io::repeat(5).take(size));
        let node = services.ingest(nar.as_slice()).unwrap();
        assert!(matches!(node, Node::File { size: found, .. } if found == size));
        assert!(services.render(&node) == nar, "{size} bytes");
    }
}

#[test]
fn depth_costs_no_stack() {
    let mut nar = NarWriter::new(Vec::new());
    for depth in 0..MAX_DEPTH {
        nar.enter_directory().unwrap();
        if depth + 1 < MAX_DEPTH {
            nar.entry(b"d").unwrap();
        }
    }
    for _ in 0..MAX_DEPTH {
        nar.leave_directory().unwrap();
    }
    let nar = nar.finish().unwrap();
    let small_stack = std::thread::Builder::new().stack_size(128 * 1024);
    let thread = small_stack.spawn(move || {
        let services = Services::default();
        let node = services.ingest(nar.as_slice()).unwrap();
        assert!(services.render(&node) == nar);
    });
    thread.unwrap().join().unwrap();
}

#[test]
fn sizes_are_not_believed() {
    let mut nar = file_nar(8, io::repeat(5).take(8));
    let at = nar.windows(8).position(|bytes| bytes == [5; 8]).unwrap() - 8;
    for size in [9, 1 << 18, 1 << 40, u64::MAX] {
        nar[at..at + 8].copy_from_slice(&u64::to_le_bytes(size));
        let error = Services::default().ingest(nar.as_slice()).unwrap_err();
        assert!(matches!(error, IngestError::Nar { .. }), "{error}");
    }
}

#[test]
fn cut_and_extended_archives_are_refused() {
    let nar = file_nar(100, io::repeat(5).take(100));
    for len in 0..nar.len() {
        assert!(Services::default().ingest(&nar[..len]).is_err(), "{len}");
    }
    let longer = [nar.as_slice(), b"x"].concat();
    let error = Services::default().ingest(longer.as_slice()).unwrap_err();
    let IngestError::Nar { source, .. } = error else {
        panic!("{error}");
    };
    assert!(matches!(source.kind, reader::ErrorKind::TrailingData));
}

#[test]
fn errors_say_where_in_the_tree() {
    let mut nar = NarWriter::new(Vec::new());
    nar.enter_directory().unwrap();
    nar.entry(b"a").unwrap();
    nar.enter_directory().unwrap();
    nar.entry(b"\xffb").unwrap();
    nar.file(false, 9, &mut &b"123456789"[..]).unwrap();
    nar.leave_directory().unwrap();
    nar.leave_directory().unwrap();
    let nar = nar.finish().unwrap();
    let contents = nar
        .windows(9)
        .position(|bytes| bytes == b"123456789")
        .unwrap();
    let error = Services::default()
        .ingest(&nar[..contents + 4])
        .unwrap_err();
    let IngestError::Nar { path, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(path, "a/\\xffb");
}

#[test]
fn missing_and_wrong_contents_are_named() {
    let services = Services::default();
    let absent = HashedBlob::new(b"absent");
    let file = |size| Node::File {
        digest: *absent.digest(),
        size,
        executable: false,
    };
    let tree = |node: Node| {
        let name = "file".try_into().unwrap();
        let directory = Directory::new(vec![Entry { name, node }]).unwrap();
        services.directories.put(&directory).unwrap();
        Node::directory(&directory)
    };
    let fails = |node: &Node| digest(node, &services.blobs, &services.directories).unwrap_err();
    let RenderError::Read { path, source } = fails(&tree(file(6))) else {
        panic!("another error");
    };
    assert_eq!(path, "file");
    assert!(matches!(
        source,
        castore::Error::Missing { object: Object::Blob(digest) } if digest == *absent.digest()
    ));
    services.blobs.put(&absent).unwrap();
    for size in [0, 5, 7] {
        let error = fails(&tree(file(size)));
        assert!(
            matches!(error, RenderError::Size { found: 6, .. }),
            "{error}"
        );
    }
    digest(&tree(file(6)), &services.blobs, &services.directories).unwrap();
}

/// A tree as nested values.
#[derive(Debug, Clone)]
enum Tree {
    File(Vec<u8>, bool),
    Symlink(Vec<u8>),
    Directory(std::collections::BTreeMap<Vec<u8>, Tree>),
}

fn tree() -> impl Strategy<Value = Tree> {
    let bytes = |max| prop::collection::vec(any::<u8>(), 0..max);
    let name = prop::collection::vec(1..=255_u8, 1..12).prop_filter("a name", |name| {
        !name.contains(&b'/') && name != b"." && name != b".."
    });
    let leaf = prop_oneof![
        (bytes(300), any::<bool>()).prop_map(|(bytes, executable)| Tree::File(bytes, executable)),
        prop::collection::vec(1..=255_u8, 1..20).prop_map(Tree::Symlink),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop::collection::btree_map(name.clone(), inner, 0..6).prop_map(Tree::Directory)
    })
}

fn write(nar: &mut NarWriter<Vec<u8>>, tree: &Tree) {
    match tree {
        Tree::File(bytes, executable) => {
            let mut contents = bytes.as_slice();
            nar.file(*executable, bytes.len() as u64, &mut contents)
                .unwrap();
        }
        Tree::Symlink(target) => nar.symlink(target).unwrap(),
        Tree::Directory(entries) => {
            nar.enter_directory().unwrap();
            for (name, tree) in entries {
                nar.entry(name).unwrap();
                write(nar, tree);
            }
            nar.leave_directory().unwrap();
        }
    }
}

proptest! {
    #[test]
    fn trees_round_trip(tree in tree()) {
        let mut nar = NarWriter::new(Vec::new());
        write(&mut nar, &tree);
        let nar = nar.finish().unwrap();
        let services = Services::default();
        let node = services.ingest(nar.as_slice()).unwrap();
        prop_assert_eq!(services.render(&node), nar);
    }

    #[test]
    fn what_is_ingested_is_what_a_reader_accepts(tree in tree(), at: usize, bit in 0..8_u32) {
        let mut nar = NarWriter::new(Vec::new());
        write(&mut nar, &tree);
        let mut nar = nar.finish().unwrap();
        let at = at % nar.len();
        nar[at] ^= 1 << bit;
        let mut reader = NarReader::new(nar.as_slice());
        let accepted = loop {
            match reader.next_event() {
                Ok(Some(_)) => {}
                Ok(None) => break reader.expect_end().is_ok(),
                Err(_) => break false,
            }
        };
        let services = Services::default();
        match services.ingest(nar.as_slice()) {
            Ok(node) => {
                prop_assert!(accepted);
                prop_assert_eq!(services.render(&node), nar);
            }
            Err(_) => prop_assert!(!accepted),
        }
    }
}
