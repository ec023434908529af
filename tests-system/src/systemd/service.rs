//! A service and its manager.

use super::fd_store::FdStore;
use super::launch::launch;
use super::notify::{Received, Record, Socket};
use super::unit::Unit;
use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

use crate::mountd::processes;

/// How long a test waits for what has to happen.
const PATIENCE: Duration = Duration::from_secs(90);
/// `TimeoutAbortSec=`: what the watchdog found dead, and does not end by the signal, is killed.
const ABORT: Duration = Duration::from_secs(1);

/// How a service's main process ended.
#[derive(Debug, Clone, Copy)]
pub struct Exit {
    /// Which it was.
    pub pid: u32,
    /// How.
    pub status: ExitStatus,
    /// Whether the watchdog did it.
    pub by_watchdog: bool,
}

#[derive(Debug)]
struct Inner {
    main: Option<u32>,
    records: Vec<Record>,
    exits: Vec<Exit>,
    store: FdStore,
    barriers: usize,
    /// Whether a dead service is started again.
    restarts: bool,
    ends: bool,
    watchdog_due: Option<Instant>,
    start_due: Option<Instant>,
    /// When a stop is signalled again: `TimeoutStopSec=`, with `SendSIGKILL=no`.
    stop_due: Option<Instant>,
    error: Option<String>,
}

struct Shared {
    unit: Unit,
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs one service. Dropping it kills the main process.
pub struct Manager {
    shared: Arc<Shared>,
    dir: TempDir,
    begin: Instant,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Manager")
            .field(&*self.shared.lock())
            .finish()
    }
}

