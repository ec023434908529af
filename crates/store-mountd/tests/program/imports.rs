//! `import` of trees and of what Nix knows.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use crate::{
    harness::{Place, base_name, fail, golden, plant, said, succeed},
    nar,
};

#[test]
fn the_same_tree_gets_the_same_path_everywhere() {
    let place = Place::new();
    plant(&place.path("tree"));
    let name = place.import(&place.path("tree"));
    assert_eq!(place.import(&place.path("tree")), name);
    assert_eq!(Place::new().import(&place.path("tree")), name);
    // A link to it is another thing.
    symlink("tree", place.path("link")).unwrap();
    assert_ne!(place.import(&place.path("link")), name);
}

#[test]
fn several_paths_and_a_name_of_ones_own() {
    let place = Place::new();
    fs::write(place.path("a"), "a").unwrap();
    fs::write(place.path("b"), "b").unwrap();
    let printed = place.run([
        "import".as_ref(),
        place.path("a").as_os_str(),
        place.path("b").as_os_str(),
    ]);
    let names: Vec<_> = printed.lines().map(|line| &base_name(line)[33..]).collect();
    assert_eq!(names, ["a", "b"]);
    let named = place.run([
        "import".as_ref(),
        place.path("a").as_os_str(),
        "--name".as_ref(),
        "other-1.0".as_ref(),
    ]);
    assert!(named.trim_end().ends_with("-other-1.0"));
    let two = place.fail([
        "import".as_ref(),
        place.path("a").as_os_str(),
        place.path("b").as_os_str(),
        "--name".as_ref(),
        "x".as_ref(),
    ]);
    assert!(two.contains("--name names one PATH"), "{two}");
}

#[test]
fn the_current_directory_has_a_name() {
    let place = Place::new();
    plant(&place.path("tree"));
    let printed = succeed(
        place
            .command(["import", "."])
            .current_dir(place.path("tree")),
    );
    assert_eq!(
        base_name(printed.trim_end()),
        place.import(&place.path("tree"))
    );
}

