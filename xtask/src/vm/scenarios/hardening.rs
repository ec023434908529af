//! What the daemon that serves a running system may, seen from within the system.

use super::boot;
use crate::vm::lab::Lab;
use crate::vm::report::Report;
use anyhow::Result;

pub(super) fn run(lab: &Lab<'_>, report: &mut Report) -> Result<()> {
    boot::run_script(lab, report, "hardening")
}
