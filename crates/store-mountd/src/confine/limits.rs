//! Limits, memory, and the kernel's opinion of who may be killed.

use std::io::{self, Write as _};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use rustix::{
    fs::OFlags,
    mm::{MlockAllFlags, mlockall},
    thread::{CapabilitySet, capabilities},
};
use store_fs::proc;

/// Keeps the kernel from dumping this process, and those it starts, when it
/// crashes.
///
/// A dump is taken before the process counts as ended, by a program that may be
/// in the very mount: it would wait for the next worker, which waits for the
/// end of this one. Of all limits 1 is the one that keeps the kernel from
/// starting that program; 0 does not.
pub(crate) fn no_core_dumps() {
    let limited = getrlimit(Resource::RLIMIT_CORE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_CORE, hard.min(1), hard.min(1)));
    if let Err(error) = limited {
        tracing::warn!(%error, "a crash may be dumped, and hang for that");
    }
}

/// Which memory is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locked {
    /// All, for a process that keeps CAP_IPC_LOCK, if it has it. Without that,
    /// and with a limit, all that is allocated later would count, and fail.
    All,
    /// What there is now: the program and the state. What is allocated later
    /// can be given back, as locked memory cannot: the stacks of threads that
    /// have ended, and what a burst of requests took.
    Present,
}

/// Keeps memory of this process from being swapped out: what brings it back may
/// be in the mount.
pub(crate) fn lock_memory(locked: Locked) {
    let unlimited = getrlimit(Resource::RLIMIT_MEMLOCK).and_then(|(_, hard)| match hard {
        RLIM_INFINITY => setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard),
        _ => setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY),
    });
    let exempt = locked == Locked::All
        && capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    if let (Err(error), false) = (unlimited, exempt) {
        tracing::debug!(%error, "memory is not locked");
        return;
    }
    // As it comes to be used: the state is a large file that is mostly holes.
    let future = match locked {
        Locked::All => MlockAllFlags::FUTURE,
        Locked::Present => MlockAllFlags::empty(),
    };
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::ONFAULT | future;
    if let Err(error) = mlockall(flags) {
        tracing::debug!(%error, "memory is not locked");
    }
}

const OOM_SCORE: &str = "self/oom_score_adj";

fn set_oom_score(score: &str) -> io::Result<()> {
    proc::open_at(OOM_SCORE, OFlags::WRONLY)?.write_all(score.as_bytes())
}

/// Has the kernel spare this process, and those it starts, when memory is
/// short.
pub(crate) fn protect_from_oom() {
    if let Err(error) = set_oom_score("-1000") {
        tracing::debug!(%error, "the kernel does not spare this process when memory is short");
    }
}

/// Has the kernel choose this process after all others that it may choose: it
/// was spared like who started it, but has more memory, and can be replaced.
pub(crate) fn expose_to_oom() {
    let spared = proc::read(OOM_SCORE).is_ok_and(|score| score.trim_ascii() == b"-1000");
    if spared && let Err(error) = set_oom_score("-900") {
        tracing::debug!(%error, "the kernel cannot choose this process when memory is short");
    }
}
