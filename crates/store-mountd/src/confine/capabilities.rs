//! Capabilities.

use anyhow::{Context as _, Result};
use rustix::{
    io::Errno,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities,
    },
};

/// Gives up all but these, as far as they are there.
pub(super) fn keep(kept: CapabilitySet) -> Result<()> {
    let has = capabilities(None).context("cannot tell what capabilities there are")?;
    if has.permitted.contains(CapabilitySet::SETPCAP) {
        shrink_bounding_set(kept)?;
    }
    clear_ambient_capability_set().context("cannot give up ambient capabilities")?;
    let left = has.permitted & kept;
    let sets = CapabilitySets {
        effective: left,
        permitted: left,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).context("cannot give up capabilities")
}

fn shrink_bounding_set(kept: CapabilitySet) -> Result<()> {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if kept.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The kernel knows no more than those before.
            Err(Errno::INVAL) => break,
            Err(errno) => {
                return Err(errno).context("cannot give up capabilities of programs to be run");
            }
        }
    }
    Ok(())
}
