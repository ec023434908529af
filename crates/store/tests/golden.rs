//! What real Nix and another implementation of castore made, in
//! `testdata/golden`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

use castore::{
    Node,
    blobservice::MemoryBlobService,
    directoryservice::MemoryDirectoryService,
    local::{LocalStore, Options},
};
use nix_compat::{NixHash, StorePath, hash::HashFormat, path_info_json, registration};
use store::{
    Metadata, PathInfoService,
    binary_cache::{BinaryCache, Trust},
    closure,
    import::{ImportError, Importer},
    nar,
    pathinfoservice::LocalPathInfoService,
    verify,
};

const CACHES: [&str; 3] = ["cache-none", "cache-xz", "cache-zstd"];
const BYTES: &str = "92sq0qwmmidpbsc2pnpk62d0bqjgkvxv-bytes";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/golden")
}

fn keys() -> Trust {
    let key = fs::read_to_string(golden().join("public-key")).unwrap();
    Trust::Keys(vec![key.trim().parse().unwrap()])
}

fn cache(name: &str) -> BinaryCache {
    BinaryCache::open(golden().join(name), keys()).unwrap()
}

/// The NARs of all paths, by base name.
fn nars() -> BTreeMap<String, Vec<u8>> {
    let cache = cache("cache-none");
    let mut nars: BTreeMap<_, _> = cache
        .digests()
        .unwrap()
        .map(|digest| {
            let info = cache.narinfo(&digest.unwrap()).unwrap().unwrap();
            let nar = fs::read(cache.dir().join(&info.url)).unwrap();
            (info.store_path.to_string(), nar)
        })
        .collect();
    let nar = fs::read(golden().join(format!("nar/{BYTES}.nar"))).unwrap();
    nars.insert(BYTES.to_owned(), nar);
    nars
}

/// Compares a node with what castore-roots.json says of it.
fn assert_root(name: &str, node: &Node, nar: &nar::NarDigest) {
    let roots = fs::read(golden().join("castore-roots.json")).unwrap();
    let roots: serde_json::Value = serde_json::from_slice(&roots).unwrap();
    let root = &roots[name];
    let sha256 = NixHash::Sha256(nar.sha256).to_bare(HashFormat::Base16);
    assert_eq!(root["nar_sha256"], sha256.as_str(), "{name}");
    assert_eq!(root["nar_size"], nar.size, "{name}");
    match node {
        Node::Directory { digest, size } => {
            assert_eq!(root["kind"], "directory", "{name}");
            assert_eq!(root["blake3"], digest.to_string().as_str(), "{name}");
            assert_eq!(root["size"], *size, "{name}");
        }
        Node::File {
            digest,
            size,
            executable,
        } => {
            assert_eq!(root["kind"], "file", "{name}");
            assert_eq!(root["blake3"], digest.to_string().as_str(), "{name}");
            assert_eq!(root["size"], *size, "{name}");
            assert_eq!(root["executable"], *executable, "{name}");
        }
        Node::Symlink { target } => {
            assert_eq!(root["kind"], "symlink", "{name}");
            assert_eq!(root["target"], str::from_utf8(target).unwrap(), "{name}");
        }
    }
}

fn new_store() -> (tempfile::TempDir, Arc<LocalStore>) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        create: true,
        ..Options::default()
    };
    let store = LocalStore::open(dir.path(), &options).unwrap();
    (dir, store)
}

fn assert_clean(store: &Arc<LocalStore>) {
    verify::everything(store, &verify::Progress::default(), &|damage| {
        panic!("{damage}")
    })
    .unwrap();
}

