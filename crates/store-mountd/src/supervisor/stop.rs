//! How the program is asked to end, and what it does then.

use std::{process::ExitCode, time::Instant};

use anyhow::{Error, anyhow};
use sd_notify::NotifyState;
use tracing::Level;

use super::{Outcome, Phase, Replies, Reply, Supervisor, mounting::Act};
use crate::logging;

impl Supervisor {
    /// SIGTERM or SIGINT.
    pub(super) fn terminate(&mut self) {
        match self.phase {
            Phase::Detached => self.end_in_use(),
            Phase::Unmounting { .. } => self.phase = Phase::Unmounting { again: true },
            Phase::Starting | Phase::Up => {
                self.phase = Phase::Unmounting { again: false };
                self.tell(&[NotifyState::Stopping]);
                self.told.changed();
                self.unmount(Act::Detach(None));
            }
        }
    }

    /// SIGUSR2: ends, and leaves the mount to the next supervisor. The worker
    /// serves on.
    pub(super) fn leave(&mut self) {
        if !self.notifier.is_managed() {
            tracing::warn!("nobody keeps the mount for the next supervisor: goes on");
            return;
        }
        tracing::info!("leaves the mount to the next supervisor");
        self.tell(&[NotifyState::Stopping]);
        self.kept = true;
        self.end = Some(Ok(ExitCode::SUCCESS));
    }

    pub(super) fn unmount(&mut self, act: Act) {
        self.unmounting += 1;
        self.mounting.act(act);
    }

    pub(super) fn on_unmount(&mut self, outcome: Outcome, replies: Option<Replies>) {
        self.unmounting = self.unmounting.saturating_sub(1);
        let asked_by_signal = replies.is_none();
        let again = matches!(self.phase, Phase::Unmounting { again: true });
        let reply = match outcome {
            // The worker says when the connection ends.
            Outcome::Unmounted => {
                self.unmounted = Some(Instant::now());
                if let Some(error) = self.failed.take() {
                    self.end = Some(Err(error));
                }
                Ok(Reply::Done("unmounted".to_owned()))
            }
            _ if self.failed.is_some() => {
                self.end = self.failed.take().map(Err);
                return;
            }
            Outcome::Detached(busy) => {
                let message = format!(
                    "{busy}\nTaken out of the directory tree, and served until the last user is \
                     done."
                );
                match asked_by_signal {
                    true => say(&format!("{message} Signal again to end at once.")),
                    false => tracing::warn!("{message}"),
                }
                self.phase = Phase::Detached;
                self.note_detached();
                Ok(Reply::Done(message))
            }
            Outcome::Stays(why) => {
                say(&why);
                if asked_by_signal {
                    self.phase = Phase::Up;
                }
                Err(anyhow!("{why}"))
            }
        };
        self.told.changed();
        if let Some(replies) = replies {
            let _ = replies.try_send(reply);
            self.answered = true;
        }
        if again && self.phase == Phase::Detached {
            self.end_in_use();
        }
    }

    fn note_detached(&mut self) {
        if let Ok(mut record) = self.handed.turn.read() {
            record.detached = true;
            if let Err(error) = self.handed.turn.write(&record) {
                tracing::warn!(%error, "the next supervisor will not know of the unmounting");
            }
        }
    }

    fn end_in_use(&mut self) {
        self.end = Some(Err(anyhow!(
            "ended while the mount was in use; its users get errors from now on"
        )));
    }

    /// There will be no mount: the start failed.
    pub(super) fn give_up(&mut self, error: Error) {
        self.unmount(Act::Detach(None));
        self.phase = Phase::Unmounting { again: false };
        self.failed = Some(error);
    }
}

fn say(text: &str) {
    logging::say(Level::WARN, &format!("store-mountd: {text}"));
}
