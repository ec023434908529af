//! `cargo xtask test` and `cargo xtask soak`: the README's second command and its long form.

mod code;
mod counts;
mod documents;
mod fuzz;
mod graph;
mod nix_code;
mod packages;
mod paths;
mod suites;
mod vm;

use crate::{sys, workspace};
use anyhow::{Context as _, Result, bail};
use counts::Counts;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) full: bool,
    pub(crate) only: Vec<String>,
}

/// What every stage is told.
#[derive(Debug)]
struct Context {
    /// Full counts.
    full: bool,
    logs: PathBuf,
}

impl Context {
    fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }
}

type Stage = fn(&Context) -> Result<Counts>;

/// In the order of running: what is quick to fail comes first.
const STAGES: &[(&str, &str, Stage)] = &[
    ("packages", "System packages", packages::run),
    (
        "paths",
        "No paths of this machine in the repository",
        paths::run,
    ),
    ("format", "Format", code::format),
    (
        "graph",
        "Crate graph against docs/architecture.md",
        graph::run,
    ),
    ("clippy", "Lints", code::clippy),
    ("docs", "API documentation", code::docs),
    (
        "unit",
        "Unit, contract, property and mount tests",
        suites::unit,
    ),
    ("doctests", "Documentation tests", suites::doctests),
    (
        "documents",
        "README and docs against the program",
        documents::run,
    ),
    (
        "deny",
        "Bans, licences and sources of the dependencies",
        code::deny,
    ),
    (
        "nix-code",
        "Nix code and the page of options",
        nix_code::run,
    ),
    ("fuzz", "Fuzz targets", fuzz::run),
    ("system", "System tests", suites::system),
    (
        "vm",
        "Virtual machines with the program and systemd in them",
        vm::run,
    ),
];

pub(crate) fn run(options: &Options) -> Result<bool> {
    if options.only.iter().any(|name| name == "list") {
        for (name, title, _) in STAGES {
            println!("{name:12} {title}");
        }
        return Ok(true);
    }
    let selected = select(&options.only)?;
    sys::catch_signals();
    let context = Context {
        full: options.full,
        logs: fresh_log_dir(&workspace::target_dir()?)?,
    };
    if !options.full {
        println!("Reduced counts; `cargo xtask soak` has the full ones.");
    }

    let begin = Instant::now();
    let mut total = Counts::default();
    let mut failed_stages = Vec::new();
    for (name, title, stage) in selected {
        println!("\n== {title}");
        let stage_begin = Instant::now();
        let counts = stage(&context).unwrap_or_else(|error| {
            println!("{error:#}");
            Counts::FAILED
        });
        let verdict = if counts.failed == 0 { "PASS" } else { "FAIL" };
        println!("{verdict} {name}: {counts} ({:.0?})", stage_begin.elapsed());
        if counts.failed > 0 {
            failed_stages.push(*name);
        }
        total += counts;
        if sys::interrupted() {
            bail!("interrupted");
        }
        if counts.failed > 0 && *name == "packages" {
            println!("nothing else can run without them");
            break;
        }
    }

    println!(
        "\n{:.0?}, logs in {}",
        begin.elapsed(),
        context.logs.display()
    );
    if !failed_stages.is_empty() {
        println!("failed: {}", failed_stages.join(", "));
    }
    println!("{total}");
    Ok(total.failed == 0 && total.passed > 0)
}

fn select(only: &[String]) -> Result<Vec<&'static (&'static str, &'static str, Stage)>> {
    let names: Vec<&str> = STAGES.iter().map(|(name, ..)| *name).collect();
    if let Some(unknown) = only.iter().find(|name| !names.contains(&name.as_str())) {
        bail!("--only {unknown}: the stages are {}", names.join(", "));
    }
    let wanted = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
    Ok(STAGES.iter().filter(|(name, ..)| wanted(name)).collect())
}

fn fresh_log_dir(target_dir: &Path) -> Result<PathBuf> {
    let dir = target_dir.join("test-logs");
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    Ok(dir)
}
