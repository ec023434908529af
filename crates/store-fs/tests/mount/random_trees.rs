use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, os::unix::fs::PermissionsExt, path::Path};

use proptest::prelude::*;
use store_fs::fuse::Readdirplus;

use super::{harness::*, tree::*};

/// Reads back what is at `path`.
fn read(path: &Path) -> Tree {
    let metadata = fs::symlink_metadata(path).expect("it exists");
    if metadata.is_symlink() {
        let target = fs::read_link(path).expect("a symlink");
        return symlink(target.as_os_str().as_bytes());
    }
    if metadata.is_file() {
        let content = fs::read(path).expect("readable");
        assert_eq!(metadata.len(), content.len() as u64);
        return Tree::File(content, metadata.permissions().mode() & 0o111 != 0);
    }
    dir(fs::read_dir(path).expect("readable").map(|entry| {
        let entry = entry.expect("an entry");
        (entry.file_name().as_bytes().to_vec(), read(&entry.path()))
    }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_stored_is_read_back(
        trees in prop::collection::btree_map("[a-z]{1,6}", any_tree(), 1..4),
        plus in prop::sample::select(vec![
            Readdirplus::Never, Readdirplus::Auto, Readdirplus::Always,
        ]),
    ) {
        let store = Store::default();
        for (name, tree) in &trees {
            store.add(name, tree);
        }
        let config = Config { readdirplus: plus, ..Config::default() };
        let fixture = Fixture::mount(store, config);
        let names = fs::read_dir(fixture.path()).expect("readable").count();
        prop_assert_eq!(names, trees.len());
        for (name, tree) in &trees {
            prop_assert_eq!(&read(&fixture.path().join(OsStr::new(name))), tree);
        }
    }
}
