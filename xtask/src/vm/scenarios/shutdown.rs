//! The ends of a system that runs from the mount, while programs use it: reboot, then power-off.

use super::boot;
use crate::vm::lab::Lab;
use crate::vm::report::Report;
use crate::vm::system::{NixStore, System};
use anyhow::Result;

pub(super) fn run(lab: &Lab<'_>, report: &mut Report) -> Result<()> {
    let system = System::new(lab, "shutdown", NixStore::Mount, "shutdown")?;
    let disk = system.disk()?;
    // QEMU ends at a reboot too.
    for name in ["reboot", "power-off"] {
        let machine = system.machine(lab, name, &disk)?;
        boot::run_to_clean_end(lab, report, &machine, &disk)?;
    }
    Ok(())
}
