//! Interleaved measurements and how they are reported.

use super::Bench;
use crate::process::display;
use crate::sys;
use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::fmt::{self, Write as _};
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What the page cache has of the input when the clock starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cache {
    /// Nothing: it was dropped.
    Cold,
    /// All: the command ran once before, unmeasured.
    Warm,
}

impl fmt::Display for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cold => "cold",
            Self::Warm => "warm",
        })
    }
}

/// Everything is on the disk and nothing in memory: pages, dentries and inodes.
pub(super) fn drop_caches() -> Result<()> {
    sys::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").context("dropping the page cache")
}

/// A command that can be run again and again.
pub(super) struct Subject<'a> {
    prepare: Box<dyn Fn() -> Result<()> + 'a>,
    command: Box<dyn Fn() -> Command + 'a>,
}

impl<'a> Subject<'a> {
    /// `prepare` runs before each measurement and is not part of it.
    pub(super) fn new(
        prepare: impl Fn() -> Result<()> + 'a,
        command: impl Fn() -> Command + 'a,
    ) -> Self {
        Self {
            prepare: Box::new(prepare),
            command: Box::new(command),
        }
    }
}

/// A line of the table.
pub(super) struct Row<'a> {
    pub(super) name: &'a str,
    pub(super) cache: Cache,
    pub(super) subject: Subject<'a>,
}

/// One measurement, up to the moment when all dirty data is on the disk.
#[derive(Debug, Clone, Copy)]
struct Sample {
    elapsed: Duration,
    cpu: Duration,
    max_rss_kib: u64,
}

/// Measures the rows in interleaved rounds, prints and returns a table in which the first row is
/// the measure of the others, and keeps the raw samples.
pub(super) fn report(
    name: &str,
    bench: &Bench<'_>,
    rows: &[Row<'_>],
    input: &str,
) -> Result<String> {
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); rows.len()];
    for round in 0..bench.options.rounds {
        eprintln!("round {} of {}", round + 1, bench.options.rounds);
        // Rotated, so that no row always runs after the same other one.
        for index in (0..rows.len()).map(|offset| (round + offset) % rows.len()) {
            ensure!(!sys::interrupted(), "interrupted");
            samples[index].push(measure(&rows[index])?);
        }
    }
    let table = table(rows, &samples);
    println!("\n{table}");
    let rows = rows.iter().zip(&samples).map(raw).collect();
    save(name, bench, input, rows)?;
    Ok(table)
}

fn measure(row: &Row<'_>) -> Result<Sample> {
    (row.subject.prepare)()?;
    if row.cache == Cache::Warm {
        run(&mut (row.subject.command)())?;
        (row.subject.prepare)()?;
    }
    match row.cache {
        Cache::Cold => drop_caches()?,
        Cache::Warm => sys::sync(),
    }
    let begin = Instant::now();
    let usage = run(&mut (row.subject.command)())?;
    sys::sync();
    Ok(Sample {
        elapsed: begin.elapsed(),
        cpu: usage.cpu,
        max_rss_kib: usage.max_rss_kib,
    })
}

fn run(command: &mut Command) -> Result<sys::Usage> {
    let child = command
        .spawn()
        .with_context(|| format!("starting {}", display(command)))?;
    let usage = sys::wait_with_usage(&child)?;
    ensure!(usage.success, "{} failed", display(command));
    Ok(usage)
}

fn table(rows: &[Row<'_>], samples: &[Vec<Sample>]) -> String {
    let mut text = String::from(
        "| row | cache | median s | min – max | ratio | CPU s | peak memory MiB |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let seconds = |samples: &[Sample]| -> Vec<f64> {
        samples
            .iter()
            .map(|sample| sample.elapsed.as_secs_f64())
            .collect()
    };
    let unit = median(seconds(&samples[0]));
    for (row, samples) in rows.iter().zip(samples) {
        let times = seconds(samples);
        let (min, max) = spread(&times);
        let middle = median(times);
        let cpu = median(
            samples
                .iter()
                .map(|sample| sample.cpu.as_secs_f64())
                .collect(),
        );
        let rss = samples
            .iter()
            .map(|sample| sample.max_rss_kib)
            .max()
            .unwrap_or(0);
        let _ = writeln!(
            text,
            "| {} | {} | {middle:.2} | {min:.2} – {max:.2} | {:.2} | {cpu:.2} | {:.0} |",
            row.name,
            row.cache,
            middle / unit,
            rss as f64 / 1024.0
        );
    }
    text
}

/// The least and the greatest.
pub(super) fn spread(values: &[f64]) -> (f64, f64) {
    let min = values.iter().copied().fold(f64::INFINITY, f64::min);
    (min, values.iter().copied().fold(0.0, f64::max))
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[len / 2],
        len => f64::midpoint(values[len / 2 - 1], values[len / 2]),
    }
}

fn raw((row, samples): (&Row<'_>, &Vec<Sample>)) -> serde_json::Value {
    let samples: Vec<_> = samples
        .iter()
        .map(|sample| {
            json!({
                "seconds": sample.elapsed.as_secs_f64(),
                "cpu_seconds": sample.cpu.as_secs_f64(),
                "max_rss_kib": sample.max_rss_kib,
            })
        })
        .collect();
    json!({"name": row.name, "cache": row.cache.to_string(), "samples": samples})
}

/// Keeps a suite's raw samples.
pub(super) fn save(
    name: &str,
    bench: &Bench<'_>,
    input: &str,
    rows: Vec<serde_json::Value>,
) -> Result<()> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let report = json!({
        "suite": name,
        "unix_time": now,
        "kernel": kernel.trim(),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "input": input,
        "rows": rows,
    });
    let path = bench.dir.join(format!("{name}-{now}.json"));
    fs::write(&path, format!("{report:#}\n")).with_context(|| path.display().to_string())?;
    println!("raw samples: {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn median_of_odd_and_even_counts() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }
}
