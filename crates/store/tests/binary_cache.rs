//! Binary caches that are not what they should be.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use castore::{blobservice::MemoryBlobService, directoryservice::MemoryDirectoryService};
use nix_compat::{NarInfo, NixHash, StorePath, signature::SigningKey};
use store::{
    PathInfo,
    binary_cache::{BinaryCache, BinaryCacheError, FetchError, FetchErrorKind, Trust, Untrusted},
};

const BASE: &str = "6460hws9pz86r3vvyjn88kbf3g1aqj40-base-1.0";
const TREE: &str = "1bmy1h2sq0chxhhwqk2qz2dqbb64a41b-tree";
const FLAT: &str = "w9wnwc2ygccspx9frs8vs3yj8qw5rd6s-zeros300k";
const TEXT: &str = "rxwh5d90qcsjs40band2j5axi75vxwga-note.txt";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata/golden")
        .join(name)
}

fn path(base_name: &str) -> StorePath {
    StorePath::from_base_name(base_name).unwrap()
}

/// A copy of a golden cache, to be spoilt.
struct Copy {
    dir: tempfile::TempDir,
}

impl Copy {
    fn of(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["", "nar"] {
            fs::create_dir_all(dir.path().join(sub)).unwrap();
            for entry in fs::read_dir(golden(name).join(sub)).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_file() {
                    let to = dir.path().join(sub).join(entry.file_name());
                    fs::copy(entry.path(), &to).unwrap();
                    fs::set_permissions(&to, fs::Permissions::from_mode(0o644)).unwrap();
                }
            }
        }
        Self { dir }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn narinfo_file(&self, base_name: &str) -> PathBuf {
        self.file(&format!("{}.narinfo", path(base_name).digest_text()))
    }

    fn narinfo(&self, base_name: &str) -> NarInfo {
        let text = fs::read(self.narinfo_file(base_name)).unwrap();
        NarInfo::parse(text).unwrap()
    }

    fn edit(&self, base_name: &str, edit: impl FnOnce(&mut NarInfo)) {
        let mut info = self.narinfo(base_name);
        edit(&mut info);
        fs::write(self.narinfo_file(base_name), info.to_string()).unwrap();
    }

    fn open(&self, trust: Trust) -> BinaryCache {
        BinaryCache::open(self.dir.path(), trust).unwrap()
    }
}

fn golden_key() -> Trust {
    let key = fs::read_to_string(golden("public-key")).unwrap();
    Trust::Keys(vec![key.trim().parse().unwrap()])
}

fn fetch(cache: &BinaryCache, base_name: &str) -> Result<PathInfo, FetchErrorKind> {
    let info = cache.narinfo(path(base_name).digest()).unwrap().unwrap();
    let blobs = MemoryBlobService::default();
    let directories = MemoryDirectoryService::default();
    let result = cache.fetch(info, &blobs, &directories);
    result.map_err(|FetchError { store_path, kind }| {
        assert_eq!(store_path, path(base_name));
        *kind
    })
}

#[test]
fn directories_that_are_no_cache_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = || BinaryCache::open(dir.path(), Trust::Anyone).unwrap_err();
    assert!(matches!(open(), BinaryCacheError::NotACache { .. }));
    for (text, store) in [
        ("StoreDir: /gnu/store\n", "/gnu/store"),
        ("Priority: 1\n", ""),
        ("", ""),
    ] {
        fs::write(dir.path().join("nix-cache-info"), text).unwrap();
        let error = open();
        assert!(
            matches!(&error, BinaryCacheError::StoreDir { found, .. } if found == store),
            "{error}"
        );
    }
    fs::write(dir.path().join("nix-cache-info"), vec![b'x'; 2 << 20]).unwrap();
    assert!(matches!(open(), BinaryCacheError::Read { .. }));
}

