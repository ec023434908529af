//! A system that boots from an overlay over the mount, and Nix on it.

use super::boot;
use crate::vm::files;
use crate::vm::lab::Lab;
use crate::vm::report::Report;
use crate::vm::system::{NixStore, System};
use anyhow::Result;

pub(super) fn run(lab: &Lab<'_>, report: &mut Report) -> Result<()> {
    let system = System::new(lab, "writable", NixStore::Overlay, "writable")?;
    files::write(&system.root, "vm/system", lab.images.top()?.trim())?;
    let count = lab.images.path_count()?.to_string();
    files::write(&system.root, "vm/path-count", &count)?;
    let disk = system.disk()?;
    let machine = system.machine(lab, "writable", &disk)?;
    boot::run_to_clean_end(lab, report, &machine, &disk)
}
