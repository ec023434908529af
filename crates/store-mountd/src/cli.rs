//! The command line.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{
    commands,
    config::{LogLevel, Settings},
    open::StoreDir,
    supervisor, worker,
};

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

    /// How much to log: off, error, warn, info, debug or trace, and without it
    /// info. Logs go to the journal where standard error does, else to standard
    /// error. RUST_LOG, if set, has precedence and can tell modules apart.
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        hide_possible_values = true,
        help_heading = GLOBAL
    )]
    log_level: Option<LogLevel>,

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

  Keep one path with all that it needs, and free the space of all others:
    store-mountd pin website /nix/store/HASH-website
    store-mountd gc

Each command explains itself: store-mountd COMMAND --help";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Mount(Box<commands::mount::Mount>),
    Status(commands::status::Status),
    Upgrade(commands::upgrade::Upgrade),
    Unmount(commands::unmount::Unmount),
    CheckConfig(commands::check_config::CheckConfig),
    CheckBoot(commands::check_boot::CheckBoot),
    Import(commands::import::Import),
    Ls(commands::ls::Ls),
    Export(commands::export::Export),
    Remove(commands::remove::Remove),
    Gc(Box<commands::gc::Gc>),
    Pin(commands::pin::Pin),
    Verify(commands::verify::Verify),
    Info(commands::info::Info),
    Registration(commands::registration::Registration),
    Completions(commands::completions::Completions),
    Man(commands::man::Man),
    #[command(hide = true)]
    Worker(worker::Worker),
    #[command(hide = true)]
    Probe(supervisor::probe::Ask),
    #[command(hide = true)]
    Copy(supervisor::copier::Copy),
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
    /// Reads what the command is configured by, if it is. Answers how much to
    /// log.
    pub(crate) fn configure(&mut self) -> Result<LogLevel> {
        let flags = Settings {
            store: self.store.clone(),
            log_level: self.log_level,
            ..Default::default()
        };
        let level = match &mut self.command {
            Command::Mount(command) => command.configure(flags)?,
            _ => self.log_level,
        };
        Ok(level.unwrap_or_default())
    }

    pub(crate) fn run(self) -> Result<ExitCode> {
        let store = StoreDir::new(self.store);
        match self.command {
            Command::Mount(command) => command.run(),
            Command::Status(command) => command.run(),
            Command::Upgrade(command) => command.run(),
            Command::Unmount(command) => command.run(),
            Command::CheckConfig(command) => command.run(),
            Command::CheckBoot(command) => command.run(),
            Command::Import(command) => command.run(&store),
            Command::Ls(command) => command.run(&store),
            Command::Export(command) => command.run(&store),
            Command::Remove(command) => command.run(&store),
            Command::Gc(command) => command.run(&store),
            Command::Pin(command) => command.run(&store),
            Command::Verify(command) => command.run(&store),
            Command::Info(command) => command.run(&store),
            Command::Registration(command) => command.run(&store),
            Command::Completions(command) => command.run(),
            Command::Man(command) => command.run(),
            Command::Worker(command) => command.run(),
            Command::Probe(command) => command.run(),
            Command::Copy(command) => command.run(),
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
