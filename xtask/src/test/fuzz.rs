//! The fuzz targets, each for a short time, from the seed corpus that the repository keeps.
//!
//! They are built in their own workspace and by its flags, as fuzz/README.md has it.

use super::{Context, Counts};
use crate::{process, workspace};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const SECONDS: u64 = 10;
const SOAK_SECONDS: u64 = 60;
const BUILD_LIMIT: Duration = Duration::from_secs(20 * 60);

pub(super) fn run(context: &Context) -> Result<Counts> {
    let dir = workspace::root().join("fuzz");
    let targets = targets(&dir)?;
    let seconds = if context.full { SOAK_SECONDS } else { SECONDS };
    println!("{} targets, {seconds} s each", targets.len());

    let build = process::logged(
        cargo(&dir).args(["build", "--release", "--bins"]),
        &context.log("fuzz-build"),
        BUILD_LIMIT,
    )?;
    if !build.success {
        return Ok(Counts::of_program(&build));
    }
    let mut counts = Counts::default();
    for target in targets {
        counts += run_target(context, &dir, &target, seconds)?;
    }
    Ok(counts)
}

/// cargo in the fuzz targets' directory, whose configuration has the flags of the build.
fn cargo(dir: &Path) -> Command {
    let mut command = workspace::cargo();
    command.current_dir(dir).env_remove("RUSTFLAGS");
    command
}

fn targets(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir.join("targets")).context("fuzz/targets")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Some(stem) = path.file_stem()
        {
            names.push(stem.to_string_lossy().into_owned());
        }
    }
    names.sort();
    ensure!(!names.is_empty(), "fuzz/targets has no targets");
    Ok(names)
}

fn run_target(context: &Context, dir: &Path, target: &str, seconds: u64) -> Result<Counts> {
    // What this run finds stays out of the repository's own corpus.
    let found = dir.join("target/corpus").join(target);
    for dir in [&found, &dir.join("artifacts")] {
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    }
    let mut command = cargo(dir);
    command
        .args(["run", "--quiet", "--release", "--bin", target, "--"])
        .arg(format!("-max_total_time={seconds}"))
        .args(["-rss_limit_mb=1024", "-timeout=10", "-print_final_stats=1"])
        .arg("-artifact_prefix=artifacts/");
    let dictionary = Path::new("dict").join(target);
    if dir.join(&dictionary).exists() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    command.arg(found).arg(Path::new("corpus").join(target));
    let limit = Duration::from_secs(seconds + 120);
    let run = process::logged(&mut command, &context.log(&format!("fuzz-{target}")), limit)?;
    let executions = run
        .output
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))
        .map_or("?", str::trim);
    println!("{target}: {executions} executions");
    Ok(Counts::of_program(&run))
}
