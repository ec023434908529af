//! Property: whatever tree is imported, the mount shows that tree.

use anyhow::Result;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use system_tests::counts::repetitions;
use system_tests::mountd::{MountOptions, Store, name_of};
use system_tests::scratch;
use system_tests::tree::{Entry, Tree};

/// Trees that are imported one by one while the same mount shows them.
const TREES_PER_MOUNT: usize = 10;

#[derive(Debug, Clone)]
enum Shape {
    File(Vec<u8>, bool),
    Symlink(Vec<u8>),
    Directory(BTreeMap<Vec<u8>, Shape>),
}

/// Any bytes that Linux takes for a name, non-UTF-8 and newlines among them.
fn names() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("no separator", |byte| !matches!(byte, 0 | b'/'));
    prop_oneof![
        4 => "[a-c]{1,2}".prop_map(String::into_bytes),
        2 => vec(byte.clone(), 1..20),
        1 => vec(byte, 250..=255),
    ]
    .prop_filter("reserved", |name| name != b"." && name != b"..")
}

/// Sizes around those at which a blob is stored in another way, and few
/// contents, so that equal files occur.
fn contents() -> impl Strategy<Value = Vec<u8>> {
    let size = prop_oneof![
        4 => 0..100_usize,
        2 => Just(16 << 10),
        2 => (16 << 10) - 2..(16 << 10) + 3_usize,
        1 => (256 << 10) - 1..(256 << 10) + 2_usize,
        1 => (4 << 20) - 1..(4 << 20) + 2_usize,
    ];
    (size, 0..3_u8).prop_map(|(size, seed)| {
        (0..size)
            .map(|at| (at ^ (at >> 7) ^ (at >> 15)) as u8 ^ seed)
            .collect()
    })
}

fn shapes() -> impl Strategy<Value = Shape> {
    let target = vec(1..=255_u8, 1..60);
    let leaf = prop_oneof![
        4 => (contents(), any::<bool>()).prop_map(|(bytes, executable)| Shape::File(bytes, executable)),
        1 => target.prop_map(Shape::Symlink),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        btree_map(names(), inner, 0..8).prop_map(Shape::Directory)
    })
}

fn add(entries: &mut BTreeMap<PathBuf, Entry>, path: PathBuf, shape: &Shape) {
    let entry = match shape {
        Shape::File(content, executable) => Entry::File {
            content: content.clone(),
            executable: *executable,
        },
        Shape::Symlink(target) => Entry::Symlink(OsString::from_vec(target.clone()).into()),
        Shape::Directory(children) => {
            for (name, child) in children {
                add(entries, path.join(OsString::from_vec(name.clone())), child);
            }
            Entry::Directory
        }
    };
    entries.insert(path, entry);
}

#[test]
fn the_mount_shows_what_was_imported() -> Result<()> {
    scratch::require_root_and_fuse()?;
    let mounts = repetitions("mounts of random trees, ten trees each", 60, 6);
    let seed = std::env::var("SYSTEM_TESTS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("REPORT SYSTEM_TESTS_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    for _ in 0..mounts {
        let dir = scratch::dir("random")?;
        let store = Store::new(&dir.path().join("store"))?;
        let mut trees = Vec::new();
        for number in 0..TREES_PER_MOUNT {
            let shape = shapes().new_tree(&mut runner).map_err(anyhow::Error::msg)?;
            let mut entries = BTreeMap::new();
            add(&mut entries, PathBuf::new(), &shape.current());
            let tree = Tree::new(entries);
            let path = dir.path().join(format!("tree-{number}"));
            tree.write(&path)?;
            trees.push((tree, path));
        }
        let first = store.import(&[&trees[0].1])?;
        let mounted = store.mount(MountOptions::default())?;
        expect(&trees[0].0, &mounted.path().join(name_of(&first[0])?));
        for (tree, path) in &trees[1..] {
            let imported = store.import(&[path])?;
            expect(tree, &mounted.path().join(name_of(&imported[0])?));
            store.expect_content(&imported[0], tree)?;
        }
        let finished = mounted.stop()?;
        assert_eq!(finished.code, Some(0), "{finished:?}");
    }
    Ok(())
}

fn expect(tree: &Tree, path: &Path) {
    let differences = tree.differences(path);
    assert!(
        differences.is_empty(),
        "{}: {differences:#?}",
        path.display()
    );
}
