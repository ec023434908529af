//! `cargo xtask vm-test`: whole systems with the program in them, under QEMU.
//! docs/vm-tests.md explains how they are put together.

mod files;
mod image;
mod lab;
mod machine;
mod report;
mod scenarios;
mod system;

use crate::{dist, process, sys, workspace};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use image::Images;
use lab::Lab;
use report::Report;
use scenarios::{SCENARIOS, Scenario};
use std::fs;
use std::ops::AddAssign;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Their names; none is all.
    pub(crate) scenarios: Vec<String>,
    /// QEMU's accelerator.
    pub(crate) accelerator: Option<String>,
    /// Full counts.
    pub(crate) full: bool,
}

/// How much of the console of a machine in a scenario that failed is shown.
const CONSOLE_LINES: usize = 40;

/// Checks that ran.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, more: Self) {
        self.passed += more.passed;
        self.failed += more.failed;
    }
}

/// `cargo xtask vm-test`.
pub(crate) fn run(options: &Options) -> Result<bool> {
    if options.scenarios.iter().any(|name| name == "list") {
        for scenario in SCENARIOS {
            println!("{:12} {}", scenario.name, scenario.summary);
        }
        return Ok(true);
    }
    let names: Vec<&str> = options.scenarios.iter().map(String::as_str).collect();
    let selected = select(&names)?;
    sys::catch_signals();
    let totals = run_all(&selected, options.accelerator.as_deref(), options.full)?;
    println!("{} passed, {} failed", totals.passed, totals.failed);
    Ok(totals.failed == 0 && totals.passed > 0)
}

/// A stage of `cargo xtask test`: all scenarios.
pub(crate) fn stage(full: bool) -> Result<Totals> {
    run_all(&select(&[])?, None, full)
}

fn select(names: &[&str]) -> Result<Vec<&'static Scenario>> {
    let known: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        bail!("no scenario {unknown}; there are {}", known.join(", "));
    }
    let wanted = |name: &str| names.is_empty() || names.contains(&name);
    Ok(SCENARIOS
        .iter()
        .filter(|scenario| wanted(scenario.name))
        .collect())
}

fn run_all(selected: &[&Scenario], accelerator: Option<&str>, full: bool) -> Result<Totals> {
    ensure!(
        sys::is_root(),
        "the images are built, and the tests run, by root"
    );
    let logs = workspace::target_dir()?.join("vm-logs");
    let program = match workspace::given_program("STORE_MOUNTD_STATIC")? {
        Some(program) => program,
        // A guest has another libc, and in an initramfs there is none.
        None if full => dist::program()?,
        None => dist::program_for_tests()?,
    };
    let images = Images::prepare(&logs)?;
    let runner = Runner {
        logs,
        program,
        images,
        accelerator: accelerator.unwrap_or("tcg"),
        full,
    };
    // A machine has one processor.
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let (measuring, others): (Vec<_>, Vec<_>) =
        selected.iter().partition(|scenario| scenario.measures);
    let mut totals = runner.run_all(&others, at_once)?;
    totals += runner.run_all(&measuring, 1)?;
    Ok(totals)
}

/// What all scenarios are run with.
struct Runner<'a> {
    logs: PathBuf,
    program: PathBuf,
    images: Images,
    accelerator: &'a str,
    full: bool,
}

impl Runner<'_> {
    fn run_all(&self, scenarios: &[&Scenario], at_once: usize) -> Result<Totals> {
        let left = Mutex::new(scenarios.iter());
        let next = || left.lock().ok()?.next();
        let run_some = || -> Result<Totals> {
            let mut totals = Totals::default();
            while let Some(scenario) = next() {
                totals += self.run(scenario)?;
            }
            Ok(totals)
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(run_some)).collect();
            let mut totals = Totals::default();
            for thread in threads {
                let some = thread.join().map_err(|_| anyhow!("a scenario panicked"))?;
                totals += some?;
            }
            Ok(totals)
        })
    }

    fn run(&self, scenario: &Scenario) -> Result<Totals> {
        println!("-- {}: {}", scenario.name, scenario.summary);
        let begin = Instant::now();
        let dir = fresh_dir(&self.logs.join(scenario.name))?;
        let mut report = Report::new(scenario.name, &dir.join("report"))?;
        let lab = Lab {
            images: &self.images,
            program: &self.program,
            accelerator: self.accelerator,
            dir: &dir,
            full: self.full,
        };
        if let Err(error) = (scenario.run)(&lab, &mut report) {
            report.fail(scenario.name, &format!("{error:#}"));
        }
        let totals = report.totals();
        let Totals { passed, failed } = totals;
        println!(
            "   {}: {passed} passed, {failed} failed ({:.0?})",
            scenario.name,
            begin.elapsed()
        );
        if failed == 0 {
            lab.discard_disks()?;
        } else {
            show_consoles(&dir)?;
            println!("   consoles and journals are in {}", dir.display());
        }
        if sys::interrupted() {
            bail!("interrupted");
        }
        Ok(totals)
    }
}

/// The ends of the consoles of a scenario that failed.
fn show_consoles(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|kind| kind == "console") {
            let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
            println!("   {} ends with", path.display());
            println!("{}", process::tail(&text, CONSOLE_LINES));
        }
    }
    Ok(())
}

fn fresh_dir(dir: &Path) -> Result<PathBuf> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    Ok(dir.to_owned())
}