#[test]
fn two_imports_at_the_same_time() {
    let place = Place::new();
    let trees: Vec<_> = (0..4)
        .map(|number| {
            let tree = place.path(&format!("tree-{number}"));
            plant(&tree);
            // Some of it differs, some does not.
            for file in 0..200 {
                fs::write(tree.join(format!("{file}")), format!("{}", file * number)).unwrap();
            }
            tree
        })
        .collect();
    let running: Vec<_> = trees
        .iter()
        .map(|tree| {
            let mut command = place.command([OsStr::new("import"), tree.as_os_str()]);
            command
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in running {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    assert_eq!(place.run(["ls"]).lines().count(), 4);
    place.run(["verify"]);
}

/// A `nix` that prints what real ones printed.
fn fake_nix(place: &Place, json: &str) -> std::ffi::OsString {
    let bin = place.path("fake-bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(place.path("json"), json).unwrap();
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {}\ncat {}\n",
        place.path("asked").display(),
        place.path("json").display()
    );
    fs::write(bin.join("nix"), script).unwrap();
    fs::set_permissions(bin.join("nix"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut path = bin.into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    path
}

/// The golden store paths as trees in `dir`.
fn unpack_golden(dir: &Path) {
    for entry in fs::read_dir(golden("cache-none")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension() == Some(OsStr::new("narinfo")) {
            let text = fs::read_to_string(path).unwrap();
            let info: nix_compat::NarInfo = text.parse().unwrap();
            let archive = fs::read(golden("cache-none").join(&info.url)).unwrap();
            nar::unpack(&archive, &dir.join(info.store_path.to_string()));
        }
    }
}

/// Runs the rest of its arguments where everything is as it is, but /nix/store
/// is the second one: in a mount namespace, below a root of its own.
const WITH_NIX_STORE: &str = r#"
    set -e
    root=$1 store=$2
    shift 2
    mount -t tmpfs none "$root"
    for dir in /*; do
        if [ "$dir" = /nix ]; then continue
        elif [ -L "$dir" ]; then cp -P "$dir" "$root$dir"
        elif [ -d "$dir" ]; then mkdir "$root$dir"; mount --rbind "$dir" "$root$dir"
        fi
    done
    mkdir -p "$root/nix/store"
    mount --bind "$store" "$root/nix/store"
    exec chroot "$root" "$@""#;

/// Runs the program where /nix/store is a directory of the test's own.
fn with_nix_store(place: &Place, json: &str, args: &[&str]) -> std::process::Output {
    crate::harness::require_root();
    let (root, store) = (place.path("root"), place.path("nix-store"));
    if !store.exists() {
        fs::create_dir(&root).unwrap();
        fs::create_dir(&store).unwrap();
        unpack_golden(&store);
    }
    std::process::Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            WITH_NIX_STORE,
            "sh",
        ])
        .args([root, store])
        .arg(crate::harness::PROGRAM)
        .arg("--store")
        .arg(place.store())
        .args(args)
        .env("PATH", fake_nix(place, json))
        .output()
        .expect("unshare runs")
}

#[test]
fn closures_come_as_nix_describes_them() {
    let object = fs::read_to_string(golden("path-info.json")).unwrap();
    let top = "/nix/store/snivjg24jzfwkz6r6r70d98y6b2hmpi4-top-0.1";
    for json in [object.clone(), as_array(&object)] {
        let place = Place::new();
        let output = with_nix_store(&place, &json, &["import", "--closure", top]);
        assert!(output.status.success(), "{}", crate::harness::said(&output));
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(printed.lines().count(), 4);
        let position = |name: &str| {
            printed
                .lines()
                .position(|line| line.ends_with(name))
                .unwrap()
        };
        assert!(position("-base-1.0") < position("-mid-2.3"));
        assert!(position("-mid-2.3") < position("-top-0.1"));
        let asked = fs::read_to_string(place.path("asked")).unwrap();
        assert!(
            asked.contains("path-info --json --recursive") && asked.contains(top),
            "{asked}"
        );
        let info = place.run(["info", top]);
        assert!(
            info.contains("Deriver: sg8nrgs05b38q2sl1ngdzl685ja9hq37-top-0.1.drv"),
            "{info}"
        );
        place.run(["verify"]);
    }
}

/// The form that Nix 2.8 prints.
fn as_array(object: &str) -> String {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(object).unwrap();
    let array: Vec<_> = object
        .into_iter()
        .map(|(path, mut value)| {
            value["path"] = path.into();
            value
        })
        .collect();
    serde_json::to_string(&array).unwrap()
}

#[test]
fn contents_that_nix_did_not_know_are_refused() {
    let object = fs::read_to_string(golden("path-info.json")).unwrap();
    let place = Place::new();
    let hi = "/nix/store/5cq8g09l6map5dgp4a68nz6j2b1xwvqq-hi";
    let base = "/nix/store/6460hws9pz86r3vvyjn88kbf3g1aqj40-base-1.0";
    let output = with_nix_store(&place, &object, &["import", hi]);
    assert!(output.status.success());
    fs::write(
        place.path("nix-store/6460hws9pz86r3vvyjn88kbf3g1aqj40-base-1.0/x"),
        "",
    )
    .unwrap();
    let output = with_nix_store(&place, &object, &["import", "--closure", base]);
    assert_eq!(output.status.code(), Some(1));
    let said = crate::harness::said(&output);
    assert!(
        said.contains("6460hws9pz86r3vvyjn88kbf3g1aqj40-base-1.0"),
        "{said}"
    );
    assert!(said.contains("is not what is known of"), "{said}");
    let listed = place.run(["ls"]);
    assert!(
        listed.contains("-hi") && !listed.contains("base"),
        "{listed}"
    );
    place.run(["verify"]);
}

#[test]
fn damage_is_mended_by_an_import() {
    let place = Place::new();
    let tree = place.path("tree");
    plant(&tree);
    let name = place.import(&tree);
    let packs = fs::read_dir(place.store().join("packs")).unwrap();
    let blobs = packs
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension() == Some(OsStr::new("blobs")))
        .unwrap();
    let mut bytes = fs::read(&blobs).unwrap();
    let at = bytes.windows(8).position(|bytes| bytes == b"echo run");
    bytes[at.unwrap()] ^= 1;
    fs::remove_file(&blobs).unwrap();
    fs::write(&blobs, bytes).unwrap();

    // Without being asked to, nobody looks.
    assert_eq!(place.import(&tree), name);
    let output = place.command(["verify"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let mut export = place.command(["export", &name, "--to"]);
    let error = fail(export.arg(place.path("copy")));
    assert!(error.contains("--repair"), "{error}");

    let repair = ["import".as_ref(), "--repair".as_ref(), tree.as_os_str()];
    let output = place.command(repair).output().unwrap();
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("bin/run") && said.contains(&name), "{said}");
    place.run(["verify"]);
    assert_eq!(place.run(repair).trim_end(), format!("/nix/store/{name}"));
}
