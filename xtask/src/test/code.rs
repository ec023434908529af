//! Checks of the source by cargo's own tools; each counts as one test.

use super::{Context, Counts};
use crate::{process, workspace};
use anyhow::Result;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30 * 60);

fn check(context: &Context, name: &str, command: &mut Command) -> Result<Counts> {
    let run = process::logged(command, &context.log(name), LIMIT)?;
    Ok(Counts::of_program(&run))
}

pub(super) fn format(context: &Context) -> Result<Counts> {
    let mut command = workspace::cargo();
    command.args(["fmt", "--all", "--", "--check", "--color=never"]);
    let mut counts = check(context, "format", &mut command)?;
    let fuzz = Path::new("fuzz/Cargo.toml");
    if workspace::root().join(fuzz).exists() {
        let mut command = workspace::cargo();
        command
            .args(["fmt", "--manifest-path"])
            .arg(fuzz)
            .args(["--", "--check", "--color=never"]);
        counts += check(context, "format", &mut command)?;
    }
    Ok(counts)
}

pub(super) fn clippy(context: &Context) -> Result<Counts> {
    let mut command = workspace::cargo();
    // --locked here and so for all: a Cargo.lock that was forgotten in a commit is found.
    command.args(["clippy", "--locked", "--workspace", "--all-targets"]);
    command.args(["--", "-D", "warnings"]);
    check(context, "clippy", &mut command)
}

pub(super) fn docs(context: &Context) -> Result<Counts> {
    let mut command = workspace::cargo();
    command.env("RUSTDOCFLAGS", "-D warnings");
    command.args(["doc", "--workspace", "--no-deps"]);
    check(context, "docs", &mut command)
}

pub(super) fn deny(context: &Context) -> Result<Counts> {
    if process::which("cargo-deny").is_none() {
        println!("installing cargo-deny; this takes some minutes");
        let mut install = workspace::cargo();
        install.args(["install", "--quiet", "--locked", "cargo-deny"]);
        let run = process::logged(&mut install, &context.log("deny-install"), LIMIT)?;
        if !run.success {
            return Ok(Counts::of_program(&run));
        }
    }
    let mut command = workspace::cargo();
    command.args(["deny", "check", "bans", "licenses", "sources"]);
    check(context, "deny", &mut command)
}
