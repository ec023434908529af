//! The program `store-mountd`.
//!
//! [`main`] reads the command line and runs one of its commands. What a command
//! needs from the libraries below it asks for directly; what several commands
//! need is beside it in this crate.

mod cli;
mod commands;
mod failure;
mod limits;
mod logging;
mod meter;
mod nix;
mod open;
mod place;
mod root;
mod signals;

use std::process::ExitCode;

use clap::Parser as _;

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    if let Err(error) = logging::start(cli.log_level) {
        eprintln!("store-mountd: {error:#}");
        return ExitCode::FAILURE;
    }
    limits::raise_open_files();
    let status_of_failure = cli.command.status_of_failure();
    cli.run().unwrap_or_else(|error| {
        if !failure::is_closed_pipe(&error) {
            failure::print(&error);
        }
        ExitCode::from(status_of_failure)
    })
}
