//! A store-mountd that serves in the foreground.

use crate::sys;
use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long the program may take to mount or unmount.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// The running program; dropping it unmounts too.
#[derive(Debug)]
pub(crate) struct Mount {
    child: Child,
    mountpoint: PathBuf,
    /// Answers to SIGUSR1.
    statistics: Receiver<Statistics>,
}

/// What the program tells of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Statistics {
    /// Requests served up to now.
    pub(crate) requests: u64,
    /// Nodes that the kernel refers to.
    pub(crate) nodes: u64,
}

/// Creates the mount point, and frees it of a mount that an earlier run had to leave behind.
pub(crate) fn prepare_mountpoint(path: &Path) -> Result<()> {
    if is_mounted(path) {
        println!("unmounting what an earlier run left on {}", path.display());
        crate::process::run(Command::new("umount").arg("--lazy").arg(path))?;
    }
    fs::create_dir_all(path).with_context(|| format!("creating {}", path.display()))
}

impl Mount {
    /// Starts the program and returns once the filesystem answers.
    pub(crate) fn start(
        program: &Path,
        store: &Path,
        mountpoint: &Path,
        options: &[String],
    ) -> Result<Self> {
        let mut child = Command::new(program)
            .arg("--store")
            .arg(store)
            .arg("mount")
            .arg(mountpoint)
            .args(options)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let stderr = child.stderr.take().context("no standard error")?;
        let (ready, statistics) = forward_messages(stderr);
        let mut this = Self {
            child,
            mountpoint: mountpoint.to_owned(),
            statistics,
        };
        match ready.recv_timeout(PATIENCE) {
            Ok(()) => Ok(this),
            Err(RecvTimeoutError::Timeout) => bail!("not mounted after {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => {
                bail!(
                    "store-mountd ended before it had mounted: {}",
                    this.child.wait()?
                )
            }
        }
    }

    /// The program's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the program did up to now.
    pub(crate) fn statistics(&self) -> Result<Statistics> {
        sys::signal(&self.child, libc::SIGUSR1);
        let statistics = self.statistics.recv_timeout(PATIENCE);
        statistics.context("store-mountd does not answer to SIGUSR1")
    }

    /// Returns when a signal asks for the end; fails if the program ends by itself before.
    pub(crate) fn wait_for_signal(&mut self) -> Result<()> {
        while !sys::interrupted() {
            std::thread::sleep(POLL);
            if let Some(status) = self.child.try_wait()? {
                // A Ctrl-C reaches both of us, and it may be done before we look.
                ensure!(
                    sys::interrupted() || status.success(),
                    "store-mountd ended: {status}"
                );
                break;
            }
        }
        println!();
        Ok(())
    }

    /// Unmounts in an orderly way and checks that it worked.
    pub(crate) fn stop(mut self) -> Result<()> {
        let status = self.terminate()?;
        ensure!(status.success(), "store-mountd ended with {status}");
        ensure!(
            !is_mounted(&self.mountpoint),
            "{} is still mounted: leave it with every shell and program, then run \
             `umount {0}`",
            self.mountpoint.display()
        );
        Ok(())
    }

    fn terminate(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        sys::signal(&self.child, libc::SIGTERM);
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > end {
                self.child.kill()?;
                self.child.wait()?;
                bail!("store-mountd did not end within {PATIENCE:?} and was killed");
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Copies the program's messages to standard error. Tells when it says that it serves, and passes
/// on what it says of requests.
fn forward_messages(stderr: ChildStderr) -> (Receiver<()>, Receiver<Statistics>) {
    let (sender, ready) = channel();
    let (counts, statistics) = channel();
    std::thread::spawn(move || {
        let mut sender = Some(sender);
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Some(statistics) = statistics_in(&line) {
                let _ = counts.send(statistics);
                continue;
            }
            eprintln!("{line}");
            if line.starts_with("mounted ")
                && let Some(sender) = sender.take()
            {
                // Nobody listens after a time-out.
                let _ = sender.send(());
            }
        }
    });
    (ready, statistics)
}

fn statistics_in(line: &str) -> Option<Statistics> {
    let mut words = line.strip_prefix("statistics: ")?.split(' ');
    let mut after = |name| {
        words.find(|word| *word == name)?;
        words.next()?.parse().ok()
    };
    Some(Statistics {
        requests: after("requests")?,
        nodes: after("nodes")?,
    })
}

impl Drop for Mount {
    fn drop(&mut self) {
        // After `stop` the child has been waited for and this does nothing.
        if self.terminate().is_err() && is_mounted(&self.mountpoint) {
            let _ = Command::new("umount")
                .arg("--lazy")
                .arg(&self.mountpoint)
                .status();
        }
    }
}

/// Looks it up in the mount table: a dead FUSE mount fails every other question.
pub(crate) fn is_mounted(path: &Path) -> bool {
    let Ok(table) = fs::read_to_string("/proc/self/mountinfo") else {
        return false;
    };
    // Space, tab, newline and backslash are octal there.
    let wanted = path
        .to_string_lossy()
        .replace('\\', "\\134")
        .replace(' ', "\\040");
    table
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(wanted.as_str()))
}
