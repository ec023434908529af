use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory as _};

use crate::cli::Cli;

/// Write the manual pages, one for each command.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Where to. It is made if it is not there.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

impl Man {
    pub(crate) fn run(self) -> Result<ExitCode> {
        fs::create_dir_all(&self.dir)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), &self.dir))
            .with_context(|| format!("cannot write manual pages to {}", self.dir.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
