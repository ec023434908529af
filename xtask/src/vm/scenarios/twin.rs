//! The system that runs from the mount beside the same system with its store on ext4.

use crate::process;
use crate::vm::lab::Lab;
use crate::vm::machine::{Disk, Machine, Outcome};
use crate::vm::report::Report;
use crate::vm::system::{NixStore, System};
use anyhow::{Context as _, Result};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const SYSTEMS: [(&str, &str, NixStore); 2] = [
    ("mount", "the mount", NixStore::Mount),
    ("ext4", "ext4", NixStore::Directory),
];
/// How much longer a power-off may take than that of the twin.
const POWER_OFF: Duration = Duration::from_secs(10);

/// A system's machine, and what its runs measured.
struct Twin {
    title: &'static str,
    machine: Machine,
    boot_seconds: Vec<f64>,
    power_off_seconds: Vec<f64>,
    requests: Vec<f64>,
    read_bytes: Vec<f64>,
}

pub(super) fn run(lab: &Lab<'_>, report: &mut Report) -> Result<()> {
    let rounds = if lab.full { 5 } else { 1 };
    report.note(&format!("rounds: {rounds}"));
    let mut twins = Vec::new();
    for (name, title, nix_store) in SYSTEMS {
        let system = System::new(lab, name, nix_store, "measure")?;
        let size = match nix_store {
            NixStore::Directory => size(&system.root.join("nix/store"))?,
            NixStore::Mount | NixStore::Overlay => size(&system.store())?,
        };
        report.note(&format!("{title}: the store takes {} on disk", mib(size)));
        // All runs begin with the same disk.
        let disk = Disk {
            keep_writes: false,
            ..system.disk()?
        };
        twins.push(Twin {
            title,
            machine: system.machine(lab, name, &disk)?,
            boot_seconds: Vec::new(),
            power_off_seconds: Vec::new(),
            requests: Vec::new(),
            read_bytes: Vec::new(),
        });
    }
    for _ in 0..rounds {
        for twin in &mut twins {
            let outcome = lab.run(&twin.machine, report)?;
            outcome.expect_orderly_end(report);
            twin.add(&outcome)?;
        }
    }
    for twin in &twins {
        report.note(&format!(
            "{}: multi-user after {:.1} s, {:.0} block requests, {} read, power-off in {:.1} s",
            twin.title,
            median(&twin.boot_seconds),
            median(&twin.requests),
            mib(median(&twin.read_bytes)),
            median(&twin.power_off_seconds),
        ));
    }
    let [mount, ext4] = twins.as_slice() else {
        anyhow::bail!("not two systems");
    };
    report.note(&format!(
        "the boot takes {:.2} times as long as from ext4 (aim: at most 1.3)",
        median(&mount.boot_seconds) / median(&ext4.boot_seconds)
    ));
    let longer = median(&mount.power_off_seconds) - median(&ext4.power_off_seconds);
    report.check(
        "the power-off takes at most 10 s longer than from ext4",
        longer <= POWER_OFF.as_secs_f64(),
        || format!("{longer:.1} s longer"),
    );
    Ok(())
}

impl Twin {
    fn add(&mut self, outcome: &Outcome) -> Result<()> {
        let power_off = outcome.power_off_took.context("it did not power off")?;
        self.power_off_seconds.push(power_off.as_secs_f64());
        self.boot_seconds.push(outcome.value("multi-user")? / 1e6);
        self.requests.push(outcome.value("requests")?);
        self.read_bytes.push(outcome.value("read-bytes")?);
        Ok(())
    }
}

/// The bytes that a tree takes on disk.
fn size(tree: &Path) -> Result<f64> {
    let used = process::output(Command::new("du").args(["-s", "-B1"]).arg(tree))?;
    let number = used
        .split_whitespace()
        .next()
        .context("du printed nothing")?;
    number.parse().context("du printed no number")
}

fn mib(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / f64::from(1 << 20))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        _ if sorted.is_empty() => f64::NAN,
        0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_middle_one() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
