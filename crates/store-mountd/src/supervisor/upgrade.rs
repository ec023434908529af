//! Replacing the worker by that of another program, while it serves.
//!
//! The new worker is started beside the old one, says what it knows, and opens
//! the store. Only when it has done so does the old one end, and its requests
//! are asked again. If the new one is then of no use, the old program comes
//! back.

use std::{
    fs::File,
    mem,
    os::fd::{AsFd as _, BorrowedFd},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};

use super::{
    Binary, Phase, Replies, Reply, Supervisor,
    copier::Copier,
    process::{Process, Stage},
};
use crate::{failure, link::Report};

/// How long it may take to copy the program, then to open the store, and again
/// to serve.
const DEADLINE: Duration = Duration::from_secs(30);

/// An upgrade under way.
#[derive(Debug)]
pub(super) struct Upgrade {
    step: Step,
    deadline: Instant,
    replies: Option<Replies>,
}

#[derive(Debug)]
enum Step {
    /// The new program is copied to memory.
    Copying(Copier),
    /// The new worker gets ready.
    Preparing(Process, Binary),
    /// The old worker ends, the new one waits.
    Ending(Process, Binary),
    /// The new worker serves, but the mount did not answer yet. The binary is
    /// the old one.
    Proving(Binary),
}

impl Upgrade {
    /// The next step, which may take as long as each.
    fn at(step: Step, replies: Option<Replies>) -> Self {
        Self {
            step,
            deadline: Instant::now() + DEADLINE,
            replies,
        }
    }

    pub(super) fn process(&self) -> Option<&Process> {
        match &self.step {
            Step::Preparing(process, _) | Step::Ending(process, _) => Some(process),
            Step::Copying(_) | Step::Proving(_) => None,
        }
    }

    pub(super) fn process_mut(&mut self) -> Option<&mut Process> {
        match &mut self.step {
            Step::Preparing(process, _) | Step::Ending(process, _) => Some(process),
            Step::Copying(_) | Step::Proving(_) => None,
        }
    }

