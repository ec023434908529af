//! Deaths of the worker all through the life of a system that runs from the mount.

use crate::vm::files;
use crate::vm::lab::{Lab, UNIT};
use crate::vm::report::Report;
use crate::vm::system::{NixStore, System, copy_script, link_to};
use anyhow::Result;
use std::path::Path;

/// At least as many are to have happened when multi-user is reached.
const LEAST_KILLS: u32 = 3;
/// What `kill.sh` says of each on the console.
const KILL: &str = "kill.sh: worker ";

pub(super) fn run(lab: &Lab<'_>, report: &mut Report) -> Result<()> {
    // The checks are those of `boot`: nobody is to notice anything.
    let system = System::new(lab, "crash", NixStore::Mount, "boot")?;
    // In the initramfs: before the new root is used.
    killer(
        &system.initrd,
        "initrd-fs.target",
        &format!("After={UNIT}\nBefore=initrd-fs.target\n"),
        "Type=oneshot\nExecStart=/bin/sh /vm/kill.sh 1\n",
    )?;
    // From then on. By the first character of its name, systemd-shutdown spares it.
    killer(
        &system.root,
        "sysinit.target",
        "",
        "ExecStart=@/bin/sh @sh /vm/kill.sh\n",
    )?;
    files::write(&system.root, "vm/kills", &LEAST_KILLS.to_string())?;
    let disk = system.disk()?;
    let machine = system.machine(lab, "crash", &disk)?;
    let outcome = lab.run(&machine, report)?;
    outcome.expect_orderly_end(report);
    let kills = outcome.console.matches(KILL).count();
    let before = outcome.value("kills")? as usize;
    report.note(&format!(
        "kills: {before} until the script's end, {kills} in all"
    ));
    report.check(
        "the worker was killed during the shutdown too",
        kills > before,
        || format!("all {before} kills were before it"),
    );
    let (clean, said) = files::is_clean(&disk.path)?;
    report.check("the root file system is clean", clean, || said);
    Ok(())
}

fn killer(root: &Path, wanted_by: &str, unit: &str, service: &str) -> Result<()> {
    copy_script(root, "kill.sh")?;
    copy_script(root, "worker.sh")?;
    let (units, name) = ("etc/systemd/system", "vm-kill.service");
    files::write(
        root,
        &format!("{units}/{name}"),
        &format!("[Unit]\nDefaultDependencies=no\n{unit}[Service]\n{service}"),
    )?;
    link_to(root, units, &format!("{wanted_by}.wants"), name)
}
