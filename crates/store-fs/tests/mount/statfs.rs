use std::fs;

use rustix::fs::statvfs;

use super::{harness::*, overlay::Overlay, tree::*};

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

#[test]
fn overlayfs_takes_the_mount_as_a_lower_layer() {
    let content = bytes(100_000, 3);
    let fixture = Fixture::of(
        "pkg",
        &dir([("x", file(&content)), ("y", dir([("z", file("z"))]))]),
    );
    let overlay = Overlay::over(fixture.path());
    assert_eq!(fs::read(overlay.at("pkg/x")).expect("readable"), content);
    fs::write(overlay.at("pkg/y/z"), "changed").expect("it is copied up");
    assert_eq!(
        fs::read(overlay.at("pkg/y/z")).expect("readable"),
        b"changed"
    );
    assert_eq!(fs::read(fixture.at("pkg/y/z")).expect("readable"), b"z");
}
