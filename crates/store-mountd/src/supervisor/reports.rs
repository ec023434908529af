//! What workers say, and their ends.

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use rustix::io::Errno;
use store_fs::Backing as _;
use tracing::Level;

use super::{
    Binary, Phase, Supervisor,
    handed::is_connected,
    mounting::Act,
    process::{Process, START, Stage},
    watch::Life,
};
use crate::{
    link::{Order, Report},
    logging,
};

/// How long to wait for the end of a worker that was killed.
const DYING: Duration = Duration::from_millis(10);
/// More than the kernel wants a reader of the device to have room for.
const ROOM: usize = (1 << 20) + (64 << 10);

impl Supervisor {
    /// Starts the next worker.
    pub(super) fn launch(&mut self) {
        self.start_worker = None;
        match self.handed.turn.kill_holder() {
            Ok(false) => {}
            // The worker of the supervisor before. It may wait for a disk, and
            // end later.
            Ok(true) => {
                self.died_at.get_or_insert_with(Instant::now);
                self.start_worker = Some(Instant::now() + DYING);
                return;
            }
            Err(error) => tracing::warn!("{error:#}"),
        }
        match self.new_process() {
            Ok(mut process) => {
                // It is of the program that served before: all is said at once,
                // which is quicker.
                self.prepare(&mut process);
                self.give_turn(&mut process);
                process.stage = Stage::Opening;
                self.worker = Some(process);
            }
            Err(error) => {
                let served = Duration::ZERO;
                let delay = self.restarts.died(served, 0).max(Duration::from_millis(50));
                tracing::error!(%error, "cannot start a worker");
                self.last_death = Some(format!("cannot be started: {error}"));
                self.start_worker = Some(Instant::now() + delay);
            }
        }
    }

    fn new_process(&mut self) -> std::io::Result<Process> {
        self.workers += 1;
        self.process_of(&self.binary)
    }

    /// The next worker, to be run from `binary`.
    pub(super) fn process_of(&self, binary: &Binary) -> std::io::Result<Process> {
        let level = self.log_level.as_str();
        Process::start(binary, self.workers, level, self.null.as_fd())
    }

    /// Has the worker open what it is to serve.
    pub(super) fn prepare(&self, process: &mut Process) {
        let mut service = self.service.clone();
        let index = process.number.saturating_sub(1) as usize;
        service.fault = self.faults.faults.get(index).cloned();
        service.no_resend = self.faults.no_resend;
        process.stage = Stage::Opening;
        let fds = [
            self.handed.device.as_fd(),
            self.handed.state.as_fd(),
            self.handed.store.as_fd(),
            self.handed.turn.as_fd(),
        ];
        process.tell(&Order::Prepare(Box::new(service)), &fds);
    }

    /// Whatever the worker said, and whether it lives.
    pub(super) fn on_worker(&mut self) {
        // Seen before what it said is read, which so is all it ever said.
        let Some(ended) = self.worker.as_ref().map(Process::ended) else {
            return;
        };
        while let Some(mut worker) = self.worker.take() {
            let received = worker.receive();
            let more = received.is_some();
            if let Some((report, fds)) = received {
                self.on_report(&mut worker, report, fds);
            }
            self.worker = Some(worker);
            if !more {
                break;
            }
        }
        if let Some(how) = ended
            && let Some(worker) = self.worker.take()
        {
            self.on_death(worker, how);
        }
    }

    fn on_report(&mut self, worker: &mut Process, report: Report, fds: Vec<OwnedFd>) {
        match report {
            Report::Hello { program, .. } => worker.program = program,
            Report::Prepared { paths } => {
                worker.stage = Stage::Taking;
                self.paths = paths;
            }
            Report::Serving { data_path } => self.on_serving(worker, data_path),
            Report::Pong(number) => self.on_pong(number),
            Report::Register { question } => {
                let result = self.register(fds);
                worker.tell(&Order::Registered { question, result }, &[]);
            }
            Report::Unregister(id) => {
                if let Err(error) = self.backing.unregister(id) {
                    tracing::warn!(id, %error, "a backing file stays open");
                }
            }
            Report::Removed(number) => self.on_forgotten(number),
            Report::Ended { aborted } => worker.ended = Some(aborted),
            Report::Failed(message) => worker.failure = Some(message),
        }
    }

    pub(super) fn give_turn(&self, worker: &mut Process) {
        worker.stage = Stage::Taking;
        worker.due = Instant::now() + START;
        worker.requests_before = self.state.counters().requests();
        worker.tell(&Order::Serve, &[]);
    }

