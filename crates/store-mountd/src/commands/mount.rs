use std::{mem, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{
    config::{Config, LogLevel, Settings, SettingsFile},
    failure, notify,
    open::StoreDir,
    supervisor::{self, Binary, Faults},
};

/// Serve the store on a directory until it is unmounted.
///
/// Runs in the foreground. When the filesystem answers, a line on standard error
/// says "mounted STORE on MOUNTPOINT (N paths)". Paths that are imported later
/// appear at once.
///
/// SIGINT (Ctrl-C) and SIGTERM unmount. If the filesystem is in use, they say by
/// whom, take it out of the directory tree, and serve on until the last user is
/// done; a second signal ends at once. SIGUSR1 prints what was done so far.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Mount {
    #[command(flatten)]
    settings: Settings,

    /// Take what no flag says from this file of settings.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// For tests: what goes wrong in the first worker, in the second, and so on.
    #[arg(long, value_name = "FAULT", hide = true)]
    test_fault: Vec<String>,

    /// For tests: as before Linux 6.9.
    #[arg(long, hide = true)]
    test_no_resend: bool,

    /// What flags and file come to.
    #[arg(skip)]
    configured: Option<Config>,

    #[arg(skip)]
    log_level: LogLevel,
}

const EXAMPLES: &str = "\
Examples:
  store-mountd mount /mnt/store --list-root
  unshare --mount store-mountd mount /nix/store --allow-nonempty";

impl Mount {
    /// Answers how much to log.
    pub(crate) fn configure(&mut self, globals: Settings) -> Result<Option<LogLevel>> {
        let flags = mem::take(&mut self.settings).or(globals);
        let (config, level) = match &self.config {
            Some(path) => {
                let file = SettingsFile::read(path)?;
                let level = flags.log_level.or(file.settings.log_level);
                (file.under(flags)?, level)
            }
            None => (flags.clone().resolve()?, flags.log_level),
        };
        self.configured = Some(config);
        self.log_level = level.unwrap_or_default();
        Ok(level)
    }

    pub(crate) fn run(self) -> Result<ExitCode> {
        let config = self.configured.context("the mount is not configured")?;
        let binary = match Binary::running()? {
            Some(binary) => binary,
            None => {
                if !notify::is_handed_over() {
                    // It is the worker who opens the store, but errors are best
                    // told before there is a mount.
                    let dir = StoreDir::new(config.store.clone());
                    dir.open_with(config.integrity.into())?;
                }
                into_memory()?
            }
        };
        let faults = Faults {
            faults: self.test_fault,
            no_resend: self.test_no_resend,
        };
        supervisor::run(config, self.log_level, faults, binary)
    }
}

/// Runs the program from memory. Returns it only where that cannot be done.
fn into_memory() -> Result<Binary> {
    let failed = match Binary::copy_of_this() {
        Ok(binary) => match binary.become_it() {
            Ok(never) => match never {},
            Err(error) => error.into(),
        },
        Err(error) => error,
    };
    let error = failure::message(&failed);
    tracing::warn!(
        error,
        "the program cannot run from memory, and so needs its file: {error}"
    );
    Binary::in_place()
}
