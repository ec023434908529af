//! `cargo xtask bench`: comparisons with ordinary tools in the same run on the same disk.

mod import;
mod measure;
mod read;
mod subject;
mod tree;
mod work;

use crate::{sys, workspace};
use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Rounds; each runs every row once.
    pub(crate) rounds: usize,
    /// At least so many files in the tree.
    pub(crate) files: usize,
    /// At least so many MiB in the tree.
    pub(crate) mib: u64,
    /// The suites to run, or all.
    pub(crate) rows: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rounds: 5,
            files: 20_000,
            mib: 300,
            rows: Vec::new(),
        }
    }
}

/// What every suite is told.
#[derive(Debug)]
struct Bench<'a> {
    options: &'a Options,
    /// The built program.
    program: PathBuf,
    /// The directory for trees, stores and results, all on one filesystem.
    dir: PathBuf,
}

type Suite = fn(&Bench<'_>) -> Result<()>;

const SUITES: &[(&str, Suite)] = &[("import", import::run), ("read", read::run)];

/// The process that a suite measures: see [`mod@work`].
pub(crate) fn work(name: &str, tree: &Path, manifest: &Path) -> Result<()> {
    println!("{}", work::run(name, tree, manifest)?.as_nanos());
    Ok(())
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let names: Vec<&str> = SUITES.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = options
        .rows
        .iter()
        .find(|row| !names.contains(&row.as_str()))
    {
        bail!("bench {unknown}: there are {}", names.join(", "));
    }
    ensure!(
        sys::is_root(),
        "dropping the page cache before a cold measurement needs root"
    );
    sys::catch_signals();
    let dir = workspace::target_dir()?.join("bench");
    fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    let bench = Bench {
        options,
        program: workspace::build_mountd()?,
        dir,
    };
    for (name, suite) in SUITES {
        if options.rows.is_empty() || options.rows.iter().any(|row| row == name) {
            suite(&bench)?;
        }
    }
    Ok(())
}
