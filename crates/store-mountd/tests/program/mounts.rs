//! `mount`.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _},
    process::Command,
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::harness::{Mount, Place, assert_same_trees, plant, require_root};

#[test]
fn a_tree_reads_as_it_was_imported() {
    let place = Place::new();
    plant(&place.path("tree"));
    let name = place.import(&place.path("tree"));
    let mount = place.mount(&[]);
    assert_same_trees(&place.path("tree"), &mount.path(&name));
    let output = Command::new(mount.path(&name).join("link"))
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"run\n");
    mount.stop();
}

#[test]
fn real_trees_read_as_they_were_imported() {
    let place = Place::new();
    let source = std::path::Path::new("/usr/share/zoneinfo");
    let source = if source.is_dir() {
        source
    } else {
        "/etc/ssl".as_ref()
    };
    let name = place.import(source);
    for mode in ["on-read", "at-rest"] {
        let mount = place.mount(&["--integrity", mode, "--threads", "3"]);
        assert_same_trees(source, &mount.path(&name));
        mount.stop();
    }
}

#[test]
fn what_is_imported_while_mounted_appears() {
    let place = Place::new();
    plant(&place.path("first"));
    let first = place.import(&place.path("first"));
    let mount = place.mount(&["--list-root"]);
    assert!(mount.path(&first).is_dir());

    fs::create_dir(place.path("second")).unwrap();
    fs::write(place.path("second/file"), "new").unwrap();
    // Known beforehand, so that its absence was looked up.
    let path = Place::new().import(&place.path("second"));
    let absent = fs::metadata(mount.path(&path)).unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::NotFound);
    assert_eq!(fs::read_dir(mount.path("")).unwrap().count(), 1);

    assert_eq!(place.import(&place.path("second")), path);
    let content = fs::read_to_string(mount.path(&path).join("file")).unwrap();
    assert_eq!(content, "new");
    assert_eq!(fs::read_dir(mount.path("")).unwrap().count(), 2);
    mount.stop();
}

#[test]
fn names_resolve_exactly_and_the_root_is_listed_on_request_only() {
    let place = Place::new();
    plant(&place.path("tree"));
    let name = place.import(&place.path("tree"));
    let mount = place.mount(&[]);
    let listed = fs::read_dir(mount.path("")).and_then(|mut entries| {
        entries
            .next()
            .unwrap_or_else(|| Err(ErrorKind::NotFound.into()))
    });
    assert_eq!(listed.unwrap_err().raw_os_error(), Some(1), "EPERM");
    assert!(mount.path(&name).is_dir());
    let (hash, _) = name.split_once('-').unwrap();
    for other in [
        hash,
        ".Trash",
        "lost+found",
        &format!("{hash}-tre"),
        &format!("{name}x"),
    ] {
        let error = fs::symlink_metadata(mount.path(other)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{other}");
    }
    let error = fs::write(mount.path(&name).join("new"), "").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem);
    mount.stop();
}

#[test]
fn signals_unmount() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let place = Place::new();
        plant(&place.path("tree"));
        place.import(&place.path("tree"));
        let mut mount = place.mount(&[]);
        assert!(mount.is_mounted());
        mount.signal(signal);
        assert_eq!(mount.wait().code(), Some(0));
        assert!(!mount.is_mounted());
    }
}

