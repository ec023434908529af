use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use castore::Node;
use rustix::mount::{MountFlags, UnmountFlags, unmount};
use store_fs::{
    Options,
    fuse::{
        End, Holder, MountError, MountOptions, ServeOptions, Session, StartError, UnmountError,
        mount,
    },
};
use tempfile::TempDir;

use super::{harness::eventually, tree::*};

fn start(at: &Path, options: &MountOptions) -> Result<Session, StartError> {
    let store = Store::default();
    store.add("pkg", &dir([("file", file("content"))]));
    let filesystem = store.filesystem(Options::default());
    Session::start(at, filesystem, options, &ServeOptions::default())
}

fn mounted() -> (TempDir, Session) {
    let store = Store::default();
    store.add("pkg", &dir([("file", file("content"))]));
    mounted_with(&store)
}

fn mounted_with(store: &Store) -> (TempDir, Session) {
    let mountpoint = tempfile::tempdir().expect("a directory");
    let session = Session::start(
        mountpoint.path(),
        store.filesystem(Options::default()),
        &MountOptions::default(),
        &ServeOptions::default(),
    )
    .expect("mount tests need root and /dev/fuse");
    (mountpoint, session)
}

fn mount_line(path: &Path) -> Option<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("readable");
    let path = format!(" {} ", path.display());
    table
        .lines()
        .rfind(|line| line.contains(&path))
        .map(str::to_owned)
}

#[test]
fn the_mount_table_says_what_it_is() {
    let (mountpoint, _session) = mounted();
    let line = mount_line(mountpoint.path()).expect("it is mounted");
    let (before, after) = line.split_once(" - ").expect("a line of mountinfo");
    assert!(
        after.starts_with("fuse.store-mountd store-mountd ro,"),
        "{after}"
    );
    for option in ["ro", "nosuid", "nodev"] {
        assert!(before.contains(option), "{option} in {before}");
    }
    for option in ["default_permissions", "allow_other"] {
        assert!(after.contains(option), "{option} in {after}");
    }
}

#[test]
fn the_kernel_reads_far_ahead() {
    let (mountpoint, _session) = mounted();
    let line = mount_line(mountpoint.path()).expect("it is mounted");
    let device = line.split(' ').nth(2).expect("a device");
    let read_ahead = fs::read_to_string(format!("/sys/class/bdi/{device}/read_ahead_kb"));
    assert_eq!(read_ahead.expect("readable").trim(), "1024");
}

#[test]
fn a_mount_ends_cleanly() {
    let (mountpoint, mut session) = mounted();
    fs::read(mountpoint.path().join("pkg/file")).expect("readable");
    session.unmount().expect("nobody uses it");
    assert_eq!(session.wait().expect("no failure"), End::Unmounted);
    assert_eq!(mount_line(mountpoint.path()), None);
    session.unmount().expect("it is no error to do so again");
}

#[test]
fn dropping_it_unmounts() {
    let (mountpoint, session) = mounted();
    assert!(mount_line(mountpoint.path()).is_some());
    drop(session);
    assert_eq!(mount_line(mountpoint.path()), None);
}

#[test]
fn somebody_else_may_unmount() {
    let (mountpoint, mut session) = mounted();
    let status = Command::new("umount").arg(mountpoint.path()).status();
    assert!(status.expect("umount runs").success());
    assert_eq!(session.wait().expect("no failure"), End::Unmounted);
    session.unmount().expect("it is gone");
}

#[test]
fn a_busy_mount_names_its_users() {
    let (mountpoint, mut session) = mounted();
    let mut sleeper = Command::new("sleep")
        .arg("60")
        .current_dir(mountpoint.path().join("pkg"))
        .stdin(Stdio::null())
        .spawn()
        .expect("sleep runs");
    let error = session.unmount().expect_err("it is in use");
    let text = error.to_string();
    let UnmountError::Busy { holders, .. } = error else {
        panic!("{error}");
    };
    let found = holders.iter().any(|holder| {
        matches!(holder, Holder::Process { pid, command, used }
            if *pid == sleeper.id() && command == "sleep" && used.starts_with("cwd "))
    });
    assert!(found, "{holders:?}");
    assert!(
        text.contains(&format!("sleep (pid {}", sleeper.id())),
        "{text}"
    );
    assert!(mount_line(mountpoint.path()).is_some(), "it is still there");
    sleeper.kill().expect("it is ours");
    sleeper.wait().expect("it is ours");
    session.unmount().expect("nobody uses it any more");
}

