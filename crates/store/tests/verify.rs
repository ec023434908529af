//! What `verify` finds in a store that is not sound.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use castore::{
    Digest, Node,
    local::{LocalStore, Options},
};
use nix_compat::StorePath;
use parking_lot::Mutex;
use store::{
    PathInfo, PathInfoService as _,
    import::{Importer, Options as ImportOptions},
    pathinfoservice::LocalPathInfoService,
    verify::{self, Damage},
};

struct Place {
    dir: tempfile::TempDir,
    store: Arc<LocalStore>,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            create: true,
            ..Options::default()
        };
        let store = LocalStore::open(&dir.path().join("store"), &options).unwrap();
        Self { dir, store }
    }

    fn import(&self, name: &str, files: &[(&str, Vec<u8>)]) -> PathInfo {
        let tree = self.dir.path().join(name);
        for (path, content) in files {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        self.import_again(name, Default::default())
    }

    fn import_again(&self, name: &str, options: ImportOptions<'_>) -> PathInfo {
        let mut importer = Importer::new(&self.store, options);
        let info = importer.tree(&self.dir.path().join(name), name).unwrap();
        importer.commit().unwrap();
        info
    }

    /// The damage that a store opened anew has.
    fn verify(&self) -> Vec<Damage> {
        let store = LocalStore::open(self.store.path(), &Options::default()).unwrap();
        let found = Mutex::new(Vec::new());
        let progress = verify::Progress::default();
        verify::everything(&store, &progress, &|damage| found.lock().push(damage)).unwrap();
        assert!(progress.object_bytes() > 0);
        found.into_inner()
    }
}

fn flip(file: &Path, at: usize) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}

fn blob_file(store: &LocalStore, content: &[u8]) -> std::path::PathBuf {
    let digest = Digest::of(content).to_string();
    store.path().join("blobs").join(&digest[..2]).join(digest)
}

#[test]
fn a_sound_store_has_no_damage() {
    let place = Place::new();
    place.import("a", &[("x/y", vec![1; 10]), ("big", vec![2; 500_000])]);
    place.import("b", &[("x/y", vec![1; 10])]);
    assert!(place.verify().is_empty());
}

#[test]
fn every_damaged_file_of_a_path_is_named() {
    let place = Place::new();
    let (one, two) = (vec![1; 500_000], vec![2; 500_000]);
    let files = [
        ("dir/one", one.clone()),
        ("two", two.clone()),
        ("sound", vec![3]),
    ];
    let info = place.import("tree", &files);
    flip(&blob_file(&place.store, &one), 400_000);
    fs::remove_file(blob_file(&place.store, &two)).unwrap();
    let mut named = BTreeSet::new();
    let mut objects = 0;
    for damage in place.verify() {
        let text = damage.to_string();
        match damage {
            Damage::Contents {
                store_path, path, ..
            } => {
                assert_eq!(store_path, info.store_path);
                named.insert(path);
            }
            Damage::Object(_) => {
                objects += 1;
                let digests = [Digest::of(&one).to_string(), Digest::of(&two).to_string()];
                assert!(digests.iter().any(|digest| text.contains(digest)), "{text}");
            }
            _ => panic!("{text}"),
        }
    }
    assert_eq!(
        named,
        BTreeSet::from(["dir/one".to_owned(), "two".to_owned()])
    );
    assert_eq!(objects, 2);
}

#[test]
fn a_path_info_of_other_contents_is_named() {
    let place = Place::new();
    let a = place.import("a", &[("x", vec![1])]);
    let b = place.import("b", &[("x", vec![2])]);
    let service = LocalPathInfoService::new(place.store.clone());
    service
        .put(&PathInfo {
            node: b.node,
            ..a.clone()
        })
        .unwrap();
    let damage = place.verify();
    assert_eq!(damage.len(), 1);
    assert!(
        matches!(&damage[0], Damage::Nar { store_path, .. } if *store_path == a.store_path),
        "{}",
        damage[0]
    );
}

