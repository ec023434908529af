//! Requests whose asker got a signal.
//!
//! The kernel says so once per request, whatever the signal is. If it is one
//! that ends the asker, it is answered EINTR, and nobody sees that; the answer
//! that comes later is not taken. Otherwise the request goes on, for a system
//! call that reads files does not fail with EINTR; but a signal that ends the
//! asker may follow, and of that nothing is said. So such askers are looked at
//! again until they have their answer.

use std::io;

use parking_lot::Mutex;
use rustix::process::getppid;

use super::engine::{Engine, write_all};
use crate::{
    fuse::wire::{self, Header, OUT_HEADER},
    proc,
    state::desk::Card,
};

pub(super) struct Interrupts {
    waiting: Mutex<Vec<Card>>,
}

impl Interrupts {
    pub(super) fn new() -> Self {
        // With the option hidepid, /proc shows no processes of others.
        let parent = getppid().map_or(1, |parent| parent.as_raw_pid() as u32);
        if let Err(error) = status(parent) {
            tracing::warn!(
                %error,
                "other processes are not seen in /proc: who is killed waits for the end of its reads"
            );
        }
        Self {
            waiting: Mutex::default(),
        }
    }

    /// INTERRUPT.
    pub(super) fn take(&self, engine: &Engine, header: &Header, request: &[u8]) {
        let Some(unique) = wire::interrupted(request) else {
            return;
        };
        match engine.desks.find(unique) {
            Some(card) if is_killed(card.pid) => answer(engine, unique),
            Some(card) => {
                tracing::trace!(unique, pid = card.pid, "a request was interrupted");
                self.waiting.lock().push(card);
            }
            // It was answered; or whoever took it has not even looked at it,
            // and then the kernel says it once more.
            None => {
                let out = wire::out_header(header.unique, OUT_HEADER, libc::EAGAIN);
                let _ = write_all(&engine.fd, &out);
            }
        }
    }

    /// Whether some were interrupted and still wait.
    pub(super) fn are_some(&self) -> bool {
        !self.waiting.lock().is_empty()
    }

    /// Looks at those again who were not killed when they were interrupted.
    pub(super) fn look_again(&self, engine: &Engine) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        if waiting.is_empty() {
            return;
        }
        let mut left = Vec::new();
        for card in waiting {
            if engine.desks.find(card.unique).is_none() {
                continue;
            }
            if is_killed(card.pid) {
                answer(engine, card.unique);
            } else {
                left.push(card);
            }
        }
        self.waiting.lock().extend(left);
    }
}

/// Whether a thread has SIGKILL pending. It cannot be gone while it waits for an
/// answer; one that is not found is not to be seen.
fn is_killed(pid: u32) -> bool {
    // Of another PID namespace: it cannot be seen.
    pid != 0 && status(pid).is_ok_and(|status| has_sigkill(&status))
}

fn status(pid: u32) -> io::Result<String> {
    let status = proc::read(&format!("{pid}/status"))?;
    Ok(String::from_utf8_lossy(&status).into_owned())
}

fn has_sigkill(status: &str) -> bool {
    const SIGKILL: u64 = 1 << (libc::SIGKILL - 1);
    let pending = |line: &str| {
        let mask = (line.strip_prefix("SigPnd:")).or_else(|| line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    };
    status
        .lines()
        .filter_map(pending)
        .any(|mask| mask & SIGKILL != 0)
}

fn answer(engine: &Engine, unique: u64) {
    let out = wire::out_header(unique, OUT_HEADER, libc::EINTR);
    match write_all(&engine.fd, &out) {
        Ok(()) => tracing::debug!(unique, "who asked was killed: answered EINTR"),
        Err(error) => tracing::trace!(unique, %error, "there was an answer already"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pending_sigkill_is_seen() {
        let status = |thread, process| {
            format!(
                "Name:\tcat\nSigQ:\t0/1\nSigPnd:\t{thread:016x}\nShdPnd:\t{process:016x}\nSigBlk:\tffffffffffffffff\n"
            )
        };
        assert!(has_sigkill(&status(0x100, 0)));
        assert!(has_sigkill(&status(0, 0x4100)));
        assert!(!has_sigkill(&status(0x4002, 0x200)));
        assert!(!has_sigkill("SigPnd:\tnonsense\n"));
    }

    #[test]
    fn who_lives_is_not_killed() {
        assert!(!is_killed(std::process::id()));
        assert!(!is_killed(0));
        // As where /proc has the option hidepid.
        assert!(!is_killed(u32::MAX));
    }
}
