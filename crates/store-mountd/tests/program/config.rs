//! `--config` and `check-config`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::{Mount, PROGRAM, Place, fail, plant, succeed};

fn check_config(file: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("check-config").arg(file);
    command
}

fn config(place: &Place, text: &str) -> PathBuf {
    let path = place.path("config.toml");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_sound_file_is_said_to_be_so() {
    let place = Place::new();
    // Neither needs to be there.
    let path = config(
        &place,
        "store = '/nonexistent'\nmountpoint = '/nonexistent'\n",
    );
    assert!(succeed(&mut check_config(&path)).ends_with("config.toml is sound\n"));
}

#[test]
fn what_is_wrong_is_said_with_its_line_and_column() {
    let place = Place::new();
    for (text, expected) in [
        (
            "mountpoint = '/m'\nlist_root = true",
            ":2:1: there is no setting 'list_root'; did you mean 'list-root'?",
        ),
        ("mountpoint = '/m'\nthreads = 'x'", ":2:11: "),
        ("mountpoint = ", ":1:14: "),
        ("", ": mountpoint: where to mount is not said"),
    ] {
        let path = config(&place, text);
        let said = fail(&mut check_config(&path));
        let expected = format!("{}{expected}", path.display());
        assert!(said.contains(&expected), "{said:?} has no {expected:?}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let said = fail(&mut check_config(&place.path("none.toml")));
    assert!(said.contains("none.toml: cannot read"), "{said}");
}

#[test]
fn a_mount_is_configured_by_a_file_and_flags_before_it() {
    let place = Place::new();
    plant(&place.path("tree"));
    let name = place.import(&place.path("tree"));
    let mountpoint = place.path("mnt");
    fs::create_dir(&mountpoint).unwrap();
    let (store, dir) = (place.store(), mountpoint.display());
    let text = format!(
        "store = '{}'\nmountpoint = '{dir}'\nlist-root = true\nxattrs = true\n",
        store.display()
    );
    let path = config(&place, &text);
    let mut command = Command::new(PROGRAM);
    command.arg("mount").arg("--config").arg(&path);
    let mount = Mount::start(&mut command, mountpoint.clone());
    let entries = fs::read_dir(mount.path("")).unwrap();
    let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [name.as_str()]);
    mount.stop();

    command.arg("--list-root=false");
    let mount = Mount::start(&mut command, mountpoint);
    let first = fs::read_dir(mount.path("")).unwrap().next();
    assert!(first.unwrap().is_err());
    assert!(mount.path(&name).is_dir());
    mount.stop();
}

#[test]
fn a_mount_with_a_wrong_file_does_not_start() {
    let place = Place::new();
    let path = config(&place, "mountpoint = '/m'\nstor = '/s'");
    let said = place.fail(["mount", "--config", path.to_str().unwrap()]);
    assert!(said.contains("config.toml:2:1: "), "{said}");
}
