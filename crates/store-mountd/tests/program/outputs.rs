//! `ls`, `export`, `info` and `verify`.

use std::{fs, process::Command};

use crate::{
    harness::{Place, assert_same_trees, golden, plant},
    mounts::damage_big_blob,
    nar,
};

fn planted() -> (Place, String) {
    let place = Place::new();
    plant(&place.path("tree"));
    let name = place.import(&place.path("tree"));
    (place, name)
}

#[test]
fn ls_lists_paths_and_what_is_in_them() {
    let (place, name) = planted();
    assert_eq!(place.run(["ls"]), format!("{name}\n"));
    assert!(place.run(["ls", "-l"]).starts_with("dr-xr-xr-x "));
    assert_eq!(
        place.run(["ls", &name]),
        "big\nbin\ndangling\nempty\nlink\nnothing\n"
    );
    assert_eq!(
        place.run(["ls", "-R", &format!("/nix/store/{name}")]),
        "big\nbin\nbin/run\nbin/same-bytes\ndangling\nempty\nlink\nnothing\n"
    );
    let long = place.run(["ls", "-lR", &name]);
    assert!(
        long.contains("-r-xr-xr-x             19 bin/run\n"),
        "{long}"
    );
    assert!(
        long.contains("-r--r--r--             19 bin/same-bytes\n"),
        "{long}"
    );
    assert!(long.contains(" link -> bin/run\n"), "{long}");
    assert_eq!(
        place.run(["ls", &format!("{name}/bin/")]),
        "run\nsame-bytes\n"
    );
    let error = place.fail(["ls", &format!("{name}/nowhere")]);
    assert!(error.contains("no entry 'nowhere'"), "{error}");
    let error = place.fail(["ls", &format!("{name}/big/x")]);
    assert!(error.contains("is not a directory"), "{error}");
}

#[test]
fn ls_speaks_json() {
    let (place, name) = planted();
    let all: serde_json::Value = serde_json::from_str(&place.run(["ls", "--json"])).unwrap();
    assert_eq!(all[format!("/nix/store/{name}")]["type"], "directory");
    let text = place.run(["ls", "-R", "--json", &name]);
    let tree: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(tree["type"], "directory");
    assert_eq!(tree["entries"]["bin"]["entries"]["run"]["executable"], true);
    assert_eq!(tree["entries"]["bin"]["entries"]["run"]["size"], 19);
    assert_eq!(tree["entries"]["link"]["target"], "bin/run");
    let text = place.run(["ls", "--json", &name]);
    let flat: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(flat["entries"]["bin"].get("entries"), None);
}

#[test]
fn ls_says_what_nix_said() {
    let place = Place::new();
    let url = format!("nix+file://{}", golden("cache-none").display());
    place.run(["import", "--from", &url, "--all", "--no-check-sigs"]);
    for base in place.run(["ls"]).lines() {
        let hash = &base[..32];
        let listing = fs::read(golden("cache-none").join(format!("{hash}.ls"))).unwrap();
        let listing: serde_json::Value = serde_json::from_slice(&listing).unwrap();
        let text = place.run(["ls", "-R", "--json", base]);
        let ours: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(comparable(&ours), comparable(&listing["root"]), "{base}");
    }
}

/// Without what only one of the two has.
fn comparable(node: &serde_json::Value) -> serde_json::Value {
    let mut node = node.clone();
    if let Some(fields) = node.as_object_mut() {
        for field in ["narOffset", "digest"] {
            fields.remove(field);
        }
        if fields.get("executable") == Some(&false.into()) {
            fields.remove("executable");
        }
        if let Some(entries) = fields.get_mut("entries").and_then(|e| e.as_object_mut()) {
            entries
                .values_mut()
                .for_each(|entry| *entry = comparable(entry));
        }
    }
    node
}

#[test]
fn exports_give_back_what_was_imported() {
    let (place, name) = planted();
    let copy = place.path("copy");
    place.run(["export", &name, "--to", copy.to_str().unwrap()]);
    assert_same_trees(&place.path("tree"), &copy);
    assert_eq!(nar::digest_of(&copy), nar::digest_of(&place.path("tree")));
    let again = place.fail(["export", &name, "--to", copy.to_str().unwrap()]);
    assert!(again.contains("exists"), "{again}");

    let file = place.path("out.nar");
    place.run(["export", &name, "--nar", "-o", file.to_str().unwrap()]);
    let output = place.command(["export", &name, "--nar"]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(fs::read(&file).unwrap(), output.stdout);
    nar::unpack(&output.stdout, &place.path("unpacked"));
    assert_same_trees(&place.path("tree"), &place.path("unpacked"));
    place.fail(["export", &name, "--nar", "-o", file.to_str().unwrap()]);

    let run = place.path("run");
    place.run([
        "export",
        &format!("{name}/bin/run"),
        "--to",
        run.to_str().unwrap(),
    ]);
    assert_eq!(Command::new(&run).output().unwrap().stdout, b"run\n");
    place.fail(["export", &name]);
}

#[test]
fn info_describes_the_store_and_paths() {
    let (place, name) = planted();
    let text = place.run(["info"]);
    assert!(
        text.contains("Format:") && text.contains("Paths:       1\n"),
        "{text}"
    );
    let json: serde_json::Value = serde_json::from_str(&place.run(["info", "--json"])).unwrap();
    assert_eq!(json["paths"], 1);
    let (hash, size) = nar::digest_of(&place.path("tree"));
    let text = place.run(["info", &name]);
    assert!(
        text.contains(&format!("StorePath: /nix/store/{name}\n")),
        "{text}"
    );
    assert!(text.contains(&format!("NarSize: {size}\n")), "{text}");
    assert!(text.contains("CA: fixed:r:sha256:"), "{text}");
    let text = place.run(["info", "--json", &name]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let sri = json["narHash"].as_str().unwrap().to_owned();
    let parsed = nix_compat::NixHash::parse(&sri, None).unwrap();
    assert_eq!(parsed.to_bare(nix_compat::hash::HashFormat::Base16), hash);
}

#[test]
fn verify_names_what_is_damaged() {
    let (place, name) = planted();
    place.run(["verify"]);
    place.run(["verify", &name]);
    damage_big_blob(&place);
    for args in [&["verify"][..], &["verify", &name]] {
        let output = place.command(args).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(&format!("{name}: big: ")), "{text}");
        assert!(text.contains("/blobs/"), "{text}");
    }
    let nowhere = Place::new();
    let output = nowhere.command(["verify"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_reader_that_goes_away_is_no_error_worth_telling() {
    let (place, name) = planted();
    let script = format!(
        "{} --store {} ls -R {name} | true",
        crate::harness::PROGRAM,
        place.store().display()
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(crate::harness::said(&output), "");
}