#[test]
fn nars_give_the_known_roots_and_come_back_the_same() {
    let nars = nars();
    assert_eq!(nars.len(), 10);
    let blobs = MemoryBlobService::default();
    let directories = MemoryDirectoryService::default();
    for (name, archive) in nars {
        let ingested = nar::ingest(archive.as_slice(), &blobs, &directories).unwrap();
        assert_root(&name, &ingested.node, &ingested.nar);
        let mut rendered = Vec::new();
        nar::render(&ingested.node, &blobs, &directories, &mut rendered).unwrap();
        assert!(rendered == archive, "{name}");
        let digest = nar::digest(&ingested.node, &blobs, &directories).unwrap();
        assert_eq!(digest, ingested.nar, "{name}");
    }
}

#[test]
fn caches_import_into_a_local_store() {
    for name in CACHES {
        let cache = cache(name);
        let (_dir, store) = new_store();
        let top = StorePath::from_base_name("snivjg24jzfwkz6r6r70d98y6b2hmpi4-top-0.1").unwrap();
        let infos = closure([top], |path| cache.narinfo(path.digest())).unwrap();
        assert_eq!(infos.len(), 4, "{name}");
        let mut rest: Vec<_> = (cache.digests().unwrap())
            .map(|digest| cache.narinfo(&digest.unwrap()).unwrap().unwrap())
            .map(|info| info.store_path)
            .collect();
        rest.sort();
        let all = closure(rest, |path| cache.narinfo(path.digest())).unwrap();

        let mut importer = Importer::new(&store, Default::default());
        for info in infos.into_iter().chain(all) {
            let path = info.store_path.clone();
            let expected = Metadata::from(info.clone());
            let info = importer.fetch(&cache, info).unwrap();
            let digest = nar::NarDigest {
                sha256: info.nar_sha256,
                size: info.nar_size,
            };
            assert_root(&path.to_string(), &info.node, &digest);
            assert_eq!(Metadata::from(info), expected);
        }
        let service = LocalPathInfoService::new(store.clone());
        assert_eq!(
            service.list().count(),
            0,
            "nothing is visible before the commit"
        );
        importer.commit().unwrap();
        assert_eq!(service.list().count(), 9);
        assert_clean(&store);
    }
}

