//! Processes that are started from a file descriptor.
//!
//! Neither a path nor `/proc` nor `/dev/null` is needed: the supervisor's root
//! may be an initramfs that was emptied.

#![allow(unsafe_code)]

use std::{
    convert::Infallible,
    ffi::{CStr, CString, c_char},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

use rustix::{
    io::{Errno, fcntl_dupfd_cloexec},
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open,
        pidfd_send_signal, waitid,
    },
};

/// A child of this process.
#[derive(Debug)]
pub(super) struct Child {
    pid: Pid,
    pidfd: OwnedFd,
}

/// Numbers from here on are not given to a child's descriptors.
const ABOVE: RawFd = 32;

impl Child {
    /// Runs `program`, whose descriptors from 0 on are `fds` and no others.
    pub(super) fn spawn(
        program: BorrowedFd<'_>,
        arguments: &[CString],
        environment: &[CString],
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<Self> {
        let arguments = pointers(arguments);
        let environment = pointers(environment);
        // Out of the way of the numbers that they get.
        let fds = fds
            .iter()
            .map(|fd| fcntl_dupfd_cloexec(fd, ABOVE))
            .collect::<Result<Vec<_>, _>>()?;
        let program = fcntl_dupfd_cloexec(program, ABOVE)?;
        // SAFETY: until it executes the program, the child calls nothing but
        // functions that are safe after a fork: all else was prepared above.
        let forked = unsafe { libc::fork() };
        if forked == 0 {
            // SAFETY: as above; the arrays end with null and are alive.
            unsafe {
                libc::setsid();
                for (number, fd) in fds.iter().enumerate() {
                    if libc::dup2(fd.as_raw_fd(), number as RawFd) < 0 {
                        libc::_exit(127);
                    }
                }
                execveat(
                    program.as_raw_fd(),
                    arguments.as_ptr(),
                    environment.as_ptr(),
                );
                libc::_exit(127);
            }
        }
        let pid = match Pid::from_raw(forked) {
            Some(pid) if forked > 0 => pid,
            _ => return Err(io::Error::last_os_error()),
        };
        // It was not waited for, so the number is its own.
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self { pid, pidfd })
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Readable when it has ended.
    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Ends it at once. It is no error if it has ended.
    pub(super) fn kill(&self) {
        kill(&self.pidfd);
    }

    /// How it ended, if it has; then it is waited for.
    pub(super) fn ended(&self) -> Option<WaitIdStatus> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        waitid(WaitId::PidFd(self.pidfd.as_fd()), options)
            .ok()
            .flatten()
    }
}

/// SIGKILL by a pidfd.
pub(super) fn kill(pidfd: &OwnedFd) {
    match pidfd_send_signal(pidfd, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(errno) => tracing::error!(%errno, "cannot kill a worker"),
    }
}

/// Runs `program` in place of this one. Returns only if that fails.
pub(super) fn exec(
    program: BorrowedFd<'_>,
    arguments: &[CString],
    environment: &[CString],
) -> io::Result<Infallible> {
    let arguments = pointers(arguments);
    let environment = pointers(environment);
    // SAFETY: the arrays end with null, and what they point to is alive.
    unsafe {
        execveat(
            program.as_raw_fd(),
            arguments.as_ptr(),
            environment.as_ptr(),
        );
    }
    Err(io::Error::last_os_error())
}

/// # Safety
/// Both arrays end with null and point to strings that end with NUL.
unsafe fn execveat(
    program: RawFd,
    arguments: *const *const c_char,
    environment: *const *const c_char,
) {
    const NOTHING: &CStr = c"";
    // SAFETY: as promised by the caller. The library's own `fexecve` would look
    // for /proc.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program,
            NOTHING.as_ptr(),
            arguments,
            environment,
            libc::AT_EMPTY_PATH,
        );
    }
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    let pointers = strings.iter().map(|string| string.as_ptr());
    pointers.chain([ptr::null()]).collect()
}

/// A descriptor that was inherited under a number that was agreed upon.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl only looks at it.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and whoever agreed upon its number owns it, once.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    Ok(fd)
}
