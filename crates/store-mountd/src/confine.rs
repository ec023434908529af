//! Taking away what a process does not need, so that who takes it over has
//! little of it.
//!
//! The order of a start is: listeners and files are opened, then limits, files,
//! system calls and capabilities are taken away here, and only then there are
//! threads and the kernel is served. What is taken away stays so for threads
//! and programs that are started later.
//!
//! | | worker | supervisor |
//! |---|---|---|
//! | capabilities | none, but to read a store of another owner | those to unmount, to name who uses the mount, to register files, to end a worker |
//! | files | below the store and /proc, to read | as before: its directories may have gone |
//! | network | none unless a remote needs it | as before |
//! | system calls | a list of those that serving needs | all but a list: what it lacks, later workers lack too |
//! | new privileges | none | none |
//!
//! A system call that is forbidden gives EPERM, and one that nobody thought of
//! gives ENOSYS, as on a kernel that has it not: libraries know how to go on
//! then, and a mount that is slower is better than one that is gone. What the
//! kernel does not know how to take away is left, and said.

mod capabilities;
mod files;
mod limits;
mod syscalls;

use std::os::fd::BorrowedFd;

use anyhow::{Context as _, Result, bail};
use rustix::{fs::fstat, process::geteuid, thread::CapabilitySet};
use seccompiler::SeccompAction;
use store_fs::proc;

pub(crate) use self::limits::{
    Locked, expose_to_oom, lock_memory, no_core_dumps, protect_from_oom,
};

/// What a worker needs beyond serving.
#[derive(Debug)]
pub(crate) struct WorkerNeeds<'a> {
    /// The store's directory.
    pub(crate) store: BorrowedFd<'a>,
    /// Whether contents come from other machines.
    pub(crate) network: bool,
}

/// What a supervisor needs beyond supervising.
#[derive(Debug)]
pub(crate) struct SupervisorNeeds {
    /// Whether it unmounts by a program that gets privileges by being run.
    pub(crate) fusermount: bool,
}

/// What a supervisor keeps: to unmount and to register files; to say who uses
/// the mount; to end a worker, to lock memory, and to start a worker that can
/// give up the rest.
pub(crate) const SUPERVISOR_CAPABILITIES: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::IPC_LOCK)
    .union(CapabilitySet::SYS_RESOURCE)
    .union(CapabilitySet::SETPCAP);

/// Confines a worker, which has all open that it needs and has no threads yet.
pub(crate) fn worker(needs: &WorkerNeeds<'_>) -> Result<()> {
    worker_with(needs, &unknown_to_the_kernel())
}

fn worker_with(needs: &WorkerNeeds<'_>, otherwise: &SeccompAction) -> Result<()> {
    require_one_thread()?;
    let owner = fstat(needs.store)
        .context("cannot look at the store")?
        .st_uid;
    let foreign = owner != geteuid().as_raw();
    let kept = match foreign {
        true => CapabilitySet::DAC_READ_SEARCH,
        false => CapabilitySet::empty(),
    };
    capabilities::keep(kept)?;
    rustix::thread::set_no_new_privs(true).context("cannot give up new privileges")?;
    files::only_below(needs.store, needs.network)?;
    syscalls::of_worker(needs.network, otherwise)?;
    tracing::debug!("confined");
    Ok(())
}

/// Confines a supervisor, which has mounted and has no threads yet.
pub(crate) fn supervisor(needs: &SupervisorNeeds) -> Result<()> {
    if needs.fusermount {
        // It would be without privileges too. Whose supervisor it is has none
        // to lose.
        return Ok(());
    }
    require_one_thread()?;
    capabilities::keep(SUPERVISOR_CAPABILITIES)?;
    rustix::thread::set_no_new_privs(true).context("cannot give up new privileges")?;
    syscalls::of_supervisor()?;
    Ok(())
}

fn unknown_to_the_kernel() -> SeccompAction {
    SeccompAction::Errno(libc::ENOSYS as u32)
}

/// What is taken away is taken from this thread and those it starts.
fn require_one_thread() -> Result<()> {
    // Where /proc is not to be seen, nobody can tell.
    let threads = proc::names("self/task").map_or(1, |names| names.len());
    if threads != 1 {
        bail!("there are {threads} threads already, which would not be confined");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
