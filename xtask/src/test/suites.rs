//! The Rust test suites.

use super::{Context, Counts};
use crate::process::{self, Logged};
use crate::{dist, sys, workspace};
use anyhow::{Result, ensure};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const UNIT_LIMIT: Duration = Duration::from_secs(40 * 60);
const SYSTEM_LIMIT: Duration = Duration::from_secs(40 * 60);
const SYSTEM_SOAK_LIMIT: Duration = Duration::from_secs(4 * 60 * 60);

/// Cases of each property test in a soak; otherwise each has its own default.
const SOAK_CASES: &str = "2000";

/// Everything but the system tests.
pub(super) fn unit(context: &Context) -> Result<Counts> {
    let mut command = test_runner();
    command.args(["--workspace", "--exclude=system-tests", "--all-targets"]);
    if context.full {
        command.env("PROPTEST_CASES", SOAK_CASES);
    }
    let run = process::logged(&mut command, &context.log("unit"), UNIT_LIMIT)?;
    Ok(Counts::of_tests(&run))
}

/// nextest where it is installed, for its time-out of each single test; else libtest.
fn test_runner() -> Command {
    let mut command = workspace::cargo();
    if process::which("cargo-nextest").is_some() {
        command.args(["nextest", "run", "--profile=ci", "--no-fail-fast"]);
        command.args(["--status-level=fail", "--final-status-level=fail"]);
        command.arg("--failure-output=final");
    } else {
        println!("cargo-nextest is not installed: cargo test, without its time-outs");
        command.args(["test", "--no-fail-fast"]);
    }
    command
}

pub(super) fn doctests(context: &Context) -> Result<Counts> {
    let mut command = workspace::cargo();
    command.args(["test", "--doc", "--workspace", "--no-fail-fast"]);
    let run = process::logged(&mut command, &context.log("doctests"), UNIT_LIMIT)?;
    if run.success && Counts::of_tests_or_none(&run).is_none() {
        println!("there are none");
        return Ok(Counts::PASSED);
    }
    Ok(Counts::of_tests(&run))
}

/// The program against everything that can happen to it. One at a time: they mount filesystems
/// on loop devices and compete for the disk.
pub(super) fn system(context: &Context) -> Result<Counts> {
    ensure!(sys::is_root(), "the system tests need root");
    let program = program()?;
    let mut command = workspace::cargo_with_own_mounts();
    command.args([
        "test",
        "--package=system-tests",
        "--no-fail-fast",
        "--tests",
    ]);
    command.arg("--");
    command.args(["--test-threads=1", "--show-output"]);
    // An error's chain says enough; a backtrace pushes it out of the shown tail.
    command.env("RUST_BACKTRACE", "0");
    command.env("STORE_MOUNTD", program);
    if context.full {
        command.env("SYSTEM_TESTS_FULL", "1");
    }
    let limit = if context.full {
        SYSTEM_SOAK_LIMIT
    } else {
        SYSTEM_LIMIT
    };
    let run = process::logged(&mut command, &context.log("system"), limit)?;
    print_reports(&run);
    Ok(Counts::of_tests(&run))
}

/// The static program, which the stages `documents` and `vm` take too: so it is built once.
pub(super) fn program() -> Result<PathBuf> {
    let given = workspace::given_program("STORE_MOUNTD")?;
    given.map_or_else(dist::program_for_tests, Ok)
}

/// The lines in which a system test says what it did, and how often.
fn print_reports(run: &Logged) {
    for line in run.output.lines() {
        if let Some((_, report)) = line.split_once("REPORT ") {
            println!("{report}");
        }
    }
}