#[test]
fn open_files_are_found() {
    let (mountpoint, mut session) = mounted();
    let file = File::open(mountpoint.path().join("pkg/file")).expect("readable");
    let error = session.unmount().expect_err("it is in use").to_string();
    let expected = format!("pid {}: fd ", std::process::id());
    assert!(error.contains(&expected), "{error}");
    drop(file);
    session.unmount().expect("nobody uses it any more");
}

/// A library that is mapped holds the mount, though no file is open.
#[test]
fn mappings_are_found() {
    let maps = fs::read_to_string("/proc/self/maps").expect("readable");
    let library = maps
        .split_ascii_whitespace()
        .find(|field| field.ends_with("/libc.so.6"))
        .expect("the test needs a program that is linked with glibc");
    let store = Store::default();
    let content = fs::read(library).expect("readable");
    store.add("pkg", &dir([("libc.so.6", executable(content))]));
    let (mountpoint, mut session) = mounted_with(&store);
    let mut sleeper = Command::new("sleep")
        .arg("60")
        .env("LD_PRELOAD", mountpoint.path().join("pkg/libc.so.6"))
        .stdin(Stdio::null())
        .spawn()
        .expect("sleep runs");
    let mapped = format!("/proc/{}/maps", sleeper.id());
    let expected = mountpoint.path().display().to_string();
    eventually("the library is mapped", || {
        fs::read_to_string(&mapped)
            .expect("readable")
            .contains(&expected)
    });
    let held = format!(
        "sleep (pid {}: mapping {expected}/pkg/libc.so.6",
        sleeper.id()
    );
    // While it is being loaded the file is open too.
    eventually("the mapping is all that holds the mount", || {
        let error = session.unmount().expect_err("it is in use");
        error.to_string().contains(&held)
    });
    sleeper.kill().expect("it is ours");
    sleeper.wait().expect("it is ours");
    session.unmount().expect("nobody uses it any more");
}

#[test]
fn a_mount_below_is_named() {
    let (mountpoint, mut session) = mounted();
    let below = mountpoint.path().join("pkg");
    rustix::mount::mount("tmpfs", &below, "tmpfs", MountFlags::empty(), c"").expect("root may");
    let error = session.unmount().expect_err("it is in use").to_string();
    assert!(
        error.contains(&format!("the mount on {}", below.display())),
        "{error}"
    );
    unmount(&below, UnmountFlags::empty()).expect("it is ours");
    session.unmount().expect("nobody uses it any more");
}

#[test]
fn a_detached_mount_is_served_to_its_users() {
    let (mountpoint, mut session) = mounted();
    let directory = File::open(mountpoint.path().join("pkg")).expect("readable");
    session.detach().expect("that is always possible");
    assert_eq!(mount_line(mountpoint.path()), None);
    assert!(!session.has_ended());
    let file = rustix::fs::openat(
        &directory,
        "file",
        rustix::fs::OFlags::RDONLY,
        rustix::fs::Mode::empty(),
    );
    let content = std::io::read_to_string(File::from(file.expect("readable")));
    assert_eq!(content.expect("readable"), "content");
    drop(directory);
    assert_eq!(session.wait().expect("no failure"), End::Unmounted);
}

#[test]
fn an_aborted_connection_ends() {
    let (mountpoint, mut session) = mounted();
    let device = fs::metadata(mountpoint.path()).expect("it is served").dev();
    abort(device);
    assert_eq!(session.wait().expect("no failure"), End::Aborted);
}

/// Aborts a connection.
fn abort(device: u64) {
    let control = tempfile::tempdir().expect("a directory");
    rustix::mount::mount(
        "fusectl",
        control.path(),
        "fusectl",
        MountFlags::empty(),
        c"",
    )
    .expect("root may");
    let connection = rustix::fs::minor(device).to_string();
    let aborted = fs::write(control.path().join(connection).join("abort"), "1");
    unmount(control.path(), UnmountFlags::empty()).expect("it is ours");
    aborted.expect("there is a file for the connection");
}

