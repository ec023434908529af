//! What scenarios work with.

use super::files;
use super::image::Images;
use super::machine::{Disk, Machine, Outcome};
use super::report::Report;
use crate::{process, workspace};
use anyhow::{Context as _, Result};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) const UNIT: &str = "tvix-store-mount.service";
/// In an initramfs.
pub(super) const CHECK_UNIT: &str = "tvix-store-mount-check.service";
pub(super) const CONFIG_FILE: &str = "etc/tvix-store-mount/config.toml";

/// A configuration for the system whose root is at `prefix`.
pub(super) fn config(prefix: &str, mountpoint: &str) -> String {
    format!("mountpoint = \"{mountpoint}\"\nstore = \"{prefix}/var/lib/tvix-store-mount\"\n")
}

/// What is there to be laid over a guest's root, or into it.
pub(super) fn guest_file(name: &str) -> PathBuf {
    workspace::root().join("tests-vm/guest").join(name)
}

/// One scenario's workplace.
#[derive(Debug)]
pub(super) struct Lab<'a> {
    pub(super) images: &'a Images,
    /// The static program.
    pub(super) program: &'a Path,
    pub(super) accelerator: &'a str,
    /// Consoles, results and journals are kept here.
    pub(super) dir: &'a Path,
    /// All that takes long too.
    pub(super) full: bool,
}

impl Lab<'_> {
    /// Disks and initramfs archives of this scenario; they are removed when it passes.
    pub(super) fn disks(&self) -> Result<PathBuf> {
        let dir = self.dir.join("disks");
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        Ok(dir)
    }

    pub(super) fn discard_disks(&self) -> Result<()> {
        let dir = self.disks()?;
        fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())
    }

    /// The program, working on a store on the host.
    pub(super) fn mountd(&self, store: &Path, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(self.program);
        command.arg("--store").arg(store).args(arguments);
        process::output(&mut command)
    }

    /// The program, its units, its configuration, and the test's script, as files to lay over the
    /// root of a Debian system.
    pub(super) fn guest_files(&self, root: &Path, script: &str) -> Result<()> {
        self.package(root)?;
        files::write(root, CONFIG_FILE, &config("", "/nix/store"))?;
        let wants = root.join("etc/systemd/system/local-fs.target.wants");
        fs::create_dir_all(&wants).with_context(|| wants.display().to_string())?;
        symlink(format!("/usr/lib/systemd/system/{UNIT}"), wants.join(UNIT))?;
        self.script(root, script)
    }

    /// The program and its units, where a package has them.
    pub(super) fn package(&self, root: &Path) -> Result<()> {
        files::copy(self.program, root, "usr/bin/store-mountd")?;
        for unit in [UNIT, CHECK_UNIT] {
            self.unit(unit, root, "usr/lib/systemd/system")?;
        }
        Ok(())
    }

    /// A unit as it is shipped.
    pub(super) fn unit(&self, unit: &str, root: &Path, dir: &str) -> Result<()> {
        let source = workspace::root().join("systemd").join(unit);
        files::copy(&source, root, &format!("{dir}/{unit}"))
    }

    /// What runs and reports in the guest.
    pub(super) fn script(&self, root: &Path, script: &str) -> Result<()> {
        files::copy_tree(&guest_file("root"), root)?;
        for name in ["lib.sh", "worker.sh", "reader.sh"] {
            files::copy(&guest_file(name), root, &format!("vm/{name}"))?;
        }
        files::copy(&guest_file(&format!("{script}.sh")), root, "vm/script.sh")
    }

    pub(super) fn run(&self, machine: &Machine, report: &mut Report) -> Result<Outcome> {
        let outcome = machine.run(self.dir, self.accelerator, report)?;
        report.note(&format!("{}: took {:.0?}", machine.name, outcome.took));
        Ok(outcome)
    }

    /// A disk of this scenario with the tree in it.
    pub(super) fn disk(&self, tree: &Path, name: &'static str, spare_mib: u64) -> Result<Disk> {
        let path = self.disks()?.join(format!("{name}.img"));
        files::ext4(tree, name, spare_mib, &path)?;
        Ok(Disk {
            path,
            serial: name,
            keep_writes: false,
        })
    }
}
