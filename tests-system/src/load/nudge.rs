//! Signals that mean nothing, sent to threads in the middle of their calls, as some languages'
//! runtimes do. The kernel tells the mount of each that interrupts a request.
#![allow(unsafe_code)]

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::sync::Mutex;
use std::sync::PoisonError;

extern "C" fn ignore(_: libc::c_int) {}

/// The threads that are nudged.
#[derive(Debug, Default)]
pub struct Threads(Mutex<Vec<libc::pid_t>>);

impl Threads {
    /// Lets SIGURG do nothing but interrupt.
    pub fn prepare() -> nix::Result<()> {
        let handler = SigHandler::Handler(ignore);
        let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler touches nothing.
        unsafe { sigaction(Signal::SIGURG, &action) }.map(drop)
    }

    /// Adds the calling thread.
    pub fn join(&self) {
        self.list().push(nix::unistd::gettid().as_raw());
    }

    /// Interrupts one of them.
    pub fn nudge(&self, number: u64) {
        let list = self.list();
        if list.is_empty() {
            return;
        }
        let thread = list[number as usize % list.len()];
        // SAFETY: a system call on numbers. A thread that has ended is an error, and no other
        // process can be meant.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGURG) };
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<libc::pid_t>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
