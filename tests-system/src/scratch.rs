//! Directories for a test's files.

use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The directory under which all scratch files and caches lie: `target/system-tests`, which is on
/// a real disk, or `SYSTEM_TESTS_DIR`.
pub fn base() -> Result<PathBuf> {
    let path = match std::env::var_os("SYSTEM_TESTS_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/system-tests"),
    };
    std::fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
    path.canonicalize()
        .with_context(|| format!("resolving {}", path.display()))
}

/// A fresh directory that goes away with its guard.
pub fn dir(name: &str) -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix(&format!("{name}-"))
        .tempdir_in(base()?)
        .context("creating a scratch directory")
}

/// Fails with the reason when this process may not do what a system test does.
pub fn require_root_and_fuse() -> Result<()> {
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "the system tests mount filesystems: run them as root"
    );
    std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .context("opening /dev/fuse: load the kernel module `fuse`, or pass the device in")?;
    Ok(())
}
