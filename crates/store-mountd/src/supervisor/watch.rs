//! What happens as time passes: the mount is asked whether it answers, the
//! service manager is told how it is, workers are started and given up.

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use sd_notify::NotifyState;
use store_fs::InFlight;

use super::{
    Phase, Supervisor,
    patience::{Patience, Verdict},
    probe::Answer,
    process::{Process, START, Stage},
    stop::{ENDING, Stop},
};
use crate::link::Order;

/// How often the mount is asked that answers.
const ASKED_EVERY: Duration = Duration::from_secs(5);
/// How often a manager that waits is told that it does not wait in vain, and
/// for how long it then waits.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// How often the status is told anew, if it changed.
const STATUS: Duration = Duration::from_secs(10);
/// When to try again to tell a manager that does not read.
const BEHIND: Duration = Duration::from_millis(100);

/// What the service manager takes the service for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Starting,
    Ready,
    Stopping,
}

/// When the manager was told what.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) life: Life,
    watchdog: Instant,
    patience: Instant,
    status: Option<Instant>,
    text: String,
}

impl Told {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            life: Life::Starting,
            watchdog: now,
            patience: now,
            status: None,
            text: String::new(),
        }
    }

    /// Something happened that the status tells.
    pub(super) fn changed(&mut self) {
        self.status = None;
    }
}

impl Supervisor {
    /// How long until there is something to do.
    pub(super) fn timeout(&self) -> Option<Duration> {
        let now = Instant::now();
        let mut next = Vec::with_capacity(8);
        next.extend(self.start_worker);
        next.extend(self.watchdog().map(|every| self.told.watchdog + every));
        if self.notifier.is_behind() {
            next.push(now + BEHIND);
        }
        if self.notifier.is_managed() {
            next.push(self.told.status.map_or(now, |told| told + STATUS));
            if self.is_waited_for() {
                next.push(self.told.patience + PATIENCE.0);
            }
        }
        next.extend(self.upgrade.as_ref().map(|upgrade| upgrade.deadline()));
        if let Some(worker) = &self.worker {
            next.extend(worker.late());
            next.extend(worker.gone.map(|gone| gone + ENDING));
        }
        next.extend(self.next_of_end());
        next.extend(self.next_question(now));
        let at = next.into_iter().min()?;
        Some(at.saturating_duration_since(now))
    }

    pub(super) fn on_time(&mut self) {
        let now = Instant::now();
        if self.start_worker.is_some_and(|at| at <= now) && self.worker.is_none() {
            self.launch();
        }
        if (self.worker.as_ref().and_then(Process::late)).is_some_and(|late| late <= now) {
            self.look_at_late(now);
        }
        if let Some(worker) = &mut self.worker
            && worker.gone.is_some_and(|gone| gone + ENDING <= now)
        {
            worker.kill("it does not listen any more");
            worker.gone = Some(now);
        }
        self.end_in_time(now);
        self.upgrade_in_time(now);
        if self.next_question(now).is_some_and(|at| at <= now) {
            self.question(now);
        }
        self.tell_in_time(now);
    }

    /// The watchdog wants to hear of us twice as often as it says.
    fn watchdog(&self) -> Option<Duration> {
        self.notifier.watchdog().map(|within| within / 2)
    }

    /// Whether the manager may be waiting, for the start or the end, with a limit
    /// that the users of the mount know nothing of.
    fn is_waited_for(&self) -> bool {
        self.told.life == Life::Starting || self.stop != Stop::No
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        self.notifier.tell(states);
    }

    /// Tells the manager, once, that the mount is served.
    pub(super) fn tell_ready(&mut self) {
        if self.told.life == Life::Starting {
            self.told.life = Life::Ready;
            self.tell(&[NotifyState::Ready]);
            self.told.changed();
        }
    }

    /// Tells the manager, once, that the program is about to end.
    pub(super) fn tell_stopping(&mut self) {
        if self.told.life != Life::Stopping {
            self.told.life = Life::Stopping;
            self.tell(&[NotifyState::Stopping]);
            self.told.changed();
        }
    }

