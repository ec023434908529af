//! `cargo xtask bench`: comparisons with other ways to have the same files, in the same run on the
//! same disk.

mod aims;
mod import;
mod measure;
mod page;
mod read;
mod results;
mod scale;
mod subject;
mod tree;
mod usage;
mod work;

use self::results::Results;
use crate::{mount, sys, workspace};
use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Rounds; each runs every row once.
    pub(crate) rounds: usize,
    /// The suites to run, or all.
    pub(crate) suites: Vec<String>,
    /// Rows and subjects to leave out.
    pub(crate) without: Vec<String>,
    /// Put the tables into the documentation.
    pub(crate) write: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rounds: 5,
            suites: Vec::new(),
            without: Vec::new(),
            write: false,
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

impl Bench<'_> {
    fn is_without(&self, name: &str) -> bool {
        self.options.without.iter().any(|without| without == name)
    }

    /// Where subjects are mounted, one after the other.
    fn mountpoint(&self) -> Result<PathBuf> {
        let path = self.dir.join("mount");
        mount::prepare_mountpoint(&path)?;
        Ok(path)
    }
}

const SUITES: [&str; 3] = ["import", "read", "scale"];

/// The process that a suite measures: see [`mod@work`].
pub(crate) fn work(name: &str, tree: &Path, manifest: &Path) -> Result<()> {
    println!("{}", work::run(name, tree, manifest)?.as_nanos());
    Ok(())
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let known = |suite: &&String| SUITES.contains(&suite.as_str());
    if let Some(unknown) = options.suites.iter().find(|suite| !known(suite)) {
        bail!("bench {unknown}: there are {}", SUITES.join(", "));
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
    let mut results = Results::default();
    let wanted = |name: &str| {
        let suites = &options.suites;
        suites.is_empty() || suites.iter().any(|suite| suite == name)
    };
    if wanted("import") {
        results.import = Some(import::run(&bench)?);
    }
    if wanted("read") {
        read::run(&bench, &mut results)?;
    }
    if wanted("scale") {
        results.scale = Some(scale::run(&bench)?);
    }
    println!("\n{}", aims::table(&results));
    if options.write {
        page::write(&results, options.rounds)?;
    }
    Ok(())
}
