//! Store paths that real Nix made, through the whole program.

use std::{collections::BTreeMap, fs};

use crate::{
    harness::{Place, golden},
    nar,
};

/// From `nar-sha256.txt`: hash and size by base name.
fn expected() -> BTreeMap<String, (String, u64)> {
    let text = fs::read_to_string(golden("nar-sha256.txt")).unwrap();
    text.lines()
        .map(|line| {
            let [name, hash, size] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            (name.to_owned(), (hash.to_owned(), size.parse().unwrap()))
        })
        .collect()
}

const BYTES: &str = "92sq0qwmmidpbsc2pnpk62d0bqjgkvxv-bytes";

/// The path that no cache has comes as a tree, described by the registration.
fn import_bytes(place: &Place) {
    let tree = place.path(BYTES);
    nar::unpack(
        &fs::read(golden(&format!("nar/{BYTES}.nar"))).unwrap(),
        &tree,
    );
    let registration = golden("registration.txt");
    let printed = place.run([
        "import".as_ref(),
        "--registration".as_ref(),
        registration.as_os_str(),
        tree.as_os_str(),
    ]);
    assert_eq!(printed, format!("/nix/store/{BYTES}\n"));
}

#[test]
fn every_path_read_through_the_mount_has_its_nar_hash() {
    let key = fs::read_to_string(golden("public-key")).unwrap();
    let key = key.trim();
    for cache in ["cache-none", "cache-xz", "cache-zstd"] {
        let place = Place::new();
        let url = format!("nix+file://{}", golden(cache).display());
        let printed = place.run([
            "import",
            "--from",
            &url,
            "--all",
            "--trusted-public-key",
            key,
        ]);
        assert_eq!(printed.lines().count(), 9);
        import_bytes(&place);
        let mount = place.mount(&["--list-root"]);
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(mount.path("")).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            found.insert(name, nar::digest_of(&entry.path()));
        }
        assert_eq!(found, expected(), "{cache}");
        mount.stop();
        place.run(["verify"]);
    }
}

#[test]
fn a_closure_from_a_cache_is_complete_and_printed_in_order() {
    let place = Place::new();
    let key = fs::read_to_string(golden("public-key")).unwrap();
    let key = key.trim();
    let url = format!(
        "nix+file://{}?trusted-public-keys={}",
        golden("cache-zstd").display(),
        key
    );
    let top = "/nix/store/snivjg24jzfwkz6r6r70d98y6b2hmpi4-top-0.1";
    let error = place.fail(["import", "--from", &url, top]);
    assert!(
        error.contains("refers to paths that are not in the store"),
        "{error}"
    );
    let printed = place.run(["import", "--from", &url, "--closure", top]);
    assert_eq!(printed.lines().count(), 4);
    assert_eq!(printed.lines().last(), Some(top));
    let registered = place.run(["registration", "--closure", top]);
    let golden = fs::read_to_string(golden("registration.txt")).unwrap();
    for line in registered.lines() {
        assert!(golden.contains(line), "{line}");
    }
    assert_eq!(place.run(["registration"]).len(), registered.len());
}

#[test]
fn the_registration_text_is_that_of_nix() {
    let place = Place::new();
    let url = format!("nix+file://{}", golden("cache-xz").display());
    place.run(["import", "--from", &url, "--all", "--no-check-sigs"]);
    import_bytes(&place);
    let records = |text: &str| {
        use nix_compat::registration::RegistrationReader;
        RegistrationReader::new(text.as_bytes())
            .map(|record| record.unwrap())
            .map(|record| (record.path.to_string(), record))
            .collect::<BTreeMap<_, _>>()
    };
    let golden = fs::read_to_string(golden("registration.txt")).unwrap();
    assert_eq!(records(&place.run(["registration"])), records(&golden));
}

#[test]
fn unsigned_paths_are_refused_unless_told() {
    let place = Place::new();
    let url = format!("nix+file://{}", golden("cache-none").display());
    let base = "6460hws9pz86r3vvyjn88kbf3g1aqj40-base-1.0";
    let error = place.fail(["import", "--from", &url, base]);
    assert!(
        error.contains(base) && error.contains("golden-1"),
        "{error}"
    );
    // This one follows from its contents.
    let hi = "5cq8g09l6map5dgp4a68nz6j2b1xwvqq-hi";
    place.run(["import", "--from", &url, hi]);
    place.run(["import", "--from", &url, "--no-check-sigs", base]);
}
