//! Whole systems under QEMU: `cargo xtask vm-test`, as a stage.

use super::{Context, Counts};
use crate::vm::{self, Totals};
use anyhow::Result;

pub(super) fn run(context: &Context) -> Result<Counts> {
    let Totals { passed, failed } = vm::stage(context.full)?;
    Ok(Counts { passed, failed })
}
