//! Deaths of the worker all through the life of a system that runs from the mount.

use super::boot::System;
use crate::vm::files;
use crate::vm::lab::{Lab, UNIT};
use crate::vm::report::Report;
use crate::workspace;
use anyhow::Result;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// At least as many are to have happened when multi-user is reached.
const LEAST_KILLS: u32 = 3;

pub(super) fn run(lab: &Lab<'_>, report: &mut Report) -> Result<()> {
    // The checks are those of `boot`: nobody is to notice anything.
    let system = System::new(lab, "boot")?;
    // In the initramfs: before the new root is used.
    killer(
        &system.initrd,
        "usr/lib/systemd/system",
        "initrd-fs.target",
        &format!("After={UNIT}\nBefore=initrd-fs.target\n"),
        "Type=oneshot\nExecStart=/bin/sh /vm/kill.sh 1 1\n",
    )?;
    // From then on, until systemd-shutdown ends it with everything else.
    killer(
        &system.root,
        "etc/systemd/system",
        "sysinit.target",
        "",
        "ExecStart=@/bin/sh @sh /vm/kill.sh 2\n",
    )?;
    files::write(&system.root, "vm/kills", &LEAST_KILLS.to_string())?;
    let disk = system.disk(lab)?;
    let machine = system.machine(lab, "crash", &disk)?;
    let outcome = lab.run(&machine, report)?;
    outcome.expect_orderly_end(report);
    let (clean, said) = files::is_clean(&disk.path)?;
    report.check("the root file system is clean", clean, || said);
    Ok(())
}

fn killer(root: &Path, units: &str, wanted_by: &str, unit: &str, service: &str) -> Result<()> {
    let script = workspace::root().join("tests-vm/guest/kill.sh");
    files::copy(&script, root, "vm/kill.sh")?;
    let name = "vm-kill.service";
    files::write(
        root,
        &format!("{units}/{name}"),
        &format!("[Unit]\nDefaultDependencies=no\n{unit}[Service]\n{service}"),
    )?;
    let wants = root.join(units).join(format!("{wanted_by}.wants"));
    fs::create_dir_all(&wants)?;
    symlink(format!("../{name}"), wants.join(name))?;
    Ok(())
}
