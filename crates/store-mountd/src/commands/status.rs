use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use indicatif::{HumanBytes, HumanDuration};

use crate::{
    control::{self, Client, InFlight, Status as Report},
    failure,
};

/// Say how mounts are: what they serve, to whom, and who waits for what.
///
/// Without MOUNTPOINT, of all that are served: those of the system, which root
/// can see, and the user's own.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Status {
    /// The mount to ask.
    #[arg(value_name = "MOUNTPOINT")]
    mountpoint: Option<PathBuf>,

    /// Its control socket, if that is not in its usual place.
    #[arg(long, value_name = "PATH", conflicts_with = "mountpoint")]
    socket: Option<PathBuf>,

    /// Print JSON, an array with an object for each mount.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  store-mountd status
  store-mountd status /nix/store --json";

impl Status {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let sockets = match (&self.socket, &self.mountpoint) {
            (Some(socket), _) => vec![socket.clone()],
            (None, Some(mountpoint)) => vec![socket_of(mountpoint)?],
            (None, None) => control::existing().context("cannot look for control sockets")?,
        };
        let one = self.socket.is_some() || self.mountpoint.is_some();
        let mut reports = Vec::new();
        for socket in &sockets {
            match Client::connect(socket).and_then(|mut client| client.status()) {
                Ok(report) => reports.push(report),
                Err(error) if one => return Err(error),
                // One that was left, or another user's.
                Err(error) => eprintln!("store-mountd: {}", failure::message(&error)),
            }
        }
        if self.json {
            println!("{}", serde_json::to_string_pretty(&reports)?);
        } else if reports.is_empty() {
            println!("no mount is served");
        }
        if !self.json {
            let told: Vec<_> = reports.iter().map(tell).collect();
            print!("{}", told.join("\n"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The control socket of a mount.
pub(crate) fn socket_of(mountpoint: &Path) -> Result<PathBuf> {
    let path = resolved(mountpoint)?;
    let candidates = control::at_mountpoint(&path);
    match candidates.iter().find(|socket| socket.exists()) {
        Some(socket) => Ok(socket.clone()),
        None => bail!(
            "no mount on {} can be asked: there is no {}",
            path.display(),
            candidates
                .iter()
                .map(|socket| socket.display().to_string())
                .collect::<Vec<_>>()
                .join(", nor ")
        ),
    }
}

/// The path without symlinks, as the mount table has it. The mount itself is
/// not touched: it may not answer.
fn resolved(mountpoint: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(mountpoint)
        .with_context(|| format!("what is {}?", mountpoint.display()))?;
    Ok(match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => match parent.canonicalize() {
            Ok(parent) => parent.join(name),
            Err(_) => absolute,
        },
        _ => absolute,
    })
}

fn tell(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = lines(report, &mut text);
    text
}

fn lines(report: &Report, text: &mut String) -> std::fmt::Result {
    write!(text, "{}: {}", report.mountpoint.display(), report.phase)?;
    if let Some(waits_for) = &report.waits_for {
        write!(text, ", {waits_for}")?;
    }
    writeln!(text)?;
    let paths = report.paths;
    writeln!(
        text,
        "  store       {} ({paths} paths)",
        report.store.display()
    )?;
    let supervisor = &report.supervisor;
    let up = duration(supervisor.uptime_seconds);
    let (pid, version) = (supervisor.pid, &supervisor.version);
    writeln!(text, "  supervisor  pid {pid}, {version}, up {up}")?;
    match &report.worker {
        Some(worker) => {
            let process = &worker.process;
            let up = duration(process.uptime_seconds);
            let (pid, version) = (process.pid, &process.version);
            let number = worker.number;
            write!(
                text,
                "  worker      pid {pid}, {version}, number {number}, up {up}"
            )?;
            match worker.serving {
                true => writeln!(text, ", data path {}", worker.data_path)?,
                false => writeln!(text, ", not serving yet")?,
            }
        }
        None => writeln!(text, "  worker      none")?,
    }
    write!(text, "  restarts    {}", report.restarts)?;
    if let Some(reason) = &report.last_death {
        write!(text, ", the last worker {reason}")?;
    }
    if let Some(seconds) = report.retry_in_seconds {
        write!(text, "; another in {}", duration(seconds))?;
    }
    if report.upgrades > 0 {
        write!(text, "; upgrades {}", report.upgrades)?;
    }
    writeln!(text)?;
    let served = HumanBytes(report.bytes_served);
    writeln!(text, "  served      {served}, errors {}", report.errors)?;
    writeln!(text, "  inodes      {}", report.inodes)?;
    writeln!(text, "  requests    {}", requests(&report.requests))?;
    for (name, cache) in &report.caches {
        let all = cache.hits + cache.misses;
        let (hits, percent) = (cache.hits, 100 * cache.hits / all.max(1));
        writeln!(
            text,
            "  {name:10}  {hits} of {all} from memory ({percent} %)"
        )?;
    }
    writeln!(text, "  in flight   {}", report.in_flight.len())?;
    for request in &report.in_flight {
        writeln!(text, "    {}", in_flight(request))?;
    }
    Ok(())
}

fn requests(requests: &BTreeMap<String, u64>) -> String {
    let mut requests: Vec<_> = requests.iter().filter(|(_, count)| **count > 0).collect();
    requests.sort_by(|a, b| b.1.cmp(a.1));
    let told: Vec<_> = (requests.iter())
        .map(|(operation, count)| format!("{operation} {count}"))
        .collect();
    match told.is_empty() {
        true => "none".to_owned(),
        false => told.join(", "),
    }
}

/// A request, by whom and for how long.
pub(crate) fn in_flight(request: &InFlight) -> String {
    let InFlight {
        operation,
        node,
        pid,
        seconds,
        waits_on,
        ..
    } = request;
    let by = match pid {
        0 => "the kernel".to_owned(),
        pid => format!("pid {pid}{}", command(*pid)),
    };
    let what = match waits_on {
        Some(digest) => format!(", for {digest}"),
        None => String::new(),
    };
    format!("{operation} of node {node} by {by}: {seconds:.1} s{what}")
}

/// What the thread calls itself.
fn command(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm"))
        .map(|name| format!(" ({})", name.trim_end()))
        .unwrap_or_default()
}

fn duration(seconds: f64) -> String {
    let duration = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
    HumanDuration(duration).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::{Cache, Process, Worker};

    #[test]
    fn a_status_is_told() {
        let report = Report {
            mountpoint: "/nix/store".into(),
            store: "/s".into(),
            phase: "serving".to_owned(),
            paths: 3,
            supervisor: Process {
                pid: 10,
                version: "1.0".to_owned(),
                uptime_seconds: 7200.0,
            },
            worker: Some(Worker {
                process: Process {
                    pid: 11,
                    version: "1.1".to_owned(),
                    uptime_seconds: 60.0,
                },
                number: 2,
                serving: true,
                data_path: "cached".to_owned(),
            }),
            restarts: 1,
            last_death: Some("was killed by SIGKILL".to_owned()),
            inodes: 42,
            bytes_served: 1 << 20,
            requests: [("lookup".to_owned(), 5), ("read".to_owned(), 9)].into(),
            caches: [("blobs".to_owned(), Cache { hits: 3, misses: 1 })].into(),
            in_flight: vec![InFlight {
                operation: "read".to_owned(),
                node: 7,
                seconds: 1.25,
                waits_on: Some("abc".to_owned()),
                ..Default::default()
            }],
            ..Default::default()
        };
        assert_eq!(
            tell(&report),
            "\
/nix/store: serving
  store       /s (3 paths)
  supervisor  pid 10, 1.0, up 2 hours
  worker      pid 11, 1.1, number 2, up 60 seconds, data path cached
  restarts    1, the last worker was killed by SIGKILL
  served      1.00 MiB, errors 0
  inodes      42
  requests    read 9, lookup 5
  blobs       3 of 4 from memory (75 %)
  in flight   1
    read of node 7 by the kernel: 1.2 s, for abc
"
        );
    }

    #[test]
    fn what_is_missing_is_said() {
        let text = tell(&Report {
            retry_in_seconds: Some(2.0),
            ..Default::default()
        });
        for line in [
            "  worker      none",
            "  restarts    0; another in 2 seconds",
            "  requests    none",
        ] {
            assert!(text.lines().any(|it| it == line), "no {line} in {text}");
        }
    }
}
