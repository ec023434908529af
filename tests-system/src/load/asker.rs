//! One who asks the mount when told to, and says how long the answer took.

use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::stat::lstat;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::process::stacks;

/// A process of its own: should the mount never answer, the test can still tell so.
#[derive(Debug)]
pub struct Asker {
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<String>,
}

impl Asker {
    /// Starts the program `load` on a mount.
    pub fn start(program: &Path, mountpoint: &Path) -> Result<Self> {
        let mut child = Command::new(program)
            .arg("ask")
            .arg(mountpoint)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting who asks")?;
        let stdin = child.stdin.take().context("no standard input")?;
        let stdout = child.stdout.take().context("no standard output")?;
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            child,
            stdin,
            answers,
        })
    }

    /// Asks once: a name that is not there, which only the worker can know. Answers how long it
    /// took, which must be less than `limit`.
    pub fn ask(&mut self, limit: Duration) -> Result<Duration> {
        writeln!(self.stdin)?;
        let Ok(line) = self.answers.recv_timeout(limit) else {
            bail!(
                "the mount does not answer within {limit:?}:\n{}",
                stacks(self.child.id())
            );
        };
        let (micros, error) = line.split_once(' ').context("half an answer")?;
        ensure!(
            error == Errno::ENOENT.to_string(),
            "a name that is not there: {error}"
        );
        Ok(Duration::from_micros(micros.parse()?))
    }

    /// The other side.
    pub fn serve(mountpoint: &Path) -> Result<ExitCode> {
        let mut stdout = std::io::stdout().lock();
        for (number, line) in std::io::stdin().lock().lines().enumerate() {
            line?;
            let name = format!("{}-asked-{number}", "1".repeat(32));
            let begin = Instant::now();
            let error = match lstat(&mountpoint.join(name)) {
                Ok(_) => "it is there".to_owned(),
                Err(error) => error.to_string(),
            };
            writeln!(stdout, "{} {error}", begin.elapsed().as_micros())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        // Who hangs in the mount ends when the mount does: no waiting here.
        let _ = self.child.kill();
        let _ = self.child.try_wait();
    }
}
