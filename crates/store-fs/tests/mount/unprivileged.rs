use std::{
    env, fs,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::Command,
};

use rustix::fs::{CWD, FileType, mknodat};
use store_fs::{
    Options,
    fuse::{End, MountOptions, ServeOptions, Session},
};

use super::tree::*;

const MOUNTPOINT: &str = "STORE_FS_TEST_UNPRIVILEGED_MOUNTPOINT";
const NOBODY: u32 = 65534;

/// The test runs itself again as an ordinary user.
#[test]
fn an_ordinary_user_mounts() {
    if let Some(mountpoint) = env::var_os(MOUNTPOINT) {
        return serve_as_ordinary_user(Path::new(&mountpoint));
    }
    let found = Command::new("fusermount3").arg("--version").output();
    assert!(
        found.is_ok_and(|output| output.status.success()),
        "the test needs the program fusermount3: apt-get install fuse3"
    );
    let scratch = tempfile::tempdir().expect("a directory");
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    let mountpoint = scratch.path().join("mountpoint");
    fs::create_dir(&mountpoint).expect("a directory");
    chown(&mountpoint, Some(NOBODY), Some(NOBODY)).expect("the test needs root");
    // The build directory may be closed to others.
    let program = scratch.path().join("test");
    fs::copy(env::current_exe().expect("a program"), &program).expect("a copy");
    // Where udev does not look after it, the device is for root alone; so the
    // user gets one for all, in a mount namespace of its own.
    let device = scratch.path().join("fuse");
    let number = rustix::fs::makedev(10, 229);
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    mknodat(CWD, &device, FileType::CharacterDevice, mode, number).expect("the test needs root");
    fs::set_permissions(&device, fs::Permissions::from_mode(0o666)).expect("ours");
    let script = "mount --bind \"$1\" /dev/fuse && shift &&
        exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "--propagation=private", "sh", "-c", script, "sh"])
        .arg(&device)
        .arg(&program)
        .args([
            "--exact",
            "mount::unprivileged::an_ordinary_user_mounts",
            "--nocapture",
        ])
        .env(MOUNTPOINT, &mountpoint)
        .current_dir("/")
        .output()
        .expect("the test needs the program unshare: apt-get install util-linux");
    let (out, err) = (output.stdout.escape_ascii(), output.stderr.escape_ascii());
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.to_string().contains("1 passed"), "{out}");
}

fn serve_as_ordinary_user(mountpoint: &Path) {
    let store = Store::default();
    store.add("pkg", &dir([("file", file("content"))]));
    let filesystem = store.filesystem(Options::default());
    let options = MountOptions::default();
    assert!(!options.allow_other);
    let mut session = Session::start(mountpoint, filesystem, &options, &ServeOptions::default())
        .unwrap_or_else(|error| panic!("{error}"));
    let content = fs::read(mountpoint.join("pkg/file")).expect("readable");
    assert_eq!(content, b"content");
    let open = fs::File::open(mountpoint.join("pkg/file")).expect("readable");
    let busy = session.unmount().expect_err("it is in use").to_string();
    assert!(
        busy.contains(&format!("pid {}", std::process::id())),
        "{busy}"
    );
    drop(open);
    session.unmount().expect("nobody uses it");
    assert_eq!(session.wait().expect("no failure"), End::Unmounted);
}
