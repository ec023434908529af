//! What is measured: ways to have the same tree under some directory.

mod image;
mod ours;
mod rival;

use super::Bench;
use crate::process::run;
use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A way to have the trees.
pub(super) trait Subject {
    /// As the table calls it.
    fn name(&self) -> &str;
    /// Makes the trees available, with nothing cached by a server.
    fn mount(&self) -> Result<Box<dyn Mounted>>;
}

/// Trees that are available.
pub(super) trait Mounted {
    /// Where the tree of packages is.
    fn tree(&self) -> &Path;
    /// Where the directories for look-ups are, on subjects that have them.
    fn lookups(&self) -> Option<&Path> {
        None
    }
    /// What the server used up to now; zeros if the kernel itself is the server.
    fn counters(&mut self) -> Result<Counters> {
        Ok(Counters::default())
    }
    /// Ends it.
    fn unmount(self: Box<Self>) -> Result<()>;
}

/// What a server used.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counters {
    pub(super) cpu: Duration,
    /// Not known of a rival.
    pub(super) requests: Option<u64>,
    pub(super) memory: u64,
}

/// The trees, as ext4 has them.
#[derive(Debug)]
pub(super) struct Trees {
    pub(super) packages: PathBuf,
    pub(super) lookups: PathBuf,
}

pub(super) use self::ours::DEFAULT;

/// The measure of all others.
pub(super) const EXT4: &str = "ext4";

/// All subjects that can be had and are wanted; ext4 is the first.
pub(super) fn all(bench: &Bench<'_>, trees: &Trees) -> Result<Vec<Box<dyn Subject>>> {
    let mountpoint = bench.mountpoint()?;
    let mut subjects: Vec<Box<dyn Subject>> = vec![Box::new(Plain {
        packages: trees.packages.clone(),
        lookups: trees.lookups.clone(),
        mountpoint,
    })];
    subjects.extend(ours::all(bench, trees)?);
    subjects.extend(image::all(bench, &trees.packages)?);
    subjects.extend(rival::all(bench, &trees.packages)?);
    subjects.retain(|subject| !bench.is_without(subject.name()));
    Ok(subjects)
}

/// The tree itself, mounted as read-only as the others.
#[derive(Clone)]
struct Plain {
    packages: PathBuf,
    lookups: PathBuf,
    mountpoint: PathBuf,
}

impl Subject for Plain {
    fn name(&self) -> &str {
        EXT4
    }

    fn mount(&self) -> Result<Box<dyn Mounted>> {
        let mut mount = Command::new("mount");
        mount.arg("--bind").args([&self.packages, &self.mountpoint]);
        run(&mut mount)?;
        let mut remount = Command::new("mount");
        remount.args(["-o", "remount,bind,ro,noatime"]);
        run(remount.arg(&self.mountpoint))?;
        Ok(Box::new(self.clone()))
    }
}

impl Mounted for Plain {
    fn tree(&self) -> &Path {
        &self.mountpoint
    }

    fn lookups(&self) -> Option<&Path> {
        Some(&self.lookups)
    }

    fn unmount(self: Box<Self>) -> Result<()> {
        unmount(&self.mountpoint)
    }
}

fn unmount(mountpoint: &Path) -> Result<()> {
    run(Command::new("umount").arg(mountpoint))
}

/// Removes a file or a directory with all that is in it, if it is there.
fn remove(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(fs::remove_dir_all(path)?),
        Ok(_) => Ok(fs::remove_file(path)?),
        Err(_) => Ok(()),
    }
}
