//! Reading a mounted tree against reading the same tree from ext4.

use super::measure::{median, save, spread};
use super::subject::{self, Subject};
use super::{Bench, tree, work};
use crate::sys;
use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What is done, and whether what it reads is in the page cache then.
const ROWS: &[(&str, bool)] = &[
    ("walk", false),
    ("walk", true),
    ("small", false),
    ("small", true),
    ("small-8", false),
    ("small-8", true),
    ("open-read-close", true),
    ("sequential", false),
    ("sequential", true),
    ("random-1", false),
    ("random-4", false),
];

/// One measurement.
#[derive(Debug, Clone, Copy)]
struct Sample {
    elapsed: Duration,
    /// Processor time of the program that serves the mount.
    cpu: Duration,
    requests: u64,
    max_rss_kib: u64,
}

pub(super) fn run(bench: &Bench<'_>) -> Result<()> {
    let tree = tree::prepare(bench)?;
    write_big_file(&tree.path.join(work::BIG_FILE.0))?;
    let manifest = bench.dir.join("manifest");
    let big = tree.path.join(work::BIG_FILE.0);
    // Checked word by word, not by a checksum.
    fs::rename(&big, bench.dir.join("big"))?;
    work::write_manifest(&tree.path, &manifest)?;
    fs::rename(bench.dir.join("big"), &big)?;
    let subjects = subject::all(bench, &tree.path)?;
    let names: Vec<_> = subjects.iter().map(|subject| subject.name()).collect();
    println!("tree: {tree}, and a file of 1 GiB");
    println!("subjects: {}", names.join(", "));

    let mut samples = vec![vec![Vec::new(); subjects.len()]; ROWS.len()];
    for round in 0..bench.options.rounds {
        eprintln!("round {} of {}", round + 1, bench.options.rounds);
        for (row, &(name, warm)) in ROWS.iter().enumerate() {
            for index in (0..subjects.len()).map(|offset| (round + offset) % subjects.len()) {
                ensure!(!sys::interrupted(), "interrupted");
                let sample = measure(subjects[index].as_ref(), name, warm, &manifest);
                samples[row][index]
                    .push(sample.with_context(|| format!("{name} of {}", subjects[index].name()))?);
            }
        }
    }
    println!("\n{}", table(&names, &samples));
    let rows: Vec<_> = ROWS
        .iter()
        .zip(&samples)
        .map(|(&(name, warm), row)| {
            let subjects: Vec<_> = names
                .iter()
                .zip(row)
                .map(|(name, samples)| json!({"subject": name, "samples": samples.iter().map(raw).collect::<Vec<_>>()}))
                .collect();
            json!({"work": name, "cache": cache(warm), "subjects": subjects})
        })
        .collect();
    save("read", bench, &tree.to_string(), rows)
}

fn raw(sample: &Sample) -> serde_json::Value {
    json!({
        "seconds": sample.elapsed.as_secs_f64(),
        "cpu_seconds": sample.cpu.as_secs_f64(),
        "requests": sample.requests,
        "max_rss_kib": sample.max_rss_kib,
    })
}

fn cache(warm: bool) -> &'static str {
    if warm { "warm" } else { "cold" }
}

fn measure(subject: &dyn Subject, name: &str, warm: bool, manifest: &Path) -> Result<Sample> {
    let mut mounted = subject.mount()?;
    if warm {
        do_work(name, mounted.tree(), manifest)?;
    } else {
        sys::sync();
        // 3: the page cache, and dentries and inodes.
        fs::write("/proc/sys/vm/drop_caches", "3").context("dropping the page cache")?;
    }
    let before = mounted.counters()?;
    let elapsed = do_work(name, mounted.tree(), manifest)?;
    let after = mounted.counters()?;
    mounted.unmount()?;
    Ok(Sample {
        elapsed,
        cpu: after.cpu.saturating_sub(before.cpu),
        requests: after.requests.saturating_sub(before.requests),
        max_rss_kib: after.max_rss_kib,
    })
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

fn table(names: &[&str], samples: &[Vec<Vec<Sample>>]) -> String {
    let mut text = String::from(
        "| work | cache | subject | time, of ext4's | min – max | requests | server's CPU s | peak memory MiB |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for (&(work, warm), row) in ROWS.iter().zip(samples) {
        let seconds = |samples: &[Sample]| -> Vec<f64> {
            samples
                .iter()
                .map(|sample| sample.elapsed.as_secs_f64())
                .collect()
        };
        let unit = median(seconds(&row[0]));
        for (name, samples) in names.iter().zip(row) {
            let ratios: Vec<_> = seconds(samples).iter().map(|time| time / unit).collect();
            let (min, max) = spread(&ratios);
            let cpu = samples
                .iter()
                .map(|sample| sample.cpu.as_secs_f64())
                .collect();
            let requests = samples
                .iter()
                .map(|sample| sample.requests as f64)
                .collect();
            let rss = samples
                .iter()
                .map(|sample| sample.max_rss_kib)
                .max()
                .unwrap_or(0);
            let _ = writeln!(
                text,
                "| {work} | {} | {name} | {:.2} | {min:.2} – {max:.2} | {:.0} | {:.2} | {} |",
                cache(warm),
                median(ratios),
                median(requests),
                median(cpu),
                rss / 1024
            );
        }
    }
    text
}

fn write_big_file(path: &Path) -> Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    for offset in (0..work::BIG_FILE.1).step_by(8) {
        file.write_all(&work::big_word(offset).to_le_bytes())?;
    }
    file.flush()?;
    Ok(())
}
