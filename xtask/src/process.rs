//! Running other programs.

use crate::sys;
use anyhow::{Context as _, Result, bail, ensure};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How the program would be typed.
pub(crate) fn display(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

/// Runs to the end, inheriting all output.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("starting {}", display(command)))?;
    ensure!(status.success(), "{}: {status}", display(command));
    Ok(())
}

/// Runs to the end and returns standard output; standard error is inherited.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {}", display(command)))?;
    let mut text = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_end(&mut text)?;
    }
    let status = child.wait()?;
    ensure!(status.success(), "{}: {status}", display(command));
    String::from_utf8(text).with_context(|| format!("the output of {}", display(command)))
}

/// Finds a program as a shell would.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        // Debian's sbin directories are not in an ordinary user's PATH.
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
}

/// The result of a program whose output went to a log.
#[derive(Debug)]
pub(crate) struct Logged {
    pub(crate) success: bool,
    pub(crate) output: String,
    pub(crate) log: PathBuf,
}

/// Runs a program with all its output in `log`, and ends it and its children when `limit` has
/// passed or a signal asks for the end.
pub(crate) fn logged(command: &mut Command, log: &Path, limit: Duration) -> Result<Logged> {
    let mut file = File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| log.display().to_string())?;
    let start = file.metadata()?.len();
    writeln!(file, "$ {}", display(command))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .env("CARGO_TERM_COLOR", "never")
        .process_group(0)
        .spawn()
        .with_context(|| format!("starting {}", display(command)))?;
    let waited = wait_until(&mut child, Instant::now() + limit);
    let success = match waited {
        Ok(success) => success,
        Err(error) => {
            // TERM first: a test runner then ends its tests, and they clean up.
            sys::signal_group(&child, libc::SIGTERM);
            if wait_until(&mut child, Instant::now() + Duration::from_secs(10)).is_err() {
                sys::signal_group(&child, libc::SIGKILL);
                child.wait()?;
            }
            return Err(error.context(display(command)));
        }
    };
    let bytes = std::fs::read(log)?;
    let output = String::from_utf8_lossy(&bytes[start as usize..]).into_owned();
    Ok(Logged {
        success,
        output,
        log: log.to_owned(),
    })
}

fn wait_until(child: &mut Child, end: Instant) -> Result<bool> {
    let already_interrupted = sys::interrupted();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if sys::interrupted() && !already_interrupted {
            bail!("interrupted");
        }
        if Instant::now() > end {
            bail!("took too long and was ended");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
