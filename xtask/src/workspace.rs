//! Where things are, as cargo sees it.

use crate::process;
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The checkout.
pub(crate) fn root() -> PathBuf {
    let manifest_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest_dir.parent().unwrap_or(manifest_dir).to_owned()
}

/// The cargo that runs this command.
pub(crate) fn cargo() -> Command {
    in_workspace(Command::new(cargo_program()))
}

/// The same in a mount namespace of its own: whatever ends it, its mounts end with it.
pub(crate) fn cargo_with_own_mounts() -> Command {
    let mut command = Command::new("unshare");
    command.arg("--mount").arg(cargo_program());
    in_workspace(command)
}

fn cargo_program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn in_workspace(mut command: Command) -> Command {
    command.current_dir(root());
    // Set by `cargo run` for this process; a build of ours must not depend on them.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// `cargo metadata`, of this workspace's members only or with all dependencies.
pub(crate) fn metadata(with_dependencies: bool) -> Result<Value> {
    let mut command = cargo();
    command.args(["metadata", "--format-version=1"]);
    if !with_dependencies {
        command.arg("--no-deps");
    }
    let text = process::output(&mut command)?;
    serde_json::from_str(&text).context("reading cargo metadata")
}

/// The directory for build results and for everything that xtask writes.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let metadata = metadata(false)?;
    let dir = metadata["target_directory"].as_str();
    dir.map(PathBuf::from)
        .context("cargo metadata names no target directory")
}

/// Builds store-mountd and returns the program's path; `STORE_MOUNTD` names one that is built.
pub(crate) fn build_mountd() -> Result<PathBuf> {
    let given = given_program("STORE_MOUNTD")?;
    given.map_or_else(|| build_mountd_with(&["--release"], &[]), Ok)
}

/// A program that is built already, as the environment names it.
pub(crate) fn given_program(variable: &'static str) -> Result<Option<PathBuf>> {
    let program = std::env::var_os(variable);
    let program = program.map(|program| PathBuf::from(program).canonicalize());
    program.transpose().context(variable)
}

/// Builds store-mountd with these options of `cargo build` and this environment.
pub(crate) fn build_mountd_with(options: &[&str], env: &[(&str, &str)]) -> Result<PathBuf> {
    let mut command = cargo();
    command.envs(env.iter().copied());
    command.args(["build", "--package=store-mountd", "--bin=store-mountd"]);
    command.arg("--message-format=json-render-diagnostics");
    command.args(options);
    command.stderr(std::process::Stdio::inherit());
    let messages = process::output(&mut command).context("building store-mountd")?;
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
        .context("cargo built no program store-mountd")
}
