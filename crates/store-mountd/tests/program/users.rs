//! One store used by root and by a user.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::PathBuf,
    process::Command,
};

use crate::harness::{Mount, PROGRAM, Place, fail, plant, require_root, succeed};

const USER: u32 = 65534;

/// The program where any user can run it.
fn program(place: &Place) -> PathBuf {
    let copy = place.path("store-mountd");
    if !copy.exists() {
        fs::copy(PROGRAM, &copy).unwrap();
        fs::set_permissions(place.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    }
    copy
}

fn as_user(place: &Place, args: &[&str]) -> Command {
    let mut command = Command::new(program(place));
    command
        .args(args)
        .env_remove("RUST_LOG")
        .env("HOME", place.path("home"))
        .env_remove("XDG_DATA_HOME")
        .current_dir("/")
        .uid(USER)
        .gid(USER);
    command
}

#[test]
fn a_users_store_is_usable_after_root_wrote_to_it() {
    require_root();
    let place = Place::new();
    plant(&place.path("one"));
    plant(&place.path("two"));
    fs::write(place.path("two/more"), vec![3; 400_000]).unwrap();
    fs::create_dir(place.path("home")).unwrap();
    chown(place.path("home"), Some(USER), Some(USER)).unwrap();
    program(&place);

    succeed(&mut as_user(
        &place,
        &["import", place.path("one").to_str().unwrap()],
    ));
    let store = place.path("home/.local/share/tvix-store-mount");
    assert!(store.is_dir(), "the default of a user");
    let named = ["--store", store.to_str().unwrap()];
    let two = place.path("two");
    let by_root = ["import", two.to_str().unwrap()];
    succeed(Command::new(PROGRAM).args(named).args(by_root));
    fs::write(place.path("two/third"), "third").unwrap();
    succeed(&mut as_user(&place, &by_root));
    succeed(&mut as_user(&place, &["verify"]));
    let text = succeed(&mut as_user(&place, &["ls"]));
    assert_eq!(text.lines().count(), 3);
    let mut dirs = vec![store];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(path.metadata().unwrap().uid(), USER, "{}", path.display());
            if path.is_dir() {
                dirs.push(path);
            }
        }
    }
}

#[test]
fn roots_store_can_be_read_by_a_user_and_not_written() {
    require_root();
    let place = Place::new();
    plant(&place.path("one"));
    let name = place.import(&place.path("one"));
    program(&place);
    let store = place.store();
    let named = |args: &[&str]| {
        let mut all = vec!["--store", store.to_str().unwrap()];
        all.extend(args);
        as_user(&place, &all)
    };
    assert_eq!(succeed(&mut named(&["ls"])), format!("{name}\n"));
    succeed(&mut named(&["verify"]));
    let error = fail(&mut named(&["import", "/etc/hostname"]));
    assert!(
        error.contains("cannot be written") && error.contains("--store DIR"),
        "{error}"
    );
}

/// Runs the rest of its arguments as the user, where everybody may open
/// /dev/fuse, as on most systems.
const AS_USER_WITH_FUSE: &str = r#"
    mount -t tmpfs none "$1" && mknod -m 666 "$1/fuse" c 10 229 &&
    mount --bind "$1/fuse" /dev/fuse && shift &&
    exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@""#;

#[test]
fn a_user_mounts_where_fusermount_allows() {
    require_root();
    let place = Place::new();
    plant(&place.path("one"));
    let name = place.import(&place.path("one"));
    let mountpoint = place.path("home");
    fs::create_dir(&mountpoint).unwrap();
    fs::create_dir(place.path("dev")).unwrap();
    chown(&mountpoint, Some(USER), Some(USER)).unwrap();
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            AS_USER_WITH_FUSE,
            "sh",
        ])
        .arg(place.path("dev"))
        .arg(program(&place))
        .arg("--store")
        .arg(place.store())
        .arg("mount")
        .arg(&mountpoint);
    let mount = Mount::start(&mut command, mountpoint);
    let inside = mount.seen_by_server(&name);
    let output = Command::new("cat")
        .arg(inside.join("bin/run"))
        .uid(USER)
        .gid(USER)
        .output()
        .unwrap();
    let said = crate::harness::said(&output);
    assert_eq!(output.stdout, b"#!/bin/sh\necho run\n", "{said}");
    // Not even root, unless told.
    let error = fs::metadata(&inside).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    mount.stop();
}
