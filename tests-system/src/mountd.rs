//! Runs `store-mountd` through its command line.

mod import;
mod mounted;
pub mod processes;

pub use import::{Import, Outcome};
pub use mounted::{MountOptions, Mounted};

use crate::tree::Tree;
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The program under test: `STORE_MOUNTD`, or what cargo builds now.
pub fn program() -> Result<PathBuf> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| find_program().map_err(|error| format!("{error:#}")));
    program.clone().map_err(anyhow::Error::msg)
}

fn find_program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("STORE_MOUNTD") {
        return PathBuf::from(path).canonicalize().context("STORE_MOUNTD");
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--package=store-mountd", "--message-format=json"])
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    ensure!(
        output.status.success(),
        "building store-mountd: {}",
        output.status
    );
    let messages = String::from_utf8_lossy(&output.stdout);
    let (_, rest) = messages
        .rsplit_once("\"executable\":\"")
        .context("cargo built no program")?;
    let (path, _) = rest.split_once('"').context("cargo's message is cut")?;
    Ok(PathBuf::from(path))
}

/// A store directory and who uses it.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    program: PathBuf,
    user: Option<(u32, u32)>,
}

/// A finished command.
#[derive(Debug)]
pub struct Finished {
    /// The exit status, or none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Store {
    /// The store in `dir`, which the first import creates.
    pub fn new(dir: &Path) -> Result<Self> {
        Ok(Self {
            dir: dir.to_owned(),
            program: program()?,
            user: None,
        })
    }

    /// The same store, used by another user through a copy of the program that he may run.
    pub fn used_by(&self, uid: u32, gid: u32, program: &Path) -> Self {
        Self {
            dir: self.dir.clone(),
            program: program.to_owned(),
            user: Some((uid, gid)),
        }
    }

    /// The store's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `store-mountd --store DIR`.
    pub fn command(&self) -> Command {
        let mut command = self.as_user(&self.program);
        command.arg("--store").arg(&self.dir).stdin(Stdio::null());
        command
    }

    fn as_user(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
            command.env("HOME", "/nonexistent").current_dir("/");
        }
        command
    }

    /// Runs a command to its end, whatever that is.
    pub fn run(&self, arguments: &[&str]) -> Result<Finished> {
        let output = self.command().args(arguments).output();
        Ok(output.context("starting store-mountd")?.into())
    }

    /// Starts an import of these trees.
    pub fn start_import<P: AsRef<Path>>(&self, trees: &[P]) -> Result<Import> {
        let mut command = self.command();
        command.arg("import").args(trees.iter().map(AsRef::as_ref));
        Import::start(command)
    }

    /// Imports trees, which must work, and returns their store paths in the same order.
    pub fn import<P: AsRef<Path>>(&self, trees: &[P]) -> Result<Vec<PathBuf>> {
        let outcome = self.start_import(trees)?.wait()?;
        ensure!(outcome.code == Some(0), "the import failed: {outcome:?}");
        ensure!(
            outcome.acknowledged.len() == trees.len(),
            "{} paths for {} trees",
            outcome.acknowledged.len(),
            trees.len()
        );
        Ok(outcome.acknowledged)
    }

    /// Fails unless `verify` finds the store clean.
    pub fn expect_clean(&self) -> Result<()> {
        let finished = self.run(&["verify"])?;
        ensure!(finished.code == Some(0), "verify: {finished:?}");
        Ok(())
    }

    /// Fails unless the store path has exactly this content.
    pub fn expect_content(&self, path: &Path, expected: &Tree) -> Result<()> {
        let dir = crate::scratch::dir("export")?;
        let target = dir.path().join("exported");
        let mut command = self.command();
        command.arg("export").arg(path).arg("--to").arg(&target);
        let finished = Finished::from(command.output().context("starting store-mountd")?);
        if finished.code != Some(0) {
            bail!("export of {}: {finished:?}", path.display());
        }
        let differences = expected.differences(&target);
        ensure!(
            differences.is_empty(),
            "{} differs: {differences:#?}",
            path.display()
        );
        Ok(())
    }

    /// How a mounted tree differs from the expected one, as this store's user sees it: by default
    /// a mount answers nobody else, not even root.
    pub fn differences_as_user(&self, expected: &Tree, path: &Path) -> Result<Vec<String>> {
        if self.user.is_none() {
            return Ok(expected.differences(path));
        }
        let dir = tempfile::tempdir()?;
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o777))?;
        let copy = dir.path().join("copy");
        let mut command = self.as_user(Path::new("cp"));
        let output = command
            .args(["-R", "--preserve=mode"])
            .arg(path)
            .arg(&copy)
            .output()?;
        if !output.status.success() {
            return Ok(vec![String::from_utf8_lossy(&output.stderr).into_owned()]);
        }
        Ok(expected.differences(&copy))
    }

    /// Mounts the store on a fresh directory.
    pub fn mount(&self, options: MountOptions) -> Result<Mounted> {
        self.mount_with(options, &[])
    }

    /// The same, with more arguments.
    pub fn mount_with(&self, options: MountOptions, more: &[&str]) -> Result<Mounted> {
        Mounted::start(self, options, more)
    }
}

/// What `store-mountd status` says of a mount, as JSON.
pub fn status(store: &Store, mountpoint: &Path) -> Result<Value> {
    let mut command = Command::new(&store.program);
    command.arg("status").arg("--json").arg(mountpoint);
    let finished = Finished::from(command.output().context("starting store-mountd")?);
    ensure!(finished.code == Some(0), "status: {finished:?}");
    let mut mounts: Vec<Value> = serde_json::from_str(&finished.stdout)?;
    mounts.pop().context("status knows no mount")
}

/// A store path's file name, by which it is found in a mount.
pub fn name_of(store_path: &Path) -> Result<&Path> {
    let name = store_path.file_name().map(Path::new);
    name.with_context(|| format!("{} is no store path", store_path.display()))
}
