//! The system calls that the standard library does not have.

#![allow(unsafe_code)]

use std::io;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note_signal(_: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Makes SIGINT, SIGTERM and SIGHUP set a flag instead of ending the process, so that whatever is
/// mounted or running is cleaned up first.
pub(crate) fn catch_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let handler = note_signal as extern "C" fn(libc::c_int);
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

/// True once one of those signals has come.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// True for root.
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid has no arguments and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Writes all filesystems' dirty data back.
pub(crate) fn sync() {
    // SAFETY: sync has no arguments and cannot fail.
    unsafe { libc::sync() }
}

/// Sends a signal to a child that has not been waited for, so its pid is still its own.
pub(crate) fn signal(child: &Child, signal: libc::c_int) {
    // SAFETY: kill takes plain numbers.
    unsafe { libc::kill(child.id() as libc::pid_t, signal) };
}

/// Sends a signal to the process group that a child leads.
pub(crate) fn signal_group(child: &Child, signal: libc::c_int) {
    // SAFETY: kill takes plain numbers.
    unsafe { libc::kill(-(child.id() as libc::pid_t), signal) };
}

/// What a finished child used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Its exit status was 0.
    pub(crate) success: bool,
    /// The most memory that it, or one of its own children, had resident.
    pub(crate) max_rss_kib: u64,
    /// Processor time in user and kernel mode.
    pub(crate) cpu: Duration,
}

/// Waits for a child and tells what it used.
pub(crate) fn wait_with_usage(child: &Child) -> io::Result<Usage> {
    let mut status = 0;
    // SAFETY: rusage is a struct of integers, for which all zeros is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to live locals of the types that wait4 writes.
        let waited = unsafe { libc::wait4(child.id() as libc::pid_t, &mut status, 0, &mut usage) };
        if waited >= 0 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec as u64) + Duration::from_micros(t.tv_usec as u64)
    };
    Ok(Usage {
        success: libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
        max_rss_kib: usage.ru_maxrss as u64,
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
    })
}
