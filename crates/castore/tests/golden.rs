//! Trees that real Nix made, and the digests that another implementation gave
//! them.
//!
//! The trees are rebuilt on disk from an uncompressed binary cache: its `.ls`
//! files say where in the archive the contents of each file are.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use castore::{
    Node,
    blobservice::MemoryBlobService,
    directoryservice::MemoryDirectoryService,
    import::{Options, import},
};
use serde_json::Value;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/golden")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The value of a line `key: value`.
fn field<'a>(narinfo: &'a str, key: &str) -> &'a str {
    let mut lines = narinfo.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(found, _)| *found == key).unwrap().1
}

fn build(listing: &Value, archive: &[u8], path: &Path) {
    match listing["type"].as_str().unwrap() {
        "directory" => {
            fs::create_dir(path).unwrap();
            for (name, entry) in listing["entries"].as_object().unwrap() {
                build(entry, archive, &path.join(name));
            }
        }
        "symlink" => symlink(listing["target"].as_str().unwrap(), path).unwrap(),
        "regular" => {
            // An empty file has no offset.
            let number = |key: &str| listing[key].as_u64().unwrap_or_default() as usize;
            let content = &archive[number("narOffset")..][..number("size")];
            fs::write(path, content).unwrap();
            let executable = listing["executable"].as_bool().unwrap_or_default();
            let mode = if executable { 0o555 } else { 0o444 };
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        other => panic!("{other}"),
    }
}

/// As `castore-roots.json` writes it.
fn assert_is(node: &Node, expected: &Value, name: &str) {
    let expected_digest = expected["blake3"].as_str().unwrap_or_default();
    let expected_size = expected["size"].as_u64().unwrap_or_default();
    match node {
        Node::Directory { digest, size } => {
            assert_eq!(expected["kind"], "directory", "{name}");
            assert_eq!(digest.to_string(), expected_digest, "{name}");
            assert_eq!(*size, expected_size, "{name}");
        }
        Node::File {
            digest,
            size,
            executable,
        } => {
            assert_eq!(expected["kind"], "file", "{name}");
            assert_eq!(digest.to_string(), expected_digest, "{name}");
            assert_eq!(*size, expected_size, "{name}");
            assert_eq!(expected["executable"], *executable, "{name}");
        }
        Node::Symlink { target } => {
            assert_eq!(expected["kind"], "symlink", "{name}");
            assert_eq!(expected["target"].as_str().unwrap().as_bytes(), target);
        }
    }
}

#[test]
fn imported_trees_have_the_known_digests() {
    let roots = json(&golden().join("castore-roots.json"));
    let cache = golden().join("cache-none");
    let dir = tempfile::tempdir().unwrap();
    let mut compared = 0;
    for entry in fs::read_dir(&cache).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_none_or(|extension| extension != "narinfo")
        {
            continue;
        }
        let narinfo = fs::read_to_string(&path).unwrap();
        let name = field(&narinfo, "StorePath").rsplit('/').next().unwrap();
        let archive = fs::read(cache.join(field(&narinfo, "URL"))).unwrap();
        let tree = dir.path().join(name);
        build(&json(&path.with_extension("ls"))["root"], &archive, &tree);
        let node = import(
            &tree,
            &MemoryBlobService::default(),
            &MemoryDirectoryService::default(),
            &mut (),
            &Options::default(),
        );
        assert_is(&node.unwrap(), &roots[name], name);
        compared += 1;
    }
    assert_eq!(compared, 9);
}