    /// Readable when the program was copied.
    pub(super) fn copier(&self) -> Option<BorrowedFd<'_>> {
        match &self.step {
            Step::Copying(copier) => Some(copier.pidfd()),
            Step::Preparing(..) | Step::Ending(..) | Step::Proving(_) => None,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Supervisor {
    /// Upgrades to the program in a sealed file, or to what is now where this
    /// program came from.
    pub(super) fn upgrade_in_place(
        &mut self,
        file: Option<(File, PathBuf)>,
        replies: Option<Replies>,
    ) {
        self.tell_reloading();
        match self.begin_upgrade(file) {
            Ok(step) => {
                self.upgrade = Some(Upgrade::at(step, replies));
                self.told.changed();
            }
            Err(error) => self.refuse(error, replies),
        }
    }

    fn begin_upgrade(&mut self, file: Option<(File, PathBuf)>) -> Result<Step> {
        if self.upgrade.is_some() {
            return Err(anyhow!("an upgrade is under way"));
        }
        if self.phase != Phase::Up {
            return Err(anyhow!("the mount is not being served"));
        }
        if let Some((file, path)) = file {
            return self.start_candidate(Binary::sealed(file, path)?);
        }
        let copier = Copier::start(&self.binary, self.binary.origin(), self.null.as_fd());
        Ok(Step::Copying(copier.context("cannot start a process")?))
    }

    /// Whether a program was copied, or could not be.
    pub(super) fn on_copier(&mut self) {
        let copied = match self.upgrade.as_ref().map(|upgrade| &upgrade.step) {
            Some(Step::Copying(copier)) => copier.copied(),
            _ => None,
        };
        let Some(copied) = copied else {
            return;
        };
        let replies = self.upgrade.take().and_then(|upgrade| upgrade.replies);
        match copied.and_then(|binary| self.start_candidate(binary)) {
            Ok(step) => self.upgrade = Some(Upgrade::at(step, replies)),
            Err(error) => self.refuse(error, replies),
        }
    }

    fn start_candidate(&mut self, binary: Binary) -> Result<Step> {
        self.workers += 1;
        let process = self.process_of(&binary)?;
        tracing::info!(binary = %binary.origin().display(), "upgrades the worker");
        Ok(Step::Preparing(process, binary))
    }

    fn refuse(&mut self, error: anyhow::Error, replies: Option<Replies>) {
        let message = failure::message(&error);
        tracing::error!("no upgrade: {message}");
        self.tell_reloaded();
        self.told.changed();
        if let Some(replies) = replies {
            let _ = replies.try_send(Err(error));
        }
    }

    /// Whatever the new worker said, and whether it lives.
    pub(super) fn on_candidate(&mut self) {
        let ended = self.upgrade.as_ref().and_then(Upgrade::process);
        let Some(ended) = ended.map(Process::ended) else {
            return;
        };
        while let Some(mut upgrade) = self.upgrade.take() {
            let Some((report, _)) = upgrade.process_mut().and_then(Process::receive) else {
                self.upgrade = Some(upgrade);
                break;
            };
            self.upgrade = self.on_candidate_report(upgrade, report);
        }
        if let Some(how) = ended {
            self.drop_candidate(&how);
        }
    }

    fn on_candidate_report(&mut self, mut upgrade: Upgrade, report: Report) -> Option<Upgrade> {
        let Step::Preparing(process, _) = &mut upgrade.step else {
            return Some(upgrade);
        };
        match report {
            Report::Hello {
                link,
                state,
                program,
            } => {
                process.program = program;
                match Process::objection(link, state, store_fs::STATE_VERSION) {
                    None => self.prepare(process),
                    Some(objection) => {
                        process.failure = Some(objection.clone());
                        process.kill(&objection);
                    }
                }
            }
            Report::Prepared { paths } => {
                self.paths = paths;
                process.stage = Stage::Prepared;
                return Some(self.end_old(upgrade));
            }
            Report::Failed(message) => process.failure = Some(message),
            _ => process.kill("it does what it was not told to"),
        }
        Some(upgrade)
    }

    /// The new worker is ready: it gets its turn when the old one has ended,
    /// which it may have.
    fn end_old(&mut self, upgrade: Upgrade) -> Upgrade {
        let step = match (upgrade.step, &mut self.worker) {
            (Step::Preparing(process, binary), Some(worker)) => {
                worker.kill("another program takes over");
                Step::Ending(process, binary)
            }
            (Step::Preparing(process, binary), None) => self.take_turns(process, binary),
            (step, _) => step,
        };
        Upgrade::at(step, upgrade.replies)
    }

    fn take_turns(&mut self, mut process: Process, binary: Binary) -> Step {
        let old = mem::replace(&mut self.binary, binary);
        self.died_at.get_or_insert_with(Instant::now);
        self.start_worker = None;
        self.give_turn(&mut process);
        self.worker = Some(process);
        Step::Proving(old)
    }

    /// A worker died, in this way. Answers whether it did so for the new one,
    /// which now has its turn.
    pub(super) fn swap(&mut self, how: &str) -> bool {
        let Some(upgrade) = self.upgrade.take() else {
            return false;
        };
        match upgrade.step {
            Step::Ending(process, binary) => {
                let step = self.take_turns(process, binary);
                self.upgrade = Some(Upgrade::at(step, upgrade.replies));
                true
            }
            Step::Copying(_) | Step::Preparing(..) => {
                self.upgrade = Some(upgrade);
                false
            }
            // The new one is of no use.
            Step::Proving(old) => {
                self.roll_back(old, how, upgrade.replies);
                false
            }
        }
    }

    fn drop_candidate(&mut self, how: &str) {
        let Some(upgrade) = self.upgrade.take() else {
            return;
        };
        match upgrade.step {
            Step::Preparing(process, binary) | Step::Ending(process, binary) => {
                let why = match &process.failure {
                    Some(failure) => failure.clone(),
                    None => format!("it {how}"),
                };
                let origin = binary.origin().display();
                self.refuse(anyhow!("{origin} is refused: {why}"), upgrade.replies);
            }
            step @ (Step::Copying(_) | Step::Proving(_)) => {
                self.upgrade = Some(Upgrade { step, ..upgrade });
            }
        }
    }

    /// The old program comes back.
    fn roll_back(&mut self, old: Binary, why: &str, replies: Option<Replies>) {
        let new = mem::replace(&mut self.binary, old);
        if let Some(worker) = &mut self.worker {
            worker.kill("the old program comes back");
        }
        let origin = new.origin().display();
        self.refuse(
            anyhow!("{origin} took over but did not serve: {why}; the old program is back"),
            replies,
        );
    }

    /// The mount answers again, by a worker of this version.
    pub(super) fn upgrade_is_done(&mut self, program: &str) {
        let is_proving = |upgrade: &mut Upgrade| matches!(upgrade.step, Step::Proving(_));
        let Some(upgrade) = self.upgrade.take_if(is_proving) else {
            return;
        };
        self.upgrades += 1;
        let message = format!("upgraded to {} {program}", self.binary.origin().display());
        tracing::info!("{message}");
        self.tell_reloaded();
        self.told.changed();
        if let Some(replies) = upgrade.replies {
            let _ = replies.try_send(Ok(Reply::Done(message)));
        }
    }

    pub(super) fn upgrade_in_time(&mut self, now: Instant) {
        let is_late = |upgrade: &mut Upgrade| upgrade.deadline <= now;
        let Some(mut upgrade) = self.upgrade.take_if(is_late) else {
            return;
        };
        upgrade.deadline = now + DEADLINE;
        match upgrade.step {
            Step::Proving(old) => {
                return self.roll_back(old, "the mount does not answer", upgrade.replies);
            }
            // Its end is noticed, and so is the reason.
            Step::Copying(ref mut copier) => copier.give_up(),
            Step::Preparing(ref mut process, _) => process.kill("it does not get ready"),
            // The old worker was killed and waits for a disk: so do all.
            Step::Ending(..) => {}
        }
        self.upgrade = Some(upgrade);
    }
}
