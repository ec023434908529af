//! Making what a machine is given: file trees, archives, disks.

use crate::process;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes a file and the directories above it.
pub(super) fn write(root: &Path, name: &str, text: &str) -> Result<()> {
    let path = root.join(name.trim_start_matches('/'));
    create_parent(&path)?;
    fs::write(&path, text).with_context(|| path.display().to_string())
}

/// Copies a file, with its mode, and makes the directories above it.
pub(super) fn copy(source: &Path, root: &Path, name: &str) -> Result<()> {
    let path = root.join(name.trim_start_matches('/'));
    create_parent(&path)?;
    fs::copy(source, &path)
        .with_context(|| format!("copying {} to {}", source.display(), path.display()))?;
    Ok(())
}

/// Copies a tree over another.
pub(super) fn copy_tree(source: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(target).with_context(|| target.display().to_string())?;
    process::run(
        Command::new("cp")
            .arg("-a")
            .arg(source.join("."))
            .arg(target),
    )
}

fn create_parent(path: &Path) -> Result<()> {
    let parent = path.parent().context("no directory")?;
    fs::create_dir_all(parent).with_context(|| parent.display().to_string())
}

/// An initramfs that is `base`, then the tree. The kernel unpacks one after the other.
pub(super) fn initrd(base: &Path, tree: &Path, target: &Path) -> Result<()> {
    let archive = target.with_extension("cpio");
    let names = process::output(
        Command::new("find")
            .args([".", "-mindepth", "1"])
            .current_dir(tree),
    )?;
    let list = target.with_extension("list");
    fs::write(&list, names).with_context(|| list.display().to_string())?;
    let status = Command::new("cpio")
        .args(["--quiet", "-o", "-H", "newc", "-R", "0:0", "-O"])
        .arg(&archive)
        .current_dir(tree)
        .stdin(Stdio::from(fs::File::open(&list)?))
        .status()
        .context("starting cpio")?;
    ensure!(status.success(), "cpio: {status}");
    let mut bytes = fs::read(base).with_context(|| base.display().to_string())?;
    bytes.extend(fs::read(&archive)?);
    fs::write(target, bytes).with_context(|| target.display().to_string())?;
    fs::remove_file(&list)?;
    fs::remove_file(&archive)?;
    Ok(())
}

/// An ext4 file system with the tree in it, and this much room besides.
pub(super) fn ext4(tree: &Path, label: &str, spare_mib: u64, target: &Path) -> Result<()> {
    let used = process::output(
        Command::new("du")
            .args(["-sm", "--apparent-size"])
            .arg(tree),
    )?;
    let used: u64 = used
        .split_whitespace()
        .next()
        .and_then(|number| number.parse().ok())
        .context("du printed no number")?;
    process::run(
        Command::new("mke2fs")
            .args(["-q", "-q", "-F", "-t", "ext4", "-L", label, "-d"])
            .arg(tree)
            .arg(target)
            .arg(format!("{}M", used + used / 8 + 16 + spare_mib)),
    )
}

/// A file's text in the file system on an image.
pub(super) fn read_from_ext4(image: &Path, name: &str) -> Result<String> {
    let request = format!("cat {name}");
    let text = process::output(Command::new("debugfs").args(["-R", &request]).arg(image))?;
    // Its status does not say so.
    ensure!(!text.is_empty(), "{}: no {name}", image.display());
    Ok(text)
}

/// Whether the file system on an image is clean and consistent.
pub(super) fn is_clean(image: &Path) -> Result<(bool, String)> {
    let output = Command::new("e2fsck")
        .args(["-f", "-n"])
        .arg(image)
        .output()
        .context("starting e2fsck")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let journal = text.contains("recovering journal") || text.contains("skipping journal");
    Ok((output.status.success() && !journal, text))
}
