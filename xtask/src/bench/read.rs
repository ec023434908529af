//! Reading a mounted tree against reading the same tree from ext4.

use super::measure::{Cache, drop_caches, save};
use super::results::{Cell, Results, Sample};
use super::subject::{self, Mounted, Subject, Trees};
use super::work::Manifest;
use super::{Bench, tree};
use crate::sys;
use anyhow::{Context as _, Result, ensure};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What is done.
struct Row {
    /// As the table calls it.
    name: &'static str,
    /// As [`mod@super::work`] calls it.
    work: &'static str,
    cache: Cache,
}

const fn row(name: &'static str, work: &'static str, cache: Cache) -> Row {
    Row { name, work, cache }
}

const ROWS: &[Row] = &[
    row("walk", "walk", Cache::Cold),
    row("walk", "walk", Cache::Warm),
    row("small", "small", Cache::Cold),
    row("small", "small", Cache::Warm),
    row("small-8", "small:8", Cache::Cold),
    row("small-8", "small:8", Cache::Warm),
    row("sequential", "sequential", Cache::Cold),
    row("sequential", "sequential", Cache::Warm),
    row("random-1", "random:1", Cache::Cold),
    row("random-4", "random:4", Cache::Cold),
    row("open-read-close", "open-read-close", Cache::Warm),
    row("python3", "python3", Cache::Cold),
    row("python3", "python3:10", Cache::Warm),
    row("gcc", "gcc", Cache::Cold),
    row("gcc", "gcc:10", Cache::Warm),
    // With nothing known of the names, whatever else is.
    row("hit-of-20", "few:1", Cache::Cold),
    row("hit-of-20000", "many:1", Cache::Cold),
    row("miss-of-20", "few:0", Cache::Cold),
    row("miss-of-20000", "many:0", Cache::Cold),
];

pub(super) fn run(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    let tree = tree::packages(bench)?;
    let trees = Trees {
        packages: tree.path.clone(),
        lookups: tree::lookups(bench)?,
    };
    let files = Manifest::of(&trees.packages)?;
    let manifest = bench.dir.join("manifest");
    files.write(&manifest)?;
    let subjects = subject::all(bench, &trees)?;
    let names: Vec<_> = subjects.iter().map(|subject| subject.name()).collect();
    results.tree = format!(
        "{tree}; {} of the files have at most {} KiB",
        files.small_files(),
        super::work::SMALL >> 10
    );
    results.small_files = files.small_files();
    println!("tree: {}\nsubjects: {}", results.tree, names.join(", "));

    let rows: Vec<_> = ROWS
        .iter()
        .filter(|row| !bench.is_without(row.name))
        .collect();
    let mut samples = vec![vec![Vec::new(); subjects.len()]; rows.len()];
    for round in 0..bench.options.rounds {
        eprintln!("round {} of {}", round + 1, bench.options.rounds);
        for (row, samples) in rows.iter().zip(&mut samples) {
            // Rotated, so that no subject always runs after the same other one.
            for index in (0..subjects.len()).map(|offset| (round + offset) % subjects.len()) {
                ensure!(!sys::interrupted(), "interrupted");
                let subject = subjects[index].as_ref();
                let sample = measure(subject, row, &manifest);
                let context = || format!("{}, {} of {}", row.name, row.cache, subject.name());
                samples[index].extend(sample.with_context(context)?);
            }
        }
    }
    for (row, samples) in rows.iter().zip(samples) {
        for (name, samples) in names.iter().zip(samples) {
            if !samples.is_empty() {
                results.cells.push(Cell {
                    work: row.name.to_owned(),
                    cache: row.cache,
                    subject: (*name).to_owned(),
                    samples,
                });
            }
        }
    }
    println!("\n{}", results.table());
    let raw = results.cells.iter().map(Cell::raw).collect();
    save("read", bench, &results.tree, raw)
}

/// `None` if the subject has not what the work is done on.
fn measure(subject: &dyn Subject, row: &Row, manifest: &Path) -> Result<Option<Sample>> {
    let mut mounted = subject.mount()?;
    let sample = sample(mounted.as_mut(), row, manifest);
    mounted.unmount()?;
    sample
}

fn sample(mounted: &mut dyn Mounted, row: &Row, manifest: &Path) -> Result<Option<Sample>> {
    let tree = match row.work {
        work if work.starts_with("few") || work.starts_with("many") => mounted.lookups(),
        _ => Some(mounted.tree()),
    };
    let Some(tree) = tree.map(Path::to_owned) else {
        return Ok(None);
    };
    match row.cache {
        Cache::Warm => drop(do_work(row.work, &tree, manifest)?),
        Cache::Cold => drop_caches()?,
    }
    let before = mounted.counters()?;
    let elapsed = do_work(row.work, &tree, manifest)?;
    let after = mounted.counters()?;
    let requests = after.requests.zip(before.requests);
    Ok(Some(Sample {
        seconds: elapsed.as_secs_f64(),
        cpu_seconds: after.cpu.saturating_sub(before.cpu).as_secs_f64(),
        requests: requests.map(|(after, before)| after - before),
        memory: after.memory,
    }))
}

/// In a process of its own, which measures itself: starting it is not the work.
fn do_work(name: &str, tree: &Path, manifest: &Path) -> Result<Duration> {
    let output = Command::new(std::env::current_exe()?)
        .arg("bench-work")
        .arg(name)
        .arg(tree)
        .arg(manifest)
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(
        output.status.success(),
        "the work failed: {}",
        output.status
    );
    let nanoseconds = String::from_utf8(output.stdout)?.trim().parse()?;
    Ok(Duration::from_nanos(nanoseconds))
}
