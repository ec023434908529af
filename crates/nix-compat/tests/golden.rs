//! Everything in `testdata/golden`, which Nix 2.26.3 made, against every format.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufReader, Read as _},
    path::{Path, PathBuf},
};

use nix_compat::{
    ContentAddress, NarInfo, NixHash, StorePath,
    hash::Sha256Stream,
    nar::{self, Event, NarReader, NarWriter},
    narinfo::Compression,
    path_info_json::{self, Entry, PathInfo},
    registration::{Registration, RegistrationReader},
    signature::{PublicKey, Signature},
    store_path::build,
};

const CACHES: [(&str, Compression); 3] = [
    ("cache-none", Compression::None),
    ("cache-xz", Compression::Xz),
    ("cache-zstd", Compression::Zstd),
];

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata/golden")
        .join(path)
}

fn read(path: impl AsRef<Path>) -> Vec<u8> {
    let path = path.as_ref();
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    let directory = golden(directory);
    let mut files: Vec<_> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

fn narinfos(cache: &str) -> Vec<(String, NarInfo)> {
    let infos: Vec<_> = files(cache, "narinfo")
        .into_iter()
        .map(|path| {
            let text = String::from_utf8(read(&path)).unwrap();
            let info: NarInfo = text
                .parse()
                .unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
            assert_eq!(
                path.file_stem().unwrap(),
                info.store_path.digest_text().as_str()
            );
            (text, info)
        })
        .collect();
    assert_eq!(infos.len(), 9, "{cache}");
    infos
}

fn registrations() -> Vec<Registration> {
    RegistrationReader::new(BufReader::new(
        fs::File::open(golden("registration.txt")).unwrap(),
    ))
    .collect::<Result<_, _>>()
    .unwrap()
}

fn path_infos() -> Vec<PathInfo> {
    let entries = path_info_json::parse(read(golden("path-info.json"))).unwrap();
    entries
        .into_iter()
        .map(|entry| match entry {
            Entry::Valid(info) => *info,
            Entry::Invalid(path) => panic!("{path}"),
        })
        .collect()
}

/// All NARs, with the SHA-256 that is in their file name's narinfo or in the registration text.
fn nars() -> Vec<(Vec<u8>, NixHash, u64)> {
    let mut nars: Vec<_> = narinfos("cache-none")
        .into_iter()
        .map(|(_, info)| {
            let nar = read(golden("cache-none").join(&info.url));
            (nar, NixHash::Sha256(info.nar_sha256), info.nar_size)
        })
        .collect();
    for path in files("nar", "nar") {
        let store_path: StorePath = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let registration = registrations()
            .into_iter()
            .find(|r| r.path == store_path)
            .unwrap();
        nars.push((
            read(&path),
            NixHash::Sha256(registration.nar_sha256),
            registration.nar_size,
        ));
    }
    assert_eq!(nars.len(), 10);
    nars
}

#[test]
fn narinfos_round_trip() {
    for (cache, compression) in CACHES {
        for (text, info) in narinfos(cache) {
            assert_eq!(info.to_string(), text);
            assert_eq!(info.compression, compression);
            let file = read(golden(cache).join(&info.url));
            assert_eq!(info.file_hash, Some(NixHash::sha256(&file)));
            assert_eq!(info.file_size, Some(file.len() as u64));
        }
    }
}

#[test]
fn signatures_verify() {
    let text = String::from_utf8(read(golden("public-key"))).unwrap();
    let key: PublicKey = text.trim_end().parse().unwrap();
    assert_eq!(key.to_string(), text.trim_end());
    let stranger: PublicKey = nix_compat::signature::SigningKey::from_seed(key.name(), &[1; 32])
        .unwrap()
        .public_key();
    for (cache, _) in CACHES {
        for (_, info) in narinfos(cache) {
            let keys = [stranger.clone(), key.clone()];
            assert_eq!(info.verified_by(&keys), Some(&key), "{}", info.store_path);
            assert_eq!(info.verified_by(&keys[..1]), None);

            let mut other = info.clone();
            other.nar_sha256[0] ^= 1;
            assert_eq!(other.verified_by(&keys), None);
            let mut other = info.clone();
            other.nar_size += 1;
            assert_eq!(other.verified_by(&keys), None);
            let mut other = info.clone();
            other
                .references
                .insert(StorePath::new([0; 20], "more").unwrap());
            assert_eq!(other.verified_by(&keys), None);
            let mut other = info.clone();
            other.store_path = StorePath::new(*info.store_path.digest(), "other").unwrap();
            assert_eq!(other.verified_by(&keys), None);
            let mut other = info.clone();
            other.signatures = info
                .signatures
                .iter()
                .map(|signature| {
                    let mut bytes = signature.bytes().to_vec();
                    bytes[17] ^= 0x10;
                    Signature::new(signature.name(), &bytes).unwrap()
                })
                .collect();
            assert_eq!(other.verified_by(&keys), None);
        }
    }
}

#[test]
fn content_addresses_give_the_paths() {
    let (mut source, mut flat, mut text) = (0, 0, 0);
    for info in path_infos() {
        let Some(ca) = info.ca else { continue };
        match ca {
            ContentAddress::Recursive(hash) => {
                source += 1;
                assert_eq!(hash, NixHash::Sha256(info.nar_sha256));
                let path =
                    build::source_path(info.path.name(), &info.nar_sha256, &info.references, false);
                assert_eq!(path, Ok(info.path.clone()));
            }
            ContentAddress::Flat(_) => flat += 1,
            ContentAddress::Text(_) => text += 1,
        }
        assert!(ca.matches(&info.path, &info.references), "{}", info.path);
        assert_eq!(
            ca.store_path(info.path.name(), &info.references, false)
                .unwrap(),
            info.path
        );
        let other = StorePath::new([0; 20], "other").unwrap();
        assert!(!ca.matches(&info.path, [&other]));
        assert!(!ca.matches(&other, &info.references));
        assert!(!ca.matches(&info.path, [&info.path]));
    }
    assert_eq!((source, flat, text), (2, 1, 1));
    for (_, info) in narinfos("cache-none") {
        assert_eq!(info.is_content_addressed(), info.ca.is_some());
    }
}

/// The contents that the hashes of flat files and texts were taken of.
#[test]
fn flat_hashes_are_those_of_the_contents() {
    for (_, info) in narinfos("cache-none") {
        let hash = match info.ca {
            None | Some(ContentAddress::Recursive(_)) => continue,
            Some(ca @ (ContentAddress::Flat(_) | ContentAddress::Text(_))) => ca.hash(),
        };
        let nar = read(golden("cache-none").join(&info.url));
        let mut reader = NarReader::new(nar.as_slice());
        let Ok(Some(Event::File {
            executable: false,
            mut contents,
        })) = reader.next_event()
        else {
            panic!("{} is no file", info.store_path);
        };
        let mut bytes = Vec::new();
        contents.read_to_end(&mut bytes).unwrap();
        assert_eq!(hash, NixHash::sha256(bytes));
    }
}

#[test]
fn nars_round_trip() {
    for (nar, hash, size) in nars() {
        assert_eq!(NixHash::sha256(&nar), hash);
        assert_eq!(nar.len() as u64, size);

        let mut reader = NarReader::new(nar.as_slice());
        let mut writer = NarWriter::new(Sha256Stream::new(Vec::new()));
        nar::copy(&mut reader, &mut writer).unwrap();
        assert_eq!(reader.offset(), size);
        assert_eq!(writer.offset(), size);
        reader.expect_end().unwrap();
        let (copied, digest, len) = writer.finish().unwrap().finish();
        assert!(copied == nar, "{hash}");
        assert_eq!((NixHash::Sha256(digest), len), (hash, size));
    }
}

#[test]
fn small_nars_truncated_or_mutated_never_panic() {
    for (nar, ..) in nars().into_iter().filter(|(nar, ..)| nar.len() < 2000) {
        for index in 0..nar.len() {
            for value in [0, 1, 0x29, 0x7f, 0x80, 0xff] {
                let mut mutated = nar.clone();
                mutated[index] = value;
                let mut writer = NarWriter::new(Vec::new());
                let mut reader = NarReader::new(mutated.as_slice());
                if nar::copy(&mut reader, &mut writer).is_ok() && reader.expect_end().is_ok() {
                    assert!(writer.finish().unwrap() == mutated);
                }
            }
            let mut reader = NarReader::new(&nar[..index]);
            assert!(nar::copy(&mut reader, &mut NarWriter::new(std::io::sink())).is_err());
        }
    }
}

#[test]
fn registration_round_trips() {
    let mut text = Vec::new();
    let registrations = registrations();
    for registration in &registrations {
        registration.write(&mut text).unwrap();
    }
    assert_eq!(text, read(golden("registration.txt")));
    assert_eq!(registrations.len(), 10);

    let table = String::from_utf8(read(golden("nar-sha256.txt"))).unwrap();
    for (line, registration) in table.lines().zip(&registrations) {
        let hash =
            NixHash::Sha256(registration.nar_sha256).to_bare(nix_compat::hash::HashFormat::Base16);
        assert_eq!(
            line,
            format!("{} {hash} {}", registration.path, registration.nar_size)
        );
    }
}

/// The same facts come out of narinfo files, registration text and JSON.
#[test]
fn sources_agree() {
    type Facts = ([u8; 32], u64, Option<StorePath>, BTreeSet<StorePath>);
    let registered: BTreeMap<StorePath, Facts> = registrations()
        .into_iter()
        .map(|r| (r.path, (r.nar_sha256, r.nar_size, r.deriver, r.references)))
        .collect();
    let infos = path_infos();
    assert_eq!(infos.len(), 9);
    let mut addresses = BTreeMap::new();
    for info in infos {
        addresses.insert(info.path.clone(), info.ca);
        let facts = (
            info.nar_sha256,
            info.nar_size,
            info.deriver,
            info.references,
        );
        assert_eq!(registered.get(&info.path), Some(&facts));
    }
    for (_, info) in narinfos("cache-xz") {
        assert_eq!(addresses.get(&info.store_path), Some(&info.ca));
        let facts = (
            info.nar_sha256,
            info.nar_size,
            info.deriver,
            info.references,
        );
        assert_eq!(registered.get(&info.store_path), Some(&facts));
    }
}

/// Methods that the store above has no object of: the `outPath` that Nix gives for fixed-output
/// derivations of these hashes.
#[test]
fn fixed_output_paths() {
    for (ca, path) in [
        (
            "fixed:r:sha1:0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33",
            "/nix/store/mp57d33657rf34lzvlbpfa1gjfv5gmpg-bar",
        ),
        (
            "fixed:r:sha256:08813cbee9903c62be4c5027726a418a300da4500b2d369d3af9286f4815ceba",
            "/nix/store/4q0pg5zpfmznxscq3avycvf9xdvx50n3-bar",
        ),
    ] {
        let ca: ContentAddress = ca.parse().unwrap();
        let path = StorePath::from_absolute_path(path).unwrap();
        assert_eq!(ca.store_path("bar", [], false).unwrap(), path);
    }
}

/// `builtins.toFile "baz" "${builtins.toFile "foo" "bar"}"`, as Nix evaluates it.
#[test]
fn text_paths_depend_on_references() {
    let digest = |text: &str| NixHash::sha256(text).into_sha256().unwrap();
    let foo = build::text_path("foo", &digest("bar"), []).unwrap();
    assert_eq!(
        foo.to_absolute_path(),
        "/nix/store/vxjiwkjkn7x4079qvh1jkl5pn05j2aw0-foo"
    );
    let baz = build::text_path("baz", &digest(&foo.to_absolute_path()), [&foo]).unwrap();
    assert_eq!(
        baz.to_absolute_path(),
        "/nix/store/5xd714cbfnkz02h2vbsj4fm03x3f15nf-baz"
    );
}
