use std::{fs, path::Path};

use rustix::{
    fs::statvfs,
    mount::{MountFlags, UnmountFlags, mount, unmount},
};

use super::{harness::*, tree::*};

#[test]
fn numbers() {
    let fixture = Fixture::of("pkg", &dir([("x", file("x"))]));
    let stat = statvfs(fixture.path()).expect("an answer");
    assert_eq!(
        (stat.f_bsize, stat.f_frsize, stat.f_namemax),
        (4096, 4096, 255)
    );
    assert_eq!((stat.f_blocks, stat.f_bfree, stat.f_bavail), (256, 0, 0));
    assert_eq!((stat.f_files, stat.f_ffree), (1000, 0));
}

struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = unmount(self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn overlayfs_takes_the_mount_as_a_lower_layer() {
    let content = bytes(100_000, 3);
    let fixture = Fixture::of(
        "pkg",
        &dir([("x", file(&content)), ("y", dir([("z", file("z"))]))]),
    );
    let scratch = tempfile::tempdir().expect("a directory");
    // overlayfs wants an upper layer that it did not make itself.
    mount(
        "tmpfs",
        scratch.path(),
        "tmpfs",
        MountFlags::empty(),
        c"mode=700",
    )
    .expect("root mounts a tmpfs");
    let _tmpfs = Unmount(scratch.path());
    let [upper, work, merged] = ["upper", "work", "merged"].map(|name| {
        let path = scratch.path().join(name);
        fs::create_dir(&path).expect("a directory");
        path
    });
    let options = format!(
        "lowerdir={},upperdir={},workdir={}\0",
        fixture.path().display(),
        upper.display(),
        work.display(),
    );
    let options = std::ffi::CStr::from_bytes_with_nul(options.as_bytes()).expect("no NUL");
    mount("overlay", &merged, "overlay", MountFlags::empty(), options)
        .expect("overlayfs takes the lower layer");
    let _overlay = Unmount(&merged);
    assert_eq!(fs::read(merged.join("pkg/x")).expect("readable"), content);
    fs::write(merged.join("pkg/y/z"), "changed").expect("it is copied up");
    assert_eq!(
        fs::read(merged.join("pkg/y/z")).expect("readable"),
        b"changed"
    );
    assert_eq!(fs::read(fixture.at("pkg/y/z")).expect("readable"), b"z");
}
