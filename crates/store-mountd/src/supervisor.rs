//! The process that owns a mount.
//!
//! It mounts, holds `/dev/fuse` and the state that the kernel knows, and has a
//! worker serve them, a process that may die or be replaced at any moment. It
//! does little, so that there is little that can go wrong: no code of the
//! store's runs here, its memory is locked, and it needs no file once it runs.
//!
//! One loop waits for all that can happen. Nothing in it may wait for the
//! mount: what has to is done elsewhere, by [`mounting`], [`probe`] and
//! [`copier`].

mod binary;
mod child;
pub(crate) mod copier;
mod handed;
mod mounting;
mod patience;
pub(crate) mod probe;
mod process;
mod removals;
mod reports;
mod requests;
mod restarts;
mod start;
mod stop;
mod upgrade;
mod watch;

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::sys::{signal::Signal, signalfd::SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use store_fs::{State, core::Op, fuse::BackingFiles};
use tracing::Level;

pub(crate) use self::{binary::Binary, child::inherited, handed::Turn, start::run};
use self::{
    handed::Handed,
    mounting::{Act, Mounting, Outcome},
    patience::Patience,
    probe::Probe,
    process::{Process, Stage},
    removals::Removals,
    requests::{Event, Mailbox, Post, Replies, Reply, Request},
    restarts::Restarts,
    upgrade::Upgrade,
};
use crate::{
    config::LogLevel,
    control::{
        self, Status,
        protocol::{self, Cache},
    },
    link::Service,
    logging,
    notify::Notifier,
};

/// What goes wrong, for tests.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// What happens in the first worker, in the second, and so on.
    pub(crate) faults: Vec<String>,
    /// The kernel cannot ask again.
    pub(crate) no_resend: bool,
}

/// How far the mount is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nobody was told yet that it can be used.
    Starting,
    /// It is served.
    Up,
    /// It is being unmounted, because a signal asked for the end or the start
    /// failed.
    Unmounting,
    /// It was taken out of the tree, and is served until its last user is gone.
    Detached,
}

/// How long an answer may take to get to who asked.
const ANSWERING: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Supervisor {
    /// Where the store was, for messages.
    store: PathBuf,
    service: Service,
    log_level: LogLevel,
    faults: Faults,
    hang_after: Option<Duration>,
    binary: Binary,
    /// `/dev/null`.
    null: OwnedFd,
    handed: Handed,
    state: Arc<State>,
    /// Where it is mounted, as the mount table has it.
    mountpoint: PathBuf,
    /// Whether the mount was here before this supervisor.
    resumed: bool,
    notifier: Notifier,
    signals: SignalFd,
    mailbox: Mailbox,
    /// Its socket goes with it.
    control: Option<control::Serving>,
    mounting: Mounting,
    probe: Probe,
    patience: Option<Patience>,
    /// When the mount was last asked.
    asked: Option<Instant>,
    /// When a worker that does not answer was last looked at.
    looked: Instant,
    /// How often workers were asked themselves, and since when there is no
    /// answer.
    pings: u64,
    pinged: Option<Instant>,
    backing: BackingFiles,
    waits_for: Option<&'static str>,
    restarts: Restarts,
    upgrades: u64,
    worker: Option<Process>,
    /// When to start a worker, if there is none.
    start_worker: Option<Instant>,
    workers: u64,
    phase: Phase,
    stop: stop::Stop,
    started: Instant,
    upgrade: Option<Upgrade>,
    removals: Removals,
    paths: u64,
    last_death: Option<String>,
    died_at: Option<Instant>,
    told: watch::Told,
    /// When the mount was unmounted, or found to be gone. The worker tells of
    /// the connection's end, unless it hangs.
    unmounted: Option<Instant>,
    /// How many acts of unmounting are under way.
    unmounting: usize,
    /// Whether somebody asked for the unmounting who is not a signal.
    answered: bool,
    /// Why there will be no mount.
    failed: Option<anyhow::Error>,
    /// Whether the mount is left to the next supervisor.
    kept: bool,
    /// How the program ends, once that is known.
    end: Option<Result<ExitCode>>,
}

impl Supervisor {
    /// Until there is nothing left to supervise.
    fn supervise(mut self) -> Result<ExitCode> {
        self.start_worker = Some(Instant::now());
        loop {
            self.on_time();
            if let Some(end) = self.end.take() {
                return self.finish(end);
            }
            self.wait()?;
            self.on_signals()?;
            for event in self.mailbox.take() {
                self.on_event(event);
            }
            self.on_worker();
            self.on_copier();
            self.on_candidate();
            self.on_probe();
            self.notifier.flush();
        }
    }