#[test]
fn signatures_decide_what_is_trusted() {
    let copy = Copy::of("cache-none");
    let ask = |trust: Trust, name: &str| match copy.open(trust).narinfo(path(name).digest()) {
        Ok(info) => Ok(info.unwrap().store_path),
        Err(BinaryCacheError::Untrusted { source, .. }) => Err(source),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(ask(golden_key(), BASE), Ok(path(BASE)));
    assert_eq!(ask(Trust::Anyone, BASE), Ok(path(BASE)));
    let by = || "golden-1".to_owned();
    let nobody = || Trust::Keys(Vec::new());
    assert_eq!(ask(nobody(), BASE), Err(Untrusted::NoKeys { by: by() }));
    // Another key of the same name.
    let other = SigningKey::from_seed("golden-1", &[1; 32]).unwrap();
    let other = Trust::Keys(vec![other.public_key()]);
    assert_eq!(
        ask(other, BASE),
        Err(Untrusted::WrongSignature { by: by() })
    );
    // Paths that follow from their contents.
    for name in [TREE, FLAT, TEXT] {
        assert_eq!(ask(nobody(), name), Ok(path(name)));
    }

    copy.edit(BASE, |info| info.nar_size += 1);
    assert_eq!(
        ask(golden_key(), BASE),
        Err(Untrusted::WrongSignature { by: by() })
    );
    copy.edit(BASE, |info| info.signatures.clear());
    assert_eq!(ask(golden_key(), BASE), Err(Untrusted::Unsigned));
    // A content address that the path does not follow from.
    copy.edit(TREE, |info| {
        info.signatures.clear();
        info.ca = Some(nix_compat::ContentAddress::Recursive(NixHash::Sha256(
            [1; 32],
        )));
    });
    assert_eq!(ask(nobody(), TREE), Err(Untrusted::Unsigned));
}

#[test]
fn content_addresses_are_checked_against_the_contents() {
    let copy = Copy::of("cache-none");
    let nobody = copy.open(Trust::Keys(Vec::new()));
    for name in [TREE, FLAT, TEXT] {
        fetch(&nobody, name).unwrap();
    }
    // The narinfo describes other contents, truly, but keeps the address.
    let base = copy.narinfo(BASE);
    for name in [TREE, FLAT, TEXT] {
        copy.edit(name, |info| {
            info.url = base.url.clone();
            info.file_hash = base.file_hash;
            info.file_size = base.file_size;
            info.nar_sha256 = base.nar_sha256;
            info.nar_size = base.nar_size;
        });
        let error = fetch(&nobody, name).unwrap_err();
        assert!(
            matches!(error, FetchErrorKind::ContentAddress { .. }),
            "{error}"
        );
    }
}

#[test]
fn a_narinfo_of_another_path_is_refused() {
    let copy = Copy::of("cache-none");
    fs::copy(copy.narinfo_file(TREE), copy.narinfo_file(BASE)).unwrap();
    let cache = copy.open(Trust::Anyone);
    let error = cache.narinfo(path(BASE).digest()).unwrap_err();
    assert!(
        matches!(error, BinaryCacheError::WrongPath { .. }),
        "{error}"
    );
    fs::write(copy.narinfo_file(BASE), "StorePath: x\n").unwrap();
    let error = cache.narinfo(path(BASE).digest()).unwrap_err();
    assert!(matches!(error, BinaryCacheError::NarInfo { .. }), "{error}");
    assert_eq!(cache.narinfo(&[0; 20]).unwrap(), None);
}

#[test]
fn damaged_files_are_noticed() {
    for name in ["cache-none", "cache-xz", "cache-zstd"] {
        let copy = Copy::of(name);
        let file = copy.file(&copy.narinfo(TREE).url);
        let sound = fs::read(&file).unwrap();
        let cache = copy.open(golden_key());
        fetch(&cache, TREE).unwrap();

        for at in [0, 5, sound.len() / 2, sound.len() - 1] {
            let mut damaged = sound.clone();
            damaged[at] ^= 1;
            fs::write(&file, damaged).unwrap();
            let error = fetch(&cache, TREE).unwrap_err();
            assert!(
                matches!(error, FetchErrorKind::FileMismatch { .. }),
                "{name}: {error}"
            );
        }
        let longer = [sound.as_slice(), b"x"].concat();
        for wrong in [&sound[..0], &sound[..1], &sound[..sound.len() - 1], &longer] {
            fs::write(&file, wrong).unwrap();
            let error = fetch(&cache, TREE).unwrap_err();
            assert!(
                matches!(error, FetchErrorKind::FileSize { .. }),
                "{name}: {error}"
            );
        }
        fs::remove_file(&file).unwrap();
        let error = fetch(&cache, TREE).unwrap_err();
        assert!(
            matches!(error, FetchErrorKind::Open { .. }),
            "{name}: {error}"
        );
    }
}

#[test]
fn damage_is_noticed_without_a_file_hash_too() {
    for name in ["cache-none", "cache-xz", "cache-zstd"] {
        let copy = Copy::of(name);
        copy.edit(TREE, |info| {
            info.file_hash = None;
            info.file_size = None;
        });
        let file = copy.file(&copy.narinfo(TREE).url);
        let sound = fs::read(&file).unwrap();
        let cache = copy.open(golden_key());
        fetch(&cache, TREE).unwrap();
        for len in [0, 1, sound.len() / 2, sound.len() - 1] {
            fs::write(&file, &sound[..len]).unwrap();
            assert!(fetch(&cache, TREE).is_err(), "{name}: {len} bytes");
        }
        for at in (0..sound.len()).step_by(sound.len() / 50) {
            let mut damaged = sound.clone();
            damaged[at] ^= 0x10;
            fs::write(&file, damaged).unwrap();
            if let Ok(info) = fetch(&cache, TREE) {
                // Some bits of a compressed file mean nothing.
                assert_eq!(info.nar_sha256, copy.narinfo(TREE).nar_sha256);
            }
        }
        fs::write(&file, [sound.as_slice(), b"trailing"].concat()).unwrap();
        assert!(fetch(&cache, TREE).is_err(), "{name}: trailing data");
    }
}

#[test]
fn other_nars_than_described_are_refused() {
    let copy = Copy::of("cache-zstd");
    let cache = copy.open(Trust::Anyone);
    copy.edit(BASE, |info| info.nar_sha256 = [1; 32]);
    let error = fetch(&cache, BASE).unwrap_err();
    assert!(
        matches!(error, FetchErrorKind::NarMismatch { .. }),
        "{error}"
    );
    let copy = Copy::of("cache-zstd");
    let cache = copy.open(Trust::Anyone);
    copy.edit(BASE, |info| info.nar_size += 8);
    let error = fetch(&cache, BASE).unwrap_err();
    assert!(
        matches!(error, FetchErrorKind::NarMismatch { .. }),
        "{error}"
    );
}

#[test]
fn a_small_file_cannot_become_a_huge_one() {
    // One file of 1 GiB of zeros, in a few KiB.
    let mut head = Vec::new();
    let mut string = |bytes: &[u8]| {
        head.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        head.extend_from_slice(bytes);
        head.resize(head.len().next_multiple_of(8), 0);
    };
    for tag in ["nix-archive-1", "(", "type", "regular", "contents"] {
        string(tag.as_bytes());
    }
    head.extend_from_slice(&(1_u64 << 30).to_le_bytes());
    let mut packed = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    std::io::Write::write_all(&mut packed, &head).unwrap();
    std::io::copy(
        &mut std::io::Read::take(std::io::repeat(0), 1 << 28),
        &mut packed,
    )
    .unwrap();
    let packed = packed.finish().unwrap();
    assert!(packed.len() < 100_000);

    let copy = Copy::of("cache-zstd");
    let url = copy.narinfo(BASE).url;
    fs::write(copy.file(&url), &packed).unwrap();
    copy.edit(BASE, |info| {
        info.file_hash = Some(NixHash::sha256(&packed));
        info.file_size = Some(packed.len() as u64);
    });
    let error = fetch(&copy.open(Trust::Anyone), BASE).unwrap_err();
    let text = format!("{:?}", causes(&error));
    assert!(text.contains("larger than its narinfo says"), "{text}");
}

fn causes(error: &dyn std::error::Error) -> Vec<String> {
    let mut chain = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        chain.push(cause.to_string());
        next = cause.source();
    }
    chain
}

