//! An import that may be watched, and killed.

use anyhow::{Context as _, Result};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A running import.
#[derive(Debug)]
pub struct Import {
    child: Child,
    acknowledgements: Receiver<PathBuf>,
    acknowledged: Vec<PathBuf>,
    stderr: Option<JoinHandle<String>>,
}

/// How an import ended.
#[derive(Debug)]
pub struct Outcome {
    /// The exit status, or none if a signal ended it.
    pub code: Option<i32>,
    /// The store paths that were printed: what must never be lost again.
    pub acknowledged: Vec<PathBuf>,
    /// Standard error.
    pub stderr: String,
}

impl Import {
    pub(super) fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting store-mountd")?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut stderr = child.stderr.take().context("no standard error")?;
        let (sender, acknowledgements) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(PathBuf::from(line)).is_err() {
                    return;
                }
            }
        });
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Self {
            child,
            acknowledgements,
            acknowledged: Vec::new(),
            stderr: Some(stderr),
        })
    }

    /// Waits until another store path is acknowledged; false if none was in time.
    pub fn wait_for_acknowledgement(&mut self, limit: Duration) -> bool {
        match self.acknowledgements.recv_timeout(limit) {
            Ok(path) => {
                self.acknowledged.push(path);
                true
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => false,
        }
    }

    /// Kills it and waits for its end.
    pub fn kill(mut self) -> Result<Outcome> {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        self.finish()
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Result<Outcome> {
        self.finish()
    }

    /// Waits for its end, and kills it after `limit`.
    pub fn wait_or_kill(mut self, limit: Duration) -> Result<Outcome> {
        let end = Instant::now() + limit;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > end {
                return self.kill();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.finish()
    }

    fn finish(&mut self) -> Result<Outcome> {
        // To the end of the pipe first: a full one would hold the program up.
        self.acknowledged.extend(self.acknowledgements.iter());
        let status = self.child.wait()?;
        let stderr = self.stderr.take().and_then(|thread| thread.join().ok());
        Ok(Outcome {
            code: status.code(),
            acknowledged: std::mem::take(&mut self.acknowledged),
            stderr: stderr.unwrap_or_default(),
        })
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        // Both do nothing once it has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
