//! What was measured, and the tables made of it.

use super::measure::{Cache, median, spread};
use super::scale::Scale;
use super::subject::EXT4;
use serde_json::json;
use std::fmt::Write as _;

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) seconds: f64,
    /// Processor time of the program that serves the mount.
    pub(super) cpu_seconds: f64,
    /// Requests that it answered, if it tells.
    pub(super) requests: Option<u64>,
    /// Bytes of memory that it has afterwards.
    pub(super) memory: u64,
}

/// All measurements of one kind.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) work: String,
    pub(super) cache: Cache,
    pub(super) subject: String,
    pub(super) samples: Vec<Sample>,
}

impl Cell {
    fn seconds(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| sample.seconds).collect()
    }

    pub(super) fn cpu_seconds(&self) -> f64 {
        let cpu = self.samples.iter().map(|sample| sample.cpu_seconds);
        median(cpu.collect())
    }

    pub(super) fn raw(&self) -> serde_json::Value {
        let samples = self.samples.iter().map(|sample| {
            json!({
                "seconds": sample.seconds,
                "cpu_seconds": sample.cpu_seconds,
                "requests": sample.requests,
                "memory": sample.memory,
            })
        });
        json!({
            "work": self.work,
            "cache": self.cache.to_string(),
            "subject": self.subject,
            "samples": samples.collect::<Vec<_>>(),
        })
    }
}

/// Everything that one run measured.
#[derive(Debug, Default)]
pub(super) struct Results {
    /// What was read.
    pub(super) tree: String,
    pub(super) small_files: usize,
    pub(super) cells: Vec<Cell>,
    /// The table of imports.
    pub(super) import: Option<String>,
    pub(super) scale: Option<Scale>,
}

impl Results {
    pub(super) fn cell(&self, work: &str, cache: Cache, subject: &str) -> Option<&Cell> {
        self.cells
            .iter()
            .find(|cell| cell.work == work && cell.cache == cache && cell.subject == subject)
    }

    /// The median of the times.
    pub(super) fn seconds(&self, work: &str, cache: Cache, subject: &str) -> Option<f64> {
        Some(median(self.cell(work, cache, subject)?.seconds()))
    }

    /// The median of the times as a part of ext4's.
    pub(super) fn ratio(&self, work: &str, cache: Cache, subject: &str) -> Option<f64> {
        let unit = self.seconds(work, cache, EXT4)?;
        Some(self.seconds(work, cache, subject)? / unit)
    }

    pub(super) fn table(&self) -> String {
        let mut text = String::from(
            "| work | cache | subject | time, of ext4's | min – max | requests | server's CPU s | memory MiB |\n\
             |---|---|---|---|---|---|---|---|\n",
        );
        for cell in &self.cells {
            let Some(unit) = self.seconds(&cell.work, cell.cache, EXT4) else {
                continue;
            };
            let ratios: Vec<_> = cell.seconds().iter().map(|time| time / unit).collect();
            let (min, max) = spread(&ratios);
            let requests: Option<Vec<_>> = (cell.samples.iter())
                .map(|sample| Some(sample.requests? as f64))
                .collect();
            let served = cell.samples.iter().any(|sample| sample.memory > 0);
            let server = |text: String| if served { text } else { "–".to_owned() };
            let memory = cell.samples.iter().map(|sample| sample.memory as f64);
            let _ = writeln!(
                text,
                "| {} | {} | {} | {:.2} | {min:.2} – {max:.2} | {} | {} | {} |",
                cell.work,
                cell.cache,
                cell.subject,
                median(ratios),
                requests.map_or("–".to_owned(), |requests| format!(
                    "{:.0}",
                    median(requests)
                )),
                server(format!("{:.2}", cell.cpu_seconds())),
                server(format!(
                    "{:.0}",
                    median(memory.collect()) / f64::from(1 << 20)
                )),
            );
        }
        text
    }
}