#[test]
fn an_aborted_connection_ends_though_the_store_hangs() {
    let store = Store::default();
    let Node::Directory { digest, .. } = store.add("pkg", &dir([("file", file("content"))])) else {
        panic!("it is a directory");
    };
    let gate = &store.directories.gate;
    gate.close(digest);
    for _ in 0..10 {
        let (mountpoint, mut session) = mounted_with(&store);
        let device = fs::metadata(mountpoint.path()).expect("it is served").dev();
        let waiting = gate.waiting();
        let path = mountpoint.path().join("pkg/file");
        let user = thread::spawn(move || fs::read(path));
        // Nobody has noticed yet that it will wait.
        while gate.waiting() == waiting {
            thread::yield_now();
        }
        abort(device);
        let (ended, end) = mpsc::channel();
        thread::spawn(move || ended.send(session.wait().expect("no failure")));
        let end = end.recv_timeout(Duration::from_secs(10));
        assert_eq!(end.expect("it does not wait for the store"), End::Aborted);
        user.join().expect("no panic").expect_err("it was aborted");
    }
    gate.open();
}

#[test]
fn a_mountpoint_in_use_is_refused() {
    let (mountpoint, _session) = mounted();
    let error = start(mountpoint.path(), &MountOptions::default()).expect_err("it is taken");
    assert!(
        matches!(&error, StartError::Mount(MountError::AlreadyMounted { source_name, .. })
            if source_name == "store-mountd"),
        "{error}"
    );
}

#[test]
fn a_directory_with_entries_is_refused() {
    let mountpoint = tempfile::tempdir().expect("a directory");
    fs::write(mountpoint.path().join("file"), "").expect("writable");
    let error = start(mountpoint.path(), &MountOptions::default()).expect_err("it has entries");
    assert!(
        matches!(error, StartError::Mount(MountError::NotEmpty { .. })),
        "{error}"
    );
    let cover = MountOptions {
        cover: true,
        ..MountOptions::default()
    };
    let mut session = start(mountpoint.path(), &cover).expect("told to");
    assert!(mountpoint.path().join("pkg/file").exists());
    session.unmount().expect("nobody uses it");
    assert!(mountpoint.path().join("file").exists());
}

#[test]
fn a_covered_mount_is_not_mistaken() {
    let (mountpoint, mut session) = mounted();
    let cover = MountOptions {
        cover: true,
        name: "other".to_owned(),
        ..MountOptions::default()
    };
    let mut other = start(mountpoint.path(), &cover).expect("told to");
    let error = session.unmount().expect_err("another is on top");
    assert!(
        matches!(&error, UnmountError::Covered { source_name, .. } if source_name == "other"),
        "{error}"
    );
    other.unmount().expect("nobody uses it");
    session.unmount().expect("nobody uses it");
}

#[test]
fn what_is_no_directory_is_refused() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let error = mount(file.path(), &MountOptions::default()).expect_err("it is a file");
    assert!(matches!(error, MountError::NotADirectory { .. }), "{error}");
    let error = mount(Path::new("/nowhere/at/all"), &MountOptions::default());
    assert!(matches!(error, Err(MountError::Mountpoint { .. })));
}

#[test]
fn the_two_parts_can_be_apart() {
    let mountpoint = tempfile::tempdir().expect("a directory");
    let mounted = mount(mountpoint.path(), &MountOptions::default()).expect("root may");
    let store = Store::default();
    store.add("pkg", &file("content"));
    let filesystem = store.filesystem(Options::default());
    let options = ServeOptions {
        threads: 1,
        ..ServeOptions::default()
    };
    let mut serving =
        store_fs::fuse::serve(mounted.fd, Arc::clone(&filesystem), &options).expect("threads");
    let content = fs::read(mountpoint.path().join("pkg")).expect("readable");
    assert_eq!(content, b"content");
    drop(mounted.handle);
    serving.wait().expect("no failure");
    eventually("the filesystem is let go", || {
        Arc::strong_count(&filesystem) == 1
    });
}
