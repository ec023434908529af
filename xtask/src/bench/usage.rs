//! What a program and the processes that it started use.

use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::fs;
use std::os::linux::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

/// Of all processes together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    pub(super) cpu: Duration,
    /// Bytes in memory: the processes' own, those of files that they have mapped, and all of their
    /// memfds, mapped or not, each once.
    pub(super) memory: u64,
}

/// Of `pid` and its descendants.
pub(super) fn of(pid: u32) -> Result<Usage> {
    let mut usage = Usage::default();
    let mut memfds = BTreeMap::new();
    for pid in family(pid)? {
        let process = PathBuf::from(format!("/proc/{pid}"));
        // Times of children that ended and were waited for are the parent's.
        let ticks: u64 = stat(pid)?[11..15].iter().sum();
        usage.cpu += Duration::from_millis(ticks * 10);
        let status = fs::read_to_string(process.join("status"))?;
        for name in ["RssAnon:", "RssFile:"] {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            usage.memory += kib.with_context(|| format!("no {name} of process {pid}"))? << 10;
        }
        for fd in fs::read_dir(process.join("fd"))? {
            let fd = fd?.path();
            let target = fs::read_link(&fd).unwrap_or_default();
            if target.to_string_lossy().starts_with("/memfd:")
                && let Ok(metadata) = fs::metadata(&fd)
            {
                memfds.insert(metadata.st_ino(), metadata.st_blocks() * 512);
            }
        }
    }
    usage.memory += memfds.values().sum::<u64>();
    Ok(usage)
}

/// The process and its descendants.
fn family(pid: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let pid = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        // One that ends meanwhile is none of those.
        if let Some(pid) = pid
            && let Ok(fields) = stat(pid)
        {
            parents.push((pid, fields[1] as u32));
        }
    }
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        next += 1;
        let children = parents.iter().filter(|(_, of)| *of == parent);
        family.extend(children.map(|(pid, _)| *pid));
    }
    Ok(family)
}

/// The numbers in /proc/PID/stat that follow the name, the state counting as 0.
fn stat(pid: u32) -> Result<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = text.rsplit_once(')').context("no name in /proc/PID/stat")?;
    let fields = fields.split_whitespace();
    Ok(fields.map(|field| field.parse().unwrap_or(0)).collect())
}