    /// Tells the manager that an upgrade begins, unless it would take that for
    /// the end of the start or of the stop.
    pub(super) fn tell_reloading(&self) {
        if self.told.life == Life::Ready {
            let now = NotifyState::monotonic_usec_now().unwrap_or(NotifyState::MonotonicUsec(0));
            self.tell(&[NotifyState::Reloading, now]);
        }
    }

    /// Tells the manager that an upgrade is over.
    pub(super) fn tell_reloaded(&self) {
        if self.told.life == Life::Ready {
            self.tell(&[NotifyState::Ready]);
        }
    }

    fn tell_in_time(&mut self, now: Instant) {
        // That this loop turns says that the worker answers or is being
        // replaced: the loop sees to it.
        if self
            .watchdog()
            .is_some_and(|every| self.told.watchdog + every <= now)
        {
            self.told.watchdog = now;
            self.tell(&[NotifyState::Watchdog]);
        }
        if self.is_waited_for() && self.told.patience + PATIENCE.0 <= now {
            self.told.patience = now;
            let usec = PATIENCE.1.as_micros() as u32;
            self.tell(&[NotifyState::ExtendTimeoutUsec(usec)]);
        }
        if self.notifier.is_managed() && self.told.status.is_none_or(|told| told + STATUS <= now) {
            self.told.status = Some(now);
            let text = self.status(now);
            if text != self.told.text {
                self.tell(&[NotifyState::Status(&text)]);
                self.told.text = text;
            }
        }
    }

    /// A line for people.
    fn status(&self, now: Instant) -> String {
        let mountpoint = self.mountpoint.display();
        if let Some(times) = self.restarts.crash_loop()
            && !self.is_serving()
        {
            let death = self.last_death.as_deref().unwrap_or_default();
            let wait = (self.start_worker).map(|at| at.saturating_duration_since(now));
            return format!(
                "{times} workers in a row were of no use: the last {death}; next in {} ms",
                wait.unwrap_or_default().as_millis()
            );
        }
        let counters = self.state.counters();
        let done = format!(
            "{} requests, {} bytes read, {} errors, {} restarts",
            counters.requests(),
            counters.bytes_read,
            counters.content_errors,
            self.restarts.total
        );
        match (self.phase, self.waits_for) {
            (Phase::Starting, _) => {
                let store = self.store.display();
                format!("Starting to serve {store} on {mountpoint}")
            }
            (Phase::Detached, _) => {
                format!("Unmounted {mountpoint}; waiting for its last user: {done}")
            }
            (_, Some(reason)) => {
                format!("The worker on {mountpoint} does not answer: {reason}: {done}")
            }
            _ if self.upgrade.is_some() => format!("Upgrading the worker on {mountpoint}"),
            _ if !self.is_serving() => format!("Replacing the worker on {mountpoint}: {done}"),
            _ => format!("Serving {} paths on {mountpoint}: {done}", self.paths),
        }
    }

    /// The mount is asked at the next opportunity.
    pub(super) fn ask_soon(&mut self) {
        self.asked = None;
    }

    /// Since when an answer is awaited, of the mount or the worker itself.
    fn silent_since(&self) -> Option<Instant> {
        let times = [self.probe.asked(), self.pinged];
        times.into_iter().flatten().min()
    }

    /// When to ask, or to look at a worker that does not answer.
    fn next_question(&self, now: Instant) -> Option<Instant> {
        self.worker.as_ref()?.serving?;
        if self.silent_since().is_some() {
            let patience = self.patience.as_ref()?;
            return Some(self.looked + patience.interval());
        }
        match self.asked {
            None => Some(now),
            Some(asked) => {
                let at_most = self.hang_after?;
                Some(asked + ASKED_EVERY.min(at_most))
            }
        }
    }

    fn question(&mut self, now: Instant) {
        self.looked = now;
        if self.silent_since().is_some() {
            return self.look();
        }
        self.asked = Some(now);
        // A mount that was taken out of the tree cannot be asked.
        if matches!(self.phase, Phase::Starting | Phase::Up)
            && let Err(error) = self.probe.ask(&self.binary, self.null.as_fd())
        {
            tracing::warn!(%error, "cannot ask the mount whether it answers");
        }
        if let Some(worker) = &mut self.worker {
            self.pings += 1;
            self.pinged = Some(now);
            worker.tell(&Order::Ping(self.pings), &[]);
        }
    }

