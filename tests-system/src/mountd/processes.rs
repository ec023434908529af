//! The processes behind a mount, and its connection as the kernel shows it.

use anyhow::{Context as _, Result, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What the command line of a worker says.
const WORKER: &str = "worker";

/// Sends a signal. That the process is gone already is an error.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(pid as i32), signal).with_context(|| format!("{signal} to {pid}"))
}

/// The state of a process as `ps` shows it, `T` when it was stopped; none if it is gone or dead.
pub fn state(pid: u32) -> Option<char> {
    let state = Stat::read(pid)?.state;
    (!matches!(state, 'Z' | 'X')).then_some(state)
}

/// Waits until it is so.
pub fn wait_until(
    what: &str,
    limit: Duration,
    mut is_so: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let end = Instant::now() + limit;
    while !is_so()? {
        ensure!(Instant::now() < end, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

struct Stat {
    state: char,
    parent: u32,
    started: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may have anything in it, but ends with the last parenthesis.
        let (_, fields) = text.rsplit_once(") ")?;
        let mut fields = fields.split(' ');
        Some(Self {
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            started: fields.nth(17)?.parse().ok()?,
        })
    }
}

/// The living workers of a supervisor, the oldest first.
pub fn workers(supervisor: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let Some(stat) = Stat::read(pid) else {
            continue;
        };
        if stat.parent != supervisor || matches!(stat.state, 'Z' | 'X') {
            continue;
        }
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut arguments = command.split(|byte| *byte == 0).skip(1);
        if arguments.any(|argument| argument == WORKER.as_bytes()) {
            found.push((stat.started, pid));
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, pid)| pid).collect())
}

/// The worker of a supervisor, once there is one.
pub fn worker(supervisor: u32) -> Result<u32> {
    let mut found = None;
    wait_until("a worker", Duration::from_secs(60), || {
        ensure!(state(supervisor).is_some(), "the supervisor is gone");
        found = workers(supervisor)?.first().copied();
        Ok(found.is_some())
    })?;
    found.context("no worker")
}

/// What a process takes of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Usage {
    /// Memory that is its own, in KiB: neither files nor the state.
    pub anonymous: u64,
    /// Memory that it shares with others, in KiB, as far as it has touched it.
    pub shared: u64,
    /// Open descriptors.
    pub descriptors: usize,
}

impl Usage {
    /// Asks for it.
    pub fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| -> Result<u64> {
            let line = status.lines().find(|line| line.starts_with(name));
            let number = line.and_then(|line| line.split_whitespace().nth(1));
            Ok(number.with_context(|| format!("no {name}"))?.parse()?)
        };
        Ok(Self {
            anonymous: field("RssAnon:")?,
            shared: field("RssShmem:")?,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        })
    }
}

/// How much memory the memfds of a process hold, in KiB, whoever has touched it.
pub fn memfds(pid: u32) -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut seen = std::collections::BTreeSet::new();
    let mut blocks = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let path = entry?.path();
        let target = fs::read_link(&path).unwrap_or_default();
        if target.to_string_lossy().starts_with("/memfd:")
            && let Ok(metadata) = fs::metadata(&path)
            && seen.insert(metadata.ino())
        {
            blocks += metadata.blocks();
        }
    }
    Ok(blocks / 2)
}

/// A mount's connection to whoever serves it.
#[derive(Debug)]
pub struct Connection {
    control: TempDir,
    number: u64,
}

impl Connection {
    /// That of a mount point, which is not asked: it might not answer.
    pub fn of(mountpoint: &Path) -> Result<Self> {
        let table = fs::read_to_string("/proc/thread-self/mountinfo")?;
        let path = mountpoint.to_string_lossy();
        let device = table.lines().rev().find_map(|line| {
            let mut fields = line.split(' ').skip(2);
            let device = fields.next()?;
            (fields.nth(1)? == path).then_some(device)
        });
        let device = device.with_context(|| format!("nothing is mounted on {path}"))?;
        let (_, minor) = device.split_once(':').context("no device number")?;
        let number = minor.parse()?;
        let control = tempfile::Builder::new().prefix("fusectl-").tempdir()?;
        let none = None::<&str>;
        let kind = Some("fusectl");
        mount(kind, control.path(), kind, MsFlags::empty(), none).context("mounting fusectl")?;
        Ok(Self { control, number })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.control.path().join(self.number.to_string()).join(name)
    }

    /// How many requests wait: those that were not taken yet, and those that were and are not
    /// answered.
    pub fn waiting(&self) -> Result<u64> {
        let text = fs::read_to_string(self.path("waiting"))?;
        Ok(text.trim().parse()?)
    }

    /// Ends the connection, so that whoever waits for it gets an error.
    pub fn abort(&self) -> Result<()> {
        // Gone if it has ended already.
        if self.path("abort").exists() {
            fs::write(self.path("abort"), "1")?;
        }
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = umount2(self.control.path(), MntFlags::MNT_DETACH);
    }
}

/// Kills a worker, and tells how many requests it leaves behind: it is stopped first, so that
/// they can be counted while nothing moves.
pub fn kill_in_flight(worker: u32, connection: &Connection) -> Result<u64> {
    signal(worker, Signal::SIGSTOP)?;
    wait_until(
        "the worker stops",
        Duration::from_secs(30),
        || match state(worker) {
            Some(state) => Ok(state == 'T'),
            None => bail!("the worker ended by itself"),
        },
    )?;
    let waiting = connection.waiting()?;
    signal(worker, Signal::SIGKILL)?;
    Ok(waiting)
}
