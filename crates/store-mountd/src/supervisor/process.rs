//! A worker, as the supervisor sees it.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::process::{Pid, WaitIdStatus};
use store_fs::proc;

use super::{
    binary::{ARGV0, Binary, environment_without},
    child::Child,
};
use crate::{
    control::protocol::{self, Worker},
    link::{LINK_VERSION, Link, Order, Report},
    notify,
};

/// How long a worker may take to be of use before it is looked at whether it
/// ever will be: it opens the store and waits for its turn.
pub(super) const START: Duration = Duration::from_secs(60);

/// How far a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It was started.
    Started,
    /// It opens the store.
    Opening,
    /// It has everything open and waits for its turn.
    Prepared,
    /// It was told to serve.
    Taking,
    /// It serves, but the mount did not answer yet.
    Serving,
    /// The mount answered.
    Up,
}

/// A worker process.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    link: Link,
    /// Counts the workers of the mount.
    pub(super) number: u64,
    pub(super) stage: Stage,
    pub(super) since: Instant,
    /// When to look at it if it does not serve by then.
    pub(super) due: Instant,
    /// When it began to serve.
    pub(super) serving: Option<Instant>,
    /// Requests that were handled before it.
    pub(super) requests_before: u64,
    pub(super) program: String,
    pub(super) data_path: String,
    /// What it said was wrong.
    pub(super) failure: Option<String>,
    /// Whether the connection ended, and then if by an abort.
    pub(super) ended: Option<bool>,
    /// Why it was killed, if by the supervisor.
    pub(super) killed: Option<String>,
    /// Since when it has not listened: its end is near, or it is broken.
    pub(super) gone: Option<Instant>,
}

impl Process {
    pub(super) fn start(
        binary: &Binary,
        number: u64,
        log_level: &str,
        null: BorrowedFd<'_>,
    ) -> io::Result<Self> {
        let (ours, theirs) = Link::pair()?;
        let arguments = [ARGV0, "--log-level", log_level, "worker"]
            .into_iter()
            .map(CString::new)
            .collect::<Result<Vec<_>, _>>()?;
        let environment = environment_without(&notify::VARIABLES)?;
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let fds = [null, stdout.as_fd(), stderr.as_fd(), theirs.as_fd()];
        let fds: Vec<_> = fds.into_iter().chain(proc::dir().ok()).collect();
        Ok(Self {
            child: Child::spawn(binary.as_fd(), &arguments, &environment, &fds)?,
            link: ours,
            number,
            stage: Stage::Started,
            since: Instant::now(),
            due: Instant::now() + START,
            serving: None,
            requests_before: 0,
            program: String::new(),
            data_path: String::new(),
            failure: None,
            ended: None,
            killed: None,
            gone: None,
        })
    }

    pub(super) fn pid(&self) -> Pid {
        self.child.pid()
    }

    /// When it is late, if it is to serve and does not yet.
    pub(super) fn late(&self) -> Option<Instant> {
        (self.serving.is_none() && self.killed.is_none()).then_some(self.due)
    }

    /// What to poll for the worker's sake.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let link = self.gone.is_none().then(|| self.link.as_fd());
        [self.child.pidfd()].into_iter().chain(link)
    }

    /// Tells it. A worker that does not take what it is told is not of use.
    pub(super) fn tell(&mut self, order: &Order, fds: &[BorrowedFd<'_>]) {
        match self.link.send(order, fds, false) {
            Ok(()) => {}
            // It is about to end.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => self.kill(&format!("it cannot be told anything: {error}")),
        }
    }

    /// The next that it says, if there is something.
    pub(super) fn receive(&mut self) -> Option<(Report, Vec<OwnedFd>)> {
        if self.gone.is_some() {
            return None;
        }
        match self.link.receive(false) {
            Ok(Some(message)) => return Some(message),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(None) => self.gone = Some(Instant::now()),
            Err(error) => {
                self.gone = Some(Instant::now());
                self.kill(&format!("it cannot be understood: {error}"));
            }
        }
        None
    }

    /// Kills it; the reason that was given first counts.
    pub(super) fn kill(&mut self, reason: &str) {
        if self.killed.is_none() {
            tracing::debug!(reason, pid = self.pid().as_raw_nonzero(), "kills a worker");
            self.killed = Some(reason.to_owned());
        }
        self.child.kill();
    }

    /// How it is.
    pub(super) fn status(&self) -> Worker {
        Worker {
            process: protocol::Process {
                pid: self.pid().as_raw_nonzero().get().cast_unsigned(),
                version: self.program.clone(),
                uptime_seconds: self.since.elapsed().as_secs_f64(),
            },
            number: self.number,
            serving: self.serving.is_some(),
            data_path: self.data_path.clone(),
        }
    }

    /// How it ended, if it has.
    pub(super) fn ended(&self) -> Option<String> {
        self.child.ended().map(|status| self.description(&status))
    }

    fn description(&self, status: &WaitIdStatus) -> String {
        if let Some(reason) = &self.killed {
            return format!("was killed: {reason}");
        }
        if let Some(failure) = &self.failure {
            return failure.clone();
        }
        match (status.exit_status(), status.terminating_signal()) {
            (Some(127), _) => "could not be executed".to_owned(),
            (Some(code), _) => format!("ended with status {code}"),
            (_, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "ended".to_owned(),
        }
    }

    /// Why a worker that says this of itself cannot serve this mount.
    pub(super) fn objection(link: u32, state: u32, needed_state: u32) -> Option<String> {
        if link != LINK_VERSION {
            return Some(format!(
                "it speaks version {link} of what supervisor and worker say, this one {LINK_VERSION}"
            ));
        }
        (state != needed_state).then(|| {
            format!("it knows version {state} of the state, and the mount has {needed_state}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_versions_are_objected_to() {
        assert_eq!(Process::objection(LINK_VERSION, 3, 3), None);
        let link = Process::objection(LINK_VERSION + 1, 3, 3).unwrap();
        assert!(
            link.contains(&format!("version {}", LINK_VERSION + 1)),
            "{link}"
        );
        let state = Process::objection(LINK_VERSION, 2, 3).unwrap();
        assert!(state.contains("version 2") && state.contains("has 3"));
    }
}
