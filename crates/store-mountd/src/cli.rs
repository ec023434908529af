//! The command line.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

use crate::{commands, open::StoreDir};

/// Serve a content-addressed Nix store as a filesystem.
///
/// A store is a directory that holds the contents of Nix store paths, every
/// file once, each byte verified when it is read. `import` fills it, from trees,
/// from Nix, or from a binary cache; `mount` serves it, read-only, through FUSE.
/// Importing works while the store is mounted: new paths appear at once.
#[derive(Debug, Parser)]
#[command(name = "store-mountd", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// The store's directory. Without it, /var/lib/tvix-store-mount for root,
    /// and $XDG_DATA_HOME/tvix-store-mount or ~/.local/share/tvix-store-mount
    /// for others.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "STORE_MOUNTD_STORE",
        hide_env_values = true,
        help_heading = GLOBAL
    )]
    store: Option<PathBuf>,

    /// How much to log to standard error: off, error, warn, info, debug or
    /// trace. RUST_LOG, if set, has precedence and can tell modules apart.
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        default_value = "info",
        hide_possible_values = true,
        help_heading = GLOBAL
    )]
    pub(crate) log_level: LogLevel,

    #[command(subcommand)]
    pub(crate) command: Command,
}

const GLOBAL: &str = "Global options";

const EXAMPLES: &str = "\
Examples:
  Import a tree, which gets a store path of its own, and mount the store:
    store-mountd import ./website
    mkdir /tmp/store && store-mountd mount /tmp/store

  Import a program that Nix has, with everything it needs:
    store-mountd import --closure /run/current-system/sw/bin/git

  See what is there, and check that it is sound:
    store-mountd ls -l
    store-mountd verify

Each command explains itself: store-mountd COMMAND --help";

/// How much to log.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogLevel {
    /// Nothing.
    Off,
    /// What failed.
    Error,
    /// What may be wrong.
    Warn,
    /// What is done.
    Info,
    /// How it is done.
    Debug,
    /// Every request.
    Trace,
}

impl LogLevel {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Mount(commands::mount::Mount),
    Import(commands::import::Import),
    Ls(commands::ls::Ls),
    Export(commands::export::Export),
    Verify(commands::verify::Verify),
    Info(commands::info::Info),
    Registration(commands::registration::Registration),
    Completions(commands::completions::Completions),
    Man(commands::man::Man),
}

impl Command {
    /// The exit status if the command fails. 1 is taken where it means
    /// something.
    pub(crate) fn status_of_failure(&self) -> u8 {
        match self {
            Self::Verify(_) => 2,
            _ => 1,
        }
    }
}

impl Cli {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let store = StoreDir::new(self.store);
        match self.command {
            Command::Mount(command) => command.run(&store),
            Command::Import(command) => command.run(&store),
            Command::Ls(command) => command.run(&store),
            Command::Export(command) => command.run(&store),
            Command::Verify(command) => command.run(&store),
            Command::Info(command) => command.run(&store),
            Command::Registration(command) => command.run(&store),
            Command::Completions(command) => command.run(),
            Command::Man(command) => command.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
