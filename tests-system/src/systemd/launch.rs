//! Starting a service with descriptors.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

/// Where the first descriptor is that a service is handed.
const FIRST: RawFd = 3;
/// Above all that are handed over.
const OUT_OF_THE_WAY: RawFd = 200;

/// Starts `command` as the service's main process, with these descriptors from 3 on.
///
/// `LISTEN_PID` has to be the number of the process that is not there yet, so a shell sets it and
/// becomes the program.
pub(super) fn launch(command: &Command, fds: Vec<(String, OwnedFd)>) -> io::Result<Child> {
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        r#"export LISTEN_PID=$$ WATCHDOG_PID=$$; exec "$0" "$@""#,
    ]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let names: Vec<_> = fds.iter().map(|(name, _)| name.as_str()).collect();
    if !fds.is_empty() {
        shell.env("LISTEN_FDS", fds.len().to_string());
        shell.env("LISTEN_FDNAMES", names.join(":"));
    }
    let numbers: Vec<RawFd> = fds.iter().map(|(_, fd)| fd.as_raw_fd()).collect();
    let mut moved = vec![-1; numbers.len()];
    let place = move || {
        for (number, moved) in numbers.iter().zip(&mut moved) {
            // SAFETY: a system call on numbers; no memory is touched.
            *moved = unsafe { libc::fcntl(*number, libc::F_DUPFD_CLOEXEC, OUT_OF_THE_WAY) };
            if *moved < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        for (target, moved) in (FIRST..).zip(&moved) {
            // SAFETY: as above. What was at `target` is this child's copy, closed by exec anyway.
            if unsafe { libc::dup2(*moved, target) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec `place` makes system calls only, and allocates nothing.
    unsafe { shell.pre_exec(place) };
    shell.stdin(std::process::Stdio::null());
    shell.spawn()
}
