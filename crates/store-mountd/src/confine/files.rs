//! Files, the network and other processes, by Landlock.

use std::os::fd::BorrowedFd;

use anyhow::{Context as _, Result};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope,
};
use store_fs::proc;

/// The newest whose restrictions were thought about. Later ones keep a process
/// from naming sockets, and logging names the journal's.
const KNOWN: ABI = ABI::V7;

/// Lets the thread read files below the store and /proc, and nothing else. What
/// is open stays so.
pub(super) fn only_below(store: BorrowedFd<'_>, network: bool) -> Result<()> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?;
    if !network {
        rules = rules.handle_access(AccessNet::from_all(KNOWN))?;
    }
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut rules = rules
        .create()
        .context("cannot make a rule for files")?
        .add_rule(PathBeneath::new(store, read))
        .context("cannot make a rule for the store")?;
    // Whether who waits for an answer was killed is there.
    if let Ok(proc) = proc::dir() {
        rules = rules
            .add_rule(PathBeneath::new(proc, read))
            .context("cannot make a rule for /proc")?;
    }
    let status = rules.restrict_self().context("cannot give up files")?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => {}
        RulesetStatus::PartiallyEnforced => {
            tracing::debug!("this kernel's Landlock takes away files in part");
        }
        RulesetStatus::NotEnforced => {
            tracing::warn!("this kernel has no Landlock: files outside the store can be read");
        }
    }
    Ok(())
}
