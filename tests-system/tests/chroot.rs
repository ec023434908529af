//! A whole Debian system lives on the mount: programs run from it, and the compiler works.

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use system_tests::mountd::{MountOptions, Store, name_of};
use system_tests::scratch;

const SUITE: &str = "bookworm";
const PACKAGES: &str = "gcc,libc6-dev,python3";

/// Prints the result of a computation, then every mapped file that is not of the root's device.
const PYTHON: &str = r#"
import json, os
print(json.dumps({"sum": sum(range(1000))}))
root = os.stat("/").st_dev
mapped = 0
for line in open("/proc/self/maps"):
    fields = line.split(maxsplit=5)
    if len(fields) < 6 or not fields[5].startswith("/"):
        continue
    major, minor = (int(part, 16) for part in fields[3].split(":"))
    mapped += 1
    if os.makedev(major, minor) != root:
        print("foreign:", line.strip())
print("mapped", mapped > 5)
"#;

const C: &str = r#"
#include <math.h>
#include <stdio.h>
int main(void) { printf("compiled %.3f\n", sqrt(2.0)); return 0; }
"#;

#[test]
fn programs_run_from_a_debian_root_on_the_mount() -> Result<()> {
    scratch::require_root_and_fuse()?;
    let dir = scratch::dir("chroot")?;
    let source = dir.path().join("debian");
    unpack(&tarball()?, &source)?;
    let store = Store::new(&dir.path().join("store"))?;
    let path = store.import(&[&source])?.remove(0);
    fs::remove_dir_all(&source)?;
    let mounted = store.mount(MountOptions::default())?;
    let root = mounted.path().join(name_of(&path)?);

    let proc = Bound::new("proc", &root.join("proc"))?;
    let tmp = Bound::new("tmpfs", &root.join("tmp"))?;
    fs::write(root.join("tmp/program.py"), PYTHON)?;
    fs::write(root.join("tmp/program.c"), C)?;
    let output = enter(&root, &["python3", "/tmp/program.py"])?;
    assert_eq!(output, "{\"sum\": 499500}\nmapped True\n");
    enter(
        &root,
        &["gcc", "-O2", "-o", "/tmp/program", "/tmp/program.c", "-lm"],
    )?;
    assert_eq!(enter(&root, &["/tmp/program"])?, "compiled 1.414\n");
    drop((tmp, proc));

    let finished = mounted.stop()?;
    ensure!(finished.code == Some(0), "{finished:?}");
    store.expect_clean()
}

/// Runs a program in the root and returns what it printed.
fn enter(root: &Path, command: &[&str]) -> Result<String> {
    let output = Command::new("chroot")
        .arg(root)
        .args(command)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .context("starting chroot")?;
    ensure!(
        output.status.success(),
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// The Debian root, made once and kept.
fn tarball() -> Result<PathBuf> {
    let path = scratch::base()?.join(format!("{SUITE}-{}.tar", PACKAGES.replace(',', "-")));
    if !path.exists() {
        let unfinished = path.with_extension("unfinished.tar");
        let output = Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase"])
            .arg(format!("--include={PACKAGES}"))
            .arg(SUITE)
            .arg(&unfinished)
            .output()
            .context("starting mmdebstrap")?;
        ensure!(
            output.status.success(),
            "mmdebstrap: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        fs::rename(&unfinished, &path)?;
    }
    Ok(path)
}

/// Without the device nodes, which a store cannot have.
fn unpack(tarball: &Path, target: &Path) -> Result<()> {
    fs::create_dir(target)?;
    let status = Command::new("tar")
        .args(["--extract", "--exclude=./dev/*", "--file"])
        .arg(tarball)
        .arg("--directory")
        .arg(target)
        .status()
        .context("starting tar")?;
    ensure!(status.success(), "tar: {status}");
    Ok(())
}

/// A filesystem mounted over a directory of the root.
struct Bound(PathBuf);

impl Bound {
    fn new(fs: &str, path: &Path) -> Result<Self> {
        mount(Some(fs), path, Some(fs), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mounting {fs} on {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}
