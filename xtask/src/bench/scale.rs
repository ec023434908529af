//! What size costs: a made-up store of 100,000 paths and 5 million files.

use super::measure::{drop_caches, median, save};
use super::{Bench, usage};
use crate::mount::Mount;
use crate::{process, sys, workspace};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const PATHS: usize = 100_000;
const FILES: usize = 50;
/// Paths whose files are looked up, so that with their directories a million nodes are known.
const LIVE: usize = 1_000_000_usize.div_ceil(FILES + 1);
/// Names in the root that are looked up one after the other.
const LOOKUPS: usize = 2_000;

/// Medians of the rounds; bytes and milliseconds or microseconds, as it says.
#[derive(Debug)]
pub(super) struct Scale {
    pub(super) first_answer_ms: f64,
    warm_first_answer_ms: f64,
    cold_hit_us: f64,
    hit_us: f64,
    miss_us: f64,
    /// Memory after the first look-up.
    pub(super) base: u64,
    /// With [`Self::nodes`] live nodes.
    pub(super) full: u64,
    nodes: u64,
    /// When the kernel has forgotten them.
    forgotten: u64,
}

impl Scale {
    fn bytes_each(&self) -> f64 {
        self.full.saturating_sub(self.base) as f64 / self.nodes as f64
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mb = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
        writeln!(f, "| what | measured |\n|---|---|")?;
        for (what, measured) in [
            (
                "start to first answered look-up, caches dropped",
                format!("{:.0} ms", self.first_answer_ms),
            ),
            (
                "the same again",
                format!("{:.0} ms", self.warm_first_answer_ms),
            ),
            (
                "a path's look-up in the root, caches dropped",
                format!("{:.0} µs", self.cold_hit_us),
            ),
            (
                "the same, the store in the page cache",
                format!("{:.0} µs", self.hit_us),
            ),
            (
                "a name that is not there",
                format!("{:.0} µs", self.miss_us),
            ),
            ("memory after the first look-up", mb(self.base)),
            (
                "memory with that many live nodes",
                format!("{} with {}", mb(self.full), self.nodes),
            ),
            (
                "which is for each, caches included",
                format!("{:.0} bytes", self.bytes_each()),
            ),
            (
                "memory when the kernel has forgotten them",
                mb(self.forgotten),
            ),
        ] {
            writeln!(f, "| {what} | {measured} |")?;
        }
        Ok(())
    }
}

pub(super) fn run(bench: &Bench<'_>) -> Result<Scale> {
    let store = store(bench)?;
    let mountpoint = bench.mountpoint()?;
    let mount = || {
        Mount::start(
            &bench.program,
            &store,
            &mountpoint,
            &["--list-root".to_owned()],
        )
    };

    let listing = mount()?;
    let names = fs::read_dir(&mountpoint)?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<Result<Vec<_>>>()?;
    listing.stop()?;
    ensure!(names.len() == PATHS, "{} paths are listed", names.len());
    let at = |number: usize| mountpoint.join(&names[(number * 7919) % PATHS]);

    let mut samples: [Vec<f64>; 5] = Default::default();
    let mut base = Vec::new();
    for round in 0..bench.options.rounds {
        ensure!(!sys::interrupted(), "interrupted");
        drop_caches()?;
        let (cold, warm);
        {
            let begin = Instant::now();
            let mount = mount()?;
            fs::symlink_metadata(at(round))?;
            cold = begin.elapsed();
            base.push(usage::of(mount.pid())?.memory as f64);
            samples[2].push(look_up((0..LOOKUPS).map(|n| at(n + PATHS / 2)), true)?);
            mount.stop()?;
        }
        {
            let begin = Instant::now();
            let mount = mount()?;
            fs::symlink_metadata(at(round))?;
            warm = begin.elapsed();
            samples[3].push(look_up((0..LOOKUPS).map(|n| at(n + PATHS / 2)), true)?);
            let absent = |n| format!("{n:032}-absent").replace(['e', 'o', 'u', 't'], "0");
            samples[4].push(look_up(
                (0..LOOKUPS).map(|n| mountpoint.join(absent(n))),
                false,
            )?);
            mount.stop()?;
        }
        samples[0].push(cold.as_secs_f64() * 1e3);
        samples[1].push(warm.as_secs_f64() * 1e3);
    }
    let (full, nodes, forgotten) = nodes(&mount()?, &at)?;
    let raw = json!({
        "base": base,
        "samples": samples,
        "full": full,
        "nodes": nodes,
        "forgotten": forgotten,
    });
    let [first, warm_first, cold_hit, hit, miss] = samples.map(median);
    let scale = Scale {
        first_answer_ms: first,
        warm_first_answer_ms: warm_first,
        cold_hit_us: cold_hit,
        hit_us: hit,
        miss_us: miss,
        base: median(base) as u64,
        full,
        nodes,
        forgotten,
    };
    println!("\n{scale}");
    save("scale", bench, "a made-up store", vec![raw])?;
    Ok(scale)
}

/// The made-up store, made if an earlier run did not.
fn store(bench: &Bench<'_>) -> Result<PathBuf> {
    let store = bench.dir.join("synthetic");
    if !store.exists() {
        let partial = bench.dir.join("synthetic.partial");
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        println!("making a store of {PATHS} paths with {FILES} files each");
        let mut make = workspace::cargo();
        make.args(["run", "--release", "--quiet", "--package=store"]);
        make.args(["--example=synthetic_store", "--"]);
        make.arg(&partial)
            .arg(PATHS.to_string())
            .arg(FILES.to_string());
        process::run(make.stdout(std::process::Stdio::null()))?;
        fs::rename(&partial, &store)?;
    }
    Ok(store)
}

/// Microseconds for each, the program that asks included.
fn look_up(paths: impl Iterator<Item = PathBuf>, hit: bool) -> Result<f64> {
    let paths: Vec<_> = paths.collect();
    let begin = Instant::now();
    for path in &paths {
        let found = match fs::symlink_metadata(path) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        ensure!(found == hit, "{}", path.display());
    }
    Ok(begin.elapsed().as_secs_f64() * 1e6 / paths.len() as f64)
}

/// Memory with a million live nodes, how many they are, and memory when they are forgotten.
fn nodes(mount: &Mount, at: &dyn Fn(usize) -> PathBuf) -> Result<(u64, u64, u64)> {
    for path in (0..LIVE).map(at) {
        let list = |path: &Path| {
            for entry in fs::read_dir(path)? {
                entry?.metadata()?;
            }
            Ok::<_, std::io::Error>(())
        };
        list(&path).with_context(|| path.display().to_string())?;
    }
    let live = mount.statistics()?.nodes;
    ensure!(live >= 1_000_000, "only {live} nodes are live");
    let full = usage::of(mount.pid())?.memory;
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        drop_caches()?;
        if mount.statistics()?.nodes < 100 {
            break;
        }
        if Instant::now() > end {
            bail!("the kernel does not forget its nodes");
        }
    }
    Ok((full, live, usage::of(mount.pid())?.memory))
}
