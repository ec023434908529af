//! A system that boots with the mount in place of /nix/store.

use crate::vm::files;
use crate::vm::lab::Lab;
use crate::vm::machine::{Disk, Machine};
use crate::vm::report::Report;
use crate::vm::system::{NixStore, System};
use anyhow::Result;

pub(super) fn run(lab: &Lab<'_>, report: &mut Report) -> Result<()> {
    run_script(lab, report, "boot")
}

/// One such boot, in which the guest's script of that name runs.
pub(super) fn run_script(lab: &Lab<'_>, report: &mut Report, script: &'static str) -> Result<()> {
    let system = System::new(lab, script, NixStore::Mount, script)?;
    let disk = system.disk()?;
    let machine = system.machine(lab, script, &disk)?;
    run_to_clean_end(lab, report, &machine, &disk)
}

/// A run of the machine that leaves its root file system, on `disk`, clean.
pub(super) fn run_to_clean_end(
    lab: &Lab<'_>,
    report: &mut Report,
    machine: &Machine,
    disk: &Disk,
) -> Result<()> {
    let outcome = lab.run(machine, report)?;
    outcome.expect_orderly_end(report);
    let (clean, said) = files::is_clean(&disk.path)?;
    report.check("the root file system is clean", clean, || said);
    Ok(())
}
