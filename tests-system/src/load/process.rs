//! The load as a process.

use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// What a load has done.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// System calls on the mount, and touches of mapped pages.
    pub operations: u64,
    /// Bytes that were compared.
    pub bytes: u64,
    /// Programs that ran to their end.
    pub programs: u64,
    /// What failed.
    pub failed: u64,
    /// The longest that a call took, and which it was.
    pub stall: (Duration, String),
    /// The longest that a program took from start to end.
    pub program: Duration,
    /// How long who waits longest has waited.
    pub waits: Duration,
    /// Some of what failed.
    pub failures: Vec<String>,
    /// What is waited for.
    pub waiting: Vec<String>,
}

impl Summary {
    fn take(&mut self, line: &str) -> bool {
        if let Some(failure) = line.strip_prefix("FAILED ") {
            self.failures.push(failure.to_owned());
            return false;
        }
        if let Some(text) = line.strip_prefix("WAITS ") {
            self.waiting.push(text.to_owned());
            return false;
        }
        for field in line.split(' ') {
            let Some((name, value)) = field.split_once('=') else {
                continue;
            };
            let number = value.parse().unwrap_or_default();
            match name {
                "operations" => self.operations = number,
                "bytes" => self.bytes = number,
                "programs" => self.programs = number,
                "failed" => self.failed = number,
                "stall" => self.stall.0 = Duration::from_micros(number),
                "stall-of" => self.stall.1 = value.to_owned(),
                "program" => self.program = Duration::from_micros(number),
                "waits" => self.waits = Duration::from_millis(number),
                _ => {}
            }
        }
        line.starts_with("operations=")
    }

    /// Fails if anything did.
    pub fn expect_flawless(&self) -> Result<()> {
        ensure!(
            self.failed == 0,
            "{} failures, among them: {:#?}",
            self.failed,
            self.failures
        );
        Ok(())
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} operations, {} MiB compared, {} programs, {} failures, longest call {:.0} ms ({}), \
             longest program {:.0} ms",
            self.operations,
            self.bytes >> 20,
            self.programs,
            self.failed,
            self.stall.0.as_secs_f64() * 1e3,
            self.stall.1,
            self.program.as_secs_f64() * 1e3,
        )
    }
}

/// A running load. Dropping it kills it.
#[derive(Debug)]
pub struct Load {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

/// How long the load may take to answer a question: far longer than any stall that is tolerated.
const PATIENCE: Duration = Duration::from_secs(100);

impl Load {
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the load")?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("no standard output")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut this = Self {
            child,
            stdin,
            lines,
        };
        // It says a first line when it works.
        this.summary()?;
        Ok(this)
    }

    /// The load's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has done so far.
    pub fn ask(&mut self) -> Result<Summary> {
        let stdin = self.stdin.as_mut().context("the load was ended")?;
        if let Err(error) = writeln!(stdin) {
            bail!("the load is gone: {error}: {:?}", self.child.try_wait());
        }
        self.summary()
    }

    fn summary(&mut self) -> Result<Summary> {
        let mut summary = Summary::default();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if summary.take(&line) => return Ok(summary),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the load does not answer:\n{}", stacks(self.child.id()))
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait()?;
                    bail!("the load ended: {status}: {summary:?}")
                }
            }
        }
    }

    /// Fails when something failed, or when a call has not come back within `limit`.
    pub fn expect_alive(&mut self, limit: Duration) -> Result<Summary> {
        let summary = self.ask()?;
        summary.expect_flawless()?;
        ensure!(
            summary.waits < limit,
            "a call has waited for {:?}: {:?}\n{}",
            summary.waits,
            summary.waiting,
            stacks(self.child.id())
        );
        Ok(summary)
    }

    /// Ends it and tells what it did. Nothing may have failed.
    pub fn finish(mut self) -> Result<Summary> {
        drop(self.stdin.take());
        let summary = self.summary()?;
        summary.expect_flawless()?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the load ended: {status}");
        Ok(summary)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Both do nothing once it has been waited for. Who hangs in the mount ends when the mount
        // does, which the test sees to: no waiting here.
        let _ = self.child.kill();
        let _ = self.child.try_wait();
    }
}

/// Where the kernel has the threads of a process.
pub(super) fn stacks(pid: u32) -> String {
    let mut text = String::new();
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    for task in tasks.flatten() {
        let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        text += &format!(
            "{} {}{}",
            task.file_name().display(),
            read("comm"),
            read("stack")
        );
    }
    text
}