#[test]
fn references_must_be_there() {
    let cache = cache("cache-none");
    let (_dir, store) = new_store();
    let top = StorePath::from_base_name("snivjg24jzfwkz6r6r70d98y6b2hmpi4-top-0.1").unwrap();
    let info = cache.narinfo(top.digest()).unwrap().unwrap();
    let mut importer = Importer::new(&store, Default::default());
    let error = importer.fetch(&cache, info.clone()).unwrap_err();
    let ImportError::MissingReferences { missing, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(missing.len(), 3);
    let options = store::import::Options {
        allow_missing_references: true,
        ..Default::default()
    };
    let mut importer = Importer::new(&store, options);
    importer.fetch(&cache, info).unwrap();
    importer.commit().unwrap();
    let missing = std::sync::atomic::AtomicUsize::new(0);
    verify::everything(&store, &verify::Progress::default(), &|damage| {
        assert!(matches!(damage, verify::Damage::MissingReference { .. }));
        missing.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    })
    .unwrap();
    assert_eq!(missing.into_inner(), 3);
}

/// Writes the golden path as a tree on disk.
fn unpack(name: &str, to: &Path) {
    use nix_compat::nar::{Event, NarReader};
    use std::os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
    };
    let archive = nars().remove(name).unwrap();
    let mut reader = NarReader::new(archive.as_slice());
    let mut path = to.to_owned();
    let mut depth = 0;
    while let Some(event) = reader.next_event().unwrap() {
        match event {
            Event::EnterDirectory => {
                fs::create_dir(&path).unwrap();
                depth += 1;
                continue;
            }
            Event::Entry { name } => {
                path.push(std::ffi::OsStr::from_bytes(name));
                continue;
            }
            Event::File {
                executable,
                mut contents,
            } => {
                std::io::copy(&mut contents, &mut File::create(&path).unwrap()).unwrap();
                let mode = if executable { 0o755 } else { 0o644 };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
            Event::Symlink { target } => {
                symlink(std::ffi::OsStr::from_bytes(target), &path).unwrap();
            }
            Event::LeaveDirectory => depth -= 1,
        }
        if depth > 0 {
            path.pop();
        }
    }
}

#[test]
fn trees_import_by_registration_and_by_json() {
    let source = tempfile::tempdir().unwrap();
    for name in nars().keys() {
        unpack(name, &source.path().join(name));
    }
    let registration = File::open(golden().join("registration.txt")).unwrap();
    let registered: Vec<Metadata> =
        registration::RegistrationReader::new(std::io::BufReader::new(registration))
            .map(|record| record.unwrap().into())
            .collect();
    let json = fs::read(golden().join("path-info.json")).unwrap();
    let listed: Vec<Metadata> = path_info_json::parse(json)
        .unwrap()
        .into_iter()
        .map(|entry| match entry {
            path_info_json::Entry::Valid(info) => (*info).into(),
            path_info_json::Entry::Invalid(path) => panic!("{path}"),
        })
        .collect();
    for (count, all) in [(10, registered), (9, listed)] {
        assert_eq!(all.len(), count);
        let (_dir, store) = new_store();
        let mut importer = Importer::new(&store, Default::default());
        let roots = all.iter().map(|metadata| metadata.store_path.clone());
        let order = closure(roots, |path| {
            Ok::<_, ()>(all.iter().find(|m| m.store_path == *path).cloned())
        })
        .unwrap();
        for metadata in order {
            let name = metadata.store_path.to_string();
            let info = importer
                .store_path(&source.path().join(&name), metadata)
                .unwrap();
            let digest = nar::NarDigest {
                sha256: info.nar_sha256,
                size: info.nar_size,
            };
            assert_root(&name, &info.node, &digest);
        }
        importer.commit().unwrap();
        assert_clean(&store);
    }
}

#[test]
fn source_trees_get_the_paths_that_nix_gives() {
    // These two are `nix store add`ed trees.
    for name in [
        "1bmy1h2sq0chxhhwqk2qz2dqbb64a41b-tree",
        "5cq8g09l6map5dgp4a68nz6j2b1xwvqq-hi",
    ] {
        let source = tempfile::tempdir().unwrap();
        unpack(name, &source.path().join("x"));
        let (_dir, store) = new_store();
        let mut importer = Importer::new(&store, Default::default());
        let path = StorePath::from_base_name(name).unwrap();
        let info = importer
            .tree(&source.path().join("x"), path.name())
            .unwrap();
        assert_eq!(info.store_path, path);
        importer.commit().unwrap();
        let service = LocalPathInfoService::new(store.clone());
        assert_eq!(service.get(path.digest()).unwrap(), Some(info));
    }
}

#[test]
fn other_contents_than_known_are_refused() {
    let source = tempfile::tempdir().unwrap();
    let tree = source.path().join("tree");
    unpack("6460hws9pz86r3vvyjn88kbf3g1aqj40-base-1.0", &tree);
    let cache = cache("cache-none");
    let path = StorePath::from_base_name("6460hws9pz86r3vvyjn88kbf3g1aqj40-base-1.0").unwrap();
    let metadata = Metadata::from(cache.narinfo(path.digest()).unwrap().unwrap());
    fs::write(tree.join("more"), "x").unwrap();
    let (_dir, store) = new_store();
    let mut importer = Importer::new(&store, Default::default());
    let error = importer.store_path(&tree, metadata.clone()).unwrap_err();
    assert!(error.to_string().contains(&path.to_string()), "{error}");
    importer.commit().unwrap();
    let service = LocalPathInfoService::new(store.clone());
    assert_eq!(service.get(path.digest()).unwrap(), None);
    // The importer works on.
    fs::remove_file(tree.join("more")).unwrap();
    importer.store_path(&tree, metadata).unwrap();
    importer.commit().unwrap();
    assert!(service.get(path.digest()).unwrap().is_some());
}
