use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;

use crate::config::{DEFAULT_FILE, Settings, SettingsFile};

/// Say whether a mount could be made with a file of settings.
///
/// Fails with line, column and reason if not. Nothing is looked at but the file:
/// neither the store nor the mountpoint needs to be there.
#[derive(Debug, Args)]
pub(crate) struct CheckConfig {
    /// The file.
    #[arg(value_name = "FILE", default_value = DEFAULT_FILE)]
    file: PathBuf,
}

impl CheckConfig {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        SettingsFile::read(&self.file)?.under(Settings::default())?;
        println!("{} is sound", self.file.display());
        Ok(ExitCode::SUCCESS)
    }
}