#[test]
fn urls_stay_in_the_cache() {
    let copy = Copy::of("cache-none");
    let cache = copy.open(Trust::Anyone);
    for url in [
        "/etc/passwd",
        "../x",
        "nar/../../x",
        "nar//x",
        "./x",
        "http://h/x",
        "",
    ] {
        let text = fs::read_to_string(
            golden("cache-none").join(format!("{}.narinfo", path(BASE).digest_text())),
        );
        let text = text.unwrap();
        let line = text.lines().find(|line| line.starts_with("URL:")).unwrap();
        fs::write(
            copy.narinfo_file(BASE),
            text.replace(line, &format!("URL: {url}")),
        )
        .unwrap();
        match cache.narinfo(path(BASE).digest()) {
            Err(BinaryCacheError::NarInfo { .. }) if url.is_empty() => {}
            Err(error) => panic!("{error}"),
            Ok(_) => {
                let error = fetch(&cache, BASE).unwrap_err();
                assert!(matches!(error, FetchErrorKind::Url { .. }), "{error}");
            }
        }
    }
}

#[test]
fn other_compressions_are_named() {
    use nix_compat::narinfo::Compression;
    let copy = Copy::of("cache-none");
    let cache = copy.open(Trust::Anyone);
    for compression in [Compression::Bzip2, Compression::Brotli, Compression::Lz4] {
        copy.edit(BASE, |info| info.compression = compression);
        let error = fetch(&cache, BASE).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(compression.as_str()) && text.contains("zstd"),
            "{text}"
        );
    }
}
