//! The life of a generation: A on the disk, the store enabled, B, back to A, B collected. Each stage
//! of the guest's script is a boot of the same disk.

use super::boot;
use crate::vm::files;
use crate::vm::lab::{Lab, guest_file};
use crate::vm::machine::Disk;
use crate::vm::report::Report;
use crate::vm::system::{NixStore, System, copy_script, link_to};
use anyhow::{Result, ensure};
use std::path::Path;

/// The boot loader's configuration: the program that is to be the first process.
const ENTRY: &str = "/boot/entry";
/// For the store, for what is built, and for the store's second copy of that.
const ROOM_MIB: u64 = 512;

pub(super) fn run(lab: &Lab<'_>, report: &mut Report) -> Result<()> {
    let on_disk = System::new(lab, "generation", NixStore::Directory, "generation")?;
    let root = &on_disk.root;
    files::write(root, "vm/system", lab.images.top()?.trim())?;
    files::copy(&lab.images.registration(), root, "vm/registration")?;
    for name in [
        "generation.nix",
        "generation-install.sh",
        "generation-activate.sh",
    ] {
        copy_script(root, name)?;
    }
    let init = lab.images.system("init")?;
    files::write(root, ENTRY, &init.display().to_string())?;
    let mounted = on_disk.with_mount(lab)?;
    activate(&mounted.initrd)?;
    let disk = on_disk.disk_with_room(ROOM_MIB)?;
    start(lab, report, &on_disk, &disk, "enable", "")?;
    for stage in ["switch", "next", "collect", "kept"] {
        start(lab, report, &mounted, &disk, stage, "")?;
    }
    start(lab, report, &mounted, &disk, "off", "tvix-store-mount=off")
}

/// What the activation in the initramfs is.
fn activate(initrd: &Path) -> Result<()> {
    copy_script(initrd, "generation-activate.sh")?;
    files::copy_tree(&guest_file("generation"), initrd)?;
    link_to(
        initrd,
        "usr/lib/systemd/system",
        "initrd.target.requires",
        "vm-activate.service",
    )
}

/// Starts what the boot loader would, with `words` more on the kernel's command line.
fn start(
    lab: &Lab<'_>,
    report: &mut Report,
    system: &System,
    disk: &Disk,
    stage: &'static str,
    words: &str,
) -> Result<()> {
    let entry = files::read_from_ext4(&disk.path, ENTRY)?;
    let mut machine = system.machine(lab, stage, disk)?;
    // The last init= counts.
    let init = format!(" init={} vm.stage={stage} {words}", entry.trim());
    machine.command_line.push_str(&init);
    boot::run_to_clean_end(lab, report, &machine, disk)?;
    ensure!(
        report.totals().failed == 0,
        "the stages after {stage} depend on it, and are left out"
    );
    Ok(())
}
