//! The project's own commands, run as `cargo xtask …`. They need a Rust toolchain only: what else
//! a command needs it installs or names.

mod bench;
mod cli;
mod demo;
mod dist;
mod mount;
mod process;
mod sys;
mod test;
mod vm;
mod workspace;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::parse(std::env::args().skip(1)).and_then(cli::run) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}
