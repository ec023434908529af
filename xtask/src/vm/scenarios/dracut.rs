//! A system that boots with an initramfs by dracut.

use super::boot;
use crate::process;
use crate::vm::files;
use crate::vm::lab::{Lab, config, guest_file};
use crate::vm::report::Report;
use crate::vm::system::{NixStore, System};
use crate::workspace;
use anyhow::{Result, ensure};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// For dracut, which takes seconds.
const LIMIT: Duration = Duration::from_secs(300);
const MODULE: &str = "dracut/90tvix-store-mount";

pub(super) fn run(lab: &Lab<'_>, report: &mut Report) -> Result<()> {
    // The checks are those of `boot`.
    let system = System::new(lab, "dracut", NixStore::Mount, "boot")?;
    let disk = system.disk()?;
    let mut machine = system.machine(lab, "dracut", &disk)?;
    machine.initrd = initrd(lab)?;
    boot::run_to_clean_end(lab, report, &machine, &disk)
}

/// Made as docs/nixos.md says.
fn initrd(lab: &Lab<'_>) -> Result<PathBuf> {
    let dir = lab.disks()?;
    let (tree, made) = (dir.join("dracut-files"), dir.join("dracut-initrd"));
    lab.package(&tree)?;
    let module = tree
        .join("usr/lib")
        .join(MODULE.replace('/', "/modules.d/"));
    files::copy_tree(&workspace::root().join("systemd").join(MODULE), &module)?;
    let settings = config("/sysroot", "/sysroot/nix/store");
    files::write(&tree, "etc/tvix-store-mount/initrd.toml", &settings)?;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh"])
        .arg(workspace::root().join("tests-vm/image/dracut.sh"))
        .args([&lab.images.debian_root(), &tree, &made]);
    let run = process::logged(&mut command, &lab.dir.join("dracut.log"), LIMIT)?;
    ensure!(
        run.success,
        "dracut failed: {}",
        process::tail(&run.output, 20)
    );
    // What a guest of the tests has in its initramfs besides.
    let more = dir.join("dracut-more");
    let journald = "etc/systemd/journald.conf.d/vm.conf";
    files::copy(&guest_file(&format!("root/{journald}")), &more, journald)?;
    let initrd = dir.join("dracut-initrd.img");
    files::initrd(&made, &more, &initrd)?;
    Ok(initrd)
}
