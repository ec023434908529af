//! A system that boots with the mount in place of /nix/store.

use crate::vm::files;
use crate::vm::lab::Lab;
use crate::vm::report::Report;
use crate::vm::system::{NixStore, System};
use anyhow::Result;

pub(super) fn run(lab: &Lab<'_>, report: &mut Report) -> Result<()> {
    let system = System::new(lab, "boot", NixStore::Mount, "boot")?;
    let disk = system.disk()?;
    let machine = system.machine(lab, "boot", &disk)?;
    let outcome = lab.run(&machine, report)?;
    outcome.expect_orderly_end(report);
    let (clean, said) = files::is_clean(&disk.path)?;
    report.check("the root file system is clean", clean, || said);
    Ok(())
}