    /// Waits until something happens, or it is time for something.
    fn wait(&self) -> Result<()> {
        let timeout = self.timeout();
        let mut fds = vec![
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.mailbox, PollFlags::IN),
        ];
        let workers = self.worker.iter();
        let workers = workers.chain(self.upgrade.iter().filter_map(Upgrade::process));
        for fd in workers.flat_map(Process::fds) {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        if let Some(pidfd) = self.upgrade.as_ref().and_then(Upgrade::copier) {
            fds.push(PollFd::from_borrowed_fd(pidfd, PollFlags::IN));
        }
        if let Some(link) = self.probe.link() {
            fds.push(PollFd::new(link, PollFlags::IN));
        }
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(errno).context("cannot wait"),
        }
    }

    fn on_signals(&mut self) -> Result<()> {
        // What comes after the end was decided does not change it.
        while self.end.is_none()
            && let Some(signal) = self.signals.read_signal().context("cannot read a signal")?
        {
            let signal = Signal::try_from(signal.ssi_signo as i32)?;
            tracing::debug!(%signal, "signalled");
            match signal {
                Signal::SIGUSR1 => self.dump(),
                Signal::SIGUSR2 => self.leave(),
                Signal::SIGHUP => self.upgrade_in_place(None, None),
                _ => self.terminate(),
            }
        }
        Ok(())
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Asked(request, replies) => self.on_request(request, replies),
            Event::Unmount(outcome, replies) => self.on_unmount(outcome, replies),
        }
    }

    fn on_request(&mut self, request: Request, replies: Replies) {
        let reply = match request {
            Request::Status => Reply::Status(Box::new(self.status_now())),
            Request::InFlight => Reply::InFlight(self.in_flight()),
            Request::Upgrade(file) => return self.upgrade_in_place(file, Some(replies)),
            Request::Unmount { detach: false } => {
                return self.unmount(Act::Unmount(Some(replies)));
            }
            Request::Unmount { detach: true } => {
                return self.unmount(Act::Detach(Some(replies)));
            }
            Request::Removed(names) => return self.on_removed(names, replies),
        };
        // Whoever asked may have gone.
        let _ = replies.try_send(Ok(reply));
    }

    /// What SIGUSR1 asks for.
    fn dump(&self) {
        let counters = self.state.counters();
        let mut text = format!(
            "statistics: requests {} nodes {} bytes-read {} errors {}",
            counters.requests(),
            counters.nodes,
            counters.bytes_read,
            counters.content_errors,
        );
        for request in self.state.in_flight() {
            text.push_str("\nin flight: ");
            text.push_str(&watch::line(&request));
        }
        logging::say(Level::INFO, &text);
    }

    fn status_now(&self) -> Status {
        let phase = match self.phase {
            Phase::Starting => "starting",
            Phase::Detached => "detached",
            Phase::Unmounting => "unmounting",
            Phase::Up if self.upgrade.is_some() => "upgrading",
            Phase::Up if self.is_serving() => "serving",
            Phase::Up => "replacing",
        };
        let retry = self
            .start_worker
            .map(|at| at.saturating_duration_since(Instant::now()));
        let counters = self.state.counters();
        let cache = |hits, misses| Cache { hits, misses };
        Status {
            mountpoint: self.mountpoint.clone(),
            store: self.store.clone(),
            store_identity: rustix::fs::fstat(&self.handed.store)
                .ok()
                .map(|stat| (stat.st_dev, stat.st_ino)),
            phase: phase.to_owned(),
            waits_for: self.waits_for.map(str::to_owned),
            paths: self.paths,
            supervisor: protocol::Process {
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                uptime_seconds: self.started.elapsed().as_secs_f64(),
            },
            worker: self.worker.as_ref().map(Process::status),
            restarts: self.restarts.total,
            last_death: self.last_death.clone(),
            retry_in_seconds: retry.map(|retry| retry.as_secs_f64()),
            upgrades: self.upgrades,
            inodes: counters.nodes as u64,
            bytes_served: counters.bytes_read,
            errors: counters.content_errors,
            requests: Op::ALL
                .into_iter()
                .map(|op| (op.name().to_owned(), counters.of(op)))
                .collect(),
            caches: BTreeMap::from([
                (
                    "directories".to_owned(),
                    cache(counters.directory_hits, counters.directory_misses),
                ),
                (
                    "blobs".to_owned(),
                    cache(counters.blob_hits, counters.blob_misses),
                ),
            ]),
            in_flight: self.in_flight(),
        }
    }

    fn in_flight(&self) -> Vec<protocol::InFlight> {
        let requests = self.state.in_flight().into_iter();
        requests
            .map(|request| protocol::InFlight {
                unique: request.unique,
                operation: request.operation.to_owned(),
                node: request.node,
                pid: request.pid,
                seconds: request.age.as_secs_f64(),
                waits_on: request.waits_on.map(|digest| digest.to_string()),
            })
            .collect()
    }

    fn is_serving(&self) -> bool {
        let stage = self.worker.as_ref().map(|worker| worker.stage);
        matches!(stage, Some(Stage::Serving | Stage::Up))
    }

    /// Leaves nothing behind: the worker ends, and unless the mount is kept for
    /// the next supervisor, nothing is kept for it.
    fn finish(mut self, end: Result<ExitCode>) -> Result<ExitCode> {
        if self.kept {
            self.notifier.flush();
            return end;
        }
        Handed::forget(&self.notifier);
        self.tell_stopping();
        for process in [
            self.worker.as_mut(),
            self.upgrade.as_mut().and_then(Upgrade::process_mut),
        ]
        .into_iter()
        .flatten()
        {
            process.kill("the mount ends");
        }
        // The end may be known before what led to it is.
        let patience = Instant::now() + ANSWERING;
        while self.unmounting > 0 && Instant::now() < patience {
            for event in self.mailbox.take() {
                self.on_event(event);
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.notifier.flush();
        if let Some(control) = &self.control
            && self.answered
        {
            control.wait_for_clients(ANSWERING);
        }
        end
    }
}
