//! A mount that is served by a process of its own, which can be killed.

#![allow(unsafe_code)]

use std::{
    fs,
    io::{BufRead, BufReader, PipeReader, PipeWriter, Write},
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};
use rustix::process::set_parent_process_death_signal;
use store_fs::{
    Options, State,
    fuse::{DataPath, Fault, MountHandle, MountOptions, ServeOptions, mount, serve},
};
use tempfile::TempDir;

use super::{harness::eventually, tree::Store};

/// Runs something in a child process, which ends with the number it answers.
/// The child has the calling thread only.
pub(crate) fn in_child(run: impl FnOnce() -> i32) -> Pid {
    // SAFETY: what the child runs allocates and takes locks; the C library
    // keeps its allocator usable across fork, and other threads of a test hold
    // no lock of ours while a child is made.
    match unsafe { fork() }.expect("a process") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            // It is not to be left behind when the test is ended.
            let _ = set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
            // SAFETY: it ends the process, without what the parent registered.
            unsafe { libc::_exit(result.unwrap_or(101)) }
        }
    }
}

/// Waits for a child that is to end now.
pub(crate) fn reap(pid: Pid) -> WaitStatus {
    let mut status = WaitStatus::StillAlive;
    eventually("the process ends", || {
        status = waitpid(pid, Some(WaitPidFlag::WNOHANG)).expect("it is ours");
        status != WaitStatus::StillAlive
    });
    status
}

pub(crate) struct Served {
    pub(crate) state: Arc<State>,
    device: OwnedFd,
    store: Store,
    options: Options,
    data_path: DataPath,
    no_resend: bool,
    /// Made before any file of the mount was opened: a process that has one
    /// open would wait for itself to close it.
    ready: Vec<Ready>,
    server: Option<Pid>,
    handle: Option<MountHandle>,
    mountpoint: TempDir,
}

/// A process that serves once it is told to.
struct Ready {
    pid: Pid,
    /// Takes the fault, or nothing, and a newline.
    start: PipeWriter,
}

impl Served {
    /// Mounts; nobody serves yet, and so many processes can one after another.
    pub(crate) fn mount(
        store: Store,
        data_path: DataPath,
        no_resend: bool,
        processes: usize,
    ) -> Self {
        let mountpoint = tempfile::tempdir().expect("a directory");
        let mounted = mount(mountpoint.path(), &MountOptions::default()).expect("root may");
        let mut served = Self {
            state: Arc::new(State::new().expect("a state")),
            device: mounted.fd,
            store,
            options: Options {
                xattrs: true,
                ..Options::default()
            },
            data_path,
            no_resend,
            ready: Vec::new(),
            server: None,
            handle: Some(mounted.handle),
            mountpoint,
        };
        for _ in 0..processes {
            let (told, start) = std::io::pipe().expect("a pipe");
            let pid = in_child(|| served.serve(told, &start));
            served.ready.push(Ready { pid, start });
        }
        served
    }

    pub(crate) fn path(&self) -> &Path {
        self.mountpoint.path()
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.path().join(path)
    }

    /// Lets a process serve.
    pub(crate) fn start(&mut self, fault: Option<Fault>) {
        assert!(self.server.is_none(), "two would read the same requests");
        let mut ready = self.ready.pop().expect("a process that is ready");
        let fault = fault.map_or(String::new(), |fault| fault.to_string());
        writeln!(ready.start, "{fault}").expect("it is told");
        self.server = Some(ready.pid);
    }

    /// In a process of its own.
    fn serve(&self, told: PipeReader, start: &PipeWriter) -> i32 {
        // Without this end, whoever waits ends when the test does. Those of the
        // others, which came before, are not needed either.
        for fd in (self.ready.iter().map(|ready| &ready.start)).chain([start]) {
            // SAFETY: nothing in this process uses it, and it ends by `_exit`.
            unsafe { libc::close(fd.as_raw_fd()) };
        }
        let mut fault = String::new();
        if BufReader::new(told).read_line(&mut fault).is_err() || fault.is_empty() {
            return 0;
        }
        let fault = Some(fault.trim()).filter(|fault| !fault.is_empty());
        let state = self.state.fd().try_clone_to_owned().expect("a descriptor");
        let state = State::open(state).expect("a state");
        let filesystem = (self.store).filesystem_with(self.options.clone(), Arc::new(state));
        let options = ServeOptions {
            data_path: self.data_path,
            no_resend: self.no_resend,
            fault: fault.map(|fault| fault.parse().expect("a fault")),
            ..ServeOptions::default()
        };
        let device = self.device.try_clone().expect("a descriptor");
        let mut serving = serve(device, filesystem, &options).expect("threads");
        assert!(
            serving.is_ready_within(Duration::from_secs(10)),
            "the connection is not set up"
        );
        i32::from(serving.wait().is_err())
    }

    pub(crate) fn wait_until_set_up(&self) {
        eventually("the connection is set up", || self.state.is_initialised());
        // The answer is written after that.
        fs::symlink_metadata(self.path()).expect("it is served");
    }

    pub(crate) fn kill(&mut self) {
        let pid = self.server.expect("it runs");
        kill(pid, Signal::SIGKILL).expect("it is ours");
        self.wait_for_death();
    }

    pub(crate) fn wait_for_death(&mut self) {
        let pid = self.server.take().expect("it runs");
        let status = reap(pid);
        assert!(
            matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _)),
            "{status:?}"
        );
    }

    /// Whether it ended meanwhile.
    pub(crate) fn has_died(&self) -> bool {
        let pid = self.server.expect("it runs");
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| stat.contains(") Z "))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.handle.take());
        for ready in self.ready.drain(..) {
            drop(ready.start);
            let _ = waitpid(ready.pid, None);
        }
        if let Some(pid) = self.server {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
        }
    }
}
