//! Bad input gets a clear answer, and changes nothing.

use std::{
    fs,
    io::Read as _,
    os::unix::{fs::symlink, net::UnixListener},
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::harness::{Place, golden, plant};

#[test]
fn what_is_no_store_is_said_to_be_none() {
    let place = Place::new();
    for command in [
        &["ls"][..],
        &["info"],
        &["verify"],
        &["mount", "/"],
        &["registration"],
    ] {
        let error = place.fail(command);
        assert!(error.contains("is not a store"), "{error}");
        assert!(error.contains("store-mountd import"), "{error}");
    }
    assert!(!place.store().exists());
    // A directory of somebody else's is not made one.
    plant(&place.store());
    let error = place.fail(["import", "/etc/hostname"]);
    assert!(error.contains("is no store"), "{error}");
    assert!(error.contains("Choose an empty directory"), "{error}");
}

#[test]
fn a_newer_format_is_refused() {
    let place = Place::new();
    plant(&place.path("tree"));
    place.import(&place.path("tree"));
    let file = place.store().join("FORMAT");
    let text = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    fs::write(&file, text.replace('1', "2")).unwrap();
    for command in [&["ls"][..], &["import", "/etc/hostname"]] {
        let error = place.fail(command);
        assert!(
            error.contains("version 2") && error.contains("newer"),
            "{error}"
        );
    }
}

#[test]
fn names_that_make_no_store_path_are_refused() {
    let place = Place::new();
    for name in ["with space", ".", "naïve", &"x".repeat(212)] {
        fs::write(place.path("file"), "").unwrap();
        let error = place.fail([
            "import".as_ref(),
            place.path("file").as_os_str(),
            "--name".as_ref(),
            name.as_ref(),
        ]);
        assert!(error.contains("--name NAME"), "{error}");
    }
    fs::write(place.path("with space"), "").unwrap();
    let error = place.fail(["import".as_ref(), place.path("with space").as_os_str()]);
    assert!(
        error.contains("with space") && error.contains("--name NAME"),
        "{error}"
    );
    assert!(!place.store().exists());
}

#[test]
fn trees_that_cannot_be_stored_leave_nothing() {
    let place = Place::new();
    plant(&place.path("sound"));
    let sound = place.import(&place.path("sound"));
    let before = place.run(["info"]);
    plant(&place.path("tree"));
    fs::write(place.path("tree/new"), "only here").unwrap();
    let _socket = UnixListener::bind(place.path("tree/z-socket")).unwrap();
    let error = place.fail(["import".as_ref(), place.path("tree").as_os_str()]);
    assert!(
        error.contains("tree/z-socket") && error.contains("socket"),
        "{error}"
    );
    assert_eq!(place.run(["ls"]), format!("{sound}\n"));
    assert_eq!(place.run(["info"]), before);
    let error = place.fail(["import".as_ref(), place.path("nowhere").as_os_str()]);
    assert!(error.contains("nowhere"), "{error}");
}

#[test]
fn a_full_disk_leaves_the_store_as_it_was() {
    crate::harness::require_root();
    let place = Place::new();
    fs::create_dir(place.store()).unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=4m", "none"];
    let status = Command::new("mount")
        .args(mount)
        .arg(place.store())
        .status();
    assert!(status.unwrap().success());
    let _unmount = Unmount(place.store());

    fs::write(place.path("small"), "small").unwrap();
    let small = place.import(&place.path("small"));
    let before = place.run(["info"]);
    // In many small files, and in one big one.
    fs::create_dir(place.path("many")).unwrap();
    for number in 0..200_u32 {
        let content = number.to_le_bytes().repeat(8_000);
        fs::write(place.path(&format!("many/{number}")), content).unwrap();
    }
    fs::write(place.path("big"), vec![1; 6_000_000]).unwrap();
    for name in ["many", "big"] {
        let error = place.fail(["import".as_ref(), place.path(name).as_os_str()]);
        assert!(
            error.contains("No space left") && error.contains("Make room"),
            "{error}"
        );
        assert_eq!(place.run(["ls"]), format!("{small}\n"));
        assert_eq!(place.run(["info"]), before);
        place.run(["verify"]);
    }
    // The room is there again.
    fs::write(place.path("other"), vec![1; 2_500_000]).unwrap();
    place.import(&place.path("other"));
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_store_in_the_tree_is_noticed() {
    let place = Place::new();
    plant(&place.path("tree"));
    let error = place.fail([
        "import".as_ref(),
        place.path("").as_os_str(),
        "--name".as_ref(),
        "x".as_ref(),
    ]);
    assert!(error.contains("a store that is in it"), "{error}");
}

#[test]
fn an_interrupted_import_leaves_nothing() {
    let place = Place::new();
    fs::create_dir(place.path("tree")).unwrap();
    for number in 0..5_000_u32 {
        fs::write(
            place.path(&format!("tree/{number}")),
            number.to_le_bytes().repeat(2_000),
        )
        .unwrap();
    }
    plant(&place.path("sound"));
    let sound = place.import(&place.path("sound"));
    for (millis, signal) in [
        (20, Signal::SIGINT),
        (60, Signal::SIGTERM),
        (100, Signal::SIGKILL),
    ] {
        let mut child = place
            .command(["import".as_ref(), place.path("tree").as_os_str()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(millis));
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let mut printed = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut printed)
            .unwrap();
        let status = child.wait().unwrap();
        let listed = place.run(["ls"]);
        // Either it was done already, or it did not happen.
        assert_eq!(
            printed.is_empty(),
            listed == format!("{sound}\n"),
            "{status}"
        );
        place.run(["verify"]);
        if !printed.is_empty() {
            break;
        }
    }
    place.import(&place.path("tree"));
    place.run(["verify"]);
}

#[test]
fn closures_are_of_store_paths() {
    let place = Place::new();
    plant(&place.path("tree"));
    symlink("tree", place.path("result")).unwrap();
    let error = place.fail([
        "import".as_ref(),
        "--closure".as_ref(),
        place.path("result").as_os_str(),
    ]);
    assert!(error.contains("is not in a store path"), "{error}");
}

#[test]
fn nix_that_is_not_there_is_named() {
    let place = Place::new();
    let path = "/nix/store/5cq8g09l6map5dgp4a68nz6j2b1xwvqq-hi";
    let error = crate::harness::fail(place.command(["import", path]).env("PATH", "/nowhere"));
    assert!(
        error.contains("nix") && error.contains("--registration"),
        "{error}"
    );
}

#[test]
fn a_registration_that_does_not_fit_is_refused() {
    let place = Place::new();
    let name = "92sq0qwmmidpbsc2pnpk62d0bqjgkvxv-bytes";
    plant(&place.path(name));
    let registration = golden("registration.txt");
    let import = |path: &std::ffi::OsStr| {
        place.fail([
            "import".as_ref(),
            "--registration".as_ref(),
            registration.as_os_str(),
            path,
        ])
    };
    let error = import(place.path(name).as_os_str());
    assert!(
        error.contains(name) && error.contains("is not what is known"),
        "{error}"
    );
    let error = import("/nix/store/zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz-x".as_ref());
    assert!(error.contains("does not describe"), "{error}");
    assert_eq!(place.run(["ls"]), "");
}

#[test]
fn a_wrong_command_line_is_explained() {
    let place = Place::new();
    for args in [
        &["ls", "/usr/share"][..],
        &["ls", "x"],
        &["export", "5cq8g09l6map5dgp4a68nz6j2b1xwvqq-hi"],
        &["import"],
        &["import", "--from", "http://x/y", "--all"],
        &[
            "import",
            "--from",
            "nix+file:///x",
            "--all",
            "--trusted-public-key",
            "x",
        ],
        &["mount"],
    ] {
        let output = place.command(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!output.stderr.is_empty());
    }
}
