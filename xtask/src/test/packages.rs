//! The system's packages that the tests need.

use super::{Context, Counts};
use crate::process::{self, which};
use crate::sys;
use anyhow::Result;
use std::fs;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(15 * 60);

/// A program, the Debian package that has it, and what it is for.
const NEEDED: &[(&str, &str, &str)] = &[
    ("cc", "gcc", "linking and building C code"),
    ("c++", "g++", "building libFuzzer"),
    ("git", "git", "listing the repository's files"),
    ("fusermount3", "fuse3", "mounting as an ordinary user"),
    ("mkfs.ext4", "e2fsprogs", "the power cut tests"),
    ("losetup", "mount", "the power cut tests"),
    (
        "mmdebstrap",
        "mmdebstrap",
        "the chroot test and the images of virtual machines",
    ),
    ("qemu-system-x86_64", "qemu-system-x86", "virtual machines"),
    ("cpio", "cpio", "the initramfs of virtual machines"),
    ("getfattr", "attr", "the tests of extended attributes"),
    ("xz", "xz-utils", "unpacking packages in the chroot test"),
    ("diff", "diffutils", "comparing trees"),
    (
        "nix-store",
        "nix-bin",
        "the test beside a real Nix, and the Nix code",
    ),
    ("unshare", "util-linux", "keeping the tests' mounts apart"),
];

pub(super) fn run(context: &Context) -> Result<Counts> {
    let missing = missing();
    if missing.is_empty() {
        println!("all there");
        return Ok(Counts::PASSED);
    }
    let names: Vec<&str> = missing.iter().map(|(_, package, _)| *package).collect();
    if is_debian() && sys::is_root() {
        println!("installing with apt-get: {}", names.join(" "));
        return install(context, &names);
    }
    for (program, package, purpose) in &missing {
        println!("missing: {program}, for {purpose}: Debian's package {package}");
    }
    if is_debian() {
        println!("as root: apt-get install {}", names.join(" "));
    }
    Ok(Counts::FAILED)
}

fn missing() -> Vec<&'static (&'static str, &'static str, &'static str)> {
    NEEDED
        .iter()
        .filter(|(program, ..)| which(program).is_none())
        .collect()
}

fn is_debian() -> bool {
    fs::read_to_string("/etc/os-release").is_ok_and(|text| {
        text.lines().any(|line| {
            line.strip_prefix("ID=")
                .or_else(|| line.strip_prefix("ID_LIKE="))
                .is_some_and(|ids| {
                    ids.trim_matches('"')
                        .split(' ')
                        .any(|id| id == "debian" || id == "ubuntu")
                })
        })
    })
}

fn install(context: &Context, packages: &[&str]) -> Result<Counts> {
    let log = context.log("packages");
    let update = process::logged(Command::new("apt-get").args(["-q", "update"]), &log, LIMIT)?;
    if !update.success {
        // Perhaps only a repository of somebody else is unreachable: the install tells.
        println!("apt-get update failed");
    }
    let mut install = Command::new("apt-get");
    install
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-q", "-y", "--no-install-recommends", "install"])
        .args(packages);
    let install = process::logged(&mut install, &log, LIMIT)?;
    let counts = Counts::of_program(&install);
    let still: Vec<&str> = missing().iter().map(|(program, ..)| *program).collect();
    if counts.failed == 0 && !still.is_empty() {
        println!("still missing: {}", still.join(" "));
        return Ok(Counts::FAILED);
    }
    Ok(counts)
}
