//! Replacing the worker by that of another program, while it serves.
//!
//! The new worker is started beside the old one, says what it knows, and opens
//! the store. Only when it has done so does the old one end, and its requests
//! are asked again. If the new one is then of no use, the old program comes
//! back.

use std::{
    fs::File,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

use super::{
    Binary, Phase, Replies, Reply, Supervisor,
    process::{Process, Stage},
};
use crate::{failure, link::Report};

/// How long the new worker may take to open the store, and again to serve.
const DEADLINE: Duration = Duration::from_secs(30);

/// An upgrade under way.
#[derive(Debug)]
pub(super) struct Upgrade {
    step: Step,
    /// The new program; when it serves, the old one, until it answered.
    binary: Binary,
    deadline: Instant,
    replies: Option<Replies>,
}

#[derive(Debug)]
enum Step {
    /// The new worker gets ready.
    Preparing(Process),
    /// The old worker ends, the new one waits.
    Ending(Process),
    /// The new worker serves, but the mount did not answer yet.
    Proving,
}

impl Upgrade {
    pub(super) fn process(&self) -> Option<&Process> {
        match &self.step {
            Step::Preparing(process) | Step::Ending(process) => Some(process),
            Step::Proving => None,
        }
    }

    pub(super) fn process_mut(&mut self) -> Option<&mut Process> {
        match &mut self.step {
            Step::Preparing(process) | Step::Ending(process) => Some(process),
            Step::Proving => None,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Supervisor {
    /// Upgrades to the program in a file, or to what is now where this program
    /// came from.
    pub(super) fn upgrade_in_place(
        &mut self,
        file: Option<(File, PathBuf)>,
        replies: Option<Replies>,
    ) {
        self.tell_reloading();
        if let Err(error) = self.begin_upgrade(file, &replies) {
            self.refuse(error, replies);
        }
    }

    fn begin_upgrade(
        &mut self,
        file: Option<(File, PathBuf)>,
        replies: &Option<Replies>,
    ) -> Result<()> {
        if self.upgrade.is_some() {
            return Err(anyhow!("an upgrade is under way"));
        }
        if self.phase != Phase::Up {
            return Err(anyhow!("the mount is not being served"));
        }
        let binary = match file {
            Some((file, path)) => Binary::copy(file, path)?,
            None => Binary::copy_of(self.binary.origin())?,
        };
        self.workers += 1;
        let process = self.process_of(&binary)?;
        tracing::info!(binary = %binary.origin().display(), "upgrades the worker");
        self.upgrade = Some(Upgrade {
            step: Step::Preparing(process),
            binary,
            deadline: Instant::now() + DEADLINE,
            replies: replies.clone(),
        });
        self.told.changed();
        Ok(())
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
        let Step::Preparing(process) = &mut upgrade.step else {
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

    fn end_old(&mut self, upgrade: Upgrade) -> Upgrade {
        let Upgrade {
            step,
            binary,
            replies,
            ..
        } = upgrade;
        let step = match step {
            Step::Preparing(process) => Step::Ending(process),
            step => step,
        };
        if let Some(worker) = &mut self.worker {
            worker.kill("another program takes over");
        }
        Upgrade {
            step,
            binary,
            deadline: Instant::now() + DEADLINE,
            replies,
        }
    }

    /// Whether a worker died for the new one, which now gets its turn.
    pub(super) fn swap(&mut self) -> bool {
        let Some(upgrade) = &mut self.upgrade else {
            return false;
        };
        match std::mem::replace(&mut upgrade.step, Step::Proving) {
            Step::Ending(mut process) => {
                std::mem::swap(&mut self.binary, &mut upgrade.binary);
                upgrade.deadline = Instant::now() + DEADLINE;
                self.died_at = Some(Instant::now());
                self.start_worker = None;
                self.give_turn(&mut process);
                self.worker = Some(process);
                true
            }
            step @ Step::Preparing(_) => {
                upgrade.step = step;
                false
            }
            // The new one is of no use.
            Step::Proving => {
                self.roll_back("it ended");
                false
            }
        }
    }

    fn drop_candidate(&mut self, how: &str) {
        let Some(upgrade) = self.upgrade.take() else {
            return;
        };
        let failure = upgrade
            .process()
            .and_then(|process| process.failure.clone());
        let origin = upgrade.binary.origin().display();
        let error = match failure {
            Some(failure) => anyhow!("{origin} is refused: {failure}"),
            None => anyhow!("{origin} is refused: it {how}"),
        };
        self.refuse(error, upgrade.replies);
    }

    /// The old program comes back.
    fn roll_back(&mut self, why: &str) {
        let Some(mut upgrade) = self.upgrade.take() else {
            return;
        };
        std::mem::swap(&mut self.binary, &mut upgrade.binary);
        let failure = self.worker.as_mut().and_then(|worker| {
            worker.kill("the old program comes back");
            worker.failure.clone()
        });
        let why = failure.as_deref().unwrap_or(why);
        let origin = upgrade.binary.origin().display();
        self.refuse(
            anyhow!("{origin} took over but did not serve: {why}; the old program is back"),
            upgrade.replies,
        );
    }

    /// The mount answers again.
    pub(super) fn upgrade_is_done(&mut self) {
        let is_proving = |upgrade: &mut Upgrade| matches!(upgrade.step, Step::Proving);
        let Some(upgrade) = self.upgrade.take_if(is_proving) else {
            return;
        };
        self.upgrades += 1;
        let program = self.worker.as_ref().map(|worker| worker.program.as_str());
        let message = format!(
            "upgraded to {} {}",
            self.binary.origin().display(),
            program.unwrap_or_default()
        );
        tracing::info!("{message}");
        self.tell_reloaded();
        self.told.changed();
        if let Some(replies) = upgrade.replies {
            let _ = replies.try_send(Ok(Reply::Done(message)));
        }
    }

    pub(super) fn upgrade_in_time(&mut self, now: Instant) {
        let Some(upgrade) = self
            .upgrade
            .as_mut()
            .filter(|upgrade| upgrade.deadline <= now)
        else {
            return;
        };
        match &mut upgrade.step {
            // Its end is noticed, and so is the reason.
            Step::Preparing(process) => {
                process.kill("it does not get ready");
                upgrade.deadline = now + DEADLINE;
            }
            // The old worker was killed and waits for a disk: so do all.
            Step::Ending(_) => upgrade.deadline = now + DEADLINE,
            Step::Proving => self.roll_back("the mount does not answer"),
        }
    }
}
