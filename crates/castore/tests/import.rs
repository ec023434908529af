//! Import of trees from disk.

#[path = "import/failures.rs"]
mod failures;
#[path = "import/observer.rs"]
mod observer;
#[path = "import/random.rs"]
mod random;
#[path = "import/reference.rs"]
mod reference;

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt, fs::symlink},
    path::Path,
    sync::Arc,
};

use castore::{
    BlobService, Digest, DirectoryService, Node,
    blobservice::MemoryBlobService,
    directoryservice::MemoryDirectoryService,
    import::{ImportError, Options, Progress, TreeObserver, import},
};

#[derive(Default)]
struct Services {
    blobs: Arc<MemoryBlobService>,
    directories: Arc<MemoryDirectoryService>,
}

impl Services {
    fn import(&self, path: &Path) -> Result<Node, ImportError> {
        self.observed(path, &mut ())
    }

    fn observed(&self, path: &Path, observer: &mut dyn TreeObserver) -> Result<Node, ImportError> {
        import(
            path,
            &*self.blobs,
            &*self.directories,
            observer,
            &Options::default(),
        )
    }

    fn read(&self, digest: &Digest) -> Vec<u8> {
        let blob = self.blobs.open(digest).unwrap().unwrap();
        let mut bytes = vec![0; blob.size() as usize];
        assert_eq!(blob.read_at(&mut bytes, 0).unwrap(), bytes.len());
        bytes
    }

    /// All of the tree is stored and is what is on disk.
    fn assert_holds(&self, node: &Node, path: &Path) {
        match node {
            Node::Directory { digest, .. } => {
                let directory = self.directories.get(digest).unwrap().unwrap();
                assert_eq!(
                    directory.entries().len(),
                    fs::read_dir(path).unwrap().count(),
                    "{path:?}"
                );
                for entry in directory.entries() {
                    let name = OsStr::from_bytes(entry.name.as_bytes());
                    self.assert_holds(&entry.node, &path.join(name));
                }
            }
            Node::File { digest, .. } => {
                assert!(self.read(digest) == fs::read(path).unwrap(), "{path:?}");
            }
            Node::Symlink { target } => {
                let found = fs::read_link(path).unwrap();
                assert_eq!(target, found.as_os_str().as_bytes());
            }
        }
    }
}

/// Bytes that differ everywhere.
fn content(seed: usize, len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| (i * 31 + seed * 7 + (i >> 8) + (i >> 16)) as u8)
        .collect()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_tree_of_everything() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let deep = root.join("a/b/c");
    fs::create_dir_all(&deep).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    const BUFFER: usize = 1024 * 1024;
    let sizes = [
        0,
        1,
        16384,
        16385,
        262_143,
        262_144,
        262_145,
        BUFFER - 2,
        BUFFER - 1,
        BUFFER,
        BUFFER + 1,
        2 * BUFFER - 1,
        2 * BUFFER,
        2 * BUFFER + 1,
        40 * BUFFER + 3,
    ];
    for (seed, size) in sizes.into_iter().enumerate() {
        fs::write(deep.join(format!("{size}")), content(seed, size)).unwrap();
    }
    for number in 0..500 {
        fs::write(
            root.join(format!("a/{number}")),
            content(number, number * 5),
        )
        .unwrap();
    }
    fs::write(root.join(OsStr::from_bytes(b"\xff\xfe\n")), b"not UTF-8").unwrap();
    symlink(OsStr::from_bytes(b"\xff"), root.join("link")).unwrap();
    symlink("a", root.join("link to directory")).unwrap();

    let services = Services::default();
    let node = services.import(&root).unwrap();
    assert_eq!(node, reference::node(&root));
    services.assert_holds(&node, &root);
    // However many threads there are, and again.
    for readers in [1, 2, 7] {
        let options = Options {
            readers: readers.try_into().ok(),
            ..Options::default()
        };
        let again = import(
            &root,
            &*services.blobs,
            &*services.directories,
            &mut (),
            &options,
        );
        assert_eq!(again.unwrap(), node);
    }
}

#[test]
fn a_root_that_is_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let services = Services::default();
    let link = dir.path().join("link");
    symlink("somewhere/else", &link).unwrap();
    let node = services.import(&link).unwrap();
    assert_eq!(node, Node::symlink("somewhere/else".into()).unwrap());
    for size in [0, 5, 3_000_000] {
        let file = dir.path().join("file");
        fs::write(&file, content(1, size)).unwrap();
        let node = services.import(&file).unwrap();
        assert_eq!(node, reference::node(&file));
        services.assert_holds(&node, &file);
    }
}

#[test]
fn what_the_owner_may_execute_is_executable() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"#!").unwrap();
    for (mode, expected) in [
        (0o644, false),
        (0o755, true),
        (0o700, true),
        (0o655, false),
        (0o4755, true),
        (0o500, true),
        (0o411, false),
    ] {
        set_mode(&file, mode);
        let node = Services::default().import(&file).unwrap();
        let Node::File { executable, .. } = node else {
            panic!("{node:?}");
        };
        assert_eq!(executable, expected, "{mode:o}");
    }
}

#[test]
fn a_name_may_lead_to_the_root_through_a_symlink() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("tree")).unwrap();
    fs::write(dir.path().join("tree/file"), b"x").unwrap();
    symlink("tree", dir.path().join("link")).unwrap();
    let services = Services::default();
    let tree = services.import(&dir.path().join("tree")).unwrap();
    // As for every program, a slash at the end means what the symlink points to.
    assert_eq!(services.import(&dir.path().join("link/")).unwrap(), tree);
    assert_eq!(services.import(&dir.path().join("link/.")).unwrap(), tree);
    let file = services.import(&dir.path().join("link/file")).unwrap();
    assert!(matches!(file, Node::File { size: 1, .. }));
}

#[test]
fn progress_counts_what_was_stored() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::write(dir.path().join("small"), content(0, 1000)).unwrap();
    fs::write(dir.path().join("sub/big"), content(1, 3_000_000)).unwrap();
    symlink("x", dir.path().join("link")).unwrap();
    let progress = Progress::default();
    let services = Services::default();
    let options = Options {
        progress: Some(&progress),
        ..Options::default()
    };
    import(
        dir.path(),
        &*services.blobs,
        &*services.directories,
        &mut (),
        &options,
    )
    .unwrap();
    assert_eq!(progress.files(), 2);
    assert_eq!(progress.bytes(), 3_001_000);
    assert_eq!(progress.directories(), 2);
    assert_eq!(progress.symlinks(), 1);
}