impl Manager {
    /// Starts a service.
    pub fn begin(unit: Unit, command: impl Fn() -> Command + Send + 'static) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("systemd-").tempdir()?;
        let socket = Socket::bind(&dir.path().join("notify"))?;
        let bin = dir.path().join("bin");
        fs::create_dir(&bin)?;
        let systemctl = bin.join("systemctl");
        let jobs = dir.path().join("jobs");
        fs::write(&jobs, "")?;
        fs::write(&systemctl, format!("#!/bin/sh\ncat {}\n", jobs.display()))?;
        fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755))?;
        let shared = Arc::new(Shared {
            unit,
            inner: Mutex::new(Inner {
                main: None,
                records: Vec::new(),
                exits: Vec::new(),
                store: FdStore::new(unit.fd_store_max),
                barriers: 0,
                restarts: true,
                ends: false,
                watchdog_due: None,
                start_due: None,
                stop_due: None,
                error: None,
            }),
            changed: Condvar::new(),
        });
        let environment = environment(unit, dir.path());
        let command = move || {
            let mut command = command();
            command.envs(environment.iter().map(|(name, value)| (name, value)));
            command
        };
        let threads_shared = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            if let Err(error) = run(&threads_shared, &socket, &command) {
                threads_shared.lock().error = Some(format!("{error:#}"));
            }
            threads_shared.changed.notify_all();
        });
        Ok(Self {
            shared,
            dir,
            begin: Instant::now(),
            thread: Some(thread),
        })
    }

    /// Waits until it has said that it is ready.
    pub fn wait_until_ready(&self) -> Result<Record> {
        self.wait_for("READY=1", self.begin)
    }

    /// The main process.
    pub fn main_pid(&self) -> Result<u32> {
        self.wait("a main process", |inner| inner.main)
    }

    /// The main process, if there is one.
    pub fn main_pid_now(&self) -> Option<u32> {
        self.shared.lock().main
    }

    /// Kills the main process, and starts none again.
    pub fn end(&mut self) {
        let mut inner = self.shared.lock();
        inner.ends = true;
        inner.restarts = false;
        drop(inner);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.shared.lock().store.clear();
    }

    /// Everything that was said so far.
    pub fn records(&self) -> Vec<Record> {
        self.shared.lock().records.clone()
    }

    /// How main processes ended.
    pub fn exits(&self) -> Vec<Exit> {
        self.shared.lock().exits.clone()
    }

    /// The names of the descriptors that are kept.
    pub fn stored(&self) -> Vec<String> {
        self.shared.lock().store.names()
    }

    /// What was given to keep, and refused or dropped.
    pub fn lost(&self) -> Vec<String> {
        self.shared.lock().store.lost.clone()
    }

    /// How many barriers were answered.
    pub fn barriers(&self) -> usize {
        self.shared.lock().barriers
    }

    /// Waits for a message with this line, sent after `after`.
    pub fn wait_for(&self, line: &str, after: Instant) -> Result<Record> {
        self.wait(line, |inner| {
            let mut records = inner.records.iter();
            records
                .find(|record| {
                    record.is_accepted && record.at >= after && record.message.says(line)
                })
                .cloned()
        })
    }

    fn wait<T>(&self, what: &str, found: impl Fn(&Inner) -> Option<T>) -> Result<T> {
        let end = Instant::now() + PATIENCE;
        let mut inner = self.shared.lock();
        loop {
            if let Some(found) = found(&inner) {
                return Ok(found);
            }
            if let Some(error) = &inner.error {
                bail!("waiting for {what}: {error}");
            }
            let now = Instant::now();
            ensure!(
                now < end,
                "no {what} in time; the service is: {:#?}",
                &*inner
            );
            let waited = self.shared.changed.wait_timeout(inner, end - now);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// kill -9 of the main process, which is started again. Waits until it is ready.
    pub fn kill_main(&self) -> Result<()> {
        let before = Instant::now();
        processes::signal(self.main_pid()?, Signal::SIGKILL)?;
        self.wait_for("READY=1", before)?;
        Ok(())
    }

    /// `systemctl reload` of a service of Type=notify-reload.
    pub fn reload(&self) -> Result<()> {
        let before = Instant::now();
        processes::signal(self.main_pid()?, self.shared.unit.reload_signal)?;
        let reloading = self.wait_for("RELOADING=1", before)?;
        let clock = reloading.message.get("MONOTONIC_USEC");
        ensure!(
            clock.is_some_and(|value| value.parse::<u64>().is_ok()),
            "RELOADING=1 without the time: {reloading:?}"
        );
        self.wait_for("READY=1", reloading.at)?;
        Ok(())
    }

    /// `systemctl restart`: the service can see that a start is queued.
    pub fn restart(&self) -> Result<()> {
        fs::write(
            self.dir.path().join("jobs"),
            "1 tvix-store-mount.service restart running\n",
        )?;
        let before = Instant::now();
        processes::signal(self.main_pid()?, self.shared.unit.restart_signal)?;
        self.wait_for("READY=1", before)?;
        fs::write(self.dir.path().join("jobs"), "")?;
        Ok(())
    }

    /// `systemctl stop`; tells how it ended.
    pub fn stop(&self) -> Result<ExitStatus> {
        let pid = self.main_pid()?;
        let mut inner = self.shared.lock();
        inner.restarts = false;
        inner.stop_due = Some(Instant::now() + self.shared.unit.stop_limit);
        drop(inner);
        processes::signal(pid, Signal::SIGTERM)?;
        let ended = |inner: &Inner| {
            let exits = inner.exits.iter();
            exits
                .rev()
                .find(|exit| exit.pid == pid)
                .map(|exit| exit.status)
        };
        let end = Instant::now() + PATIENCE;
        loop {
            let inner = self.shared.lock();
            if let Some(status) = ended(&inner) {
                return Ok(status);
            }
            let waited = (self.shared.changed).wait_timeout(inner, Duration::from_millis(100));
            drop(waited);
            ensure!(
                Instant::now() < end,
                "not stopped within {PATIENCE:?}: {self:#?}"
            );
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.end();
    }
}

fn environment(unit: Unit, dir: &Path) -> Vec<(&'static str, String)> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut environment = vec![
        ("NOTIFY_SOCKET", dir.join("notify").display().to_string()),
        ("FDSTORE", unit.fd_store_max.to_string()),
        ("PATH", format!("{}:{path}", dir.join("bin").display())),
        ("INVOCATION_ID", "0".repeat(32)),
    ];
    if let Some(watchdog) = unit.watchdog {
        environment.push(("WATCHDOG_USEC", watchdog.as_micros().to_string()));
    }
    environment
}

/// The manager's loop.
fn run(shared: &Shared, socket: &Socket, command: &dyn Fn() -> Command) -> Result<()> {
    loop {
        let fds = shared.lock().store.duplicates()?;
        let mut child = launch(&command(), fds).context("starting the service")?;
        let now = Instant::now();
        let mut inner = shared.lock();
        inner.main = Some(child.id());
        inner.watchdog_due = None;
        inner.start_due = Some(now + shared.unit.start_limit);
        inner.stop_due = None;
        drop(inner);
        let watched = watch(shared, socket, &mut child);
        if watched.is_err() || shared.lock().ends {
            // Nothing is left behind: that it has ended already is fine.
            let _ = child.kill();
        }
        let status = child.wait()?;
        let by_watchdog = watched?;
        // What it said at its end.
        while let Some(received) = socket.receive() {
            take(shared, received);
        }
        let mut inner = shared.lock();
        let pid = child.id();
        inner.main = None;
        inner.exits.push(Exit {
            pid,
            status,
            by_watchdog,
        });
        let prevents = status.code().is_some() && status.code() == shared.unit.restart_prevent;
        let goes_on = inner.restarts && !prevents;
        if !goes_on && !shared.unit.preserve {
            inner.store.clear();
        }
        drop(inner);
        shared.changed.notify_all();
        if !goes_on {
            return Ok(());
        }
        std::thread::sleep(shared.unit.restart);
    }
}

/// Until the main process ends; tells whether the watchdog killed it.
fn watch(shared: &Shared, socket: &Socket, child: &mut Child) -> Result<bool> {
    let mut aborted: Option<Instant> = None;
    loop {
        if let Some(received) = socket.receive() {
            take(shared, received);
            shared.changed.notify_all();
        }
        if child.try_wait()?.is_some() {
            return Ok(aborted.is_some());
        }
        let mut inner = shared.lock();
        inner.store.poll();
        if inner.ends {
            return Ok(false);
        }
        let now = Instant::now();
        if inner.start_due.is_some_and(|due| due < now) {
            bail!("the service did not start in time");
        }
        if inner.stop_due.is_some_and(|due| due < now) {
            inner.stop_due = None;
            processes::signal(child.id(), Signal::SIGTERM)?;
        }
        if inner.watchdog_due.is_some_and(|due| due < now) {
            inner.watchdog_due = None;
            aborted = Some(now);
            processes::signal(child.id(), shared.unit.watchdog_signal)?;
        }
        if aborted.is_some_and(|aborted| aborted + ABORT < now) {
            processes::signal(child.id(), Signal::SIGKILL)?;
        }
    }
}

/// Does what a message says.
fn take(shared: &Shared, received: Received) {
    let Received {
        sender,
        message,
        mut fds,
    } = received;
    let now = Instant::now();
    let mut inner = shared.lock();
    // As soon as it is closed, whoever waits at the barrier goes on.
    if message.says("BARRIER=1") {
        fds.clear();
        inner.barriers += 1;
    }
    let is_accepted = shared.unit.access_for_all || inner.main == Some(sender);
    inner.records.push(Record {
        at: now,
        sender,
        is_accepted,
        message: message.clone(),
    });
    if !is_accepted {
        return;
    }
    // The watchdog waits for the end of the start.
    if message.says("READY=1") {
        inner.start_due = None;
    }
    if message.says("WATCHDOG=1") || message.says("READY=1") {
        inner.watchdog_due = shared.unit.watchdog.map(|within| now + within);
    }
    if let Some(usec) = message.get("EXTEND_TIMEOUT_USEC") {
        let extended = Duration::from_micros(usec.parse().unwrap_or_default());
        let inner = &mut *inner;
        for due in [&mut inner.start_due, &mut inner.stop_due] {
            *due = due.map(|due| due.max(now + extended));
        }
    }
    let name = message.get("FDNAME").unwrap_or("stored");
    if message.says("FDSTOREREMOVE=1") {
        inner.store.remove(name);
    }
    if message.says("FDSTORE=1") {
        for fd in fds {
            inner.store.keep(name, fd, !message.says("FDPOLL=0"));
        }
    }
}

impl Exit {
    /// The signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }
}
