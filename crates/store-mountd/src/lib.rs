//! The program `store-mountd`.
//!
//! [`main`] reads the command line and runs one of its commands. What a command
//! needs from the libraries below it asks for directly; what several commands
//! need is beside it in this crate.

mod cli;
mod commands;
mod config;
mod confine;
mod control;
mod failure;
mod limits;
mod link;
mod logging;
mod meter;
mod metrics;
mod mounts;
mod nix;
mod notify;
mod open;
mod place;
mod root;
mod roots;
mod signals;
mod startup;
mod supervisor;
#[cfg(test)]
mod unit;
mod worker;

use std::process::ExitCode;

use clap::Parser as _;

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    let mut cli = cli::Cli::parse();
    if let Err(error) = cli.configure().and_then(logging::start) {
        failure::print(&error);
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