#[test]
fn what_is_missing_is_named() {
    let place = Place::new();
    let a = place.import("a", &[("x", vec![1])]);
    let absent = StorePath::new([9; 20], "absent").unwrap();
    let service = LocalPathInfoService::new(place.store.clone());
    let lost = Node::Directory {
        digest: Digest::of(b"lost"),
        size: 1,
    };
    let info = PathInfo {
        references: [absent.clone(), a.store_path.clone()].into(),
        node: lost,
        ..a
    };
    service.put(&info).unwrap();
    let damage = place.verify();
    assert_eq!(damage.len(), 2);
    assert!(damage.iter().any(|damage| matches!(
        damage,
        Damage::MissingReference { reference, .. } if *reference == absent
    )));
    assert!(damage.iter().any(|damage| matches!(
        damage,
        Damage::Contents { path, source: castore::Error::Missing { .. }, .. } if path == "."
    )));
}

#[test]
fn importing_again_repairs_a_record() {
    let place = Place::new();
    let info = place.import("a", &[("x", vec![1])]);
    let session = place.store.begin().unwrap();
    let mut key = [0; 32];
    key[..20].copy_from_slice(info.store_path.digest());
    session
        .put_record(&castore::local::RecordKey(key), b"nonsense")
        .unwrap();
    session.commit().unwrap();
    let damage = place.verify();
    assert!(matches!(&damage[..], [Damage::PathInfo(_)]), "{damage:?}");
    assert_eq!(place.import("a", &[]), info);
    assert!(place.verify().is_empty());
}

/// Damages a directory where it is in its pack.
fn damage_directory(store: &LocalStore, node: &Node) {
    let Node::Directory { digest, .. } = node else {
        panic!("{node:?} is no directory");
    };
    let directory = castore::DirectoryService::get(store, digest).unwrap();
    let encoded = directory.unwrap().encode();
    for pack in fs::read_dir(store.path().join("packs")).unwrap() {
        let pack = pack.unwrap().path();
        let bytes = fs::read(&pack).unwrap();
        if let Some(at) = (bytes.windows(encoded.len())).position(|bytes| bytes == &encoded[..]) {
            return flip(&pack, at);
        }
    }
    panic!("no pack has it");
}

#[test]
fn a_path_whose_root_is_damaged_is_imported_again() {
    let place = Place::new();
    let info = place.import("a", &[("x", vec![1])]);
    damage_directory(&place.store, &info.node);
    assert!(!place.verify().is_empty());
    assert_eq!(place.import("a", &[]), info);
    assert!(place.verify().is_empty());
}

#[test]
fn repair_stores_anew_whatever_is_damaged() {
    let place = Place::new();
    let big = vec![2; 500_000];
    let files = [
        ("dir/big", big.clone()),
        ("dir/small", vec![1; 20_000]),
        ("link", vec![]),
    ];
    let info = place.import("a", &files);
    let Node::Directory { digest, .. } = &info.node else {
        panic!("{info:?}");
    };
    let root = castore::DirectoryService::get(&*place.store, digest).unwrap();
    damage_directory(&place.store, &root.unwrap().entries()[0].node);
    fs::remove_file(blob_file(&place.store, &big)).unwrap();
    assert!(place.verify().len() >= 2);
    let repair = ImportOptions {
        repair: true,
        ..Default::default()
    };
    assert_eq!(place.import_again("a", repair), info);
    let damage = place.verify();
    assert!(damage.is_empty(), "{damage:?}");
}

#[test]
fn importing_works_around_a_damaged_index() {
    let place = Place::new();
    let info = place.import("a", &[("x", vec![1])]);
    for index in fs::read_dir(place.store.path().join("index")).unwrap() {
        flip(&index.unwrap().path(), 100);
    }
    let store = LocalStore::open(place.store.path(), &Options::default()).unwrap();
    let place = Place { store, ..place };
    let service = LocalPathInfoService::new(place.store.clone());
    assert!(service.get(info.store_path.digest()).is_err());
    assert_eq!(place.import("a", &[]), info);
    let found = service.get(info.store_path.digest()).unwrap();
    assert_eq!(found, Some(info));
    // The index is still damaged; what the path needs is elsewhere now.
    for damage in place.verify() {
        let text = damage.to_string();
        assert!(text.contains("/index/"), "{text}");
    }
}