    fn register(&self, mut fds: Vec<OwnedFd>) -> Result<u32, i32> {
        let file = File::from(fds.pop().ok_or(libc::EBADF)?);
        (self.backing.register(&file)).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
    }

    fn on_serving(&mut self, worker: &mut Process, data_path: String) {
        worker.data_path = data_path;
        worker.stage = Stage::Serving;
        worker.serving = Some(Instant::now());
        if let Some(patience) = &mut self.patience {
            patience.reset();
        }
        self.pinged = None;
        self.waits_for = None;
        if worker.number == 1 && !self.resumed {
            self.mounting.act(Act::ReadAhead);
        }
        if let Some(died) = self.died_at.take() {
            tracing::info!(
                worker = worker.number,
                pid = worker.pid().as_raw_nonzero(),
                milliseconds = died.elapsed().as_millis() as u64,
                "another worker serves"
            );
        }
        self.tell_removed(worker);
        if self.phase == Phase::Detached {
            worker.stage = Stage::Up;
            self.on_detached_served();
            self.upgrade_is_done(&worker.program);
        }
        self.ask_soon();
    }

    fn on_death(&mut self, worker: Process, how: String) {
        if self.swap(&how) {
            return;
        }
        if let Some(aborted) = worker.ended.or_else(|| self.connection_end()) {
            return self.on_connection_end(aborted);
        }
        let pid = worker.pid().as_raw_nonzero();
        let message = format!("worker {} (pid {pid}) {how}", worker.number);
        let served = worker.serving.map(|since| since.elapsed());
        let requests = self.state.counters().requests();
        let requests = requests.saturating_sub(worker.requests_before);
        let delay = self.restarts.died(served.unwrap_or_default(), requests);
        let is_useless = worker.failure.is_some() || self.restarts.crash_loop().is_some();
        if self.phase == Phase::Starting && !self.resumed && is_useless {
            // Nobody uses the mount yet. Without a reason of its own, a worker may have been
            // killed, which is no reason to have no mount.
            self.give_up(anyhow!("{}", worker.failure.unwrap_or(message)));
            return;
        }
        self.died_at.get_or_insert_with(Instant::now);
        // What is known is of this worker.
        if let Some(patience) = &mut self.patience {
            patience.reset();
        }
        match self.restarts.crash_loop() {
            None => tracing::warn!("{message}; another takes over"),
            Some(times) => tracing::error!(
                "{message}; {times} in a row were of no use, so the next waits for {} ms",
                delay.as_millis()
            ),
        }
        self.last_death = Some(how);
        self.start_worker = Some(Instant::now() + delay);
        self.told.changed();
    }

    /// Whether the connection is gone, and then if it was aborted.
    pub(super) fn connection_end(&self) -> Option<bool> {
        if is_connected(self.handed.device.as_fd()) {
            return None;
        }
        let mut room = vec![0_u8; ROOM];
        match rustix::io::read(&self.handed.device, &mut room) {
            Err(Errno::CONNABORTED) => Some(true),
            _ => Some(false),
        }
    }

    pub(super) fn on_connection_end(&mut self, aborted: bool) {
        let mountpoint = self.mountpoint.display();
        self.end = Some(if aborted {
            Err(anyhow!(
                "the mount on {mountpoint} was aborted; its users get errors from now on"
            ))
        } else {
            tracing::info!("unmounted {mountpoint}");
            Ok(ExitCode::SUCCESS)
        });
    }

    /// The mount is ready: the first answer.
    pub(super) fn on_first_answer(&mut self) {
        if self.phase != Phase::Starting {
            return;
        }
        self.phase = Phase::Up;
        let count = self.paths;
        let text = format!(
            "{} {} on {} ({count} {})",
            if self.resumed { "resumed" } else { "mounted" },
            self.store.display(),
            self.mountpoint.display(),
            if count == 1 { "path" } else { "paths" },
        );
        logging::say(Level::INFO, &text);
        self.tell_ready();
    }

    /// What was taken over is out of the directory tree, where it cannot be
    /// asked whether it answers.
    fn on_detached_served(&mut self) {
        if self.told.life == Life::Starting {
            let text = format!(
                "resumed {} for those who use it: it was unmounted from {}",
                self.store.display(),
                self.mountpoint.display(),
            );
            logging::say(Level::INFO, &text);
            self.tell_ready();
        }
    }
}