    pub(super) fn on_pong(&mut self, number: u64) {
        if number == self.pings {
            self.pinged = None;
        }
    }

    /// Looks at a worker that does not answer.
    fn look(&mut self) {
        let (Some(patience), Some(worker)) = (&mut self.patience, &mut self.worker) else {
            return;
        };
        let waits_for = match patience.look(worker.pid(), self.probe.pid()) {
            Verdict::Wait => None,
            Verdict::WaitFor(reason) => Some(reason),
            Verdict::Hangs => {
                tracing::error!(
                    worker = worker.number,
                    pid = worker.pid().as_raw_nonzero(),
                    "the worker hangs: the mount does not answer, and nothing explains it"
                );
                for request in self.state.in_flight() {
                    tracing::warn!("in flight: {}", line(&request));
                }
                worker.kill("it hung");
                patience.reset();
                None
            }
        };
        self.now_waits_for(waits_for);
    }

    /// If the connection has ended, that is for the worker to say; but not every
    /// one can.
    fn see_if_gone(&mut self) {
        if !self.handed.is_connected() {
            self.unmounted.get_or_insert_with(Instant::now);
        }
    }

    /// Looks at a worker that does not get to serve. It may have a reason, a
    /// disk that is slow, as one that serves may.
    fn look_at_late(&mut self, now: Instant) {
        let Some(worker) = &mut self.worker else {
            return;
        };
        let (verdict, again) = match &mut self.patience {
            Some(patience) => (patience.look(worker.pid(), None), patience.interval()),
            None => (Verdict::Hangs, START),
        };
        worker.due = now + again;
        let waits_for = match verdict {
            Verdict::Wait => None,
            Verdict::WaitFor(reason) => Some(reason),
            Verdict::Hangs => {
                let doing = match worker.stage {
                    Stage::Opening => "it does not open the store",
                    Stage::Taking => "the kernel does not set the connection up",
                    _ => "it does not start",
                };
                worker.kill(&format!("{doing}, for {} s now", START.as_secs()));
                None
            }
        };
        self.now_waits_for(waits_for);
    }

    fn now_waits_for(&mut self, waits_for: Option<&'static str>) {
        if self.waits_for != waits_for {
            self.waits_for = waits_for;
            self.told.changed();
        }
    }

    pub(super) fn on_probe(&mut self) {
        let Some(answer) = self.probe.answer() else {
            return;
        };
        if let Some(patience) = &mut self.patience {
            patience.reset();
        }
        if self.waits_for.take().is_some() {
            self.told.changed();
        }
        match answer {
            Answer::Alive => {}
            Answer::NotThere => {
                self.see_if_gone();
                tracing::debug!("the mount cannot be asked: it is covered, or gone");
            }
            Answer::Failed(errno) => {
                let error = std::io::Error::from_raw_os_error(errno);
                tracing::warn!(%error, "the mount answers with an error");
                self.see_if_gone();
                if self.phase == Phase::Starting && !self.resumed {
                    let at = self.mountpoint.display();
                    return self.give_up(anyhow!("the mount on {at} does not work: {error}"));
                }
            }
        }
        if let Some(worker) = &mut self.worker
            && worker.stage == Stage::Serving
        {
            worker.stage = Stage::Up;
            let program = worker.program.clone();
            self.on_first_answer();
            self.upgrade_is_done(&program);
        }
    }
}

impl Supervisor {
    /// For how long silence is borne.
    pub(super) fn new_patience(hang_after: Option<Duration>) -> Option<Patience> {
        let hang_after = hang_after?;
        Patience::new(hang_after)
            .inspect_err(|error| {
                tracing::warn!(%error, "no /proc: a worker that hangs is not replaced");
            })
            .ok()
    }
}

/// A request that is being handled, as a line.
pub(super) fn line(request: &InFlight) -> String {
    let waits = match &request.waits_on {
        Some(digest) => format!(", waits for {digest}"),
        None => String::new(),
    };
    format!(
        "{} of node {} for process {}, since {} ms{waits}",
        request.operation,
        request.node,
        request.pid,
        request.age.as_millis()
    )
}
