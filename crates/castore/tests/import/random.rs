//! Random trees on disk against the reference.

use std::{collections::BTreeMap, ffi::OsStr, fs, os::unix::ffi::OsStrExt, path::Path};

use proptest::{collection, prelude::*};

use crate::{Services, content, observer::Recorder, reference, set_mode, symlink};

#[derive(Debug, Clone)]
enum Tree {
    Directory(BTreeMap<Vec<u8>, Tree>),
    File { len: usize, executable: bool },
    Symlink(Vec<u8>),
}

impl Tree {
    fn write(&self, path: &Path) {
        match self {
            Self::Directory(entries) => {
                fs::create_dir(path).unwrap();
                for (name, tree) in entries {
                    tree.write(&path.join(OsStr::from_bytes(name)));
                }
            }
            Self::File { len, executable } => {
                fs::write(path, content(*len, *len)).unwrap();
                set_mode(path, if *executable { 0o755 } else { 0o644 });
            }
            Self::Symlink(target) => symlink(OsStr::from_bytes(target), path).unwrap(),
        }
    }
}

fn byte() -> impl Strategy<Value = u8> {
    (1..=255u8).prop_filter("a name has no slash", |byte| *byte != b'/')
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        // Names that are each other's prefixes, and sort around '.' and '-'.
        4 => "[a.-]{1,4}".prop_map(String::into_bytes),
        4 => collection::vec(byte(), 1..6),
        1 => collection::vec(byte(), 255),
    ]
    .prop_filter("a name", |name| name != b"." && name != b"..")
}

fn leaf() -> impl Strategy<Value = Tree> {
    let len = prop_oneof![
        8 => 0..3000usize,
        2 => 16_000..17_000usize,
        2 => 260_000..264_000usize,
        1 => 1_048_500..1_048_600usize,
        1 => 2_097_100..2_097_200usize,
    ];
    prop_oneof![
        3 => (len, any::<bool>()).prop_map(|(len, executable)| Tree::File { len, executable }),
        1 => collection::vec(1..=255u8, 1..100).prop_map(Tree::Symlink),
    ]
}

fn tree() -> impl Strategy<Value = Tree> {
    leaf().prop_recursive(6, 120, 12, |inner| {
        collection::btree_map(name(), inner, 0..12).prop_map(Tree::Directory)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn import_is_the_reference(tree in tree()) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        tree.write(&root);
        let services = Services::default();
        let mut recorder = Recorder::default();
        let node = services.observed(&root, &mut recorder).unwrap();
        prop_assert_eq!(&node, &reference::node(&root));
        services.assert_holds(&node, &root);
        prop_assert_eq!(recorder.events, Recorder::of_disk(&root).events);
    }
}
