//! `cargo xtask static`: a program that needs no file of the system it serves.

use crate::{process, workspace};
use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// An explicit target, for with `+crt-static` on the host's own proc-macros could not be built.
const TARGET: &str = "x86_64-unknown-linux-gnu";

pub(crate) fn run() -> Result<()> {
    let program = program()?;
    let size = std::fs::metadata(&program)?.len();
    println!("{}", program.display());
    eprintln!("static, {:.1} MiB", size as f64 / f64::from(1 << 20));
    Ok(())
}

/// Builds the static program, unless it is there.
pub(crate) fn program() -> Result<PathBuf> {
    build("dist")
}

/// The same for tests, which is built in less time: it is optimised less across crates.
pub(crate) fn program_for_tests() -> Result<PathBuf> {
    build("release")
}

fn build(profile: &str) -> Result<PathBuf> {
    // cargo reads RUSTFLAGS from the environment of this process's child only.
    let flags = format!(
        "{} -C target-feature=+crt-static",
        std::env::var("RUSTFLAGS").unwrap_or_default()
    );
    let options = [format!("--profile={profile}"), format!("--target={TARGET}")];
    let options = options.each_ref().map(String::as_str);
    let program = workspace::build_mountd_with(&options, &[("RUSTFLAGS", flags.trim())])?;
    check(&program)?;
    Ok(program)
}

/// No dynamic section: neither an interpreter nor a library is asked for.
fn check(program: &Path) -> Result<()> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("starting ldd")?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    ensure!(
        text.contains("statically linked") || text.contains("not a dynamic executable"),
        "{} is not static: ldd says {}",
        program.display(),
        text.trim()
    );
    // Standard output is for the program's path alone.
    process::output(Command::new(program).arg("--version")).map(drop)
}