#[test]
fn a_busy_mount_is_served_until_its_last_user_is_done() {
    let place = Place::new();
    plant(&place.path("tree"));
    let name = place.import(&place.path("tree"));
    let mut mount = place.mount(&[]);
    let mut file = File::open(mount.path(&name).join("big")).unwrap();
    mount.signal(Signal::SIGTERM);
    let told = mount.wait_for("in use by");
    assert!(
        told.contains(&format!("pid {}", std::process::id())),
        "{told}"
    );
    mount.wait_for("Signal again");
    assert!(!mount.is_mounted());
    let mut content = Vec::new();
    file.read_to_end(&mut content).unwrap();
    assert_eq!(content.len(), 3_000_000);
    assert!(mount.is_running());
    drop(file);
    assert_eq!(mount.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_a_busy_mount() {
    let place = Place::new();
    plant(&place.path("tree"));
    let name = place.import(&place.path("tree"));
    let mut mount = place.mount(&[]);
    let file = File::open(mount.path(&name).join("big")).unwrap();
    mount.signal(Signal::SIGTERM);
    mount.wait_for("Signal again");
    mount.signal(Signal::SIGTERM);
    assert_eq!(mount.wait().code(), Some(1));
    drop(file);
}

#[test]
fn unmounting_by_others_ends_the_program() {
    require_root();
    let place = Place::new();
    plant(&place.path("tree"));
    place.import(&place.path("tree"));
    let mut mount = place.mount(&[]);
    let status = Command::new("umount").arg(mount.path("")).status().unwrap();
    assert!(status.success());
    assert_eq!(mount.wait().code(), Some(0));
}

#[test]
fn a_read_only_copy_of_the_store_mounts() {
    require_root();
    let place = Place::new();
    plant(&place.path("tree"));
    let name = place.import(&place.path("tree"));
    // A bind mount that is read-only, in a mount namespace of its own; `exec`
    // keeps the process that is signalled.
    let copy = place.path("read-only");
    fs::create_dir(&copy).unwrap();
    let script = r#"mount --make-rprivate / && mount --bind "$1" "$2" &&
        mount -o remount,bind,ro "$2" && ! touch "$2/x" 2>/dev/null &&
        cd / && "$3" --store "$2" import "$5" 2>&1 | grep -q "cannot be written" &&
        "$3" --store "$2" verify && exec "$3" --store "$2" mount "$4""#;
    let mountpoint = place.path("mnt");
    fs::create_dir(&mountpoint).unwrap();
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .arg(place.store())
        .arg(&copy)
        .arg(crate::harness::PROGRAM)
        .arg(&mountpoint)
        .arg(place.path("tree"));
    let mount = Mount::start(&mut command, mountpoint);
    // Seen through the namespace of the process.
    let inside = mount.seen_by_server(&name);
    assert_same_trees(&place.path("tree"), &inside);
    drop(mount);
}

#[test]
fn a_mountpoint_in_use_is_refused() {
    let place = Place::new();
    plant(&place.path("tree"));
    place.import(&place.path("tree"));
    let error = place.fail(["mount".as_ref(), place.path("tree").as_os_str()]);
    assert!(
        error.contains("not empty") && error.contains("--allow-nonempty"),
        "{error}"
    );
    let error = place.fail(["mount".as_ref(), place.path("nowhere").as_os_str()]);
    assert!(error.contains("mkdir"), "{error}");
    let mount = place.mount(&[]);
    let error = place.fail(["mount".as_ref(), mount.path("").as_os_str()]);
    assert!(error.contains("mountpoint already"), "{error}");
    mount.stop();

    let mut command = place.command(["mount".as_ref(), place.path("tree").as_os_str()]);
    let covering = Mount::start(command.arg("--allow-nonempty"), place.path("tree"));
    covering.stop();
    assert!(place.path("tree/big").exists());
}

#[test]
fn digests_are_attributes_on_request() {
    let place = Place::new();
    fs::write(place.path("file"), "hello").unwrap();
    let name = place.import(&place.path("file"));
    for (args, shown) in [(&["--xattrs"][..], true), (&[], false)] {
        let mount = place.mount(args);
        let script = "import os, sys; print(os.listxattr(sys.argv[1]))";
        let output = Command::new("python3")
            .args(["-c", script])
            .arg(mount.path(&name))
            .output()
            .expect("this test needs python3");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text.contains("digest"), shown, "{text}");
        mount.stop();
    }
}

#[test]
fn damage_reads_as_an_error_and_is_named() {
    let place = Place::new();
    plant(&place.path("tree"));
    let name = place.import(&place.path("tree"));
    damage_big_blob(&place);
    let mount = place.mount(&[]);
    let error = fs::read(mount.path(&name).join("big")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(5), "EIO");
    let line = mount.wait_for("big");
    assert!(line.contains(&name) && line.contains("ERROR"), "{line}");
    assert!(fs::read(mount.path(&name).join("bin/run")).is_ok());
    mount.stop();
}

/// Flips a bit in the only blob that is a file of its own.
pub(crate) fn damage_big_blob(place: &Place) {
    use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
    let shard = fs::read_dir(place.store().join("blobs"))
        .unwrap()
        .next()
        .unwrap();
    let blob = fs::read_dir(shard.unwrap().path()).unwrap().next().unwrap();
    let blob = blob.unwrap().path();
    fs::set_permissions(&blob, fs::Permissions::from_mode(0o644)).unwrap();
    let file = File::options().write(true).open(&blob).unwrap();
    file.write_all_at(&[8], 1_234_567).unwrap();
    file.sync_all().unwrap();
    thread::sleep(Duration::from_millis(10));
}
