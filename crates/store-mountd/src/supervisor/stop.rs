//! How the program is asked to end, and what it does then.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Error, anyhow};
use tracing::Level;

use super::{
    Outcome, Phase, Replies, Reply, Supervisor, handed::Handed, mounting::Act, watch::Life,
};
use crate::logging;

/// How long what unmounts, or a worker that has nothing left to do, may take to
/// end.
pub(super) const ENDING: Duration = Duration::from_secs(2);
/// The status of a program that left the mount to the next one, which the unit
/// knows to be no failure. Status 0 says that there is no mount any more.
const LEFT: u8 = 75;

/// How often a signal asked for the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Never, or the mount could not be unmounted.
    No,
    Once,
    /// More often, and when it did for the second time.
    Again(Instant),
}

impl Supervisor {
    /// SIGTERM or SIGINT.
    pub(super) fn terminate(&mut self) {
        self.stop = match self.stop {
            Stop::No => Stop::Once,
            Stop::Once => Stop::Again(Instant::now()),
            again @ Stop::Again(_) => again,
        };
        match self.phase {
            Phase::Starting | Phase::Up => {
                self.phase = Phase::Unmounting;
                self.told.changed();
                self.unmount(Act::Detach(None));
            }
            Phase::Detached if self.stop == Stop::Once => {
                self.tell_stopping();
                say("serves until the last user is done. Signal again to end at once.");
            }
            Phase::Detached => self.end_in_use(),
            // It may be over in a moment.
            Phase::Unmounting => {}
        }
    }

    /// When there is something to do that has to do with the end.
    pub(super) fn next_of_end(&self) -> impl Iterator<Item = Instant> {
        let again = match (self.phase, self.stop) {
            (Phase::Unmounting, Stop::Again(at)) => Some(at + ENDING),
            _ => None,
        };
        let unmounted = self.unmounted.map(|unmounted| unmounted + ENDING);
        again.into_iter().chain(unmounted)
    }

    pub(super) fn end_in_time(&mut self, now: Instant) {
        if self
            .unmounted
            .is_some_and(|unmounted| unmounted + ENDING <= now)
        {
            self.unmounted = None;
            match self.connection_end() {
                Some(aborted) => self.on_connection_end(aborted),
                None => {
                    say("unmounted here, but used in another mount namespace: serves it there");
                    self.now_detached();
                }
            }
        }
        if self.phase == Phase::Unmounting
            && let Stop::Again(at) = self.stop
            && at + ENDING <= now
        {
            self.end_in_use();
        }
    }

    /// SIGUSR2: ends, and leaves the mount to the next supervisor. The worker
    /// serves on.
    pub(super) fn leave(&mut self) {
        if !self.notifier.keeps(Handed::COUNT) {
            tracing::warn!("nobody keeps the mount for the next supervisor: goes on");
            return;
        }
        tracing::info!("leaves the mount to the next supervisor");
        self.tell_stopping();
        self.kept = true;
        self.end = Some(Ok(ExitCode::from(LEFT)));
    }

    pub(super) fn unmount(&mut self, act: Act) {
        self.unmounting += 1;
        self.mounting.act(act);
    }

    pub(super) fn on_unmount(&mut self, outcome: Outcome, replies: Option<Replies>) {
        self.unmounting = self.unmounting.saturating_sub(1);
        let asked_by_signal = replies.is_none();
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
                self.now_detached();
                Ok(Reply::Done(message))
            }
            Outcome::Stays(why) => {
                say(&why);
                if asked_by_signal {
                    self.stop = Stop::No;
                    self.phase = match self.told.life {
                        Life::Starting => Phase::Starting,
                        Life::Ready | Life::Stopping => Phase::Up,
                    };
                }
                Err(anyhow!("{why}"))
            }
        };
        self.told.changed();
        if let Some(replies) = replies {
            let _ = replies.try_send(reply);
            self.answered = true;
        }
    }

    /// It is not in the directory tree any more, but there is who uses it.
    fn now_detached(&mut self) {
        self.phase = Phase::Detached;
        self.told.changed();
        match self.stop {
            Stop::No => {}
            Stop::Once => self.tell_stopping(),
            Stop::Again(_) => self.end_in_use(),
        }
        if let Ok(mut record) = self.handed.turn.read() {
            record.detached = true;
            if let Err(error) = self.handed.turn.write(&record) {
                tracing::warn!(%error, "the next supervisor will not know of the unmounting");
            }
        }
    }

    fn end_in_use(&mut self) {
        let error = self.failed.take().unwrap_or_else(|| {
            anyhow!("ended while the mount was in use; its users get errors from now on")
        });
        self.end = Some(Err(error));
    }

    /// There will be no mount: the start failed.
    pub(super) fn give_up(&mut self, error: Error) {
        self.unmount(Act::Detach(None));
        self.phase = Phase::Unmounting;
        self.failed = Some(error);
    }
}

fn say(text: &str) {
    logging::say(Level::WARN, &format!("store-mountd: {text}"));
}
