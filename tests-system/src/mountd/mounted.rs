//! A mounted store.

use super::processes::workers;
use super::{Finished, Store};
use anyhow::{Context as _, Result, bail, ensure};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, chown};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a mount or an unmount may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// Options of `store-mountd mount`.
#[derive(Debug, Clone, Copy, Default)]
pub struct MountOptions {
    /// `--list-root`.
    pub list_root: bool,
    /// `--integrity`, when given.
    pub integrity: Option<&'static str>,
    /// `--data-path`, when given.
    pub data_path: Option<&'static str>,
    /// Whatever else.
    pub more: &'static [&'static str],
}

impl MountOptions {
    /// The options as arguments.
    pub fn arguments(&self) -> Vec<&'static str> {
        let mut arguments = Vec::new();
        arguments.extend(self.list_root.then_some("--list-root"));
        for (name, value) in [
            ("--integrity", self.integrity),
            ("--data-path", self.data_path),
        ] {
            arguments.extend(value.into_iter().flat_map(|value| [name, value]));
        }
        arguments.extend(self.more);
        arguments
    }
}

/// A running `store-mountd mount`. Dropping it unmounts.
#[derive(Debug)]
pub struct Mounted {
    child: Child,
    mountpoint: TempDir,
    messages: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Mounted {
    pub(super) fn start(store: &Store, options: MountOptions, more: &[&str]) -> Result<Self> {
        match Self::try_start_with(store, options, more)? {
            Ok(mounted) => Ok(mounted),
            Err(finished) => bail!("the mount was refused: {finished:?}"),
        }
    }

    /// Mounts, or returns how the program ended instead.
    pub fn try_start(store: &Store, options: MountOptions) -> Result<Result<Self, Finished>> {
        Self::try_start_with(store, options, &[])
    }

    fn try_start_with(
        store: &Store,
        options: MountOptions,
        more: &[&str],
    ) -> Result<Result<Self, Finished>> {
        let mountpoint = tempfile::Builder::new().prefix("mounted-").tempdir()?;
        if let Some((uid, _)) = store.user {
            chown(mountpoint.path(), Some(Uid::from_raw(uid)), None)?;
        }
        let mut command = store.command();
        command.arg("mount").arg(mountpoint.path());
        command.args(options.arguments()).args(more);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting store-mountd")?;
        let stderr = child.stderr.take().context("no standard error")?;
        let messages = Arc::new(Mutex::new(String::new()));
        let (sender, ready) = channel();
        let sink = Arc::clone(&messages);
        let reader = std::thread::spawn(move || collect(BufReader::new(stderr), &sink, sender));
        let mut this = Self {
            child,
            mountpoint,
            messages,
            reader: Some(reader),
        };
        match ready.recv_timeout(PATIENCE) {
            Ok(()) => Ok(Ok(this)),
            Err(RecvTimeoutError::Timeout) => bail!("not mounted in time: {}", this.messages()),
            Err(RecvTimeoutError::Disconnected) => {
                let status = this.child.wait()?;
                Ok(Err(this.finished(status)))
            }
        }
    }

    /// The mount point.
    pub fn path(&self) -> &Path {
        self.mountpoint.path()
    }

    /// What it has written to standard error so far.
    pub fn messages(&self) -> String {
        let messages = self.messages.lock();
        messages.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The process that was started: what owns the mount.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// True while the process runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it by a signal and returns how it ended. It must be gone then, and so the mount.
    pub fn stop(mut self) -> Result<Finished> {
        let status = self.terminate()?;
        ensure!(
            !is_mounted(self.mountpoint.path())?,
            "it ended ({status}) but is still mounted: {}",
            self.messages()
        );
        Ok(self.finished(status))
    }

    fn finished(&mut self, status: ExitStatus) -> Finished {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        Finished {
            code: status.code(),
            stdout: String::new(),
            stderr: self.messages(),
        }
    }

    fn terminate(&mut self) -> Result<ExitStatus> {
        let end = Instant::now() + PATIENCE;
        let mut is_told = false;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if !is_told {
                // Not waited for yet, so the pid is still this child's.
                kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM)?;
                is_told = true;
            }
            if Instant::now() > end {
                // The worker would serve on.
                let workers = workers(self.child.id())?;
                self.child.kill()?;
                self.child.wait()?;
                for worker in workers {
                    let _ = kill(Pid::from_raw(worker as i32), Signal::SIGKILL);
                }
                bail!("it did not end when told to: {}", self.messages());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = self.terminate();
        if !matches!(is_mounted(self.mountpoint.path()), Ok(false)) {
            let _ = umount2(self.mountpoint.path(), MntFlags::MNT_DETACH);
        }
    }
}

fn collect(stderr: impl BufRead, sink: &Mutex<String>, ready: Sender<()>) {
    let mut ready = Some(ready);
    for line in stderr.lines().map_while(Result::ok) {
        let mut text = sink.lock().unwrap_or_else(PoisonError::into_inner);
        text.push_str(&line);
        text.push('\n');
        drop(text);
        if line.starts_with("mounted ")
            && let Some(ready) = ready.take()
        {
            let _ = ready.send(());
        }
    }
}

/// Looks into the mount table, which unlike the filesystem always answers.
fn is_mounted(path: &Path) -> Result<bool> {
    // This thread's: a test may have a mount namespace of its own.
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo")?;
    let path = path.to_string_lossy();
    Ok(table
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(&*path)))
}
